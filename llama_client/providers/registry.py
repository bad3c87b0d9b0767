"""The providers of one client: opened at their first use, closed together."""

from __future__ import annotations

import threading

from llama_client.clock import Clock
from llama_client.config.schema import PROVIDER_KINDS, Config, GgufProvider
from llama_client.errors import ConfigError, InvalidRequestError
from llama_client.providers.base import Provider
from llama_client.providers.gguf.store import ModelStore
from llama_client.validation import suggestion


class Providers:
    """What a configuration names, and the kinds that need no table of their own."""

    def __init__(self, config: Config, store: ModelStore, clock: Clock) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._lock = threading.RLock()
        self._open: dict[str, Provider] = {}
        self._closed = False

    @property
    def names(self) -> list[str]:
        """The configured providers, in their order, and then the kinds that need no table."""
        return [*self._config.providers, *(kind for kind in PROVIDER_KINDS if kind not in self._config.providers)]

    def get(self, name: str) -> Provider:
        """The provider of that name.

        Raises:
            ConfigError: There is none.
            InvalidRequestError: The client was closed.
        """
        with self._lock:
            if self._closed:
                raise InvalidRequestError("the client was closed")
            if name not in self._open:
                self._open[name] = self._make(name)
            return self._open[name]

    def close(self) -> None:
        """Closes all that are open."""
        for provider in self._take_all():
            provider.close()

    async def aclose(self) -> None:
        """The same, without blocking the event loop."""
        for provider in self._take_all():
            await provider.aclose()

    def _take_all(self) -> list[Provider]:
        with self._lock:
            self._closed = True
            providers = list(self._open.values())
            self._open.clear()
            return providers

    def _make(self, name: str) -> Provider:
        config = self._config.providers.get(name)
        if config is None:
            if name not in PROVIDER_KINDS:
                known = ", ".join(self.names)
                raise ConfigError(f"no provider is named {name!r} (there are: {known}){suggestion(name, self.names)}")
            config = GgufProvider()
        # Imported with its first use, as every provider's own packages are.
        from llama_client.providers.gguf.provider import GgufProvider as Gguf

        return Gguf(config, self._store, self._clock)
