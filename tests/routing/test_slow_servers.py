"""A server that reads a long prompt is slow, not dead: what shows that it lives, and what happens if nothing does."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from llama_client import APITimeoutError, ChatCompletion
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import OLLAMA, OPENAI, Dialect
from llama_client.testing.loopback import (
    Answer,
    Received,
    WireServer,
    as_json,
    head,
    paced,
    silence,
    streamed,
)
from tests.lengths import two_modes
from tests.routing.asking import MODES, PLENTY_S, Session, config, story
from tests.routing.in_memory import MemoryServer

streams = pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
each_mode = pytest.mark.parametrize("mode", MODES)
FIRST_S = 1.5
READING_S = 5.0


def progress(done: int) -> bytes:
    """As llama.cpp's server sends it with `return_progress`."""
    delta = {"role": "assistant", "content": None}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    event["choices"] = [{"index": 0, "delta": delta, "finish_reason": None}]
    event["prompt_progress"] = {"total": 9000, "cache": 0, "processed": done, "time_ms": 1}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


SIGNS: dict[str, bytes] = {
    "comments": b": still here\n\n",
    "empty lines": b"\n",
    "events without data": b"event: ping\n\n",
    "role chunks": OPENAI.preamble(),
    "progress": progress(1000),
}


def reading(sign: bytes, *, pauses: int = 6) -> Answer:
    """A stream that shows that sign while the prompt is read."""
    return streamed([*[sign] * pauses, OPENAI.text("Hello") + b"".join(OPENAI.ending())], delay_s=READING_S / pauses)


def silent(seconds: float, dialect: Dialect = OPENAI, *, with_head: bool = False) -> Callable[[bool], Answer]:
    """An answer that is complete after so long, without a byte before, or with nothing but its head."""

    def answer(wants_stream: bool) -> Answer:
        good = dialect.good(streams=wants_stream)
        if not with_head:
            return Answer([seconds, good.content])
        first, *rest = good.pieces
        return Answer([first, seconds, Answer(rest).content])

    return answer


def server_that(answer: Callable[[bool], Answer], alive: Answer | None) -> Callable[[Received], Answer]:
    """`alive`: what it answers to any other request; None: nothing."""

    def answers(request: Received) -> Answer:
        if request.method == "POST":
            return answer(bool(request.json.get("stream")))
        return silence() if alive is None else alive

    return answers


def asked(server: MemoryServer | WireServer, method: str) -> list[str]:
    return [request.path for request in server.requests if request.method == method]


def rules(**more: Any) -> dict[str, Any]:
    return {"first_content_s": FIRST_S, "retries": 2, "breaker_failures": 1, **more}


LIVING = {
    "200": as_json({"data": []}),
    "404": as_json({"error": "no such path"}, status=404),
    "401": as_json({"error": "who are you?"}, status=401),
    "501": as_json({}, status=501),
}


@streams
@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_of_life_in_a_stream_keeps_a_lone_target(mode: str, sign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    treat_as_cloud(monkeypatch)
    with MemoryServer(server_that(lambda _: reading(SIGNS[sign]), None)) as server:
        with Session(config(server, routing=rules()), mode, FakeClock()) as session:
            [reply] = session.many(1)
            assert isinstance(reply, ChatCompletion), reply
            assert reply.text == "Hello"
            assert [attempt.outcome for attempt in reply.attempts] == ["ok"]
        assert len(server.requests) == 1


@streams
@pytest.mark.parametrize("alive", LIVING)
def test_a_silent_server_of_ones_own_that_answers_anything_is_waited_for(mode: str, alive: str) -> None:
    answers = server_that(silent(READING_S), LIVING[alive])
    with MemoryServer(answers) as server, Session(config(server, routing=rules()), mode, FakeClock()) as session:
        [reply] = session.many(1)
        assert isinstance(reply, ChatCompletion), reply
        assert len(asked(server, "POST")) == 1
        assert asked(server, "GET") == ["/v1/models"]


@two_modes
def test_over_sockets_it_is_waited_for_too(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.http.exchange._LIVENESS_CHECK_AFTER_S", 0.05)
    was_checked = threading.Event()

    def answers(request: Received) -> Answer:
        if request.method == "GET":
            was_checked.set()
            return LIVING["200"]
        assert was_checked.wait(PLENTY_S)
        return OPENAI.good(streams=bool(request.json.get("stream")))

    with WireServer(answers) as server, Session(config(server, routing=rules(first_content_s=0.05)), mode) as session:
        [reply] = session.many(1, timeout=PLENTY_S)
        assert isinstance(reply, ChatCompletion), reply
        assert len(asked(server, "POST")) == 1
        assert asked(server, "GET")[0] == "/v1/models"


@streams
def test_over_sockets_one_that_shows_no_life_is_given_up(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.http.exchange._LIVENESS_TIMEOUT_S", 0.05)
    with WireServer(lambda _: silence()) as slow, MemoryServer(lambda _: OPENAI.good(streams=True)) as other:
        with Session(config(slow, other, routing=rules(first_content_s=0.05)), mode) as session:
            [reply] = session.many(1)
    assert isinstance(reply, ChatCompletion), reply
    assert story(reply) == [("a/m", "APITimeoutError", True), ("b/m", "ok", True)]


@streams
def test_a_stream_that_has_begun_may_pause(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    treat_as_cloud(monkeypatch)
    answers = server_that(silent(READING_S, with_head=True), None)
    with MemoryServer(answers) as server, Session(config(server, routing=rules()), mode, FakeClock()) as session:
        [reply] = session.many(1)
        assert isinstance(reply, ChatCompletion), reply
        assert len(server.requests) == 1


@streams
def test_a_server_of_ones_own_is_waited_for_although_another_target_is_left(mode: str) -> None:
    first = server_that(silent(READING_S), LIVING["200"])
    with MemoryServer(first) as slow, MemoryServer(lambda _: OPENAI.good(streams=True)) as other:
        with Session(config(slow, other, routing=rules()), mode, FakeClock()) as session:
            [reply] = session.many(1)
    assert isinstance(reply, ChatCompletion), reply
    assert reply.target == "a/m"
    assert other.requests == []


@streams
def test_a_stream_is_looked_after_again_and_again(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.http.exchange._LIVENESS_CHECK_AFTER_S", 1.0)
    with MemoryServer(server_that(silent(READING_S), LIVING["200"])) as server:
        with Session(config(server, routing=rules()), mode, FakeClock()) as session:
            [reply] = session.many(1)
    assert isinstance(reply, ChatCompletion), reply
    assert len(asked(server, "GET")) > 1


def dying(checks: Iterable[Answer]) -> Callable[[Received], Answer]:
    left = iter(checks)
    return lambda request: silence() if request.method == "POST" else next(left, silence())


NOT_LIVING: dict[str, Callable[[], Callable[[Received], Answer]]] = {
    "silent": lambda: dying([]),
    "a gateway in front of nothing": lambda: server_that(lambda _: silence(), as_json({}, status=502)),
    "dead after a while": lambda: dying([LIVING["200"]]),
}


@streams
@pytest.mark.parametrize("way", NOT_LIVING)
def test_a_server_that_shows_no_life_is_given_up(mode: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.http.exchange._LIVENESS_CHECK_AFTER_S", 20.0)
    with MemoryServer(NOT_LIVING[way]()) as slow, MemoryServer(lambda _: OPENAI.good(streams=True)) as other:
        fake = FakeClock()
        before = fake.now
        with Session(config(slow, other, routing=rules()), mode, fake) as session:
            [reply] = session.many(1)
            assert fake.now - before < 60.0
            assert isinstance(reply, ChatCompletion), reply
            assert story(reply)[0] == ("a/m", "APITimeoutError", True)
            assert reply.target == "b/m"
            assert session.client.health()["a/m"].breaker == "open"


def treat_as_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loopback address counts as that of a cloud."""
    monkeypatch.setattr("llama_client.providers.http.sdk.is_nearby", lambda _: False)


@streams
@pytest.mark.parametrize("sign", ["comments", "role chunks"])
def test_a_cloud_has_its_time_to_the_first_content_where_another_target_is_left(
    mode: str, sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    treat_as_cloud(monkeypatch)
    endless = reading(SIGNS[sign], pauses=6)
    with MemoryServer(lambda _: endless) as slow, MemoryServer(lambda _: OPENAI.good(streams=True)) as other:
        with Session(config(slow, other, routing=rules()), mode, FakeClock()) as session:
            [reply] = session.many(1)
    assert isinstance(reply, ChatCompletion), reply
    assert reply.target == "b/m"
    assert asked(slow, "GET") == []


@streams
def test_a_silent_cloud_is_not_asked_and_given_up(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    treat_as_cloud(monkeypatch)
    with MemoryServer(server_that(lambda _: silence(), LIVING["200"])) as server:
        with Session(config(server, routing=rules(retries=0)), mode, FakeClock()) as session:
            [error] = session.many(1)
    assert isinstance(error, APITimeoutError)
    assert str(error) == f"no answer within {FIRST_S:.3g} s"
    assert asked(server, "GET") == []


@two_modes
@pytest.mark.parametrize("way", ["silent", "comments"])
def test_the_timeout_of_the_call_holds_and_is_no_failure_of_a_living_server(mode: str, way: str) -> None:
    def answer(wants_stream: bool) -> Answer:
        if way == "silent" or not wants_stream:
            return silence()
        return paced(Answer([head(200, {"content-type": "text/event-stream"}), *[b": here\n\n"] * 100], "stall"), 5.0)

    with MemoryServer(server_that(answer, LIVING["200"])) as server:
        fake = FakeClock()
        before = fake.now
        with Session(config(server, routing=rules()), mode, fake) as session:
            [error] = session.many(1, timeout=120.0)
            assert fake.now - before == pytest.approx(120.0, abs=0.5)
            assert isinstance(error, APITimeoutError)
            assert str(error) == "no answer within 120 s"
            assert session.client.health()["a/m"].breaker == "closed"
        assert len(asked(server, "POST")) == 1


@two_modes
@pytest.mark.parametrize("dialect", [OPENAI, OLLAMA], ids=str)
def test_a_timeout_is_told_as_it_was_set(mode: str, dialect: Dialect) -> None:
    answers = server_that(lambda _: silence(), as_json({"models": [], "data": []}))
    with MemoryServer(answers) as server, Session(dialect.config(server.url), mode, FakeClock()) as session:
        [error] = session.many(1, timeout=1.1)
    assert str(error) == "no answer within 1.1 s"
    assert [attempt.reason for attempt in error.attempts] == ["no answer within 1.1 s"]


@two_modes
def test_each_target_of_a_route_tells_its_part_of_the_time(mode: str) -> None:
    routing = {"deadline_s": 1.3, "retries": 0}
    with MemoryServer(lambda _: silence()) as server:
        targets = {name: {"kind": "openai", "base_url": server.url + OPENAI.base} for name in ("a", "b")}
        routes = {"all": {"targets": ["a/m", "b/m"]}}
        several = {"providers": targets, "routing": routing, "routes": routes, "default_model": "all"}
        with Session(several, mode, FakeClock()) as session:
            [error] = session.many(1)
    assert len(error.attempts) == 2
    for attempt in error.attempts:
        assert re.fullmatch(r"no answer within 0\.\d+ s of the call's 1\.3 s", attempt.reason)


@each_mode
def test_a_silence_that_is_too_long_for_the_provider_is_told_as_such(mode: str) -> None:
    with MemoryServer(server_that(lambda _: silence(), None)) as server:
        with Session(OPENAI.config(server.url, timeout_s=0.3), mode, FakeClock()) as session:
            [error] = session.many(1)
    assert str(error) == "no answer within 0.3 s"


@streams
def test_the_check_goes_with_the_key_to_the_same_address(mode: str) -> None:
    with MemoryServer(server_that(silent(READING_S), LIVING["200"])) as server:
        tables = config(server, routing=rules())
        tables["providers"]["a"]["api_key"] = "sk-some-key"
        with Session(tables, mode, FakeClock()) as session:
            session.many(1)
    [request] = [request for request in server.requests if request.method == "GET"]
    assert request.headers["authorization"] == "Bearer sk-some-key"


# Of the address alone: no name is resolved.
OWN = ["127.0.0.1", "localhost", "10.1.2.3", "192.168.0.7", "172.16.9.9", "[::1]", "[fd00::7]", "100.64.3.4"]
OWN += ["gpu", "gpu.local", "llm.internal", "nas.home.arpa", "127.1"]
CLOUDS = ["api.openai.com", "8.8.8.8", "[2606:4700::1]", "gpu.example.com", "local.example"]


@pytest.mark.parametrize("host", [*OWN, *CLOUDS])
def test_a_server_of_ones_own_is_known_by_its_address(host: str) -> None:
    from llama_client.providers.http.sdk import http_service_of

    assert http_service_of("openai").is_users_own_at(f"http://{host}:8000/v1") == (host in OWN)


@pytest.mark.parametrize(
    ("kind", "url", "is_own"),
    [
        ("vllm", "https://gpu.example.com/v1", True),
        ("ollama", "https://gpu.example.com", True),
        ("ollama", "https://ollama.com", False),
        ("groq", "https://api.groq.com", False),
        ("groq", "http://127.0.0.1:9", True),
    ],
    ids=str,
)
def test_a_local_kind_is_ones_own_wherever_it_runs(kind: str, url: str, is_own: bool) -> None:
    from llama_client.providers.http.sdk import http_service_of

    assert http_service_of(kind).is_users_own_at(url) == is_own
