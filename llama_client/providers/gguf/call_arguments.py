"""Arguments of earlier tool calls as the engine takes them: a JSON object, which is not always what models write."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json

from llama_client.providers.base import ProviderCall
from llama_client.types.messages import AssistantMessage
from llama_client.validation import quoted

# Python's own parser needs much more memory than text.
_MAX_REPAIRED_CHARS = 100_000
_FENCE = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)
# Escapes that mean in Python what they mean in JSON.
_ODD_ESCAPE = re.compile(r"\\[^\"\\/bfnrtu']|\\/")
_JSON_NAMES: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def require_arguments(call: ProviderCall) -> None:
    """Raises `UnsupportedFeatureError` where the arguments of an earlier call mean no single object."""
    for number, message in enumerate(call.request.messages):
        for index, tool_call in enumerate((isinstance(message, AssistantMessage) and message.tool_calls) or ()):
            if tool_call.function is not None:
                _read(call, _place(number, index), tool_call.function.arguments)


def repair_arguments(call: ProviderCall, messages: list[dict[str, Any]]) -> None:
    """Makes the arguments of all earlier calls JSON objects, with a warning where that was needed.

    Raises:
        UnsupportedFeatureError: The arguments of a call mean no single object.
    """
    for number, message in enumerate(messages):
        for index, tool_call in enumerate(message.get("tool_calls") or ()):
            given, place = tool_call["function"]["arguments"], _place(number, index)
            read = _read(call, place, given)
            if read is not given:
                tool_call["function"]["arguments"] = read
                call.facts.warn(f"{place} was no JSON object; it was read as one")


def _place(message: int, tool_call: int) -> str:
    return f"messages[{message}].tool_calls[{tool_call}].function.arguments"


def _read(call: ProviderCall, place: str, given: str) -> str:
    """The same text where it is an object, else what it means."""
    if _as_object(given) is not None:
        return given
    meant = _meant(given)
    if meant is None:
        why = f"{place} is no JSON object, which chat templates need, but {quoted(given)}"
        raise call.unsupported("messages", f"{why}; correct it, or list another target that takes it")
    return json.dumps(meant, ensure_ascii=False)


def _as_object(text: str) -> dict[str, Any] | None:
    try:
        value = from_json(text, allow_inf_nan=False)
        # Larger numbers than there are become infinite.
        return value if isinstance(value, dict) and ("e" not in text.lower() or _is_finite(value)) else None
    except ValueError:
        return None


def _is_finite(value: dict[str, Any]) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _meant(text: str) -> dict[str, Any] | None:
    """The one object that a text means that is no JSON object; None: several, or none.

    Nothing is added to what was cut off: how it would have gone on is not known.
    """
    if not text.strip() or text.strip() in ("null", "None"):
        return {}
    if len(text) > _MAX_REPAIRED_CHARS:
        return None
    fenced = _FENCE.fullmatch(text)
    texts = (text, fenced[1]) if fenced else (text,)
    readings: tuple[Callable[[str], dict[str, Any] | None], ...] = (_as_object, _lenient, _encoded_twice, _as_python)
    return next((meant for each in texts for read in readings if (meant := read(each)) is not None), None)


def _lenient(text: str) -> dict[str, Any] | None:
    """With line ends and tabs within its texts."""
    try:
        return _as_object(json.dumps(json.loads(text, strict=False)))
    except (ValueError, RecursionError):
        return None


def _encoded_twice(text: str) -> dict[str, Any] | None:
    try:
        inner = from_json(text)
    except ValueError:
        return None
    return _as_object(inner) if isinstance(inner, str) else None


def _as_python(text: str) -> dict[str, Any] | None:
    """A dict as Python writes it: single quotes, `True`; also with commas at the end, and JSON's own names."""
    if _ODD_ESCAPE.search(text) is not None:
        return None
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
        return _as_object(json.dumps(value)) if isinstance(value, dict) else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Dict(keys, values):
            names = [_value(key) for key in keys if key is not None]
            if len(names) != len(values) or not all(isinstance(name, str) for name in names):
                raise ValueError
            return dict(zip(names, map(_value, values), strict=True))
        case ast.List(items):
            return [_value(item) for item in items]
        case ast.Constant(bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as number)) if not isinstance(number, bool):
            return -number
        case ast.Name(name) if name in _JSON_NAMES:
            return _JSON_NAMES[name]
    raise ValueError
