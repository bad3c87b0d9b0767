"""What a server has put on the parts of an answer beside the fields that we read. It is kept as it came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_client.types.completion import ChunkChoice
from llama_client.types.server_fields import CONTENT_PARTS

_MESSAGE = frozenset({"role", "content", "tool_calls", "reasoning", "refusal"})
_CALL = frozenset({"index", "id", "type", "function"})
_FUNCTION = frozenset({"name", "arguments"})
_TEXT = frozenset({"type", "text"})
# What becomes of JSON in memory, by tracemalloc: any value, an object beside that, each place in a list or object.
_VALUE_BYTES, _OBJECT_BYTES, _PLACE_BYTES = 64, 160, 100


def of_message(delta: Mapping[str, Any], known: frozenset[str] = _MESSAGE) -> dict[str, Any]:
    """The fields to keep of a message, whole or in part."""
    kept = _beside(delta, known)
    content = delta.get("content")
    if isinstance(content, list) and not all(_is_text(part) for part in content):
        kept[CONTENT_PARTS] = content
    return kept


def of_tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """The fields to keep of a tool call, whole or in part."""
    kept = _beside(call, _CALL)
    kind = call.get("type")
    if isinstance(kind, str) and kind not in ("function", ""):
        kept["tool_type"] = kind
    return kept


def of_function(function: Mapping[str, Any]) -> dict[str, Any]:
    return _beside(function, _FUNCTION)


def _beside(given: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    if given.keys() <= known:
        return {}
    return {name: value for name, value in given.items() if name not in known and value is not None}


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.keys() == _TEXT and part["type"] == "text"


def bytes_in(choice: ChunkChoice) -> int:
    """About what the kept fields of a part of an answer take in memory."""
    size = _size_of(choice.delta.__pydantic_extra__)
    for call in choice.delta.tool_calls or ():
        size += _size_of(call.__pydantic_extra__)
        if call.function is not None:
            size += _size_of(call.function.__pydantic_extra__)
    return size


def _size_of(value: object) -> int:
    if not value:
        return 0
    size, left = 0, [value]
    while left:
        value = left.pop()
        size += _VALUE_BYTES
        if isinstance(value, str):
            size += len(value)
        elif isinstance(value, dict):
            size += _OBJECT_BYTES + sum(_PLACE_BYTES + len(name) for name in value)
            left += value.values()
        elif isinstance(value, list):
            size += _PLACE_BYTES * len(value)
            left += value
    return size
