"""Fields of servers that come in pieces: however they are cut, they are put together to the same value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_client.routing.pieces import Kept, content_of, merged, put_together
from llama_client.types.server_fields import CONTENT_PARTS

TEXT = st.text(max_size=12)


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    """A text in pieces, some of them empty."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@given(st.data(), st.lists(st.tuples(st.sampled_from(["reasoning.text", "reasoning.summary"]), TEXT), max_size=4))
def test_details_with_an_index_are_put_together_in_any_order_of_their_items(data: Any, items: Any) -> None:
    whole, pieces = [], []
    for index, (kind, text) in enumerate(items):
        whole.append({"type": kind, "index": index, "text": text})
        pieces += [{"type": kind, "index": index, "text": piece} for piece in data.draw(cut(text))]
    by_item = {index: [piece for piece in pieces if piece["index"] == index] for index in range(len(items))}
    order = data.draw(st.permutations([piece["index"] for piece in pieces]))
    # The first pieces of all items come in their order, as servers begin them.
    shuffled = [by_item[index].pop(0) for index in range(len(items))]
    shuffled += [by_item[index].pop(0) for index in order if by_item[index]]
    assert (put_together("reasoning_details", [[piece] for piece in shuffled]) or []) == whole


@given(st.data(), st.lists(st.tuples(st.sampled_from(["text", "thinking"]), TEXT), max_size=5))
def test_content_that_comes_as_texts_and_parts_is_one_list_of_parts(data: Any, items: Any) -> None:
    kept: list[Kept] = []
    texts: list[str] = []
    expected: list[tuple[str, str]] = []
    for kind, text in items:
        for piece in data.draw(cut(text)):
            if not piece:
                continue
            expected.append((kind, piece))
            if kind == "text":
                texts.append(piece)
            else:
                thought = {"type": "thinking", "thinking": [{"type": "text", "text": piece}]}
                kept.append(Kept({CONTENT_PARTS: [thought]}, len(texts), len(texts)))
    content = content_of(kept, texts)
    assert (content is None) == (not kept)
    joined: list[tuple[str, str]] = []
    for kind, piece in expected:
        if joined and joined[-1][0] == kind:
            joined[-1] = (kind, joined[-1][1] + piece)
        else:
            joined.append((kind, piece))
    if content is not None:
        assert [(part["type"], part.get("text") or part["thinking"][0]["text"]) for part in content] == joined


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
)


@given(TEXT, JSON)
def test_a_value_that_comes_whole_stays_as_it_is(name: str, value: Any) -> None:
    assert put_together(name, [None, value, None]) == value


@settings(max_examples=30, deadline=None)
@given(TEXT, st.lists(JSON, max_size=5))
def test_any_values_become_a_value_of_json(name: str, values: list[Any]) -> None:
    json.dumps(put_together(name, values))


@pytest.mark.parametrize(
    ("name", "pieces", "whole"),
    [
        ("note", ["a", "b", "a"], "aba"),
        ("channel", ["final", "final"], "final"),
        ("region", ["eu-west", "eu-west", "eu-west"], "eu-west"),
        ("region", ["eu-west", "eu-east"], "eu-westeu-east"),
        ("reasoning_content", ["llama ", "llama "], "llama llama "),
        ("audio", [{"data": "AAAA"}, {"data": "AAAA"}], {"data": "AAAAAAAA"}),
        ("id", ["rs_1", "", "rs_1"], "rs_1"),
        ("done", [False, True], True),
        ("mixed", ["a", ["b"]], ["b"]),
        ("usage", [{"a": 1}, {"b": 2}, {"a": 3}], {"a": 3, "b": 2}),
        ("extra_content", [{"google": {"thought_signature": "s1"}}] * 2, {"google": {"thought_signature": "s1"}}),
        ("annotations", [[{"url": "x"}], [{"url": "y"}]], [{"url": "x"}, {"url": "y"}]),
        ("images", [[{"index": 1, "b": "x"}], [{"index": 0, "b": "y"}, {"index": 1, "b": "z"}]],
         [{"index": 1, "b": "xz"}, {"index": 0, "b": "y"}]),
        # LiteLLM's, without an index: the signature ends a block.
        ("thinking_blocks",
         [[{"type": "thinking", "thinking": "a"}], [{"type": "thinking", "thinking": "b", "signature": ""}],
          [{"type": "thinking", "thinking": "", "signature": "s1"}], [{"type": "thinking", "thinking": "c"}],
          [{"type": "redacted_thinking", "data": "x"}], [{"type": "redacted_thinking", "data": "y"}]],
         [{"type": "thinking", "thinking": "ab", "signature": "s1"}, {"type": "thinking", "thinking": "c"},
          {"type": "redacted_thinking", "data": "x"}, {"type": "redacted_thinking", "data": "y"}]),
        # OpenRouter's of Gemini: two types with one index.
        ("reasoning_details",
         [[{"type": "reasoning.text", "text": "a", "index": 0}], [{"type": "closed", "data": "d", "index": 0}],
          [{"type": "reasoning.text", "text": "b", "index": 0}]],
         [{"type": "reasoning.text", "text": "ab", "index": 0}, {"type": "closed", "data": "d", "index": 0}]),
        # A sound's data is a text in pieces, unlike a detail's.
        ("audio", [{"id": "a1", "data": "AA"}, {"id": "a1", "data": "BB"}], {"id": "a1", "data": "AABB"}),
        # Whole details in one piece are not pieces of each other.
        ("reasoning_details", [[{"type": "reasoning.text", "text": "a"}, {"type": "reasoning.text", "text": "b"}]],
         [{"type": "reasoning.text", "text": "a"}, {"type": "reasoning.text", "text": "b"}]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_pieces_are_put_together_as_servers_mean_them(name: str, pieces: list[Any], whole: Any) -> None:
    assert put_together(name, pieces) == whole


def test_values_that_are_nested_deeply_do_not_end_the_stack() -> None:
    def deep() -> Any:
        value: Any = "x"
        for _ in range(190):
            value = {"a": value}
        return value

    assert merged([deep(), deep()])["a"]


def test_a_hundred_thousand_pieces_take_no_more_than_their_number() -> None:
    # By the square of their number this would take longer than a test may.
    pieces = [[{"type": "reasoning.text", "text": "x", "index": n % 7}] for n in range(100_000)]
    pieces += [[{"type": "note", "n": n}] for n in range(100_000)]
    pieces += [[{"type": "reasoning.text", "text": "x"}] for n in range(100_000)]
    assert len(put_together("reasoning_details", pieces)) == 7 + 100_000 + 1
