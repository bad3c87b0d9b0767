"""Connections for sync calls: sockets, guarded, kept alive."""

from __future__ import annotations

import os
import queue
import select
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from llama_client.local_only import ConnectionGuard
from llama_client.providers.http.http1 import (
    CONNECT_TIMEOUT_S,
    KEEPALIVE_S,
    MAX_CONNECTIONS,
    PIECE_BYTES,
    AnswerParser,
    ConnectionLostError,
    ConnectTimeoutError,
    Head,
    HttpOrigin,
    Inflater,
    NotConnectedError,
    ReadTimeoutError,
    RequestHeads,
    StreamEnders,
    inflater_for,
    is_redirect,
    kept_s,
    mark_unanswered,
)
from llama_client.providers.http.waits import Waits


class _Place:
    """The right to one connection in use. It is over when this is dropped."""

    __slots__ = ("__weakref__",)


class _Places:
    """At most so many rights at once. What is alive is counted, so that no interruption can lose one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        # References whose place was dropped put themselves into the queue. That is a method in C: an interrupt could
        # cut off one in Python, even `__del__`.
        # None wakes one that waits.
        self._ended: queue.SimpleQueue[weakref.ref[_Place] | None] = queue.SimpleQueue()
        self._taken: set[weakref.ref[_Place]] = set()
        self._was_full = False

    def take(self, timeout_s: float) -> _Place:
        """Raises `queue.Empty` where none is free in time."""
        taken, ended = self._taken, self._ended
        until: float | None = None
        while True:
            with self._lock:
                while not ended.empty():
                    # One that waits may take the last of them.
                    with suppress(queue.Empty):
                        if (over := ended.get_nowait()) is not None:
                            taken.discard(over)
                if len(taken) >= self._most:
                    # Those that an interrupt has left there.
                    taken.difference_update([each for each in taken if each() is None])
                if len(taken) < self._most:
                    place = _Place()
                    taken.add(weakref.ref(place, ended.put))
                    if self._was_full and len(taken) < self._most:
                        # Wakes the next one that waits: what it waits for was taken out here.
                        ended.put(None)
                    return place
                self._was_full = True
            until = time.monotonic() + timeout_s if until is None else until
            # Put back, as only the above takes it out, with the lock.
            ended.put(ended.get(timeout=max(until - time.monotonic(), 0.0)))


class _SocketConnection:
    """One socket, and the parser of what comes from it."""

    __slots__ = (
        "_pid",
        "has_streamed",
        "has_written",
        "idle_since",
        "idle_until",
        "is_spent",
        "origin",
        "parser",
        "place",
        "socket",
        "uses",
    )

    def __init__(self, connected: socket.socket, origin: HttpOrigin, place: _Place) -> None:
        self.socket = connected
        self.origin = origin
        # None: it is idle.
        self.place: _Place | None = place
        self.parser = AnswerParser()
        self.idle_since = self.idle_until = 0.0
        # Whether the last answer was a stream.
        self.has_streamed = False
        # Also counts its returns.
        self.uses = 0
        # Whether anything of the last request may have left.
        self.has_written = False
        self.is_spent = False
        self._pid = os.getpid()

    def is_usable(self) -> bool:
        """Whether an idle connection is still open, as far as that can be known."""
        # Any byte is the end, or unrequested. A forked process leaves its parent's alone.
        return self._pid == os.getpid() and not is_readable(self.socket)

    def send(self, head: Head, body: bytes, waits: Waits) -> None:
        # Raised here, where no variable holds the key. A lost connection may still hold an answer.
        if isinstance(self._send(head, body, waits), TimeoutError):
            raise ReadTimeoutError("the server did not take the request")

    def _send(self, head: Head, body: bytes, waits: Waits) -> OSError | None:
        self.has_written = False
        data = memoryview(head.with_body(body))
        # Not under TLS, where servers send tickets at any time.
        is_watched = len(data) > PIECE_BYTES and not isinstance(self.socket, ssl.SSLSocket)
        while data:
            self.socket.settimeout(waits.wait_s())
            try:
                waits.sending()
                data = data[self.socket.send(data[:PIECE_BYTES]) :]
                self.has_written = True
            except TimeoutError as error:
                if not waits.keeps_waiting():
                    return error.with_traceback(None)
            except OSError as error:
                return error.with_traceback(None)
            if is_watched and data and is_readable(self.socket):
                # A server that refuses a request may answer before it has read it all; then this was the last use.
                self.is_spent = True
                return None
        return None

    def receive(self, waits: Waits) -> None:
        """Hands the next bytes to the parser, or the end."""
        if self.parser.failure is not None:
            raise self.parser.failure
        while True:
            self.socket.settimeout(waits.wait_s())
            try:
                data = self.socket.recv(PIECE_BYTES)
                break
            except TimeoutError:
                if not waits.keeps_waiting():
                    raise ReadTimeoutError("the server was silent") from None
            except OSError as error:
                parser = self.parser
                if self.is_spent and parser.has_head and not parser.is_framed:
                    # It refused the request before it had read it all, and closed.
                    parser.end()
                    return
                raise ConnectionLostError(str(error)) from error
        if data:
            self.parser.feed(data)
            # A frame's variables are shown by error trackers, and a server may echo a key.
            del data
            # Behind a head the failure is raised once what came before it is read: as where it arrives on its own.
            if self.parser.failure is not None and not self.parser.has_head:
                raise self.parser.failure
        else:
            # Raises where `shut` was the end, so that half an answer is not taken for a whole one.
            waits.wait_s()
            self.parser.end()

    def shut(self, use: int) -> None:
        """Makes a read that blocks in another thread fail now; nothing where that use is over."""
        # A forked process has a copy, and shutting that would end the connection of its parent.
        if use == self.uses and self._pid == os.getpid():
            with suppress(OSError):
                # Not TLS's own method, which would make a concurrent read go past the encryption.
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        self.shut(self.uses)
        with suppress(OSError):
            self.socket.close()
        self.place = None


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


class WireAnswer:
    """The head of an answer, and its body as it comes. To be closed; then the connection may serve another request."""

    # Whether each wait follows `Waits`, also after the head.
    follows_waits = True

    __slots__ = ("_connection", "_waits", "_wire", "headers", "status")

    def __init__(self, connection: _SocketConnection, wire: SyncWire, waits: Waits) -> None:
        self._connection: _SocketConnection | None = connection
        self._wire = wire
        self._waits = waits
        self.status = connection.parser.status
        self.headers = connection.parser.headers

    def pieces(self) -> Iterator[bytes]:
        inflater = inflater_for(self.headers)
        return self._pieces() if inflater is None else self._inflated(inflater)

    def _inflated(self, inflater: Inflater) -> Iterator[bytes]:
        for piece in self._pieces():
            yield from inflater.feed(piece)
        inflater.end()

    def _pieces(self) -> Iterator[bytes]:
        connection = self._connection
        while connection is not None:
            parser = connection.parser
            if parser.pieces:
                yield parser.take()
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
        self._lock = threading.Lock()
        # The oldest first.
        self._idle: dict[HttpOrigin, list[_SocketConnection]] = {}
        self._enders = StreamEnders()
        # What came back since the last request, without the lock: an answer may be closed by a finaliser.
        self._returned: deque[_SocketConnection] = deque()
        self._places = _Places(MAX_CONNECTIONS)
        self._is_closed = False

    def send(self, origin: HttpOrigin, head: Head, body: bytes, waits: Waits) -> WireAnswer:
        """Sends a request and waits for the head of its answer."""
        connection = self._connection(origin, waits)
        try:
            connection.uses += 1
            waits.stop_by(partial(connection.shut, connection.uses))
            parser = connection.parser
            parser.begin()
            connection.send(head, body, waits)
            while not parser.has_head:
                connection.receive(waits)
            if self._guard.local_only and is_redirect(parser.status, parser.headers):
                self._guard.refuse_redirect(f"{origin.scheme}://{origin.host}", parser.headers["location"])
            return WireAnswer(connection, self, waits)
        except BaseException as error:
            is_reused, is_unsent = connection.uses > 1, not connection.has_written
            connection.close()
            if mark_unanswered(error, connection.parser, is_reused=is_reused, is_unsent=is_unsent):
                self._note_end(connection)
            raise

    def release(self, connection: _SocketConnection) -> None:
        """Takes a connection back; it is closed where its answer was not read to the end."""
        parser = connection.parser
        is_reusable = parser.is_complete and parser.keeps_alive and not parser.pieces and not connection.is_spent
        if not is_reusable:
            connection.close()
            return
        connection.uses += 1
        connection.idle_since = now = time.monotonic()
        connection.has_streamed = parser.headers.get("content-type", "")[:17] == "text/event-stream"
        if connection.has_streamed and self._enders.has(connection.origin, now):
            connection.close()
            return
        announced = parser.headers.get("keep-alive")
        connection.idle_until = now + (KEEPALIVE_S if announced is None else kept_s(announced, KEEPALIVE_S))
        connection.place = None
        self._returned.append(connection)
        if self._is_closed:
            # Perhaps after `close` has looked.
            self._close_returned()

    def close(self) -> None:
        """Closes the idle connections; those in use are closed with their answers."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()
        self._close_returned()

    def _close_returned(self) -> None:
        with suppress(IndexError):
            while True:
                self._returned.popleft().close()

    def _connection(self, origin: HttpOrigin, waits: Waits) -> _SocketConnection:
        try:
            place = self._places.take(waits.longest_s())
        except queue.Empty:
            raise ConnectTimeoutError(f"all of {MAX_CONNECTIONS} connections are in use") from None
        while True:
            now = time.monotonic()
            with self._lock:
                if self._is_closed:
                    raise NotConnectedError("the client was closed")
                while self._returned:
                    returned = self._returned.popleft()
                    self._idle.setdefault(returned.origin, []).append(returned)
                expired = self._expired(now)
                idle = self._idle.get(origin)
                # The last one used is the least likely to be closed.
                connection = idle.pop() if idle and not waits.needs_new_connection else None
            for each in expired:
                each.close()
            if connection is None:
                return _SocketConnection(self._connected(origin, waits), origin, place)
            if now <= connection.idle_until and connection.is_usable():
                connection.place = place
                return connection
            self._note_end(connection)
            connection.close()

    def _note_end(self, connection: _SocketConnection) -> None:
        """An idle connection was found closed."""
        if connection.has_streamed:
            now = time.monotonic()
            self._enders.note(connection.origin, now - connection.idle_since, now)

    def _expired(self, now: float) -> list[_SocketConnection]:
        """Takes out what was idle for too long, to any origin."""
        expired = []
        for origin, idle in list(self._idle.items()):
            while idle and now > idle[0].idle_until:
                expired.append(idle.pop(0))
            if not idle:
                del self._idle[origin]
        return expired

    def _connected(self, origin: HttpOrigin, waits: Waits) -> socket.socket:
        failure: Exception | None = None
        tls = self._ssl_context() if origin.scheme == "https" else None
        try:
            found = self._guard.resolve(origin.host, origin.port)
        except (OSError, UnicodeError) as error:
            raise NotConnectedError(str(error)) from error
        for family, kind, protocol, _, address in found:
            connected = None
            try:
                connected = socket.socket(family, kind, protocol)
                connected.settimeout(min(waits.wait_s(), CONNECT_TIMEOUT_S))
                connected.connect(address)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if tls is not None:
                    connected.settimeout(min(waits.wait_s(), CONNECT_TIMEOUT_S))
                    connected = tls.wrap_socket(connected, server_hostname=origin.tls_name)
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
        try:
            if isinstance(failure, TimeoutError):
                raise ConnectTimeoutError(str(failure)) from failure
            raise NotConnectedError(str(failure or f"{origin.host} has no address")) from failure
        finally:
            # Its frames hold this one, which holds it.
            del failure


class WireEndpoint(NamedTuple):
    """An address, and the connections to it."""

    wire: SyncWire
    heads: RequestHeads

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: Waits) -> WireAnswer:
        return self.wire.send(self.heads.origin, self.heads.head(method, path, headers), body, waits)
