"""Where answers are kept: databases, several processes, models in files, and what is played apart from what is real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.clock import Clock
from llama_client.config.provider_tables import GgufConfig
from llama_client.providers.gguf.identity import identity_of
from llama_client.providers.gguf.provider import GgufProvider
from llama_client.providers.gguf.store import ModelStore
from llama_client.testing import FakeProvider
from llama_client.testing.cassettes import cassette
from llama_client.testing.loopback import WireServer
from tests.costs.conftest import new_postgres as new_postgres
from tests.routing.asking import good

Config = dict[str, Any]


def configured(server: WireServer, url: str) -> Config:
    """One target at a server that really answers."""
    return {
        "default_model": "some/m",
        "providers": {"some": {"kind": "openai", "api_key": "k", "base_url": f"{server.url}/v1"}},
        "cache": {"enabled": True, "url": url},
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def cache_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database's address."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'answers.db'}"
    new: Callable[[], str] = request.getfixturevalue("new_postgres")
    return new()


def test_answers_are_found_by_other_clients_also_under_local_only(cache_url: str) -> None:
    with WireServer(good("x")) as server:
        config = configured(server, cache_url)
        for local_only in (False, True, False):
            with LlamaClient(config, local_only=local_only) as client:
                assert client.ask("a").text == "x"
                # Asked anew, it is written over.
                client.with_options(cache="refresh").ask("b")
    assert len(server.requests) == 1 + 3


_OTHER = """
import json, sys
from llama_client import LlamaClient
with LlamaClient(json.loads(sys.argv[1])) as client:
    print(json.dumps([client.ask(text).is_cached for text in "ab"]))
"""


def test_another_process_finds_them(tmp_path: Path) -> None:
    with WireServer(good("x")) as server:
        config = configured(server, f"sqlite:///{tmp_path / 'answers.db'}")
        with LlamaClient(config) as client:
            client.ask("a")
            client.with_options(cache="off").ask("b")
            # The first client is open meanwhile.
            ran = subprocess.run(
                [sys.executable, "-c", _OTHER, json.dumps(config)], capture_output=True, text=True, check=True
            )
            assert json.loads(ran.stdout) == [True, False]
            assert client.ask("b").is_cached


def test_a_database_that_does_not_answer_fails_no_call(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("psycopg")
    with WireServer(good("x")) as server:
        with LlamaClient(configured(server, "postgresql://ann:hum-hum@127.0.0.1:9/answers")) as client:
            assert [client.ask(text).text for text in "ab"] == ["x", "x"]
    [warning] = [record for record in caplog.records if record.name == "llama_client.cache"]
    assert "hum-hum" not in warning.getMessage()


def test_what_is_played_is_not_taken_for_real(tmp_path: Path) -> None:
    with WireServer(good("real")) as server:
        config = configured(server, f"sqlite:///{tmp_path / 'answers.db'}")
        with FakeProvider() as fake:
            fake.says("played")
            with LlamaClient(config) as client:
                client.ask("a")
        with LlamaClient(config) as client:
            assert client.ask("a").text == "real"


def test_a_recording_asks_for_everything(tmp_path: Path) -> None:
    with WireServer(good("real")) as server:
        config = configured(server, f"sqlite:///{tmp_path / 'answers.db'}")
        with LlamaClient(config) as client:
            client.ask("a")
        with cassette(tmp_path / "tape.json", mode="record"), LlamaClient(config) as client:
            assert not client.ask("a").is_cached


def gguf(folder: Path, **options: Any) -> GgufProvider:
    config = GgufConfig.model_validate({"model_path": str(folder / "model.gguf"), **options})
    return GgufProvider(config, ModelStore(folder), Clock())


def test_the_identity_of_a_model_is_that_of_its_files(tmp_path: Path) -> None:
    model, adapter = tmp_path / "model.gguf", tmp_path / "adapter.gguf"
    lora = [{"path": str(adapter), "scale": 0.5, "name": "ours"}]
    seen: list[str | None] = []

    def look(name: str = "default", **options: Any) -> None:
        provider = gguf(tmp_path, **options)
        seen.append(provider.model_identity(name))
        assert provider.model_identity(name) == seen[-1]
        provider.close()

    model.write_bytes(b"a" * 10)
    adapter.write_bytes(b"b" * 10)
    look()
    look(n_ctx=256)
    look(lora=lora)
    look("default+ours", lora=lora)
    look("default+ours", lora=[{**lora[0], "scale": 1.0}])
    # Of the same size and time, as in an image of a container.
    os.utime(model, ns=(0, 0))
    look()
    model.write_bytes(b"c" * 10)
    os.utime(model, ns=(0, 0))
    identity_of.cache_clear()
    look()
    assert None not in seen
    assert len({*seen}) == len(seen)


def test_a_file_that_is_missing_or_unknown_has_no_identity(tmp_path: Path) -> None:
    provider = gguf(tmp_path)
    assert provider.model_identity("default") is None
    assert provider.model_identity("default+nobody") is None
    assert provider.model_identity("unknown") is None
    provider.close()


def test_a_model_in_this_process_is_not_asked_twice(demo_model: Path, tmp_path: Path) -> None:
    laptop = {"kind": "gguf", "model_path": str(demo_model), "n_ctx": 2048, "n_parallel": 2, "n_threads": 1}
    config = {
        "default_model": "laptop/default",
        "providers": {"laptop": laptop},
        "cache": {"enabled": True, "url": f"sqlite:///{tmp_path / 'answers.db'}"},
    }
    texts = []
    for _ in range(2):
        with LlamaClient(config) as client:
            reply = client.ask("Say hello.", max_tokens=4, temperature=0)
            texts.append((reply.text, reply.is_cached))
    assert texts == [(texts[0][0], False), (texts[0][0], True)]
    # What it is not held to, each answer to the request is not held to.
    numbers = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 2}
    schema = {"type": "object", "properties": {"list": numbers}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    told = []
    with LlamaClient(config) as client:
        for _ in range(2):
            reply = client.chat.completions.create(
                messages=[{"role": "user", "content": "A list."}], response_format=form, max_tokens=40, temperature=0
            )
            told.append((reply.text, reply.is_cached, reply.warnings))
    assert told == [(told[0][0], False, told[0][2]), (told[0][0], True, told[0][2])]
    assert "is not held to all of the schema" in told[0][2][0]
    with closing(LlamaClient({**config, "providers": {"laptop": {**laptop, "n_ctx": 1024}}})) as client:
        assert not client.ask("Say hello.", max_tokens=4, temperature=0).is_cached
