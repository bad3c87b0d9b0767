"""Puts a player before every provider of a client: an `Interceptor` that answers all requests from one function."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from llama_client.clock import Clock
from llama_client.config.provider_tables import ServiceConfig
from llama_client.local_only import ConnectionGuard
from llama_client.providers.base import Provider, ProviderCall, ServedModel
from llama_client.providers.http.client_pool import ClientPool
from llama_client.providers.http.http1 import RequestHeads
from llama_client.providers.http.provider import HttpProvider
from llama_client.providers.http.sdk import HttpService
from llama_client.providers.services import Service
from llama_client.testing.memory import Address, AsyncMemoryEndpoint, MemoryEndpoint, Player
from llama_client.types.completion import ChatCompletionChunk

if TYPE_CHECKING:
    from llama_client.providers.http.exchange import AsyncEndpoint, Endpoint
    from llama_client.testing.clock import FakeClock

# Where nothing is connected to.
_NOWHERE = "http://127.0.0.1:1/v1"


class Played:
    """An `Interceptor` whose player answers every request."""

    plays = True

    def __init__(self, play: Player, clock: FakeClock | None) -> None:
        self._play = play
        self._clock = clock

    def endpoint(self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], Endpoint]) -> Endpoint:
        return MemoryEndpoint(self._address(provider, url, headers))

    def async_endpoint(
        self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], AsyncEndpoint]
    ) -> AsyncEndpoint:
        return AsyncMemoryEndpoint(self._address(provider, url, headers))

    def http_client(self, provider: str, opened: Callable[[], Any], *, is_async: bool) -> Any:
        from llama_client.testing import httpx_memory

        return httpx_memory.client(self._play, provider, self._clock, is_async=is_async)

    def engine(self, provider: str, opened: Callable[[], Provider]) -> Provider:
        return PlayedEngine(opened(), self._server(provider))

    def _address(self, provider: str, url: str, headers: Mapping[str, str]) -> Address:
        return Address(provider, RequestHeads(url, headers), self._play, self._clock)

    def _server(self, name: str) -> HttpProvider:
        """A local server of that name, which is played too."""
        row = Service(name=name, base_url=_NOWHERE, is_local=True, continues=True, sdk="")
        return HttpProvider(
            name,
            HttpService(row),
            ServiceConfig(kind=name),
            connections=ClientPool(ConnectionGuard()),
            abilities=lambda _: None,
            retirement=lambda _: None,
            clock=Clock() if self._clock is None else self._clock.clock,
            environ={},
            interceptor=self,
        )


class PlayedEngine(Provider):
    """A provider in this process whose answers are those of a played server. The real one refuses what it cannot do."""

    def __init__(self, engine: Provider, server: HttpProvider) -> None:
        self._engine = engine
        self._server = server

    def is_free(self, model: str) -> bool:
        return self._engine.is_free(model)

    def require(self, call: ProviderCall) -> None:
        self._engine.require(call)

    def continues(self, model: str) -> bool:
        return self._engine.continues(model)

    def cleaned(self, text: str) -> str:
        return self._engine.cleaned(text)

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        yield from self._server.chunks(call)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        async with aclosing(self._server.achunks(call)) as chunks:
            async for chunk in chunks:
                yield chunk

    def served_models(self) -> Sequence[ServedModel]:
        return self._server.served_models()

    async def aserved_models(self) -> Sequence[ServedModel]:
        return await self._server.aserved_models()

    def close(self) -> None:
        self._server.close()
        self._engine.close()

    async def aclose(self) -> None:
        self._server.close()
        await self._engine.aclose()
