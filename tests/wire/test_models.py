"""`client.providers.list()`: what each kind of provider says that it serves, and who could not be asked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, ConfigError, LlamaClient
from llama_client.models import ProviderInfo
from llama_client.providers.gguf.store import ModelStore
from llama_client.providers.http.provider import HttpProvider
from llama_client.testing.dialects import DIALECTS, GROQ, OLLAMA, OPENAI, TOGETHER, Dialect
from llama_client.testing.loopback import (
    Answer,
    Received,
    WireServer,
    as_json,
    closed_port,
    endless,
    silence,
    whole,
)
from llama_client.testing.wire_format import SSE
from tests.routing.asking import PLENTY_S, until

each_colour = pytest.mark.parametrize("colour", ["sync", "async"])
each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=str)
KEY = "sk-test-secret-1234567890"


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No keys in the environment, and no Ollama."""
    for name in ("GROQ_API_KEY", "TOGETHER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with closed_port() as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        yield


def listed(config: Any, colour: str) -> dict[str, ProviderInfo]:
    async def asking() -> list[ProviderInfo]:
        async with AsyncLlamaClient(config) as client:
            return await client.providers.list()

    if colour == "async":
        providers = asyncio.run(asking())
    else:
        with LlamaClient(config) as client:
            providers = client.providers.list()
    return {provider.provider: provider for provider in providers}


def one(dialect: Dialect, colour: str, answer: Callable[[Received], Answer], name: str = "x") -> ProviderInfo:
    with WireServer(answer) as server:
        table = {"kind": dialect.kind, "base_url": server.url + dialect.base, "api_key": KEY}
        found = listed({"providers": {name: table}}, colour)[name]
        for request in server.requests:
            assert (request.method, request.body) == ("GET", b"")
            assert request.headers["authorization"] == f"Bearer {KEY}"
    assert (found.kind, found.is_configured) == (dialect.kind, True)
    return found


def serving(path: str, body: Any) -> Callable[[Received], Answer]:
    return lambda request: as_json(body) if request.path == path else as_json({"error": "no such page"}, status=404)


def row(id_: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "object": "model", "created": 1, "owned_by": "somebody", **more}


@each_dialect
@each_colour
def test_a_key_that_the_server_repeats_as_a_model_is_not_shown(dialect: Dialect, colour: str) -> None:
    def echo(request: Received) -> Answer:
        ids = [request.headers["authorization"], f"m-{KEY}"]
        return as_json({"data": [row(id_) for id_ in ids], "models": [{"name": id_} for id_ in ids]})

    found = one(dialect, colour, echo)
    assert KEY not in found.model_dump_json()
    assert [model.target for model in found.models] == ["x/***", "x/m-***"]


SHAPES: list[Any] = [
    pytest.param(
        GROQ,
        "/openai/v1/models",
        {"object": "list", "data": [row("llama-x", active=True, context_window=131072, max_completion_tokens=8192)]},
        ("llama-x", 131072),
        id="groq",
    ),
    # Together answers with a bare list: https://docs.together.ai/reference/models-1
    pytest.param(
        TOGETHER,
        "/v1/models",
        [row("meta/llama-x", type="chat", context_length=8192, pricing={"input": 0.1, "output": 0.2})],
        ("meta/llama-x", 8192),
        id="together",
    ),
    pytest.param(
        TOGETHER,
        "/v1/models",
        {"object": "list", "data": [row("meta/llama-x", type="chat", context_length=8192)]},
        ("meta/llama-x", 8192),
        id="together-wrapped",
    ),
    pytest.param(OPENAI, "/v1/models", {"object": "list", "data": [row("gpt-x")]}, ("gpt-x", None), id="openai"),
    pytest.param(
        OPENAI,
        "/v1/models",
        {"object": "list", "data": [row("org/x", max_model_len=32768, root="org/x", permission=[{"id": "p"}])]},
        ("org/x", 32768),
        id="vllm",
    ),
    pytest.param(
        OPENAI,
        "/v1/models",
        {
            "models": [{"name": "x.gguf", "model": "x.gguf", "capabilities": ["completion"]}],
            "object": "list",
            "data": [row("x.gguf", meta={"n_ctx": 4096, "n_ctx_train": 131072, "n_params": 1, "vocab_type": 2})],
        },
        ("x.gguf", 4096),
        id="llama.cpp",
    ),
]


@each_colour
@pytest.mark.parametrize(("dialect", "path", "body", "expected"), SHAPES)
def test_every_servers_list_is_understood(
    dialect: Dialect, path: str, body: Any, expected: tuple[str, int | None], colour: str
) -> None:
    found = one(dialect, colour, serving(path, body))
    assert (found.is_reachable, found.error) == (True, None)
    (model,) = found.models
    assert (model.target, model.context_tokens) == (f"x/{expected[0]}", expected[1])
    assert (model.is_served, model.is_loaded) == (True, None)


TAGS = {
    "models": [
        {"name": "llama3.1:8b", "model": "llama3.1:8b", "modified_at": "2026-11-02T00:00:00Z", "size": 4_900_000_000},
        {"name": "gpt-oss:120b-cloud", "model": "gpt-oss:120b-cloud", "modified_at": "2026-11-01T00:00:00Z", "size": 3},
    ]
}
LOADED = {"models": [{"name": "llama3.1:8b", "model": "llama3.1:8b", "size_vram": 6, "context_length": 8192}]}


@each_colour
def test_ollama_tells_what_is_installed_and_what_is_loaded(colour: str) -> None:
    found = one(OLLAMA, colour, lambda request: as_json(TAGS if request.path == "/api/tags" else LOADED))
    llama, cloud = found.models
    assert (llama.target, llama.is_loaded, llama.context_tokens) == ("x/llama3.1:8b", True, 8192)
    assert (llama.size_bytes, llama.name) == (4_900_000_000, "llama-3.1-8b-instruct")
    assert (cloud.target, cloud.is_loaded) == ("x/gpt-oss:120b-cloud", False)


def tag(name: str, *capabilities: str, **more: Any) -> dict[str, Any]:
    """A row of `/api/tags` as Ollama 0.34.2 has them."""
    details = {"family": "llama", "context_length": 131072}
    return {"name": name, "model": name, "size": 1, "details": details, "capabilities": [*capabilities], **more}


CAPABLE = [
    tag("all-minilm:33m", "embedding"),
    tag("embeddings-expert:8b", "completion", "tools"),
    tag("llava:7b", "completion", "vision", "insert", "audio"),
    tag("gpt-oss:20b", "completion", "tools", "thinking"),
    tag("of-pictures:1b", "image"),
    {"name": "old:1b", "model": "old:1b", "size": 1},
]


def defaults(config: Any, colour: str) -> str:
    """The model of a call that names none."""

    async def asking() -> str:
        async with AsyncLlamaClient(config) as client:
            return await client.default_model()

    if colour == "async":
        return asyncio.run(asking())
    with LlamaClient(config) as client:
        return client.default_model()


def ollama_with(*tags: Any, loaded: Any = ()) -> Callable[[Received], Answer]:
    rows = {"/api/tags": tags, "/api/ps": loaded}
    return lambda request: as_json({"models": [*rows[request.path]]})


@each_colour
def test_ollama_tells_what_its_models_can_do(colour: str) -> None:
    found = one(OLLAMA, colour, ollama_with(*CAPABLE))
    told = {model.target.partition("/")[2]: (model.abilities, model.is_chat) for model in found.models}
    assert told == {
        "all-minilm:33m": ([], False),
        "embeddings-expert:8b": (["json_schema", "tools"], True),
        "llava:7b": (["json_schema", "vision"], True),
        "gpt-oss:20b": (["json_schema", "reasoning", "tools"], True),
        "of-pictures:1b": ([], False),
        "old:1b": (None, None),
    }


@each_colour
def test_the_context_of_a_model_is_the_one_that_it_is_loaded_with_else_its_longest(colour: str) -> None:
    loaded = [{"name": "llava:7b", "context_length": 4096}]
    found = one(OLLAMA, colour, ollama_with(*CAPABLE, loaded=loaded))
    contexts = {model.target.partition("/")[2]: model.context_tokens for model in found.models}
    assert (contexts["llava:7b"], contexts["all-minilm:33m"], contexts["old:1b"]) == (4096, 131072, None)


@pytest.mark.parametrize(
    ("tags", "loaded", "default"),
    [
        (CAPABLE, [], "embeddings-expert:8b"),
        # One for embeddings is in memory, as it often is beside a chat model.
        (CAPABLE, [{"name": "all-minilm:33m"}], "embeddings-expert:8b"),
        (CAPABLE, [{"name": "all-minilm:33m"}, {"name": "llava:7b"}], "llava:7b"),
        ([tag("all-minilm:33m", "embedding"), tag("of-pictures:1b", "image")], [], None),
        # An older server says nothing, so that the name decides.
        ([{"name": "nomic-embed-text:latest"}, {"name": "llama3.1:8b"}], [], "llama3.1:8b"),
    ],
)
@each_colour
def test_a_model_for_embeddings_is_never_the_default(tags: Any, loaded: Any, default: str | None, colour: str) -> None:
    with WireServer(ollama_with(*tags, loaded=loaded)) as server:
        tables = {"providers": {"x": {"kind": "ollama", "base_url": server.url}}}
        if default is None:
            with pytest.raises(ConfigError, match="has no chat model"):
                defaults(tables, colour)
        else:
            assert defaults(tables, colour) == f"x/{default}"


@each_colour
def test_the_user_s_word_on_abilities_is_the_last(colour: str) -> None:
    rows = [{"target": "x/llava:7b", "name": "mine", "abilities": ["tools"]}]
    with WireServer(ollama_with(*CAPABLE)) as server:
        tables = {"x": {"kind": "ollama", "base_url": server.url}}
        found = listed({"providers": tables, "models": rows}, colour)["x"]
    assert next(model.abilities for model in found.models if model.target == "x/llava:7b") == ["tools"]


@each_colour
def test_the_catalogue_adds_what_it_knows(colour: str) -> None:
    body = {"object": "list", "data": [row("openai/gpt-oss-20b", context_window=65536), row("brand-new")]}
    known, new = one(GROQ, colour, serving("/openai/v1/models", body), name="groq").models
    assert (known.name, known.context_tokens, known.max_output_tokens) == ("gpt-oss-20b", 65536, 65536)
    assert (known.input_usd_per_mtok, known.output_usd_per_mtok) == (Decimal("0.075"), Decimal("0.3"))
    assert known.checked_on is not None
    assert (new.target, new.name, new.input_usd_per_mtok, new.abilities) == ("groq/brand-new", None, None, None)


@each_colour
def test_pulled_models_are_listed(demo_pulled: ModelStore, colour: str) -> None:
    gguf = listed(None, colour)["gguf"]
    assert (gguf.kind, gguf.is_configured, gguf.is_reachable) == ("gguf", False, True)
    model = next(model for model in gguf.models if model.target == "gguf/smollm2-135m")
    assert model.is_served
    assert model.size_bytes is not None
    assert model.size_bytes > 10**7


@each_colour
def test_who_is_not_there_is_reported_and_does_not_hide_the_others(colour: str) -> None:
    with closed_port() as clean_home, WireServer(serving("/v1/models", {"data": [row("a")]})) as server:
        tables = {
            "groq": {"base_url": clean_home, "api_key": KEY},
            "box": {"kind": "openai", "base_url": f"{server.url}/v1"},
        }
        found = listed({"providers": tables}, colour)
    assert [model.target for model in found["box"].models] == ["box/a"]
    groq, ollama = found["groq"], found["ollama"]
    assert (groq.is_reachable, ollama.is_reachable) == (False, False)
    assert groq.error
    assert "ollama serve" in (ollama.error or "")
    # What the catalogue says that it serves today, and no more.
    targets = {model.target: model.is_served for model in groq.models}
    assert targets["groq/openai/gpt-oss-20b"] is None
    assert "groq/llama-3.1-70b-versatile" not in targets
    assert ollama.models == []


@each_colour
def test_a_provider_without_its_key_is_reported(colour: str) -> None:
    found = listed({"providers": {"groq": {}}}, colour)["groq"]
    assert found.is_reachable is False
    assert "GROQ_API_KEY" in (found.error or "")


BROKEN: dict[str, Callable[[Received], Answer]] = {
    "refuses the key": lambda request: as_json({"error": {"message": f"bad key {KEY}"}}, status=401),
    "breaks": lambda request: whole(b"<html>oops</html>", status=502),
    "sends no JSON": lambda request: whole(b"<html>hello</html>"),
    "sends a number": lambda request: as_json(7),
}


@each_colour
@each_dialect
@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_list_is_reported_without_the_key(dialect: Dialect, way: str, colour: str) -> None:
    found = one(dialect, colour, BROKEN[way])
    assert found.is_reachable is False
    assert found.error
    assert KEY not in found.model_dump_json()


RUBBISH: list[Any] = [
    {"data": 7},
    {"data": [7, None, {"id": 9}, {}]},
    {"models": 7},
    {"models": [7, {"name": None}]},
    {},
]


@each_colour
@each_dialect
@pytest.mark.parametrize("body", RUBBISH)
def test_rows_that_are_none_are_left_out(dialect: Dialect, body: Any, colour: str) -> None:
    assert one(dialect, colour, lambda request: as_json(body)).models == []


SLOW: dict[str, Callable[[Received], Answer]] = {
    "silent": lambda request: silence(),
    "trickling": lambda request: endless(b" ", headers=SSE, delay_s=0.2),
}


def test_a_provider_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for look_up in (HttpProvider.look_up, HttpProvider._alook_up):
        monkeypatch.setattr(look_up, "__defaults__", (b"", 0.5))
    with WireServer(SLOW["silent"]) as silent, WireServer(SLOW["trickling"]) as trickling:
        servers = {"silent": silent, "trickling": trickling}
        # Should nobody give up, the servers do, so that the test fails instead of hanging.
        found = listed_within(servers, PLENTY_S)
    assert {colour: {name: each.is_reachable for name, each in told.items()} for colour, told in found.items()} == {
        colour: {"silent": False, "trickling": False} for colour in ("sync", "async")
    }


def listed_within(servers: dict[str, WireServer], limit_s: float) -> dict[str, dict[str, ProviderInfo]]:
    """What a sync and an async client list of these; without the one that takes longer."""
    found: dict[str, dict[str, ProviderInfo]] = {}
    providers = {name: {"kind": "openai", "base_url": f"{server.url}/v1"} for name, server in servers.items()}

    def ask(colour: str) -> None:
        told = listed({"providers": providers}, colour)
        found[colour] = {name: told[name] for name in servers}

    threads = [threading.Thread(target=ask, args=(colour,), daemon=True) for colour in ("sync", "async")]
    for thread in threads:
        thread.start()
    until = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    in_time = dict(found)
    for server in servers.values():
        server.close()
    for thread in threads:
        thread.join(limit_s)
    return in_time


@each_colour
def test_an_endless_list_is_given_up(colour: str) -> None:
    with WireServer(lambda request: endless(b" " * 65536, headers=SSE)) as server:
        found = listed({"providers": {"x": {"kind": "openai", "base_url": f"{server.url}/v1"}}}, colour)["x"]
        assert not server.overran.is_set()
    assert found.is_reachable is False


@each_colour
def test_ten_slow_providers_are_asked_at_once(colour: str) -> None:
    def slowly(request: Received) -> Answer:
        # A sync client asks eight at once.
        until(lambda: len(server.requests) >= 8)
        return as_json({"data": [row("a")]})

    with WireServer(slowly) as server:
        tables = {f"p{n}": {"kind": "openai", "base_url": f"{server.url}/v1"} for n in range(10)}
        found = listed({"providers": tables}, colour)
    assert all(found[name].is_reachable for name in tables)
    assert list(found)[:10] == list(tables)
