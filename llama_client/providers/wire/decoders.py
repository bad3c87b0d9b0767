"""Bytes of a stream, cut anywhere, as events: server-sent events (SSE) and lines of JSON (NDJSON). No I/O."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic_core import from_json

from llama_client.errors import InvalidResponseError
from llama_client.providers.wire.json_steps import MIN_COUNTED_BYTES, json_of

# The longest whole answer, with log probabilities for each token, stays far below.
MAX_ANSWER_BYTES = 64 << 20
# One event holds one token, or at worst a whole answer; the longest answers of today's models are below 1 MiB.
MAX_EVENT_BYTES = 8 << 20
# What is held of a stream, with its raw pieces: far above the longest answer, with every token in an event of its own.
MAX_STREAM_BYTES = 256 << 20
# Of an event, beside its bytes.
_EVENT_BYTES = 64
# A character beyond Latin-1 decides how many bytes each one of its text takes.
_WIDE_FACTOR = 3
_JSON_STARTS = (b"{", b"[")
_JSON_ENDS = (b"}", b"]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


# The name of what is JSON in a stream of events, without their form: servers that cannot begin one tell errors so.
BARE = "bare"
# Of such JSON over several lines: an error, or a whole answer.
_MAX_BARE_BYTES = MAX_EVENT_BYTES


class ServerSentEvent(NamedTuple):
    """One event: its name (`message` where it has none; `BARE`) and its data."""

    name: str
    data: bytes


class _Lines:
    """Splits bytes into lines that end with LF, CRLF or CR, up to a maximum length."""

    def __init__(self, max_line_bytes: int, max_stream_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_stream_bytes = max_stream_bytes
        self._stream_bytes = 0
        # Between two events: comments and empty lines, in practice a few bytes a minute.
        self.idle_bytes = 0
        self._held = bytearray()
        self._after_cr = False
        self._at_start = True

    def count(self, size_bytes: int) -> None:
        self._stream_bytes += size_bytes
        if self._stream_bytes > self._max_stream_bytes:
            raise InvalidResponseError(f"the stream exceeds {self._max_stream_bytes} bytes; aborted")

    def feed(self, data: bytes) -> list[bytes]:
        is_narrow = data.isascii() and b"\\u" not in data
        self.count(len(data) if is_narrow else _WIDE_FACTOR * len(data))
        if self._after_cr and data:
            # The other half of a CRLF that was split between two reads.
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            self._hold(data)
            return []
        lines = data.split(b"\n")
        rest = lines.pop()
        if self._held:
            self._hold(lines[0])
            lines[0] = self._take()
        if len(data) > self._max_line_bytes:
            for line in lines:
                self._require_room(len(line))
        self._hold(rest)
        if self._at_start:
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        return lines

    def end(self) -> list[bytes]:
        line = self._take()
        if self._at_start:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return [line] if line else []

    def idle(self, line: bytes) -> None:
        self.idle_bytes += len(line) + 1
        if self.idle_bytes > self._max_line_bytes:
            raise InvalidResponseError(
                f"more than {self._max_line_bytes} bytes of the stream without an event; aborted"
            )

    def _hold(self, data: bytes) -> None:
        if data:
            self._require_room(len(self._held) + len(data))
            self._held += data

    def _take(self) -> bytes:
        line = bytes(self._held)
        self._held.clear()
        return line

    def _require_room(self, line_bytes: int) -> None:
        if line_bytes > self._max_line_bytes:
            raise InvalidResponseError(f"a line of the stream exceeds {self._max_line_bytes} bytes")


class SseDecoder:
    """Server-sent events by the WHATWG's rules; events without data are left out."""

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES, max_stream_bytes: int = MAX_STREAM_BYTES) -> None:
        self._lines = _Lines(max_event_bytes, max_stream_bytes)
        self._max_event_bytes = max_event_bytes
        self._name = ""
        self._data: list[bytes] = []
        self._data_bytes = 0
        # The lines of JSON that has no form; None: events have come, or too many lines.
        self._bare: bytearray | None = bytearray()

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        take_line = self._take_line
        for line in self._lines.feed(data):
            # Nearly every event is one line of data and a blank one.
            if line[:6] == b"data: " and not self._data and not self._bare and len(line) <= self._max_event_bytes:
                self._data.append(line[6:])
                self._data_bytes = len(line) - 6
            elif not line and len(self._data) == 1 and not self._name:
                events.append(ServerSentEvent("message", self._data.pop()))
                self._data_bytes = self._lines.idle_bytes = 0
            else:
                take_line(line, events)
        if events:
            self._bare = None
            self._lines.count(_EVENT_BYTES * len(events))
        return events

    def count(self, size_bytes: int) -> None:
        """Counts what else is held of the stream.

        Raises:
            InvalidResponseError: It is too much.
        """
        self._lines.count(size_bytes)

    def end(self) -> list[ServerSentEvent]:
        # A last event without its blank line counts too: servers send errors so and then disconnect.
        events: list[ServerSentEvent] = []
        for line in (*self._lines.end(), b""):
            self._take_line(line, events)
        if not events:
            self._end_bare(events)
        return events

    def _end_bare(self, events: list[ServerSentEvent]) -> None:
        if self._bare:
            events.append(ServerSentEvent(BARE, bytes(self._bare)))
        self._bare = None

    def _take_line(self, line: bytes, events: list[ServerSentEvent]) -> None:
        # A comment (a ping, say) is a line whose field has no name.
        field, _, value = line.partition(b":")
        if field == b"data":
            self._end_bare(events)
            value = value.removeprefix(b" ")
            self._data_bytes += len(value) + bool(self._data)
            if self._data_bytes > self._max_event_bytes:
                raise InvalidResponseError(f"an event of the stream exceeds {self._max_event_bytes} bytes")
            self._data.append(value)
            return
        if field == b"error" and value:
            # No field of the standard: older versions of llama.cpp, and servers made of it, tell errors so.
            events.append(ServerSentEvent("error", value.strip()))
        elif line[:1] in _JSON_STARTS and line.rstrip()[-1:] in _JSON_ENDS:
            events.append(ServerSentEvent(BARE, line))
        elif self._bare is not None and (self._bare or line[:1] in _JSON_STARTS):
            self._keep_bare(line)
        if line or not self._data:
            self._lines.idle(line)
        else:
            events.append(ServerSentEvent(self._name or "message", b"\n".join(self._data)))
            self._data, self._data_bytes, self._lines.idle_bytes = [], 0, 0
        if not line:
            self._name = ""
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")

    def _keep_bare(self, line: bytes) -> None:
        assert self._bare is not None
        self._bare += line
        self._bare += b"\n"
        if len(self._bare) > _MAX_BARE_BYTES:
            self._bare = None


class NdjsonDecoder:
    """Lines that hold one JSON value each; empty lines are left out."""

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES, max_stream_bytes: int = MAX_STREAM_BYTES) -> None:
        self._lines = _Lines(max_event_bytes, max_stream_bytes)

    def feed(self, data: bytes) -> list[bytes]:
        lines = []
        for line in self._lines.feed(data):
            if line.strip():
                lines.append(line)
                self._lines.idle_bytes = 0
            else:
                self._lines.idle(line)
        if lines:
            self._lines.count(_EVENT_BYTES * len(lines))
        return lines

    def count(self, size_bytes: int) -> None:
        """Counts what else is held of the stream.

        Raises:
            InvalidResponseError: It is too much.
        """
        self._lines.count(size_bytes)

    def end(self) -> list[bytes]:
        return [line for line in self._lines.end() if line.strip()]


def json_value(data: bytes, *, is_object: bool = False) -> Any:
    try:
        value = from_json(data) if len(data) <= MIN_COUNTED_BYTES else json_of(data)
    except ValueError as error:
        raise InvalidResponseError(f"the provider sent invalid JSON: {_excerpt(data)} ({error})") from None
    if is_object and not isinstance(value, dict):
        raise InvalidResponseError(f"the provider sent JSON that is not an object: {_excerpt(data)}")
    return value


def _excerpt(data: bytes) -> str:
    text = data[:80].decode("utf-8", "replace")
    return repr(text if len(data) <= 80 else f"{text}…")
