"""Connections on the event loop: what `sync_wire.py` does with sockets, here as an asyncio protocol."""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import aiohappyeyeballs

from llama_client.local_only import ConnectionGuard
from llama_client.providers.http.http1 import (
    CONNECT_TIMEOUT_S,
    KEEPALIVE_S,
    MAX_CONNECTIONS,
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
from llama_client.providers.http.sync_wire import is_readable
from llama_client.providers.http.waits import AsyncWaits, expire

# The socket is not read while so much waits for its reader.
_MAX_WAITING_PIECES = 16
# One address gets this long before the next one is tried beside it (RFC 8305).
_NEXT_ADDRESS_S = 0.25


def _stop(reading: weakref.ref[_LoopConnection]) -> None:
    connection = reading()
    if connection is not None:
        connection.stop()


class _LoopConnection(asyncio.Protocol):
    """One transport, and the parser of what comes from it. One reader waits at a time."""

    def __init__(self, origin: HttpOrigin, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.parser = AnswerParser()
        self.idle_since = self.idle_until = 0.0
        # Whether the last answer was a stream.
        self.has_streamed = False
        self.is_reused = False
        # Whether anything of the last request may have left.
        self.has_written = False
        self._is_busy = True
        self._loop = loop
        # None: not connected yet, or no more.
        self._transport: asyncio.Transport | None = None
        self._failure: BaseException | None = None
        self._is_stopped = self._is_lost = self._is_paused = self._is_writing = False
        # How often something came, which tells a reader that there is more.
        self._events = 0
        self._waiter: asyncio.Future[bool] | None = None
        # Wakes the reader at `_wake_at` at the earliest; a later wait re-arms it rather than making another.
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        # `pause_writing` then tells when something is left to write, and `resume_writing` when nothing is.
        transport.set_write_buffer_limits(0)
        self._transport = transport

    def pause_writing(self) -> None:
        self._is_writing = True

    def resume_writing(self) -> None:
        self._is_writing = False

    def data_received(self, data: bytes) -> None:
        parser = self.parser
        if not self._is_busy:
            # Unrequested.
            self.close()
            return
        parser.feed(data)
        if parser.failure is not None:
            self._failure = parser.failure
            self.close()
        elif len(parser.pieces) > _MAX_WAITING_PIECES and not parser.is_complete and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._is_lost = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        parser = self.parser
        # A server that refuses a large request may close before it has read it, after an answer that nothing frames.
        is_refusal = self._is_writing and parser.has_head and not parser.is_framed
        if exc is not None and not (self._is_lost or parser.is_complete or is_refusal):
            self._failure = ConnectionLostError(str(exc))
            self._failure.__cause__ = exc
        self._is_lost = True
        self._wake()
        self._disarm()

    def send(self, head: Head, body: bytes) -> None:
        self.has_written = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(head.with_body(body))
            # asyncio's transports write at once, and are closing where nothing could be written.
            self.has_written = not self._transport.is_closing()

    async def receive(self, waits: AsyncWaits) -> None:
        """Waits until the parser has got more, or the end."""
        seen, check = self._events, None
        try:
            while True:
                has_news = self._events != seen
                if has_news and self._failure is not None and self.parser.has_head:
                    # What came before the failure counts: as where it arrives on its own.
                    return
                if self._failure is not None:
                    failure, self._failure = self._failure, None
                    try:
                        raise failure
                    finally:
                        # Its frames hold this one, which holds it.
                        del failure
                if has_news and not self._is_lost:
                    return
                wait_s = waits.wait_s() if check is None or self._is_stopped else None
                if self._is_lost:
                    self.parser.end()
                    return
                if self._is_paused and self._transport is not None:
                    self._is_paused = False
                    self._transport.resume_reading()
                is_late = await self._woken(wait_s)
                if check is not None and check.done():
                    # Data that came meanwhile counts more.
                    if not check.result() and self._events == seen:
                        raise ReadTimeoutError("the server was silent")
                    check = None
                elif is_late and check is None and self._events == seen:
                    if not waits.is_patient:
                        raise ReadTimeoutError("the server was silent")
                    check = asyncio.ensure_future(waits.akeeps_waiting())
                    check.add_done_callback(lambda _: self._wake(is_news=False))
        finally:
            if check is not None:
                check.cancel()

    def stop(self) -> None:
        """Makes the reader fail now, by what its `wait_s` raises."""
        self._is_stopped = self._is_lost = True
        self._wake()

    def close(self) -> None:
        self._is_lost = True
        self._disarm()
        if self._transport is not None:
            with suppress(RuntimeError):  # the loop is closed, and with it what it waited for
                # Without waiting for what the peer does not take.
                self._transport.abort()

    def rest(self) -> bool:
        """Ends its use; False: it cannot serve another."""
        headers = self.parser.headers
        self.idle_since, self._is_busy = self._loop.time(), False
        self.has_streamed = headers.get("content-type", "")[:17] == "text/event-stream"
        announced = headers.get("keep-alive")
        self.idle_until = self.idle_since + (KEEPALIVE_S if announced is None else kept_s(announced, KEEPALIVE_S))
        if self._is_lost or self._is_writing or self._transport is None:
            return False
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        return True

    def wake_up(self) -> bool:
        """Begins its use; False: it was closed meanwhile, or is closing."""
        self._is_busy = self.is_reused = True
        return not self._is_lost and self._transport is not None and not self._transport.is_closing()

    def has_news(self) -> bool:
        """Whether the socket has something to read, which the loop has not read."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return sock is not None and not self._is_lost and is_readable(sock)

    async def _woken(self, wait_s: float | None) -> bool:
        """Waits for news; True: there were none for so long."""
        if wait_s is not None:
            self._arm(wait_s)
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiter = waiter
        try:
            return await waiter
        finally:
            self._waiter = None

    def _wake(self, *, is_late: bool = False, is_news: bool = True) -> None:
        self._events += is_news and not is_late
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            # Without `suppress`, which is a call of Python.
            try:
                waiter.set_result(is_late)
            except asyncio.InvalidStateError:  # cancelled since by a signal
                return

    def _arm(self, wait_s: float) -> None:
        self._wake_at = self._loop.time() + wait_s
        if self._timer is not None and self._timer.when() > self._wake_at:
            self._disarm()
        if self._timer is None:
            self._timer = self._loop.call_at(self._wake_at, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._wake_at:
            self._timer = self._loop.call_at(self._wake_at, self._ring)
        else:
            self._wake(is_late=True)


class AsyncWireAnswer:
    """See `sync_wire.WireAnswer`."""

    __slots__ = ("_connection", "_waits", "_wire", "headers", "status")

    def __init__(self, connection: _LoopConnection, wire: AsyncWire, waits: AsyncWaits) -> None:
        self._connection: _LoopConnection | None = connection
        self._wire = wire
        self._waits = waits
        self.status = connection.parser.status
        self.headers = connection.parser.headers

    def pieces(self) -> AsyncIterator[bytes]:
        inflater = inflater_for(self.headers)
        return self if inflater is None else _Inflated(self, inflater)

    def __aiter__(self) -> AsyncWireAnswer:
        return self

    async def __anext__(self) -> bytes:
        while (connection := self._connection) is not None:
            parser = connection.parser
            if parser.pieces:
                return parser.take()
            if parser.is_complete:
                break
            await connection.receive(self._waits)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._wire.release(connection)


class _Inflated:
    """The pieces of a compressed answer. No generator, which would have to be closed."""

    def __init__(self, answer: AsyncWireAnswer, inflater: Inflater) -> None:
        self._answer = answer
        self._inflater = inflater
        self._pieces = inflater.feed(b"")

    def __aiter__(self) -> _Inflated:
        return self

    async def __anext__(self) -> bytes:
        while True:
            piece = next(self._pieces, None)
            if piece is not None:
                return piece
            try:
                self._pieces = self._inflater.feed(await anext(self._answer))
            except StopAsyncIteration:
                self._inflater.end()
                raise


class AsyncWire:
    """The connections of one client with one set of connection settings, on one event loop."""

    def __init__(self, guard: ConnectionGuard, ssl_context: Callable[[], ssl.SSLContext]) -> None:
        self._guard = guard
        self._ssl_context = ssl_context
        # The oldest first.
        self._idle: dict[HttpOrigin, deque[_LoopConnection]] = {}
        self._enders = StreamEnders()
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._is_closed = False

    async def send(self, origin: HttpOrigin, head: Head, body: bytes, waits: AsyncWaits) -> AsyncWireAnswer:
        """Sends a request and waits for the head of its answer."""
        connection = await self._connection(origin, waits)
        try:
            # Weakly: a connection has the task that reads it, which must be collected where its loop was closed.
            waits.stop_by(partial(_stop, weakref.ref(connection)))
            parser = connection.parser
            parser.begin()
            waits.wait_s()
            waits.sending()
            connection.send(head, body)
            while not parser.has_head:
                await connection.receive(waits)
            if self._guard.local_only and is_redirect(parser.status, parser.headers):
                self._guard.refuse_redirect(f"{origin.scheme}://{origin.host}", parser.headers["location"])
        except BaseException as error:
            self._discard(connection)
            is_unsent = not connection.has_written
            if mark_unanswered(error, connection.parser, is_reused=connection.is_reused, is_unsent=is_unsent):
                self._note_end(connection)
            raise
        return AsyncWireAnswer(connection, self, waits)

    def release(self, connection: _LoopConnection) -> None:
        """Takes a connection back; it is closed where its answer was not read to the end."""
        parser = connection.parser
        is_done = parser.is_complete and parser.keeps_alive and not parser.pieces
        is_kept = is_done and not self._is_closed and connection.rest()
        if not is_kept or (connection.has_streamed and self._enders.has(connection.origin, connection.idle_since)):
            self._discard(connection)
            return
        self._places.release()
        self._idle.setdefault(connection.origin, deque()).append(connection)

    def close(self) -> None:
        """Closes the idle connections; those in use are closed with their answers."""
        self._is_closed = True
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _discard(self, connection: _LoopConnection) -> None:
        self._places.release()
        connection.close()

    async def _connection(self, origin: HttpOrigin, waits: AsyncWaits) -> _LoopConnection:
        try:
            async with asyncio.timeout(waits.longest_s() if self._places.locked() else None):
                await self._places.acquire()
        except TimeoutError:
            raise ConnectTimeoutError(f"all of {MAX_CONNECTIONS} connections are in use") from None
        try:
            if self._is_closed:
                raise NotConnectedError("the client was closed")
            found = None if waits.needs_new_connection else await self._idle_one(origin)
            return found or await self._connected(origin, waits)
        except BaseException:
            self._places.release()
            raise

    async def _idle_one(self, origin: HttpOrigin) -> _LoopConnection | None:
        now = self._close_expired()
        while idle := self._idle.get(origin):
            # The last one used is the least likely to be closed.
            connection = idle.pop()
            if now > connection.idle_until:
                connection.close()
                continue
            if connection.has_news():
                # What the loop has not seen yet, as where it stood still. After two turns it has.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if connection.wake_up():
                return connection
            self._note_end(connection)
            connection.close()
        return None

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _note_end(self, connection: _LoopConnection) -> None:
        """An idle connection was found closed."""
        if connection.has_streamed:
            now = self._now()
            self._enders.note(connection.origin, now - connection.idle_since, now)

    def _close_expired(self) -> float:
        """Closes what was idle for too long, to any origin; returns the time."""
        now = self._now()
        for origin, idle in list(self._idle.items()):
            while idle and now > idle[0].idle_until:
                idle.popleft().close()
            if not idle:
                del self._idle[origin]
        return now

    async def _connected(self, origin: HttpOrigin, waits: AsyncWaits) -> _LoopConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(waits.longest_s(), CONNECT_TIMEOUT_S)) as timer:
                waits.stop_by(partial(expire, timer))
                # In threads, as reading the certificates, the hosts file and name servers may take a while.
                tls = await asyncio.to_thread(self._ssl_context) if origin.scheme == "https" else None
                found = await asyncio.to_thread(self._guard.resolve, origin.host, origin.port)
                delay_s = _NEXT_ADDRESS_S if len(found) > 1 else None
                connected = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=delay_s)
                try:
                    _, connection = await loop.create_connection(
                        partial(_LoopConnection, origin, loop),
                        sock=connected,
                        ssl=tls,
                        server_hostname=None if tls is None else origin.tls_name,
                    )
                except BaseException:
                    connected.close()
                    raise
            return connection
        except (OSError, UnicodeError) as error:
            # Raises where it was stopped.
            waits.require_running()
            if isinstance(error, TimeoutError):
                raise ConnectTimeoutError(str(error)) from error
            raise NotConnectedError(str(error) or f"{origin.host} cannot be reached") from error


@dataclass(frozen=True, slots=True)
class AsyncWireEndpoint:
    """An address, and the connections to it."""

    wire: AsyncWire
    heads: RequestHeads

    async def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: AsyncWaits
    ) -> AsyncWireAnswer:
        return await self.wire.send(self.heads.origin, self.heads.head(method, path, headers), body, waits)
