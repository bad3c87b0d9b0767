"""Answers in raw bytes, and what becomes of the connection after them: of good and of misbehaving servers. No I/O."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

# How a connection goes on after an answer: it serves the next request, ends with FIN, ends with RST, or stays silent.
Then = Literal["keep", "close", "reset", "stall"]
# How a body in chunks ends. `eof` is `clean` on the wire: the body is whole, and the message in it is not.
End = Literal["clean", "eof", "cut", "reset", "stall"]

# What an endless answer stops at, so that a client without bounds fails the test and not the machine.
ENDLESS_BYTES = 320 << 20
# What sends a little now and then, or nothing, ends after ten minutes.
LONGEST_S = 600.0


# Of a player that has no answer. An official client shows the message, and does not ask again.
_REFUSED = 501
_NOT_AGAIN = {"x-should-retry": "false"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes for the wire, and what happens to the connection after them.

    Attributes:
        pieces: Each is sent by itself; a number is a pause in seconds.
        then: What becomes of the connection.
    """

    pieces: Iterable[bytes | float] = ()
    then: Then = "keep"

    @property
    def content(self) -> bytes:
        """All of its bytes."""
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))


def paced(answer: Answer, delay_s: float, *, first_s: float = 0.0) -> Answer:
    """The same answer with a pause between its pieces, and maybe another one before the first."""
    return Answer(_Paced(answer.pieces, delay_s, first_s), answer.then)


def head(status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """A status line and headers, with the empty line after them."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:  # 498, say, which is Groq's own
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(
    body: bytes,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_length: int | None = None,
    then: Then = "keep",
) -> Answer:
    """An answer in one piece; a `content_length` other than the body's is a lie."""
    length = len(body) if content_length is None else content_length
    return Answer([head(status, {**(headers or {}), "content-length": str(length)}) + body], then)


def as_json(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A JSON document."""
    body = json.dumps(value).encode()
    return whole(body, status=status, headers={"content-type": "application/json", **(headers or {})})


def streamed(
    pieces: Iterable[bytes],
    end: End = "clean",
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    delay_s: float = 0.0,
) -> Answer:
    """A body in chunks, one for each piece."""
    start = head(status, {"content-type": "text/event-stream", **(headers or {}), "transfer-encoding": "chunked"})
    frames = [_chunk(piece) for piece in pieces if piece]
    match end:
        case "clean" | "eof":
            answer = Answer([start, *frames, b"0\r\n\r\n"])
        case "cut":
            answer = Answer([start, *frames], "close")
        case _:
            answer = Answer([start, *frames], end)
    return paced(answer, delay_s) if delay_s else answer


def endless(
    piece: bytes,
    *,
    first: Sequence[bytes] = (),
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    delay_s: float = 0.0,
) -> Answer:
    """A body in chunks that goes on until the client closes, until `overran`, or for ten minutes of its pauses."""
    start = streamed(first, "stall", status=status, headers=headers)
    answer = Answer(_Endless([*start.pieces], _chunk(piece), delay_s), "stall")
    return paced(answer, delay_s) if delay_s else answer


def endless_head() -> Answer:
    """Headers that never end."""
    return Answer(_Endless([b"HTTP/1.1 200 OK\r\n"], b"x-more: " + b"x" * 4000 + b"\r\n"), "stall")


def silence() -> Answer:
    """No answer, on a connection that stays open."""
    return Answer((), "stall")


def hangup(then: Literal["close", "reset"] = "close") -> Answer:
    """No answer, on a connection that ends once the request was read."""
    return Answer((), then)


def garbage() -> Answer:
    """What is no HTTP at all."""
    return Answer([b"\x00\x01\x02 I am no web server \xff\xfe\r\n\r\n"], "close")


def gzipped(body: bytes, *, headers: Mapping[str, str] | None = None) -> Answer:
    """A body that is compressed, whether or not it was asked for so."""
    return whole(gzip.compress(body), headers={**(headers or {}), "content-encoding": "gzip"})


def redirect(location: str, *, status: int = 307) -> Answer:
    """The way to somewhere else."""
    return whole(b"", status=status, headers={"location": location})


def byte_by_byte(answer: Answer) -> Answer:
    """The same bytes, each sent by itself."""
    return Answer(cut(answer.content, 1), answer.then)


def cut(data: bytes, size: int) -> list[bytes]:
    """Pieces of that size, the last one maybe shorter."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def head_of(answer: Answer) -> Iterator[bytes | float]:
    """The pieces of an answer up to the end of its headers."""
    for piece in answer.pieces:
        if isinstance(piece, bytes) and b"\r\n\r\n" in piece:
            yield piece[: piece.index(b"\r\n\r\n") + 4]
            return
        yield piece


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class _Endless:
    """More than any client should take, which can be begun again."""

    def __init__(self, first: Sequence[bytes | float], repeated: bytes, delay_s: float = 0.0) -> None:
        self._first = first
        self._repeated = repeated
        # One more than the server sends, so that it knows that the client took all.
        self._times = ENDLESS_BYTES // len(repeated) + 2
        if delay_s:
            self._times = min(self._times, int(LONGEST_S / delay_s))

    def __iter__(self) -> Iterator[bytes | float]:
        yield from self._first
        for _ in range(self._times):
            yield self._repeated


class _Paced:
    """As endless as what it paces, and can be begun again."""

    def __init__(self, pieces: Iterable[bytes | float], delay_s: float, first_s: float) -> None:
        self._pieces = pieces
        self._delay_s = delay_s
        self._first_s = first_s

    def __iter__(self) -> Iterator[bytes | float]:
        pause_s = self._first_s
        for piece in self._pieces:
            if pause_s:
                yield pause_s
            yield piece
            pause_s = self._delay_s


def refusal(error: Exception) -> Answer:
    """What a client is answered where the player of its request has raised.

    Args:
        error: What it raised.
    """
    body = {"message": str(error), "type": type(error).__name__, "code": None}
    return as_json({"error": body}, status=_REFUSED, headers=_NOT_AGAIN)
