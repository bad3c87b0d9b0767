"""Providers in this process: a model's file is needed to record them, and not to replay them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client.errors import RateLimitError
from llama_client.providers import services
from llama_client.providers.base import Charge, Provider, ProviderCall
from llama_client.providers.services import Service
from llama_client.testing.cassettes import cassette
from llama_client.types.completion import ChatCompletionChunk
from tests.cassettes.playing import no_sockets, plain
from tests.routing.asking import MODES, ask, ask_all

CONFIG: dict[str, Any] = {"default_model": "hum/loud", "routing": {"retries": 0}}


@pytest.mark.parametrize("mode", MODES)
def test_a_model_in_this_process_is_replayed_without_its_file(
    mode: str, config: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "c.json"
    with cassette(path, "record"):
        recorded = ask(config, mode, max_tokens=8, seed=1)
    assert recorded.text
    for table in config["providers"].values():
        table["model_path"] = str(tmp_path / "gone.gguf")
    with no_sockets(), cassette(path):
        replayed = ask(config, mode, max_tokens=8, seed=1)
    assert plain(replayed) == plain(recorded)
    assert replayed.cost.status == "free"
    assert replayed.timing is not None
    assert recorded.timing is not None
    assert replayed.timing.load_s == pytest.approx(recorded.timing.load_s, abs=1e-5)
    assert replayed.timing.tokens_per_s == pytest.approx(recorded.timing.tokens_per_s, abs=1e-5)


class Humming(Provider):
    """An engine of a package."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        facts = call.facts
        facts.sent, facts.http_status, facts.provider_request_id = True, 200, "p-1"
        facts.rate_limit = {"requests": {"limit": 5, "remaining": 4, "reset_s": 1.5}}
        facts.charge = Charge(Decimal("0.000012"), "engine")
        facts.queue_s = 0.25
        if self.fails:
            raise RateLimitError("too loud", retry_after_s=0.01, http_status=429, provider_code="loud", retryable=False)
        facts.warn("the llama was tired")
        for text, end in (("Hm", None), ("mm", "stop")):
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": end}
            yield ChatCompletionChunk.model_validate({"id": "c", "created": 1, "model": "loud", "choices": [choice]})

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        for chunk in self.chunks(call):
            await asyncio.sleep(0)
            yield chunk


class _Entry:
    """An installed package's entry point."""

    name, value, module, dist = "hum", "hum:ROW", "hum", None

    def __init__(self, engine: Provider) -> None:
        self._engine = engine

    def load(self) -> Service:
        return Service(name="hum", title="Hum", base_url="", factory=lambda _: self._engine, is_local=True)


def _install(engine: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_entry_points", lambda: {"hum": _Entry(engine)})
    services.service_of.cache_clear()


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    services.service_of.cache_clear()


@pytest.mark.parametrize("fails", [False, True], ids=["answers", "fails"])
@pytest.mark.parametrize("mode", MODES)
def test_the_engine_of_a_package_is_replayed(
    mode: str, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Humming(fails=fails)
    _install(engine, monkeypatch)
    path = tmp_path / "c.json"
    with cassette(path, "record"):
        recorded = ask_all(CONFIG, mode, 2)
    with cassette(path) as tape:
        monkeypatch.setattr(engine, "chunks", _never)
        monkeypatch.setattr(engine, "achunks", _never)
        replayed = ask_all(CONFIG, mode, 2)
    assert [plain(each) for each in replayed] == [plain(each) for each in recorded]
    tape.assert_all_used()
    first = replayed[0]
    if fails:
        assert (type(first), first.retry_after_s, first.provider_code) == (RateLimitError, 0.01, "loud")
    else:
        assert (first.text, str(first.cost.usd), first.timing.queue_s) == ("Hmmm", "0.000012", 0.25)
        assert first.warnings == ["the llama was tired"]
        assert first.attempts[0].rate_limit["requests"]["remaining"] == 4


def _never(_: ProviderCall) -> Any:
    raise AssertionError("a replay asked the engine")
