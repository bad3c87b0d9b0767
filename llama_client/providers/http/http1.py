"""HTTP/1.1 for both wires: the bytes of a request, and the parser of an answer (llhttp, as in Node.js)."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import httptools

from llama_client.hosts import bare, plain_url

# The head of an answer, its trailers, and what frames a body, each.
MAX_HEAD_BYTES = 128 << 10
# What one read takes from a socket, and the most that one step of decompression gives.
PIECE_BYTES = 64 << 10
# A running server accepts a connection at once, also while it loads a model.
CONNECT_TIMEOUT_S = 5.0
# More requests at once wait for a connection. The usual 100 is below what one process can usefully keep in flight.
MAX_CONNECTIONS = 1000
# A connection that was idle for longer is closed: servers close theirs after 5 s and more.
KEEPALIVE_S = 30.0

CUT = "the server closed the connection within its answer"
NO_ANSWER = "the server closed the connection without an answer"

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[\0\r\n]")
# What a path or query may contain besides letters and digits (RFC 3986), and escapes that are there already.
_SAFE = "/?:@!$&'()*+,;=~-._%"
_KEEP_ALIVE_TIMEOUT = re.compile(r"(?:^|[,;\s])timeout\s*=\s*\"?([0-9]{1,6})", re.IGNORECASE)
_KEPT_SHARE = 0.8
# No server closes idle connections so soon, but for a restart, which is forgotten after a while.
_SOON_S = 2.0
_REMEMBERED_S = 300.0
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
# They frame the body, which the wire does: a second one would let a server see two requests in one.
_FRAMING = frozenset(("content-length", "transfer-encoding"))
_INFLATED = frozenset(("gzip", "x-gzip", "deflate"))
_UNDECODED = frozenset(("br", "zstd", "compress", "x-compress"))


class WireError(Exception):
    """A failure below HTTP; `is_unsent` where the request certainly did not reach the server."""

    is_unsent = False


class NotConnectedError(WireError):
    is_unsent = True


class ConnectTimeoutError(NotConnectedError, TimeoutError):
    pass


class ReadTimeoutError(WireError, TimeoutError):
    pass


class ConnectionLostError(WireError):
    # Whether the connection had been used before, and ended without a byte of the answer: then that tells nothing of
    # the server, which closes connections that were idle.
    is_unanswered = False


class MalformedAnswerError(WireError):
    """The server sent something that is not HTTP/1.1."""


class UndecodableError(WireError):
    """The body is encoded with what was not accepted, or is not what its encoding says."""


class HttpOrigin(NamedTuple):
    """Where connections lead: requests to equal origins share them."""

    scheme: str
    # In its one form: what the guard judges, and what is connected to.
    host: str
    port: int

    @property
    def tls_name(self) -> str:
        """The name that the certificate must have."""
        return bare(self.host)


@dataclass(frozen=True, slots=True)
class Head:
    """Everything before a request's body but its length. It holds the key, so it has no representation."""

    content: bytes = field(repr=False)

    def with_body(self, body: bytes) -> bytes:
        """The whole request."""
        length = f"Content-Length: {len(body)}\r\n\r\n".encode() if body else b"\r\n"
        return self.content + length + body


class RequestHeads:
    """The heads of requests to one address, each prepared once."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        _, parts, host = plain_url(url)
        self.origin = HttpOrigin(parts.scheme, host, _PORTS[parts.scheme] if parts.port is None else parts.port)
        self._path = quote(parts.path, safe=_SAFE)
        self._query = f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
        port = "" if self.origin.port == _PORTS[parts.scheme] else f":{self.origin.port}"
        # Answers are small, and a compressing server may hold back the chunks of a stream.
        self._headers = {
            "host": ("Host", f"{host_shown(host)}{port}"),
            "accept-encoding": ("Accept-Encoding", "identity"),
        }
        self._add(self._headers, headers)
        if parts.username or parts.password:
            user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            self._headers["authorization"] = ("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
        self._known: dict[tuple[str, str], Head] = {}

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> Head:
        """The head of a request for a path below the address, or for the address itself; its query is kept.

        Raises:
            ValueError: A header's name or value cannot be sent.
        """
        if headers:
            own = dict(self._headers)
            self._add(own, headers)
            return self._head(method, path, own)
        known = self._known.get((method, path))
        if known is None:
            known = self._known[method, path] = self._head(method, path, self._headers)
        return known

    def _head(self, method: str, path: str, headers: Mapping[str, tuple[str, str]]) -> Head:
        target = f"{self._path.rstrip('/')}/{quote(path, safe=_SAFE)}" if path else self._path or "/"
        lines = [f"{method} {target}{self._query} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.values()]
        return Head("\r\n".join(lines).encode("utf-8") + b"\r\n")

    @staticmethod
    def _add(known: dict[str, tuple[str, str]], headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            # Not the value, which may be a key.
            if not _NAME.fullmatch(name) or _FORBIDDEN_IN_VALUE.search(value) or name.lower() in _FRAMING:
                raise ValueError(f"the header {name!r} cannot be sent")
            known[name.lower()] = (name, value.strip())


def host_shown(host: str) -> str:
    """A host in the header `Host`, without what only this machine knows."""
    known = bare(host)
    return f"[{known}]" if ":" in known else known


def is_redirect(status: int, headers: Mapping[str, str]) -> bool:
    return status in _REDIRECTS and "location" in headers


class AnswerParser:
    """Parses the answers that one connection brings, one after the other.

    Lenient as browsers and aiohttp are: bare line feeds, folded headers, spaces after a chunk's size.
    """

    __slots__ = (
        "_has_more",
        "_parser",
        "_unbounded_bytes",
        "failure",
        "has_begun",
        "has_head",
        "headers",
        "is_complete",
        "is_framed",
        "keeps_alive",
        "pieces",
        "status",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            # A 100 may say that the connection closes, before the answer that it announces.
            lenient_keep_alive=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self.begin()

    def begin(self) -> None:
        """Before each request."""
        self.status = 0
        self.headers: dict[str, str] = {}
        # Whether a byte of the answer has come.
        self.has_begun = False
        self.has_head = False
        # The body's bytes that have arrived and were not taken.
        self.pieces: list[bytes] = []
        self.is_complete = False
        # Whether the answer itself says where it ends.
        self.is_framed = False
        # Whether the connection may serve another request.
        self.keeps_alive = False
        # Kept, not raised: the frames of `feed` hold what the server sent.
        self.failure: BaseException | None = None
        self._has_more = False
        self._unbounded_bytes = 0

    def feed(self, data: bytes) -> None:
        """Takes the next bytes; `failure` where they are no answer."""
        before = len(self.pieces)
        self.has_begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.failure = MalformedAnswerError("the server switched to another protocol")
        except httptools.HttpParserCallbackError as error:
            # What a callback raised: ours, or an interrupt.
            self.failure = error.__context__ or error
        except httptools.HttpParserError as error:
            self.failure = MalformedAnswerError(f"the server sent malformed HTTP ({_reason(error)})")
        if self.failure is not None:
            self.failure.__traceback__ = self.failure.__context__ = None
            self.keeps_alive = False
            if self.is_complete and isinstance(self.failure, WireError):
                # What follows a complete answer concerns the connection alone.
                self.failure = None
        elif len(self.pieces) > before:
            self._unbounded_bytes = 0
        elif not self.is_complete:
            self._unbounded_bytes += len(data)
            if self._unbounded_bytes > MAX_HEAD_BYTES:
                self.failure = MalformedAnswerError(f"more than {MAX_HEAD_BYTES >> 10} KiB without a part of the body")

    def take(self) -> bytes:
        """What has arrived of the body since the last time."""
        pieces, self.pieces = self.pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        """The connection was closed: complete where nothing frames the body, else a failure."""
        self.keeps_alive = False
        if self.is_complete or (self.has_head and not self.is_framed):
            self.is_complete = True
        elif self.has_head:
            raise ConnectionLostError(CUT)
        else:
            raise ConnectionLostError(NO_ANSWER)

    # The parser calls these.

    def on_message_begin(self) -> None:
        if self.is_complete:
            # The beginning of an unrequested answer.
            self.keeps_alive, self._has_more = False, True

    def on_header(self, name: bytes, value: bytes) -> None:
        # Not what a trailer says.
        if not self.has_head:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        if self._has_more:
            return
        self.status = self._parser.get_status_code()
        if self.status < 100:
            raise MalformedAnswerError(f"the server sent malformed HTTP (status {self.status})")
        self.has_head = self.status >= 200
        has_length, codings = "content-length" in self.headers, _codings(self.headers.get("transfer-encoding", ""))
        self.is_framed = codings[-1] == "chunked" if codings else has_length
        self.keeps_alive = self._parser.should_keep_alive() and not (codings and has_length)

    def on_body(self, data: bytes) -> None:
        if self.has_head and not self._has_more:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        if self._has_more:
            return
        if self.has_head:
            self.is_complete = True
        else:
            # 100 Continue, 103 Early Hints: the answer follows.
            self.headers = {}


class StreamEnders:
    """The origins that close a connection after each stream, though they announce to keep it: llama.cpp's server does.

    Without this, the next request would now and then meet the close on its way.
    """

    def __init__(self) -> None:
        # Until when each is remembered.
        self._until: dict[HttpOrigin, float] = {}

    def note(self, origin: HttpOrigin, idle_s: float, now: float) -> None:
        """A connection that had brought a stream was found closed, after it was idle for so long."""
        if idle_s < _SOON_S:
            self._until[origin] = now + _REMEMBERED_S

    def has(self, origin: HttpOrigin, now: float) -> bool:
        return self._until.get(origin, now) > now


def mark_unanswered(error: BaseException, parser: AnswerParser, *, is_reused: bool, is_unsent: bool) -> bool:
    """Marks the failure of a connection that was used before, and ended without a byte of an answer; else False."""
    if not (is_reused and isinstance(error, ConnectionLostError)) or parser.has_begun:
        return False
    error.is_unanswered, error.is_unsent = True, is_unsent
    return True


def kept_s(announced: str, most_s: float) -> float:
    """How long an idle connection may be kept, by the server's header `Keep-Alive`.

    Less than announced: a request on its way while the server closes would be lost.
    """
    found = _KEEP_ALIVE_TIMEOUT.search(announced)
    return most_s if found is None else min(most_s, int(found[1]) * _KEPT_SHARE)


def _reason(error: Exception) -> str:
    return str(error).partition(",")[0].strip() or type(error).__name__


def _codings(value: str) -> list[str]:
    # Nearly no answer has any.
    return [name for name in (part.strip().lower() for part in value.split(",")) if name] if value else []


def inflater_for(headers: Mapping[str, str]) -> Inflater | None:
    """What undoes the encoding of a body; None: it has none that is known."""
    named = [*_codings(headers.get("content-encoding", "")), *_codings(headers.get("transfer-encoding", ""))]
    codings = [name for name in named if name in _INFLATED or name in _UNDECODED]
    return Inflater(codings) if codings else None


class Inflater:
    """Undoes one layer of gzip or deflate, piece by piece, so that a bound on what comes out holds at any time."""

    def __init__(self, codings: list[str]) -> None:
        self._codings = codings
        self._inflate: Any = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None and data:
            if len(self._codings) > 1 or self._codings[0] not in _INFLATED:
                raise UndecodableError(f"the answer is encoded with {', '.join(self._codings)}, which was not accepted")
            # "deflate" comes with zlib's head, as it should, and without.
            is_raw = self._codings[0] == "deflate" and (data[0] & 0x0F) != 8
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS | 32)
        piece = data
        while piece and not self._inflate.eof:
            try:
                piece = self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise UndecodableError("the compressed answer cannot be decoded") from None
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail

    def end(self) -> None:
        if self._inflate is not None and not self._inflate.eof:
            raise ConnectionLostError("the compressed answer ends too early")
