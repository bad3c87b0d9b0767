"""Finds tool calls that a model wrote as text, and checks them against the declared tools. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from llama_client.types.request import Tool


# What Llama models write at Groq: `<function=NAME>{...}</function>`, often without the first `>`, sometimes with `=`
# or brackets in its place; other models write `<tool_call>{"name": ..., "arguments": ...}</tool_call>`.
_DIALECTS = (("<function=", "</function>"), ("<tool_call>", "</tool_call>"))
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_UP_TO_BRACE = re.compile(r"[>=(\[\s]{0,16}(?=\{)")
_UP_TO_CLOSING = re.compile(r"[)\]>\s]{0,16}")
_DECODER = json.JSONDecoder()
# As many as a request may declare tools.
_MAX_CALLS = 128
# Longer than any call, and short enough to search at once.
_MAX_TEXT_CHARS = 200_000
# Deeper than arguments are nested in practice.
_MAX_DEPTH = 32
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
# A name, and the arguments as JSON.
Call = tuple[str, str]


def tool_calls_in(text: str, tools: Sequence[Tool]) -> tuple[str, list[Call]] | None:
    """The text before the calls, and the calls; None unless all of them are valid calls of declared tools."""
    if len(text) > _MAX_TEXT_CHARS:
        return None
    start, calls = _marked(text)
    if calls is None:
        start, calls = 0, _bare(text)
    if not calls or len(calls) > _MAX_CALLS:
        return None
    declared = {tool.function.name: tool.function.parameters for tool in tools}
    for name, arguments in calls:
        values = _json(arguments)
        if name not in declared or not isinstance(values, dict) or not _fits(values, declared[name] or {}, 0):
            return None
    return text[:start].strip(), calls


def _marked(text: str) -> tuple[int, list[Call] | None]:
    """The start of the first marked call, and all calls; None: no markup. The list is empty if a call has no end."""
    for opening, closing in _DIALECTS:
        at = first = text.find(opening)
        if first < 0:
            continue
        calls: list[Call] = []
        while at >= 0 and len(calls) <= _MAX_CALLS:
            found = _call_at(text, at + len(opening), closing, has_name=opening == "<function=")
            if found is None:
                return first, []
            call, end = found
            calls.append(call)
            at = text.find(opening, end)
        return first, calls
    return 0, None


def _call_at(text: str, start: int, closing: str, *, has_name: bool) -> tuple[Call, int] | None:
    """The call that begins here, and where it ends: `NAME>{...}` (`has_name`) or `{"name": ...}`."""
    name = _NAME.match(text, start) if has_name else None
    if name is None and has_name:
        return None
    brace = _UP_TO_BRACE.match(text, name.end() if name is not None else start)
    if brace is None:
        return None
    try:
        # A decoder finds the end of the object also if a string in it contains the closing markup.
        value, end = _DECODER.raw_decode(text, brace.end())
    except (ValueError, RecursionError):
        return None
    ending = _UP_TO_CLOSING.match(text, end)
    if ending is None or not text.startswith(closing, ending.end()):
        return None
    call = _named(value) if name is None else (name.group(), text[brace.end() : end])
    return (call, ending.end() + len(closing)) if call is not None else None


def _bare(text: str) -> list[Call] | None:
    """The calls of a text that is only JSON: one call, a list of calls, or an object that contains one."""
    value = _json(text.strip())
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    calls = [_named(call) for call in (value if isinstance(value, list) else [value])]
    return [call for call in calls if call is not None] if calls and None not in calls else None


def _named(call: object) -> Call | None:
    if not isinstance(call, dict):
        return None
    call = call["function"] if isinstance(call.get("function"), dict) else call
    name, arguments = call.get("name"), call.get("arguments", call.get("parameters"))
    if not isinstance(name, str):
        return None
    if isinstance(arguments, str):
        return name, arguments
    return (name, to_json(arguments).decode()) if isinstance(arguments, dict) else None


def _json(text: str) -> object:
    try:
        return from_json(text)
    except ValueError:
        return None


def _fits(value: object, schema: Any, depth: int) -> bool:
    """Whether a value fits a JSON schema's types, required names, enumerations and items; the tool checks the rest."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return True
    if "enum" in schema and value not in schema["enum"]:
        return False
    for word in ("anyOf", "oneOf"):
        options = schema.get(word)
        if isinstance(options, list) and not any(_fits(value, option, depth + 1) for option in options):
            return False
    if not _has_type(value, schema.get("type")):
        return False
    if isinstance(value, list):
        return all(_fits(item, schema.get("items"), depth + 1) for item in value)
    if not isinstance(value, dict):
        return True
    known, required = schema.get("properties"), schema.get("required")
    known = known if isinstance(known, dict) else {}
    if isinstance(required, list) and not all(name in value for name in required):
        return False
    if schema.get("additionalProperties") is False and not value.keys() <= known.keys():
        return False
    return all(_fits(item, known.get(name), depth + 1) for name, item in value.items())


def _has_type(value: object, kind: object) -> bool:
    if isinstance(kind, list):
        return any(_has_type(value, one) for one in kind)
    types = _TYPES.get(kind) if isinstance(kind, str) else None
    if types is None:
        return True
    # In Python a bool is a number; in JSON it is not.
    return isinstance(value, types) and (not isinstance(value, bool) or kind == "boolean")
