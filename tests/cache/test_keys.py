"""Which requests have the same key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from llama_client.cache.key import is_whole, key_of, place_of
from llama_client.types.request import check_request
from tests.cache.neighbours import Found, calls_of, keys_of

_ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def key(params: dict[str, Any], *, place: bytes = b"[]", answer_class: type | None = None) -> bytes:
    return key_of(check_request(params, stream=False, answer_class=answer_class), place)


def test_neighbours_have_other_keys_and_equal_requests_the_same() -> None:
    found = keys_of(2_500, seed=1)
    calls_of(150, 2, found)
    assert found.is_good, found
    assert found.asked > 50
    assert len(found.changes) == 9


@pytest.mark.parametrize(
    "same",
    [
        {"timeout": 3.0},
        {"tags": {"a": "b"}},
        {"user": "ann"},
        {"n": 1},
        {"logprobs": False},
        {"temperature": None},
        {"stop": []},
    ],
    ids=lambda same: next(iter(same)),
)
def test_what_changes_no_answer_is_not_in_the_key(same: dict[str, Any]) -> None:
    assert key({**_ASKED, **same}) == key(_ASKED)


def test_a_stream_has_the_key_of_the_whole_answer() -> None:
    streamed = check_request({**_ASKED, "stream_options": {"include_usage": True}}, stream=True)
    assert key_of(streamed, b"[]") == key(_ASKED)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"extra_body": {"a": {"x": 1, "y": 2}}}, {"extra_body": {"a": {"y": 2, "x": 1}}}),
        ({"extra_body": {"a": 1}}, {"extra_body": {"a": "1"}}),
        ({"extra_body": {"a": 1}}, {"extra_headers": {"a": "1"}}),
        ({"extra_body": {"a": None}}, {}),
        ({"stop": "ab"}, {"stop": ["a", "b"]}),
        ({"stop": ["a,b"]}, {"stop": ["a", "b"]}),
        ({"seed": 1}, {"seed": 2}),
        ({"service_tier": "flex"}, {}),
        ({"extra_headers": {"X-Model": "a"}}, {"extra_headers": {"X-Model": "b"}}),
    ],
    ids=["order within", "type", "place", "none within", "list", "comma", "seed", "tier", "headers"],
)
def test_what_may_change_an_answer_is_in_the_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert key({**_ASKED, **one}) != key({**_ASKED, **other})


def test_the_class_of_an_answer_is_in_the_key() -> None:
    class Other(BaseModel):
        city: str

    first, other = key(_ASKED, answer_class=Found), key(_ASKED, answer_class=Other)
    assert len({first, other, key(_ASKED)}) == 3


def test_identity_namespace_and_tags_cannot_be_taken_for_each_other() -> None:
    places = {
        place_of("a", "b", ()),
        place_of("ab", "", ()),
        place_of("a", "", ("b",)),
        place_of("a", "", (None,)),
        place_of("a", "", ("",)),
        place_of('a", "b', "", ()),
    }
    assert len({key(_ASKED, place=place) for place in places}) == 6


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}, True),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, False),
        ({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}, False),
    ],
    ids=["bytes", "address", "video"],
)
def test_what_stands_behind_an_address_may_change(part: dict[str, Any], whole: bool) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "hi"}, part]}
    assert is_whole(check_request({"messages": [message]}, stream=False)) is whole
