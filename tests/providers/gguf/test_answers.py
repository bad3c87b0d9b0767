"""A real model in this process, asked in the four modes that every provider answers in."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion as OpenAICompletion
from openai.types.chat import ChatCompletionChunk as OpenAIChunk

from llama_client import (
    APITimeoutError,
    BadRequestError,
    ConfigError,
    ContextLengthError,
    InvalidRequestError,
    LlamaClient,
    ModelNotFoundError,
    ProviderError,
    UnsupportedFeatureError,
)
from llama_client.clock import Clock
from llama_client.testing.seams import using
from tests.asking import MODES, Asker
from tests.lengths import values

TOKYO = "The capital of Japan is Tokyo."
JAPAN = "What is the capital of Japan?"
ROLES = ("system", "developer")
STORY = "Tell me a long story about a llama."
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


# For what takes a while: each of whole and streamed, sync and async, once.
in_two_modes = pytest.mark.parametrize("ask", values(MODES, long=("call-async", "stream-sync")), indirect=True)


@pytest.fixture(params=MODES)
def ask(request: pytest.FixtureRequest, config: dict[str, Any], warm_engine: None) -> Asker:
    return Asker(request.param, config, [])


def test_an_answer_is_right_and_says_where_it_came_from(ask: Asker) -> None:
    reply = ask(JAPAN, temperature=0)
    assert reply.text == TOKYO
    assert (reply.target, reply.provider) == ("laptop/default", "laptop")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.request_id.startswith("req_")
    assert OpenAICompletion.model_validate(reply.to_openai()).choices[0].message.content == TOKYO


def test_usage_is_always_counted(ask: Asker) -> None:
    usage = ask(JAPAN, temperature=0).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (37, 8, 45)


def test_an_answer_of_this_machine_is_free(ask: Asker) -> None:
    cost = ask(JAPAN, max_tokens=1).cost
    assert (str(cost.usd), cost.status, cost.source) == ("0", "free", "local")


def test_an_answer_tells_its_attempt_and_its_times(ask: Asker) -> None:
    reply = ask(JAPAN, temperature=0, max_tokens=3)
    (attempt,) = reply.attempts
    assert (attempt.target, attempt.outcome, attempt.sent, attempt.error) == ("laptop/default", "ok", True, None)
    assert attempt.usage == reply.usage
    timing = reply.timing
    assert timing.total_s is not None
    assert timing.ttft_s is not None
    assert 0 < timing.ttft_s < timing.total_s
    assert timing.queue_s is not None
    assert timing.tokens_per_s is not None
    assert timing.tokens_per_s > 1


@in_two_modes
def test_several_answers_count_the_prompt_once_and_every_answer(ask: Asker) -> None:
    reply = ask(JAPAN, n=5, temperature=0, max_tokens=4)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3, 4]
    assert {choice.message.content for choice in reply.choices} == {"The capital of Japan"}
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (37, 20)


@in_two_modes
def test_several_answers_with_a_seed_differ_from_one_another_and_repeat(ask: Asker) -> None:
    replies = [ask(STORY, n=4, seed=7, temperature=1.5, max_tokens=4) for _ in range(2)]
    first, second = ([choice.message.content for choice in reply.choices] for reply in replies)
    assert first == second
    assert len(set(first)) > 1


def test_an_answer_is_cut_at_its_longest(ask: Asker) -> None:
    reply = ask(JAPAN, temperature=0, max_tokens=3)
    assert (reply.text, reply.choices[0].finish_reason) == ("The capital of", "length")
    assert reply.usage.completion_tokens == 3


def test_an_answer_ends_before_a_stop_text(ask: Asker) -> None:
    reply = ask(JAPAN, temperature=0, stop=" Japan")
    assert (reply.text, reply.choices[0].finish_reason) == ("The capital of", "stop")


@in_two_modes
def test_log_probabilities_come_with_as_many_candidates_as_asked_for(ask: Asker) -> None:
    logprobs = ask(JAPAN, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [token.token for token in logprobs.content] == ["The", " capital", " of"]
    assert {len(token.top_logprobs) for token in logprobs.content} == {2}


@in_two_modes
def test_log_probabilities_without_candidates_have_none(ask: Asker) -> None:
    logprobs = ask(JAPAN, temperature=0, max_tokens=2, logprobs=True).choices[0].logprobs
    assert logprobs is not None
    assert [token.top_logprobs for token in logprobs.content or ()] == [[], []]


@in_two_modes
def test_an_answer_keeps_to_a_schema(ask: Asker) -> None:
    colour = {"type": "string", "enum": ["red", "blue"]}
    schema = {"type": "object", "properties": {"colour": colour}, "required": ["colour"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema}}
    assert json.loads(ask("Name a colour.", response_format=form, temperature=0).text)["colour"] in ("red", "blue")


@in_two_modes
def test_a_conversation_goes_on_with_the_message_of_an_answer(ask: Asker) -> None:
    first = [{"role": "user", "content": JAPAN}]
    reply = ask(first, temperature=0)
    again = ask([*first, reply.choices[0].message, {"role": "user", "content": JAPAN}], temperature=0, max_tokens=1)
    assert again.usage.prompt_tokens is not None
    assert again.usage.prompt_tokens > 37 + 8


@in_two_modes
def test_an_extra_field_of_the_body_reaches_llama_cpp(ask: Asker) -> None:
    assert ask(JAPAN, temperature=0, extra_body={"grammar": 'root ::= "forty-two"'}).text == "forty-two"


@in_two_modes
def test_a_developers_message_is_a_systems(ask: Asker) -> None:
    prompts = [[{"role": role, "content": "Be brief."}, {"role": "user", "content": JAPAN}] for role in ROLES]
    lengths = {ask(prompt, max_tokens=1).usage.prompt_tokens for prompt in prompts}
    # The template's own instructions (the prompt has 37 tokens with them) are replaced alike.
    assert lengths == {24}


@in_two_modes
def test_the_files_path_never_appears_in_an_answer(ask: Asker, demo_model: Path) -> None:
    reply = ask(JAPAN, max_tokens=2, logprobs=True)
    assert str(demo_model.parent) not in reply.model_dump_json()
    assert str(demo_model.parent) not in "".join(chunk.model_dump_json() for chunk in ask.chunks)
    assert reply.model == demo_model.stem


def test_the_raw_chunks_are_kept(ask: Asker) -> None:
    chunks = ask(JAPAN, temperature=0, max_tokens=3).raw["chunks"]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert text == "The capital of"
    assert any("timings" in chunk for chunk in chunks)


def test_a_prompt_that_is_too_long_tells_both_numbers(ask: Asker) -> None:
    with pytest.raises(ContextLengthError, match=r"3031 tokens .* holds 2048") as caught:
        ask("word " * 3000)
    error = caught.value
    assert (error.prompt_tokens, error.context_tokens) == (3031, 2048)
    assert (error.http_status, error.provider_code) == (400, "exceed_context_size_error")
    assert (error.target, error.provider) == ("laptop/default", "laptop")
    assert [(attempt.outcome, attempt.error) for attempt in error.attempts] == [("error", "ContextLengthError")]


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"tools": [WEATHER]}, "tools"),
        ({"tools": [WEATHER], "tool_choice": "required"}, "tool_choice"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"extra_headers": {"X-A": "b"}}, "extra_headers"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"reasoning_format": "hidden"}, "reasoning_format"),
    ],
)
def test_what_the_model_cannot_do_is_refused_before_anything_is_sent(ask: Asker, params: Any, named: str) -> None:
    with pytest.raises(UnsupportedFeatureError, match=f"cannot honour {named}") as caught:
        ask(JAPAN, **params)
    assert caught.value.param == named
    assert [(attempt.outcome, attempt.sent) for attempt in caught.value.attempts] == [("skipped", False)]


@in_two_modes
def test_an_image_is_refused_by_a_model_that_sees_none(ask: Asker) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(UnsupportedFeatureError, match="no mmproj"):
        ask([{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}])


@in_two_modes
def test_a_schema_that_is_none_is_a_bad_request(ask: Asker) -> None:
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}
    with pytest.raises(BadRequestError, match="nonsense"):
        ask(JAPAN, response_format=form)


def test_an_answer_that_does_not_come_in_time_is_a_timeout(ask: Asker) -> None:
    # A stream's time ends with its first content, so it is the prompt that must be long.
    with pytest.raises(APITimeoutError, match=r"no answer within 0\.0"):
        ask("word " * 60 + STORY, timeout=0.05)


def test_a_streams_time_ends_with_its_first_content(config: dict[str, Any], warm_engine: None) -> None:
    passed_s, timeout_s = 0.0, 200.0

    with (
        using(clock=Clock(monotonic=lambda: time.monotonic() + passed_s)),
        LlamaClient(config) as client,
        client.chat.completions.create(
            stream=True,
            timeout=timeout_s,
            messages=[{"role": "user", "content": STORY}],
            extra_body={"ignore_eos": True},
            max_tokens=16,
        ) as stream,
    ):
        assert next(stream).choices
        passed_s = timeout_s + 1
        ends = [chunk.choices[0].finish_reason for chunk in stream if chunk.choices]
        assert ends[-1] == "length"


def test_a_model_that_was_not_pulled_is_not_found(ask: Asker) -> None:
    with pytest.raises(ModelNotFoundError, match="llama-client pull llama-9"):
        ask(JAPAN, model="laptop/llama-9")


@in_two_modes
def test_a_pulled_model_answers_under_its_name(
    ask: Asker, demo_pulled: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the engine that is loaded.
    for name, value in {"N_CTX": 2048, "N_PARALLEL": 2, "N_THREADS": 1}.items():
        monkeypatch.setenv(f"LLAMA_CLIENT_PROVIDERS__GGUF__{name}", str(value))
    reply = ask(JAPAN, model="gguf/smollm2-135m", temperature=0)
    assert (reply.text, reply.target, reply.model) == (TOKYO, "gguf/smollm2-135m", "smollm2-135m")


def test_the_next_of_a_list_answers_where_the_first_cannot(ask: Asker) -> None:
    reply = ask(JAPAN, model=["laptop/llama-9", "laptop/default"], temperature=0, max_tokens=3)
    assert reply.text == "The capital of"
    outcomes = [(attempt.target, attempt.outcome, attempt.sent) for attempt in reply.attempts]
    assert outcomes == [("laptop/llama-9", "error", False), ("laptop/default", "ok", True)]


def test_when_every_target_of_a_list_fails_each_ones_error_is_there(ask: Asker) -> None:
    with pytest.raises(ProviderError, match="every target failed") as caught:
        ask(JAPAN, model=["laptop/llama-8", "laptop/llama-9"])
    assert [attempt.error for attempt in caught.value.attempts] == ["ModelNotFoundError"] * 2


@pytest.mark.parametrize("model", ["nobody/x", "default", "/x", "laptop/", ""])
def test_a_model_of_nobody_is_a_configuration_error(ask: Asker, model: str) -> None:
    with pytest.raises((ConfigError, InvalidRequestError), match=r"provider|model") as caught:
        ask(JAPAN, model=model)
    assert caught.value.attempts == []


def test_every_chunk_is_one_of_openais_and_they_add_up(config: dict[str, Any], warm_engine: None) -> None:
    ask = Asker("stream-sync", config, [])
    reply = ask(JAPAN, temperature=0, n=2, logprobs=True)
    assert all(OpenAIChunk.model_validate(chunk.to_openai()) for chunk in ask.chunks)
    assert "".join(chunk.text for chunk in ask.chunks) == TOKYO == reply.text
    assert all(chunk.usage is None and chunk.choices for chunk in ask.chunks)


def test_the_usage_chunk_is_handed_on_to_who_asked_for_it(config: dict[str, Any], warm_engine: None) -> None:
    ask = Asker("stream-sync", config, [])
    reply = ask(JAPAN, temperature=0, stream_options={"include_usage": True})
    assert ask.chunks[-1].choices == []
    assert ask.chunks[-1].usage == reply.usage
    assert OpenAIChunk.model_validate(ask.chunks[-1].to_openai()).usage is not None


def test_ask_takes_a_text_or_messages(config: dict[str, Any], warm_engine: None) -> None:
    with LlamaClient(config) as client:
        assert client.ask(JAPAN, temperature=0).text == TOKYO
        assert client.ask([{"role": "user", "content": JAPAN}], temperature=0).text == TOKYO
