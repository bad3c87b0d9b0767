"""Requests over HTTPX clients: the user's own, those behind a proxy, and where `[http] wire` says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

import httpx

from llama_client.hosts import bare, plain_url
from llama_client.providers.http.error_mapping import aiohttp_cause
from llama_client.providers.http.http1 import CONNECT_TIMEOUT_S, NO_ANSWER, ConnectionLostError, host_shown
from llama_client.providers.http.transport import AsyncTrace, DynamicTimeout, DynamicTimeoutStream, Trace, shut
from llama_client.providers.http.waits import AsyncWaits, Waits, expire

# What aiohttp says of a connection that it found closed before it wrote the request.
_CLOSING = "Cannot write to closing transport"
Client = TypeVar("Client", httpx.Client, httpx.AsyncClient)
T = TypeVar("T")


class _Requests(Generic[Client]):
    """The requests to one address over one client."""

    def __init__(self, client: Client, url: str, headers: Mapping[str, str], *, is_foreign: bool = False) -> None:
        self.client: Client = client
        plain = plain_url(url)
        try:
            self._base = httpx.URL(plain.for_httpx)
        except httpx.InvalidURL as error:
            raise ValueError(f"HTTPX cannot use its address: {error}") from None
        self._urls = {"": self._base}
        # The headers and the authentication that a user's own client adds are for the provider alone.
        self._headers = httpx.Headers({} if is_foreign else client.headers)
        self._auth: Any = None if is_foreign else httpx.USE_CLIENT_DEFAULT
        # Answers are small, and a compressing server may hold back the chunks of a stream.
        self._headers["accept-encoding"] = "identity"
        # HTTPX makes this header by rules of its own, which fail for some names that resolvers know.
        port = "" if self._base.port is None else f":{self._base.port}"
        self._headers.setdefault("host", f"{host_shown(plain.host)}{port}")
        # Of a certificate, the name alone.
        self._extensions = {} if bare(plain.host) == plain.host else {"sni_hostname": bare(plain.host)}
        self._headers.update(headers)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeouts: Mapping[str, float | None],
        trace: Trace,
    ) -> httpx.Request:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self._base.copy_with(path=f"{self._base.path.rstrip('/')}/{path}")
        merged = self._headers
        if headers:
            merged = merged.copy()
            merged.update(headers)
        return httpx.Request(
            method,
            url,
            headers=merged,
            content=body,
            extensions={**self._extensions, "timeout": timeouts, "trace": trace},
        )


class HttpxEndpoint(_Requests[httpx.Client]):
    """See `sync_wire.WireEndpoint`."""

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: Waits) -> HttpxAnswer:
        wait_s = waits.wait_s()
        read = DynamicTimeout.of(waits.longest_s(), waits.wait_s, waits.keeps_waiting, waits.sending)
        timeouts = {"connect": min(wait_s, CONNECT_TIMEOUT_S), "read": read, "write": read, "pool": wait_s}
        trace = Trace()
        request = self._request(method, path, body, headers, timeouts, trace)
        waits.stop_by(lambda: shut(read.stream))
        try:
            response = self.client.send(request, stream=True, auth=self._auth, follow_redirects=False)
        except BaseException as error:
            read.release()
            _raise_unanswered(error, trace)
            raise
        try:
            answer = HttpxAnswer(response, read)
            waits.stop_by(partial(shut, answer.connection))
        except BaseException:
            response.close()
            raise
        return answer


class HttpxAnswer:
    """See `sync_wire.WireAnswer`."""

    def __init__(self, response: httpx.Response, read: DynamicTimeout) -> None:
        self.status, self.headers = response.status_code, plain_headers(response.headers)
        self.connection = response.extensions.get("network_stream")
        # A user's own client would wait as long for the end of the connection as for an answer.
        self.follows_waits = isinstance(self.connection, DynamicTimeoutStream)
        self._response = response
        self._read = read

    def pieces(self) -> Iterator[bytes]:
        stream = self._response.stream
        if "content-encoding" in self.headers or not isinstance(stream, httpx.SyncByteStream):
            return self._response.iter_bytes()
        return iter(stream)

    def close(self) -> None:
        # HTTPX's responses are reference cycles, which would keep the prompt in memory.
        self._read.release()
        self._response.close()


class AsyncHttpxEndpoint(_Requests[httpx.AsyncClient]):
    """See `async_wire.AsyncWireEndpoint`."""

    async def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: AsyncWaits
    ) -> AsyncHttpxAnswer:
        wait_s = waits.wait_s()
        # The other waits are limited here, as their limits change.
        timeouts = {"connect": min(wait_s, CONNECT_TIMEOUT_S), "read": None, "write": None, "pool": None}
        trace = AsyncTrace()
        request = self._request(method, path, body, headers, timeouts, trace)
        sent = self.client.send(request, stream=True, auth=self._auth, follow_redirects=False)
        try:
            return AsyncHttpxAnswer(await _within(sent, waits), waits)
        except httpx.TransportError as error:
            _raise_unanswered(error, trace)
            raise


class AsyncHttpxAnswer:
    """See `async_wire.AsyncWireAnswer`."""

    def __init__(self, response: httpx.Response, waits: AsyncWaits) -> None:
        self.status, self.headers = response.status_code, plain_headers(response.headers)
        self._response = response
        self._waits = waits
        self._pieces: AsyncIterator[bytes] | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        stream = self._response.stream
        if "content-encoding" in self.headers or not isinstance(stream, httpx.AsyncByteStream):
            pieces = self._response.aiter_bytes()
        else:
            pieces = aiter(stream)
        self._pieces = pieces
        while (piece := await _within(anext(pieces, None), self._waits)) is not None:
            yield piece

    async def aclose(self) -> None:
        if isinstance(self._pieces, AsyncGenerator):
            await self._pieces.aclose()
        await self._response.aclose()


def _raise_unanswered(error: BaseException, trace: Trace) -> None:
    """Raises as our own wires do, where a connection that was used before ended without an answer."""
    if trace.is_unanswered and isinstance(error, httpx.TransportError):
        # aiohttp's transport gives a lost connection the name of a timeout.
        cause = aiohttp_cause(error) or error
        if not isinstance(cause, TimeoutError | httpx.TimeoutException):
            lost = ConnectionLostError(NO_ANSWER)
            lost.is_unanswered, lost.is_unsent = True, trace.is_unsent or str(cause) == _CLOSING
            raise lost from error


async def _within(result: Awaitable[T], waits: AsyncWaits) -> T:
    """Awaits a result for as long as `waits` allows."""
    task = asyncio.ensure_future(result)
    is_handed_over = False
    try:
        while True:
            try:
                async with asyncio.timeout(waits.wait_s()) as timer:
                    waits.stop_by(partial(expire, timer))
                    found = await asyncio.shield(task)
                is_handed_over = True
                return found
            except TimeoutError:
                waits.sending()
                if task.done() or not await waits.akeeps_waiting():
                    raise
    except Exception as error:
        # The frames of aiohttp hold the headers, and with them the key.
        _leave_frames(error)
        raise
    finally:
        if not is_handed_over:
            await _drop(task)


def _leave_frames(error: BaseException) -> None:
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            left += [each.__cause__, each.__context__]


async def _drop(task: asyncio.Future[Any]) -> None:
    """Cancels a request whose caller has stopped waiting, and closes the answer that it may have by then."""
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        left = await task
        if isinstance(left, httpx.Response):
            await left.aclose()


def plain_headers(headers: httpx.Headers) -> dict[str, str]:
    """The headers by lower-case name. HTTPX's own conversion guesses the encoding of each, which is slow."""
    plain = {}
    for name, value in headers.raw:
        plain[name.lower().decode("latin-1")] = value.decode("latin-1")
    return plain
