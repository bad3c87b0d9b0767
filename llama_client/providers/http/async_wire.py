"""Connections on the event loop: what `sync_wire.py` does with sockets, here as an asyncio protocol."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from llama_client.local_only import ConnectionGuard
from llama_client.providers.http.http1 import (
    AnswerParser,
    ConnectionLostError,
    ConnectTimeoutError,
    Head,
    Inflater,
    NotConnectedError,
    Origin,
    ReadTimeoutError,
    RequestHeads,
    WireError,
    is_redirect,
)
from llama_client.providers.http.sync_wire import CONNECT_TIMEOUT_S, KEEPALIVE_S, MAX_CONNECTIONS, is_readable
from llama_client.providers.http.waits import AsyncWaits, expire

# The socket is not read while so much waits for its reader.
_MAX_WAITING_PIECES = 16
# One address gets this long before the next one is tried beside it (RFC 8305).
_NEXT_ADDRESS_S = 0.25


class _Connection(asyncio.Protocol):
    """One transport, and the parser of what comes from it. One reader waits at a time."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.parser = AnswerParser()
        self.idle_since = 0.0
        self._is_busy = True
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._failure: BaseException | None = None
        self._is_lost = False
        self._is_paused = False
        self._waiter: asyncio.Future[bool] | None = None
        # Wakes the reader at `_wake_at` at the earliest; a later wait re-arms it rather than making another.
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._is_busy:
            # Nobody asked for it.
            self.close()
            return
        parser = self.parser
        try:
            parser.feed(data)
        except WireError as error:
            self._fail(error)
            return
        if len(parser.pieces) > _MAX_WAITING_PIECES and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def send(self, head: Head, body: bytes) -> None:
        length = f"Content-Length: {len(body)}\r\n\r\n".encode() if body else b"\r\n"
        assert self._transport is not None
        self._transport.write(head.content + length + body)

    async def receive(self, waits: AsyncWaits) -> None:
        """Waits until the parser has got more, or the end."""
        while True:
            if self._failure is not None:
                raise self._failure
            wait_s = waits.wait_s()
            if self._is_lost:
                self.parser.end()
                return
            if self._is_paused and self._transport is not None:
                self._is_paused = False
                self._transport.resume_reading()
            self._arm(wait_s)
            waiter = self._waiter = self._loop.create_future()
            try:
                is_late = await waiter
            finally:
                self._waiter = None
            if not is_late:
                return
            if not await waits.akeeps_waiting():
                raise ReadTimeoutError("the server was silent")
            if self.parser.pieces or self.parser.is_complete:
                return

    def stop(self) -> None:
        """Makes the reader fail now, by what its `wait_s` raises."""
        self._is_lost = True
        self._wake()

    def close(self) -> None:
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            # Without waiting for what the peer does not take.
            self._transport.abort()

    def rest(self) -> bool:
        """Ends its use; False: it is closed already."""
        self.idle_since, self._is_busy = self._loop.time(), False
        return not self._is_lost

    def has_news(self) -> bool:
        """Whether the socket has something to read, which the loop has not read."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return sock is not None and not self._is_lost and is_readable(sock)

    def wake_up(self) -> bool:
        """Begins its use; False: it was closed meanwhile."""
        self._is_busy = True
        return not self._is_lost

    def _end(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            if error is not None and not self.parser.is_complete:
                self._failure = self._failure or ConnectionLostError(str(error))
                self._failure.__cause__ = error
        self._wake()

    def _fail(self, error: WireError) -> None:
        self._failure = error
        self.close()
        self._wake()

    def _wake(self, *, is_late: bool = False) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(is_late)

    def _arm(self, wait_s: float) -> None:
        self._wake_at = self._loop.time() + wait_s
        timer = self._timer
        if timer is not None and timer.when() > self._wake_at:
            timer.cancel()
            timer = None
        if timer is None:
            self._timer = self._loop.call_at(self._wake_at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._wake_at:
            self._timer = self._loop.call_at(self._wake_at, self._ring)
        else:
            self._wake(is_late=True)


class Answer:
    """See `sync_wire.Answer`."""

    __slots__ = ("_connection", "_waits", "_wire", "headers", "status")

    def __init__(self, connection: _Connection, wire: AsyncWire, waits: AsyncWaits) -> None:
        self._connection: _Connection | None = connection
        self._wire = wire
        self._waits = waits
        self.status = connection.parser.status
        self.headers = connection.parser.headers

    def pieces(self) -> AsyncIterator[bytes]:
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        return self if encoding in ("identity", "") else self._inflated(Inflater(encoding))

    async def _inflated(self, inflater: Inflater) -> AsyncIterator[bytes]:
        async for piece in self:
            for part in inflater.feed(piece):
                yield part
        inflater.end()

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> bytes:
        while (connection := self._connection) is not None:
            parser = connection.parser
            if parser.pieces:
                pieces, parser.pieces = parser.pieces, []
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if parser.is_complete:
                break
            await connection.receive(self._waits)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._wire.release(connection)


class AsyncWire:
    """The connections of one client with one set of connection settings, on one event loop."""

    def __init__(self, guard: ConnectionGuard, ssl_context: Callable[[], ssl.SSLContext]) -> None:
        self._guard = guard
        self._ssl_context = ssl_context
        self._idle: dict[Origin, deque[_Connection]] = {}
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._is_closed = False

    async def send(self, origin: Origin, head: Head, body: bytes, waits: AsyncWaits) -> Answer:
        """Sends a request and waits for the head of its answer."""
        connection = await self._connection(origin, waits)
        try:
            waits.stop_by(connection.stop)
            parser = connection.parser
            parser.begin()
            waits.wait_s()
            connection.send(head, body)
            while not parser.has_head:
                await connection.receive(waits)
            if self._guard.local_only and is_redirect(parser.status, parser.headers):
                self._guard.refuse_redirect(f"{origin.scheme}://{origin.host}", parser.headers["location"])
        except BaseException:
            self._discard(connection)
            raise
        return Answer(connection, self, waits)

    def release(self, connection: _Connection) -> None:
        """Takes a connection back; it is closed where its answer was not read to the end."""
        parser = connection.parser
        is_done = parser.is_complete and parser.keeps_alive and not parser.pieces
        if not is_done or self._is_closed or not connection.rest():
            self._discard(connection)
            return
        self._places.release()
        self._idle.setdefault(connection.origin, deque()).append(connection)

    def close(self) -> None:
        """Closes the idle connections; those in use are closed with their answers."""
        self._is_closed = True
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def _discard(self, connection: _Connection) -> None:
        connection.close()
        self._places.release()

    async def _connection(self, origin: Origin, waits: AsyncWaits) -> _Connection:
        timeout_s = waits.wait_s()
        if self._places.locked():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._places.acquire()
            except TimeoutError:
                raise ConnectTimeoutError(f"all of {MAX_CONNECTIONS} connections are in use") from None
        else:
            await self._places.acquire()
        try:
            return await self._idle_one(origin) or await self._connected(origin, waits)
        except BaseException:
            self._places.release()
            raise

    async def _idle_one(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin)
        if not idle:
            return None
        now = asyncio.get_running_loop().time()
        while idle and now - idle[0].idle_since > KEEPALIVE_S:
            idle.popleft().close()
        while idle:
            # The last one used is the least likely to be closed.
            connection = idle.pop()
            if connection.has_news():
                # What the loop has not seen yet, as where it stood still. After two turns it has.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if connection.wake_up():
                return connection
            connection.close()
        return None

    async def _connected(self, origin: Origin, waits: AsyncWaits) -> _Connection:
        loop = asyncio.get_running_loop()
        failure: OSError | None = None
        # In a thread, as the first time reads the certificates.
        tls = await asyncio.to_thread(self._ssl_context) if origin.scheme == "https" else None
        try:
            addresses = [origin.host]
            if self._guard.local_only:
                # In a thread, as it may read a file.
                addresses = await asyncio.to_thread(self._guard.addresses, origin.host, origin.port)
            for address in addresses:
                try:
                    async with asyncio.timeout(min(waits.wait_s(), CONNECT_TIMEOUT_S)) as timer:
                        waits.stop_by(partial(expire, timer))
                        _, connection = await loop.create_connection(
                            partial(_Connection, origin, loop),
                            address,
                            origin.port,
                            ssl=tls,
                            server_hostname=None if tls is None else origin.host,
                            happy_eyeballs_delay=_NEXT_ADDRESS_S,
                        )
                    return connection
                except OSError as error:
                    # The first one tells most: on a machine without IPv6 the second is about that.
                    failure = failure or error
        except OSError as error:
            failure = error
        # Raises where it was stopped.
        waits.wait_s()
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(str(failure)) from failure
        raise NotConnectedError(str(failure) if failure else f"{origin.host} has no address") from failure


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address, and the connections to it."""

    wire: AsyncWire
    heads: RequestHeads

    async def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: AsyncWaits) -> Answer:
        return await self.wire.send(self.heads.origin, self.heads.head(method, path, headers), body, waits)
