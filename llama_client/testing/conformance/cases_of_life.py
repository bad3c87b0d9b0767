"""Cases about answers that are given up, several at once, and what is left afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.errors import LlamaClientError
from llama_client.testing.conformance.bench import MODES, PROMPT, Bench, comes_true
from llama_client.testing.conformance.case import ASYNC, STREAMS, Case, case
from llama_client.testing.conformance.expectations import Outcome, UnmetError, demand, expect
from llama_client.testing.conformance.said import Said
from llama_client.testing.conformance.wires import Engine
from llama_client.testing.loopback import Answer, Received, as_json

_AT_ONCE = 3
_POLL_S = 0.005
_BEGUN = Said(("Hello ", "there"), finish_reason=None)
_LONG = Said(tuple(f"{number} " for number in range(200)))


@case(
    "An answer that is not read goes on costing, and holds a connection.",
    needs=["streams"],
    modes=STREAMS,
    engine=STREAMS,
)
def consumer_stops_early(bench: Bench) -> None:
    outcome = _asked_to_stall(bench, lambda: bench.ask_times(1, stops=True)[0])
    if outcome.error is not None:
        raise UnmetError(f"expected a stream that can be closed, got {outcome.shown}")
    _expect_closed(outcome.is_closed)
    expect("the outcome of the attempt", ["cancelled"], [attempt.outcome for attempt in outcome.partial])


@case("Closing a client waits for no server.", engine=STREAMS)
def client_closed_meanwhile(bench: Bench) -> None:
    outcome = _asked_to_stall(bench, lambda: asyncio.run(_aclosed(bench)) if bench.is_async else _closed(bench))
    if isinstance(outcome.error, asyncio.CancelledError):
        raise UnmetError("expected an error of the package where the client was closed, got a CancelledError")
    if not isinstance(outcome.error, LlamaClientError):
        raise UnmetError(f"expected an error where the client was closed, got {outcome.shown}")
    _expect_closed(bench.is_closed())


@case("A cancelled task ends at once, and its request with it.", modes=ASYNC, engine=("stream-async",))
def task_cancelled(bench: Bench) -> None:
    outcome = _asked_to_stall(bench, lambda: asyncio.run(_cancelled(bench)))
    demand(isinstance(outcome.error, asyncio.CancelledError), "a CancelledError", outcome.shown)
    _expect_closed(outcome.is_closed)


@case("A provider that waits in an event loop stops every other task of the program.", modes=ASYNC)
def event_loop_is_not_blocked(bench: Bench) -> None:
    turns: list[bool] = []

    def turned() -> None:
        done = threading.Event()
        assert bench.loop is not None
        try:
            bench.loop.call_soon_threadsafe(done.set)
        except RuntimeError:  # the loop has ended
            return
        turns.append(done.wait(bench.patience_s))

    def answer(_: Received) -> Answer:
        turned()
        answer = bench.answer(Said(("Hello ", "there")))
        return Answer(_Between(answer.pieces, turned), answer.then)

    bench.plays(answer)
    outcome = bench.ask_times(1)[0]
    demand(turns and all(turns), "the event loop to do other work while the server is silent", "that it stood still")
    outcome.answered()


@case("Answers of one provider at the same time are not mixed.")
def concurrent_calls_do_not_mix(bench: Bench) -> None:
    asked, begun = _All(_AT_ONCE), _All(_AT_ONCE)

    def answer(received: Received) -> Answer:
        body = bench.spoken.body_of(received)
        names = [f"call-{number}" for number in range(_AT_ONCE) if f"{PROMPT}-{number}".encode() in body]
        if len(names) != 1:
            return as_json({"error": {"message": "a request holds the prompts of several calls"}}, status=400)
        asked.another()
        # A provider that sends one after the other is slow, not wrong.
        asked.came.wait(bench.patience_s)
        answer = bench.answer(Said(tuple(f"{names[0]}:{part} " for part in range(4))))
        if not (bench.streams and "streams" in bench.wire.can):
            return answer
        pieces = list(answer.pieces)
        # The head and the first text; the rest once every stream has begun.
        return Answer(_Then(pieces[:2], lambda: begun.came.wait(bench.patience_s), pieces[2:]), answer.then)

    bench.plays(answer)
    bench.first_chunk = begun.another
    outcomes = asyncio.run(_agathered(bench)) if bench.is_async else _gathered(bench)
    for number, outcome in enumerate(outcomes):
        expect("the text", "".join(f"call-{number}:{part} " for part in range(4)), outcome.answered().text)


@case("What a closed client leaves open is never closed.", engine=MODES)
def nothing_left_open(bench: Bench) -> None:
    bench.says(Said(("Hello",)))
    bench.ask_times(1)  # What a process needs once, such as a thread of the package's own, is there now.
    before = {thread for thread in threading.enumerate() if not _is_ours(thread)}
    if bench.is_async:
        left_tasks = asyncio.run(_tasks_left(bench))
        expect("the tasks that are left", [], left_tasks)
    else:
        bench.ask_times(2)
    if not isinstance(bench.wire, Engine):
        idle = bench.server.wait_until_idle(bench.patience_s)
        demand(idle, "every connection to be closed", f"{bench.server.open_connections} open ones")
    else:
        _expect_closed(bench.is_closed())
    demand(
        comes_true(lambda: not _more_threads(before), bench.patience_s),
        "every thread to have ended",
        ", ".join(_more_threads(before)),
    )


class _All:
    """Has come after so many calls."""

    def __init__(self, times: int) -> None:
        self.came = threading.Event()
        self._left = times
        self._lock = threading.Lock()

    def another(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                self.came.set()


class _Then:
    """Pieces of an answer, something to be done where others follow, and those."""

    def __init__(self, first: list[bytes | float], do: Callable[[], object], rest: list[bytes | float]) -> None:
        self._first = first
        self._do = do
        self._rest = rest

    def __iter__(self) -> Iterator[bytes | float]:
        yield from self._first
        if self._rest:
            self._do()
        yield from self._rest


class _Between:
    """Pieces of an answer with something done before each, but before the head."""

    def __init__(self, pieces: Iterable[bytes | float], do: Callable[[], object]) -> None:
        self._pieces = pieces
        self._do = do

    def __iter__(self) -> Iterator[bytes | float]:
        for number, piece in enumerate(self._pieces):
            if number:
                self._do()
            yield piece


def _asked_to_stall(bench: Bench, ask: Callable[[], Outcome]) -> Outcome:
    """What comes of an answer that begins and does not go on; `ask` sets `bench.hold` once it was given up."""
    if isinstance(bench.wire, Engine):
        bench.says(_LONG)
        bench.hold = threading.Event()
        try:
            return ask()
        finally:
            bench.hold.set()
            bench.hold = None
    _stalls(bench)
    return ask()


def _stalls(bench: Bench) -> None:
    """Has the service begin an answer, where it can stream, and be silent."""
    if bench.streams and "streams" in bench.wire.can:
        # The end of a chunked body is not sent.
        begun = list(bench.answer(_BEGUN).pieces)[:-1]
        bench.plays(lambda _: Answer([*begun, bench.patience_s], "close"))
        return

    def silence(_: Received) -> Answer:
        bench.begun.set()
        return Answer([bench.patience_s], "close")

    bench.plays(silence)


def _given_up(bench: Bench) -> None:
    if bench.hold is not None:
        bench.hold.set()


def _expect_closed(is_closed: bool) -> None:
    demand(is_closed, "the answer to be ended at the service, and its connection closed", "that it goes on")


def _closed(bench: Bench) -> Outcome:
    with LlamaClient(bench.config()) as client:

        def close() -> None:
            bench.begun.wait(bench.patience_s)
            try:
                client.close()
            except Exception as error:  # noqa: BLE001 - raised where the case runs
                bench.broken = error
            _given_up(bench)

        closer = threading.Thread(target=close, name="loopback-closer")
        closer.start()
        outcome = bench.one(client)
        closer.join()
    return outcome


async def _aclosed(bench: Bench) -> Outcome:
    async with AsyncLlamaClient(bench.config()) as client:
        task = asyncio.create_task(bench.aone(client))
        await asyncio.to_thread(bench.begun.wait, bench.patience_s)
        await client.aclose()
        _given_up(bench)
        return await task


async def _cancelled(bench: Bench) -> Outcome:
    async with AsyncLlamaClient(bench.config()) as client:
        task = asyncio.create_task(bench.aone(client))
        await asyncio.to_thread(bench.begun.wait, bench.patience_s)
        task.cancel()
        _given_up(bench)
        outcome = await task
        outcome.is_closed = await asyncio.to_thread(bench.is_closed)
        return outcome


def _gathered(bench: Bench) -> list[Outcome]:
    with LlamaClient(bench.config()) as client, ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda number: bench.one(client, prompt=f"{PROMPT}-{number}"), range(_AT_ONCE)))


async def _agathered(bench: Bench) -> list[Outcome]:
    async with AsyncLlamaClient(bench.config()) as client:
        asked = (bench.aone(client, prompt=f"{PROMPT}-{number}") for number in range(_AT_ONCE))
        return list(await asyncio.gather(*asked))


async def _tasks_left(bench: Bench) -> list[str]:
    async with AsyncLlamaClient(bench.config()) as client:
        await bench.aone(client)
        if bench.streams and "streams" in bench.wire.can:
            if not isinstance(bench.wire, Engine):
                _stalls(bench)
            await bench.aone(client, stops=True)
    for _ in range(20):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            return []
        await asyncio.sleep(_POLL_S)
    return [str(task) for task in others]


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith("loopback")


def _more_threads(before: set[threading.Thread]) -> list[str]:
    return [each.name for each in threading.enumerate() if each not in before and not _is_ours(each)]


CASES: tuple[Case, ...] = (
    consumer_stops_early, client_closed_meanwhile, task_cancelled, event_loop_is_not_blocked,
    concurrent_calls_do_not_mix, nothing_left_open,
)  # fmt: skip
