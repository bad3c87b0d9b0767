"""Checks a value against a JSON schema, so that an answer is what a schema in a file asks for.

Formats describe and check nothing, as the standard has it; so do names that no keyword has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llama_client.bulk.inputs.json_lines import kind_of
from llama_client.bulk.inputs.schema_forms import MAX_DEPTH, patterns_of, resolved, types_of

_IS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    ),
}


class Problem(NamedTuple):
    """What does not fit: its place in the value, and why. Values of the answer are not in it."""

    field: str
    sentence: str


class Checker:
    """A JSON schema as a check.

    Args:
        schema: The schema.

    Raises:
        SchemaError: It is no schema (a reference that leads nowhere, a pattern that is none, an unknown type), or has a
            keyword that is not checked.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._patterns = patterns_of(schema)

    def problem(self, value: Any) -> Problem | None:
        """The first thing that does not fit; None: all does."""
        return self._problem(value, self._root, "", 0)

    def _problem(self, value: Any, schema: Any, at: str, depth: int) -> Problem | None:
        if depth > MAX_DEPTH:
            return Problem(at, "is nested too deeply")
        if schema is False:
            return Problem(at, "must not be there")
        if not isinstance(schema, Mapping):
            # Of any value, each number in it is one of JSON.
            schema = {}
        checks = (self._of_reference, self._of_type, self._of_value, self._of_object, self._of_array, self._of_branches)
        for check in checks:
            found = check(value, schema, at, depth + 1)
            if found is not None:
                return found
        return None

    def _fits(self, value: Any, schema: Any, depth: int) -> bool:
        return self._problem(value, schema, "", depth) is None

    def _of_reference(self, value: Any, schema: Mapping[str, Any], at: str, depth: int) -> Problem | None:
        if "$ref" not in schema:
            return None
        return self._problem(value, resolved(schema, self._root), at, depth)

    def _of_type(self, value: Any, schema: Mapping[str, Any], at: str, depth: int) -> Problem | None:
        if isinstance(value, float) and not math.isfinite(value):
            return Problem(at, "must be a finite number")
        wanted = types_of(schema)
        if wanted and not any(_IS[each](value) for each in wanted):
            return Problem(at, f"must be {' or '.join(wanted)}, got {kind_of(value)}")
        if "const" in schema and not _same(value, schema["const"]):
            return Problem(at, f"must be {_shown(schema['const'])}")
        if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
            return Problem(at, f"must be one of {_shown(schema['enum'])}")
        return None

    def _of_value(self, value: Any, schema: Mapping[str, Any], at: str, depth: int) -> Problem | None:
        if isinstance(value, str):
            if len(value) < schema.get("minLength", 0):
                return Problem(at, f"must have at least {schema['minLength']} characters")
            if len(value) > schema.get("maxLength", math.inf):
                return Problem(at, f"must have at most {schema['maxLength']} characters")
            pattern = schema.get("pattern")
            if pattern is not None and self._patterns[pattern].search(value) is None:
                return Problem(at, f"must match {pattern!r:.60}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            for name, is_wrong, words in _BOUNDS:
                bound = schema.get(name)
                if bound is not None and is_wrong(value, bound):
                    return Problem(at, f"must be {words} {bound}")
        return None

    def _of_object(self, value: Any, schema: Mapping[str, Any], at: str, depth: int) -> Problem | None:
        if not isinstance(value, dict):
            return None
        for name in schema.get("required", ()):
            if name not in value:
                return Problem(_below(at, name), "is required")
        if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", math.inf):
            return Problem(at, f"has {len(value)} names, too few or too many")
        for name, needed in {**_older(schema, list), **schema.get("dependentRequired", {})}.items():
            if name in value and (missing := [each for each in needed if each not in value]):
                return Problem(_below(at, missing[0]), f"is required beside {name!r}")
        for name, each in {**_older(schema, dict | bool), **schema.get("dependentSchemas", {})}.items():
            if name in value and (found := self._problem(value, each, at, depth)):
                return found
        return self._of_properties(value, schema, at, depth)

    def _of_properties(self, value: dict[str, Any], schema: Mapping[str, Any], at: str, depth: int) -> Problem | None:
        properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        others, names = schema.get("additionalProperties", True), schema.get("propertyNames", True)
        for name, inner in value.items():
            schemas = [properties[name]] if name in properties else []
            schemas += [each for pattern, each in patterns.items() if self._patterns[pattern].search(name)]
            if not schemas and others is False:
                return Problem(_below(at, name), "unknown name")
            if not self._fits(name, names, depth):
                return Problem(_below(at, name), "is no name that the schema allows")
            for each in schemas or [others]:
                if found := self._problem(inner, each, _below(at, name), depth):
                    return found
        return None

    def _of_array(self, value: Any, schema: Mapping[str, Any], at: str, depth: int) -> Problem | None:
        if not isinstance(value, list):
            return None
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            return Problem(at, f"has {len(value)} items, too few or too many")
        if schema.get("uniqueItems") and len({_key(each) for each in value}) < len(value):
            return Problem(at, "has the same item twice")
        first, others = schema.get("prefixItems", []), schema.get("items", True)
        if isinstance(others, list):
            # As it was written before `prefixItems`.
            first, others = others, schema.get("additionalItems", True)
        for index, item in enumerate(value):
            inner = first[index] if index < len(first) else others
            if found := self._problem(item, inner, f"{at}[{index}]", depth):
                return found
        if "contains" in schema:
            count = sum(self._fits(each, schema["contains"], depth) for each in value)
            if not schema.get("minContains", 1) <= count <= schema.get("maxContains", math.inf):
                return Problem(at, f"has {count} of the items that it must contain")
        return None

    def _of_branches(self, value: Any, schema: Mapping[str, Any], at: str, depth: int) -> Problem | None:
        for each in schema.get("allOf", ()):
            if found := self._problem(value, each, at, depth):
                return found
        if "anyOf" in schema:
            problems = [self._problem(value, each, at, depth) for each in schema["anyOf"]]
            if None not in problems:
                # The branch that went furthest is the one that was meant.
                return max((each for each in problems if each), key=lambda each: len(each.field), default=None)
        if "oneOf" in schema:
            fitting = sum(self._fits(value, each, depth) for each in schema["oneOf"])
            if fitting != 1:
                return Problem(at, f"must fit exactly one of {len(schema['oneOf'])} forms, and fits {fitting}")
        if "not" in schema and self._fits(value, schema["not"], depth):
            return Problem(at, "is what the schema excludes")
        if "if" in schema:
            branch = "then" if self._fits(value, schema["if"], depth) else "else"
            return self._problem(value, schema.get(branch, True), at, depth)
        return None


def _older(schema: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """What `dependencies` says, the keyword that was both of today's two."""
    return {name: each for name, each in schema.get("dependencies", {}).items() if isinstance(each, kind)}


def _is_no_multiple(value: float, bound: float) -> bool:
    # As decimals: 0.3 is a multiple of 0.1.
    from decimal import Decimal, InvalidOperation

    try:
        return bool(bound) and Decimal(str(value)) % Decimal(str(bound)) != 0
    except InvalidOperation:
        return False


_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool], str], ...] = (
    ("minimum", lambda value, bound: value < bound, "at least"),
    ("maximum", lambda value, bound: value > bound, "at most"),
    ("exclusiveMinimum", lambda value, bound: value <= bound, "more than"),
    ("exclusiveMaximum", lambda value, bound: value >= bound, "less than"),
    ("multipleOf", _is_no_multiple, "a multiple of"),
)


def _below(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _same(one: Any, other: Any) -> bool:
    return _key(one) == _key(other)


def _key(value: Any) -> str:
    """The same text for equal values of JSON: 1 and 1.0 are one number, and true is none."""
    return json.dumps(_numbers(value), sort_keys=True)


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, dict):
        return {name: _numbers(each) for name, each in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."
