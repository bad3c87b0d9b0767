"""Fields that nobody asked for: where a server refuses one by name, the same call goes without it, and the next too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llama_client import UnsupportedFeatureError
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, streamed
from tests.routing.asking import MODES, Session, ask, ask_all, config, good, story

each_mode = pytest.mark.parametrize("mode", MODES)
each_stream = pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
NO_RETRIES = {"routing": {"retries": 0}}
NEWER, OLDER = "max_completion_tokens", "max_tokens"


def error(message: str, **facts: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **facts}}


def extra(*place: str) -> dict[str, Any]:
    """A validation of FastAPI's servers."""
    return {"detail": [{"type": "extra_forbidden", "loc": list(place), "msg": "Extra inputs are not permitted"}]}


def refusing(*fields: str, body: Any, status: int = 400) -> Callable[[Received], Answer]:
    """A server that answers only requests without these fields."""

    def answer(request: Received) -> Answer:
        if any(field in request.json for field in fields):
            return as_json(body, status=status)
        return good()(request)

    return answer


# How servers refuse `stream_options`, with the status: what was reported, in words of our own.
REFUSALS = {
    "Mistral": (422, {"object": "error", "message": extra("body", "stream_options", "include_usage")}),
    "FastAPI": (422, extra("body", "stream_options")),
    "Azure": (400, error("Unrecognized request argument supplied: stream_options")),
    "OpenAI": (400, error("Unknown parameter: 'stream_options'.", param="stream_options", code="unknown_parameter")),
    "Groq": (400, error("property 'stream_options' is unsupported, did you mean 'stream'?")),
    "a schema": (400, error("Additional properties are not allowed ('stream_options' was unexpected)")),
    "Rust": (422, {"error": "unknown field `stream_options`, expected one of `messages`, `stream`"}),
    "Go": (400, {"error": 'json: unknown field "stream_options"'}),
    "a gateway": (500, error("litellm.BadRequestError: stream_options is not supported by this provider")),
    "text": (400, "stream_options: extra fields not permitted"),
}


@each_stream
@pytest.mark.parametrize("how", REFUSALS)
def test_a_stream_goes_without_the_options_that_its_server_refuses_and_so_does_the_next(how: str, mode: str) -> None:
    status, body = REFUSALS[how]
    with WireServer(refusing("stream_options", body=body, status=status)) as server:
        first, second = ask_all(config(server, **NO_RETRIES), mode, 2)
        asked = ["stream_options" in request.json for request in server.requests]
    assert (first.text, second.text) == ("Hello", "Hello")
    assert story(first) == [("a/m", "UnsupportedFeatureError", True), ("a/m", "ok", True)]
    assert story(second) == [("a/m", "ok", True)]
    assert asked == [True, False, False]
    assert (first.warnings, second.warnings) == ([], [])


@each_stream
def test_who_asks_for_usage_is_told_that_the_server_refuses_the_option(mode: str) -> None:
    status, body = REFUSALS["OpenAI"]
    with WireServer(refusing("stream_options", body=body, status=status)) as server:
        replies = ask_all(config(server, **NO_RETRIES), mode, 2, stream_options={"include_usage": True})
    for reply in replies:
        assert reply.text == "Hello"
        assert [warning.startswith("stream_options was left out") for warning in reply.warnings] == [True]


@each_stream
def test_stream_options_are_left_out_on_request(mode: str) -> None:
    with WireServer(good()) as server:
        ask_all(config(server), mode, 1, stream_options={"include_usage": False})
        ask_all(config(server), mode, 1, stream_options={})
        asked = ["stream_options" in request.json for request in server.requests]
    assert asked == [False, True]


@each_stream
def test_a_server_that_refuses_something_else_as_well_is_not_asked_for_ever(mode: str) -> None:
    with WireServer(lambda _: as_json(REFUSALS["OpenAI"][1], status=400)) as server:
        [failure] = ask_all(config(server, **NO_RETRIES), mode, 1)
        assert len(server.requests) == 2
    assert isinstance(failure, UnsupportedFeatureError)


@each_stream
def test_another_target_is_not_needed_for_a_refused_option(mode: str) -> None:
    status, body = REFUSALS["Mistral"]
    with (
        WireServer(refusing("stream_options", body=body, status=status)) as first,
        WireServer(good()) as second,
    ):
        reply = ask(config(first, second, **NO_RETRIES), mode)
        assert second.requests == []
    assert reply.target == "a/m"


# The limit of an answer, which has two names.


@each_mode
@pytest.mark.parametrize("given", [OLDER, NEWER])
def test_a_server_of_the_user_s_own_gets_the_name_that_all_of_them_know(given: str, mode: str) -> None:
    with WireServer(good()) as server:
        limit: dict[str, Any] = {given: 9}
        ask(config(server), mode, **limit)
        (request,) = server.requests
    assert {name: request.json.get(name) for name in (OLDER, NEWER)} == {OLDER: 9, NEWER: None}


REASONING_MODEL = error(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    param="max_tokens",
    code="unsupported_parameter",
)
LIMITS = {
    "OpenAI's reasoning models": (400, REASONING_MODEL),
    "a gateway before them": (400, error(f"litellm.BadRequestError: OpenAIException - {REASONING_MODEL['error']}")),
    "without a hint": (400, error("Unsupported parameter: 'max_tokens'", code="unsupported_parameter")),
}


@each_mode
@pytest.mark.parametrize("given", [OLDER, NEWER])
@pytest.mark.parametrize("how", LIMITS)
def test_a_server_that_wants_the_newer_name_gets_it(how: str, given: str, mode: str) -> None:
    status, body = LIMITS[how]
    with WireServer(refusing(OLDER, body=body, status=status)) as server:
        limit: dict[str, Any] = {given: 9}
        first, second = ask_all(config(server, **NO_RETRIES), mode, 2, **limit)
        sent = [(request.json.get(OLDER), request.json.get(NEWER)) for request in server.requests]
    assert (first.text, second.text) == ("Hello", "Hello")
    assert sent == [(9, None), (None, 9), (None, 9)]


NEWER_REFUSED = {
    "Mistral": (422, {"object": "error", "message": extra("body", NEWER)}),
    "an older Azure": (400, error(f"Unrecognized request argument supplied: {NEWER}")),
    "Groq": (400, error(f"property '{NEWER}' is unsupported")),
    "a gateway": (400, error(f"UnsupportedParamsError: x does not support parameters: ['{NEWER}'], for model=m.")),
}


@each_mode
@pytest.mark.parametrize("how", NEWER_REFUSED)
def test_a_service_that_does_not_know_the_newer_name_gets_the_older(how: str, mode: str) -> None:
    status, body = NEWER_REFUSED[how]
    with WireServer(refusing(NEWER, body=body, status=status)) as server:
        table = {"kind": "cerebras", "base_url": f"{server.url}/v1", "api_key": "k"}
        first, second = ask_all({**config(server, **NO_RETRIES), "providers": {"a": table}}, mode, 2, max_tokens=9)
        sent = [(request.json.get(OLDER), request.json.get(NEWER)) for request in server.requests]
    assert (first.text, second.text) == ("Hello", "Hello")
    assert sent == [(None, 9), (9, None), (9, None)]


@each_mode
def test_where_both_names_are_refused_the_limit_is_told_before_the_next_call(mode: str) -> None:
    def answer(request: Received) -> Answer:
        if OLDER in request.json:
            return as_json(REASONING_MODEL, status=400)
        return refusing(NEWER, body=NEWER_REFUSED["an older Azure"][1])(request)

    with WireServer(answer) as server, Session(config(server, **NO_RETRIES), mode) as session:
        first, second = session.many(2, max_tokens=9)
        asked = len(server.requests)
        [without] = session.many(1)
    assert isinstance(first, UnsupportedFeatureError)
    assert isinstance(second, UnsupportedFeatureError)
    assert (second.param, second.attempts[0].sent, asked) == ("max_tokens", False, 2)
    assert without.text == "Hello"


@each_mode
def test_a_limit_that_no_name_can_say_is_dropped_where_that_is_wanted(mode: str) -> None:
    def answer(request: Received) -> Answer:
        if OLDER in request.json:
            return as_json(REASONING_MODEL, status=400)
        return refusing(NEWER, body=NEWER_REFUSED["an older Azure"][1])(request)

    with WireServer(answer) as server:
        reply = ask(config(server, routing={"retries": 0, "drop_unsupported": True}), mode, max_tokens=9)
    assert reply.text == "Hello"
    assert [warning.split(":")[0] for warning in reply.warnings] == ["max_tokens was left out"]


def test_an_option_that_is_refused_within_a_stream_is_left_out_too() -> None:
    def answer(request: Received) -> Answer:
        if "stream_options" in request.json:
            return streamed([OPENAI.event(REFUSALS["Azure"][1])])
        return good()(request)

    with WireServer(answer) as server:
        assert ask(config(server, **NO_RETRIES), "stream-sync").text == "Hello"
