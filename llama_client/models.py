"""`client.models` and `client.providers`: which providers are configured and reached, and what each serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.errors import LlamaClientError
from llama_client.types.completion import AnswerModel

if TYPE_CHECKING:
    from llama_client.catalog.catalog import Offer
    from llama_client.clock import EventLoop
    from llama_client.providers.base import ServedModel
    from llama_client.providers.registry import Providers

_MAX_ASKED_AT_ONCE = 8
_OF_OFFER = ("name", "context_tokens", "max_output_tokens", "deprecated_on", "replacement", "checked_on")
_OF_PRICE = ("input_usd_per_mtok", "output_usd_per_mtok", "cached_usd_per_mtok")


class ModelInfo(AnswerModel):
    """One model of a provider: what the provider reports, and what the catalogue adds.

    Attributes:
        target: `provider/model`: a value for the parameter `model`.
        name: The catalogue's name, which stands for every provider that serves the same model.
        is_served: Whether the provider lists it now; None: the provider did not answer.
        is_loaded: Whether it is in memory; None: not applicable.
        context_tokens: The longest context, in tokens.
        max_output_tokens: The longest answer, in tokens.
        abilities: Of `tools`, `vision`, `reasoning` and `json_schema`, as the provider says, else the catalogue; None:
            unknown.
        is_chat: Whether it answers chats, which models for embeddings do not; None: unknown.
        input_usd_per_mtok: The list price of a million prompt tokens, in US dollars.
        output_usd_per_mtok: The list price of a million answer tokens.
        cached_usd_per_mtok: The list price of a million cached prompt tokens.
        size_bytes: The size of the model file, where known.
        deprecated_on: The first day on which it is not served.
        replacement: The provider's id to use then.
        checked_on: When the catalogue's facts were last compared with their source.
    """

    target: str
    name: str | None = None
    is_served: bool | None = None
    is_loaded: bool | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    abilities: list[str] | None = None
    is_chat: bool | None = None
    input_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    cached_usd_per_mtok: Decimal | None = None
    size_bytes: int | None = None
    deprecated_on: date | None = None
    replacement: str | None = None
    checked_on: date | None = None

    @property
    def provider(self) -> str:
        """The provider's name in the configuration."""
        return self.target.partition("/")[0]


class ProviderInfo(AnswerModel):
    """One provider and its models.

    Attributes:
        provider: Its name.
        kind: Its kind.
        is_configured: Whether the configuration has a table for the provider.
        is_reachable: Whether it answered.
        error: Why it did not answer.
        models: What it serves; where it did not answer, what it serves today according to the catalogue.
    """

    provider: str
    kind: str
    is_configured: bool
    is_reachable: bool
    error: str | None = None
    models: list[ModelInfo]


class ProviderDirectory:
    """What `client.providers` offers: which providers are reached, and what each serves."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    def list(self) -> list[ProviderInfo]:
        """Asks every provider in use for its models, all at once.

        Returns:
            The providers, in the order of the configuration; where one did not answer, its `error` says why.

        Example:
            for provider in client.providers.list():
                print(provider.provider, provider.is_reachable, len(provider.models))
        """
        from concurrent.futures import ThreadPoolExecutor

        names = _listed(self._providers)
        with ThreadPoolExecutor(_MAX_ASKED_AT_ONCE) as threads:
            return list(threads.map(self._ask, names))

    def _ask(self, name: str) -> ProviderInfo:
        try:
            return _info(self._providers, name, self._providers.get(name).served_models())
        except LlamaClientError as error:
            return _info(self._providers, name, error)


class AsyncProviderDirectory:
    """`ProviderDirectory` for an `AsyncLlamaClient`: the same, awaited."""

    def __init__(self, providers: Providers, loop: EventLoop) -> None:
        self._providers = providers
        self._loop = loop

    async def list(self) -> list[ProviderInfo]:
        """`ProviderDirectory.list`, awaited."""
        import asyncio

        self._loop.check()
        return await asyncio.gather(*(self._ask(name) for name in _listed(self._providers)))

    async def _ask(self, name: str) -> ProviderInfo:
        try:
            return _info(self._providers, name, await self._providers.get(name).aserved_models())
        except LlamaClientError as error:
            return _info(self._providers, name, error)


class Models:
    """What `client.models` offers: the models of all providers in one list."""

    def __init__(self, providers: ProviderDirectory) -> None:
        self._providers = providers

    def list(self) -> list[ModelInfo]:
        """Asks every provider in use for its models, all at once.

        Returns:
            The models, by provider in the order of the configuration. Of a provider that did not answer, those that the
            catalogue says it serves, with `is_served` None; `client.providers.list()` says why it did not.

        Example:
            for model in client.models.list():
                print(model.target, model.context_tokens, model.input_usd_per_mtok)
        """
        return [model for provider in self._providers.list() for model in provider.models]


class AsyncModels:
    """`Models` for an `AsyncLlamaClient`: the same, awaited."""

    def __init__(self, providers: AsyncProviderDirectory) -> None:
        self._providers = providers

    async def list(self) -> list[ModelInfo]:
        """`Models.list`, awaited."""
        return [model for provider in await self._providers.list() for model in provider.models]


def _listed(providers: Providers) -> Sequence[str]:
    """The names of the providers to list: those in use, and `gguf`."""
    providers.require_open()
    return list(dict.fromkeys([*providers.in_use, *(name for name in providers.names if name == "gguf")]))


def _info(providers: Providers, name: str, answer: Sequence[ServedModel] | LlamaClientError) -> ProviderInfo:
    """A provider's answer, completed from the catalogue."""
    kind, error = providers.kind(name), None
    if isinstance(answer, LlamaClientError):
        error, today = str(answer), providers.clock.today()
        # Which models an Ollama server has installed is in no catalogue.
        offers = providers.catalog.all_offers if kind != "ollama" else ()
        known = [offer for offer in offers if offer.provider_kind in (name, kind) and offer.is_served(today)]
        models = [_model(providers, name, None, offer) for offer in known]
    else:
        # A server may echo the API key, even in a model's id.
        cleaned = providers.get(name).cleaned
        served = [replace(model, id=cleaned(model.id)) for model in answer]
        models = [_model(providers, name, model, providers.offer(name, model.id)) for model in served]
    return ProviderInfo(
        provider=name,
        kind=kind,
        is_configured=providers.is_configured(name),
        is_reachable=error is None,
        error=error,
        models=models,
    )


def _model(providers: Providers, provider: str, served: ServedModel | None, offer: Offer | None) -> ModelInfo:
    identity = served.id if served is not None else offer.id if offer is not None else ""
    price = providers.list_prices.of(providers.kind(provider), identity, providers.clock.today())
    facts: dict[str, object] = {"target": f"{provider}/{identity}"}
    if offer is not None:
        facts |= {name: getattr(offer, name) for name in _OF_OFFER}
        facts["abilities"] = sorted(offer.abilities) if offer.abilities is not None else None
    if price is not None:
        facts |= {name: getattr(price, name) for name in _OF_PRICE}
    if served is not None:
        facts |= {"is_served": True, "is_loaded": served.is_loaded, "size_bytes": served.size_bytes}
        facts |= {"context_tokens": served.context_tokens} if served.context_tokens else {}
        if served.abilities is not None and providers.stated_abilities(provider, identity) is None:
            facts["abilities"] = sorted(served.abilities)
        facts["is_chat"] = served.is_chat
    return ModelInfo.model_validate(facts)
