"""HTTPX clients whose requests are answered by a function instead of a server: for the official clients."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import httpx

from llama_client.errors import ProviderError
from llama_client.providers.http.http1 import NotConnectedError, ReadTimeoutError, WireError
from llama_client.testing.loopback import Answer, Received
from llama_client.testing.loopback.answers import refusal
from llama_client.testing.memory import Player, Source

if TYPE_CHECKING:
    from llama_client.testing.clock import FakeClock


def client(play: Player, provider: str | None = None, clock: FakeClock | None = None, *, is_async: bool) -> Any:
    """An `httpx.Client`, or an `httpx.AsyncClient`, that reaches only the player.

    Args:
        play: What answers each request.
        provider: The provider's configured name, for the player.
        clock: The time of pauses; None: the real one.
        is_async: Which of the two.
    """
    if is_async:
        return httpx.AsyncClient(transport=AsyncMemoryTransport(play, provider, clock), trust_env=False)
    return httpx.Client(transport=MemoryTransport(play, provider, clock), trust_env=False)


class _Transport:
    def __init__(self, play: Player, provider: str | None = None, clock: FakeClock | None = None) -> None:
        self._play = play
        self._provider = provider
        self._clock = clock

    def _source(self, request: httpx.Request, body: bytes) -> Source:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.url.raw_path.decode("ascii")
        return Source(self._answer(Received(request.method, path, headers, body, self._provider), request))

    def _answer(self, received: Received, request: httpx.Request) -> Answer:
        try:
            return self._play(received)
        except ProviderError as error:
            # Raised here, the official clients would take it for a lost connection, and ask again.
            return refusal(error)
        except WireError as error:
            raise _of_httpx(error, request) from error


class MemoryTransport(_Transport, httpx.BaseTransport):
    """A transport of HTTPX: pauses of an answer pass, and one that is longer than the read timeout is a timeout."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        stream = _Stream(self._source(request, request.read()), request, self._clock)
        return _response(stream.begin(), stream)


class AsyncMemoryTransport(_Transport, httpx.AsyncBaseTransport):
    """The same on an event loop."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        stream = _AsyncStream(self._source(request, await request.aread()), request, self._clock)
        return _response(await stream.begin(), stream)


class _Body:
    def __init__(self, source: Source, request: httpx.Request, clock: FakeClock | None) -> None:
        self._source = source
        self._request = request
        self._clock = clock
        timeout = request.extensions.get("timeout")
        read_s = timeout.get("read") if isinstance(timeout, Mapping) else None
        self._read_s = math.inf if read_s is None else float(read_s)

    def _pause_s(self) -> float | None:
        """See `Source.pause_s`."""
        try:
            return self._source.pause_s()
        except WireError as error:
            raise _of_httpx(error, self._request) from error

    def _wait_s(self, pause_s: float) -> float:
        """How much of a pause is waited for."""
        wait_s = min(pause_s, self._read_s)
        if math.isinf(wait_s):
            # Without a timeout the test would wait for ever.
            raise self._timed_out()
        return wait_s

    def _timed_out(self) -> httpx.ReadTimeout:
        return httpx.ReadTimeout("The read operation timed out", request=self._request)


class _Stream(_Body, httpx.SyncByteStream):
    def begin(self) -> Source:
        """Waits for the head."""
        while not self._source.parser.has_head:
            self._receive()
        return self._source

    def __iter__(self) -> Iterator[bytes]:
        parser = self._source.parser
        while parser.pieces or not parser.is_complete:
            if parser.pieces:
                yield parser.take()
            else:
                self._receive()

    def _receive(self) -> None:
        while (pause_s := self._pause_s()) is not None:
            wait_s = self._wait_s(pause_s)
            # A silence without end and without a timeout would hang the test.
            (time.sleep if self._clock is None else self._clock.sleep)(wait_s)
            if pause_s > self._read_s:
                raise self._timed_out()


class _AsyncStream(_Body, httpx.AsyncByteStream):
    async def begin(self) -> Source:
        """Waits for the head."""
        while not self._source.parser.has_head:
            await self._receive()
        return self._source

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parser = self._source.parser
        while parser.pieces or not parser.is_complete:
            if parser.pieces:
                yield parser.take()
            else:
                await self._receive()

    async def _receive(self) -> None:
        while (pause_s := self._pause_s()) is not None:
            wait_s = self._wait_s(pause_s)
            await (asyncio.sleep if self._clock is None else self._clock.asleep)(wait_s)
            if pause_s > self._read_s:
                raise self._timed_out()


def _response(source: Source, stream: _Stream | _AsyncStream) -> httpx.Response:
    parser = source.parser
    return httpx.Response(parser.status, headers=dict(parser.headers), stream=stream)


def _of_httpx(error: WireError, request: httpx.Request) -> httpx.TransportError:
    if isinstance(error, ReadTimeoutError):
        return httpx.ReadTimeout("The read operation timed out", request=request)
    kind = httpx.ConnectError if isinstance(error, NotConnectedError) else httpx.ReadError
    return kind(str(error), request=request)
