"""What is Ollama's own: its server that may not run, its options, what it does without telling, and its clocks."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from llama_client import (
    APIConnectionError,
    BadRequestError,
    ChatCompletion,
    ConfigError,
    ContextLengthError,
    LlamaClient,
    LocalOnlyError,
    ModelNotFoundError,
    UnsupportedFeatureError,
)
from llama_client.providers.ollama import ollama_url
from llama_client.testing.dialects import OLLAMA
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, closed_port, streamed, whole
from tests.asking import MODES, Asker

each_mode = pytest.mark.parametrize("mode", MODES)


def ask(mode: str, *answers: Answer, prompt: Any = "Hi", model: str = "x/llama3.1:8b", **params: Any) -> Any:
    """The reply, and the body of the request; `config` and `table` change the configuration."""
    config, table = params.pop("config", {}), params.pop("table", {})
    with WireServer(OLLAMA.answers(*answers)) as server:
        asker = Asker(mode, {**OLLAMA.config(server.url, **table), **config}, [])
        reply = asker(prompt, model=model, timeout=10.0, **params)
        return reply, server.requests[-1].json


def done(mode: str, **facts: Any) -> Answer:
    body = {"model": "m", "message": {"role": "assistant", "content": "Hello"}, "done": True, "done_reason": "stop"}
    if mode.startswith("stream"):
        text = {**body, "done": False, "created_at": facts.get("created_at")}
        last = {**body, **facts, "message": {"role": "assistant", "content": ""}}
        return streamed([OLLAMA.event(text), OLLAMA.event(last)], headers=OLLAMA.stream_headers)
    return as_json({**body, **facts})


def sent(**params: Any) -> dict[str, Any]:
    _, body = ask("call-sync", done("call"), **params)
    assert isinstance(body, dict)
    return body


@each_mode
def test_an_ollama_that_does_not_run_is_told_at_once_with_the_remedy(mode: str) -> None:
    started = time.monotonic()
    with closed_port() as url:
        with pytest.raises(APIConnectionError, match="ollama serve") as caught:
            Asker(mode, OLLAMA.config(url), [])("Hi", model="x/llama3.1:8b", timeout=30.0)
    assert time.monotonic() - started < 3
    assert url in str(caught.value)
    assert (caught.value.retryable, caught.value.failover) == (True, True)
    assert caught.value.attempts[0].sent is False


@each_mode
def test_a_model_that_is_not_there_comes_with_the_command_that_pulls_it(mode: str) -> None:
    answer = as_json({"error": "model 'llama3.1:8b' not found"}, status=404)
    with pytest.raises(ModelNotFoundError, match=r"ollama pull llama3\.1:8b") as caught:
        ask(mode, answer)
    assert (caught.value.http_status, caught.value.failover) == (404, True)


def test_options_of_the_table_and_of_the_call_travel_together_and_the_calls_win() -> None:
    body = sent(
        table={"options": {"num_ctx": 8192, "temperature": 0.1, "num_thread": 4}, "keep_alive": "10m"},
        temperature=0.7,
        top_p=0.5,
        top_k=7,
        min_p=0.1,
        seed=3,
        max_tokens=64,
        stop="END",
        repetition_penalty=1.1,
    )
    assert body["options"] == {
        "num_ctx": 8192,
        "num_thread": 4,
        "temperature": 0.7,
        "top_p": 0.5,
        "top_k": 7,
        "min_p": 0.1,
        "seed": 3,
        "num_predict": 64,
        "stop": ["END"],
        "repeat_penalty": 1.1,
    }
    assert (body["keep_alive"], body["model"], body["stream"]) == ("10m", "llama3.1:8b", False)


@pytest.mark.parametrize(
    ("written", "expected"),
    # A number in quotes, as in OLLAMA_KEEP_ALIVE, is refused by Ollama 0.34.2: "time: missing unit in duration".
    [("10m", "10m"), (300, 300), (-1, -1), (0, 0), ("-1", -1), ("300", 300), ("0", 0), ("1.5", 1.5), ("1h5m", "1h5m")],
)
def test_keep_alive_may_be_a_duration_or_seconds(written: Any, expected: Any) -> None:
    kept = sent(table={"keep_alive": written})["keep_alive"]
    assert (kept, type(kept)) == (expected, type(expected))


@pytest.mark.parametrize("written", ["10 minutes", "forever", "", "5d", "m", True, float("nan"), float("inf")])
def test_a_keep_alive_that_ollama_refuses_is_refused_in_the_configuration(written: Any) -> None:
    with pytest.raises(ConfigError, match=r"keep_alive: must be a duration such as \"10m\", or a number of seconds"):
        sent(table={"keep_alive": written})


def test_without_settings_nothing_is_set_but_that_prompts_are_not_cut() -> None:
    assert set(sent()) == {"model", "messages", "stream", "truncate"}


@pytest.mark.parametrize(
    ("table", "extra", "truncate"),
    [
        ({}, {}, False),
        ({"allow_truncation": False}, {}, False),
        ({"allow_truncation": True}, {}, None),
        ({}, {"truncate": True}, True),
    ],
)
def test_ollama_is_told_not_to_cut_a_prompt_unless_it_may(table: Any, extra: Any, truncate: Any) -> None:
    assert sent(table=table, extra_body=extra).get("truncate") is truncate


def test_a_calls_own_options_change_only_what_they_name() -> None:
    body = sent(table={"options": {"num_ctx": 8192, "num_gpu": 1}}, extra_body={"options": {"num_ctx": 4096}})
    assert body["options"] == {"num_ctx": 4096, "num_gpu": 1}


@pytest.mark.parametrize(
    ("effort", "think"), [("none", False), ("low", "low"), ("medium", "medium"), ("high", "high"), (None, None)]
)
def test_reasoning_is_switched_by_think(effort: Any, think: Any) -> None:
    assert sent(reasoning_effort=effort).get("think") == think


@each_mode
def test_thinking_is_reasoning_and_can_be_hidden(mode: str) -> None:
    message = {"role": "assistant", "content": "Yes.", "thinking": "Hm."}
    body = {"model": "m", "message": message, "done": True, "done_reason": "stop"}
    answers = [
        as_json(body) if mode.startswith("call") else streamed([OLLAMA.event(body)], headers=OLLAMA.stream_headers)
        for _ in range(2)
    ]
    shown, _ = ask(mode, answers[0], reasoning_effort="low")
    hidden, _ = ask(mode, answers[1], reasoning_effort="low", reasoning_format="hidden")
    assert (shown.choices[0].message.reasoning, hidden.choices[0].message.reasoning) == ("Hm.", None)


def test_formats_travel_as_ollama_wants_them() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert sent(response_format=form)["format"] == schema
    assert sent(response_format={"type": "json_object"})["format"] == "json"
    assert "format" not in sent(response_format={"type": "text"})


@pytest.mark.parametrize(("param", "value"), [("n", 2), ("logit_bias", {"1": 1}), ("service_tier", "flex")])
def test_what_ollama_would_ignore_is_refused_before_it_is_sent(param: str, value: Any) -> None:
    with pytest.raises(UnsupportedFeatureError) as caught:
        ask("call-sync", **{param: value})
    assert caught.value.param == param
    assert caught.value.attempts[0].outcome == "skipped"


CUT = "probably cut"
# Twelve thousand bytes: as long as a text of 4096 tokens may well be.
ORDINARY = "Why do llamas hum? " * 600
# What Ollama 0.34.2 made of these prompts: all have 6 bytes a token.
HELLO = "hello world "
HISTORY = [
    {"role": "assistant" if turn % 2 else "user", "content": f"message {turn} {HELLO * 200}"} for turn in range(13)
]
OF_THE_REAL_SERVER = [
    pytest.param(4096, HELLO * 2500, 2050, id="half of the default context"),
    pytest.param(4096, HISTORY, 3692, id="a conversation by whole messages"),
    pytest.param(512, HELLO * 325, 258, id="half of num_ctx"),
    pytest.param(256, HELLO * 300, 130, id="half of the Modelfile's context"),
]


def reading(mode: str, prompt: Any, tokens: int, *, context: int | None, **params: Any) -> Any:
    """The reply of a server that has read so many tokens, and the paths that it was asked for."""

    def answer(request: Received) -> Answer:
        if request.path == "/api/ps":
            rows = [{"name": "other:latest", "context_length": 7}, {"name": "demo:latest", "context_length": context}]
            return as_json({"models": rows}) if context else as_json({"error": "gone"}, status=500)
        return done(mode, prompt_eval_count=tokens, eval_count=1)

    with WireServer(answer) as server:
        asker = Asker(mode, OLLAMA.config(server.url, **params), [])
        reply = asker(prompt, model="x/demo", timeout=10.0)
        return reply, [request.path for request in server.requests]


@each_mode
@pytest.mark.parametrize(("context", "prompt", "tokens"), OF_THE_REAL_SERVER)
@pytest.mark.parametrize("options", [{}, {"allow_truncation": True}], ids=["as usual", "allowed"])
def test_a_prompt_that_was_cut_is_told_with_the_context_that_the_server_names(
    context: int, prompt: Any, tokens: int, options: Any, mode: str
) -> None:
    reply, paths = reading(mode, prompt, tokens, context=context, **options)
    (warning,) = reply.warnings
    assert CUT in warning
    assert f"read {tokens} tokens" in warning
    assert f"its context holds {context}" in warning
    assert paths == ["/api/chat", "/api/ps"]


@pytest.mark.parametrize(
    ("context", "prompt", "tokens"),
    [
        # Prompts of 6 bytes a token, and of ordinary ones, that were read to their end.
        pytest.param(8192, HELLO * 2500, 5010, id="long words in a longer context"),
        pytest.param(4096, HELLO * 1900, 3810, id="nearly all of it"),
        pytest.param(2048, "word " * 1880, 1900, id="ordinary"),
        pytest.param(131072, "-" * 40_000, 2600, id="few tokens of a drawing in a long context"),
        pytest.param(4096, "Hi", 12, id="short"),
    ],
)
@pytest.mark.parametrize("mode", ["call-sync", "stream-async"])
def test_a_prompt_that_was_read_to_its_end_is_not_suspected(context: int, prompt: str, tokens: int, mode: str) -> None:
    reply, _ = reading(mode, prompt, tokens, context=context)
    assert reply.warnings == []


@pytest.mark.parametrize(
    ("num_ctx", "tokens", "prompt", "warns"),
    [
        (2048, 2048, "word " * 9000, True),
        (2048, 2040, "word " * 2100, True),
        (2048, 1900, "word " * 1880, False),
        (2048, 12, "Hi", False),
        (8192, 3000, ORDINARY, False),
        (None, 4096, "word " * 20000, True),
        (None, 3000, ORDINARY, False),
        (None, 12, "Hi", False),
        (None, 26, "x" * 60, False),
        # Only the system message and the last one were left, so that few tokens were read of a very long text.
        (4096, 40, "word " * 50_000, True),
        (None, 40, "word " * 50_000, True),
    ],
)
@pytest.mark.parametrize("mode", ["call-sync", "stream-async"])
def test_a_server_that_does_not_tell_its_context_is_judged_by_what_was_asked_for(
    num_ctx: int | None, tokens: int, prompt: str, warns: bool, mode: str
) -> None:
    options = {"options": {"num_ctx": num_ctx}} if num_ctx else {}
    reply, _ = reading(mode, prompt, tokens, context=None, **options)
    assert [CUT in warning for warning in reply.warnings] == ([True] if warns else [])


@pytest.mark.parametrize("tokens", [3900, 4000, 32000, 4095])
def test_a_long_prompt_that_fits_a_larger_context_is_not_suspected(tokens: int) -> None:
    """Whose context is 128k has no reason to be warned at 4k."""
    reply, _ = reading("call-sync", "word " * tokens, tokens, context=131072)
    assert reply.warnings == []


def test_a_prompt_that_was_not_counted_is_not_suspected() -> None:
    reply, _ = ask("call-sync", done("call", eval_count=1), prompt=ORDINARY)
    assert reply.warnings == []
    assert reply.usage.prompt_tokens is None


@each_mode
def test_a_prompt_that_ollama_refuses_comes_with_both_numbers_and_the_ways_out(mode: str) -> None:
    """As Ollama 0.34.2 answers `truncate: false`."""
    told = "request (5011 tokens) exceeds the available context size (4096 tokens), try increasing it"
    with pytest.raises(ContextLengthError, match=r"options\.num_ctx.*allow_truncation") as caught:
        ask(mode, as_json({"error": told}, status=400))
    assert (caught.value.prompt_tokens, caught.value.context_tokens) == (5011, 4096)
    assert caught.value.failover is True


@each_mode
def test_an_error_that_is_nested_as_text_is_read(mode: str) -> None:
    inner = {
        "code": 400,
        "message": "the request exceeds the available context size",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 5000,
        "n_ctx": 4096,
    }
    with pytest.raises(ContextLengthError) as caught:
        ask(mode, as_json({"error": json.dumps({"error": inner})}, status=400))
    assert (caught.value.prompt_tokens, caught.value.context_tokens) == (5000, 4096)
    assert (caught.value.provider_code, caught.value.http_status) == ("exceed_context_size_error", 400)


@each_mode
def test_an_option_of_a_wrong_type_is_the_callers_mistake_whatever_the_status(mode: str) -> None:
    answer = as_json({"error": 'option "num_ctx" must be of type integer'}, status=500)
    with pytest.raises(BadRequestError) as caught:
        ask(mode, answer, table={"options": {"num_ctx": "much"}})
    assert (caught.value.http_status, caught.value.retryable, caught.value.failover) == (500, False, False)


@each_mode
@pytest.mark.parametrize(
    ("model", "status"), [("llama3.1:8b", "free"), ("gpt-oss:120b-cloud", "unknown"), ("x:cloud", "unknown")]
)
def test_what_runs_here_is_free_and_what_the_cloud_answers_has_no_known_price(
    mode: str, model: str, status: str
) -> None:
    reply, _ = ask(mode, done(mode, prompt_eval_count=3, eval_count=2), model=f"x/{model}")
    assert reply.cost.status == status
    assert reply.cost.usd == (0 if status == "free" else None)
    assert reply.attempts[0].cost is not None
    assert reply.attempts[0].cost.status == status


@each_mode
def test_local_only_refuses_what_the_daemon_hands_on(mode: str) -> None:
    with WireServer(OLLAMA.answers()) as server:
        with pytest.raises(LocalOnlyError, match="cloud"):
            Asker(mode, {**OLLAMA.config(server.url), "local_only": True}, [])("Hi", model="x/gpt-oss:120b-cloud")
        assert server.requests == []


@each_mode
def test_ollamas_own_clocks_are_told_in_seconds(mode: str) -> None:
    clocks = {"total_duration": 5_000_000_000, "load_duration": 2_500_000_000, "eval_duration": 500_000_000}
    reply, _ = ask(mode, done(mode, **clocks, prompt_eval_count=3, eval_count=20))
    timing = reply.timing
    assert (timing.total_s, timing.load_s, timing.tokens_per_s) == pytest.approx((5.0, 2.5, 40.0))
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (3, 20, 23)


@each_mode
@pytest.mark.parametrize(
    "clocks",
    [
        # Ollama 0.34.2 of a single token: nothing was measured.
        {"eval_count": 1, "eval_duration": 1000},
        {"eval_count": 1, "eval_duration": 50_000_000},
        {"eval_count": 2, "eval_duration": 1000},
        {"eval_count": 20, "eval_duration": 0},
    ],
    ids=lambda clocks: "-".join(map(str, clocks.values())),
)
def test_a_speed_that_nothing_has_measured_is_not_told(clocks: Any, mode: str) -> None:
    reply, _ = ask(mode, done(mode, **clocks, prompt_eval_count=3))
    speed = reply.timing.tokens_per_s
    # A stream is measured here too, where the server says nothing of use.
    assert speed is None or (mode.startswith("stream") and speed <= 100_000)


@each_mode
def test_the_tokens_that_came_from_its_cache_are_counted(mode: str) -> None:
    reply, _ = ask(mode, done(mode, prompt_eval_count=16, prompt_eval_cached_count=15, eval_count=8))
    assert (reply.usage.prompt_tokens, reply.usage.cached_tokens) == (16, 15)


def test_clocks_that_are_not_told_are_not_made_up() -> None:
    reply: ChatCompletion
    reply, _ = ask("call-sync", done("call"))
    assert (reply.timing.load_s, reply.timing.queue_s) == (None, None)
    assert reply.usage.completion_tokens is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("gpu:8080", "http://gpu:8080"),
        ("https://ollama.com", "https://ollama.com"),
    ],
)
def test_a_host_a_port_or_a_url_is_an_address(host: str, url: str) -> None:
    assert ollama_url(host) == url


@pytest.mark.parametrize("host", ["::1", "[::1]", "::"])
def test_an_ipv6_address_is_understood_as_it_is(host: str) -> None:
    assert ollama_url(host) == "http://[::1]:11434"


def test_whoever_serves_an_image_is_told_nothing_of_the_user_s_own_client() -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
    pictures = WireServer(lambda _: whole(png, headers={"content-type": "image/png"}))
    ollama = WireServer(OLLAMA.answers(as_json(OLLAMA.whole())))
    with pictures, ollama, httpx.Client(auth=("user", "a-password")) as http:
        image = {"type": "image_url", "image_url": {"url": f"{pictures.url}/llama.png"}}
        with LlamaClient(OLLAMA.config(ollama.url), http_client=http) as client:
            client.ask([{"role": "user", "content": [image]}])
        assert "authorization" not in pictures.requests[0].headers
        assert "authorization" in ollama.requests[0].headers


@each_mode
@pytest.mark.parametrize(
    "written", ["2026-11-23T17:00:00.123456789Z", "2026-11-23T18:00:00+01:00", "2026-11-23T17:00:00"]
)
def test_an_answer_was_created_when_the_server_says(mode: str, written: str) -> None:
    reply, _ = ask(mode, done(mode, created_at=written))
    assert reply.created == 1795453200


@each_mode
@pytest.mark.parametrize("written", [None, "", "yesterday", 1795453200, "0001-01-01T00:00:00Z", "2026-13-01T00:00:00Z"])
def test_an_answer_whose_time_is_not_told_was_created_when_it_came(mode: str, written: Any) -> None:
    before = int(time.time())
    reply, _ = ask(mode, done(mode, created_at=written))
    assert before <= reply.created <= time.time()
