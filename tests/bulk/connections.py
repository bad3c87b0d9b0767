"""One connection of a quick HTTP server on an event loop: reads requests, and answers with JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class JsonConnection(asyncio.Protocol):
    """What a server makes of a request is its subclass's `requested`, which may answer later."""

    def __init__(self) -> None:
        self._read = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if not end or len(body) < length:
            return
        self._read = body[length:]
        self.requested(head, body[:length])

    def requested(self, head: bytes, body: bytes) -> None:
        """A request has come."""
        raise NotImplementedError

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def reply(self, status: int, body: Any, headers: str = "", *, is_cut: bool = False) -> None:
        """Answers, unless the client has left; half of it, and no more, where it is cut."""
        if self._transport is None or self._transport.is_closing():
            return
        content = json.dumps(body).encode()
        head = (
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n{headers}\r\n"
        )
        self._transport.write(head.encode() + (content[: len(content) // 2] if is_cut else content))
        if is_cut:
            self._transport.close()

    def hang_up(self) -> None:
        """Ends the connection without an answer."""
        if self._transport is not None:
            self._transport.abort()
