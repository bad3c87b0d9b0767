"""The schema of a Pydantic class with what it checks beyond JSON Schema: time zones, digits, stripping, dates that must
be past, schemes of addresses. Names that begin with `+` are known to `compiler` alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaValue

# Of a date without a bound on that side.
_FIRST_DAY, _LAST_DAY = date(1000, 1, 1), date(9999, 12, 31)
_FAR = timedelta(days=365 * 30)
_KEY_PATTERNS = {
    "integer": r"^(0|-?[1-9]\d{0,17})$",
    "number": r"^(0|-?[1-9]\d{0,14})(\.\d{0,9}[1-9])?$",
    "boolean": "^(true|false)$",
}
# pydantic's own for a `ByteSize`, whose units it does not name.
_BYTE_SIZE = r"^\s*(\d*\.?\d+)\s*(\w+)?"


def class_schema(model: type[BaseModel], today: date) -> dict[str, Any]:
    """The schema of a class, as of a day; that of the next day serves as well, but for tomorrow."""

    class Generator(_Generator):
        day = today

    made: dict[str, Any] = _without_units(model.model_json_schema(schema_generator=Generator))
    return made


def _without_units(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_units(each) for each in schema if not _is_size(each)]
    return {key: _without_units(value) for key, value in schema.items()} if isinstance(schema, dict) else schema


def _is_size(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("pattern") == _BYTE_SIZE


class _Generator(GenerateJsonSchema):
    day: date

    def str_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().str_schema(schema)
        return {**made, "+stripped": True} if schema.get("strip_whitespace") else made

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        bounds = {
            "minimum": schema.get("ge"), "exclusiveMinimum": schema.get("gt"), "maximum": schema.get("le"),
            "exclusiveMaximum": schema.get("lt"), "multipleOf": schema.get("multiple_of"),
        }  # fmt: skip
        made: dict[str, Any] = {key: _number(value) for key, value in bounds.items() if value is not None}
        digits, places = schema.get("max_digits"), schema.get("decimal_places")
        if digits is not None:
            # Both together have no more: a number that needs all before the point has none after it.
            after = min(places if places is not None else digits // 2, digits)
            made["+digits"] = (max(digits - after, 1), after if digits > after else digits - 1)
        elif places is not None:
            made["+digits"] = (None, places)
        return {"type": "number", **made}

    def complex_schema(self, schema: Any) -> JsonSchemaValue:
        return {"type": "string", "pattern": r"^-?\d{1,9}(\.\d{1,6})?[+-]\d{1,9}(\.\d{1,6})?j$"}

    def date_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().date_schema(schema)
        return self._dated(made, schema, margin=0)

    def datetime_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().datetime_schema(schema)
        if schema.get("tz_constraint") == "naive":
            made["+zone"] = "none"
        # A day apart from each bound: with a time zone, a day begins earlier or later.
        return self._dated(made, schema, margin=1)

    def _dated(self, made: dict[str, Any], schema: Mapping[str, Any], *, margin: int) -> dict[str, Any]:
        first, last = _FIRST_DAY, _LAST_DAY
        for key, after in (("ge", margin), ("gt", 1)):
            if (bound := schema.get(key)) is not None:
                first = max(first, _day(bound) + timedelta(days=max(after, margin)))
        for key, before in (("le", margin), ("lt", 1)):
            if (bound := schema.get(key)) is not None:
                last = min(last, _day(bound) - timedelta(days=max(before, margin)))
        if schema.get("now_op") == "past":
            last = min(last, self.day - timedelta(days=1 + margin))
        elif schema.get("now_op") == "future":
            # The same schema serves tomorrow, and in time zones that are ahead.
            first = max(first, self.day + timedelta(days=3))
            last = min(last, self.day + _FAR)
        if (first, last) == (_FIRST_DAY, _LAST_DAY):
            return made
        if first > last:
            return {**made, "+note": "narrow bounds of dates"}
        return {**made, "+days": (first.timetuple()[:3], last.timetuple()[:3])}

    def time_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().time_schema(schema)
        if schema.get("tz_constraint") == "naive":
            made["+zone"] = "none"
        if any(key in schema for key in ("ge", "gt", "le", "lt")):
            made["+note"] = "bounds of times"
        return made

    def timedelta_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().timedelta_schema(schema)
        low = [schema[key].total_seconds() for key in ("ge", "gt") if key in schema]
        high = [schema[key].total_seconds() for key in ("le", "lt") if key in schema]
        if not low and not high:
            return made
        first = math.ceil(max(low, default=0.0)) + ("gt" in schema)
        last = math.floor(min(high, default=86_400.0 * 999)) - ("lt" in schema)
        if made.get("type") != "string":
            return {**made, "minimum": first, "maximum": last}
        if first < 0:
            first = 0
        if first > last:
            return {**made, "+note": "narrow bounds of durations"}
        return {**made, "+seconds": (first, last)}

    def url_schema(self, schema: Any) -> JsonSchemaValue:
        return _with_schemes(super().url_schema(schema), schema)

    def multi_host_url_schema(self, schema: Any) -> JsonSchemaValue:
        return _with_schemes(super().multi_host_url_schema(schema), schema)

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().dict_schema(schema)
        if "propertyNames" not in made and "patternProperties" not in made and "keys_schema" in schema:
            keys = self.generate_inner(schema["keys_schema"])
            pattern = _KEY_PATTERNS.get(str(keys.get("type")))
            if pattern is not None:
                made["propertyNames"] = {"pattern": pattern}
        return made


def _number(value: Any) -> int | float:
    number = Decimal(value)
    return int(number) if number == number.to_integral_value() else float(number)


def _day(bound: date) -> date:
    return bound.date() if isinstance(bound, datetime) else bound


def _with_schemes(made: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    schemes = schema.get("allowed_schemes")
    return {**made, "+schemes": list(schemes)} if schemes else made
