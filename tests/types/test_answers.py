"""Answers keep OpenAI's shape."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from openai.types.chat import ChatCompletion as OpenAICompletion
from openai.types.chat import ChatCompletionChunk as OpenAIChunk

from llama_client import ChatCompletion, ChatCompletionChunk, Cost, CostGroup, CostReport, Usage

ORIGIN = {"target": "p/m", "provider": "p", "request_id": "req_1"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def answer(*, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": finish, "message": message}


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


SPENT = {"usd": "0.000193", "status": "exact"}
COUNTED = {"usage": {"total_tokens": 45}, "timing": {"total_s": 0.4151}}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({**COUNTED, "cost": SPENT}, "'hi' 45 tokens, $0.000193 exact, 0.42 s"),
        ({"cost": {"usd": "0.00019251", "status": "estimated"}}, "'hi' $0.000193 estimated"),
        ({"cost": {"usd": "0.0000375", "status": "exact"}}, "'hi' $0.0000375 exact"),
        ({"cost": {"usd": "1234.5678", "status": "exact"}}, "'hi' $1234.57 exact"),
        ({"cost": {"usd": "0", "status": "free"}}, "'hi' free"),
        ({}, "'hi' cost unknown"),
        ({"choices": []}, "'' cost unknown"),
        ({"choices": [answer(content="two\nlines")]}, r"'two\nlines' cost unknown"),
        ({"choices": [answer(content="x" * 61)]}, f"'{'x' * 57}...' cost unknown"),
        ({"choices": [answer(content="h", finish="length")]}, "'h' finish length, cost unknown"),
        ({"choices": [answer(tool_calls=[CALL], finish="tool_calls")]}, "'f()' finish tool_calls, cost unknown"),
        ({"choices": [answer(refusal="I will not.")]}, "'I will not.' cost unknown"),
    ],
)
def test_an_answer_is_one_line(fields: dict[str, Any], line: str) -> None:
    assert repr(completion(**fields)) == f"<ChatCompletion p/m: {line}>"


def test_an_answer_in_a_notebook_is_text_and_never_markup() -> None:
    shown = completion(
        choices=[answer(content="<script>alert(1)</script> ![x](http://far.test)")], **COUNTED
    )._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; ![x](http://far.test)" in shown
    assert "p/m: 45 tokens, cost unknown, 0.42 s" in shown


def test_a_report_in_a_notebook_is_a_table_of_text() -> None:
    group = CostGroup(key="<b>ann</b>", calls=2, usd=Decimal("0.0000375"), unpriced_calls=1)
    report = CostReport(total_usd=Decimal("0.0000375"), calls=2, unpriced_calls=1, unrecorded_calls=3, groups=[group])
    shown = report._repr_html_()
    assert "<caption>$0.0000375 in 2 calls, 1 of them unpriced, 3 more not recorded</caption>" in shown
    assert "<td>&lt;b&gt;ann&lt;/b&gt;</td><td>2</td>" in shown
    assert "<b>" not in shown
