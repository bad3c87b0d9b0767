"""Records the requests of an official client, on the HTTPX client that it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from llama_client.testing.cassettes.exchanges import Request
from llama_client.testing.cassettes.tracks import Keeping, Track, content_of, place_below

# Decoded here, so that a reviewer can read the body.
_OF_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")


def recorded_client(keeping: Keeping, provider: str, client: Any, *, is_async: bool) -> Any:
    """An HTTPX client that sends over another one, and records what that gets."""
    base = keeping.bases.get(provider, "")
    if is_async:
        transport: Any = _AsyncTransport(keeping, provider, client, base)
        return httpx.AsyncClient(transport=transport, headers=client.headers, timeout=client.timeout, trust_env=False)
    transport = _Transport(keeping, provider, client, base)
    return httpx.Client(transport=transport, headers=client.headers, timeout=client.timeout, trust_env=False)


class _Recording:
    def __init__(self, keeping: Keeping, provider: str, client: Any, base: str) -> None:
        self._keeping = keeping
        self._provider = provider
        self.client = client
        self._base = base

    def begin(self, request: httpx.Request, body: bytes) -> Track:
        scrubber = self._keeping.scrubber
        scrubber.learn_address(str(request.url), dict(request.headers))
        content = content_of(body, request.headers.get("content-type", ""), scrubber)
        path = scrubber.text(place_below(self._base, request.url.path))
        # Bodies are to be read, and a compressing server may hold back the chunks of a stream.
        request.headers["accept-encoding"] = "identity"
        stored = Request(method=request.method, path=path, body=content)
        return Track(self._provider, stored, self._keeping)


class _Transport(_Recording, httpx.BaseTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        track = self.begin(request, request.read())
        try:
            response = self.client.send(request, stream=True, follow_redirects=False)
        except BaseException as error:
            track.failed(error)
            raise
        track.head(response.status_code, _headers(response))
        return httpx.Response(
            response.status_code, headers=_decoded(response), stream=_Stream(response, track), request=request
        )


class _AsyncTransport(_Recording, httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        track = self.begin(request, await request.aread())
        try:
            response = await self.client.send(request, stream=True, follow_redirects=False)
        except BaseException as error:
            track.failed(error)
            raise
        track.head(response.status_code, _headers(response))
        return httpx.Response(
            response.status_code, headers=_decoded(response), stream=_AsyncStream(response, track), request=request
        )


class _Stream(httpx.SyncByteStream):
    def __init__(self, response: httpx.Response, track: Track) -> None:
        self._response = response
        self._track = track

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._response.iter_bytes():
                self._track.piece(piece)
                yield piece
        except Exception as error:
            self._track.failed(error)
            # Not every official client closes what broke.
            self._response.close()
            raise
        self._track.complete()

    def close(self) -> None:
        self._track.closed()
        self._response.close()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, track: Track) -> None:
        self._response = response
        self._track = track

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.aiter_bytes():
                self._track.piece(piece)
                yield piece
        except Exception as error:
            self._track.failed(error)
            await self._response.aclose()
            raise
        self._track.complete()

    async def aclose(self) -> None:
        self._track.closed()
        await self._response.aclose()


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _decoded(response: httpx.Response) -> list[tuple[str, str]]:
    return [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _OF_TRANSFER]
