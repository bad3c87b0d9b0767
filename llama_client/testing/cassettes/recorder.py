"""Records what the clients of this process exchange with their providers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llama_client.testing.cassettes.exchanges import Request
from llama_client.testing.cassettes.tracks import Keeping, Sink, Track, base_of, content_of, place_of

if TYPE_CHECKING:
    from llama_client.providers.base import Provider
    from llama_client.providers.http.exchange import Answer, AsyncAnswer, AsyncEndpoint, Endpoint
    from llama_client.providers.http.waits import AsyncWaits, Waits


class Recorder:
    """An `Interceptor` that lets everything pass, and keeps it.

    Args:
        sink: Gets each exchange once it has ended, in any thread.
    """

    plays = False

    def __init__(self, sink: Sink) -> None:
        self.keeping = Keeping(sink)

    def endpoint(self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], Endpoint]) -> Endpoint:
        return _RecordedEndpoint(self._tracks(provider, url, headers), opened())

    def async_endpoint(
        self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], AsyncEndpoint]
    ) -> AsyncEndpoint:
        return _AsyncRecordedEndpoint(self._tracks(provider, url, headers), opened())

    def http_client(self, provider: str, opened: Callable[[], Any], *, is_async: bool) -> Any:
        from llama_client.testing.cassettes.httpx_recorder import recorded_client

        return recorded_client(self.keeping, provider, opened(), is_async=is_async)

    def engine(self, provider: str, opened: Callable[[], Provider]) -> Provider:
        from llama_client.testing.cassettes.engines import RecordedEngine

        return RecordedEngine(provider, opened(), self.keeping)

    def _tracks(self, provider: str, url: str, headers: Mapping[str, str]) -> _Tracks:
        self.keeping.scrubber.learn_address(url, headers)
        self.keeping.bases.setdefault(provider, base_of(url))
        return _Tracks(self.keeping, provider, url)


class _Tracks:
    """Begins an exchange for each request to one address."""

    def __init__(self, keeping: Keeping, provider: str, url: str) -> None:
        self._keeping = keeping
        self._provider = provider
        self._url = url

    def begin(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Track:
        """A request is about to be sent."""
        scrubber = self._keeping.scrubber
        scrubber.learn_headers(headers)
        types = [value for name, value in headers.items() if name.lower() == "content-type"]
        content = content_of(body, types[0] if types else "", scrubber)
        place = scrubber.text(place_of(self._url, path))
        return Track(self._provider, Request(method=method, path=place, body=content), self._keeping)


class _RecordedEndpoint:
    """An `Endpoint`."""

    def __init__(self, tracks: _Tracks, endpoint: Endpoint) -> None:
        self._tracks = tracks
        self._endpoint = endpoint

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: Waits) -> Answer:
        track = self._tracks.begin(method, path, body, headers)
        try:
            answer = self._endpoint.send(method, path, body, headers, waits)
        except BaseException as error:
            track.failed(error, waits)
            raise
        track.head(answer.status, answer.headers)
        return _RecordedAnswer(answer, track, waits)


class _RecordedAnswer:
    """An `Answer` of an exchange."""

    def __init__(self, answer: Answer, track: Track, waits: Waits) -> None:
        self._answer = answer
        self._track = track
        self._waits = waits
        self.status, self.headers = answer.status, answer.headers
        self.follows_waits = answer.follows_waits

    def pieces(self) -> Iterator[bytes]:
        try:
            for piece in self._answer.pieces():
                self._track.piece(piece)
                yield piece
        except Exception as error:
            self._track.failed(error, self._waits)
            raise
        self._track.complete()

    def close(self) -> None:
        self._track.closed()
        self._answer.close()


class _AsyncRecordedEndpoint:
    """An `AsyncEndpoint`."""

    def __init__(self, tracks: _Tracks, endpoint: AsyncEndpoint) -> None:
        self._tracks = tracks
        self._endpoint = endpoint

    async def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: AsyncWaits
    ) -> AsyncAnswer:
        track = self._tracks.begin(method, path, body, headers)
        try:
            answer = await self._endpoint.send(method, path, body, headers, waits)
        except BaseException as error:
            track.failed(error, waits)
            raise
        track.head(answer.status, answer.headers)
        return _AsyncRecordedAnswer(answer, track, waits)


class _AsyncRecordedAnswer:
    """An `AsyncAnswer` of an exchange."""

    def __init__(self, answer: AsyncAnswer, track: Track, waits: AsyncWaits) -> None:
        self._answer = answer
        self._track = track
        self._waits = waits
        self.status, self.headers = answer.status, answer.headers

    async def pieces(self) -> AsyncIterator[bytes]:
        pieces = self._answer.pieces()
        try:
            async for piece in pieces:
                self._track.piece(piece)
                yield piece
        except Exception as error:
            self._track.failed(error, self._waits)
            raise
        self._track.complete()

    async def aclose(self) -> None:
        self._track.closed()
        await self._answer.aclose()
