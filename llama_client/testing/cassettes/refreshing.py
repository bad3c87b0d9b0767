"""Answers from a cassette what it has, and records the rest from the real providers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

from llama_client.providers.base import Provider, ProviderCall, ServedModel
from llama_client.testing.cassettes.errors import UnrecordedRequestError
from llama_client.types.completion import ChatCompletionChunk

if TYPE_CHECKING:
    from llama_client.providers.http.exchange import Answer, AsyncAnswer, AsyncEndpoint, Endpoint
    from llama_client.providers.http.waits import AsyncWaits, Waits
    from llama_client.testing.cassettes.player import Player
    from llama_client.testing.cassettes.recorder import Recorder


class Refresher:
    """An `Interceptor` that needs keys: what is missing is asked for.

    Args:
        player: Answers what was recorded.
        recorder: Records the rest.
    """

    plays = False

    def __init__(self, player: Player, recorder: Recorder) -> None:
        self._player = player
        self._recorder = recorder
        # Keys are compared as they are stored.
        player.playback.scrubber = recorder.keeping.scrubber

    def endpoint(self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], Endpoint]) -> Endpoint:
        played = self._player.endpoint(provider, url, headers, opened)
        return _Endpoint(played, self._recorder.endpoint(provider, url, headers, opened))

    def async_endpoint(
        self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], AsyncEndpoint]
    ) -> AsyncEndpoint:
        played = self._player.async_endpoint(provider, url, headers, opened)
        return _AsyncEndpoint(played, self._recorder.async_endpoint(provider, url, headers, opened))

    def http_client(self, provider: str, opened: Callable[[], Any], *, is_async: bool) -> Any:
        from llama_client.testing.cassettes.httpx_player import refreshed_client

        recorded = self._recorder.http_client(provider, opened, is_async=is_async)
        return refreshed_client(self._player.playback, provider, recorded, is_async=is_async)

    def engine(self, provider: str, opened: Callable[[], Provider]) -> Provider:
        return _Engine(self._player.engine(provider, opened), self._recorder.engine(provider, opened))


class _Endpoint:
    """An `Endpoint`."""

    def __init__(self, played: Endpoint, recorded: Endpoint) -> None:
        self._played = played
        self._recorded = recorded

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: Waits) -> Answer:
        try:
            return self._played.send(method, path, body, headers, waits)
        except UnrecordedRequestError:
            pass
        return self._recorded.send(method, path, body, headers, waits)


class _AsyncEndpoint:
    """An `AsyncEndpoint`."""

    def __init__(self, played: AsyncEndpoint, recorded: AsyncEndpoint) -> None:
        self._played = played
        self._recorded = recorded

    async def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: AsyncWaits
    ) -> AsyncAnswer:
        try:
            return await self._played.send(method, path, body, headers, waits)
        except UnrecordedRequestError:
            pass
        return await self._recorded.send(method, path, body, headers, waits)


class _Engine(Provider):
    """A provider in this process."""

    def __init__(self, played: Provider, recorded: Provider) -> None:
        self._played = played
        self._recorded = recorded

    def is_free(self, model: str) -> bool:
        return self._recorded.is_free(model)

    def require(self, call: ProviderCall) -> None:
        self._recorded.require(call)

    def continues(self, model: str) -> bool:
        return self._recorded.continues(model)

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        has_begun = False
        try:
            with closing(self._played.chunks(call)) as chunks:
                for chunk in chunks:
                    has_begun = True
                    yield chunk
            return
        except UnrecordedRequestError:
            if has_begun:
                raise
        yield from self._recorded.chunks(call)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        has_begun = False
        try:
            async with aclosing(self._played.achunks(call)) as chunks:
                async for chunk in chunks:
                    has_begun = True
                    yield chunk
            return
        except UnrecordedRequestError:
            if has_begun:
                raise
        async with aclosing(self._recorded.achunks(call)) as anew:
            async for chunk in anew:
                yield chunk

    def close(self) -> None:
        self._played.close()
        self._recorded.close()

    async def aclose(self) -> None:
        self._played.close()
        await self._recorded.aclose()

    def served_models(self) -> Sequence[ServedModel]:
        return self._recorded.served_models()

    async def aserved_models(self) -> Sequence[ServedModel]:
        return await self._recorded.aserved_models()
