"""Answers from a cassette: no socket, no key, no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from llama_client.testing.cassettes.playback import Playback
from llama_client.testing.cassettes.tracks import base_of, place_of
from llama_client.testing.loopback import Answer
from llama_client.testing.memory import AsyncMemoryEndpoint, MemoryEndpoint

if TYPE_CHECKING:
    from llama_client.providers.base import Provider
    from llama_client.providers.http.exchange import AsyncEndpoint, Endpoint


class Player:
    """An `Interceptor` that answers from recorded exchanges.

    Args:
        playback: The exchanges, and how they are played.
    """

    plays = True

    def __init__(self, playback: Playback) -> None:
        self.playback = playback

    def endpoint(self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], Endpoint]) -> Endpoint:
        self.playback.bases.setdefault(provider, base_of(url))
        return MemoryEndpoint(_Address(self.playback, provider, url))

    def async_endpoint(
        self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], AsyncEndpoint]
    ) -> AsyncEndpoint:
        self.playback.bases.setdefault(provider, base_of(url))
        return AsyncMemoryEndpoint(_Address(self.playback, provider, url))

    def http_client(self, provider: str, opened: Callable[[], Any], *, is_async: bool) -> Any:
        from llama_client.testing.cassettes.httpx_player import played_client

        return played_client(self.playback, provider, is_async=is_async)

    def engine(self, provider: str, opened: Callable[[], Provider]) -> Provider:
        from llama_client.testing.cassettes.engines import PlayedEngine

        return PlayedEngine(provider, self.playback)


class _Address:
    """A provider's address, at which a cassette answers."""

    def __init__(self, playback: Playback, provider: str, url: str) -> None:
        self._playback = playback
        self._provider = provider
        self._url = url
        self.clock = playback.clock

    def answer(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        place = place_of(self._url, path)
        return self._playback.sent(self._playback.recorded(self._provider, method, place, body, "application/json"))
