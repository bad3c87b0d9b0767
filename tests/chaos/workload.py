"""Calls of all kinds at once in one process: threads, tasks, streams that are read, closed, dropped and cancelled,
hedges, budgets and breakers.

`python -m tests.chaos.workload` reads its orders from the first line of its input, and writes a line of JSON for each
call that has ended, whatever the end. What befalls its ledger, its clock and itself meanwhile is the doing of `mixed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import itertools
import json
import logging
import mmap
import os
import random
import signal
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from llama_client import (
    AsyncLlamaClient,
    BudgetExceededError,
    ChatCompletion,
    ChatStream,
    ConfigError,
    LlamaClient,
    LlamaClientError,
)
from llama_client.clock import Clock
from llama_client.testing.seams import using
from llama_client.types.completion import Attempt
from tests.chaos import calls
from tests.chaos.calls import Held, of_leaks
from tests.chaos.dropped import View
from tests.chaos.faults import DOOMED

MAX_TOKENS = 400
# Each tenant has so much; a call's worst case is about $0.0003.
TENANT_USD = Decimal("0.02")
_TENANTS = 4
_CALLS_A_CLIENT, _CALLS_A_LOOP = 5, 12
# Which share of the calls comes before the first fork.
_BEFORE_FORKS = 0.2
# Which share of the calls has no free target, so that a budget can refuse it.
_ONLY_PRICED = 0.3
_HEDGE_AFTER_S = 0.04
# All calls write so many digits, so that the prompts of all have one length.
_DIGITS = 8
_DOOMED_EACH = 100
_SOON_S = 20.0
# Longer than any call has: a deadline, and the wait for a database.
_HANGS_AFTER_S = 60.0

Kind = Literal["whole", "read", "closed", "dropped", "cycle", "generator", "closed elsewhere", "cancelled"]
# How often each is drawn.
_SYNC: dict[Kind, int] = {
    "whole": 45, "read": 22, "closed": 10, "dropped": 8, "cycle": 5, "generator": 5, "closed elsewhere": 5,
}  # fmt: skip
_ASYNC: dict[Kind, int] = {"whole": 40, "read": 20, "closed": 10, "dropped": 10, "cancelled": 20}


@dataclass(frozen=True)
class Orders:
    """What a process does.

    Attributes:
        urls: The servers, by kind.
        ledger: The address of the ledger.
        first: The number of its first call.
        calls: How many it makes.
        seed: Of its chance.
        threads: How many threads call.
        tasks: How many tasks call.
        churns: How many threads call with one client after another.
        on_exceeded: What the budgets do.
        clock: A file with what is added to the wall clock and to the monotonic one.
        interrupts: Whether the main thread calls, and is interrupted by SIGINT.
        forks: How many children are forked, of two threads at once.
        fork_calls: How many calls each of these makes, beside the others.
        kinds: How often each kind of call is drawn, where that is to be something else than usual.
        is_unreadable: Whether the ledger cannot be read when the calls have ended.
        exit_streams: How many streams are open when the process exits, with the clients open.
    """

    urls: dict[str, str]
    ledger: str
    first: int
    calls: int
    seed: int = 1
    threads: int = 8
    tasks: int = 24
    churns: int = 0
    on_exceeded: str = "block"
    clock: str | None = None
    interrupts: bool = False
    forks: int = 0
    fork_calls: int = 0
    kinds: dict[Kind, int] | None = None
    is_unreadable: bool = False
    exit_streams: int = 0

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


def marker(number: int) -> str:
    """What a call says. All have one length, so that the worst case of each is the same."""
    word = DOOMED if number % _DOOMED_EACH == 50 else "called"
    return f"{word} {number:0{_DIGITS}}"


def configuration(orders: Orders, *, hedges: bool) -> dict[str, Any]:
    """Three targets in any order, two of them at a price, with budgets over all, over one, and for each tenant."""
    config = calls.config(orders.urls, Path())
    config["ledger"] = {"url": orders.ledger}
    config["providers"]["openai"]["max_concurrency"] = 12
    if hedges:
        config["routing"]["hedge_after_s"] = _HEDGE_AFTER_S
    rule = {"window": "total", "on_exceeded": orders.on_exceeded}
    config["budgets"] = [
        {"usd": 1_000_000, **rule},
        {"usd": 1_000_000, **rule, "window": "hour"},
        {"usd": 1_000_000, "scope": "provider:groq", **rule},
        {"usd": TENANT_USD, "scope": "tag:tenant", **rule},
    ]
    return config


def worst_cases(urls: dict[str, str], folder: Path) -> dict[str, dict[str, int]]:
    """The worst case of each target in pico-dollars, by kind of answer: what a budget that is too small says of it."""
    orders = Orders(urls, f"sqlite:///{folder / 'worst.db'}", 0, 0)
    config = {**configuration(orders, hedges=False), "budgets": [{"usd": Decimal("0.000000001"), "window": "total"}]}
    found: dict[str, dict[str, int]] = {}
    with LlamaClient(config) as client:
        for target in ("groq/m", "openai/m"):
            found[target] = {}
            for how in ("whole", "stream"):
                try:
                    ask: dict[str, Any] = {"messages": _messages(0), "max_tokens": MAX_TOKENS, "model": target}
                    client.chat.completions.create(**ask, stream=how == "stream")
                except BudgetExceededError as error:
                    assert error.needed_usd is not None
                    found[target][how] = _pico(error.needed_usd)
    return found


def _messages(number: int) -> list[dict[str, object]]:
    return [{"role": "user", "content": marker(number)}]


def _pico(usd: Decimal) -> int:
    pico = usd * 10**12
    assert pico == int(pico), f"{usd} is no whole number of pico-dollars"
    return int(pico)


class Report:
    """Writes what has happened, a line for each. A write of less than a pipe takes at once is never mixed with another,
    of forked processes neither."""

    _MOST = 4096

    def __init__(self) -> None:
        self._descriptor = os.dup(1)
        # About: threads count together.
        self.calls_ended = 0

    def __call__(self, **line: Any) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        assert len(data) <= self._MOST, f"{len(data)} bytes for one line"
        os.write(self._descriptor, data)

    def ended(self, call: Call, result: object, request_id: str | None = None) -> None:
        """The end of a call: an answer, a stream that was left, or an error."""
        error = result if isinstance(result, BaseException) else None
        line: dict[str, Any] = {"n": call.number, "kind": call.kind, "how": call.how, "at": time.monotonic()}
        line["end"] = type(result).__name__ if result is not None else "left"
        line["ours"] = error is None or isinstance(error, LlamaClientError)
        if error is not None and not isinstance(error, LlamaClientError):
            line["text"] = repr(error)[:300]
        if isinstance(result, ChatCompletion):
            request_id = result.request_id
            line["cost"] = None if result.cost.usd is None else _pico(result.cost.usd)
            line["warnings"] = [each[:100] for each in result.warnings[:3]]
        if isinstance(result, ChatCompletion | LlamaClientError):
            line["attempts"] = [_said(each) for each in result.attempts]
        if isinstance(error, BudgetExceededError):
            line["text"] = str(error)[:200]
        line["id"] = request_id
        self(**line)
        self.calls_ended += 1


def _said(attempt: Attempt) -> list[Any]:
    usd = None if attempt.cost is None or attempt.cost.usd is None else _pico(attempt.cost.usd)
    status = None if attempt.cost is None else attempt.cost.status
    return [attempt.target, attempt.outcome, attempt.error, attempt.sent, attempt.http_status, usd, status]


@dataclass(frozen=True)
class Call:
    """One call to make.

    Attributes:
        number: Every call's is another.
        kind: What is done.
        how: Which client makes it.
        chance: Its own.
    """

    number: int
    kind: Kind
    how: str
    chance: random.Random

    @staticmethod
    def drawn(number: int, how: str, orders: Orders) -> Call:
        chance = random.Random(f"{orders.seed}/{number}")
        kinds = orders.kinds or (_ASYNC if how in ("async", "loop") else _SYNC)
        return Call(number, chance.choices([*kinds], [*kinds.values()])[0], how, chance)

    @property
    def params(self) -> dict[str, Any]:
        tags = {"call": str(self.number)}
        if self.chance.random() < 0.2:
            tags["tenant"] = f"t{self.chance.randrange(_TENANTS)}"
        params: dict[str, Any] = {"messages": _messages(self.number), "max_tokens": MAX_TOKENS, "tags": tags}
        if self.kind not in ("whole", "cancelled") or (self.kind == "cancelled" and self.chance.random() < 0.5):
            params["stream"] = True
        if self.chance.random() < _ONLY_PRICED:
            params["model"] = ["openai/m", "groq/m"]
        return params


class Work:
    """The calls of one process.

    Args:
        orders: What to do.
        report: Where to say what came of it.
    """

    def __init__(self, orders: Orders, report: Report) -> None:
        self._orders = orders
        self.report = report
        self._left = deque(range(orders.first, orders.first + orders.calls))
        self._armed = False
        self._main: asyncio.Task[None] | None = None
        self._async_calls_have_ended, self.may_close = threading.Event(), threading.Event()
        hedges = {"plain": False, "hedged": True}
        self.clients = {name: LlamaClient(configuration(orders, hedges=each)) for name, each in hedges.items()}
        self._failures: list[str] = []
        self._loop_thread: threading.Thread | None = None

    # ------------------------------------------------------------------ sync
    def sync_thread(self) -> None:
        for number in self.numbers():
            self.sync_call(number)

    def numbers(self) -> Iterator[int]:
        """Those that are left, each to one."""
        with contextlib.suppress(IndexError):
            while True:
                yield self._left.popleft()

    def sync_call(self, number: int, client: LlamaClient | None = None) -> None:
        how = "hedged" if number % 2 else "plain"
        call = Call.drawn(number, how if client is None else "own", self._orders)
        result, request_id = self._guarded(call, client or self.clients[how])
        self.report.ended(call, result, request_id)

    def churning_thread(self) -> None:
        """Opens a client for a few calls, closes it, and opens the next."""
        numbers = self.numbers()
        while batch := list(itertools.islice(numbers, _CALLS_A_CLIENT)):
            with LlamaClient(configuration(self._orders, hedges=False)) as client:
                for number in batch:
                    self.sync_call(number, client)

    def _guarded(self, call: Call, client: LlamaClient) -> tuple[object, str | None]:
        params, is_main = call.params, threading.current_thread() is threading.main_thread()
        try:
            # An interrupt may come from here on; it disarms itself, so that what follows is said.
            if is_main:
                self._armed = True
            ended = self._made(client, call, params)
            if is_main:
                self._armed = False
            return ended
        except BaseException as error:  # noqa: BLE001 - each is judged
            if is_main:
                self._armed = False
            return error, None

    def interrupt(self, *_: object) -> None:
        """The handler of a signal."""
        if self._armed:
            self._armed = False
            if self._main is None:
                raise KeyboardInterrupt
            # As `asyncio.run` does with the first of them.
            self._main.cancel()

    @staticmethod
    def _made(client: LlamaClient, call: Call, params: dict[str, Any]) -> tuple[object, str | None]:
        created = client.chat.completions.create(**params)
        if isinstance(created, ChatCompletion):
            return created, None
        stream, request_id = created, created.request_id
        match call.kind:
            case "read":
                with stream:
                    for _ in stream:
                        pass
                return stream.completion, request_id
            case "closed":
                next(stream)
                stream.close()
                return stream.partial, request_id
            case "cycle":
                next(stream)
                View(stream)
            case "generator":
                words = _words(stream)
                next(words)
                View(words)
            case "closed elsewhere":
                closer = threading.Timer(call.chance.uniform(0, 0.05), stream.close)
                closer.daemon = True
                closer.start()
                for _ in stream:
                    pass
                closer.join()
            case _:
                next(stream)
        return None, request_id

    # ----------------------------------------------------------------- async
    def closed_async(self) -> None:
        """Lets the async client close, and waits for that."""
        self.may_close.set()
        if self._loop_thread is not None:
            self._loop_thread.join(_HANGS_AFTER_S)
            if self._loop_thread.is_alive():
                self._failures.append("the event loop does not end")

    def async_thread(self) -> None:
        try:
            asyncio.run(self._all_tasks())
        except BaseException as error:  # noqa: BLE001 - told
            self._failures.append(f"the event loop ended with {error!r}")

    async def _all_tasks(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.report(told=f"the event loop: {context!r}"[:1000]))
        async with AsyncLlamaClient(configuration(self._orders, hedges=True)) as client:
            await asyncio.gather(*(self._task(client) for _ in range(self._orders.tasks)))
            self._async_calls_have_ended.set()
            # A client that is closed while its ledger cannot be written loses what it has not written.
            await asyncio.to_thread(self.may_close.wait)
            gc.collect()
            until = time.monotonic() + _SOON_S
            while (held := _held(client.health())) and time.monotonic() < until:
                await asyncio.sleep(0.05)
            self._failures += held
        this, until = asyncio.current_task(), time.monotonic() + _SOON_S
        while len(asyncio.all_tasks()) > 1 and time.monotonic() < until:
            await asyncio.sleep(0.02)
        self._failures += [f"left a task: {task!r}" for task in asyncio.all_tasks() if task is not this]

    async def _task(self, client: AsyncLlamaClient) -> None:
        for number in self.numbers():
            call = Call.drawn(number, "async", self._orders)
            params = call.params
            work = asyncio.create_task(self._amade(client, call, params))
            timer = None
            if call.kind == "cancelled":
                timer = asyncio.get_running_loop().call_later(call.chance.uniform(0, 0.08), work.cancel)
            await asyncio.wait({work})
            if timer is not None:
                timer.cancel()
            result: tuple[object, str | None]
            if work.cancelled():
                result = asyncio.CancelledError(), None
            else:
                error = work.exception()
                result = work.result() if error is None else (error, None)
            del work
            self.report.ended(call, *result)

    @staticmethod
    async def _amade(client: AsyncLlamaClient, call: Call, params: dict[str, Any]) -> tuple[object, str | None]:
        created = await client.chat.completions.create(**params)
        if isinstance(created, ChatCompletion):
            return created, None
        stream, request_id = created, created.request_id
        match call.kind:
            case "closed":
                await anext(stream)
                await stream.aclose()
                return stream.partial, request_id
            case "dropped":
                await anext(stream)
                return None, request_id
            case _:
                async with stream:
                    async for _ in stream:
                        pass
                return stream.completion, request_id

    def loops(self) -> None:
        """Runs one event loop after another in the main thread, each with a few calls, whose main task an interrupt
        cancels."""
        numbers = self.numbers()
        while batch := list(itertools.islice(numbers, _CALLS_A_LOOP)):
            left = {number: Call.drawn(number, "loop", self._orders) for number in batch}
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(self._batch(left))
            # Those that had not begun.
            for call in left.values():
                self.report.ended(call, asyncio.CancelledError())

    async def _batch(self, left: dict[int, Call]) -> None:
        async with AsyncLlamaClient(configuration(self._orders, hedges=True)) as client:

            async def make(call: Call) -> None:
                result: tuple[object, str | None]
                try:
                    result = await self._amade(client, call, call.params)
                except BaseException as error:  # noqa: BLE001 - each is judged
                    result = error, None
                del left[call.number]
                self.report.ended(call, *result)

            self._main = asyncio.current_task()
            self._armed = True
            try:
                await asyncio.gather(*map(make, list(left.values())))
            finally:
                self._armed, self._main = False, None
                await asyncio.sleep(0)
                self._failures += _held(client.health())

    # ------------------------------------------------------------------ fork
    def fork(self, numbers: list[int]) -> None:
        """A child that calls with the clients of its parent."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for number in numbers:
                    self.sync_call(number)
                self._failures.clear()
                self.closed()
                for failure in self._failures:
                    self.report(problem=f"in a child: {failure}")
                status = 0
            except BaseException as error:  # noqa: BLE001 - told
                self.report(problem=f"a child ended with {error!r}"[:1000])
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        if status:
            self._failures.append(f"a child ended with status {status}")

    def fork_all(self, numbers: deque[int]) -> None:
        # A child that is forked while another thread imports a module can never import it: that is Python's own, and so
        # the first calls, which import what calls need, come first.
        while self.report.calls_ended < self._orders.calls * _BEFORE_FORKS:
            time.sleep(0.01)
        for _ in range(self._orders.forks // 2):
            self.fork([numbers.popleft() for _ in range(self._orders.fork_calls)])

    # ------------------------------------------------------------------- all
    def run(self) -> list[str]:
        """Makes the calls, and says what is wrong after them."""
        orders = self._orders
        workers = [threading.Thread(target=self.sync_thread) for _ in range(orders.threads)]
        workers += [threading.Thread(target=self.churning_thread) for _ in range(orders.churns)]
        # The children's calls come after those of this process.
        last = orders.first + orders.calls
        numbers = deque(range(last, last + orders.forks * orders.fork_calls))
        workers += [threading.Thread(target=self.fork_all, args=(numbers,)) for _ in range(2 if orders.forks else 0)]
        if orders.tasks:
            self._loop_thread = threading.Thread(target=self.async_thread, daemon=True)
            self._loop_thread.start()
        for worker in workers:
            worker.daemon = True
            worker.start()
        if orders.interrupts:
            signal.signal(signal.SIGINT, self.interrupt)
            for number in itertools.islice(self.numbers(), orders.calls // 4):
                self.sync_call(number)
            self.loops()
        for worker in workers:
            worker.join()
        while self._loop_thread is not None and self._loop_thread.is_alive():
            if self._async_calls_have_ended.wait(0.1):
                break
        return self._failures

    def closed(self) -> None:
        """Looks at the clients' health, and closes them."""
        gc.collect()
        for name, client in self.clients.items():
            until = time.monotonic() + _SOON_S
            while (held := _held(client.health())) and time.monotonic() < until:
                time.sleep(0.05)
            self._failures += [f"{name}: {each}" for each in held]
            client.close()

    def books(self) -> list[str]:
        """What the clients themselves say of the ledger, before they are closed."""
        found = []
        for name, client in self.clients.items():
            unrecorded = client.costs.report().unrecorded_calls
            if unrecorded:
                found.append(f"{name} says that {unrecorded} calls are unrecorded")
            until = time.monotonic() + _SOON_S
            while (reserved := [each for each in client.costs.budgets() if each.reserved_usd]) and (
                time.monotonic() < until
            ):
                time.sleep(0.05)
            found += [f"{name} says that {each!r} is still reserved" for each in reserved]
        return found


def _held(health: dict[str, Any]) -> list[str]:
    return [
        f"{name} has {target.in_flight} attempts in flight and {target.queued} waiting"
        for name, target in health.items()
        if target.in_flight or target.queued
    ]


def _words(stream: ChatStream) -> Iterator[str]:
    with stream:
        for chunk in stream:
            yield chunk.text


class _ToReport(logging.Handler):
    """What the package logs as a warning, and asyncio as an error."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report(log=[record.name, record.getMessage()[:1000]])


def shifted(file: Path) -> Clock:
    """A clock to whose readings another process adds what it likes."""
    with file.open("rb") as opened:
        shared = mmap.mmap(opened.fileno(), 16, access=mmap.ACCESS_READ)

    def offset(which: int) -> float:
        return float(struct.unpack_from("d", shared, 8 * which)[0])

    def plus(read: Callable[[], float], which: int) -> Callable[[], float]:
        return lambda: read() + offset(which)

    return Clock(monotonic=plus(time.monotonic, 1), wall=plus(time.time, 0))


def _warm(orders: Orders, report: Report) -> None:
    """Imports all of it and makes what lives as long as the process, so that nothing of it looks like a leak."""
    warm = Work(Orders(orders.urls, orders.ledger, 0, 0, orders.seed, tasks=2), report)
    with contextlib.suppress(LlamaClientError):
        for client in warm.clients.values():
            client.costs.budgets()
    warm.run()
    warm.closed_async()
    for client in warm.clients.values():
        client.close()


def main() -> int:
    # Tells on standard error where a process is that is ended because it hangs.
    faulthandler.enable()
    world = contextlib.ExitStack()
    orders = Orders(**json.loads(sys.stdin.readline()))
    report = Report()
    logging.getLogger().addHandler(_ToReport(report))
    # A line for each breaker that opens, which here is many.
    logging.getLogger("llama_client.routing").setLevel(logging.ERROR)
    if orders.clock is not None:
        world.enter_context(using(clock=shifted(Path(orders.clock))))
    told = sys.unraisablehook

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        # Where a finaliser is interrupted, Python can only tell of it.
        if not (orders.interrupts and what.exc_type is KeyboardInterrupt):
            told(what)

    sys.unraisablehook = unraisable
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _warm(orders, report)
    gc.collect()
    before = Held.now()
    work = Work(orders, report)
    report(ready=True)
    sys.stdin.readline()
    failures = work.run()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if orders.exit_streams:
        _exit_in_streams(work, orders)
    # What the parent has done to the ledger it takes back before it says so.
    # Streams that were dropped in cycles are open until then, and hold what another process looks at.
    gc.collect()
    report(done=True)
    sys.stdin.readline()
    work.closed_async()
    try:
        failures += work.books()
    except ConfigError as error:
        report(unreadable=str(error))
    work.closed()
    failures += of_leaks(before)
    for failure in failures:
        report(problem=failure[:3000])
    report(end=True)
    return 0


def _exit_in_streams(work: Work, orders: Orders) -> None:
    """Exits with streams and clients open, those of threads."""
    work.closed_async()
    last = orders.first + orders.calls
    held = []
    for number in range(last, last + orders.exit_streams):
        call = Call(number, "dropped", "plain" if number % 2 else "hedged", random.Random(number))
        try:
            stream = work.clients[call.how].chat.completions.create(**call.params)
            next(stream)
        except (LlamaClientError, StopIteration) as error:
            work.report.ended(call, error if isinstance(error, LlamaClientError) else None)
        else:
            held.append(stream)
            work.report.ended(call, None, stream.request_id)
    work.report(end=True)
    # Not garbage as long as the modules live.
    sys.modules[__name__].__dict__["_held_at_exit"] = held
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
