"""JSON of servers as values: what would take too much memory is refused, and long JSON is parsed in steps.

A call of a parser keeps every other thread and event loop waiting until it ends.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import from_json

from llama_client.errors import InvalidResponseError

# Three times the longest answer.
MAX_HELD_BYTES = 192 << 20
# At most what is made of the marks of JSON, by tracemalloc: a place in a list with a short text, an object of a few
# names, and each further name of a large one.
_COMMA_BYTES = 88
_OBJECT_BYTES = 240
_FEW_NAMES = 5
_NAME_BYTES = 126
# A character of four bytes makes four of each one in its text: in UTF-8, and escaped.
_WIDE = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4", b"\\ud", b"\\uD")
# What has no more is parsed at once, in a few milliseconds; else in steps of about so many bytes.
_SHORT_BYTES = 1 << 20
_MAX_COMMAS = 150_000
_STEP_BYTES = 64 << 10
# So many objects become tool calls or log probabilities within 20 ms.
MAX_QUICK_OBJECTS = 1000
# Less is never worth counting.
MIN_COUNTED_BYTES = 4096
# As deep as pydantic's parser goes.
_MAX_DEPTH = 200
# A short text without escapes, the beginning of another text, or a mark; the rest of a text. They are sought in so
# many bytes at once.
_TOKEN = re.compile(rb'"[^"\\]{0,999}+"|["\[\]{},:]')
_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_WINDOW_BYTES = 256 << 10
_BLANK = b" \t\r\n"
_QUOTE = ord('"')


def is_long(data: bytes | bytearray) -> bool:
    """Whether decoding it takes so long that an event loop should not wait for it."""
    return len(data) > MIN_COUNTED_BYTES and (_is_parsed_in_steps(data) or data.count(b"{") > MAX_QUICK_OBJECTS)


def _is_parsed_in_steps(data: bytes | bytearray) -> bool:
    return len(data) > _SHORT_BYTES or (len(data) > _MAX_COMMAS and data.count(b",") > _MAX_COMMAS)


def json_of(data: bytes) -> Any:
    """The value.

    Raises:
        InvalidResponseError: It takes more than `MAX_HELD_BYTES`.
        ValueError: It is not JSON.
    """
    return in_steps(data, _STEP_BYTES, MAX_HELD_BYTES) if _is_parsed_in_steps(data) else from_json(data)


class _Open:
    """A list or an object that has not ended yet."""

    __slots__ = ("comma_at", "follows_value", "is_new", "key", "names", "opened_at", "start", "values")

    def __init__(self, opened_at: int, values: list[Any] | dict[str, Any]) -> None:
        self.opened_at = opened_at
        self.values = values
        self.names = 0
        # Whether none of it is parsed.
        self.is_new = True
        # Where the rest begins.
        self.start = opened_at + 1
        # The last comma in the rest, outside of what is opened in it.
        self.comma_at: int | None = None
        # Of the value in it that is parsed in steps: its name in an object, and whether it has ended just now.
        self.key = ""
        self.follows_value = False


def in_steps(data: bytes, step_bytes: int, max_bytes: int) -> Any:
    """What pydantic's parser gives, by a call of it for each part; raises as `json_of` does."""
    steps = _Steps(data)
    at, until, taken_at = 0, len(data), 0
    held = _text_bytes(data)
    while at < until:
        if held > max_bytes:
            raise InvalidResponseError(f"the answer takes more than {max_bytes >> 20} MiB of memory; aborted")
        window_end = min(at + _WINDOW_BYTES, until)
        for token in _TOKEN.finditer(data, at, window_end):
            at = token.end()
            match data[at - 1]:
                case 0x2C:  # ,
                    steps.comma(at - 1)
                    held += _COMMA_BYTES
                    if at - taken_at > step_bytes:
                        steps.take()
                        taken_at = at
                        break
                case 0x3A:  # :
                    held += steps.name()
                case 0x5B | 0x7B as mark:  # [ {
                    steps.open(at - 1, [] if mark == 0x5B else {})
                    held += _OBJECT_BYTES if mark == 0x7B else _COMMA_BYTES
                case 0x5D | 0x7D as mark:  # ] }
                    steps.close(at - 1, is_object=mark == 0x7D)
                case _ if at - token.start() == 1:
                    at = _text_end(data, at)
                    break
        else:
            at = window_end
    return steps.value()


class _Steps:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._opened: list[_Open] = []
        # How many of these, from the outermost, are parsed in steps.
        self._in_steps = 0
        self._value: Any = None
        self._end: int | None = None

    def open(self, at: int, values: list[Any] | dict[str, Any]) -> None:
        if len(self._opened) == _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
        self._opened.append(_Open(at, values))

    def comma(self, at: int) -> None:
        if not self._opened:
            raise ValueError(f"a comma outside of lists at byte {at}")
        top = self._opened[-1]
        if top.follows_value:
            self._require_blank(top.start, at)
            top.start, top.follows_value = at + 1, False
        else:
            top.comma_at = at

    def name(self) -> int:
        """How much memory a name takes beyond that of its object."""
        if not self._opened:
            return 0
        top = self._opened[-1]
        top.names += 1
        return _NAME_BYTES if top.names > _FEW_NAMES else 0

    def take(self) -> None:
        """Parses up to the last comma."""
        while self._in_steps < len(self._opened):
            self._begin(self._in_steps)
            self._in_steps += 1
        top = self._opened[-1]
        if top.comma_at is not None:
            self._parse(top, top.comma_at)

    def close(self, at: int, *, is_object: bool) -> None:
        if not self._opened or is_object != isinstance(self._opened[-1].values, dict):
            raise ValueError(f"an end without a beginning at byte {at}")
        top = self._opened.pop()
        if len(self._opened) >= self._in_steps:
            # A part of what it is in.
            return
        self._in_steps -= 1
        self._parse(top, at, is_last=True)
        if not self._opened:
            self._value, self._end = top.values, at + 1
            return
        outer = self._opened[-1]
        if isinstance(outer.values, dict):
            outer.values[outer.key] = top.values
        else:
            outer.values.append(top.values)
        outer.start, outer.follows_value, outer.is_new = at + 1, True, False

    def value(self) -> Any:
        if self._end is not None:
            self._require_blank(self._end, len(self._data))
            return self._value
        if self._in_steps:
            raise ValueError("it ends too early")
        return from_json(self._data)

    def _begin(self, depth: int) -> None:
        """Parses what is before a list or an object that is in another one, or in none."""
        inner, outer = self._opened[depth], self._opened[depth - 1] if depth else None
        if outer is None:
            self._require_blank(0, inner.opened_at)
            return
        if outer.comma_at is not None:
            self._parse(outer, outer.comma_at)
        before = self._data[outer.start : inner.opened_at]
        if outer.follows_value:
            raise ValueError(f"no comma at byte {outer.start}")
        if isinstance(outer.values, dict):
            # Not empty, nor more than one: there is no comma in it.
            (outer.key,) = from_json(b'{%b""}' % before)
        else:
            self._require_blank(outer.start, inner.opened_at)

    def _parse(self, top: _Open, until: int, *, is_last: bool = False) -> None:
        if top.follows_value:
            self._require_blank(top.start, until)
        else:
            part = self._data[top.start : until]
            if isinstance(top.values, dict):
                parsed = from_json(b"{%b}" % part)
                top.values.update(parsed)
            else:
                parsed = from_json(b"[%b]" % part)
                top.values.extend(parsed)
            if not parsed and not (is_last and top.is_new):
                raise ValueError(f"no value at byte {until}")
        top.start, top.comma_at, top.follows_value, top.is_new = until + 1, None, False, False

    def _require_blank(self, start: int, until: int) -> None:
        if self._data[start:until].strip(_BLANK):
            raise ValueError(f"an unexpected character at byte {start}")


def _text_bytes(data: bytes) -> int:
    """The text itself, and at most what the texts in it take."""
    if data.isascii() and b"\\u" not in data:
        return 2 * len(data)
    return (5 if any(beginning in data for beginning in _WIDE) else 3) * len(data)


def _text_end(data: bytes, begin: int) -> int:
    """Where the text ends that begins here, after its quote."""
    at, until = begin, len(data)
    while at < until:
        found = _TEXT.match(data, at, min(at + _WINDOW_BYTES, until))
        assert found is not None  # it may be empty
        if found.end() < until and data[found.end()] == _QUOTE:
            return found.end() + 1
        # An escape at the end of the window belongs to the next one.
        if found.end() == at:
            break
        at = found.end()
    raise ValueError("a text without an end")
