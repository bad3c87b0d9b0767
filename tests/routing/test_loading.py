"""A model that Ollama is still loading is not taken for dead; an Ollama that does not answer anything is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_client import APITimeoutError, ChatCompletion, LlamaClient, ModelLoadError
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import OLLAMA
from llama_client.testing.loopback import Answer, Received, as_json, silence
from tests.routing.asking import MODES, Session, story
from tests.routing.in_memory import MemoryServer


def loading(seconds: float, *, is_there: bool = True) -> Callable[[Received], Answer]:
    """An Ollama that takes so long until its first answer."""

    def answer(request: Received) -> Answer:
        if request.path == "/api/ps":
            return as_json({"models": []}) if is_there else silence()
        # Which ends with the test, as a server's sleep would not.
        return Answer([seconds, OLLAMA.good(streams=request.json["stream"]).content])

    return answer


def ollama(url: str, **routing: Any) -> dict[str, Any]:
    providers = {"x": {"kind": "ollama", "base_url": url}}
    return {"default_model": "x/m", "providers": providers, "routing": {"retries": 0, **routing}}


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_stream_waits_for_a_model_that_is_being_loaded(mode: str) -> None:
    with (
        MemoryServer(loading(8.0)) as server,
        Session(ollama(server.url, first_content_s=2.0), mode, FakeClock()) as session,
    ):
        [reply] = session.many(1)
        assert isinstance(reply, ChatCompletion)
        assert reply.text == "Hello"
        assert [request.path for request in server.requests].count("/api/ps") == 1
        assert session.client.health()["x/m"].breaker == "closed"


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_stream_gives_up_on_an_ollama_that_answers_nothing(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = ollama("", first_content_s=10.0)
    with MemoryServer(loading(30.0, is_there=False)) as server:
        tables["providers"]["x"]["base_url"] = server.url
        fake = FakeClock()
        before = fake.now
        with Session(tables, mode, fake) as session:
            [error] = session.many(1)
            assert fake.now - before < 25.0
    assert isinstance(error, APITimeoutError)
    assert story(error) == [("x/m", "APITimeoutError", True)]


@pytest.mark.parametrize("mode", MODES)
def test_a_timeout_while_it_is_loading_is_no_fault(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.http.exchange._LIVENESS_CHECK_AFTER_S", 10.0)
    tables = ollama("", first_content_s=10.0, breaker_failures=1)
    with MemoryServer(loading(150.0)) as server:
        tables["providers"]["x"]["base_url"] = server.url
        with Session(tables, mode, FakeClock()) as session:
            [error] = session.many(1, timeout=50.0)
            assert isinstance(error, APITimeoutError)
            assert session.client.health()["x/m"].breaker == "closed"


@pytest.mark.parametrize("mode", ["call-sync", "call-async"])
def test_a_call_that_is_quick_asks_nothing_more(mode: str) -> None:
    with MemoryServer(loading(0.0)) as server, Session(ollama(server.url), mode, FakeClock()) as session:
        session.many(3)
        assert [request.path for request in server.requests] == ["/api/chat"] * 3


@pytest.mark.parametrize("mode", MODES)
def test_an_attempt_that_is_shorter_than_the_first_asking_asks_before_its_end(mode: str) -> None:
    tables = ollama("", breaker_failures=1)
    with MemoryServer(loading(200.0)) as server:
        tables["providers"]["x"]["base_url"] = server.url
        with Session(tables, mode, FakeClock()) as session:
            [error] = session.many(1, timeout=50.0)
            assert isinstance(error, APITimeoutError)
            assert session.client.health()["x/m"].breaker == "closed"
        assert [request.path for request in server.requests].count("/api/ps") == 1


@pytest.mark.parametrize("mode", ["call-sync", "call-async"])
def test_a_whole_answer_may_take_longer_than_a_model_is_loaded(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.http.exchange._LIVENESS_CHECK_AFTER_S", 10.0)
    with MemoryServer(loading(80.0)) as server, Session(ollama(server.url), mode, FakeClock()) as session:
        [reply] = session.many(1, timeout=1000.0)
    assert isinstance(reply, ChatCompletion)


def test_a_file_that_cannot_be_loaded_is_a_fault(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    providers = {"x": {"kind": "gguf", "model_path": str(broken)}}
    with LlamaClient({"providers": providers, "routing": {"breaker_failures": 2}}) as client:
        for _ in range(2):
            with pytest.raises(ModelLoadError):
                client.ask("hi", model="x/default")
        assert client.health()["x/default"].breaker == "open"
