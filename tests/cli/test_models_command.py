"""`llama-client models`, in a process of its own, against servers on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_client.providers.gguf.store import ModelStore
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.cli.conftest import run

TAGS = {"models": [{"name": "llama3.1:8b", "size": 4_900_000_000}, {"name": "qwen:7b", "size": 1_000}]}
RUNNING = {"models": [{"name": "qwen:7b", "context_length": 4096}]}
LISTED = {"object": "list", "data": [{"id": "[red]some/model[/red]", "max_model_len": 8192}]}


def answer(asked: Received) -> Answer:
    return as_json({"/api/tags": TAGS, "/api/ps": RUNNING, "/v1/models": LISTED}[asked.path])


@pytest.fixture
def servers(clean_home: Path) -> Iterator[str]:
    """An Ollama and a vLLM that run, and a Groq that cannot be reached; returns the address."""
    with WireServer(answer) as server:
        (clean_home / "work" / "llama-client.toml").write_text(
            f'[providers.ollama]\nbase_url = "{server.url}"\n'
            f'[providers.vllm]\nkind = "openai"\nbase_url = "{server.url}/v1"\n'
            '[providers.cloud]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n',
            encoding="utf-8",
        )
        yield server.url


def test_the_table_shows_what_is_reached_and_served(servers: str, demo_pulled: ModelStore) -> None:
    ran = run("models")
    assert (ran.code, ran.err) == (0, "")
    lines = {" ".join(line.split()) for line in ran.out.splitlines()}
    assert "ollama: reached" in lines
    assert "ollama/qwen:7b 4,096 loaded" in lines
    assert any(line.startswith("vllm/[red]some/model[/red] 8,192") for line in lines)
    assert any(line.startswith("cloud (openai): not reached: no connection") for line in lines)
    assert any(line.startswith("gguf/smollm2-135m") for line in lines)


def test_json_is_one_document_with_everything(servers: str, demo_pulled: ModelStore) -> None:
    ran = run("models", "--json")
    assert (ran.code, ran.err) == (0, "")
    providers = {provider["provider"]: provider for provider in json.loads(ran.out)["providers"]}
    assert list(providers) == ["ollama", "vllm", "cloud", "gguf"]
    assert [model["target"] for model in providers["ollama"]["models"]] == ["ollama/llama3.1:8b", "ollama/qwen:7b"]
    assert [model["is_loaded"] for model in providers["ollama"]["models"]] == [False, True]
    assert providers["ollama"]["models"][0]["name"] == "llama-3.1-8b-instruct"
    assert (providers["cloud"]["is_reachable"], providers["cloud"]["models"]) == (False, [])
    assert "Connection refused" in providers["cloud"]["error"]


def test_what_the_catalogue_knows_is_shown_where_a_provider_is_not_reached(
    clean_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-a-secret-key")
    monkeypatch.setenv("GROQ_BASE_URL", "http://127.0.0.1:1")
    ran = run("models", "--json")
    groq = next(p for p in json.loads(ran.out)["providers"] if p["provider"] == "groq")
    models = {model["target"]: model for model in groq["models"]}
    assert models["groq/openai/gpt-oss-20b"]["input_usd_per_mtok"] == "0.075"
    assert "groq/llama-3.1-8b-instant" not in models
    assert "gsk-a-secret-key" not in ran.out + ran.err


def test_what_servers_say_cannot_steer_the_terminal(clean_home: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2Jm\u202e/x\r"
    listed = {"object": "list", "data": [{"id": evil}]}
    failed = {"error": {"message": evil, "type": "x", "code": 401}}
    with (
        WireServer(lambda _: as_json(listed)) as one,
        WireServer(lambda _: as_json(failed, status=401)) as other,
    ):
        (clean_home / "work" / "llama-client.toml").write_text(
            f'[providers.a]\nkind = "openai"\nbase_url = "{one.url}"\n'
            f'[providers.b]\nkind = "openai"\nbase_url = "{other.url}"\n',
            encoding="utf-8",
        )
        listing, asking = run("models"), run("chat", "-m", "b/m", "hi")
    assert r"a/\x1b]0;owned\x07\x1b[2Jm\u202e/x\r" in listing.out
    shown = listing.out + listing.err + asking.out + asking.err
    assert not any(sign in shown for sign in ("\x1b", "\x07", "\u202e", "\r"))
