"""Requests as a server reads them: HTTP only as far as it takes to find where one ends."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

MAX_HEAD_BYTES = 1 << 20
_MAX_BODY_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came.

    Attributes:
        method: Such as `POST`.
        path: With its query.
        headers: By lower-case name.
        body: Empty where there is none.
        provider: The configured name of the provider that was asked; None: a socket does not tell.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    provider: str | None = None

    @property
    def json(self) -> Any:
        """The body, parsed; ValueError: it is no JSON, or nested too deep to be read."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("the body is nested too deep") from None


def read_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """The method, path and headers of a request, whose names are in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    return method, path, {n.strip().lower(): value.strip() for n, _, value in (line.partition(":") for line in lines)}


class MalformedRequestError(ValueError):
    """What came is no HTTP.

    Attributes:
        start: What came of it.
    """

    def __init__(self, start: bytes) -> None:
        super().__init__("no HTTP")
        self.start = start


class RequestReader:
    """Reads the requests of a connection, one after the other.

    Args:
        connection: The connection.

    Attributes:
        is_last: Whether the client takes no further answer on this connection after the last request's.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self.is_last = False

    def next(self) -> Received | None:
        """The next request; None: the client closed instead.

        Raises:
            MalformedRequestError: It is no HTTP, or too long.
            ConnectionError: The client closed within it.
        """
        start = self._head()
        if start is None:
            return None
        try:
            method, path, headers = read_head(start)
            self.is_last = _is_last(start, headers)
            body = self._body(headers)
        except ValueError:
            raise MalformedRequestError(start) from None
        return Received(method, path, headers, body)

    def _head(self) -> bytes | None:
        searched = 0
        while (end := self._buffer.find(b"\r\n\r\n", searched)) < 0:
            searched = max(0, len(self._buffer) - 3)
            data = self._connection.recv(1 << 16)
            self._buffer += data
            # Some clients end a body with a line end that it does not count.
            while not searched and self._buffer.startswith(b"\r\n"):
                del self._buffer[:2]
            if self._buffer and (not data or not self._may_begin()):
                raise MalformedRequestError(bytes(self._buffer))
            if not data:
                return None
        return self._taken(end + 4)[:-4]

    def _body(self, headers: dict[str, str]) -> bytes:
        length = int(headers.get("content-length", "0"))
        is_chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        if headers.get("expect", "").lower() == "100-continue" and not self._buffer and (length or is_chunked):
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return self._chunks() if is_chunked else self._exactly(length)

    def _may_begin(self) -> bool:
        """A request of HTTP begins with a word in capitals; a TLS handshake, say, does not."""
        return (self._buffer[:1].isupper() or self._buffer == b"\r") and len(self._buffer) <= MAX_HEAD_BYTES

    def _exactly(self, length: int) -> bytes:
        if not 0 <= length <= _MAX_BODY_BYTES:
            raise ValueError("a body of a length that is not read")
        while len(self._buffer) < length:
            self._more()
        return self._taken(length)

    def _taken(self, length: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return taken

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                self._more()
            size = int(self._taken(end + 2), 16)
            piece = self._exactly(size + 2)
            if size == 0:
                return bytes(body)
            body += memoryview(piece)[:-2]
            if len(body) > _MAX_BODY_BYTES:
                raise ValueError("a body that is not read further")

    def _more(self) -> None:
        data = self._connection.recv(1 << 16)
        if not data:
            raise ConnectionError("the client closed within a request")
        self._buffer += data


def _is_last(head: bytes, headers: dict[str, str]) -> bool:
    """Whether the client closes, or wants closed, the connection after the answer."""
    wishes = {wish.strip().lower() for wish in headers.get("connection", "").split(",")}
    is_old = head.partition(b"\r\n")[0].endswith(b"HTTP/1.0")
    return "close" in wishes or (is_old and "keep-alive" not in wishes)
