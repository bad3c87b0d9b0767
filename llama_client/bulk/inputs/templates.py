"""Prompts with the columns of a row: `Classify: {text}`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from llama_client.bulk.inputs.json_lines import kind_of
from llama_client.errors import InvalidRequestError
from llama_client.validation import suggestion

_PARTS = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_LITERAL_BRACES = {"{{": "{", "}}": "}"}
# Beyond it a number is no longer written out.
_MOST_DIGITS = 21
# Python refuses to print numbers of thousands of digits.
_MOST_BITS = 10_000


class Template:
    """A text with `{column}` in it, and `{{` for a brace. Nothing else is understood: no attributes, no formats.

    Args:
        text: The template.

    Raises:
        InvalidRequestError: A brace stands alone, or no column is named.
    """

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[str, str | None]] = []
        literal, end = "", 0
        for found in _PARTS.finditer(text):
            literal += text[end : found.start()]
            end = found.end()
            if (brace := _LITERAL_BRACES.get(found[0])) is not None:
                literal += brace
            elif found[1]:
                self._parts.append((literal, found[1]))
                literal = ""
            else:
                raise _wrong(
                    f"{found[0]!r} at character {found.start() + 1}: a column is written {{name}}, "
                    "and a brace of the text twice: {{ or }}"
                )
        self._parts.append((literal + text[end:], None))
        self.names = tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    def require(self, columns: Collection[str], place: str) -> None:
        """Raises `InvalidRequestError` where a column is missing; `place` says where."""
        for name in self.names:
            if name not in columns:
                raise _wrong(f"{place} has no column {name!r}{_help(name, columns)}")

    def filled(self, values: Mapping[str, Any], place: str) -> str:
        """The text with the values of a row."""
        made = []
        for literal, name in self._parts:
            made.append(literal)
            if name is not None:
                if name not in values:
                    self.require(values.keys(), place)
                made.append(_written(values[name], name, place))
        return "".join(made)


def _wrong(what: str) -> InvalidRequestError:
    return InvalidRequestError(f"prompt: {what}", param="prompt")


def _help(name: str, columns: Collection[str]) -> str:
    hint = suggestion(name, columns)
    if not hint and (match := re.match(r"\s*(.+?)\s*[.\[:!]", name)) and match[1] in columns:
        hint = f"; write {{{match[1]}}}: attributes, items and formats are not supported"
    return hint or columns_named(columns)


def columns_named(columns: Collection[str], most: int = 12) -> str:
    """`; its columns are 'id', 'text'`, shortened."""
    shown = ", ".join(repr(name) for name in list(columns)[:most])
    return f"; its columns are {shown}{', ...' if len(columns) > most else ''}" if columns else ""


def _written(value: object, column: str, place: str) -> str:
    """A value as people write it."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() < _MOST_BITS else _refused(value, column, place)
    if isinstance(value, float | Decimal):
        return _number(value)
    if isinstance(value, date | time | timedelta):
        return str(value)
    return _refused(value, column, place)


def _number(value: float | Decimal) -> str:
    exact = value if isinstance(value, Decimal) else Decimal(float.__repr__(value))
    if not exact.is_finite():
        return "" if exact.is_nan() else str(value)
    # A count that became a float, since its column has gaps, is still a count.
    if exact == 0:
        return "0"
    if abs(exact.adjusted()) > _MOST_DIGITS:
        return str(value)
    shown = f"{exact:f}"
    return shown.rstrip("0").rstrip(".") if "." in shown and isinstance(value, float) else shown


def _refused(value: object, column: str, place: str) -> str:
    raise _wrong(
        f"{place}: column {column!r} holds {kind_of(value)}; a template takes text, numbers, dates, true and false"
    )
