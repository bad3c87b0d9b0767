"""Several schemas that hold at once, as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

Schema = dict[str, Any]

_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


class SchemaError(Exception):
    """What was given is no JSON schema; says where and why."""


def types_of(schema: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The types that a schema names; None: it names none."""
    given = schema.get("type")
    if given is None:
        return None
    named = tuple(given) if isinstance(given, list | tuple) else (given,)
    for each in named:
        if each not in _TYPES:
            raise SchemaError(f"type: must be one of {', '.join(_TYPES)}, got {each!s:.40}")
    return named


def merged(one: Schema, other: Mapping[str, Any]) -> Schema:
    """What satisfies both. Lists of patterns, formats and unions grow, under `pattern`, `format` and `anyOf`."""
    both = dict(one)
    for key, value in other.items():
        if key not in both:
            both[key] = value
        elif key in _BY_KEY:
            both[key] = _BY_KEY[key](both[key], value)
        elif key in _GROW:
            both[key] = [*_listed(both[key]), *_listed(value)]
        # Of others (titles, descriptions), the first.
    return both


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _types(one: Any, other: Any) -> list[str]:
    first, second = _listed(one), _listed(other)
    shared = [each for each in first if each in second]
    shared += [each for each in first if each == "integer" and "number" in second]
    shared += [each for each in second if each == "integer" and "number" in first]
    return list(dict.fromkeys(shared))


def same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _shared(one: Any, other: Any) -> list[Any]:
    return [each for each in _listed(one) if any(same(each, value) for value in _listed(other))]


def _both(one: Any, other: Any) -> Any:
    return one if one == other else {"allOf": [one, other]}


def _by_name(one: Any, other: Any) -> dict[str, Any]:
    return {**one, **{name: _both(one[name], value) if name in one else value for name, value in other.items()}}


def _by_place(one: Any, other: Any) -> list[Any]:
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    return [_both(each, shorter[at]) if at < len(shorter) else each for at, each in enumerate(longer)]


def _additional(one: Any, other: Any) -> Any:
    if one is False or other is False:
        return False
    return _both(one, other)


def _common_multiple(one: Any, other: Any) -> Any:
    """The least common one."""
    a, b = Fraction(str(one)), Fraction(str(other))
    if a <= 0 or b <= 0:
        return one
    x, y = a, b
    while y:
        x, y = y, x % y
    common = a * b / x
    return common.numerator if common.denominator == 1 else float(common)


_GROW = frozenset({"pattern", "format", "anyOf groups"})
_BY_KEY: dict[str, Callable[[Any, Any], Any]] = {
    "type": _types,
    "enum": _shared,
    "minimum": max, "exclusiveMinimum": max, "minLength": max, "minItems": max, "minProperties": max,
    "maximum": min, "exclusiveMaximum": min, "maxLength": min, "maxItems": min, "maxProperties": min,
    "properties": _by_name, "patternProperties": _by_name,
    "required": lambda one, other: list(dict.fromkeys([*one, *other])),
    "items": _both, "contentSchema": _both, "propertyNames": _both,
    "prefixItems": _by_place,
    "additionalProperties": _additional,
    "uniqueItems": lambda one, other: one or other,
    "multipleOf": _common_multiple,
}  # fmt: skip
