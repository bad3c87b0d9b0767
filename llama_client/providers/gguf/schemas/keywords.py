"""What the keywords of one schema say, each by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from llama_client.providers.gguf.schemas.merging import SchemaError, types_of
from llama_client.schema_keywords import NOT_ENFORCED

# What the values of keywords must be, where they are joined or counted.
_NUMBERS = ("minimum", "maximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
            "maxProperties")  # fmt: skip
_SHAPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems", "required", "enum"), (list, tuple)),
    **dict.fromkeys(("properties", "patternProperties"), (dict,)),
    **dict.fromkeys(_NUMBERS, (int, float)),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), (int, float, bool)),
    "$ref": (str,),
}


def require_shapes(schema: Mapping[str, Any], path: str) -> None:
    for key, value in schema.items():
        shapes = _SHAPES.get(key)
        if shapes is not None and (not isinstance(value, shapes) or (isinstance(value, bool) and bool not in shapes)):
            raise SchemaError(f"{path or 'schema'}.{key}: must be no value of type {type(value).__name__}")
    if not all(isinstance(name, str) for name in schema.get("required", ())):
        raise SchemaError(f"{path or 'schema'}.required: must hold texts")


def one_of(ways: Sequence[str]) -> str | None:
    if not ways:
        return None
    return ways[0] if len(ways) == 1 else "(" + " | ".join(ways) + ")"


# What does not change which values are valid, or is looked at where it stands.
_BESIDE = frozenset(
    {
        "$ref", "$defs", "definitions", "title", "description", "default", "examples", "deprecated", "$comment",
        "$schema", "$id", "readOnly", "writeOnly", "discriminator",
    }
)  # fmt: skip


# A schema without one of these is looked at as it stands.
JOINED = frozenset({"$ref", "allOf", "anyOf", "oneOf", "const"}) | NOT_ENFORCED


def restricts(schema: Mapping[str, Any]) -> bool:
    return any(key not in _BESIDE for key in schema)


def told(schema: Any) -> list[Any] | None:
    """The values that a property may have, where they are listed."""
    if not isinstance(schema, Mapping):
        return None
    listed = schema.get("enum")
    if "const" in schema:
        return [schema["const"]]
    return list(listed) if isinstance(listed, list) else None


_IMPLIED = {
    "object": (
        "properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
        "maxProperties",
    ),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("pattern", "format", "minLength", "maxLength", "contentSchema"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}  # fmt: skip


def implied(flat: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Without a type, that of the keywords; None: they say nothing of one."""
    found = tuple(kind for kind, keywords in _IMPLIED.items() if any(keyword in flat for keyword in keywords))
    return found or None


def decimal_of(flat: Mapping[str, Any], key: str, path: str) -> Decimal | None:
    value = flat.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SchemaError(f"{path or 'schema'}.{key}: must be a number, got {type(value).__name__}")
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        return None
    return number


def count_of(flat: Mapping[str, Any], key: str, path: str) -> int | None:
    value = flat.get(key)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < math.inf
        or value != int(value)
    ):
        raise SchemaError(f"{path or 'schema'}.{key}: must be a whole number that is not negative")
    return int(value)


def texts_of(flat: Mapping[str, Any], key: str, path: str) -> list[str]:
    value = flat.get(key, [])
    given = value if isinstance(value, list) else [value]
    for each in given:
        if not isinstance(each, str):
            raise SchemaError(f"{path or 'schema'}.{key}: must be text, got {type(each).__name__}")
    return given


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if math.isfinite(value) and value == int(value) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def allows(value: Any, flat: Mapping[str, Any]) -> bool:
    """Whether a listed value has the type and the bounds beside the list."""
    kinds = types_of(flat)
    kind = kind_of(value)
    if kinds is not None and kind not in kinds and not (kind == "integer" and "number" in kinds):
        return False
    if isinstance(value, str):
        low, high = flat.get("minLength", 0), flat.get("maxLength")
        return len(value) >= low and (high is None or len(value) <= high)
    if kind in ("integer", "number"):
        low, high = flat.get("minimum"), flat.get("maximum")
        return (low is None or value >= low) and (high is None or value <= high)
    return True
