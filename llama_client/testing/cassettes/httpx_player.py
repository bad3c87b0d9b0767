"""Answers the requests of an official client from a cassette, on an HTTPX client without connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import httpx

from llama_client.testing.cassettes.errors import UnrecordedRequestError
from llama_client.testing.cassettes.exchanges import Answer, Failure
from llama_client.testing.cassettes.failures import raised_by_httpx
from llama_client.testing.cassettes.tracks import pieces_to_play, place_below

if TYPE_CHECKING:
    from llama_client.testing.cassettes.playback import Playback

_FIRST_ERROR = 400


def played_client(playback: Playback, provider: str, *, is_async: bool) -> Any:
    """An HTTPX client that is answered from a cassette."""
    base = playback.bases.get(provider, "")
    if is_async:
        return httpx.AsyncClient(transport=_AsyncTransport(playback, provider, base), trust_env=False)
    return httpx.Client(transport=_Transport(playback, provider, base), trust_env=False)


def refreshed_client(playback: Playback, provider: str, recorded: Any, *, is_async: bool) -> Any:
    """An HTTPX client that is answered from a cassette, or else by another one."""
    base = playback.bases.get(provider, "")
    if is_async:
        return httpx.AsyncClient(
            transport=_AsyncRefreshing(playback, provider, base, recorded), headers=recorded.headers, trust_env=False
        )
    return httpx.Client(
        transport=_Refreshing(playback, provider, base, recorded), headers=recorded.headers, trust_env=False
    )


class _Playing:
    def __init__(self, playback: Playback, provider: str, base: str) -> None:
        self._playback = playback
        self._provider = provider
        self._base = base

    def steps(self, request: httpx.Request) -> tuple[Answer, Iterator[Any]]:
        """The recorded answer, and its pieces with the pauses between them."""
        place, content_type = place_below(self._base, request.url.path), request.headers.get("content-type", "")
        answer = self._playback.recorded(self._provider, request.method, place, request.content, content_type)
        return answer, self._playback.pauses(_moments(answer))

    def ended(self, answer: Answer, request: httpx.Request) -> Exception:
        if isinstance(answer.end, Failure):
            return raised_by_httpx(answer.end, request)
        return self._playback.broken_off()

    def headers(self, answer: Answer) -> dict[str, str]:
        """Those of an answer. Official clients wait in real time, so that they are asked not to."""
        if self._playback.is_timed or (answer.status or 0) < _FIRST_ERROR:
            return answer.headers
        return {**answer.headers, "retry-after-ms": "1"}


class _Transport(_Playing, httpx.BaseTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        answer, steps = self.steps(request)
        for each in steps:
            if not isinstance(each, float):
                break
            self.wait(each)
        if answer.status is None:
            raise self.ended(answer, request)
        stream = _Stream(self, answer, steps, request)
        return httpx.Response(answer.status, headers=self.headers(answer), stream=stream, request=request)

    def wait(self, seconds: float) -> None:
        clock = self._playback.clock
        (time.sleep if clock is None else clock.sleep)(seconds)


class _AsyncTransport(_Playing, httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        answer, steps = self.steps(request)
        for each in steps:
            if not isinstance(each, float):
                break
            await self.wait(each)
        if answer.status is None:
            raise self.ended(answer, request)
        stream = _AsyncStream(self, answer, steps, request)
        return httpx.Response(answer.status, headers=self.headers(answer), stream=stream, request=request)

    async def wait(self, seconds: float) -> None:
        clock = self._playback.clock
        await (asyncio.sleep if clock is None else clock.asleep)(seconds)


class _Refreshing(_Transport):
    def __init__(self, playback: Playback, provider: str, base: str, recorded: httpx.Client) -> None:
        super().__init__(playback, provider, base)
        self._recorded = recorded

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return super().handle_request(request)
        except UnrecordedRequestError:
            return self._recorded.send(request, stream=True, follow_redirects=False)


class _AsyncRefreshing(_AsyncTransport):
    def __init__(self, playback: Playback, provider: str, base: str, recorded: httpx.AsyncClient) -> None:
        super().__init__(playback, provider, base)
        self._recorded = recorded

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except UnrecordedRequestError:
            return await self._recorded.send(request, stream=True, follow_redirects=False)


class _Stream(httpx.SyncByteStream):
    def __init__(self, transport: _Transport, answer: Answer, steps: Iterator[Any], request: httpx.Request) -> None:
        self._transport = transport
        self._answer = answer
        self._steps = steps
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        for each in self._steps:
            if isinstance(each, float):
                self._transport.wait(each)
            else:
                yield each
        if self._answer.end != "complete":
            raise self._transport.ended(self._answer, self._request)


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(
        self, transport: _AsyncTransport, answer: Answer, steps: Iterator[Any], request: httpx.Request
    ) -> None:
        self._transport = transport
        self._answer = answer
        self._steps = steps
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for each in self._steps:
            if isinstance(each, float):
                await self._transport.wait(each)
            else:
                yield each
        if self._answer.end != "complete":
            raise self._transport.ended(self._answer, self._request)


def _moments(answer: Answer) -> Iterator[tuple[float, Any]]:
    # An empty piece stands for the head.
    yield answer.head_s, b""
    yield from pieces_to_play(answer)
    end = answer.end
    yield (end.at_s if isinstance(end, Failure) else answer.end_s or 0.0), None
