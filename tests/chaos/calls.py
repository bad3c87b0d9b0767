"""Many calls at once in one mode through one client over three failing targets, and what must hold for each of them."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from llama_client import (
    AllTargetsFailedError,
    APITimeoutError,
    AsyncLlamaClient,
    ChatCompletion,
    LlamaClient,
    LlamaClientError,
    ProviderError,
    StreamInterruptedError,
)
from llama_client.providers.http.exchange import CLOSED_WHILE_IDLE, MADE_AGAIN
from llama_client.testing.faults import GOOD, FaultReport, FaultRequest
from llama_client.types.completion import Attempt, TargetHealth
from tests.chaos.faults import DIALECTS, DOOMED, FAULTS, LATER, fault_server, seen, urls

MODES = ("call-sync", "call-async", "stream-sync", "stream-async")
THREADS, TASKS = 16, 50
RETRIES = 2
# A whole answer has half of what is left of this, so that a stall ends.
DEADLINE_S = 6.0
FIRST_CONTENT_S = 1.0
STALL_S = 1.0
_LONGEST_WAIT_S = 1.0
# One call in so many cannot succeed.
_DOOMED_EACH = 100
_SOON_S = 30.0
# A clock's tick, and what a thread may take to wake up.
_TICK_S = 0.05


def config(addresses: dict[str, str], ledger: Path) -> dict[str, Any]:
    """A route of the three targets, in an order that chance draws for each call; Ollama's is free."""
    providers = {
        kind: {"kind": kind, "base_url": url + DIALECTS[kind].base, **({} if kind == "ollama" else {"api_key": "none"})}
        for kind, url in addresses.items()
    }
    return {
        "default_model": "chat",
        "providers": providers,
        "routes": {"chat": {"targets": [f"{kind}/m" for kind in providers], "policy": "weighted"}},
        "prices": [
            {"target": "groq/m", "input_usd_per_mtok": 0.59, "output_usd_per_mtok": 0.79},
            {"target": "openai/m", "input_usd_per_mtok": 0.15, "output_usd_per_mtok": 0.6},
        ],
        "ledger": {"url": f"sqlite:///{ledger}"},
        "routing": {
            "retries": RETRIES,
            "deadline_s": DEADLINE_S,
            "first_content_s": FIRST_CONTENT_S,
            "stall_s": STALL_S,
            "breaker_cooldown_s": 0.2,
        },
    }


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call, and what came of it.

    Attributes:
        marker: What it asked; every call's is another.
        result: The answer or what was raised.
        shown: The text of the chunks that a stream handed over.
        seconds: How long it took.
    """

    marker: str
    result: ChatCompletion | BaseException
    shown: str
    seconds: float

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Its attempts, in order."""
        return getattr(self.result, "attempts", ())


@dataclass(frozen=True)
class Held:
    """What a process holds of its system."""

    descriptors: int
    connections: tuple[str, ...]
    threads: tuple[str, ...]

    @staticmethod
    def now() -> Held:
        process = psutil.Process()
        return Held(
            # Windows counts handles, which the system itself opens and closes at will.
            process.num_fds() if sys.platform != "win32" else 0,
            tuple(sorted(str(each) for each in process.net_connections(kind="tcp"))),
            tuple(sorted(thread.name for thread in threading.enumerate())),
        )


@dataclass
class Chaos:
    """What a run has shown.

    Attributes:
        mode: How the calls were made.
        calls: How many.
        seconds: How long they took.
        results: How often each class was the end of a call.
        faults: What the servers did.
        attempts: How the attempts ended, by error or outcome.
        late: Attempts that ran out of time though the server had answered, as this machine was busy.
        problems: What must not be, in words.
    """

    mode: str
    calls: int
    seconds: float = 0.0
    results: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    late: int = 0
    problems: list[str] = field(default_factory=list)


def run(mode: str, calls: int, seed: int) -> Chaos:
    """Makes the calls and judges them."""
    chaos = Chaos(mode, calls)
    markers = [f"{DOOMED if n % _DOOMED_EACH == 50 else 'call'} {seed}-{n}" for n in range(calls)]
    with fault_server(seed) as server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ledger = Path(folder) / "ledger.db"
        gc.collect()
        before = Held.now()
        started = time.monotonic()
        ask = _ask_async if mode.endswith("-async") else _ask_sync
        outcomes, health, left_tasks = ask(config(urls(server), ledger), markers, streams=mode.startswith("stream"))
        chaos.seconds = time.monotonic() - started
        chaos.problems += [f"left a task: {task}" for task in left_tasks]
        chaos.problems += of_health(health)
        chaos.problems += of_leaks(before)
        report = seen(server)
        chaos.problems += _of_ledger(ledger, report, outcomes)
    chaos.problems += _of_report(report, outcomes)
    reads: dict[str, list[FaultRequest]] = defaultdict(list)
    for read in report.requests:
        reads[read.prompt].append(read)
        chaos.faults[read.fault] += 1
    for outcome in outcomes:
        chaos.results[type(outcome.result).__name__] += 1
        chaos.attempts.update(each.error or each.outcome for each in outcome.attempts)
        judge = _Judge(outcome, reads.pop(outcome.marker, []), streams=mode.startswith("stream"))
        chaos.problems += [f"{outcome.marker}: {problem}; {judge.story}" for problem in judge.problems()]
        chaos.late += judge.late
    chaos.problems += [f"{marker}: no call asked this" for marker in reads]
    return chaos


def _ask_sync(
    configuration: dict[str, Any], markers: Sequence[str], *, streams: bool
) -> tuple[list[Outcome], dict[str, TargetHealth], list[str]]:
    with LlamaClient(configuration) as client:
        create = client.chat.completions.create

        def ask(marker: str) -> Outcome:
            messages: list[dict[str, object]] = [{"role": "user", "content": marker}]
            shown, started = [], time.monotonic()
            result: ChatCompletion | BaseException
            try:
                if streams:
                    with create(messages=messages, stream=True) as stream:
                        # One by one, so that what came before a break is there.
                        for chunk in stream:
                            shown.append(chunk.text)  # noqa: PERF401
                    result = stream.completion
                else:
                    result = create(messages=messages)
            except BaseException as error:  # noqa: BLE001 - each is looked at later
                result = error
            return Outcome(marker, result, "".join(shown), time.monotonic() - started)

        with ThreadPoolExecutor(THREADS) as pool:
            outcomes = list(pool.map(ask, markers))
        return outcomes, client.health(), []


def _ask_async(
    configuration: dict[str, Any], markers: Sequence[str], *, streams: bool
) -> tuple[list[Outcome], dict[str, TargetHealth], list[str]]:
    async def ask_all() -> tuple[list[Outcome], dict[str, TargetHealth], list[str]]:
        async with AsyncLlamaClient(configuration) as client:
            create = client.chat.completions.create

            async def ask(marker: str) -> Outcome:
                messages: list[dict[str, object]] = [{"role": "user", "content": marker}]
                shown, started = [], time.monotonic()
                result: ChatCompletion | BaseException
                try:
                    if streams:
                        async with await create(messages=messages, stream=True) as stream:
                            async for chunk in stream:
                                shown.append(chunk.text)  # noqa: PERF401
                        result = stream.completion
                    else:
                        result = await create(messages=messages)
                except BaseException as error:  # noqa: BLE001 - each is looked at later
                    result = error
                return Outcome(marker, result, "".join(shown), time.monotonic() - started)

            left, outcomes = iter(markers), []

            async def work() -> None:
                for marker in left:
                    outcome = await ask(marker)
                    outcomes.append(outcome)

            await asyncio.gather(*(work() for _ in range(TASKS)))
            health = client.health()
        await _eventually_async(lambda: len(asyncio.all_tasks()) == 1)
        this = asyncio.current_task()
        return outcomes, health, [repr(task) for task in asyncio.all_tasks() if task is not this]

    return asyncio.run(ask_all())


async def _eventually_async(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + _SOON_S
    while not holds() and time.monotonic() < until:
        await asyncio.sleep(0.02)


def of_health(health: dict[str, TargetHealth]) -> Iterator[str]:
    if sorted(health) != sorted(f"{kind}/m" for kind in DIALECTS):
        yield f"health knows {sorted(health)}"
    for name, target in health.items():
        if target.in_flight or target.queued:
            yield f"{name} has {target.in_flight} attempts in flight and {target.queued} waiting at the end"


def of_leaks(before: Held) -> Iterator[str]:
    until = time.monotonic() + _SOON_S
    # Errors, their tracebacks and HTTPX's answers hold themselves in circles.
    gc.collect()
    while (after := Held.now()) != before and time.monotonic() < until:
        time.sleep(0.02)
    if after != before:
        yield f"held before: {before}; after: {after}"


def _of_report(report: FaultReport, outcomes: Sequence[Outcome]) -> Iterator[str]:
    if report.open_connections:
        yield f"{report.open_connections} connections are open still"
    if report.malformed:
        yield f"{report.malformed} requests were no HTTP"
    for kind, chats in report.chats.items():
        sent = sum(each.sent and each.target == f"{kind}/m" for outcome in outcomes for each in outcome.attempts)
        if sent != chats:
            yield f"{sent} attempts at {kind} say that they were sent, and it saw {chats} requests"


def _of_ledger(ledger: Path, report: FaultReport, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What was sent has a cost, if only an unknown one; what was not has none."""
    query = """SELECT provider, count(*), count(cost_status), coalesce(sum(usd_pico), 0) FROM llama_client_attempts
        JOIN llama_client_labels ON llama_client_labels.id = label_id GROUP BY provider"""
    with closing(sqlite3.connect(ledger)) as connection:
        rows = {kind: tuple(sums) for kind, *sums in connection.execute(query)}
        unrecorded = connection.execute("SELECT count(*) FROM llama_client_unrecorded").fetchone()[0]
    if unrecorded:
        yield f"{unrecorded} times calls were said to be unrecorded"
    for kind, chats in report.chats.items():
        attempts = [each for outcome in outcomes for each in outcome.attempts if each.target == f"{kind}/m"]
        pico = sum(int(each.cost.usd * 10**12) for each in attempts if each.cost is not None and each.cost.usd)
        if rows.get(kind) != (len(attempts), chats, pico):
            yield (
                f"{kind} had {len(attempts)} attempts for {pico} pico-dollars and saw {chats} requests, and the ledger"
                f" holds {rows.get(kind)}"
            )


class _Judge:
    """Holds one call against what the servers did.

    Args:
        outcome: The call.
        reads: Its requests, in the order in which the servers read them.
        streams: Whether it was a stream.
    """

    def __init__(self, outcome: Outcome, reads: Sequence[FaultRequest], *, streams: bool) -> None:
        self._outcome = outcome
        self._reads = reads
        self._streams = streams
        self._sent = [each for each in outcome.attempts if each.sent]
        self.late = 0

    @property
    def story(self) -> str:
        """The call in words, for debugging."""
        result = self._outcome.result
        attempts = [
            (each.target, each.outcome, each.error, each.sent, each.http_status, each.latency_s, each.reason)
            for each in self._outcome.attempts
        ]
        return (
            f"{type(result).__name__}({str(result)[:300] if isinstance(result, BaseException) else result.text!r})"
            f" after {self._outcome.seconds:.3f} s, attempts {attempts}, reads {self._reads}"
        )

    def problems(self) -> Iterator[str]:
        """What must not be."""
        result = self._outcome.result
        if not isinstance(result, ChatCompletion | LlamaClientError):
            yield f"raised {result!r}, which is none of ours"
            return
        yield from self._of_attempts()
        yield from self._of_sent()
        match result:
            case ChatCompletion():
                yield from self._of_answer(result)
            case StreamInterruptedError():
                yield from self._of_interruption(result)
            case AllTargetsFailedError():
                yield from self._of_all(result)
            case _:
                yield from self._of_lone(result)

    def _of_attempts(self) -> Iterator[str]:
        attempts = self._outcome.attempts
        oks = [n for n, each in enumerate(attempts) if each.outcome == "ok"]
        wanted = [len(attempts) - 1] if isinstance(self._outcome.result, ChatCompletion) else []
        if oks != wanted:
            yield f"the attempts {oks} are ok, and {wanted} should be"
        for each in attempts:
            match each.outcome:
                case "ok":
                    if each.error is not None or each.reason not in (None, CLOSED_WHILE_IDLE) or not each.sent:
                        yield f"{each} is ok with an error, or without being sent"
                case "skipped":
                    if each.sent or not each.reason:
                        yield f"{each} was skipped, and sent or without a reason"
                    elif each.error == "StreamInterruptedError":
                        # Of another call, which was shown the beginning of an answer; this one was not.
                        yield f"{each} shares the break of another call's stream"
                case "error" | "interrupted":
                    if each.error is None or not each.reason:
                        yield f"{each} has no reason"
                    # Before it is sent an attempt can only fail where there was no time left to send it.
                    if not each.sent and not (each.error == "APITimeoutError" and self._is_late(each)):
                        yield f"{each} was not sent"
                case _:
                    yield f"{each} has an outcome without a cause"
        for target in {each.target for each in attempts}:
            # One that was lost with a connection that was used before is made again, and not counted.
            tries = [each for each in self._sent if each.target == target and MADE_AGAIN not in (each.reason or "")]
            if len(tries) > RETRIES + 1:
                yield f"{target} was asked {len(tries)} times"

    def _of_sent(self) -> Iterator[str]:
        """Each attempt that was sent is a request that was read, in the same order, and failed as that was failed."""
        targets = [each.target.partition("/")[0] for each in self._sent]
        if targets != [read.dialect for read in self._reads]:
            yield f"{targets} were asked, and not as the servers saw it"
            return
        for each, read in zip(self._sent, self._reads, strict=True):
            fault = FAULTS.get(read.fault) or LATER.get(read.fault)
            errors: tuple[str | None, ...] = fault.errors if fault is not None else (None,)
            statuses = fault.statuses if fault is not None else (200,)
            if each.error in errors and each.http_status in statuses:
                continue
            if each.error in ("APITimeoutError", "StreamInterruptedError") and self._is_late(each):
                self.late += 1
                continue
            yield f"{each.error} (status {each.http_status}) is not what {read.fault!r} is"

    def _is_late(self, attempt: Attempt) -> bool:
        """Whether an attempt had so much time that a busy machine, not the fault, may have ended it."""
        patience_s = FIRST_CONTENT_S if self._streams else DEADLINE_S / 2
        return (attempt.latency_s or 0) >= patience_s - _TICK_S or self._outcome.seconds >= DEADLINE_S / 2

    def _of_answer(self, answer: ChatCompletion) -> Iterator[str]:
        if not self._reads:
            yield "no target was tried"
            return
        last = self._reads[-1]
        if last.fault != GOOD or answer.text != last.text:
            yield f"the answer is {answer.text!r}"
        if self._streams and self._outcome.shown != last.text:
            yield f"the chunks said {self._outcome.shown!r}"
        if (answer.provider, answer.target) != (last.dialect, f"{last.dialect}/m"):
            yield f"the answer is said to be {answer.target}'s"
        if answer.choices[0].finish_reason != "stop":
            yield f"it ended with {answer.choices[0].finish_reason}"

    def _of_interruption(self, error: StreamInterruptedError) -> Iterator[str]:
        last = self._reads[-1] if self._reads else None
        if not self._streams or last is None or (last.fault not in LATER and not self.late):
            yield "it was interrupted without a break after content"
            return
        if error.partial is None or not error.partial.text or not last.text.startswith(error.partial.text):
            yield f"the partial text is {error.partial.text if error.partial else None!r}"
        elif error.partial.text != self._outcome.shown:
            yield f"the chunks said {self._outcome.shown!r}, and the partial text is {error.partial.text!r}"
        elif last.fault in ("text-error", "text-end", "text-stall") and error.partial.text != last.text:
            # There the connection stayed whole, so that nothing can have been lost.
            yield f"some of the text is missing: {error.partial.text!r}"
        if [each.outcome for each in self._outcome.attempts][-1:] != ["interrupted"]:
            yield "the last attempt is not the one that was interrupted"
        if not isinstance(error.__cause__, ProviderError):
            yield f"its cause is {error.__cause__!r}"

    def _of_all(self, error: AllTargetsFailedError) -> Iterator[str]:
        targets = [each.target for each in error.errors if isinstance(each, ProviderError)]
        if not 2 <= len(error.errors) <= len(DIALECTS) or len(set(targets)) != len(error.errors):
            yield f"its errors are {error.errors}"
        if error.__cause__ is not error.errors[-1]:
            yield f"its cause is {error.__cause__!r}"
        for each in error.errors:
            yield from self._of_errors(each)
        failed = [each for each in self._outcome.attempts if each.error and MADE_AGAIN not in (each.reason or "")]
        tries = Counter(each.target for each in failed)
        is_over = self._outcome.seconds >= DEADLINE_S - _LONGEST_WAIT_S - _TICK_S
        if not is_over and set(tries.values()) != {RETRIES + 1}:
            yield f"it was given up after {dict(tries)} tries, with time left"

    def _of_lone(self, error: LlamaClientError) -> Iterator[str]:
        """One error is raised itself only where one target alone was tried, and that can only be for want of time."""
        yield from self._of_errors(error)
        tried = {each.target for each in self._outcome.attempts if each.error is not None}
        if len(tried) > 1 or self._outcome.seconds < DEADLINE_S - _LONGEST_WAIT_S - _TICK_S:
            yield "a lone error is raised though others could be asked"

    def _of_errors(self, error: LlamaClientError) -> Iterator[str]:
        """An error of a target is that of its last attempt, with the wait that the server asked for."""
        if not isinstance(error, ProviderError) or error.provider not in DIALECTS:
            yield f"{error!r} is of no target"
            return
        if isinstance(error, StreamInterruptedError):
            yield f"{error!r} is the break of another call's stream, with its text"
        failed = [each for each in self._outcome.attempts if each.target == error.target and each.error is not None]
        if not failed:
            if not isinstance(error, APITimeoutError):
                yield f"{error.target} was never tried, and its error is {error!r}"
            return
        if failed[-1].error != type(error).__name__:
            yield f"{error.target} failed with {failed[-1].error}, and its error is {error!r}"
        reads = [read for read in self._reads if read.dialect == error.provider]
        fault = FAULTS.get(reads[-1].fault) if reads and failed[-1].sent else None
        if fault is None or type(error).__name__ not in fault.errors:
            return
        if fault.wait_s is None:
            if error.retry_after_s is not None:
                yield f"{error.target} is said to have asked for {error.retry_after_s} s"
        elif error.retry_after_s is None or not fault.wait_s[0] <= error.retry_after_s <= fault.wait_s[1]:
            yield f"{error.target} asked for {fault.wait_s} s, and its error says {error.retry_after_s}"


def said(chaos: Chaos) -> str:
    """A run for people."""

    def counted(counter: Counter[str]) -> str:
        return ", ".join(f"{name} {count}" for name, count in counter.most_common())

    return (
        f"{chaos.mode}: {chaos.calls} calls in {chaos.seconds:.1f} s"
        f", {chaos.late} late, {len(chaos.problems)} problems\n"
        f"  results: {counted(chaos.results)}\n  attempts: {counted(chaos.attempts)}\n  faults: {counted(chaos.faults)}"
    )
