"""What a JSON schema must be like to be checked against: its keywords' values, its references and its patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from llama_client.bulk.inputs.json_lines import kind_of

MAX_DEPTH = 200
"""Schemas and values that are nested deeper are refused."""
TYPES = ("object", "array", "string", "boolean", "null", "number", "integer")
_LISTS = ("enum", "required", "prefixItems", "allOf", "anyOf", "oneOf")
_COUNTS = [f"{bound}{what}" for bound in ("min", "max") for what in ("Length", "Items", "Properties", "Contains")]
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_SCHEMAS = (
    "items",
    "additionalItems",
    "additionalProperties",
    "propertyNames",
    "contains",
    "not",
    "if",
    "then",
    "else",
)
_DATA = ("enum", "const", "default", "examples")
# What a check relies on.
_FORMS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(_LISTS, (list, "a list")),
    **dict.fromkeys(_COUNTS, (int, "a whole number")),
    **dict.fromkeys(_NUMBERS, ((int, float), "a number")),
    **dict.fromkeys((*_BY_NAME, "dependentRequired"), (Mapping, "an object")),
    **dict.fromkeys(("$ref", "pattern"), (str, "a text")),
    "type": ((str, list), "a text or a list of texts"),
}
# They restrict values in a way that is not checked: an answer would pass that does not fit.
_UNCHECKED = ("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef")


class SchemaError(Exception):
    """The schema itself cannot be used."""


def resolved(schema: Any, root: Any) -> Any:
    """The schema that the references of a part of `root` lead to.

    Raises:
        SchemaError: They lead nowhere.
    """
    for _ in range(MAX_DEPTH):
        if not (isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str)):
            return schema
        schema = _target(schema["$ref"], root)
    raise SchemaError("its references go in a circle")


def _target(reference: str, root: Any) -> Any:
    if reference != "#" and not reference.startswith("#/"):
        raise SchemaError(f"$ref {reference!r:.60} leads out of the schema, or to an anchor; only '#/...' is followed")
    found = root
    for part in reference[1:].split("/")[1:]:
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping) and name in found:
            found = found[name]
        else:
            raise SchemaError(f"$ref {reference!r:.60} leads nowhere")
    return found


def types_of(schema: Mapping[str, Any]) -> list[Any]:
    """The types that a schema allows; none: all."""
    types = schema.get("type", [])
    return types if isinstance(types, list) else [types]


def patterns_of(schema: Mapping[str, Any]) -> dict[str, re.Pattern[str]]:
    """The patterns of a schema that can be checked against.

    Raises:
        SchemaError: It cannot.
    """
    patterns: dict[str, re.Pattern[str]] = {}
    _require(schema, schema, patterns, 0)
    return patterns


def _require(schema: Any, root: Mapping[str, Any], patterns: dict[str, re.Pattern[str]], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise SchemaError("it is nested too deeply")
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise SchemaError(f"each part of it must be an object, true or false, got {kind_of(schema)}")
    resolved(schema, root)
    _require_forms(schema)
    for pattern in (*schema.get("patternProperties", ()), *([schema["pattern"]] if "pattern" in schema else ())):
        patterns[pattern] = _compiled(pattern)
    for each in _parts(schema):
        _require(each, root, patterns, depth + 1)


def _parts(schema: Mapping[str, Any]) -> list[Any]:
    parts: list[Any] = []
    for key, inner in schema.items():
        if key in _BY_NAME:
            parts += [each for each in inner.values() if key != "dependencies" or not isinstance(each, list)]
        elif key in ("prefixItems", "allOf", "anyOf", "oneOf") or (key == "items" and isinstance(inner, list)):
            parts += inner
        elif key in _SCHEMAS or (isinstance(inner, Mapping) and key not in (*_DATA, *_FORMS)):
            # A reference may lead into what no keyword names.
            parts.append(inner)
    return parts


def _require_forms(schema: Mapping[str, Any]) -> None:
    for key, (form, words) in _FORMS.items():
        if key in schema and (not isinstance(schema[key], form) or isinstance(schema[key], bool)):
            raise SchemaError(f"{key} must be {words}, got {kind_of(schema[key])}")
    if "multipleOf" in schema and not schema["multipleOf"] > 0:
        raise SchemaError("multipleOf must be above 0")
    for key in _UNCHECKED:
        if key in schema:
            raise SchemaError(f"{key} is not checked; leave it out, or say the same with other keywords")
    for each in types_of(schema):
        if each not in TYPES:
            raise SchemaError(f"type {each!r} is unknown; JSON schema has {', '.join(TYPES)}")


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise SchemaError(f"pattern {pattern!r:.60} is no regular expression of Python ({error})") from None
