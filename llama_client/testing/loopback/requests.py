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
        """The body, parsed."""
        return json.loads(self.body)


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
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def next(self) -> Received | None:
        """The next request; None: the client closed instead.

        Raises:
            MalformedRequestError: It is no HTTP, or too long.
            ConnectionError: The client closed within it.
        """
        while b"\r\n\r\n" not in self._buffer:
            data = self._connection.recv(1 << 16)
            self._buffer += data
            if self._buffer and (not data or not self._may_begin()):
                raise MalformedRequestError(self._buffer)
            if not data:
                return None
        start, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        try:
            method, path, headers = read_head(start)
            if headers.get("transfer-encoding", "").lower() == "chunked":
                body = self._chunks()
            else:
                body = self._exactly(int(headers.get("content-length", "0")))
        except ValueError:
            raise MalformedRequestError(start) from None
        return Received(method, path, headers, body)

    def _may_begin(self) -> bool:
        """A request of HTTP begins with a word in capitals; a TLS handshake, say, does not."""
        return self._buffer[:1].isupper() and len(self._buffer) <= MAX_HEAD_BYTES

    def _exactly(self, length: int) -> bytes:
        if not 0 <= length <= _MAX_BODY_BYTES:
            raise ValueError("a body of a length that is not read")
        while len(self._buffer) < length:
            self._more()
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                self._more()
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            size = int(line, 16)
            piece = self._exactly(size + 2)
            if size == 0:
                return body
            body += piece[:-2]
            if len(body) > _MAX_BODY_BYTES:
                raise ValueError("a body that is not read further")

    def _more(self) -> None:
        data = self._connection.recv(1 << 16)
        if not data:
            raise ConnectionError("the client closed within a request")
        self._buffer += data
