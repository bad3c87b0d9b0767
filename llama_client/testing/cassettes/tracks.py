"""An exchange while it is recorded: what is asked, and what comes when. The same for sync, async and HTTPX."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from llama_client.testing.cassettes.bodies import (
    Piece,
    UnreadableError,
    is_stream,
    json_bytes,
    json_value,
    lines_of,
    pieces_of,
)
from llama_client.testing.cassettes.exchanges import Answer, Exchange, Failure, HttpExchange, Request
from llama_client.testing.cassettes.failures import is_failure, stored
from llama_client.testing.cassettes.scrubbing import Scrubber, digest_of, request_value

# Nanoseconds of the calendar, and a number: the order in which the requests of several processes were sent.
Order = tuple[int, int]
# Takes a finished exchange.
Sink = Callable[[Order, Exchange], None]
# Longer answers are kept up to here: a cassette is to be read.
MAX_BODY_BYTES = 16 << 20
# The ends of streams after which nothing is read, whatever follows.
_LAST = (b"data: [DONE]", b'"done":true}')
_numbers = itertools.count()
# The calendar may be set back meanwhile.
_STARTED_NS = time.time_ns() - time.monotonic_ns()


def now_in_order() -> Order:
    return _STARTED_NS + time.monotonic_ns(), next(_numbers)


def place_of(url: str, path: str) -> str:
    """The place of a request: its path below a provider's address, or another server's address."""
    if path:
        return path.partition("?")[0]
    parts = urlsplit(url)
    return f"//{parts.hostname or ''}{parts.path}"


def base_of(url: str) -> str:
    """The path of a provider's address."""
    return urlsplit(url).path.rstrip("/")


def place_below(base: str, path: str) -> str:
    """The place of an official client's request: its path below a provider's address, else the whole one."""
    return path.removeprefix(f"{base}/") if path.startswith(f"{base}/") else path


def content_of(body: bytes, content_type: str, scrubber: Scrubber) -> Any:
    """What is stored and compared of a request's body."""
    if not body:
        return None
    try:
        return scrubber.value(request_value(json_value(body)))
    except UnreadableError:
        return digest_of(body, content_type)


class Ending(Protocol):
    """An exchange under way."""

    def closed(self) -> None:
        """The reader has had enough, or reads no more."""


class Keeping:
    """Where recorded exchanges go, and what is taken out of them.

    Attributes:
        sink: Gets each exchange once it has ended, in any thread.
        scrubber: Takes out secrets.
        bases: The path of each provider's address.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.scrubber = Scrubber()
        self.bases: dict[str, str] = {}
        self._open: set[Ending] = set()
        self._lock = threading.Lock()

    def begins(self, track: Ending) -> None:
        with self._lock:
            self._open.add(track)

    def ends(self, track: Ending) -> bool:
        """Whether this is the first end of an exchange."""
        with self._lock:
            is_first = track in self._open
            self._open.discard(track)
        return is_first

    def close(self) -> None:
        """Keeps what is under way as far as it has come, as if its reader had closed it."""
        with self._lock:
            tracks = list(self._open)
        for track in tracks:
            track.closed()


class Track:
    """One exchange over HTTP.

    Args:
        provider: The configured name.
        request: What is asked.
        keeping: Gets the exchange, once.
    """

    def __init__(self, provider: str, request: Request, keeping: Keeping) -> None:
        self._provider = provider
        self._request = request
        self._scrubber = keeping.scrubber
        self._keeping = keeping
        self._order = now_in_order()
        self._started = time.monotonic()
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        self._head_s = 0.0
        self._pieces: list[Piece] = []
        self._bytes = 0
        keeping.begins(self)

    @property
    def _now_s(self) -> float:
        return round(time.monotonic() - self._started, 4)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._head_s = status, self._now_s
        self._headers = self._scrubber.headers(headers)

    def piece(self, data: bytes) -> None:
        self._bytes += len(data)
        if data and self._bytes <= MAX_BODY_BYTES:
            self._pieces.append((self._now_s, data))

    def complete(self) -> None:
        self._end("complete")

    def failed(self, error: BaseException, waits: object = None) -> None:
        """The exchange has ended with an error, or its reader has: then it is closed."""
        if isinstance(error, Exception) and is_failure(error, waits):
            self._end(stored(error, self._now_s, waits, self._scrubber.text))
        else:
            self.closed()

    def closed(self) -> None:
        """The reader has had enough."""
        last = b"".join(data for _, data in self._pieces[-2:]).rstrip()
        self._end("complete" if last.endswith(_LAST) else "closed")

    def _end(self, end: Any) -> None:
        if not self._keeping.ends(self):
            return
        answer = self._answer(end)
        exchange = HttpExchange(provider=self._provider, request=self._request, answer=answer)
        self._keeping.sink(self._order, exchange)

    def _answer(self, end: Any) -> Answer:
        if self._bytes > MAX_BODY_BYTES:
            end = Failure(kind="lost", message=f"the recording keeps {MAX_BODY_BYTES >> 20} MiB of an answer")
        common: dict[str, Any] = {
            "status": self._status, "headers": self._headers, "head_s": self._head_s, "end": end, "end_s": self._now_s
        }  # fmt: skip
        content_type = self._headers.get("content-type", "")
        if end == "complete" and self._pieces and not is_stream(content_type):
            try:
                body = self._scrubber.value(json_value(b"".join(data for _, data in self._pieces)))
                return Answer(**common, body=body, body_s=self._pieces[-1][0])
            except UnreadableError:
                pass
        return Answer(**common, lines=lines_of(self._scrubber.pieces(self._pieces)))


def pieces_to_play(answer: Answer) -> list[Piece]:
    """The body of an answer, as it came."""
    if answer.body_s is not None or answer.body is not None:
        # An answer that was written by hand has no time.
        return [(answer.head_s if answer.body_s is None else answer.body_s, json_bytes(answer.body))]
    return pieces_of(answer.lines)
