"""The providers of one client: opened at their first use, closed together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from llama_client import errors
from llama_client.clock import Clock
from llama_client.config.provider_tables import GgufConfig, PluginConfig
from llama_client.config.schema import Config, is_kind, provider_kinds, table_of
from llama_client.config.tables import OwnMachine
from llama_client.imports import ready
from llama_client.local_only import ConnectionGuard
from llama_client.process import at_fork, computed_once
from llama_client.providers.base import Codec, Provider, ServedModel
from llama_client.providers.gguf.store import ModelStore
from llama_client.providers.services import SERVICES, Service, all_services, known_catalog, service_of
from llama_client.redaction import without_secrets
from llama_client.validation import suggestion

if TYPE_CHECKING:
    from decimal import Decimal

    from llama_client.catalog.catalog import Catalog, Offer
    from llama_client.catalog.prices import ListPrices
    from llama_client.config.provider_tables import HttpProviderConfig as HttpTable
    from llama_client.providers.http.client_pool import ClientPool
    from llama_client.providers.http.interceptor import Interceptor
    from llama_client.providers.http.provider import HttpProvider
    from llama_client.providers.http.sdk import HttpService
    from llama_client.providers.wire.openai_codec import Abilities

# Words in the names of models that answer no chat, where the server does not say which do.
_NOT_FOR_CHAT = ("embed", "bert", "bge-", "minilm", "rerank")


class Providers:
    """The providers in the configuration, and the kinds that need no table.

    Attributes:
        strangers: While an interceptor is put into all clients that are opened: makes the error of a client that was
            opened before, and has none; None: no such block is open.
    """

    strangers: ClassVar[partial[Exception] | None] = None

    def __init__(
        self,
        config: Config,
        store: ModelStore,
        clock: Clock,
        *,
        environ: Mapping[str, str],
        http_client: object = None,
        is_async: bool = False,
        interceptor: Interceptor | None = None,
    ) -> None:
        self.clock = clock
        self._interceptor = interceptor
        # Whether a client of another process with the same configuration asks in the same way.
        self.is_portable = http_client is None and interceptor is None
        self._config = config
        self._store = store
        self._environ = environ
        self.guard = ConnectionGuard.of(config)
        self._new_lock()
        at_fork("after_in_child", self._new_lock)
        self._open: dict[str, Provider] = {}
        self._connections: ClientPool | None = None
        if http_client is not None:
            self.guard.refuse("http_client", "an HTTP client of your own (http_client), which it cannot check")
            ready("llama_client.providers.http.client_pool")
            from llama_client.providers.http.client_pool import ClientPool

            self._connections = ClientPool(self.guard, http_client, is_async=is_async)
        self.is_closed = False

    def _new_lock(self) -> None:
        # Re-entrant: the factory of a package may ask for another provider. In a forked child another thread of the
        # parent's may have taken the old one.
        self._lock = threading.RLock()

    @computed_once
    def names(self) -> tuple[str, ...]:
        """The configured providers, in their order, and then those that need no table."""
        return tuple(name for name in dict.fromkeys([*self._config.providers, *provider_kinds()]) if self.knows(name))

    def knows(self, name: str) -> bool:
        if name in self._config.providers:
            return True
        row = SERVICES.get(name)
        # Ids of other services begin with such a name: without its key, one of these is meant.
        return is_kind(name) and (row is None or not row.is_prefix or row.has_key(self._environ))

    @computed_once
    def in_use(self) -> list[str]:
        """The providers whose models count for a catalog name: configured ones, clouds with a key set, and Ollama."""
        clouds = [row.name for row in all_services() if not row.is_local and row.has_key(self._environ)]
        return list(dict.fromkeys([*self._config.providers, *clouds, "ollama"]))

    def is_configured(self, name: str) -> bool:
        return name in self._config.providers

    def kind(self, name: str) -> str:
        table = self._config.providers.get(name)
        return name if table is None else table.kind

    @computed_once
    def catalog(self) -> Catalog:
        """The catalog with the user's own rows; read at first use."""
        return known_catalog().extended([row.as_row() for row in self._config.models])

    def offer(self, name: str, model: str) -> Offer | None:
        """The catalog's row of a provider's model id: that of the provider itself, else that of its kind."""
        return self.catalog.offer(name, model) or self.catalog.offer(self.kind(name), model)

    def stated_abilities(self, name: str, model: str) -> frozenset[str] | None:
        """The abilities in the user's own row of a target; None: it has none, or says nothing of them."""
        target = f"{name}/{model}"
        rows = (row.abilities for row in self._config.models if row.target == target and row.abilities is not None)
        return next(map(frozenset, rows), None)

    def retirement(self, name: str, model: str) -> str | None:
        """Since when a provider no longer serves a model, and its replacement; None: not retired."""
        explain, today = self.catalog.explain_retirement, self.clock.today()
        return explain(name, model, today) or explain(self.kind(name), model, today)

    @computed_once
    def list_prices(self) -> ListPrices:
        ready("llama_client.catalog.prices")
        from llama_client.catalog.prices import ListPrices

        return ListPrices.bundled()

    def context_tokens(self, name: str, model: str) -> int | None:
        offer = self.offer(name, model)
        return offer.context_tokens if offer is not None else None

    def max_output_tokens(self, name: str, model: str) -> int | None:
        offer = self.offer(name, model)
        return offer.max_output_tokens if offer is not None else None

    def url(self, name: str) -> str | None:
        """The address of a provider; None: it runs in this process, or its configuration is wrong."""
        try:
            return getattr(self.get(name), "url", None)
        except errors.LlamaClientError:
            return None

    def usd_per_hour(self, name: str) -> Decimal | None:
        """The hourly cost of a provider's machine; None: its cost is not by time."""
        table = self._config.providers.get(name)
        return table.machine_usd_per_hour if isinstance(table, OwnMachine) else None

    def get(self, name: str) -> Provider:
        if not isinstance(name, str):
            raise errors.InvalidRequestError(f"provider: must be a name, got a {type(name).__name__}", param="provider")
        with self._lock:
            self.require_open()
            if name not in self._open:
                self._open[name] = self._make(name)
            return self._open[name]

    def sdk(self, name: str) -> Any:
        """The official sync client of a provider behind HTTP. See `LlamaClient.sdk`."""
        return self._http_provider(name).sdk()

    def async_sdk(self, name: str) -> Any:
        return self._http_provider(name).sdk(is_async=True)

    def ollama_default(self, name: str) -> str | None:
        """The model that an Ollama server has loaded, else its newest local chat model; None: there is none."""
        try:
            return _default_of(self.get(name).served_models())
        except (errors.ProviderError, errors.LocalOnlyError) as error:
            self._require_passable(name, error)
            return None

    async def aollama_default(self, name: str) -> str | None:
        try:
            return _default_of(await self.get(name).aserved_models())
        except (errors.ProviderError, errors.LocalOnlyError) as error:
            self._require_passable(name, error)
            return None

    def _require_passable(self, name: str, error: errors.LlamaClientError) -> None:
        """Raises the error of a configured server; one that is only in the environment is skipped."""
        if isinstance(error, errors.LocalOnlyError) and self.is_configured(name):
            raise error

    def require_open(self) -> None:
        if self.is_closed:
            raise errors.InvalidRequestError("the client was closed")
        if self.strangers is not None and self._interceptor is None:
            raise self.strangers()

    def close(self) -> None:
        providers, connections = self._take_all()
        # Each, whatever another raises: a provider may be a package's.
        with ExitStack() as stack:
            if connections is not None:
                stack.callback(connections.close)
            for provider in reversed(providers):
                stack.callback(provider.close)

    async def aclose(self) -> None:
        providers, connections = self._take_all()
        async with AsyncExitStack() as stack:
            if connections is not None:
                stack.push_async_callback(connections.aclose)
            for provider in reversed(providers):
                stack.push_async_callback(provider.aclose)

    def _take_all(self) -> tuple[list[Provider], ClientPool | None]:
        with self._lock:
            self.is_closed = True
            providers = list(self._open.values())
            self._open.clear()
            return providers, self._connections

    def _http_provider(self, name: str) -> HttpProvider:
        from llama_client.providers.http.provider import HttpProvider

        provider = self.get(name)
        if not isinstance(provider, HttpProvider):
            raise errors.InvalidRequestError(f"{name} has no official client: it runs inside this process")
        return provider

    def _make(self, name: str) -> Provider:
        if not self.knows(name):
            known = f"(there are: {', '.join(self.names)}){suggestion(name, self.names)}"
            raise errors.ConfigError(f"no provider is named {name!r} {known}")
        table = self._config.providers.get(name) or table_of(name)
        if isinstance(table, GgufConfig):
            ready("llama_client.providers.gguf.provider")
            from llama_client.providers.gguf.provider import GgufProvider

            return self._in_process(name, partial(GgufProvider, table, self._store, self.clock, guard=self.guard))
        ready("llama_client.providers.http.sdk", "llama_client.providers.http.provider")
        from llama_client.providers.http.sdk import http_service_of

        row = service_of(table.kind)
        if row is None or not row.package:
            return self._make_http(name, table, http_service_of(table.kind))
        try:
            if not isinstance(table, PluginConfig):
                return self._make_http(name, table, http_service_of(table.kind))
            provider = self._made_by_package(name, table, row)
        except errors.LlamaClientError:
            raise
        except Exception as error:
            raise _wrong_provider(name, row, f"{type(error).__name__}: {error}") from error
        if not all(callable(getattr(provider, method, None)) for method in ("chunks", "achunks", "is_free", "close")):
            raise _wrong_provider(name, row, f"its factory gave a {type(provider).__name__}, not a Provider")
        from llama_client.providers.http.provider import HttpProvider

        return provider if isinstance(provider, HttpProvider) else self._in_process(name, lambda: provider)

    def _in_process(self, name: str, opened: Callable[[], Provider]) -> Provider:
        return opened() if self._interceptor is None else self._interceptor.engine(name, opened)

    def _made_by_package(self, name: str, table: PluginConfig, row: Service) -> Provider:
        def over_http(codec: Codec) -> Provider:
            from llama_client.providers.http.sdk import HttpService

            return self._make_http(name, table, HttpService(replace(row, sdk=""), codec))

        url = table.base_url or row.base_url or None
        assert row.factory is not None  # a PluginConfig exists only for such rows
        return row.factory(_Setup(name, table.options, url, self._config.local_only, over_http))

    def _make_http(self, name: str, table: HttpTable, service: HttpService) -> HttpProvider:
        from llama_client.providers.http.client_pool import ClientPool
        from llama_client.providers.http.provider import HttpProvider

        if self._connections is None:
            self._connections = ClientPool(self.guard, over_httpx=self._config.http.wire == "httpx")
        return HttpProvider(
            name,
            service,
            table,
            connections=self._connections,
            abilities=self._abilities(name, table.kind),
            retirement=partial(self.retirement, name),
            clock=self.clock,
            environ=self._environ,
            interceptor=self._interceptor,
        )

    def _abilities(self, name: str, kind: str) -> Abilities:
        users = {row.target: frozenset(row.abilities) for row in self._config.models if row.abilities is not None}

        def abilities(model: str) -> frozenset[str] | None:
            target = f"{name}/{model}"
            # At Ollama the template in the user's copy of a model decides, and the server refuses before it answers.
            offer = self.offer(name, model) if kind != "ollama" and target not in users else None
            return offer.abilities if offer is not None else users.get(target)

        return abilities


def _wrong_provider(name: str, row: Service, why: str) -> errors.PluginError:
    message = f"the package {row.package} could not make the provider {name} ({without_secrets(why)})"
    return errors.PluginError(message, package=row.package, provider=row.name)


@dataclass(frozen=True, slots=True)
class _Setup:
    """See `ProviderSetup`."""

    name: str
    options: Mapping[str, Any]
    base_url: str | None
    local_only: bool
    over_http: Callable[[Codec], Provider]


def _default_of(served: Sequence[ServedModel]) -> str | None:
    models = [model for model in served if not model.is_remote and _answers_chats(model)]
    return next((m.id for m in models if m.is_loaded), models[0].id if models else None)


def _answers_chats(model: ServedModel) -> bool:
    if model.is_chat is not None:
        return model.is_chat
    return not any(word in model.id for word in _NOT_FOR_CHAT)
