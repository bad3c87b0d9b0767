"""Fuzzes every kind of input from outside: `python -m tests.fuzz --seconds 60`.

Each target gets an equal share of the processor time, two at once; importing all of them comes before. So a busy
machine makes a run longer, and not shallower; one that takes twenty times as long fails. Prints executions and
processor time of each, and for each fault its shortest input; exits 1 where there is a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.fuzz.engines import Engine, default_engine
from tests.fuzz.one import import_targets, run_target
from tests.fuzz.targets import TARGETS

_AT_ONCE = 2
# Real time for a second of processor time, and for imports, starts and ends: processes of the lowest priority may wait.
_REAL_TIME_FACTOR, _GRACE_S = 20, 120.0
_SHOWN_CHARS = 3000


@dataclass(frozen=True)
class Fuzzed:
    """What came of one target. `failed`: why its process ended without a report.

    Attributes:
        seconds: Of processor time.
    """

    name: str
    executions: int = 0
    seconds: float = 0.0
    faults: Sequence[dict[str, Any]] = ()
    failed: str | None = None


@dataclass
class _Running:
    """The process of one target; its report is all that it sends."""

    name: str
    process: BaseProcess
    report: Connection
    output: Path

    def ended(self, longest_s: float) -> Fuzzed:
        """What it reported, or why it did not. `longest_s`: the time for all targets, which is over for this one."""
        said: tuple[int, float, list[dict[str, Any]]] | None = None
        # Nothing to receive: it ended without a report.
        with self.report, contextlib.suppress(EOFError):
            if self.report.poll():
                said = self.report.recv()
            else:
                self.process.kill()
                return Fuzzed(self.name, failed=_too_late("did not end", longest_s))
        self.process.join(_GRACE_S)
        if said is None or self.process.exitcode:
            written = self.output.read_text(errors="replace")
            return Fuzzed(self.name, failed=f"exit code {self.process.exitcode}: {written[-_SHOWN_CHARS:]}")
        return Fuzzed(self.name, *said)


def fuzz(names: Sequence[str], engine: Engine, share_s: float, seed: int, longest_s: float) -> Iterator[Fuzzed]:
    """Each target for so many seconds of processor time; they come as they end. `longest_s`: real time for all."""
    can_fork = "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux"
    context: Any = multiprocessing.get_context("fork" if can_fork else "spawn")
    until = time.monotonic() + longest_s
    if can_fork:
        import_targets(names, engine)
    running: list[_Running] = []
    waiting = list(names)
    with tempfile.TemporaryDirectory(prefix="fuzz-output-") as folder:
        while (waiting and time.monotonic() < until) or running:
            while waiting and len(running) < _AT_ONCE and time.monotonic() < until:
                name = waiting.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                output = Path(folder, name)
                process = context.Process(target=run_target, args=(name, engine, share_s, seed, output, sender))
                process.start()
                # The end of a process is seen only where no other one holds this.
                sender.close()
                running.append(_Running(name, process, receiver, output))
            ready = wait([each.report for each in running], max(0.0, until - time.monotonic()))
            for each in [each for each in running if each.report in ready or time.monotonic() >= until]:
                running.remove(each)
                yield each.ended(longest_s)
    for name in waiting:
        yield Fuzzed(name, failed=_too_late("did not begin", longest_s))


def _too_late(what: str, longest_s: float) -> str:
    return f"{what} within {longest_s:,.0f} s of real time for all targets: the machine is too busy, or a target hangs"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of processor time, for all targets together (default: %(default)g)"
    )
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one; may be repeated")
    parser.add_argument("--engine", choices=("atheris", "hypothesis"), default=default_engine())
    parser.add_argument("--seed", type=int, default=1, help="of the engine's chance (default: %(default)s)")
    options = parser.parse_args()
    names = options.target or list(TARGETS)
    share_s = options.seconds / len(names)
    longest_s = _GRACE_S + _REAL_TIME_FACTOR * options.seconds
    print(f"{options.engine}, {share_s:.1f} s of the processor for each of {len(names)} targets, seed {options.seed}")
    print(f"{'target':12} {'executions':>11} {'cpu s':>7} {'per cpu s':>9} {'faults':>7}", flush=True)
    found: list[Fuzzed] = []
    for each in fuzz(names, options.engine, share_s, options.seed, longest_s):
        found.append(each)
        rate = each.executions / each.seconds if each.seconds else 0.0
        faults = "FAILED" if each.failed is not None else str(len(each.faults))
        print(f"{each.name:12} {each.executions:11,} {each.seconds:7.1f} {rate:9,.0f} {faults:>7}", flush=True)
    for each in found:
        if each.failed is not None:
            print(f"\n{each.name}: {each.failed}")
        for fault in each.faults:
            print(f"\n{each.name}: {fault['where']} ({fault['times']} times)\n  data = {fault['data']}")
            print(fault["text"][-_SHOWN_CHARS:])
    return 1 if any(each.faults or each.failed is not None for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
