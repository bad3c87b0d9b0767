"""JSON parsed in steps is what pydantic's parser makes of it at once, and nothing else is JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from llama_client import InvalidResponseError
from llama_client.providers.wire.json_steps import in_steps

ENOUGH = 1 << 30
# Texts that look like other parts of JSON.
MISLEADING = ['a"b', "\\", 'x\\"', "},{", "[", "]", '\\\\"', ",", ":", '"', "\\u0041", "🦙", "x" * 1200, 'y"' * 600]
TEXTS = st.text(max_size=8) | st.sampled_from(MISLEADING)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=6),
    max_leaves=40,
)


@st.composite
def written(draw: st.DrawFn) -> bytes:
    indent, is_ascii = draw(st.sampled_from([None, 1])), draw(st.booleans())
    return json.dumps(draw(VALUES), indent=indent, ensure_ascii=is_ascii).encode("utf-8", "replace")


@st.composite
def nearly(draw: st.DrawFn) -> bytes:
    """JSON with a byte replaced, taken out or put in."""
    text = draw(written())
    at = draw(st.integers(0, len(text)))
    put = draw(st.sampled_from([*b'[]{},:"\\ 1e\x80']).map(lambda byte: bytes([byte])) | st.just(b""))
    return text[:at] + put + text[at + draw(st.integers(0, 1)) :]


def outcome(parse: Callable[[], Any]) -> str:
    try:
        return repr(parse())
    except ValueError:
        return "no JSON"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=written() | nearly(), step_bytes=st.integers(1, 60))
@example(text=b"[[1, 2], 3,]", step_bytes=1)
@example(text=b'{"a": [1, 2] "b": 3}', step_bytes=1)
@example(text=b'{"a": 1, "a": [2, 3], "a": [4, 5]}', step_bytes=1)
@example(text=b"[1, 2} ", step_bytes=1)
@example(text=b'{"a":1[2, 3]}', step_bytes=1)
@example(text=b'{"a":-{"b": 1, "c": 2}}', step_bytes=1)
@example(text=b" [1, 2] 3", step_bytes=1)
@example(text=b"[1, 2], [3]", step_bytes=1)
@example(text=b"x[1, 2]", step_bytes=1)
def test_in_steps_is_the_same_as_at_once(text: bytes, step_bytes: int) -> None:
    assert outcome(lambda: in_steps(text, step_bytes, ENOUGH)) == outcome(lambda: from_json(text))


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
@pytest.mark.parametrize("depth", [150, 198, 199, 201, 250])
def test_it_is_as_deep_as_at_once(opening: bytes, closing: bytes, depth: int) -> None:
    text = b"[" + opening * depth + b"1" + closing * depth + b", 2, 3]"
    is_same = outcome(lambda: in_steps(text, 1, ENOUGH)) == outcome(lambda: from_json(text))
    # Without what differs, which is too deep to be shown.
    assert is_same


@pytest.mark.parametrize(
    "text",
    [b"[" + b"[]," * 1000 + b"1]", b'{"a":1' + b',"b":{}' * 1000 + b"}", '["a', b"[" + b"1.5," * 1000 + b"1]"],
    ids=["lists", "entries", "wide text", "numbers"],
)
def test_what_takes_too_much_memory_is_refused(text: bytes | str) -> None:
    body = text if isinstance(text, bytes) else f'{text}{"b" * 20_000}🦙"]'.encode()
    in_steps(body, 100, ENOUGH)
    with pytest.raises(InvalidResponseError, match="more than 0 MiB of memory"):
        in_steps(body, 100, 60_000)
