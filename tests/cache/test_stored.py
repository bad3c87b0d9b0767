"""Answers in bytes, and back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from llama_client.cache.stored import DAMAGED, Stored, chunk_of, packed, unpacked
from llama_client.routing.accumulator import Accumulator
from llama_client.types.completion import ChatCompletionChunk, Source

_LOGPROBS = {"content": [{"token": "x", "bytes": [120], "logprob": -0.1, "top_logprobs": []}], "refusal": None}
_CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "roll", "arguments": '{"a":1}'}}
_OTHER_CALL = {"index": 0, "id": "c2", "tool_type": "custom", "custom": {"name": "sh", "input": "ls"}}
_DELTAS: dict[str, dict[str, Any]] = {
    "text": {"content": "naïve 日本 \u0000"},
    "reasoning": {"content": "x", "reasoning": "hm", "reasoning_content": "hm"},
    "kept": {"content": "x", "annotations": [{"url": "a", "n": None}]},
    "parts": {"content": "ab", "content_parts": [{"type": "text", "text": "ab"}, {"type": "chart", "data": {}}]},
    "call": {"tool_calls": [{**_CALL, "signature": "s"}, {**_CALL, "index": 1, "id": "c3"}]},
    "other call": {"tool_calls": [_OTHER_CALL]},
}


def chunk(delta: dict[str, Any], **choice: Any) -> ChatCompletionChunk:
    choices = [{"index": index, "delta": delta, "finish_reason": "stop", **choice} for index in range(2)]
    values = {"id": "a", "created": 1, "model": "m", "choices": choices, "usage": {"prompt_tokens": 3}}
    return ChatCompletionChunk.model_validate(values)


@pytest.mark.parametrize("name", [*_DELTAS])
@pytest.mark.parametrize("choice", [{}, {"logprobs": _LOGPROBS}], ids=["", "logprobs"])
def test_an_answer_is_the_same_when_it_comes_back(name: str, choice: dict[str, Any]) -> None:
    answer = Accumulator(None, "some/m")
    answer.add(chunk(_DELTAS[name], **choice))
    assert answer.first is not None
    source = Source(kind="citation", url="https://example.com/a")
    bytes_ = chunk_of(answer.first, answer.choices(), answer.usage, None)
    stored = Stored(bytes_, Decimal("0.1"), 5.5, (source,), b'{"a": 1}', (b"1", b"2"), ("w",))
    again = unpacked(packed(stored), 1 << 20)
    assert again == stored
    back = Accumulator(None, "some/m")
    back.add(again.as_chunk("req", "some/m", "some"))
    assert back.choices() == answer.choices()
    assert back.usage == answer.usage


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_damage_is_seen(cut: int) -> None:
    value = packed(Stored(chunk_of(chunk({"content": "x"}), [], None, None), None, 1.0))
    for damaged in (value[:-cut], value[cut:], value[:cut] + b"?" + value[cut + 1 :], b""):
        with pytest.raises(DAMAGED):
            unpacked(damaged, 1 << 20)
    with pytest.raises(DAMAGED):
        unpacked(value, 10)
