"""What `model` may be, from the caller's side: which targets, which model, in which order, and the messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from llama_client import (
    AllTargetsFailedError,
    AsyncLlamaClient,
    ChatCompletion,
    ConfigError,
    LlamaClient,
    LlamaClientError,
    ModelNotFoundError,
)
from llama_client.providers.gguf.store import ModelStore
from llama_client.testing.dialects import GROQ, OLLAMA, OPENAI, TOGETHER, Dialect
from llama_client.testing.loopback import Answer, Received, as_json, closed_port
from tests.routing.asking import MESSAGES, config, good
from tests.routing.in_memory import MemoryServer

COLOURS = ["sync", "async"]
each_colour = pytest.mark.parametrize("colour", COLOURS)
GONE = {"error": {"message": "The model does not exist.", "type": "invalid_request_error", "code": "model_not_found"}}


@dataclass
class World:
    """A server that plays every provider, each below a folder of its own, and the models that each was asked for.

    Attributes:
        url: Its address.
        failing: The providers that fail.
        installed: What Ollama lists.
        loaded: What Ollama has loaded.
    """

    url: str = ""
    failing: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    installed: list[dict[str, Any]] = field(default_factory=list)
    loaded: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def answer(self, request: Received) -> Answer:
        folder, _, path = request.path.removeprefix("/").partition("/")
        if path == "api/tags":
            return as_json({"models": self.installed})
        if path == "api/ps":
            return as_json({"models": self.loaded})
        dialect = OLLAMA if path == "api/chat" else OPENAI
        self.asked.append(f"{folder}/{request.json['model']}")
        if folder in self.refusing:
            return as_json(GONE, status=404)
        if folder in self.failing:
            return as_json({"error": {"message": "down"}}, status=500)
        return dialect.good(streams=False)

    def table(self, dialect: Dialect, name: str) -> dict[str, Any]:
        return {"kind": dialect.kind, "base_url": f"{self.url}/{name}{dialect.base}", "api_key": "k"}

    def config(self, **dialects: Dialect) -> dict[str, Any]:
        """A configuration with these providers, in their order, each asked once."""
        providers = {name: self.table(dialect, name) for name, dialect in dialects.items()}
        return {"providers": providers, "routing": {"retries": 0}}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("GROQ_API_KEY", "TOGETHER_API_KEY", "OPENAI_API_KEY", "GROQ_BASE_URL", "TOGETHER_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    world = World()
    with MemoryServer(world.answer) as server:
        world.url = server.url
        yield world


def ask(config: Any, colour: str = "sync", **params: Any) -> ChatCompletion:
    if colour == "sync":
        with LlamaClient(config) as client:
            return client.ask("Hi", timeout=10, **params)

    async def asking() -> ChatCompletion:
        async with AsyncLlamaClient(config) as client:
            return await client.ask("Hi", timeout=10, **params)

    return asyncio.run(asking())


def all_failing(world: World, config: Any, model: Any, colour: str = "sync") -> list[str]:
    """Who is asked, in order, where everybody fails."""
    world.failing = {"groq", "together", "ollama", "a", "b", "c"}
    with pytest.raises(LlamaClientError):
        ask(config, colour, model=model)
    return world.asked


def test_the_first_segment_is_the_provider_and_the_rest_its_own_id(world: World) -> None:
    reply = ask(world.config(groq=GROQ), model="groq/openai/gpt-oss-20b")
    assert (reply.target, reply.provider) == ("groq/openai/gpt-oss-20b", "groq")
    assert world.asked == ["groq/openai/gpt-oss-20b"]


@pytest.mark.parametrize("model", ["a/nobody-knows-this", "a/with/slashes/in:it", "a/Ünïcode"])
@each_colour
def test_an_id_that_nobody_knows_is_handed_on(world: World, model: str, colour: str) -> None:
    assert ask(world.config(a=OPENAI), colour, model=model).target == model
    assert world.asked == [model]


def test_built_in_providers_need_no_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "k")
    monkeypatch.setenv("GROQ_BASE_URL", f"{world.url}/groq")
    monkeypatch.setenv("TOGETHER_API_KEY", "k")
    monkeypatch.setenv("TOGETHER_BASE_URL", f"{world.url}/together/v1")
    monkeypatch.setenv("OLLAMA_HOST", f"{world.url}/ollama")
    with LlamaClient() as client:
        for model in ("groq/x", "together/y", "ollama/z"):
            client.ask("Hi", model=model, timeout=10)
    assert world.asked == ["groq/x", "together/y", "ollama/z"]


@pytest.mark.parametrize("name", ["gpt-oss-120b", "gptoss-120b", "GPT-OSS-120B"])
@pytest.mark.parametrize("order", [("groq", "together", "ollama"), ("ollama", "groq", "together")])
@each_colour
def test_a_catalogue_name_or_alias_means_all_who_serve_it_in_the_configurations_order(
    world: World, name: str, order: tuple[str, ...], colour: str
) -> None:
    dialects = {"groq": GROQ, "together": TOGETHER, "ollama": OLLAMA}
    ids = {"groq": "openai/gpt-oss-120b", "together": "openai/gpt-oss-120b", "ollama": "gpt-oss:120b"}
    asked = all_failing(world, world.config(**{name: dialects[name] for name in order}), name, colour)
    assert asked == [f"{provider}/{ids[provider]}" for provider in order]


def test_a_catalogue_name_finds_providers_of_a_kind_under_other_names(world: World) -> None:
    asked = all_failing(world, world.config(b=GROQ, a=GROQ, ollama=OLLAMA), "gpt-oss-20b")
    assert asked[:2] == ["b/openai/gpt-oss-20b", "a/openai/gpt-oss-20b"]


def test_a_catalogue_name_goes_on_where_the_first_fails(world: World) -> None:
    world.failing = {"groq"}
    reply = ask(world.config(groq=GROQ, together=TOGETHER), model="gpt-oss-120b")
    assert reply.target == "together/openai/gpt-oss-120b"
    assert [attempt.outcome for attempt in reply.attempts] == ["error", "ok"]


def test_a_key_in_the_environment_puts_a_provider_in_use_and_no_key_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", "k")
    monkeypatch.setenv("TOGETHER_BASE_URL", f"{world.url}/together/v1")
    assert ask(None, model="gpt-oss-120b").target == "together/openai/gpt-oss-120b"


def test_catalogue_names_skip_what_is_retired(world: World) -> None:
    reply = ask(world.config(groq=GROQ, together=TOGETHER, ollama=OLLAMA), model="llama-3.1-8b-instruct")
    assert reply.target == "ollama/llama3.1:8b"
    assert [asked.split("/")[0] for asked in world.asked] == ["ollama"]


def test_a_name_that_nobody_in_use_serves_any_more_says_so(world: World) -> None:
    row = {"target": "a/old", "name": "my-old", "deprecated_on": "2026-01-02", "replacement": "new"}
    with pytest.raises(ConfigError, match=r"my-old.*2026-01-02.*new"):
        ask({**world.config(a=OPENAI), "models": [row]}, model="my-old")
    assert world.asked == []


def test_a_name_that_only_others_serve_tells_who_does(world: World) -> None:
    with pytest.raises(ConfigError, match="together"):
        ask(world.config(groq=GROQ), model="muse-glimmer-30b")
    assert world.asked == []


def test_an_id_that_is_unique_in_the_catalogue_needs_no_provider(world: World) -> None:
    reply = ask(world.config(together=TOGETHER, groq=GROQ), model="llama-3.3-70b-versatile")
    assert reply.target == "groq/llama-3.3-70b-versatile"


RETIRED = "llama-3.1-70b-versatile"
DECOMMISSIONED = {
    "error": {"message": f"The model `{RETIRED}` has been decommissioned.", "code": "model_decommissioned"}
}


@pytest.mark.parametrize("spelled", [RETIRED, f"groq/{RETIRED}"])
@each_colour
def test_a_retired_id_is_sent_where_it_is_named_outright(world: World, spelled: str, colour: str) -> None:
    """Enterprise accounts keep some."""
    reply = ask(world.config(groq=GROQ), colour, model=spelled)
    assert reply.target == f"groq/{RETIRED}"
    assert world.asked == [f"groq/{RETIRED}"]


@pytest.mark.parametrize("how", [RETIRED, f"groq/{RETIRED}", "for_provider"])
@pytest.mark.parametrize("refusal", [(400, DECOMMISSIONED), (404, GONE)], ids=["400", "404"])
def test_the_refusal_of_a_retired_id_tells_the_date_and_the_replacement(
    how: str, refusal: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    with MemoryServer(lambda request: as_json(refusal[1], status=refusal[0])) as server:
        if how == "for_provider":
            client = LlamaClient.for_provider("groq", api_key="k", base_url=server.url)
        else:
            client = LlamaClient({"providers": {"groq": {"api_key": "k", "base_url": server.url}}})
        model = RETIRED if how == "for_provider" else how
        with client, pytest.raises(ModelNotFoundError) as caught:
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Hi"}], temperature=0.7, max_tokens=1024
            )
        assert server.requests[0].json["model"] == RETIRED
    for told in ("2025", "openai/gpt-oss-120b"):
        assert told in str(caught.value)
    assert (caught.value.target, caught.value.http_status) == (f"groq/{RETIRED}", refusal[0])
    assert caught.value.failover is True


@pytest.mark.parametrize("id_", ["openai/gpt-oss-20b", "groq/openai/gpt-oss-20b", "meta-llama/Llama-3.3-70B", "auto"])
def test_for_one_provider_the_id_is_its_own_letter_for_letter(world: World, id_: str) -> None:
    table = world.table(GROQ, "groq")
    with LlamaClient.for_provider("groq", api_key="k", base_url=table["base_url"]) as client:
        client.ask("Hi", model=id_, timeout=10)
    assert world.asked == [f"groq/{id_}"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("openai/gpt-oss-20b", "groq/openai/gpt-oss-20b"),
        ("grok/openai/gpt-oss-20b", "groq/openai/gpt-oss-20b"),
        ("llama-3.1-8b-instuct", "llama-3.1-8b-instruct"),
        ("olama/llama3.1:8b", "ollama/llama3.1:8b"),
    ],
)
@each_colour
def test_what_names_nobody_is_a_configuration_error_with_a_suggestion(
    world: World, written: str, meant: str, colour: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(world.config(groq=GROQ), colour, model=written)
    assert f"'{meant}'" in str(caught.value)
    assert caught.value.attempts == []
    assert world.asked == []


@pytest.mark.parametrize("written", ["nobody/knows", "nobody", "groq/", "/x", " ", "a/"])
def test_what_is_like_nothing_names_the_providers_that_there_are(world: World, written: str) -> None:
    with pytest.raises(ConfigError, match=r"providers: .*groq.*ollama"):
        ask(world.config(a=OPENAI), model=written)
    assert world.asked == []


@each_colour
def test_a_list_is_a_chain_in_its_order(world: World, colour: str) -> None:
    world.failing, world.refusing = {"b"}, {"a"}
    reply = ask(world.config(a=OPENAI, b=GROQ, c=OLLAMA), colour, model=["a/one", "b/two", "c/three", "a/four"])
    assert reply.target == "c/three"
    assert world.asked == ["a/one", "b/two", "c/three"]
    assert [attempt.error for attempt in reply.attempts] == ["ModelNotFoundError", "ServerError", None]


def test_a_list_may_hold_catalogue_names(world: World) -> None:
    asked = all_failing(world, world.config(a=OPENAI, groq=GROQ, together=TOGETHER), ["gpt-oss-120b", "a/x"])
    assert [target for target in asked if not target.startswith("ollama")] == [
        "groq/openai/gpt-oss-120b",
        "together/openai/gpt-oss-120b",
        "a/x",
    ]


def test_a_list_whose_targets_all_fail_tells_each_ones_error(world: World) -> None:
    world.failing = {"a", "b"}
    with pytest.raises(AllTargetsFailedError) as caught:
        ask(world.config(a=OPENAI, b=GROQ), model=["a/x", "b/y"])
    assert [getattr(error, "target", None) for error in caught.value.errors] == ["a/x", "b/y"]
    assert [attempt.target for attempt in caught.value.attempts] == ["a/x", "b/y"]
    assert caught.value.__cause__ is caught.value.errors[-1]


def test_a_list_with_somebody_unknown_is_refused_before_anything_is_sent(world: World) -> None:
    with pytest.raises(ConfigError):
        ask(world.config(a=OPENAI), model=["a/x", "nobody/y"])
    assert world.asked == []


def test_a_row_of_the_users_own_is_found_by_its_name_and_aliases(world: World) -> None:
    row = {"target": "a/ft:my-llama", "name": "my-llama", "aliases": ["mine"]}
    config = {**world.config(groq=GROQ, a=OPENAI), "models": [row]}
    for name in ("my-llama", "mine", "MINE", "ft:my-llama"):
        assert ask(config, model=name).target == "a/ft:my-llama"


def test_a_users_endpoint_of_a_known_model_serves_it_in_the_configurations_order(world: World) -> None:
    row = {"target": "a/endpoint-1", "name": "gpt-oss-20b"}
    config = {**world.config(a=TOGETHER, groq=GROQ), "models": [row]}
    assert all_failing(world, config, "gpt-oss-20b")[:2] == ["a/endpoint-1", "groq/openai/gpt-oss-20b"]


def test_a_users_row_says_that_what_is_retired_for_others_is_served_to_them(world: World) -> None:
    row = {"target": "groq/llama-3.3-70b-versatile", "name": "llama-3.3-70b"}
    config = {**world.config(groq=GROQ), "models": [row]}
    assert ask(config, model="llama-3.3-70b-instruct").target == "groq/llama-3.3-70b-versatile"


def test_a_users_row_may_retire_a_model_and_its_refusal_says_so(world: World) -> None:
    row = {"target": "a/old", "name": "old", "deprecated_on": "2026-01-02", "replacement": "new"}
    config = {**world.config(a=OPENAI), "models": [row]}
    world.refusing = {"a"}
    with pytest.raises(ModelNotFoundError, match=r"2026-01-02.*new"):
        ask(config, model="a/old")


def test_default_model_may_be_a_catalogue_name(world: World) -> None:
    config = {**world.config(together=TOGETHER), "default_model": "gpt-oss-120b"}
    assert ask(config).target == "together/openai/gpt-oss-120b"


def row(name: str, modified: str = "2026-11-01T00:00:00Z", **more: Any) -> dict[str, Any]:
    return {"name": name, "model": name, "modified_at": modified, "size": 1, **more}


@pytest.fixture
def ollama(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("OLLAMA_HOST", f"{world.url}/ollama")
    return world


@each_colour
def test_without_configuration_the_model_that_ollama_has_loaded_answers(ollama: World, colour: str) -> None:
    ollama.installed = [row("new:latest"), row("llama3.1:8b", "2026-01-01T00:00:00Z")]
    ollama.loaded = [row("llama3.1:8b")]
    assert ask(None, colour).target == "ollama/llama3.1:8b"


@each_colour
def test_without_a_loaded_model_ollamas_newest_chat_model_answers(ollama: World, colour: str) -> None:
    """Neither an embedding model, nor one that Ollama's cloud answers for."""
    ollama.installed = [
        row("gpt-oss:120b-cloud", "2026-11-09T00:00:00Z"),
        row("nomic-embed-text:latest", "2026-11-08T00:00:00Z"),
        row("mxbai-embed-large:latest", "2026-11-07T00:00:00Z"),
        row("all-minilm:latest", "2026-11-06T00:00:00Z"),
        row("qwen3-coder:480b-cloud", "2026-11-05T00:00:00Z"),
        row("llama3.2:3b", "2026-11-04T00:00:00Z"),
        row("llama3.1:8b", "2026-11-03T00:00:00Z"),
    ]
    ollama.loaded = [row("nomic-embed-text:latest")]
    assert ask(None, colour).target == "ollama/llama3.2:3b"


def test_what_is_loaded_under_another_spelling_of_latest_is_found(ollama: World) -> None:
    ollama.installed = [row("newer:latest"), row("llama3.2:latest", "2026-01-01T00:00:00Z")]
    ollama.loaded = [row("llama3.2:latest")]
    assert ask(None).target == "ollama/llama3.2:latest"


def test_the_default_is_found_out_once_for_a_client_and_its_views(ollama: World) -> None:
    ollama.installed = [row("llama3.2:3b")]
    with LlamaClient() as client:
        assert client.default_model() == "ollama/llama3.2:3b"
        ollama.installed = [row("other:1b")]
        assert client.with_options(tags={"a": "b"}).ask("Hi", timeout=10).target == "ollama/llama3.2:3b"


def test_a_lone_ollama_of_the_configuration_chooses_its_own_default(world: World) -> None:
    world.installed = [row("llama3.2:3b")]
    assert ask(world.config(box=OLLAMA)).target == "box/llama3.2:3b"


@each_colour
@pytest.mark.parametrize("installed", [[], [row("nomic-embed-text:latest")], [row("gpt-oss:120b-cloud")]])
def test_with_nothing_that_can_answer_the_error_names_the_pull_command(
    ollama: World, installed: list[Any], colour: str
) -> None:
    ollama.installed = installed
    with pytest.raises(ConfigError, match="llama-client pull"):
        ask(None, colour)


@each_colour
def test_without_a_running_ollama_the_error_names_the_pull_command(
    colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_port() as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        with pytest.raises(ConfigError, match="llama-client pull"):
            ask(None, colour)


def test_a_running_ollama_is_preferred_to_what_was_pulled(ollama: World, demo_pulled: ModelStore) -> None:
    ollama.installed = [row("llama3.2:3b")]
    assert ask(None).target == "ollama/llama3.2:3b"


def test_without_a_chat_model_in_ollama_what_was_pulled_is_the_default(ollama: World, demo_pulled: ModelStore) -> None:
    ollama.installed = [row("nomic-embed-text:latest")]
    with LlamaClient() as client:
        assert client.default_model() == "gguf/smollm2-135m"


BROKEN_LISTS: list[Callable[[Received], Answer]] = [
    lambda request: as_json({"models": None}),
    lambda request: as_json([1, 2]),
    lambda request: as_json({"models": [{"name": 7}, "x", {}]}),
    lambda request: as_json({"error": "no"}, status=500),
]


@pytest.mark.parametrize("answer", BROKEN_LISTS)
def test_an_ollama_that_lists_rubbish_is_like_none(
    answer: Callable[[Received], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with MemoryServer(answer) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        with pytest.raises(ConfigError, match="llama-client pull"):
            ask(None)


TOOL = {"type": "function", "function": {"name": "clock"}}


@pytest.mark.parametrize(("tools", "sent"), [([TOOL], False), ([], None), (None, None)])
def test_what_a_target_says_of_tools_goes_only_with_tools(tools: Any, sent: bool | None) -> None:
    """OpenAI refuses `parallel_tool_calls` without any."""
    with MemoryServer(good()) as server:
        tables = config(server)
        tables["routes"]["chat"]["targets"] = [{"target": "a/m", "params": {"parallel_tool_calls": False}}]
        with LlamaClient(tables) as client:
            client.chat.completions.create(messages=MESSAGES, tools=tools)
        assert server.requests[0].json.get("parallel_tool_calls") is sent
