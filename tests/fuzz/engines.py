"""Runs one target in this process, by hypothesis or by atheris, and keeps the shortest input of each fault."""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Literal

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.target import BrokenPromiseError, Target

Engine = Literal["atheris", "hypothesis"]
# Of the processor, for one input; and in all, as it may wait for something. A busy machine takes long for little: a
# process of the lowest priority may get a hundredth of it.
_LONGEST_S, _LONGEST_WAIT_S = 5, 300
# What one input may add to the most memory that the process ever had.
_MOST_KIB = 256 << 10
_EXAMPLES_A_ROUND = 500


class TookTooLong(BaseException):
    """Not an `Exception`, which the package may catch."""


@dataclass
class Fault:
    """A fault, with the shortest input that shows it."""

    where: str
    text: str
    data: bytes
    times: int = 1


@dataclass
class Run:
    """Executions of one target, and the faults that they found."""

    target: Target
    executions: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)

    def one(self, data: bytes) -> None:
        self.executions += 1
        try:
            with _bounded():
                self.target.run(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - any is a fault
            self._note(error, data)

    def _note(self, error: BaseException, data: bytes) -> None:
        where = _place_of(error)
        known = self.faults.get(where)
        if known is None:
            self.faults[where] = Fault(where, "".join(traceback.format_exception(error)), data)
            return
        known.times += 1
        if len(data) < len(known.data):
            known.data, known.text = data, "".join(traceback.format_exception(error))


def default_engine() -> Engine:
    return "hypothesis" if importlib.util.find_spec("atheris") is None else "atheris"


def by_hypothesis(run: Run, *, until: float, examples: int | None = None, first_seed: int = 1) -> None:
    """Tries inputs until a moment of the processor's time, in rounds with seeds that count up, or so many examples."""
    number = first_seed
    while time.process_time() < until:

        @seed(number)
        @settings(
            max_examples=examples or _EXAMPLES_A_ROUND,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(run.target.inputs())
        def a_round(data: bytes) -> None:
            if time.process_time() < until:
                run.one(data)

        a_round()
        number += 1
        if examples is not None:
            return


def by_atheris(run: Run, *, until: float, first_seed: int, at_end: Callable[[], None]) -> None:
    """Tries inputs that reach new branches, until a moment of the processor's time; `at_end`, then the process ends."""
    import atheris

    folder = Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    for number, data in enumerate(run.target.seeds):
        (folder / f"{number:04}").write_bytes(data)
    words = folder.with_suffix(".dict")
    quoted = ("".join(f"\\x{byte:02x}" for byte in token) for token in run.target.tokens if token)
    words.write_text("".join(f'"{token}"\n' for token in quoted))

    def one(data: bytes) -> None:
        if time.process_time() >= until:
            at_end()
            # libFuzzer ends its process itself, without Python's own end.
            os._exit(0)
        run.one(data)

    options = [f"-dict={words}"] if run.target.tokens else []
    options += [f"-max_len={run.target.max_bytes}", f"-seed={first_seed}", "-verbosity=0", "-len_control=0"]
    # Faults are counted here; what ends the process is for libFuzzer to tell.
    options += [f"-timeout={_LONGEST_WAIT_S}", "-rss_limit_mb=4096", f"-artifact_prefix={folder}-"]
    atheris.Setup([sys.argv[0], *options, str(folder)], one)
    atheris.Fuzz()


class _Watch(threading.Thread):
    """Rings where an input waits for too long. (A timer of real time is libFuzzer's, or pytest-timeout's.)"""

    def __init__(self) -> None:
        super().__init__(name="fuzz-watch", daemon=True)
        self.until = float("inf")

    def run(self) -> None:
        while True:
            time.sleep(1.0)
            if time.monotonic() > self.until:
                self.until = float("inf")
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGVTALRM)


@cache
def _watch() -> _Watch:
    """Made where it is needed: a fork takes a thread for ended that was made before it, and not begun."""
    watch = _Watch()
    watch.start()
    return watch


@contextmanager
def _bounded() -> Iterator[None]:
    """Bounds the processor time and the memory of one input."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TookTooLong(f"more than {_LONGEST_S} s of the processor, or {_LONGEST_WAIT_S} s in all")

    watch = _watch()
    watch.until = time.monotonic() + _LONGEST_WAIT_S
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    earlier = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, _LONGEST_S)
    try:
        yield
    finally:
        watch.until = float("inf")
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, earlier)
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > _MOST_KIB:
        raise BrokenPromiseError("the memory is bounded")


def _place_of(error: BaseException) -> str:
    """The kind of a fault, so that many inputs count as one: the error, and the last line of the package within it."""
    kind = type(error).__name__
    if isinstance(error, BrokenPromiseError):
        return f"{kind}: {error}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "llama_client" in frame.filename]
    last = frames[-1] if frames else None
    return kind if last is None else f"{kind} at {last.filename.rpartition('llama_client')[2]}:{last.lineno}"
