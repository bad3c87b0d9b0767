"""Failures as servers tell them: a row for each server, version and shape, with invented words around the deciding.

The next server is a row of `failures.json`: what it sends (`body` as JSON or `text`, under `status` and `type`), and
what that is (`error`, `says`, and where it matters `code`, `param`, `numbers`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llama_client import (
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    GenerationFailedError,
    LlamaClient,
    LlamaClientError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
    UnsupportedFeatureError,
    errors,
)
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import DIALECTS, OPENAI, Dialect
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, cut, streamed, whole
from llama_client.testing.seams import using
from llama_client.testing.wire_format import SSE
from tests.asking import MODES, Asker
from tests.wire.asking import PROMPT, failure

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "failures.json").read_text(encoding="utf-8"))
IMAGE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        ],
    }
]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
NO_IMAGES = {"error": {"code": 500, "message": "image input is not supported", "type": "server_error"}}
NO_TOOLS = {"error": {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}}

each_mode = pytest.mark.parametrize("mode", MODES)


def name_of(row: dict[str, Any]) -> str:
    return f"{row['server']} {row['version']}: {row['shape']}"


def dialect_of(row: dict[str, Any]) -> Dialect:
    return next(dialect for dialect in DIALECTS if dialect.kind == row.get("kind", "openai"))


def answer_of(row: dict[str, Any]) -> Answer:
    body = row["text"].encode() if "text" in row else json.dumps(row["body"]).encode()
    return whole(body, status=row["status"], headers={"content-type": row.get("type", "application/json")})


@each_mode
@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_failure_is_what_its_server_says_in_its_words(row: dict[str, Any], mode: str) -> None:
    dialect = dialect_of(row)
    with WireServer(dialect.answers(answer_of(row))) as server:
        error = failure(dialect, server.url, mode)
    kind = getattr(errors, row["error"])
    assert type(error) is kind, error
    assert row["says"] in str(error)
    assert error.http_status == row["status"]
    assert error.retryable is (kind.retryable_by_default and kind is not errors.InvalidResponseError)
    assert error.failover is kind.failover_by_default
    if "code" in row:
        assert error.provider_code == row["code"]
    if "numbers" in row:
        assert isinstance(error, ContextLengthError)
        assert [error.prompt_tokens, error.context_tokens] == row["numbers"]
    if isinstance(error, UnsupportedFeatureError):
        assert error.param == row["param"]


def choice(**fields: Any) -> bytes:
    value = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, **fields}],
    }
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def said(**fields: Any) -> bytes:
    return choice(delta={"content": "One"}, finish_reason=None, **fields)


LIMITED = {"code": 429, "message": "limited upstream", "metadata": {"raw": "try shortly"}}
TOO_LONG = {"code": 400, "message": "the request exceeds the available context size", "type": "invalid_request_error"}
END = b"data: [DONE]\n\n"
# What a stream tells after nothing or after some text, and the error that it is.
TOLD_IN_STREAMS: dict[str, tuple[bytes, type[ProviderError], str]] = {
    "llama.cpp until 2025-09: a line error:": (
        b"error: " + json.dumps(TOO_LONG).encode() + b"\n\n",
        ContextLengthError,
        "size",
    ),
    "GPUStack: a line error: with more": (
        b"error: " + json.dumps({"detail": "x", "error": {"message": TOO_LONG["message"]}}).encode() + b"\n\n",
        ContextLengthError,
        "size",
    ),
    "a line error: with text": (b"error: the engine died\n\n", ServerError, "engine died"),
    "an event error with text": (b"event: error\ndata: the engine died\n\n", ServerError, "engine died"),
    "Lemonade: bare JSON": (json.dumps({"error": TOO_LONG}).encode() + b"\n", ContextLengthError, "size"),
    "bare JSON in a list": (json.dumps([{"error": TOO_LONG}]).encode() + b"\n", ContextLengthError, "size"),
    "vLLM: an error object": (
        b"data: " + json.dumps({"error": TOO_LONG}).encode() + b"\n\n",
        ContextLengthError,
        "size",
    ),
    "vLLM 0.5: an error at the top": (
        b"data: " + json.dumps({"object": "error", **TOO_LONG}).encode() + b"\n\n",
        ContextLengthError,
        "size",
    ),
    "an error as text": (b'data: {"error": "rate limit reached"}\n\n', RateLimitError, "rate limit"),
    "errors in a list": (b'data: {"errors": [{"message": "the engine died"}]}\n\n', ServerError, "engine died"),
    "OpenRouter: an error in a choice": (
        choice(delta={"content": ""}, finish_reason="error", error=LIMITED),
        RateLimitError,
        "limited upstream: try shortly",
    ),
    "an error as text in a choice": (choice(delta={}, finish_reason=None, error="gone"), ServerError, "gone"),
    "Alibaba: a code and a message": (
        b'data: {"code": "InvalidApiKey", "message": "the key is odd", "request_id": "r"}\n\n',
        AuthenticationError,
        "the key is odd",
    ),
    "a status and a message": (b'data: {"code": 503, "message": "the engine is full"}\n\n', OverloadedError, "full"),
    "a broken reason": (choice(delta={}, finish_reason="network_error"), ServerError, "network_error"),
    "a broken reason behind a gateway's": (
        choice(delta={"content": ""}, finish_reason="stop", native_finish_reason="network_error"),
        ServerError,
        "network_error",
    ),
    "a server without resources, behind a gateway's reason": (
        choice(delta={}, finish_reason="stop", native_finish_reason="insufficient_system_resource"),
        OverloadedError,
        "insufficient_system_resource",
    ),
}


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize("after_text", [False, True])
@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
@pytest.mark.parametrize(("told", "kind", "says"), TOLD_IN_STREAMS.values(), ids=TOLD_IN_STREAMS.keys())
def test_an_error_within_a_stream_is_found_wherever_it_is(
    told: bytes, kind: type[ProviderError], says: str, mode: str, after_text: bool, size: int | None
) -> None:
    data = (said() if after_text else b"") + told + END
    pieces = [data] if size is None else cut(data, size)
    with WireServer(OPENAI.answers(streamed(pieces, headers=SSE))) as server:
        error = failure(OPENAI, server.url, mode)
    cause: BaseException | None = error
    if after_text:
        assert isinstance(error, StreamInterruptedError)
        assert error.partial is not None
        assert error.partial.text == "One"
        cause = error.__cause__
    assert type(cause) is kind
    assert says in str(error)


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_json_over_several_lines_instead_of_a_stream_is_read(mode: str) -> None:
    body = json.dumps({"error": TOO_LONG}, indent=2).encode()
    with WireServer(OPENAI.answers(whole(body, headers=SSE))) as server:
        error = failure(OPENAI, server.url, mode)
    assert type(error) is ContextLengthError


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
@pytest.mark.parametrize(
    "noise",
    [
        b"{not json}\n\n",
        b"[1, 2]x\n",
        b"hello\n",
        b"{\n",
        b'data: {"progress": 3}\n\n',
        b'data: {"code": "loading", "message": "half done"}\n\n',
        b'data: {"error_code": 0, "error": null}\n\n',
    ],
)
def test_what_is_neither_an_event_nor_an_error_is_left_out(noise: bytes, mode: str) -> None:
    pieces = [OPENAI.preamble(), noise, OPENAI.text("Hello"), *OPENAI.ending()]
    with WireServer(OPENAI.answers(streamed(pieces, headers=SSE))) as server:
        asked = Asker(mode, OPENAI.config(server.url), [])
        reply = asked(PROMPT, model="x/m")
    assert reply.text == "Hello"
    assert json.dumps(reply.raw)


@pytest.mark.parametrize("mode", ["call-sync", "call-async"])
@pytest.mark.parametrize(
    ("fields", "kind", "says"),
    [
        ({"finish_reason": "error", "error": LIMITED}, RateLimitError, "limited upstream: try shortly"),
        ({"finish_reason": None, "error": LIMITED}, RateLimitError, "limited upstream"),
        ({"finish_reason": "stop", "native_finish_reason": "network_error"}, ServerError, "network_error"),
        ({"finish_reason": "network_error"}, ServerError, "network_error"),
    ],
)
def test_an_error_beside_the_message_of_a_whole_answer_is_found(
    fields: dict[str, Any], kind: type[ProviderError], says: str, mode: str
) -> None:
    body = OPENAI.whole() | {"choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, **fields}]}
    with WireServer(OPENAI.answers(as_json(body))) as server:
        error = failure(OPENAI, server.url, mode)
    assert type(error) is kind
    assert says in str(error)


FILTERED = {"finish_reason": "content_filter", "content_filter_results": {"hate": {"filtered": True}}}


@each_mode
def test_a_filtered_answer_without_a_message_is_an_answer(mode: str) -> None:
    body = OPENAI.whole() | {"choices": [{"index": 0, **FILTERED}]}
    answer = as_json(body) if mode.startswith("call") else streamed([choice(**FILTERED), END], headers=SSE)
    with WireServer(OPENAI.answers(answer)) as server:
        asked = Asker(mode, OPENAI.config(server.url), [])
        reply = asked(PROMPT, model="x/m")
    assert (reply.choices[0].finish_reason, reply.text) == ("content_filter", "")


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_filter_that_cuts_a_stream_ends_the_answer_with_a_warning(mode: str) -> None:
    told = {"error": {"code": "data_inspection_failed", "message": "Output data may contain inappropriate content."}}
    pieces = [said(), b"data: " + json.dumps(told).encode() + b"\n\n"]
    with WireServer(OPENAI.answers(streamed(pieces, headers=SSE))) as server:
        asked = Asker(mode, OPENAI.config(server.url), [])
        reply = asked(PROMPT, model="x/m")
    assert (reply.choices[0].finish_reason, reply.text) == ("content_filter", "One")
    assert "inappropriate content" in reply.warnings[0]


class Thing(BaseModel):
    name: str


def test_an_object_that_a_filter_cut_is_asked_for_once() -> None:
    body = OPENAI.whole() | {"choices": [{"index": 0, **FILTERED}]}
    with WireServer(lambda _: as_json(body)) as server:
        config = {**OPENAI.config(server.url), "routing": {"retries": 2}}
        with LlamaClient(config) as client, pytest.raises(GenerationFailedError, match="content filter"):
            client.chat.completions.parse(messages=[{"role": "user", "content": "x"}], response_format=Thing)
        assert len(server.requests) == 1


def without(body: Any, refused: Callable[[Any], bool]) -> Callable[[Received], Answer]:
    """A server that refuses requests with a feature, and answers all others."""

    def answer(request: Received) -> Answer:
        if refused(request.json):
            return as_json(body, status=500)
        return OPENAI.good(streams=bool(request.json.get("stream")), text="near")

    return answer


def two_targets(near: WireServer, far: WireServer, **routing: Any) -> dict[str, Any]:
    tables = {name: {"kind": "openai", "base_url": f"{each.url}/v1"} for name, each in (("near", near), ("far", far))}
    return {"providers": tables, "routes": {"r": {"targets": ["near/m", "far/m"]}}, "routing": routing}


def has_images(body: Any) -> bool:
    return "image_url" in json.dumps(body)


def answers_far(request: Received) -> Answer:
    return OPENAI.good(streams=bool(request.json.get("stream")), text="far")


@each_mode
@pytest.mark.parametrize(
    ("body", "refused", "params"),
    [
        (NO_IMAGES, has_images, {"messages": IMAGE}),
        (NO_TOOLS, lambda body: "tools" in body, {"messages": "hi", "tools": TOOLS}),
    ],
    ids=["images", "tools"],
)
def test_what_a_target_cannot_do_goes_to_the_next_and_is_remembered_without_opening_its_circuit(
    body: Any, refused: Callable[[Any], bool], params: dict[str, Any], mode: str
) -> None:
    messages = params["messages"]
    messages = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    more = {name: value for name, value in params.items() if name != "messages"}
    with WireServer(without(body, refused)) as near, WireServer(answers_far) as far:
        with LlamaClient(two_targets(near, far)) as client:
            for attempts in (["error", "ok"], ["skipped", "ok"], ["skipped", "ok"], ["skipped", "ok"]):
                if mode.startswith("stream"):
                    with client.chat.completions.create(model="r", messages=messages, stream=True, **more) as stream:
                        list(stream)
                    reply = stream.completion
                else:
                    reply = client.chat.completions.create(model="r", messages=messages, **more)
                assert (reply.text, [attempt.outcome for attempt in reply.attempts]) == ("far", attempts)
            plain = client.ask("hi", model="r")
            assert plain.text == "near"
            assert [attempt.outcome for attempt in plain.attempts] == ["ok"]
        assert len(near.requests) == 2


def test_a_lone_target_tells_what_it_has_refused_before_anything_is_sent() -> None:
    with WireServer(without(NO_IMAGES, has_images)) as server:
        config = {**OPENAI.config(server.url), "routing": {"retries": 0}}
        with LlamaClient(config) as client:
            for _ in range(3):
                with pytest.raises(UnsupportedFeatureError, match="image input is not supported") as caught:
                    client.chat.completions.create(model="x/m", messages=IMAGE)
                assert caught.value.param == "messages"
            assert client.ask("hi", model="x/m").text == "near"
        assert len(server.requests) == 2


def test_a_refusal_is_forgotten_after_minutes() -> None:
    clock = FakeClock()
    with WireServer(without(NO_IMAGES, has_images)) as near, WireServer(answers_far) as far:
        with using(clock=clock.clock), LlamaClient(two_targets(near, far)) as client:
            for later_s in (0.0, 200.0, 200.0):
                clock.turn(later_s)
                client.chat.completions.create(model="r", messages=IMAGE)
        assert len(near.requests) == 2


def test_a_value_that_was_refused_is_refused_no_more_with_another_value() -> None:
    told = {
        "error": {
            "message": "Unsupported value: 'temperature' does not support 0.2 with this model.",
            "param": "temperature",
            "code": "unsupported_value",
        }
    }
    refuses = without(told, lambda body: body.get("temperature") == 0.2)
    with WireServer(refuses) as near, WireServer(answers_far) as far:
        with LlamaClient(two_targets(near, far)) as client:
            assert [client.ask("hi", model="r", temperature=0.2).text for _ in range(2)] == ["far", "far"]
            assert client.ask("hi", model="r", temperature=1.0).text == "near"
        assert [request.json["temperature"] for request in near.requests] == [0.2, 1.0]


def test_what_was_refused_is_left_out_where_the_user_wants_that() -> None:
    with WireServer(without(NO_TOOLS, lambda body: "tools" in body)) as server:
        config = {**OPENAI.config(server.url), "routing": {"retries": 0, "drop_unsupported": True}}
        with LlamaClient(config) as client:
            for _ in range(2):
                reply = client.chat.completions.create(
                    model="x/m", messages=[{"role": "user", "content": "hi"}], tools=TOOLS
                )
                assert reply.text == "near"
                assert "tools was left out" in reply.warnings[0]
        assert ["tools" in request.json for request in server.requests] == [True, False, False]


# What a caller did wrong, under statuses that otherwise mean that a server is broken.
WRONG_REQUESTS = [
    row for row in ROWS if row["error"] in ("BadRequestError", "ContextLengthError", "UnsupportedFeatureError")
]


@pytest.mark.parametrize("row", WRONG_REQUESTS, ids=name_of)
def test_nothing_that_a_caller_did_wrong_opens_a_circuit(row: dict[str, Any]) -> None:
    dialect = dialect_of(row)
    with WireServer(lambda _: answer_of(row)) as server:
        config = {**dialect.config(server.url, api_key="k"), "routing": {"retries": 0, "breaker_failures": 1}}
        with LlamaClient(config) as client:
            for _ in range(2):
                with pytest.raises(LlamaClientError):
                    client.ask("hi", model="x/m")
            (health,) = client.health().values()
    assert (health.breaker, health.failures_in_row) == ("closed", 0)


ADDRESSES = [
    ("ollama", "/v1", ""),
    ("ollama", "/v1/", ""),
    ("ollama", "/api", ""),
    ("ollama", "/api/chat", ""),
    ("openai", "", "/v1"),
    ("openai", "/api", "/v1"),
    ("openai", "/v1/v1", "/v1"),
    ("openai", "/v1/chat/completions", "/v1"),
]


@each_mode
@pytest.mark.parametrize(("kind", "wrong", "right"), ADDRESSES)
def test_a_wrong_address_is_told_with_the_right_one(kind: str, wrong: str, right: str, mode: str) -> None:
    dialect = Dialect(kind, f"{right}/chat/completions", base=wrong)

    def answer(_: Received) -> Answer:
        return whole(b"404 page not found", status=404, headers={"content-type": "text/plain"})

    with WireServer(answer) as server:
        error = failure(dialect, server.url, mode)
        assert f"it should probably be {server.url}{right})" in str(error)
    assert type(error) is errors.InvalidResponseError
    assert "pull" not in str(error)


@each_mode
@pytest.mark.parametrize(
    "answer",
    [
        whole(b"Internal Server Error", status=500),
        as_json({"error": {"message": "Internal server error", "type": "internal_server_error"}}, status=500),
    ],
    ids=["text", "JSON"],
)
def test_a_server_that_breaks_without_a_key_may_lack_it(answer: Answer, mode: str) -> None:
    with WireServer(lambda _: answer) as server:
        asked = Asker(mode, OPENAI.config(server.url), [])
        with pytest.raises(ServerError, match="no API key was sent"):
            asked(PROMPT, model="x/m")
        assert "no API key" not in str(failure(OPENAI, server.url, mode))


@pytest.mark.parametrize("mode", MODES)
def test_a_route_goes_on_from_an_unknown_model(mode: str) -> None:
    told = {
        "error": {"message": "Invalid model name passed in model=gone", "type": "invalid_request_error", "code": "400"}
    }

    def answer(request: Received) -> Answer:
        if request.json["model"] == "gone":
            return as_json(told, status=400)
        return OPENAI.good(streams=bool(request.json.get("stream")))

    with WireServer(answer) as server:
        asked = Asker(mode, OPENAI.config(server.url), [])
        reply = asked(PROMPT, model=["x/gone", "x/m"])
    assert [attempt.error for attempt in reply.attempts] == ["ModelNotFoundError", None]


def test_a_message_is_bounded_and_so_is_the_search_in_it() -> None:
    long = "model " * 700_000
    for body in (
        {"error": {"message": long}},
        {"errors": [long] * 3},
        [[[[[[[[[long]]]]]]]]],
        {"detail": [{"x": long}] * 9},
    ):
        with WireServer(OPENAI.answers(as_json(body, status=400))) as server:
            error = failure(OPENAI, server.url, "call-sync")
        assert isinstance(error, BadRequestError)
        assert len(str(error)) <= 4001
