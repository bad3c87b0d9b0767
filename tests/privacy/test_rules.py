"""Every rule of `local_only` but that of connections: what it refuses, what it lets through, and how it says so."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from llama_client import (
    AsyncLlamaClient,
    ConfigError,
    InvalidRequestError,
    LlamaClient,
    LocalOnlyError,
    ModelNotFoundError,
)
from llama_client.errors import LocalOnlyRule
from llama_client.local_only import ConnectionGuard
from llama_client.testing.dialects import OLLAMA
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.cli.conftest import run
from tests.privacy.asking import KEY, MODEL, PROMPT, ask, calls, each_mode, local, refused
from tests.wire.sending import DATA_URI, IMAGE_URL, PNG

FAR = local("openai", base_url="http://far.test/v1", api_key=KEY)


def picture(url: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


# Images.


@pytest.mark.parametrize("url", [IMAGE_URL, "http://127.0.0.1:9/llama.png"])
@pytest.mark.parametrize("kind", ["openai", "ollama"])
@each_mode
def test_images_behind_addresses_are_refused(
    kind: str, url: str, mode: str, there: WireServer, lookups: list[str]
) -> None:
    base = there.url + ("" if kind == "ollama" else "/v1")
    refused(mode, local(kind, base_url=base), f"{kind}/{MODEL}", picture(url), rule="remote_image")
    assert there.requests == []
    assert lookups == []


@calls
def test_a_model_in_this_process_is_handed_no_image_behind_an_address_either(mode: str) -> None:
    refused(mode, local("gguf"), "gguf/default", picture(IMAGE_URL), rule="remote_image")


@pytest.mark.parametrize("image", [PNG, DATA_URI])
@pytest.mark.parametrize("kind", ["openai", "ollama"])
@calls
def test_images_that_are_here_are_sent(kind: str, image: object, mode: str, there: WireServer) -> None:
    base = there.url + ("" if kind == "ollama" else "/v1")
    assert ask(mode, local(kind, base_url=base), f"{kind}/{MODEL}", picture(image)).text == "Hello"


@pytest.mark.parametrize(
    "extra",
    [{"documents": [{"url": IMAGE_URL}]}, {"mm": {"source": "//far.test/a"}}, {"plugins": ["https://far.test/mcp"]}],
    ids=["object", "no-scheme", "list"],
)
@calls
def test_addresses_in_fields_of_the_providers_own_are_refused(
    extra: dict[str, Any], mode: str, there: WireServer
) -> None:
    config = local("openai", base_url=there.url + "/v1")
    refused(mode, config, f"openai/{MODEL}", rule="remote_image", extra_body=extra)
    assert there.requests == []


@pytest.mark.parametrize(
    "extra",
    [
        {"guided_json": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}},
        {"chat_template": "//far.test/ {{ messages }}"},
        {"repeat_penalty": 1.1, "grammar": "root ::= 'http://far.test'"},
    ],
    ids=["schema", "template", "grammar"],
)
@calls
def test_schemas_and_templates_in_fields_of_the_providers_own_are_sent(
    extra: dict[str, Any], mode: str, there: WireServer
) -> None:
    config = local("openai", base_url=there.url + "/v1")
    assert ask(mode, config, f"openai/{MODEL}", extra_body=extra).text == "Hello"


# Models that Ollama hands on.


@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "kimi-k2:cloud", "Kimi-K2:CLOUD"])
@pytest.mark.parametrize("kind", ["ollama", "openai"])
@each_mode
def test_a_model_whose_name_says_that_ollama_hands_it_on_is_refused(
    kind: str, model: str, mode: str, there: WireServer
) -> None:
    assert model in str(refused(mode, local(kind, base_url=there.url), f"{kind}/{model}", rule="cloud_model"))
    assert there.requests == []


def listing(*rows: dict[str, Any]) -> Any:
    def answer(request: Received) -> Answer:
        if request.path.endswith(OLLAMA.path):
            return OLLAMA.good(streams=bool(request.json.get("stream")))
        return as_json({"models": list(rows)})

    return answer


@pytest.mark.parametrize(
    "name", ["mine", "mine:latest", "MINE", "library/mine", "registry.ollama.ai/library/mine:latest"]
)
@pytest.mark.parametrize("far", [{"remote_host": "https://ollama.com:443"}, {"remote_model": "gpt-oss:120b"}])
@calls
def test_a_model_that_ollama_hands_on_under_another_name_is_refused(name: str, far: dict[str, str], mode: str) -> None:
    with WireServer(listing({"name": "mine:latest", **far})) as server:
        refused(mode, local("ollama", base_url=server.url), f"ollama/{name}", rule="cloud_model")
        assert [request.path for request in server.requests] == ["/api/tags", "/api/ps"]


def test_a_model_that_ollama_begins_to_hand_on_is_refused_from_then_on() -> None:
    row: dict[str, Any] = {"name": "mine:latest"}
    with WireServer(listing(row)) as server, LlamaClient(local("ollama", base_url=server.url)) as client:
        assert client.ask(PROMPT, model="ollama/mine").text == "Hello"
        row["remote_host"] = "https://ollama.com:443"
        with pytest.raises(LocalOnlyError, match="rule: cloud_model"):
            client.ask(PROMPT, model="ollama/mine")


@calls
def test_a_model_that_ollama_does_not_have_is_not_asked_for(mode: str) -> None:
    with WireServer(listing({"name": "other:latest"})) as server:
        with pytest.raises(ModelNotFoundError, match="ollama pull mine"):
            ask(mode, local("ollama", base_url=server.url), "ollama/mine")
        assert "/api/chat" not in [request.path for request in server.requests]


@pytest.mark.parametrize("body", [{"Model": "gpt-oss:120b-cloud"}, {"Messages": picture(IMAGE_URL)}], ids=str)
@pytest.mark.parametrize("kind", ["openai", "ollama"])
@each_mode
def test_no_other_spelling_in_extra_body_takes_the_place_of_what_was_judged(
    kind: str, body: dict[str, Any], mode: str, there: WireServer
) -> None:
    config = local(kind, base_url=there.url)
    (name,) = body
    with pytest.raises(InvalidRequestError, match=f"extra_body.{name}: must be given as the parameter"):
        ask(mode, config, f"{kind}/{MODEL}", extra_body=body)
    routes = {"notes": {"targets": [{"target": f"{kind}/{MODEL}", "params": {"extra_body": body}}]}}
    with pytest.raises(ConfigError, match=f"extra_body.{name}: must be given as the parameter"):
        ask(mode, config | {"routes": routes}, "notes")
    assert there.requests == []


@calls
def test_without_local_only_ollama_may_hand_on(mode: str, there: WireServer) -> None:
    config = {"providers": {"ollama": {"base_url": there.url}}}
    assert ask(mode, config, "ollama/gpt-oss:120b-cloud").text == "Hello"


def test_an_ollama_elsewhere_that_only_a_variable_names_is_passed_over_for_what_is_here(
    demo_pulled: Any, monkeypatch: pytest.MonkeyPatch, lookups: list[str]
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "far.test")

    async def default() -> str:
        async with AsyncLlamaClient({}, local_only=True) as client:
            return await client.default_model()

    with LlamaClient({}, local_only=True) as client:
        assert client.default_model() == "gguf/smollm2-135m"
    assert asyncio.run(default()) == "gguf/smollm2-135m"
    assert lookups == []


def test_an_ollama_elsewhere_that_the_configuration_names_is_refused_as_the_default() -> None:
    config = local("ollama", base_url="http://far.test")
    with LlamaClient(config) as client, pytest.raises(LocalOnlyError) as caught:
        client.ask(PROMPT)
    assert caught.value.rule == "connection"


# Clients, keys and ledgers.


@pytest.fixture
def ledger_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests switch it off for all."""
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")


def test_a_client_whose_connections_nobody_can_judge_is_refused() -> None:
    with httpx.Client() as mine:
        makers: list[Callable[[], object]] = [
            lambda: LlamaClient({"local_only": True}, http_client=mine),
            lambda: LlamaClient({}, local_only=True, http_client=mine),
            lambda: LlamaClient.for_provider("ollama", local_only=True, http_client=mine),
        ]
        for open_client in makers:
            with pytest.raises(LocalOnlyError, match="http_client") as caught:
                open_client()
            assert caught.value.rule == "http_client"


def test_an_async_client_whose_connections_nobody_can_judge_is_refused() -> None:
    async def use() -> None:
        async with httpx.AsyncClient() as mine:
            with pytest.raises(LocalOnlyError) as caught:
                AsyncLlamaClient({"local_only": True}, http_client=mine)
            assert caught.value.rule == "http_client"

    asyncio.run(use())


@each_mode
def test_no_command_is_run_for_a_key(mode: str, there: WireServer, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    command = [sys.executable, "-c", f"open({str(ran)!r}, 'w'); print('a-key')"]
    config = local("openai", base_url=f"{there.url}/v1", api_key_command=command)
    assert "api_key_file" in str(refused(mode, config, f"openai/{MODEL}", rule="key_command"))
    assert not ran.exists()


@pytest.mark.parametrize("host", ["far.test", "203.0.113.5", "[2001:db8::1]"])
@pytest.mark.usefixtures("ledger_on")
def test_a_ledger_elsewhere_is_refused_when_the_client_is_made(host: str, lookups: list[str]) -> None:
    config = {"local_only": True, "ledger": {"url": f"postgresql://u:hush@{host}/costs"}}
    for kind in (LlamaClient, AsyncLlamaClient):
        with pytest.raises(LocalOnlyError) as caught:
            kind(config)
        assert caught.value.rule == "ledger"
        assert "hush" not in str(caught.value)
    assert lookups == []


def test_a_budget_kept_elsewhere_is_refused_too() -> None:
    ledger = {"enabled": False, "url": "postgresql://far.test/costs"}
    with pytest.raises(LocalOnlyError) as caught:
        LlamaClient({"local_only": True, "ledger": ledger, "budgets": [{"usd": 1.0, "window": "day"}]})
    assert caught.value.rule == "ledger"


def test_a_report_from_a_ledger_elsewhere_is_refused_where_the_ledger_is_off() -> None:
    config = {"local_only": True, "ledger": {"enabled": False, "url": "postgresql://far.test/costs"}}
    with LlamaClient(config) as client, pytest.raises(LocalOnlyError) as caught:
        client.costs.report()
    assert caught.value.rule == "ledger"


@pytest.mark.parametrize("command", ["costs", "crossover llama-3.1-8b --from-ledger"])
@pytest.mark.usefixtures("ledger_on")
def test_a_command_reads_no_ledger_elsewhere(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_LOCAL_ONLY", "true")
    monkeypatch.setenv("LLAMA_CLIENT_LEDGER__URL", "postgresql://far.test/costs")
    ran = run(*command.split())
    assert ran.code != 0
    assert "rule: ledger" in ran.err


# What else reaches out.


@pytest.mark.parametrize("source", ["smollm2-135m", "hf:org/repo/model.gguf"])
def test_pulling_is_refused_also_where_the_hub_is_an_exception(
    source: str, monkeypatch: pytest.MonkeyPatch, lookups: list[str]
) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_LOCAL_ONLY", "true")
    monkeypatch.setenv("LLAMA_CLIENT_PRIVACY__ALLOW_HOSTS", '["huggingface.co"]')
    ran = run("pull", source)
    assert "rule: pull, switched on by LLAMA_CLIENT_LOCAL_ONLY" in ran.err
    assert lookups == []


@pytest.mark.parametrize("kind", ["groq", "together", "openai"])
def test_the_official_client_of_a_cloud_is_not_handed_out(kind: str) -> None:
    with LlamaClient(local(kind, api_key=KEY)) as client, pytest.raises(LocalOnlyError) as caught:
        client.sdk(kind)
    assert caught.value.rule == "connection"


def test_the_official_async_client_of_a_cloud_is_not_handed_out() -> None:
    async def use() -> None:
        async with AsyncLlamaClient(FAR) as client:
            client.sdk("openai")

    with pytest.raises(LocalOnlyError):
        asyncio.run(use())


def test_the_official_client_of_what_is_here_reaches_nobody_else(there: WireServer, lookups: list[str]) -> None:
    with LlamaClient(local("openai", base_url=f"{there.url}/v1", api_key=KEY)) as client:
        sdk = client.sdk("openai")
        assert [model.id for model in sdk.models.list()] == [MODEL]
        with pytest.raises(LocalOnlyError, match="rule: connection"):
            sdk.with_options(base_url="http://far.test/v1").models.list()
    assert lookups == []


def test_the_official_async_client_of_what_is_here_reaches_nobody_else(there: WireServer, lookups: list[str]) -> None:
    async def use() -> None:
        async with AsyncLlamaClient(local("openai", base_url=f"{there.url}/v1", api_key=KEY)) as client:
            sdk = client.sdk("openai")
            assert [model.id async for model in sdk.models.list()] == [MODEL]
            await sdk.with_options(base_url="http://far.test/v1").models.list()

    with pytest.raises(LocalOnlyError, match="rule: connection"):
        asyncio.run(use())
    assert lookups == []


def test_what_an_official_client_asks_of_a_server_that_is_here_is_not_judged(there: WireServer) -> None:
    with LlamaClient(local("openai", base_url=there.url, api_key=KEY)) as client:
        client.sdk("openai").chat.completions.create(model="gpt-oss:120b-cloud", messages=picture(IMAGE_URL))
    assert [request.json["model"] for request in there.requests] == ["gpt-oss:120b-cloud"]


def test_whoever_may_not_be_reached_is_listed_with_the_rule_and_its_key_is_not_asked_for(
    there: WireServer, lookups: list[str]
) -> None:
    config = local("openai", base_url="http://far.test/v1", api_key_env="NOT_SET")
    config["providers"] |= {"vllm": {"kind": "openai", "base_url": f"{there.url}/v1"}, "groq": {"api_key": KEY}}

    async def listed() -> Any:
        async with AsyncLlamaClient(config) as client:
            return await client.providers.list()

    with LlamaClient(config) as client:
        answers = client.providers.list()
    for answer in (answers, asyncio.run(listed())):
        by_name = {provider.provider: provider for provider in answer}
        assert by_name["vllm"].is_reachable
        for name in ("openai", "groq"):
            assert not by_name[name].is_reachable
            assert "rule: connection" in (by_name[name].error or "")
    assert lookups == []


def test_counting_and_estimating_ask_nobody(lookups: list[str]) -> None:
    with LlamaClient(FAR) as client:
        assert client.count_tokens(PROMPT, f"openai/{MODEL}").tokens > 0
        assert client.estimate_cost(PROMPT, f"openai/{MODEL}", max_tokens=5).target == f"openai/{MODEL}"
    assert lookups == []


# Routes.


@pytest.mark.parametrize("first", [f"groq/{MODEL}", f"far/{MODEL}", "ollama/kimi-k2:cloud", f"proxied/{MODEL}"])
@each_mode
def test_a_route_goes_on_to_the_target_that_is_here(first: str, mode: str, there: WireServer) -> None:
    config = local("ollama", base_url=there.url)
    config["providers"]["far"] = {"kind": "openai", "base_url": "http://far.test/v1"}
    config["providers"]["proxied"] = {"kind": "openai", "base_url": f"{there.url}/v1", "proxy": "http://near.test:1"}
    reply = ask(mode, config, [first, f"ollama/{MODEL}"])
    skipped, answered = reply.attempts
    assert (skipped.target, skipped.outcome, skipped.sent, skipped.error) == (first, "skipped", False, "LocalOnlyError")
    assert "(rule: " in (skipped.reason or "")
    assert (answered.target, answered.outcome) == (f"ollama/{MODEL}", "ok")


@each_mode
def test_where_no_target_is_here_the_last_refusal_is_raised(mode: str) -> None:
    config = local("groq", api_key=KEY)
    config["providers"]["far"] = {"kind": "openai", "base_url": "http://far.test/v1"}
    with pytest.raises(LocalOnlyError) as caught:
        ask(mode, config, [f"groq/{MODEL}", f"far/{MODEL}"])
    assert [attempt.outcome for attempt in caught.value.attempts] == ["skipped", "skipped"]


@each_mode
def test_a_refusal_comes_before_what_the_target_could_not_honour(mode: str) -> None:
    with pytest.raises(LocalOnlyError):
        ask(mode, local("groq", api_key=KEY), f"groq/{MODEL}", top_k=3)


def test_every_rule_is_told_of_in_the_errors_own_words() -> None:
    for rule in get_args(LocalOnlyRule):
        assert f"`{rule}`:" in (LocalOnlyError.__doc__ or "")
        guard = ConnectionGuard(local_only=True, source="somewhere")
        with pytest.raises(LocalOnlyError) as caught:
            guard.refuse(rule, "it")
        assert (caught.value.rule, caught.value.source) == (rule, "somewhere")
        assert f"rule: {rule}, switched on by somewhere" in str(caught.value)
