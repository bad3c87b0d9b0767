"""Interrupts at every place where Python looks for signals: nothing stays in flight, reserved, connected or unrecorded.

Python runs a signal's handler, which raises KeyboardInterrupt, at the start of a function, after a call and at the end
of a loop's turn. `interrupted_at` makes a signal wait for the nth such place of this package, and so tries each of them
once, in the same way each time.

`python -m tests.chaos.interrupts` is the long form of `test_interrupts`.
"""

from __future__ import annotations

import _thread
import argparse
import asyncio
import contextlib
import dis
import gc
import inspect
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import llama_client
from llama_client import AsyncLlamaClient, LlamaClient, LlamaClientError
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, paced, streamed, whole
from tests.chaos.dropped import MESSAGES, of_budgets

_OURS = str(Path(llama_client.__file__).parent)
# After each of these Python looks for signals; after those in the second line only where they resume a generator.
_LOOKS = ("CALL", "JUMP_BACKWARD")
_MAY_LOOK = ("FOR_ITER", "SEND")
_SIGNAL = signal.SIGALRM
_SOON_S = 30.0
# Connections that a client may keep beyond those at the start.
_KEPT = 3


class _Signal(int):
    # No call: after one Python would look for the signal here, and not where it is to be found.
    arrives = property(_thread.interrupt_main)


@cache
def _places(code: CodeType) -> tuple[frozenset[int], frozenset[int]]:
    """The offsets of the instructions of ours after which Python looks for signals, and after which it may."""
    found = [
        frozenset(
            each.offset
            for each in dis.get_instructions(code)
            if each.opname.startswith(names) and each.opname != "JUMP_BACKWARD_NO_INTERRUPT"
        )
        for names in (_LOOKS, _MAY_LOOK)
    ]
    return found[0], found[1]


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(_OURS)


def _raise(*_: object) -> None:
    raise KeyboardInterrupt


@dataclass
class Interrupter:
    """Counts the places that work passes, and lets the signal arrive at one of them.

    Attributes:
        at: The place; 0: none.
        passed: How many places were passed.
        place: Where the signal arrived.
        resuming: Where a generator of ours is resumed: found by counting.
    """

    at: int = 0
    passed: int = 0
    place: str = ""
    resuming: set[tuple[CodeType, int]] = field(default_factory=set)
    _last: tuple[CodeType, int] | None = None
    _signal: _Signal = field(default_factory=lambda: _Signal(_SIGNAL))

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if event == "call":
            if self._last is not None and code.co_flags & inspect.CO_GENERATOR:
                self.resuming.add(self._last)
            self._last = None
            if not _is_ours(code):
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            looks, may_look = _places(code)
            self._last = (code, frame.f_lasti) if frame.f_lasti in may_look else None
            if frame.f_lasti in looks or self._last in self.resuming:
                self.passed += 1
                if self.passed == self.at:
                    self.place = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_qualname}"
                    self._signal.arrives  # noqa: B018 - see there
        return self.trace

    def run(self, work: Callable[[], object]) -> bool:
        """True: it was interrupted."""
        before = sys.gettrace()
        try:
            sys.settrace(self.trace)
            try:
                work()
            finally:
                sys.settrace(before)
        except KeyboardInterrupt:
            return True
        return False


@contextmanager
def signals() -> Iterator[None]:
    """Within it the signal raises KeyboardInterrupt, in finalisers too, where Python can only tell of it."""
    before, told = signal.signal(_SIGNAL, _raise), sys.unraisablehook
    sys.unraisablehook = lambda unraisable: None
    try:
        yield
    finally:
        signal.signal(_SIGNAL, before)
        sys.unraisablehook = told


def config(urls: Sequence[str], folder: str, **more: Any) -> dict[str, Any]:
    """Providers `a`, `b`, ... at these addresses, each with room for two attempts, and all of it in the books."""
    names = "abc"[: len(urls)]
    key = {"api_key": "k" * 20, "max_concurrency": 2, "machine_usd_per_hour": None}
    providers = {
        name: {"kind": "openai", "base_url": url, **{k: v for k, v in key.items() if v is not None}}
        for name, url in zip(names, urls, strict=True)
    }
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
    return {
        "default_model": "a/m",
        "providers": providers,
        "prices": [{"target": f"{name}/m", **price} for name in names],
        "ledger": {"url": f"sqlite:///{Path(folder) / 'ledger.db'}", "flush_interval_s": 0.05},
        "budgets": [{"usd": 1_000_000, "window": "total"}],
        **more,
    }


class Desk:
    """A client, and servers for its providers; what each request gets is told by the scenario.

    Args:
        folder: For the ledger.
        more: Tables of the configuration.
        answers: Of each server, by the number of the request within one run.
    """

    def __init__(self, folder: str, more: dict[str, Any], answers: Sequence[Callable[[Received], Answer]]) -> None:
        self.ledger = Path(folder) / "ledger.db"
        self.servers = [WireServer(answer) for answer in answers]
        self.config = config([server.url for server in self.servers], folder, **more)
        self.client = LlamaClient(self.config)
        # Of the last run of a loop.
        self.async_client: AsyncLlamaClient | None = None
        self.models = [f"{name}/m" for name in "abc"[: len(answers)]]

    def ask(self, **params: Any) -> Any:
        return self.client.chat.completions.create(messages=MESSAGES, max_tokens=5, timeout=20, **params)

    def close(self) -> None:
        self.client.close()
        for server in self.servers:
            server.close()


def good(received: Received) -> Answer:
    return OPENAI.good(streams=bool(received.json.get("stream")))


def slow(received: Received) -> Answer:
    answer = good(received)
    return paced(answer, 0.05, first_s=0.05)


def busy(_: Received) -> Answer:
    return whole(b"{}", status=503)


def breaks(_: Received) -> Answer:
    return streamed([OPENAI.preamble(), OPENAI.text("Hel")], "cut", headers=OPENAI.stream_headers)


def _whole(desk: Desk) -> None:
    desk.ask()


def _read(desk: Desk) -> None:
    for _ in desk.ask(stream=True):
        pass


def _closed(desk: Desk) -> None:
    stream = desk.ask(stream=True)
    next(stream)
    stream.close()


def _in_a_block(desk: Desk) -> None:
    with desk.ask(stream=True) as stream:
        for _ in stream:
            break


def _dropped(desk: Desk) -> None:
    next(desk.ask(stream=True))


def _of_all(desk: Desk) -> None:
    with contextlib.suppress(LlamaClientError):
        desk.ask(model=desk.models)


def _read_of_all(desk: Desk) -> None:
    with contextlib.suppress(LlamaClientError):
        for _ in desk.ask(model=desk.models, stream=True):
            pass


def _in_a_loop(desk: Desk) -> None:
    async def main() -> None:
        async with AsyncLlamaClient(desk.config) as client:
            desk.async_client = client
            ask: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 5, "timeout": 20, "model": desk.models}
            await client.chat.completions.create(**ask)
            async with await client.chat.completions.create(**ask, stream=True) as stream:
                async for _ in stream:
                    pass

    with contextlib.suppress(LlamaClientError):
        asyncio.run(main())


def _checks(desk: Desk) -> None:
    with contextlib.suppress(LlamaClientError):
        desk.ask(temperature=99)
    desk.client.count_tokens("hi")
    desk.client.estimate_cost("hi", max_tokens=5)
    desk.client.health()
    desk.client.costs.budgets()
    desk.client.costs.report()


def _queued(desk: Desk) -> None:
    streams = [desk.ask(stream=True) for _ in range(2)]
    with contextlib.suppress(LlamaClientError):
        desk.client.ask("hi", max_tokens=5, timeout=0.02)
    del streams


@dataclass(frozen=True)
class Scenario:
    """What is interrupted.

    Attributes:
        work: It.
        answers: What the servers do.
        more: Tables of the configuration.
    """

    work: Callable[[Desk], None]
    answers: Sequence[Callable[[Received], Answer]] = (good,)
    more: dict[str, Any] = field(default_factory=dict)


_AT_ONCE = {"routing": {"retries": 0, "breaker_failures": 1000}}
SCENARIOS: dict[str, Scenario] = {
    "call": Scenario(_whole),
    "stream": Scenario(_read),
    "stream that is closed": Scenario(_closed),
    "stream in a block": Scenario(_in_a_block),
    "stream that is dropped": Scenario(_dropped),
    "fallback": Scenario(_of_all, (busy, good), _AT_ONCE),
    "half-open trial": Scenario(
        _of_all, (busy, busy), {"routing": {"retries": 0, "breaker_failures": 1, "breaker_cooldown_s": 0.001}}
    ),
    "hedge": Scenario(_of_all, (slow, good), {"routing": {"hedge_after_s": 0.01}}),
    "hedged stream": Scenario(_read_of_all, (slow, good), {"routing": {"hedge_after_s": 0.01}}),
    "continued stream": Scenario(_read_of_all, (breaks, good), {"routing": {"on_interrupt": "continue", "retries": 0}}),
    "waiting for a place": Scenario(_queued),
    "over httpx": Scenario(_read, more={"http": {"wire": "httpx"}}),
    "in a loop": Scenario(_in_a_loop),
    "hedged in a loop": Scenario(_in_a_loop, (slow, good), {"routing": {"hedge_after_s": 0.01}}),
    "checks": Scenario(_checks),
}


@dataclass
class Result:
    """How one scenario went.

    Attributes:
        places: How many it passes.
        interrupted: How often it was interrupted.
        problems: What was wrong after it.
    """

    places: int = 0
    interrupted: int = 0
    problems: list[str] = field(default_factory=list)


def run(name: str, *, most: int | None = None, seed: int = 1, rounds: int = 1) -> Result:
    """Interrupts a scenario at each of its places, or at so many of them, and looks at the books after each."""
    scenario, result = SCENARIOS[name], Result()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, signals():
        desk = Desk(folder, scenario.more, scenario.answers)
        try:
            for _ in range(2):
                scenario.work(desk)
            desk.async_client = None
            before = _resources()
            resuming: set[tuple[CodeType, int]] = set()
            for _ in range(2):
                counting = Interrupter(resuming=resuming)
                counting.run(lambda: scenario.work(desk))
            places = list(range(1, counting.passed + 1))
            result.places = counting.passed
            if most is not None and most < len(places):
                places = sorted(random.Random(seed).sample(places, most))
            for at in places * rounds:
                interrupter = Interrupter(at, resuming=resuming)
                result.interrupted += interrupter.run(lambda: scenario.work(desk))
                found = list(_of_health(desk))
                if found:
                    result.problems += [f"after an interrupt at {interrupter.place}: {each}" for each in found]
                    break
            desk.async_client = None
            result.problems += _of_the_books(desk, before)
        finally:
            desk.close()
    return result


def _of_health(desk: Desk) -> Iterator[str]:
    until = time.monotonic() + _SOON_S
    while True:
        held = {
            name: (target.in_flight, target.queued, target.breaker)
            for client in (desk.client, desk.async_client)
            for name, target in (client.health() if client is not None else {}).items()
            if target.in_flight or target.queued
        }
        if not held:
            return
        if time.monotonic() > until:
            yield f"in flight, queued: {held}"
            return
        # A hedge that lost ends in a thread of its own; the rest waits for nothing but the collector.
        gc.collect()
        time.sleep(0.01)


def _resources() -> tuple[int, int]:
    """The threads and descriptors of this process."""
    gc.collect()
    return threading.active_count(), len(os.listdir("/dev/fd")) if Path("/dev/fd").exists() else 0


def _of_the_books(desk: Desk, before: tuple[int, int]) -> Iterator[str]:
    client = desk.client
    received = sum(len(server.requests) for server in desk.servers)
    report = client.costs.report()
    until = time.monotonic() + _SOON_S
    # A client whose end was interrupted writes its rows in a thread of its own.
    while (rows := _rows(desk)) < received and time.monotonic() < until:
        time.sleep(0.05)
    if rows < received or report.unrecorded_calls:
        yield f"{received} requests were received, {rows} attempts recorded, {report.unrecorded_calls} calls not"
    yield from of_budgets(client)
    until = time.monotonic() + _SOON_S
    # A connection is a thread of the server, which ends some time after it, and two descriptors. The client keeps a few
    # more than at the start, where a stream was still being ended when the next one began.
    while (now := _resources())[0] > before[0] + _KEPT and time.monotonic() < until:
        time.sleep(0.05)
    if now[0] > before[0] + _KEPT or now[1] > before[1] + 2 * (len(desk.servers) + _KEPT):
        yield f"threads and descriptors grew from {before} to {now}"


def _rows(desk: Desk) -> int:
    """The attempts in the ledger."""
    with contextlib.closing(sqlite3.connect(desk.ledger)) as ledger:
        counted = ledger.execute("SELECT count(*) FROM llama_client_attempts WHERE outcome <> 'skipped'").fetchone()
    return int(counted[0])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.interrupts", description=__doc__)
    parser.add_argument("--most", type=int, help="places of each scenario (default: all)")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=1, help="over the places (default: %(default)s)")
    options = parser.parse_args()
    problems, interrupted = [], 0
    for name in options.scenario or SCENARIOS:
        started = time.monotonic()
        result = run(name, most=options.most, rounds=options.rounds)
        taken_s = time.monotonic() - started
        print(
            f"{name}: {result.interrupted} interrupts at {result.places} places in {taken_s:.1f} s, "
            f"{result.problems or 'all well'}",
            flush=True,
        )
        problems += result.problems
        interrupted += result.interrupted
    print(f"{interrupted} interrupts, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
