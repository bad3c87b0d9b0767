"""Bodies as people read them, and back: JSON as values, streams as one line an event, anything else as it came."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from llama_client.testing.cassettes.exchanges import Line

# One event of one line of data, and a line of a stream of JSON.
_EVENT = re.compile(rb"data: ?(\{.*\}|\[.*\])(?:\r\n\r\n|\n\n|\r\r)")
_JSON_LINE = re.compile(rb"(\{.*\})\r?\n")
_EVENT_ENDS = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)|(?<=\r\r)")
_STREAMS = ("text/event-stream", "application/x-ndjson", "application/jsonl")
# Deeper JSON is kept as text: writing it could exhaust the stack.
_MAX_DEPTH = 60

# What came at a time, in seconds since the request was sent.
Piece = tuple[float, bytes]


class UnreadableError(ValueError):
    """The text is no JSON, or JSON that does not come back the same."""


def json_value(text: bytes) -> Any:
    """The value of JSON that is the same when written and read again.

    Raises:
        UnreadableError: It is not.
    """
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_object, parse_float=_number, parse_constant=_refused
        )
        # Half of a surrogate pair is no text.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise UnreadableError(str(error)) from None
    if is_deep(value):
        raise UnreadableError("too deep")
    return value


def json_bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def is_stream(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() in _STREAMS


def lines_of(pieces: Sequence[Piece]) -> tuple[Line, ...]:
    """The pieces of a stream, one line an event."""
    return tuple(line for at_s, data in pieces for line in _lines(round(at_s, 4), data))


def pieces_of(lines: Sequence[Line]) -> list[Piece]:
    """The pieces that lines stand for.

    Raises:
        ValueError: A line is not base64.
    """
    pieces: list[Piece] = []
    for line in lines:
        data = _bytes_of(line)
        if line.at_s is None and pieces:
            at_s, before = pieces[-1]
            pieces[-1] = (at_s, before + data)
        else:
            pieces.append((float(line.at_s or 0.0), data))
    return pieces


def _lines(at_s: float, data: bytes) -> Iterator[Line]:
    is_first = True
    for each in _events_in(data):
        yield _line(at_s if is_first else None, each)
        is_first = False


def _events_in(data: bytes) -> list[bytes]:
    if b"\n\n" in data or b"\r\n\r\n" in data or b"\r\r" in data:
        return [each for each in _EVENT_ENDS.split(data) if each]
    if data[:1] == b"{":
        return data.splitlines(keepends=True)
    return [data]


def _line(at_s: float | None, data: bytes) -> Line:
    for name, pattern in (("data", _EVENT), ("line", _JSON_LINE)):
        match = pattern.fullmatch(data)
        if match is not None:
            try:
                return Line.model_validate({"at_s": at_s, name: json_value(match[1])})
            except UnreadableError:
                break
    try:
        return Line(at_s=at_s, text=data.decode("utf-8"))
    except UnicodeDecodeError:
        return Line(at_s=at_s, base64=base64.b64encode(data).decode())


def _bytes_of(line: Line) -> bytes:
    if line.data is not None:
        return b"data: " + json_bytes(line.data) + b"\n\n"
    if line.line is not None:
        return json_bytes(line.line) + b"\n"
    if line.text is not None:
        return line.text.encode()
    try:
        return base64.b64decode(line.base64 or "", validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _number(text: str) -> float:
    number = float(text)
    try:
        is_same = Decimal(text) == Decimal(repr(number))
    except InvalidOperation:
        is_same = False
    if not is_same:
        raise ValueError("a number has more digits than a float")
    return number


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def is_deep(value: Any, most: int = _MAX_DEPTH) -> bool:
    if isinstance(value, dict):
        return most == 0 or any(is_deep(each, most - 1) for each in value.values())
    if isinstance(value, list):
        return most == 0 or any(is_deep(each, most - 1) for each in value)
    return False
