"""A result as a record: the columns of the input, and what the job adds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from llama_client.errors import GenerationFailedError, LlamaClientError

if TYPE_CHECKING:
    from llama_client.bulk.inputs.answers import Answers
    from llama_client.bulk.results import BulkResult


class OutputRecord(NamedTuple):
    """One row of an output.

    Attributes:
        columns: The input's.
        added: The values of `Answers.fields`, in their order.
    """

    columns: Mapping[str, Any]
    added: Sequence[Any]


def records(results: Iterator[BulkResult], answers: Answers, *, with_ids: bool) -> Iterator[OutputRecord]:
    """The record of each result; `with_ids`: with the row's `custom_id` before its columns."""
    for result in results:
        record = record_of(result, answers)
        yield record._replace(columns={"custom_id": result.row.custom_id, **record.columns}) if with_ids else record


def record_of(result: BulkResult, answers: Answers) -> OutputRecord:
    """The record of a result."""
    value: dict[str, Any] = {}
    error, completion = result.error, result.completion
    if completion is not None:
        try:
            value = answers.value(completion)
        except GenerationFailedError as found:
            error = found
    target = completion.target if completion is not None else getattr(error, "target", None)
    told = None if error is None else error_text(error)
    return OutputRecord(result.row.columns, [*map(value.get, answers.kinds), told, result.usd, target])


def error_text(error: LlamaClientError) -> str:
    """An error in one line: its class and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def to_json(value: Any) -> str:
    """JSON of any value, in one line: dates and money as text, what JSON cannot say as null or text."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=json_form)
    except (ValueError, TypeError):
        # Infinity, a key that is no text, or a value that contains itself.
        text = json.dumps(_sayable(value, 0), ensure_ascii=False, default=str)
    return text


def as_text(value: Any) -> str:
    """A value in a column of texts: JSON, but for what JSON has as a text, which is that text."""
    if isinstance(value, str):
        return value
    text = to_json(value)
    return str(json.loads(text)) if text.startswith('"') else text


def encoded(text: str) -> bytes:
    """UTF-8 of a text of JSON; a lone surrogate, which UTF-8 does not have, as an escape."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return "".join(f"\\u{ord(char):04x}" if 0xD800 <= ord(char) < 0xE000 else char for char in text).encode()


def unicode_text(text: str) -> str:
    """The text without lone surrogates, which files of text cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def json_form(value: Any) -> Any:
    """What JSON has in place of a value that it has no form for."""
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    return str(value)


_FORMS: tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((Decimal,), lambda value: f"{value:f}"),
    ((date, time), lambda value: value.isoformat()),
    ((timedelta,), str),
    ((BaseModel,), lambda value: value.model_dump(mode="json", exclude_none=True)),
    ((Mapping,), dict),
    ((tuple, set, frozenset), list),
    ((bytes, bytearray), lambda value: bytes(value).hex()),
)
_MOST_DEPTH = 100


def _sayable(value: Any, depth: int) -> Any:
    if depth > _MOST_DEPTH:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, str | int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(name): _sayable(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(inner, depth + 1) for inner in value]
    return _sayable(json_form(value), depth + 1)
