"""Known services: one row makes a service known everywhere, and its declared quirks reach the wire."""

from __future__ import annotations

import inspect
import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from llama_client import (
    AuthenticationError,
    BadRequestError,
    ChatCompletion,
    ConfigError,
    LlamaClient,
    LocalOnlyError,
    OverloadedError,
    UnsupportedFeatureError,
    load_config,
)
from llama_client.providers import services
from llama_client.providers.services import SERVICES, Service
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Received, WireServer, as_json, streamed
from tests.asking import MODES, Asker
from tests.cli.conftest import run
from tests.providers.services_page import MESSAGES, PAGE, filled
from tests.wire import sending

KEY = "sk-test-secret-1234567890"
CLOUDS = [row for row in SERVICES.values() if not row.is_local]
TOOL = {"type": "function", "function": {"name": "hum", "parameters": {"type": "object"}}}
SCHEMA: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
each_mode = pytest.mark.parametrize("mode", MODES)
each_row = pytest.mark.parametrize("row", SERVICES.values(), ids=SERVICES)
each_cloud = pytest.mark.parametrize("row", CLOUDS, ids=lambda row: row.name)


def config_of(name: str, url: str, **options: Any) -> dict[str, Any]:
    table = {"base_url": url, "api_key": KEY, **options}
    return {"providers": {name: table}, "routing": {"retries": 0}}


def sent(
    name: str, mode: str = "call-sync", prompt: Any = "Hi", **params: Any
) -> tuple[dict[str, Any], ChatCompletion]:
    """The body that a service is sent, and the answer."""

    def answer(received: Received) -> Any:
        return OPENAI.good(
            streams=bool(received.json.get("stream")), usage={"prompt_tokens": 3, "completion_tokens": 2}
        )

    with WireServer(answer) as server:
        reply = Asker(mode, config_of(name, server.url), [])(prompt, model=f"{name}/some/model", **params)
        body: dict[str, Any] = server.requests[0].json
    return body, reply


def refused(name: str, **params: Any) -> UnsupportedFeatureError:
    with LlamaClient(config_of(name, "http://127.0.0.1:1")) as client, pytest.raises(UnsupportedFeatureError) as caught:
        client.ask("Hi", model=f"{name}/some/model", **params)
    return caught.value


# The rows.


def test_each_row_has_at_most_ten_lines() -> None:
    text = inspect.getsource(services).partition("_ROWS = (\n")[2].partition("# fmt: on")[0]
    rows = re.split(r"^    (?=Service\()", text, flags=re.MULTILINE)[1:]
    assert len(rows) == len(SERVICES)
    assert [row for row in rows if len(row.rstrip().removesuffix("\n)").splitlines()) > 10] == []


@each_row
def test_each_row_says_where_it_is_and_when_that_was_checked(row: Service) -> None:
    assert row.host
    assert row.base_url.startswith("http://127.0.0.1:" if row.is_local else "https://")
    assert date.fromisoformat(row.verified.partition(":")[0]) >= date(2026, 11, 23)
    assert row.docs_url.startswith("https://")
    assert row.is_local or (row.key_variables and row.keys_url.startswith("https://"))


@pytest.mark.parametrize("page", [PAGE, MESSAGES], ids=lambda page: page.stem)
def test_the_page_has_the_rows_as_they_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text, "run `python -m tests.providers.services_page`, which writes the table anew"


@pytest.mark.parametrize("row", [row for row in SERVICES.values() if row.price_source], ids=lambda row: row.name)
def test_each_price_source_is_one_of_genai_prices(row: Service) -> None:
    from genai_prices.data import providers

    assert row.price_source in {provider.id for provider in providers}


# Known by their names.


@each_cloud
def test_a_cloud_needs_no_table_and_is_asked_at_its_address(row: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(row.key_variables[-1], KEY)
    url = f"{row.base_url}{row.below}/chat/completions"
    with sending.caught(assert_all_called=True) as router, LlamaClient({}) as client:
        route = router.post(url).respond(json=OPENAI.whole())
        assert client.ask("Hi", model=f"{row.name}/some/model").target == f"{row.name}/some/model"
        assert route.calls[0].request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("name", ["lmstudio", "vllm", "llamacpp", "litellm"])
def test_a_local_server_needs_neither_table_nor_key(name: str) -> None:
    with sending.caught(assert_all_called=True) as router, LlamaClient({}) as client:
        route = router.post(f"{SERVICES[name].base_url}/chat/completions").respond(json=OPENAI.whole())
        reply = client.ask("Hi", model=f"{name}/some/model")
        assert "authorization" not in route.calls[0].request.headers
    assert reply.cost.status == ("unknown" if name == "litellm" else "free")


@each_cloud
def test_without_its_key_the_variable_and_the_page_are_named(row: Service) -> None:
    with LlamaClient({"providers": {"x": {"kind": row.name}}}) as client, pytest.raises(AuthenticationError) as caught:
        client.ask("Hi", model="x/some/model")
    assert row.key_variables[0] in str(caught.value)
    assert f"keys are made at {row.keys_url}" in str(caught.value)


@pytest.mark.parametrize("name", ["vllm", "llamacpp", "lmstudio"])
def test_a_local_servers_variable_is_read_on_this_machine_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVICES[name].key_variables[0], KEY)
    for host, is_read in (("127.0.0.1:9931", True), ("gpu.test", False)):
        with sending.caught(assert_all_called=True) as router:
            route = router.post(f"http://{host}/v1/chat/completions").respond(json=OPENAI.whole())
            with LlamaClient({"providers": {name: {"base_url": f"http://{host}/v1"}}}) as client:
                client.ask("Hi", model=f"{name}/m")
            assert ("authorization" in route.calls[0].request.headers) is is_read


def test_openai_is_a_provider_where_its_key_is_set_and_a_suggestion_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with LlamaClient({}) as client, pytest.raises(ConfigError) as caught:
        client.ask("Hi", model="openai/gpt-oss-20b")
    assert "no provider is named 'openai', as OPENAI_API_KEY is not set" in str(caught.value)
    assert "did you mean 'groq/openai/gpt-oss-20b'?" in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with sending.caught(assert_all_called=True) as router, LlamaClient({}) as client:
        router.post("https://api.openai.com/v1/chat/completions").respond(json=OPENAI.whole())
        assert client.ask("Hi", model="openai/gpt-5.4-mini").provider == "openai"


def test_a_catalogue_name_reaches_the_services_whose_key_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CEREBRAS_API_KEY", KEY)
    with LlamaClient({}) as client:
        assert client.estimate_cost("Hi", "gpt-oss-120b").target == "cerebras/gpt-oss-120b"
        assert client.estimate_cost("Hi", "qwen-3.8-27b").target == "cerebras/qwen-3.8-27b"


def test_a_name_that_is_nearly_one_is_suggested() -> None:
    with LlamaClient({}) as client, pytest.raises(ConfigError, match="providers: groq, together, ollama, gguf"):
        client.ask("Hi", model="firework/some/model")
    with pytest.raises(ConfigError, match="did you mean 'fireworks'"):
        load_config({"providers": {"x": {"kind": "firework"}}}, environ={})


# Known to everything else.


def test_the_command_line_knows_a_service_by_its_row() -> None:
    env = {"SAMBANOVA_API_KEY": KEY, "LLAMA_CLIENT_LOCAL_ONLY": "false"}
    ran = run("config", "init", "--yes", "--json", env=env)
    assert ran.document["providers"] == ["sambanova"]
    assert ran.document["default_model"].startswith("sambanova/")
    text = Path("llama-client.toml").read_text(encoding="utf-8")
    assert '[providers.sambanova]\napi_key_env = "SAMBANOVA_API_KEY"' in text
    assert run("config", "check", "--strict", env=env).code == 0
    missing = run("config", "check", "--json").document
    assert any("SAMBANOVA_API_KEY is not set" in finding["message"] for finding in missing["warnings"])


def test_the_doctor_and_models_ask_a_service_for_its_list(clean_home: Path) -> None:
    with WireServer(lambda _: as_json({"data": [{"id": "m-1", "context_length": 4096}]})) as server:
        Path("llama-client.toml").write_text(
            f'[providers.box]\nkind = "nebius"\nbase_url = "{server.url}"\napi_key = "k"\n', encoding="utf-8"
        )
        env = {"LLAMA_CLIENT_CONFIG": "llama-client.toml"}
        models = run("models", "--json", env=env).document["providers"][0]
        told = {each["subject"]: each for each in run("doctor", "--json", env=env).document["findings"]}
    assert (models["kind"], models["models"][0]["target"]) == ("nebius", "box/m-1")
    assert "it serves 1 model" in told["box"]["message"]


@pytest.mark.parametrize(
    ("name", "model", "usd", "status"),
    [
        ("fireworks", "accounts/fireworks/models/gpt-oss-20b", "0.00000081", "exact"),
        ("cerebras", "gpt-oss-120b", "0.00000255", "exact"),
        ("openrouter", "openai/gpt-oss-120b", None, "estimated"),
        ("sambanova", "a-model-of-tomorrow", None, "unknown"),
        ("huggingface", "openai/gpt-oss-120b", None, "unknown"),
    ],
)
def test_a_price_is_found_by_the_service_wherever_it_is_asked(
    name: str, model: str, usd: str | None, status: str
) -> None:
    with (
        WireServer(lambda _: OPENAI.good(streams=False)) as server,
        LlamaClient(config_of(name, server.url)) as client,
    ):
        cost = client.ask("Hi", model=f"{name}/{model}").cost
    assert cost.status == status
    assert usd is None or cost.usd == Decimal(usd)


@pytest.mark.parametrize(
    "table",
    [
        '[providers.fireworks]\nbase_url = "https://evil.test"',
        '[providers.x]\nkind = "mistral"\nbase_url = "http://api.mistral.ai/v1"',
        '[providers.x]\nkind = "openai"\nbase_url = "https://evil.test"\napi_key_env = "HF_TOKEN"',
        '[providers.x]\nkind = "openai"\nbase_url = "https://evil.test"\napi_key_env = "LLAMA_API_KEY"',
        '[providers.deepinfra]\nproxy = "http://evil.test:1"',
        '[providers.groq]\napi_key_env = "DEEPINFRA_TOKEN"',
    ],
)
def test_a_file_that_was_only_found_sends_no_services_key_elsewhere(table: str) -> None:
    Path("llama-client.toml").write_text(table, encoding="utf-8")
    with pytest.raises(ConfigError, match="a file found in the working directory may not send"):
        load_config()


@pytest.mark.parametrize(
    "table",
    [
        "[providers.fireworks]\ntimeout_s = 5",
        '[providers.mistral]\nbase_url = "https://api.eu.mistral.ai/v1"',
        '[providers.vllm]\nbase_url = "http://gpu-box.lan:8000/v1"',
        '[providers.llamacpp]\nbase_url = "http://127.0.0.1:9931/v1"\napi_key_env = "LLAMA_API_KEY"',
    ],
)
def test_a_file_that_was_only_found_may_use_services(table: str) -> None:
    Path("llama-client.toml").write_text(table, encoding="utf-8")
    assert load_config().providers


def test_local_only_refuses_a_local_server_that_hands_prompts_on() -> None:
    with LlamaClient({"local_only": True}) as client:
        with pytest.raises(LocalOnlyError, match="LiteLLM"):
            client.ask("Hi", model="litellm/gpt")
        with pytest.raises(LocalOnlyError, match=re.escape("api.mistral.ai")):
            client.ask("Hi", model="mistral/m")


# Quirks.


@each_mode
@pytest.mark.parametrize(
    ("name", "params", "there", "absent"),
    [
        ("mistral", {"seed": 7}, {"random_seed": 7}, {"seed"}),
        ("mistral", {"user": "ann", "max_completion_tokens": 5}, {"max_tokens": 5}, {"user", "max_completion_tokens"}),
        ("cerebras", {"max_tokens": 5}, {"max_completion_tokens": 5}, {"max_tokens"}),
        ("deepseek", {"max_completion_tokens": 5}, {"max_tokens": 5}, {"max_completion_tokens"}),
        ("deepseek", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, {"reasoning_effort"}),
        ("lmstudio", {"repetition_penalty": 1.1}, {"repeat_penalty": 1.1}, {"repetition_penalty"}),
        ("vllm", {"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}, {"repeat_penalty"}),
        ("openai", {"repetition_penalty": 1.1}, {"repetition_penalty": 1.1, "repeat_penalty": 1.1}, set()),
        ("together", {"stop": "x"}, {"stop": ["x"]}, {"parallel_tool_calls"}),
        ("fireworks", {}, {"context_length_exceeded_behavior": "error"}, set()),
        ("xai", {"seed": 7, "n": 1}, {"seed": 7, "n": 1}, {"context_length_exceeded_behavior"}),
    ],
)
def test_fields_have_the_services_own_names(
    name: str, params: dict[str, Any], there: dict[str, Any], absent: set[str], mode: str
) -> None:
    body, _ = sent(name, mode, **params)
    assert {field: body.get(field) for field in there} == there
    assert not absent & set(body)


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
@pytest.mark.parametrize(
    ("name", "asked", "is_sent"),
    [
        ("fireworks", False, True),
        ("openrouter", False, False),
        ("openrouter", True, True),
        ("mistral", False, False),
        ("mistral", True, False),
    ],
)
def test_stream_options_go_only_to_those_who_take_them(name: str, asked: bool, is_sent: bool, mode: str) -> None:
    options = {"stream_options": {"include_usage": True}} if asked else {}
    body, reply = sent(name, mode, **options)
    assert ("stream_options" in body) is is_sent
    assert reply.usage.completion_tokens == 2


@pytest.mark.parametrize(
    ("name", "params", "param"),
    [
        ("cerebras", {"top_k": 5}, "top_k"),
        ("gemini", {"frequency_penalty": 0.5}, "frequency_penalty"),
        ("mistral", {"min_p": 0.1}, "min_p"),
        ("deepseek", {"seed": 1}, "seed"),
        ("deepseek", {"response_format": SCHEMA}, "response_format"),
        ("lmstudio", {"response_format": {"type": "json_object"}}, "response_format"),
        ("openrouter", {"n": 2}, "n"),
        ("sambanova", {"reasoning_effort": "max"}, "reasoning_effort"),
        ("together", {"parallel_tool_calls": False, "tools": [TOOL]}, "parallel_tool_calls"),
        ("cerebras", {"stop": ["1", "2", "3", "4", "5"]}, "stop"),
    ],
)
def test_what_a_service_does_not_take_is_refused_before_it_is_sent(name: str, params: Any, param: str) -> None:
    assert refused(name, **params).param == param


def test_a_service_without_schemas_is_told_the_schema_in_words(clean_home: Path) -> None:
    from pydantic import BaseModel

    class Answer(BaseModel):
        hum: str

    with WireServer(lambda _: OPENAI.good(streams=False, text='{"hum": "low"}')) as server:
        with LlamaClient(config_of("deepseek", server.url)) as client:
            reply = client.chat.completions.parse(
                model="deepseek/m", messages=[{"role": "user", "content": "Hi"}], response_format=Answer
            )
        body = server.requests[0].json
    assert body["response_format"] == {"type": "json_object"}
    assert "JSON schema" in json.dumps(body["messages"])
    assert reply.choices[0].message.parsed == Answer(hum="low")


def test_what_is_accepted_without_effect_is_said() -> None:
    _, reply = sent("deepseek", presence_penalty=0.5)
    assert reply.warnings == ["deepseek accepts presence_penalty and does not apply it yet"]


CALLED = [
    {"role": "developer", "content": "Hum."},
    {"role": "user", "name": "ann", "content": "Hi"},
    {
        "role": "assistant",
        "reasoning_content": "It wants a hum.",
        "tool_calls": [{"id": "call_of-groq-1", "type": "function", "function": {"name": "hum", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_of-groq-1", "content": "mmm"},
]


def test_a_strict_service_gets_messages_as_it_knows_them() -> None:
    body, _ = sent("mistral", prompt=CALLED, tools=[TOOL])
    system, user, assistant, tool = body["messages"]
    assert (system["role"], "name" in user, "reasoning_content" in assistant) == ("system", False, False)
    identity = assistant["tool_calls"][0]["id"]
    assert re.fullmatch("[a-zA-Z0-9]{9}", identity)
    assert tool["tool_call_id"] == identity
    again, _ = sent("mistral", prompt=CALLED, tools=[TOOL])
    assert again == body


def test_a_service_that_takes_more_gets_messages_unchanged() -> None:
    body, _ = sent("openai", prompt=CALLED, tools=[TOOL])
    developer, user, assistant, _ = body["messages"]
    assert (developer["role"], user["name"], assistant["tool_calls"][0]["id"]) == ("developer", "ann", "call_of-groq-1")


# What services answer.


def answered(name: str, *choices_and_usage: dict[str, Any], mode: str = "call-sync") -> ChatCompletion:
    """The reply to an answer of these objects: a whole one, or the events of a stream."""

    def answer(received: Received) -> Any:
        if not received.json.get("stream"):
            return as_json(choices_and_usage[0])
        return streamed([*(OPENAI.event(each) for each in choices_and_usage), b"data: [DONE]\n\n"])

    with WireServer(answer) as server:
        return Asker(mode, config_of(name, server.url), [])("Hi", model=f"{name}/m")


def whole(content: Any, usage: Any = None, finish: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


THOUGHT = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Low or high?"}]},
    {"type": "text", "text": "Low."},
]


@each_mode
def test_thinking_among_the_parts_of_a_text_is_reasoning(mode: str) -> None:
    stream = [OPENAI._chunk({"content": [part]}) for part in THOUGHT] + [OPENAI._chunk({}, "stop")]
    reply = answered("mistral", *(stream if mode.startswith("stream") else [whole(THOUGHT)]), mode=mode)
    assert (reply.text, reply.choices[0].message.reasoning) == ("Low.", "Low or high?")


def test_thinking_that_is_counted_beside_the_answer_is_paid_as_the_answer() -> None:
    beside = {"completion_tokens_details": {"reasoning_tokens": 100}, "prompt_tokens": 31, "completion_tokens": 10}
    assert answered("xai", whole("Hi", {**beside, "total_tokens": 141})).usage.completion_tokens == 110
    assert answered("xai", whole("Hi", {**beside, "total_tokens": 41})).usage.completion_tokens == 10


def test_cached_tokens_are_found_where_deepseek_puts_them() -> None:
    usage = answered(
        "deepseek", whole("Hi", {"prompt_tokens": 8, "completion_tokens": 1, "prompt_cache_hit_tokens": 6})
    ).usage
    assert usage.cached_tokens == 6


def test_an_answer_that_filled_the_model_is_cut_by_length() -> None:
    assert answered("mistral", whole("Hi", finish="model_length")).choices[0].finish_reason == "length"


def test_an_answer_that_the_server_had_no_room_for_is_no_answer() -> None:
    with pytest.raises(OverloadedError):
        answered("deepseek", whole("Hi", finish="insufficient_system_resource"))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gemini", [{"error": {"code": 400, "message": 'Unknown name "x"', "status": "INVALID_ARGUMENT"}}]),
        ("cerebras", {"message": 'Unknown name "x"', "type": "invalid_request_error", "code": "wrong_api_format"}),
    ],
)
def test_an_error_is_read_wherever_a_service_puts_it(name: str, body: Any) -> None:
    with (
        WireServer(lambda _: as_json(body, status=400)) as server,
        LlamaClient(config_of(name, server.url)) as client,
    ):
        with pytest.raises(BadRequestError, match='Unknown name "x"'):
            client.ask("Hi", model=f"{name}/m")


def test_a_compatible_server_of_ones_own_is_priced_by_its_address() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=OPENAI.whole())

    with sending.caught(assert_all_called=True) as router:
        router.post("https://api.deepseek.com/chat/completions").mock(side_effect=answer)
        config = {"providers": {"x": {"kind": "openai", "base_url": "https://api.deepseek.com", "api_key": KEY}}}
        with LlamaClient(config) as client:
            assert client.ask("Hi", model="x/deepseek-flash").cost.usd is not None


# Kind `openai` at an address: what a server understands is decided by where it is.


@pytest.mark.parametrize(
    ("url", "limit", "asks_for_usage"),
    [
        (None, "max_completion_tokens", True),
        ("https://api.openai.com/v1", "max_completion_tokens", True),
        ("https://my-team.openai.azure.com/openai/v1", "max_completion_tokens", True),
        ("https://api.mistral.ai/v1", "max_tokens", False),
        ("https://api.cerebras.ai/v1", "max_completion_tokens", True),
        ("https://api.deepseek.com/v1", "max_tokens", True),
        ("https://llm.test/v1", "max_tokens", True),
        ("https://api.openai.com.llm.test/v1", "max_tokens", True),
        ("http://127.0.0.1:11434/v1", "max_tokens", True),
    ],
)
@pytest.mark.parametrize("given", ["max_tokens", "max_completion_tokens"])
def test_a_compatible_server_is_sent_what_it_understands(
    url: str | None, limit: str, asks_for_usage: bool, given: str
) -> None:
    table = {"kind": "openai", "api_key": KEY} | ({"base_url": url} if url else {})
    with sending.caught(assert_all_called=True) as router, LlamaClient({"providers": {"x": table}}) as client:
        events = b"".join([OPENAI.text("Hello"), *OPENAI.ending()])
        route = router.post(f"{url or 'https://api.openai.com/v1'}/chat/completions").respond(
            content=events, headers={"content-type": "text/event-stream"}
        )
        params: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "model": "x/m", given: 9}
        for _ in client.chat.completions.create(stream=True, **params):
            pass
        body = json.loads(route.calls[0].request.content)
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == {limit: 9}
    assert ("stream_options" in body) is asks_for_usage


def test_the_variable_of_openai_s_address_means_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://llm.test/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with sending.caught(assert_all_called=True) as router, LlamaClient({}) as client:
        route = router.post("http://llm.test/v1/chat/completions").respond(json=OPENAI.whole())
        client.ask("Hi", model="openai/m", max_completion_tokens=9)
        body = json.loads(route.calls[0].request.content)
    assert (body["max_tokens"], "max_completion_tokens" in body) == (9, False)
