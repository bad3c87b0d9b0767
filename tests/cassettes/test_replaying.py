"""What was recorded is answered again: no socket, no key, and the same answers, attempts and errors."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.routing.concurrency import ClosingEvent
from llama_client.testing.cassettes import cassette
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import DIALECTS, OPENAI, Dialect
from llama_client.testing.ledger import ledger_rows
from llama_client.testing.loopback import (
    Answer,
    Received,
    WireServer,
    as_json,
    closed_port,
    cut,
    garbage,
    gzipped,
    hangup,
    silence,
    streamed,
    whole,
)
from tests.cassettes.playing import both, no_sockets, plain
from tests.routing.asking import MESSAGES, MODES, ask, ask_all, broken_after, config, failing, good, in_turn

LIMITS = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "7", "x-request-id": "req-1"}
TOOLS: list[dict[str, object]] = [
    {"type": "function", "function": {"name": "hum", "parameters": {"type": "object", "properties": {}}}}
]
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "hum", "arguments": '{"a": 1.0}'}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 100}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_a_cassette_answers_as_each_kind_of_server_did(dialect: Dialect, mode: str, tmp_path: Path) -> None:
    def answers(request: Received) -> Answer:
        if request.method == "GET":
            return as_json({"error": "not found"}, status=404)
        return dialect.good(streams=request.json.get("stream", False), text="Grüße 🦙")

    with WireServer(answers) as server:
        recorded, replayed, tape = both(tmp_path / "c.json", dialect.config(server.url, api_key="k" * 20), mode, 2)
    assert replayed == recorded
    assert recorded[0]["choices"][0]["message"]["content"] == "Grüße 🦙"
    tape.assert_all_used()


def _tool_call(*, streams: bool) -> Answer:
    if not streams:
        message = {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning": "They hum."}
        body = OPENAI.whole()
        body["choices"] = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
        return as_json(body, headers=LIMITS)
    deltas: list[dict[str, Any]] = [{"reasoning": "They "}, {"reasoning": "hum."}, {"tool_calls": [CALL]}]
    events = [OPENAI.event(OPENAI.whole() | {"object": "chat.completion.chunk", "choices": [
        {"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas]  # fmt: skip
    return streamed([*events, *OPENAI.ending()], headers=LIMITS)


@pytest.mark.parametrize("mode", MODES)
def test_tools_reasoning_images_and_limits_are_replayed(mode: str, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Why?"}, PICTURE]}]
    with WireServer(lambda request: _tool_call(streams=request.json.get("stream", False))) as server:
        recorded, replayed, _ = both(tmp_path / "c.json", config(server), mode, messages=messages, tools=TOOLS)
    assert replayed == recorded
    assert recorded[0]["attempts"][0]["rate_limit"]["requests"]["remaining"] == 7
    assert recorded[0]["attempts"][0]["provider_request_id"] == "req-1"
    assert "iVBORw0KGgoiVBORw0KGgo" not in (tmp_path / "c.json").read_text("utf-8")


FAULTS: dict[str, Any] = {
    "401": failing(401),
    "429-retried": in_turn(failing(429, retry_after="0"), None),
    "500": failing(500),
    "html": whole(b"<html>bad gateway</html>", status=502, headers={"content-type": "text/html"}),
    "no-json": whole(b"{", headers={"content-type": "application/json"}),
    "hangup": hangup(),
    "reset": hangup("reset"),
    "garbage": garbage(),
    "broken-after-text": broken_after("Hel", "lo"),
    "cut": streamed([OPENAI.preamble(), OPENAI.text("Hel")[:-9]], "cut"),
    "ends-early": streamed([OPENAI.preamble(), OPENAI.text("Hel")], "eof"),
    "torn": streamed([*cut(OPENAI.preamble() + OPENAI.text("Grüße 🦙"), 1), *OPENAI.ending()]),
    "compressed": gzipped(json.dumps(OPENAI.whole()).encode(), headers={"content-type": "application/json"}),
    "unpacked-wrongly": whole(b"no gzip", headers={"content-encoding": "gzip"}),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_replayed(fault: str, mode: str, tmp_path: Path) -> None:
    answer = FAULTS[fault]
    routing = {"retries": 1 if fault == "429-retried" else 0}
    with WireServer(answer if callable(answer) else lambda _: answer) as server:
        recorded, replayed, _ = both(tmp_path / "c.json", config(server, routing=routing), mode)
    assert replayed == recorded


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_is_not_there_is_replayed(mode: str, tmp_path: Path) -> None:
    with closed_port() as url:
        recorded, replayed, _ = both(tmp_path / "c.json", config(url, routing={"retries": 0}), mode)
    assert replayed == recorded
    assert "no server listens" in recorded[0][1]


@pytest.mark.parametrize("mode", MODES)
def test_a_timeout_is_replayed_at_once(mode: str, tmp_path: Path) -> None:
    with WireServer(lambda _: silence()) as server:
        recorded, replayed, _ = both(tmp_path / "c.json", config(server, routing={"retries": 0}), mode, timeout=0.2)
    assert replayed == recorded
    assert recorded[0][0] == "APITimeoutError"


@pytest.mark.parametrize("mode", MODES)
def test_failover_is_replayed(mode: str, tmp_path: Path) -> None:
    with WireServer(lambda _: failing(500)) as bad, WireServer(good()) as well:
        recorded, replayed, _ = both(tmp_path / "c.json", config(bad, well, routing={"retries": 0}), mode)
    assert replayed == recorded
    assert [each["target"] for each in recorded[0]["attempts"]] == ["a/m", "b/m"]


@pytest.mark.parametrize("mode", MODES)
def test_a_hedge_is_replayed(mode: str, tmp_path: Path) -> None:
    with WireServer(lambda _: silence()) as slow, WireServer(good()) as quick:
        routing = {"retries": 0, "hedge_after_s": 0.05}
        recorded, replayed, _ = both(tmp_path / "c.json", config(slow, quick, routing=routing), mode)
    assert replayed == recorded
    assert [each["outcome"] for each in recorded[0]["attempts"]] == ["cancelled", "ok"]


@pytest.mark.parametrize("mode", MODES)
def test_a_replay_does_not_wait_between_attempts(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.json"
    answer = in_turn(failing(429, retry_after="4"), None)
    with WireServer(answer) as server, cassette(path, "record", clock=FakeClock()):
        there = config(server)
        recorded = ask(there, mode)
    monkeypatch.setattr(ClosingEvent, "sleep", _never)
    monkeypatch.setattr(ClosingEvent, "asleep", _never)
    with no_sockets(), cassette(path):
        replayed = ask(there, mode)
    assert plain(replayed) == plain(recorded)
    assert replayed.timing is not None
    assert (replayed.timing.total_s or 0) >= 4


def _never(*_: object) -> None:
    raise AssertionError("a replay waits in real time")


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_the_times_of_a_stream_are_kept(mode: str, tmp_path: Path) -> None:
    answer = streamed([OPENAI.preamble(), OPENAI.text("a"), OPENAI.text("b"), *OPENAI.ending()], delay_s=0.03)
    path = tmp_path / "c.json"
    with WireServer(lambda _: answer) as server:
        there = config(server)
        with cassette(path, "record"):
            recorded = ask(there, mode)
    clock = FakeClock()
    with no_sockets(), cassette(path, timing="recorded", clock=clock):
        replayed = ask(there, mode)
    assert plain(replayed) == plain(recorded)
    lines = json.loads(path.read_text("utf-8"))["exchanges"][0]["answer"]["lines"]
    assert replayed.timing is not None
    assert replayed.timing.ttft_s == pytest.approx(lines[1]["at_s"], abs=1e-6)
    assert replayed.timing.total_s >= lines[-1]["at_s"] - 1e-6
    assert clock.slept


@pytest.mark.parametrize("mode", MODES)
def test_equal_requests_are_answered_in_their_order(mode: str, tmp_path: Path) -> None:
    texts = iter("abcdef")
    with WireServer(lambda request: OPENAI.good(streams=request.json.get("stream", False), text=next(texts))) as server:
        recorded, replayed, _ = both(tmp_path / "c.json", config(server), mode, 4)
    assert replayed == recorded
    assert [each["choices"][0]["message"]["content"] for each in replayed] == list("abcd")


def test_concurrent_requests_may_come_in_any_order(tmp_path: Path) -> None:
    def echo(request: Received) -> Answer:
        return OPENAI.good(streams=False, text=request.json["messages"][0]["content"])

    path = tmp_path / "c.json"
    with WireServer(echo) as server:
        there = config(server)
        with cassette(path, "record"):
            for text in "abcd":
                ask(there, "call-sync", messages=[{"role": "user", "content": text}])
        with no_sockets(), cassette(path) as tape:
            for text in "dbca":
                assert ask(there, "call-async", messages=[{"role": "user", "content": text}]).text == text
    tape.assert_all_used()


def test_a_replay_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.json"
    with WireServer(lambda _: DIALECTS[0].good(streams=False)) as server:
        url = server.url
        with cassette(path, "record"):
            ask(DIALECTS[0].config(url, api_key="k" * 20), "call-sync")
    with cassette(path):
        [outcome] = ask_all(DIALECTS[0].config("https://api.groq.com"), "call-sync", 1)
    assert outcome.text == "Hello"


def test_what_is_replayed_is_not_in_the_ledger_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_LEDGER__ENABLED", "true")
    path = tmp_path / "c.json"
    ledger = {"enabled": True, "url": "sqlite"}
    counts = []
    with WireServer(good()) as server:
        there = {**config(server), "ledger": ledger}
        with cassette(path, "record"):
            ask(there, "call-sync")
    modes: list[Any] = ["replay", "once", None]
    for mode in modes:
        with cassette(path, mode) if mode is not None else nullcontext(), LlamaClient(there) as client:
            if mode is not None:
                client.chat.completions.create(messages=MESSAGES)
            counts.append(len(ledger_rows(client)))
    assert counts == [1, 1, 1]
