"""Connections that a server closes between two requests, or just when the next one comes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llama_client import APIConnectionError, AsyncLlamaClient, ChatCompletion, LlamaClient, LlamaClientError
from llama_client.providers.http import sync_wire
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, WireServer, hangup, head
from llama_client.types.completion import Attempt
from tests.routing.asking import MODES, Session

each_mode = pytest.mark.parametrize("mode", MODES)
calls = pytest.mark.parametrize("mode", ["call-sync", "call-async"])
ends = pytest.mark.parametrize("end", ["close", "reset"])
PRICE = {"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}


def config(server: WireServer, **tables: Any) -> dict[str, Any]:
    """One target, tried once, whose circuit opens at the first failure."""
    providers = {"a": {"kind": "openai", "base_url": f"{server.url}/v1"}}
    routing = {"retries": 0, "breaker_failures": 1}
    return {"default_model": "a/m", "providers": providers, "routing": routing, "prices": [PRICE], **tables}


def good(mode: str) -> Answer:
    usage = {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32}
    return OPENAI.good(streams=mode.startswith("stream"), usage=usage)


def answered(session: Session) -> ChatCompletion:
    [reply] = session.many(1)
    assert isinstance(reply, ChatCompletion), reply
    assert reply.text == "Hello"
    return reply


def only(reply: ChatCompletion) -> Attempt:
    [attempt] = reply.attempts
    return attempt


@ends
@each_mode
def test_a_used_connection_that_ends_without_an_answer_is_replaced_at_once(mode: str, end: Any) -> None:
    with WireServer() as server, Session(config(server), mode) as session:
        # The third request comes over a new connection.
        server.answer(good(mode), hangup(end), good(mode))
        answered(session)
        lost, attempt = answered(session).attempts
        assert (len(server.requests), server.accepted) == (3, 2)
        assert (lost.outcome, attempt.outcome) == ("error", "ok")
        assert "made again over a new one" in str(lost.reason)
        health = session.client.health()["a/m"]
        assert (health.breaker, health.failures_in_row, health.last_error) == ("closed", 0, None)


@each_mode
def test_what_may_have_been_received_twice_is_paid_as_estimated(mode: str) -> None:
    with WireServer() as server, Session(config(server), mode) as session:
        server.answer(good(mode), hangup(), good(mode))
        first, second = answered(session), answered(session)
    assert (first.cost.status, second.cost.status) == ("exact", "estimated")
    assert second.usage == first.usage
    assert second.usage.prompt_tokens == 30
    lost, attempt = second.attempts
    assert (lost.sent, attempt.sent) == (True, True)
    assert lost.estimated_usage is not None
    assert lost.cost is not None
    assert attempt.cost is not None
    assert (lost.cost.status, attempt.cost.status) == ("estimated", "exact")
    assert lost.cost.usd is not None
    assert attempt.cost.usd is not None
    assert attempt.cost.usd == first.cost.usd
    assert second.cost.usd == lost.cost.usd + attempt.cost.usd


@calls
def test_a_new_connection_that_ends_without_an_answer_is_a_failure(mode: str) -> None:
    with WireServer() as server, Session(config(server), mode) as session:
        server.answer(hangup())
        [error] = session.many(1)
        assert isinstance(error, APIConnectionError)
        assert len(server.requests) == 1
        assert session.client.health()["a/m"].breaker == "open"


@calls
def test_a_request_is_sent_again_once(mode: str) -> None:
    with WireServer() as server, Session(config(server), mode) as session:
        server.answer(good(mode), hangup(), hangup(), good(mode))
        answered(session)
        [error] = session.many(1)
        assert isinstance(error, APIConnectionError)
        assert len(server.requests) == 3
        assert [attempt.outcome for attempt in error.attempts] == ["error", "error"]
        assert "made again over a new one" in str(error.attempts[0].reason)
        assert session.client.health()["a/m"].breaker == "open"


@each_mode
def test_a_byte_of_an_answer_is_an_answer(mode: str) -> None:
    with WireServer() as server, Session(config(server), mode) as session:
        server.answer(good(mode), Answer([head(200)[:8]], "close"), good(mode))
        answered(session)
        [error] = session.many(1)
        if isinstance(error, LlamaClientError):
            assert isinstance(error, APIConnectionError)
            assert len(server.requests) == 2
        else:
            # HTTPX does not tell whether any byte has come.
            assert len(server.requests) == 3


def test_the_caller_who_stops_gets_no_second_request() -> None:
    async def run(server: WireServer) -> None:
        async with AsyncLlamaClient(config(server)) as client:
            await client.ask("hi")
            task = asyncio.create_task(client.ask("hi"))
            while len(server.requests) < 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with WireServer() as server:
        server.answer(good("call"), Answer((), "stall"))
        asyncio.run(run(server))
        assert len(server.requests) == 2


@each_mode
def test_under_a_budget_the_second_request_is_an_attempt_with_money_of_its_own(mode: str, tmp_path: Path) -> None:
    tables = {
        "ledger": {"enabled": True, "url": f"sqlite:///{tmp_path / 'ledger.db'}"},
        "budgets": [{"usd": 1.0, "window": "total"}],
    }
    with WireServer() as server, Session(config(server, **tables), mode) as session:
        server.answer(good(mode), hangup(), good(mode))
        params = {"max_tokens": 10}
        [first] = session.many(1, **params)
        [second] = session.many(1, **params)
        assert isinstance(second, ChatCompletion)
        assert [(attempt.outcome, attempt.sent) for attempt in second.attempts] == [("error", True), ("ok", True)]
        assert "made again over a new one" in str(second.attempts[0].reason)
        assert len(server.requests) == 3
        health = session.client.health()["a/m"]
        assert (health.breaker, health.failures_in_row, health.last_error) == ("closed", 0, None)
        assert first.cost.usd < second.cost.usd


@each_mode
def test_the_idle_connections_that_a_server_closed_are_not_used(mode: str) -> None:
    with WireServer(lambda _: good(mode)) as server, Session(config(server), mode) as session:
        for _ in range(3):
            attempt = only(answered(session))
            assert attempt.reason is None
            assert attempt.cost is not None
            assert attempt.cost.status == "exact"
            server.hang_up()
        assert len(server.requests) == 3


def blind(_: object) -> bool:
    """What a look at a connection finds that is closed right after it."""
    return False


def check_unwritten(server: WireServer, reply: ChatCompletion) -> None:
    assert len(server.requests) == 2
    assert reply.cost.status == "exact"
    assert "closed the idle connection" in str(only(reply).reason)


@pytest.mark.own_wire
def test_nothing_is_paid_for_a_request_that_was_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.http.sync_wire.is_readable", blind)
    answers = iter([Answer(good("call").pieces, "reset"), good("call")])
    with WireServer(lambda _: next(answers)) as server, LlamaClient(config(server)) as client:
        client.ask("hi")
        assert server.wait_until_idle()
        check_unwritten(server, client.ask("hi"))


@pytest.mark.own_wire
def test_nothing_is_paid_for_an_async_request_that_was_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.http.async_wire.is_readable", blind)
    answers = iter([Answer(good("call").pieces, "reset"), good("call")])

    async def run(server: WireServer) -> ChatCompletion:
        async with AsyncLlamaClient(config(server)) as client:
            await client.ask("hi")
            # Blocks the loop, which so does not come to read the reset.
            assert server.wait_until_idle()
            return await client.ask("hi")

    with WireServer(lambda _: next(answers)) as server:
        check_unwritten(server, asyncio.run(run(server)))


@each_mode
def test_a_server_that_closes_after_each_answer_fails_no_call(mode: str) -> None:
    """As llama.cpp's server does after a stream, although it announces that the connection stays."""
    closing = Answer(good(mode).pieces, "close")
    with WireServer(lambda _: closing) as server, Session(config(server), mode) as session:
        for _ in range(25):
            assert answered(session).attempts[-1].outcome == "ok"


@pytest.mark.own_wire
@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_where_a_server_closes_after_streams_their_connections_are_not_kept(mode: str) -> None:
    answers = iter([Answer(good(mode).pieces, "close"), good(mode), good(mode)])
    with WireServer(lambda _: next(answers)) as server, Session(config(server), mode) as session:
        answered(session)
        assert server.wait_until_idle()
        answered(session)
        # Closed by the client, since this one was kept by the server.
        assert server.wait_until_idle()
        answered(session)
        assert server.accepted == 3


@pytest.mark.own_wire
@calls
def test_a_connection_is_not_used_for_longer_than_the_server_announces(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(sync_wire, "time", SimpleNamespace(monotonic=lambda: now))
    announced = good(mode).content.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=1, max=100\r\n\r\n", 1)
    with WireServer(lambda _: Answer([announced])) as server, Session(config(server), mode) as session:
        monkeypatch.setattr(session._runner.get_loop(), "time", lambda: now)
        answered(session)
        answered(session)
        assert server.accepted == 1
        now += 0.9
        answered(session)
        assert server.accepted == 2
