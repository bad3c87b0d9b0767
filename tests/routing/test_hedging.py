"""The next target is asked too when the first is late: the first answer wins, and the other is stopped upstream."""

from __future__ import annotations

import asyncio
import threading
import time
import types
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from llama_client import AllTargetsFailedError, AsyncLlamaClient, BadRequestError, ChatCompletion, LlamaClient
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, silence, streamed
from tests.routing.asking import (
    MESSAGES,
    MODES,
    PLENTY_S,
    Session,
    ask,
    ask_all,
    auntil,
    config,
    failing,
    good,
    story,
    until,
)
from tests.routing.in_memory import MemoryServer

Answerer = Callable[[Received], Answer]
each_mode = pytest.mark.parametrize("mode", MODES)
_HELD_S = 0.4
HEDGED = {"hedge_after_s": 0.02, "retries": 0}


def once(condition: Callable[[], bool], text: str = "Hello", answer: Answer | None = None) -> Answerer:
    """A server that answers when that has come to pass."""

    def late(request: Received) -> Answer:
        until(condition)
        return answer or good(text)(request)

    return late


def after(seconds: float) -> Answerer:
    """A server that takes its time."""

    def late(request: Received) -> Answer:
        time.sleep(seconds)
        return good("late")(request)

    return late


def was_asked(server: MemoryServer | WireServer) -> Callable[[], bool]:
    return lambda: bool(server.requests)


def has_failed(session: Session, target: str) -> bool:
    return bool(session.client.health()[target].failures_in_row)


_others: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """Clients of the whole run, such as the one that keeps the model loaded, have threads of their own."""
    _others.clear()
    _others.update(threading.enumerate())


def threads() -> list[str]:
    running = [thread for thread in threading.enumerate() if thread not in _others]
    return [thread.name for thread in running if thread.name.startswith("llama-client")]


@each_mode
def test_a_first_that_is_in_time_gets_no_company(mode: str) -> None:
    with MemoryServer(good()) as first, MemoryServer(good()) as second:
        patient = {"hedge_after_s": PLENTY_S}
        assert story(ask(config(first, second, routing=patient), mode)) == [("a/m", "ok", True)]
        assert second.requests == []


@each_mode
def test_the_second_wins_where_the_first_is_late_and_the_first_is_stopped_upstream(mode: str) -> None:
    with WireServer(lambda request: silence()) as first, WireServer(good("second")) as second:
        reply = ask(config(first, second, routing=HEDGED), mode)
        assert reply.text == "second"
        assert sorted(story(reply)) == [("a/m", "cancelled", True), ("b/m", "ok", True)]
        # The connection of the one that lost is closed, so that its server stops too.
        assert first.wait_until_idle(PLENTY_S)
    until(lambda: threads() == [])


@each_mode
def test_the_first_wins_where_it_is_late_and_the_second_later(mode: str) -> None:
    with WireServer(lambda request: silence()) as second, WireServer(once(was_asked(second), "first")) as first:
        reply = ask(config(first, second, routing=HEDGED), mode)
        assert reply.text == "first"
        assert sorted(story(reply)) == [("a/m", "ok", True), ("b/m", "cancelled", True)]
        assert second.wait_until_idle(PLENTY_S)
    until(lambda: threads() == [])


@each_mode
def test_where_the_company_fails_the_first_is_waited_for(mode: str) -> None:
    first_answers = once(lambda: has_failed(session, "b/m"), "first")
    with WireServer(first_answers) as first, MemoryServer(lambda request: failing(500)) as second:
        with Session(config(first, second, routing=HEDGED), mode) as session:
            [reply] = session.many(1)
    assert reply.text == "first"
    assert sorted(story(reply)) == [("a/m", "ok", True), ("b/m", "ServerError", True)]


@each_mode
def test_where_the_late_first_fails_its_company_is_waited_for(mode: str) -> None:
    with WireServer(once(lambda: has_failed(session, "a/m"), "second")) as second:
        with (
            WireServer(once(was_asked(second), answer=failing(500))) as first,
            Session(config(first, second, routing=HEDGED), mode) as session,
        ):
            [reply] = session.many(1)
    assert reply.text == "second"
    assert sorted(story(reply)) == [("a/m", "ServerError", True), ("b/m", "ok", True)]


@each_mode
def test_where_both_fail_both_are_told(mode: str) -> None:
    with MemoryServer(lambda request: failing(500)) as second:
        with WireServer(once(was_asked(second), answer=failing(500))) as first:
            [error] = ask_all(config(first, second, routing=HEDGED), mode, 1)
    assert isinstance(error, AllTargetsFailedError)
    assert sorted(story(error)) == [("a/m", "ServerError", True), ("b/m", "ServerError", True)]


@each_mode
def test_a_callers_mistake_ends_the_race(mode: str) -> None:
    with WireServer(lambda request: silence()) as first, WireServer(lambda request: failing(400)) as second:
        [error] = ask_all(config(first, second, routing=HEDGED), mode, 1)
        assert isinstance(error, BadRequestError)
        assert sorted(story(error)) == [("a/m", "cancelled", True), ("b/m", "BadRequestError", True)]
        assert first.wait_until_idle(PLENTY_S)


@each_mode
def test_many_races_at_once_leave_nothing_behind(mode: str) -> None:
    with WireServer(after(0.06)) as first, WireServer(after(0.02)) as second:
        with Session(config(first, second, routing=HEDGED), mode) as session:
            outcomes = session.many(40, at_once=20)
            health = session.client.health()
        assert [outcome for outcome in outcomes if not isinstance(outcome, ChatCompletion)] == []
        assert {outcome.text for outcome in outcomes} == {"late"}
        assert all(target.in_flight == 0 for target in health.values())
        sent = [attempt.outcome for outcome in outcomes for attempt in outcome.attempts if attempt.sent]
        # One that was cancelled may not have reached its server, or not yet.
        came = len(first.requests) + len(second.requests)
        assert len(sent) - sent.count("cancelled") <= came <= len(sent)
    until(lambda: threads() == [])


def test_a_cancelled_race_stops_both() -> None:
    async def run(tables: dict[str, object]) -> None:
        async with AsyncLlamaClient(tables) as client:
            task = asyncio.create_task(client.ask("hi"))
            await auntil(lambda: bool(first.requests and second.requests))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert all(target.in_flight == 0 for target in client.health().values())
            assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    with WireServer(lambda request: silence()) as first, WireServer(lambda request: silence()) as second:
        asyncio.run(run(config(first, second, routing=HEDGED)))
        assert (len(first.requests), len(second.requests)) == (1, 1)
        assert first.wait_until_idle(PLENTY_S)
        assert second.wait_until_idle(PLENTY_S)


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_hedged_stream_is_read_on_from_the_winner(mode: str) -> None:
    pieces = [OPENAI.preamble(), *(OPENAI.text(f"{number} ") for number in range(20)), *OPENAI.ending()]
    with MemoryServer(lambda request: silence()) as first:
        with MemoryServer(lambda request: streamed(pieces, delay_s=0.01)) as second:
            reply = ask(config(first, second, routing=HEDGED), mode)
    assert reply.text == "".join(f"{number} " for number in range(20))


def test_a_model_in_this_process_can_lose_a_race(demo_model: Path) -> None:
    with WireServer(good("second")) as server:
        tables = config("unused", server, routing={"hedge_after_s": 0.3})
        tables["providers"]["a"] = {"kind": "gguf", "model_path": str(demo_model), "n_ctx": 2048}
        tables["routes"]["chat"]["targets"] = ["a/default", "b/m"]
        with LlamaClient(tables) as client:
            client.ask("hi", model="a/default", max_tokens=1)
            reply = client.chat.completions.create(messages=MESSAGES, max_tokens=2000, temperature=0.9, seed=1)
            assert reply.text == "second"
            assert sorted(story(reply)) == [("a/default", "cancelled", True), ("b/m", "ok", True)]
            assert client.health()["a/default"].in_flight == 0
    until(lambda: threads() == [])


@each_mode
def test_company_that_has_no_place_is_done_without(mode: str) -> None:
    answers = iter([good("first"), after(_HELD_S)])
    with WireServer(lambda request: next(answers)(request)) as server:
        tables = config(server, routing=HEDGED)
        tables["providers"]["a"]["max_concurrency"] = 1
        tables["routes"]["chat"]["targets"] = ["a/m", "a/n"]
        with Session(tables, mode) as session:
            session.many(1)
            started = time.process_time()
            [reply] = session.many(1)
            # It waits; it does not spin.
            assert time.process_time() - started < _HELD_S / 2
    assert reply.text == "late"
    assert story(reply) == [("a/m", "ok", True)]


@each_mode
def test_a_target_that_hangs_behind_its_company_is_learned(mode: str) -> None:
    with MemoryServer(lambda request: silence()) as first, MemoryServer(good()) as second:
        with Session(config(first, second, routing=HEDGED), mode) as session:
            session.many(6)
            assert session.client.health()["a/m"].breaker == "open"
        assert len(first.requests) == 3


def test_cancelling_at_the_moment_of_the_answer_leaves_nothing_behind() -> None:
    async def run(tables: dict[str, object]) -> None:
        async with AsyncLlamaClient(tables) as client:
            for number in range(30):
                task = asyncio.create_task(client.ask("hi"))
                await asyncio.sleep(0.03 + number / 1000)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert {name: health.in_flight for name, health in client.health().items()} == {"a/m": 0, "b/m": 0}

    with WireServer(lambda request: silence()) as first, WireServer(after(0.02)) as second:
        asyncio.run(run(config(first, second, routing={"hedge_after_s": 0.02, "breaker_failures": 1000})))


@types.coroutine
def closed_when(condition: Callable[[], bool], call: Coroutine[Any, Any, object]) -> Generator[Any, Any, None]:
    """Awaits a call until then, and closes its coroutine as the garbage collector does."""
    while True:
        waited_for = call.send(None)
        if condition():
            call.close()
            return
        yield waited_for


def test_a_race_whose_call_is_collected_frees_its_places() -> None:
    async def race(client: AsyncLlamaClient) -> None:
        def in_flight() -> int:
            return sum(health.in_flight for health in client.health().values())

        await closed_when(lambda: in_flight() == 2, client.ask("hi", model=["a/m", "b/m"]))
        # The next call finds the places free.
        await client.ask("hi", model="c/m")
        assert in_flight() == 0

    async def main() -> None:
        with WireServer(lambda _: silence()) as first, WireServer(lambda _: silence()) as second:
            with WireServer(good()) as third:
                configuration = config(first, second, third, routing=HEDGED)
                async with AsyncLlamaClient(configuration) as client, asyncio.timeout(PLENTY_S):
                    await race(client)
                    while len(asyncio.all_tasks()) > 1:
                        await asyncio.sleep(0.01)

    asyncio.run(main())
