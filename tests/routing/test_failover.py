"""Failover from the caller's side, over loopback: the same attempts in every mode, for every fault."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import threading
from collections.abc import Callable
from email.utils import formatdate
from functools import partial

import pytest

from llama_client import (
    AllTargetsFailedError,
    APIConnectionError,
    APITimeoutError,
    AsyncLlamaClient,
    BadRequestError,
    ChatCompletion,
    LlamaClient,
    LlamaClientError,
    RateLimitError,
    ServerError,
)
from llama_client.routing.circuit_breaker import HalfOpenTrial
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import (
    Answer,
    Received,
    WireServer,
    as_json,
    closed_port,
    hangup,
    silence,
    streamed,
    whole,
)
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
    in_turn,
    story,
    timed,
    until,
)
from tests.routing.in_memory import MemoryServer

each_mode = pytest.mark.parametrize("mode", MODES)
# What a server may do wrong before any content, and what it is taken for.
FAULTS = {
    "429": (failing(429), "RateLimitError"),
    "500": (failing(500), "ServerError"),
    "502 html": (whole(b"<html>Bad gateway</html>", status=502, headers={"content-type": "text/html"}), "ServerError"),
    "503": (failing(503), "OverloadedError"),
    "401": (failing(401), "AuthenticationError"),
    "402": (failing(402), "QuotaExceededError"),
    "404": (failing(404), "ModelNotFoundError"),
    "413": (failing(413), "RequestTooLargeError"),
    "hangup": (hangup(), "APIConnectionError"),
    "reset": (hangup("reset"), "APIConnectionError"),
    "garbage": (whole(b"{no json", headers={"content-type": "application/json"}), "InvalidResponseError"),
}
PASSING = {"429", "500", "502 html", "503", "hangup", "reset", "garbage"}


@each_mode
@pytest.mark.parametrize("fault", FAULTS)
def test_the_attempts_are_the_same_in_every_mode(fault: str, mode: str) -> None:
    answer, error = FAULTS[fault]
    with MemoryServer(in_turn(answer)) as first, MemoryServer(in_turn(answer, None)) as second:
        fake = FakeClock()
        outcome = ask_all(config(first, second), mode, 1, time=fake)[0]
        lost = [("a/m", error, True), ("b/m", error, True)]
        if fault in PASSING:
            # Both may be asked again; the second is soonest ready where waits grow, and answers.
            assert isinstance(outcome, ChatCompletion)
            assert story(outcome) == [*lost, ("a/m", error, True), ("b/m", "ok", True)]
            assert fake.slept == [0.5]
        else:
            assert isinstance(outcome, AllTargetsFailedError)
            assert story(outcome) == lost
            assert fake.slept == []
        assert len(first.requests) + len(second.requests) == len(story(outcome))


@each_mode
@pytest.mark.parametrize("at_once", [1, 30])
def test_a_dead_first_target_costs_no_call(mode: str, at_once: int) -> None:
    with closed_port() as dead, MemoryServer(good()) as healthy:
        outcomes = ask_all(config(dead, healthy), mode, 90, at_once=at_once)
    assert [outcome for outcome in outcomes if not isinstance(outcome, ChatCompletion)] == []
    asked = [outcome for outcome in outcomes if story(outcome)[0][1] == "APIConnectionError"]
    # Those that set out before the breaker had opened, and none after.
    assert 3 <= len(asked) <= 2 + at_once
    assert story(outcomes[-1]) == [("a/m", "skipped", False), ("b/m", "ok", True)]
    reason = outcomes[-1].attempts[0].reason
    assert re.fullmatch(r"circuit open after \d+ consecutive failures; half-open in [\d.]+ s", reason or "")
    assert len(healthy.requests) == 90


@each_mode
def test_a_recovered_target_is_asked_again(mode: str) -> None:
    fake = FakeClock()
    answers = in_turn(failing(500), failing(500), failing(500), None)
    with MemoryServer(answers) as first, MemoryServer(good()) as second:
        tables = config(first, second, routing={"retries": 0})

        def after_cooldown(request: Received) -> Answer:
            # Time goes by while the second answers.
            fake.now += 10
            return good()(request)

        second._answers = after_cooldown
        outcomes = ask_all(tables, mode, 8, time=fake)
    targets = [outcome.target for outcome in outcomes if isinstance(outcome, ChatCompletion)]
    assert targets == ["b/m"] * 5 + ["a/m"] * 3


NOW = formatdate(1_795_000_100, usegmt=True)
WAITS: dict[str, tuple[dict[str, str], str, float]] = {
    "integer": ({"retry-after": "2"}, "", 2.0),
    "decimal": ({"retry-after": "1.5"}, "", 1.5),
    "milliseconds": ({"retry-after-ms": "250"}, "", 0.25),
    "date": ({"retry-after": formatdate(1_795_000_109, usegmt=True), "date": NOW}, "", 9.0),
    "groq's reset": ({"x-ratelimit-reset-requests": "1m3.5s"}, "", 63.5),
    "groq's text": ({}, "Rate limit reached. Please try again in 1m47.5s.", 107.5),
    "together's reset": ({"x-ratelimit-reset": "7"}, "", 7.0),
}  # fmt: skip


def limited(headers: dict[str, str], text: str) -> Answer:
    body = {"error": {"message": text or "slow down", "type": "requests", "code": "rate_limit_exceeded"}}
    return as_json(body, status=429, headers=headers)


@each_mode
@pytest.mark.parametrize("form", WAITS)
def test_a_lone_target_is_waited_for_as_long_as_it_says(form: str, mode: str) -> None:
    headers, text, wait_s = WAITS[form]
    fake = FakeClock()
    with MemoryServer(in_turn(limited(headers, text), None)) as server:
        reply = ask(config(server), mode, fake)
    assert fake.slept == [pytest.approx(wait_s)]
    assert reply.attempts[1].waited_s == pytest.approx(wait_s)


@each_mode
@pytest.mark.parametrize("form", WAITS)
def test_nobody_waits_while_another_target_could_answer(form: str, mode: str) -> None:
    headers, text, _ = WAITS[form]
    fake = FakeClock()
    with MemoryServer(in_turn(limited(headers, text), None)) as first, MemoryServer(good()) as second:
        outcomes = ask_all(config(first, second), mode, 2, time=fake)
    assert fake.slept == []
    assert story(outcomes[0]) == [("a/m", "RateLimitError", True), ("b/m", "ok", True)]
    assert story(outcomes[1]) == [("a/m", "skipped", False), ("b/m", "ok", True)]


@each_mode
def test_a_wait_beyond_the_deadline_is_raised_at_once(mode: str) -> None:
    fake = FakeClock()
    with MemoryServer(in_turn(limited({"retry-after": "90"}, ""))) as server:
        with pytest.raises(RateLimitError) as caught:
            ask(config(server), mode, fake, timeout=60.0)
    assert caught.value.retry_after_s == 90.0
    assert fake.slept == []
    assert len(server.requests) == 1


@each_mode
def test_headers_that_say_that_little_is_left_steer_elsewhere(mode: str) -> None:
    low = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
    fake = FakeClock()

    def answer(request: Received) -> Answer:
        streams = request.json.get("stream", False)
        if not streams:
            return as_json(OPENAI.whole(), headers=low)
        return streamed([OPENAI.preamble(), OPENAI.text("hi"), *OPENAI.ending()], headers=low)

    with MemoryServer(answer) as first, MemoryServer(good()) as second:
        outcomes = ask_all(config(first, second), mode, 3, time=fake)
    assert [outcome.target for outcome in outcomes if isinstance(outcome, ChatCompletion)] == ["a/m", "b/m", "b/m"]


def test_tokens_that_are_left_are_held_against_what_the_request_needs() -> None:
    left = {"x-ratelimit-remaining-tokens": "1000", "x-ratelimit-reset-tokens": "30s"}
    with (
        MemoryServer(lambda request: as_json(OPENAI.whole(), headers=left)) as first,
        MemoryServer(good()) as second,
    ):
        with LlamaClient(config(first, second)) as client:
            assert client.ask("hi").target == "a/m"
            assert client.ask("hi", max_tokens=2000).target == "b/m"
            assert client.ask("hi", max_tokens=500).target == "a/m"
            health = client.health()["a/m"]
            assert health.remaining_tokens == 1000
            assert health.in_flight == 0


@each_mode
def test_a_callers_mistake_is_raised_at_once(mode: str) -> None:
    with MemoryServer(in_turn(failing(400))) as first, MemoryServer(good()) as second:
        with pytest.raises(BadRequestError):
            ask(config(first, second), mode)
        assert (len(first.requests), len(second.requests)) == (1, 0)


@each_mode
def test_a_target_that_says_nothing_leaves_time_for_the_next(mode: str) -> None:
    with MemoryServer(lambda request: silence()) as first, MemoryServer(good()) as second:
        reply = ask(config(first, second), mode, FakeClock(), timeout=1.0)
    assert story(reply) == [("a/m", "APITimeoutError", True), ("b/m", "ok", True)]
    assert reply.attempts[0].latency_s == pytest.approx(0.5)


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_the_first_content_of_a_clouds_stream_has_a_limit_of_its_own(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_client.providers.http.sdk.is_nearby", lambda _: False)
    preamble = streamed([OPENAI.preamble()], "stall")
    with MemoryServer(in_turn(preamble)) as first, MemoryServer(good()) as second:
        reply = ask(config(first, second, routing={"first_content_s": 7.0}), mode, FakeClock())
    assert story(reply) == [("a/m", "APITimeoutError", True), ("b/m", "ok", True)]
    assert reply.attempts[0].latency_s == pytest.approx(7.0)


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_stream_that_stalls_is_interrupted(mode: str) -> None:
    stalling = streamed([OPENAI.preamble(), OPENAI.text("Hel")], "stall")
    fake = FakeClock()
    before = fake.now
    with MemoryServer(in_turn(stalling)) as server:
        outcome = ask_all(config(server, routing={"stall_s": 7.0}), mode, 1, time=fake)[0]
    assert fake.now - before == pytest.approx(7.0)
    assert type(outcome).__name__ == "StreamInterruptedError"
    assert isinstance(outcome.__cause__, APITimeoutError)
    assert outcome.partial.text == "Hel"


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_pings_do_not_keep_a_stalled_stream_alive(mode: str) -> None:
    pings = [OPENAI.preamble(), OPENAI.text("Hel"), *[b": ping\n\n"] * 50]
    fake = FakeClock()
    before = fake.now
    with MemoryServer(lambda request: streamed(pings, "stall", delay_s=1.0)) as server:
        outcome = ask_all(config(server, routing={"stall_s": 6.0}), mode, 1, time=fake)[0]
    # One second to the text.
    assert fake.now - before == pytest.approx(8.0, abs=1.0)
    assert isinstance(outcome.__cause__, APITimeoutError)


def test_a_slow_reader_is_no_stall() -> None:
    pieces = [OPENAI.text("a"), OPENAI.text("b"), *OPENAI.ending()]
    fake = FakeClock()
    with MemoryServer(lambda request: streamed(pieces, delay_s=1.0)) as server:
        with Session(config(server, routing={"stall_s": 4.0}), "stream-sync", fake) as session:
            stream = session.client.chat.completions.create(messages=MESSAGES, stream=True)
            for _ in stream:
                fake.turn(6.0)
            assert stream.completion.text == "ab"


@each_mode
def test_the_deadline_of_the_configuration_holds_where_a_call_gives_none(mode: str) -> None:
    fake = FakeClock()
    before = fake.now
    with MemoryServer(lambda request: silence()) as server:
        with pytest.raises(APITimeoutError):
            ask(config(server, routing={"deadline_s": 7.0}), mode, fake)
    assert fake.now - before == pytest.approx(7.0)


@each_mode
def test_a_call_tells_how_often_it_was_tried(mode: str) -> None:
    with MemoryServer(in_turn(failing(500))) as server:
        with pytest.raises(ServerError) as caught:
            ask(config(server), mode, FakeClock())
    assert story(caught.value) == [("a/m", "ServerError", True)] * 3
    assert len(server.requests) == 3


@pytest.fixture
def waiting_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many calls have begun to wait for the half-open trial of another one."""
    add, begun = HalfOpenTrial.add_callback, itertools.count()
    count = 0

    def counted(trial: HalfOpenTrial, callback: Callable[[], object]) -> None:
        nonlocal count
        count = next(begun) + 1
        add(trial, callback)

    monkeypatch.setattr(HalfOpenTrial, "add_callback", counted)
    return lambda: count


@each_mode
def test_half_open_lets_one_call_through_while_200_wait(mode: str, waiting_calls: Callable[[], int]) -> None:
    go_on, first_came = threading.Event(), threading.Event()
    fake = FakeClock()

    def answer(request: Received) -> Answer:
        if not is_up:
            return failing(500)
        first_came.set()
        assert go_on.wait(PLENTY_S)
        return good()(request)

    is_up = False
    with WireServer(answer) as server, Session(config(server, routing={"retries": 0}), mode, fake) as session:
        assert all(isinstance(outcome, ServerError) for outcome in session.many(3))
        assert session.client.health()["a/m"].breaker == "open"
        fake.now += 30
        is_up = True
        while_waiting: list[int] = []

        def watch() -> None:
            assert first_came.wait(PLENTY_S)
            until(lambda: waiting_calls() >= 199)
            while_waiting.append(len(server.requests) - 3)
            go_on.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        outcomes = session.many(200, at_once=200)
        watcher.join()
        assert [outcome for outcome in outcomes if not isinstance(outcome, ChatCompletion)] == []
        assert while_waiting == [1]
        assert len(server.requests) == 203
        assert session.client.health()["a/m"].breaker == "closed"


@each_mode
def test_a_trial_that_fails_fails_those_who_waited_for_it(mode: str, waiting_calls: Callable[[], int]) -> None:
    def answer(request: Received) -> Answer:
        if len(server.requests) > 3:
            until(lambda: waiting_calls() >= 49)
        return failing(500)

    with WireServer(answer) as server, Session(config(server, routing={"retries": 0}), mode) as session:
        session.many(3)
        outcomes = session.many(50, at_once=50)
        assert all(isinstance(outcome, ServerError) for outcome in outcomes)
        assert len(server.requests) == 4
        assert sum("another call" in (outcome.attempts[-1].reason or "") for outcome in outcomes) == 49


@each_mode
def test_no_more_requests_are_under_way_than_a_provider_takes(mode: str) -> None:
    under_way, most, has_queue = 0, 0, False
    lock = threading.Lock()

    def answer(request: Received) -> Answer:
        nonlocal under_way, most, has_queue
        with lock:
            under_way += 1
            most = max(most, under_way)
        # All the others are there before the first one is answered.
        until(lambda: has_queue or (under_way == 3 and session.client.health()["a/m"].queued == 27))
        with lock:
            has_queue = True
            under_way -= 1
        return good()(request)

    with WireServer(answer) as server:
        tables = config(server)
        tables["providers"]["a"]["max_concurrency"] = 3
        with Session(tables, mode) as session:
            outcomes = session.many(30, at_once=30)
    assert [outcome for outcome in outcomes if not isinstance(outcome, ChatCompletion)] == []
    assert most == 3
    assert sum(1 for outcome in outcomes if outcome.attempts[0].waited_s) == 27


def test_places_are_given_in_the_order_of_arrival() -> None:
    all_are_there = threading.Event()

    def answer(request: Received) -> Answer:
        assert all_are_there.wait(PLENTY_S)
        return good()(request)

    with WireServer(answer) as server:
        tables = config(server)
        tables["providers"]["a"]["max_concurrency"] = 1

        async def run() -> list[int]:
            order: list[int] = []
            async with AsyncLlamaClient(tables) as client:

                def are_there(calls: int) -> bool:
                    return _present(client) == calls

                async def one(number: int) -> None:
                    await client.ask(str(number))
                    order.append(number)

                tasks = []
                for number in range(10):
                    tasks.append(asyncio.create_task(one(number)))
                    await auntil(partial(are_there, number + 1))
                # One that leaves the queue does not hold up the others.
                tasks[5].cancel()
                all_are_there.set()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert client.health()["a/m"].queued == 0
            return order

        assert asyncio.run(run()) == [0, 1, 2, 3, 4, 6, 7, 8, 9]


def _present(client: AsyncLlamaClient) -> int:
    """The calls that have a place or wait for one."""
    health = client.health().get("a/m")
    return 0 if health is None else health.in_flight + health.queued


def test_a_full_provider_that_stays_full_makes_way_for_the_next() -> None:
    with WireServer(lambda request: silence()) as first, MemoryServer(good()) as second:
        tables = config(first, second)
        tables["providers"]["a"]["max_concurrency"] = 1

        async def run() -> ChatCompletion:
            async with timed(FakeClock())[1](tables) as client:
                holder = asyncio.create_task(client.ask("hold", model="a/m", timeout=20))
                await auntil(lambda: _present(client) == 1)
                # Of which it waits one half for a place, really; the time of its second attempt stands still.
                reply = await client.ask("hi", timeout=0.2)
                holder.cancel()
                await asyncio.gather(holder, return_exceptions=True)
                assert client.health()["a/m"].in_flight == 0
                return reply

        reply = asyncio.run(run())
    assert story(reply) == [("a/m", "OverloadedError", False), ("b/m", "ok", True)]


def test_a_trial_that_has_content_lets_the_others_ask_for_themselves(waiting_calls: Callable[[], int]) -> None:
    """A trial interrupted after its first content: the waiting calls get neither its error nor its text."""
    broken = [OPENAI.preamble(), OPENAI.text("of the trial"), OPENAI.event({"error": {"message": "gone"}})]
    count = 0

    def answer(request: Received) -> Answer:
        nonlocal count
        count += 1
        if count == 1:
            return failing(500)
        if count == 2:
            until(lambda: waiting_calls() >= 1)
            # In one piece, so that its end has come before a waiting call runs.
            return Answer([streamed(broken).content])
        return good("of another")(request)

    with WireServer(answer) as server:
        tables = config(server, routing={"retries": 0, "breaker_failures": 1, "breaker_cooldown_s": 30})
        fake = FakeClock()
        with Session(tables, "stream-async", fake) as session:
            session.many(1)
            fake.turn(30)
            trial, other = session.many(2, at_once=2)
    assert type(trial).__name__ == "StreamInterruptedError"
    assert isinstance(other, ChatCompletion)
    assert other.text == "of another"


def asking_in_a_thread(client: LlamaClient) -> tuple[threading.Thread, list[Exception]]:
    """A call under way in a thread of its own, and where its error will be."""
    errors: list[Exception] = []

    def ask_it() -> None:
        try:
            client.ask("hi")
        except LlamaClientError as error:
            errors.append(error)

    thread = threading.Thread(target=ask_it)
    thread.start()
    return thread, errors


def waits_between_attempts(client: LlamaClient | AsyncLlamaClient) -> bool:
    return bool(client._context.closing._callbacks)


def test_closing_a_client_ends_the_wait_of_its_calls() -> None:
    with MemoryServer(in_turn(limited({"retry-after": "60"}, ""))) as server:
        client = LlamaClient(config(server))
        thread, errors = asking_in_a_thread(client)
        until(lambda: waits_between_attempts(client))
        client.close()
        thread.join(PLENTY_S)
        assert not thread.is_alive()
    assert [str(error) for error in errors] == ["the client was closed"]


def test_closing_an_async_client_ends_the_wait_of_its_calls() -> None:
    async def run(url: str) -> BaseException | None:
        client = AsyncLlamaClient(config(url))
        task = asyncio.create_task(client.ask("hi"))
        await auntil(lambda: waits_between_attempts(client))
        await client.aclose()
        await asyncio.wait([task], timeout=PLENTY_S)
        return task.exception()

    with MemoryServer(in_turn(limited({"retry-after": "60"}, ""))) as server:
        assert str(asyncio.run(run(server.url))) == "the client was closed"


@each_mode
def test_the_logs_tell_the_whole_story_and_no_secret(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="llama_client")
    with closed_port() as dead, MemoryServer(in_turn(limited({"retry-after": "2"}, ""), None)) as server:
        tables = config(dead, server, routing={"breaker_failures": 1})
        tables["providers"]["b"]["api_key"] = "sk-secret-of-the-test"
        fake = FakeClock()
        with Session(tables, mode, fake) as session:
            [first, second] = session.many(2, tags={"team": "llamas"})
    told = [record.getMessage() for record in caplog.records if record.name == "llama_client.calls"]
    assert len(told) == len(first.attempts) + len(second.attempts)
    assert f"{first.request_id} a/m error" in told[0]
    assert "(APIConnectionError)" in told[0]
    assert any("b/m ok after a wait of" in line for line in told)
    assert any("a/m skipped (circuit open after" in line for line in told)
    assert any("circuit opened after" in record.getMessage() for record in caplog.records)
    assert "sk-secret" not in caplog.text
    assert "llamas hum" not in caplog.text


def test_closing_a_client_ends_the_wait_for_a_place() -> None:
    with MemoryServer(lambda request: streamed([OPENAI.preamble(), OPENAI.text("Hel")], "stall")) as server:
        tables = config(server)
        tables["providers"]["a"]["max_concurrency"] = 1
        client = LlamaClient(tables)
        held = client.chat.completions.create(messages=MESSAGES, stream=True)
        thread, errors = asking_in_a_thread(client)
        until(lambda: (client.health()["a/m"].in_flight, client.health()["a/m"].queued) == (1, 1))
        client.close()
        thread.join(PLENTY_S)
        assert not thread.is_alive()
        held.close()
    assert [str(error) for error in errors] == ["the client was closed"]


@each_mode
def test_a_wait_for_ever_ends_after_an_hour(mode: str) -> None:
    fake = FakeClock()
    with MemoryServer(in_turn(limited({"retry-after": "1e9"}, ""), None)) as first, MemoryServer(good()) as second:
        with Session(config(first, second), mode, fake) as session:
            assert [reply.target for reply in session.many(2)] == ["b/m", "b/m"]
            fake.now += 3600
            assert [reply.target for reply in session.many(1)] == ["a/m"]


def test_a_stream_that_is_closed_after_its_first_content_was_an_answer() -> None:
    answers = in_turn(failing(500), None, failing(500), None, failing(500), None)
    with MemoryServer(answers) as server, LlamaClient(config(server, routing={"retries": 0})) as client:
        for _ in range(3):
            with pytest.raises(ServerError):
                client.ask("hi")
            client.chat.completions.create(messages=MESSAGES, stream=True).close()
        assert client.health()["a/m"].failures_in_row == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_process_has_places_of_its_own() -> None:
    with WireServer(lambda request: _held_or_good(request)) as server:
        tables = config(server)
        tables["providers"]["a"]["max_concurrency"] = 1
        with LlamaClient(tables) as client:
            held = client.chat.completions.create(messages=MESSAGES, stream=True)
            child = os.fork()
            if child == 0:
                os._exit(0 if client.ask("hi", timeout=PLENTY_S).text == "Hello" else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            held.close()


def _held_or_good(request: Received) -> Answer:
    if request.json.get("stream"):
        return streamed([OPENAI.preamble(), OPENAI.text("Hel")], "stall")
    return good()(request)


@pytest.mark.parametrize("mode", [each for each in MODES if each.endswith("-sync")])
def test_a_hedge_for_which_no_thread_is_left_is_a_typed_error(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if thread.name == "llama-client-attempt":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    with MemoryServer() as first, MemoryServer() as second:
        with Session(config(first, second, routing={"hedge_after_s": 1.0}), mode) as session:
            outcome = session.many(1)[0]
            assert [each.in_flight for each in session.client.health().values()] == [0, 0]
    assert isinstance(outcome, APIConnectionError)
    assert "can't start new thread" in str(outcome)
