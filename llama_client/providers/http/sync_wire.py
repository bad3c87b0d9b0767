"""Connections for sync calls: sockets, guarded, kept alive. No lock, so that a finaliser may close an answer."""

from __future__ import annotations

import os
import queue
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llama_client.local_only import ConnectionGuard
from llama_client.providers.http.http1 import (
    PIECE_BYTES,
    AnswerParser,
    ConnectionLostError,
    ConnectTimeoutError,
    Head,
    Inflater,
    NotConnectedError,
    Origin,
    ReadTimeoutError,
    RequestHeads,
    is_redirect,
)
from llama_client.providers.http.waits import Waits

# A running server accepts a connection at once, also while it loads a model.
CONNECT_TIMEOUT_S = 5.0
# More requests at once wait for a connection.
MAX_CONNECTIONS = 1000
# A connection that was idle for longer is closed: servers close theirs after 5 s and more.
KEEPALIVE_S = 30.0


class _Connection:
    """One socket, and the parser of what comes from it."""

    __slots__ = ("_pid", "idle_since", "origin", "parser", "socket")

    def __init__(self, connected: socket.socket, origin: Origin) -> None:
        self.socket = connected
        self.origin = origin
        self.parser = AnswerParser()
        self.idle_since = 0.0
        self._pid = os.getpid()

    def is_usable(self, now: float) -> bool:
        """Whether an idle connection is still open, as far as that can be known: nothing may have arrived on it."""
        if now - self.idle_since > KEEPALIVE_S:
            return False
        # Any byte is the end, or one that nobody asked for.
        return self._pid == os.getpid() and not is_readable(self.socket)

    def send(self, head: Head, body: bytes, waits: Waits) -> None:
        failure = self._send(head, body, waits)
        # Here, where no variable holds the key. A server that refuses a request may answer before it has read it all.
        if isinstance(failure, TimeoutError):
            raise ReadTimeoutError("the server did not take the request") from None

    def _send(self, head: Head, body: bytes, waits: Waits) -> OSError | None:
        length = f"Content-Length: {len(body)}\r\n\r\n".encode() if body else b"\r\n"
        data = memoryview(head.content + length + body)
        try:
            while data:
                self.socket.settimeout(waits.wait_s())
                data = data[self.socket.send(data) :]
        except OSError as error:
            return error.with_traceback(None)
        return None

    def receive(self, waits: Waits) -> None:
        """Hands the next bytes to the parser, or the end."""
        while True:
            self.socket.settimeout(waits.wait_s())
            try:
                data = self.socket.recv(PIECE_BYTES)
                break
            except TimeoutError:
                if not waits.keeps_waiting():
                    raise ReadTimeoutError("the server was silent") from None
            except OSError as error:
                raise ConnectionLostError(str(error)) from error
        if data:
            self.parser.feed(data)
        else:
            # Raises where `shut` was the end, so that half an answer is not taken for a whole one.
            waits.wait_s()
            self.parser.end()

    def shut(self) -> None:
        """Makes a read that blocks in another thread fail now."""
        # A forked process has a copy, and shutting that would end the connection of its parent.
        if self._pid == os.getpid():
            with suppress(OSError):
                # Not TLS's own method, which would make a concurrent read go past the encryption.
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        self.shut()
        with suppress(OSError):
            self.socket.close()


def is_readable(connected: Any) -> bool:
    """Whether a socket has something to read, or its end."""
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(connected, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([connected], [], [], 0)[0])
    except (OSError, ValueError):
        # Closed.
        return True


class Answer:
    """The head of an answer, and its body as it comes. To be closed; then the connection may serve another request."""

    # Whether each wait follows `Waits`, also after the head.
    follows_waits = True

    __slots__ = ("_connection", "_waits", "_wire", "headers", "status")

    def __init__(self, connection: _Connection, wire: SyncWire, waits: Waits) -> None:
        self._connection: _Connection | None = connection
        self._wire = wire
        self._waits = waits
        self.status = connection.parser.status
        self.headers = connection.parser.headers

    def pieces(self) -> Iterator[bytes]:
        encoding = self.headers.get("content-encoding", "identity")
        if encoding.strip().lower() in ("identity", ""):
            return self._pieces()
        return self._inflated(Inflater(encoding))

    def _inflated(self, inflater: Inflater) -> Iterator[bytes]:
        for piece in self._pieces():
            yield from inflater.feed(piece)
        inflater.end()

    def _pieces(self) -> Iterator[bytes]:
        connection = self._connection
        while connection is not None:
            parser = connection.parser
            if parser.pieces:
                pieces, parser.pieces = parser.pieces, []
                yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
            elif parser.is_complete:
                return
            else:
                connection.receive(self._waits)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._wire.release(connection)


class SyncWire:
    """The connections of one client with one set of connection settings."""

    def __init__(self, guard: ConnectionGuard, ssl_context: Callable[[], ssl.SSLContext]) -> None:
        self._guard = guard
        self._ssl_context = ssl_context
        # Deques, and a queue of free places: their methods are atomic, and may be called within one another.
        self._idle: dict[Origin, deque[_Connection]] = {}
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(MAX_CONNECTIONS):
            self._places.put(None)
        self._is_closed = False

    def send(self, origin: Origin, head: Head, body: bytes, waits: Waits) -> Answer:
        """Sends a request and waits for the head of its answer."""
        connection = self._connection(origin, waits)
        try:
            waits.stop_by(connection.shut)
            parser = connection.parser
            parser.begin()
            connection.send(head, body, waits)
            while not parser.has_head:
                connection.receive(waits)
            if self._guard.local_only and is_redirect(parser.status, parser.headers):
                self._guard.refuse_redirect(f"{origin.scheme}://{origin.host}", parser.headers["location"])
        except BaseException:
            self._discard(connection)
            raise
        return Answer(connection, self, waits)

    def release(self, connection: _Connection) -> None:
        """Takes a connection back; it is closed where its answer was not read to the end."""
        parser = connection.parser
        if not (parser.is_complete and parser.keeps_alive) or parser.pieces or self._is_closed:
            self._discard(connection)
            return
        connection.idle_since = time.monotonic()
        self._places.put(None)
        self._idle.setdefault(connection.origin, deque()).append(connection)
        if self._is_closed:
            self.close()

    def close(self) -> None:
        """Closes the idle connections; those in use are closed with their answers."""
        self._is_closed = True
        for idle in list(self._idle.values()):
            while idle:
                with suppress(IndexError):
                    idle.pop().close()

    def _discard(self, connection: _Connection) -> None:
        connection.close()
        self._places.put(None)

    def _connection(self, origin: Origin, waits: Waits) -> _Connection:
        try:
            self._places.get(timeout=waits.wait_s())
        except queue.Empty:
            raise ConnectTimeoutError(f"all of {MAX_CONNECTIONS} connections are in use") from None
        try:
            idle = self._idle.get(origin)
            now = time.monotonic()
            while idle:
                try:
                    # The last one used is the least likely to be closed.
                    connection = idle.pop()
                except IndexError:
                    break
                if connection.is_usable(now):
                    self._close_expired(idle, now)
                    return connection
                connection.close()
            return _Connection(self._connected(origin, waits), origin)
        except BaseException:
            self._places.put(None)
            raise

    @staticmethod
    def _close_expired(idle: deque[_Connection], now: float) -> None:
        with suppress(IndexError):
            while now - idle[0].idle_since > KEEPALIVE_S:
                idle.popleft().close()

    def _connected(self, origin: Origin, waits: Waits) -> socket.socket:
        failure: OSError | None = None
        tls = self._ssl_context() if origin.scheme == "https" else None
        try:
            addresses = self._guard.addresses(origin.host, origin.port)
        except OSError as error:
            raise NotConnectedError(str(error)) from error
        for address in addresses:
            connected = None
            try:
                timeout_s = min(waits.wait_s(), CONNECT_TIMEOUT_S)
                connected = socket.create_connection((address, origin.port), timeout_s)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if tls is not None:
                    connected = tls.wrap_socket(connected, server_hostname=origin.host)
                return connected
            except OSError as error:
                # The first one tells most: on a machine without IPv6 the second is about that.
                failure = failure or error
                if connected is not None:
                    connected.close()
            except BaseException:
                if connected is not None:
                    connected.close()
                raise
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(str(failure)) from failure
        raise NotConnectedError(str(failure) or f"{origin.host} has no address") from failure


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address, and the connections to it."""

    wire: SyncWire
    heads: RequestHeads

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: Waits) -> Answer:
        return self.wire.send(self.heads.origin, self.heads.head(method, path, headers), body, waits)
