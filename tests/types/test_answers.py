"""Answers keep OpenAI's shape."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from openai.types.chat import ChatCompletion as OpenAICompletion
from openai.types.chat import ChatCompletionChunk as OpenAIChunk

from llama_client import ChatCompletion, ChatCompletionChunk, Cost, Usage

ORIGIN = {"target": "p/m", "provider": "p", "request_id": "req_1"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def completion(**fields: Any) -> ChatCompletion:
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}
    return ChatCompletion.model_validate(
        {"id": "1", "created": 1, "model": "m", "choices": [choice], **ORIGIN, **fields}
    )


@pytest.mark.parametrize(
    "choice",
    [
        {"index": 0, "finish_reason": "stop", "message": {"content": "hi", "reasoning": "hm"}},
        {"index": 0, "finish_reason": "tool_calls", "message": {"content": None, "tool_calls": [CALL]}},
        {"index": 0, "finish_reason": "stop", "message": {"content": None, "refusal": "no"}},
        {
            "index": 0,
            "finish_reason": "length",
            "message": {"content": "h"},
            "logprobs": {"content": [{"token": "h", "logprob": -0.5, "bytes": [104], "top_logprobs": []}]},
        },
    ],
)
@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}])
def test_every_answer_is_one_of_openais(choice: Any, usage: Any) -> None:
    ours = completion(choices=[choice], usage=usage, service_tier="on_demand")
    theirs = OpenAICompletion.model_validate(ours.to_openai())
    assert theirs.choices[0].message.content == ours.choices[0].message.content
    assert (theirs.usage is None) == (not usage)


@pytest.mark.parametrize(
    "delta",
    [{}, {"role": "assistant"}, {"content": "x"}, {"reasoning": "x"}, {"tool_calls": [{"index": 0, **CALL}]}],
)
def test_every_chunk_is_one_of_openais(delta: Any) -> None:
    ours = ChatCompletionChunk.model_validate(
        {"id": "1", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta}], **ORIGIN}
    )
    theirs = OpenAIChunk.model_validate(ours.to_openai())
    assert theirs.choices[0].delta.content == delta.get("content")


def test_a_count_that_nobody_reported_is_none() -> None:
    usage = Usage()
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens) == (None,) * 4


def test_a_price_that_nobody_knows_is_none() -> None:
    assert (Cost().usd, Cost().status) == (None, "unknown")


def test_an_answer_survives_json() -> None:
    reply = completion(cost={"usd": "0.000123", "status": "exact"})
    again = ChatCompletion.model_validate_json(reply.model_dump_json())
    assert again == reply
    assert again.cost.usd == Decimal("0.000123")


def test_the_text_of_an_answer_without_text_is_empty() -> None:
    assert completion(choices=[]).text == ""
