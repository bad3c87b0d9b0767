"""What llama.cpp was seen to answer with, as our errors: captured from xllamacpp 2026.10."""

from __future__ import annotations

from typing import Any

import pytest

from llama_client import (
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    GenerationFailedError,
    InvalidResponseError,
    OverloadedError,
    ProviderError,
    ServerError,
    UnsupportedFeatureError,
)
from llama_client.providers.base import AttemptFacts, ProviderCall
from llama_client.providers.gguf.codec import Decoder, bodies, library_failure, messages_to, require_messages
from llama_client.providers.wire.errors import error_from_llama_cpp
from llama_client.routing.accumulator import Accumulator
from llama_client.types.request import ChatRequest, check_request

TOO_LONG = {
    "code": 400,
    "message": "request (4031 tokens) exceeds the available context size (512 tokens), try increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 4031,
    "n_ctx": 512,
}


def shape(code: int, kind: str) -> dict[str, Any]:
    return {"code": code, "message": "what happened", "type": kind}


def request(**params: Any) -> ChatRequest:
    return check_request({"messages": [{"role": "user", "content": "hi"}], **params}, stream=False)


def call(**params: Any) -> ProviderCall:
    return ProviderCall(request(**params), "p", "m", "req_1", None, AttemptFacts())


def chunk(index: int = 0, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "finish_reason": None, "delta": {"content": "x"}}
    return {"id": "1", "created": 1, "model": "/path", "object": "chat.completion.chunk", "choices": [choice], **fields}


@pytest.mark.parametrize(
    ("error", "kind", "status", "code", "retryable", "failover"),
    [
        (TOO_LONG, ContextLengthError, 400, "exceed_context_size_error", False, True),
        (shape(503, "unavailable_error"), OverloadedError, 503, "unavailable_error", True, True),
        (shape(401, "authentication_error"), AuthenticationError, 401, "authentication_error", False, True),
        (shape(400, "invalid_request_error"), BadRequestError, 400, "invalid_request_error", False, False),
        (shape(500, "server_error"), ServerError, 500, "server_error", True, True),
        ({}, ServerError, None, None, True, True),
    ],
)
def test_an_error_object_is_the_error_that_it_means(
    error: Any, kind: type[ProviderError], status: int | None, code: str | None, retryable: bool, failover: bool
) -> None:
    ours = error_from_llama_cpp(error)
    assert type(ours) is kind
    assert (ours.http_status, ours.provider_code) == (status, code)
    assert (ours.retryable, ours.failover) == (retryable, failover)


def test_a_prompt_that_is_too_long_tells_both_numbers() -> None:
    error = error_from_llama_cpp(TOO_LONG)
    assert isinstance(error, ContextLengthError)
    assert (error.prompt_tokens, error.context_tokens) == (4031, 512)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ValueError("All non-assistant messages must contain 'content'"), BadRequestError),
        (
            RuntimeError("image input is not supported - hint: you may need to provide the mmproj"),
            UnsupportedFeatureError,
        ),
        (RuntimeError("out of memory"), ServerError),
    ],
)
def test_what_the_library_raises_is_one_of_our_errors(raised: Exception, kind: type[ProviderError]) -> None:
    ours = library_failure(raised)
    assert type(ours) is kind
    assert (ours.http_status, ours.provider_code) == (None, None)


def test_an_error_among_the_chunks_is_raised() -> None:
    with pytest.raises(ContextLengthError):
        Decoder(call(), "m").feed({"error": TOO_LONG})


def test_an_answer_that_the_template_does_not_know_is_a_failed_generation_with_its_text() -> None:
    decoder = Decoder(call(), "m")
    for text in ('{"a": "', 'b"c"'):
        choice = {"index": 0, "finish_reason": None, "delta": {"content": text}}
        decoder.feed({**chunk(), "choices": [choice]})
    message = "The model produced output that does not match the expected peg-native format"
    with pytest.raises(GenerationFailedError) as caught:
        decoder.feed({"error": {"code": 500, "message": message, "type": "server_error"}})
    assert caught.value.failed_generation == '{"a": "b"c"'
    assert caught.value.blames_target is False


def test_a_chunk_that_is_none_is_an_invalid_response() -> None:
    with pytest.raises(InvalidResponseError):
        Decoder(call(), "m").feed({"choices": [{"delta": {"content": 5}}]})


def test_thinking_is_read_under_either_name() -> None:
    for name in ("reasoning", "reasoning_content"):
        body = chunk()
        body["choices"][0]["delta"] = {name: "hm"}
        ours = Decoder(call(), "m").feed(body)
        assert ours is not None
        assert ours.choices[0].delta.reasoning == "hm"


def test_usage_that_nobody_reported_stays_unknown() -> None:
    decoder = Decoder(call(), "m")
    decoder.feed(chunk())
    assert decoder.usage_chunk() is None


def test_the_prompts_cache_is_what_the_first_choice_found() -> None:
    decoder = Decoder(call(n=2), "m")
    for cached in (3, 36):
        decoder.feed(
            chunk(
                choices=[],
                usage={
                    "prompt_tokens": 37,
                    "completion_tokens": 5,
                    "total_tokens": 42,
                    "prompt_tokens_details": {"cached_tokens": cached},
                },
            )
        )
    ours = decoder.usage_chunk()
    assert ours is not None
    assert ours.usage is not None
    assert (ours.usage.prompt_tokens, ours.usage.completion_tokens, ours.usage.cached_tokens) == (37, 10, 3)


def test_more_choices_than_slots_go_out_in_groups_with_seeds_of_their_own() -> None:
    groups = list(bodies(request(n=5, seed=10), n_parallel=2))
    assert [(body["n"], body["seed"], size) for body, size in groups] == [(2, 10, 2), (2, 12, 2), (1, 14, 1)]


@pytest.mark.parametrize("seed", [-1, 2**32 - 1, 2**63 - 1])
def test_every_seed_fits_llama_cpps_and_none_means_choose_one(seed: int) -> None:
    ((body, _),) = bodies(request(seed=seed), n_parallel=1)
    assert 0 <= body["seed"] < 2**32 - 1


def test_every_request_goes_out_as_a_stream_that_can_be_stopped_and_counts() -> None:
    ((body, _),) = bodies(request(extra_body={"mirostat": 2}), n_parallel=1)
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert body["mirostat"] == 2
    assert "timeout" not in body


def test_an_answers_reasoning_goes_back_to_the_model_that_gave_it_and_to_no_other() -> None:
    decoder = Decoder(call(), "m")
    thought = chunk()
    thought["choices"][0]["delta"] = {"reasoning_content": "Hm.", "mood": "calm"}
    answer = Accumulator(made_by="p/m")
    for piece in (thought, chunk()):
        read = decoder.feed(piece)
        assert read is not None
        answer.add(read)
    (choice,) = answer.choices()
    assert choice.message.model_extra == {"reasoning_content": "Hm.", "mood": "calm"}
    turns = [{"role": "user", "content": "hi"}, choice.message, {"role": "user", "content": "why?"}]
    for model, more in (("m", {"reasoning_content": "Hm."}), ("n", {})):
        handed_back = ProviderCall(request(messages=turns), "p", model, "req_1", None, AttemptFacts())
        assert messages_to(handed_back)[1] == {"role": "assistant", "content": "x", **more}


FILE = [{"role": "user", "content": [{"type": "file", "file": {"file_data": "JVBERg=="}}]}]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"messages": FILE}, "messages"),
        ({"messages": [{"role": "user", "content": "hi", "weight": 1}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "{", "prefix": True}]}, "messages"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
    ],
    ids=["part", "name", "prefix", "tool"],
)
def test_what_templates_do_not_know_is_refused_before_a_model_is_loaded(params: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedFeatureError, match="list another target") as caught:
        require_messages(call(**params))
    assert caught.value.param == param
