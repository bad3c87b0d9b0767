"""Turns `model` into an ordered list of targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_client.errors import ConfigError, InvalidRequestError
from llama_client.providers.base import Provider
from llama_client.providers.services import SERVICES
from llama_client.validation import nearest, quoted

if TYPE_CHECKING:
    from llama_client.catalog.catalog import Offer
    from llama_client.config.schema import Config
    from llama_client.config.tables import Policy, RouteConfig
    from llama_client.providers.gguf.store import ModelStore
    from llama_client.providers.registry import Providers

DEFAULT_MODEL = "default"
# Programs may make up model ids: more names than this are resolved anew each time.
_MAX_KNOWN = 1024


@dataclass(frozen=True, slots=True)
class Target:
    provider_name: str
    model: str
    provider: Provider
    weight: float = 1.0
    params: Mapping[str, Any] = field(default_factory=dict)
    name: str = field(init=False)
    # Whether its tokens cost nothing.
    is_free: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.provider_name}/{self.model}")
        object.__setattr__(self, "is_free", self.provider.is_free(self.model))


class TargetList(NamedTuple):
    targets: Sequence[Target]
    policy: Policy = "ordered"
    max_price_usd: Decimal | None = None
    route: str | None = None


@dataclass(slots=True, eq=False)
class TargetResolver:
    _providers: Providers
    _store: ModelStore
    _routes: Mapping[str, RouteConfig]
    only_provider: str | None = field(default=None, kw_only=True)
    # The names whose targets do not depend on the day.
    _known: dict[str, TargetList] = field(default_factory=dict)

    def choices(self, model: object) -> list[TargetList]:
        known = self._known.get(model) if isinstance(model, str) else None
        providers = self._providers
        if known is not None and not providers.is_closed and providers.strangers is None:
            return [known]
        providers.require_open()
        names = [model] if isinstance(model, str) else model
        if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) and name for name in names):
            raise InvalidRequestError(
                "model: must be 'provider/model-id', a route's name, a list of these, or absent for the default",
                param="model",
            )
        return [self._known.get(name) or self._resolved(name) for name in names]

    def _resolved(self, name: str) -> TargetList:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InvalidRequestError("model: must be Unicode text, without lone surrogates", param="model") from None
        if self.only_provider is not None:
            found = TargetList([Target(self.only_provider, name, self._providers.get(self.only_provider))])
            return self._remembered(name, found)
        route = self._routes.get(name)
        rows: Sequence[tuple[str, float, Mapping[str, Any]]] = [(name, 1.0, {})]
        if route is not None:
            rows = [(row.target, row.weight, row.params) for row in route.targets]
        targets, is_fixed = [], True
        for target_name, weight, params in rows:
            named = _named(target_name, self._providers)
            is_fixed &= named is not None
            meant = [named] if named else _of_names(target_name, self._providers, self._store, self._routes)
            targets += [replace(target, weight=weight, params=params) for target in meant]
        found = TargetList(targets) if route is None else TargetList(targets, route.policy, route.max_price_usd, name)
        return self._remembered(name, found) if is_fixed else found

    def _remembered(self, name: str, found: TargetList) -> TargetList:
        if len(self._known) < _MAX_KNOWN:
            self._known[name] = found
        return found


class SomeTargets(TargetResolver):
    """The same models, with a part of their targets.

    Args:
        whole: Finds all of them.
        kept: Picks from all targets of a call; none that it leaves out is asked.
    """

    def __init__(self, whole: TargetResolver, kept: Callable[[Sequence[Target]], Sequence[Target]]) -> None:
        super().__init__(whole._providers, whole._store, whole._routes, only_provider=whole.only_provider)
        self._kept = kept

    def choices(self, model: object) -> list[TargetList]:
        found = super().choices(model)
        names = {target.name for target in self._kept([target for choice in found for target in choice.targets])}
        some = [
            choice._replace(targets=[target for target in choice.targets if target.name in names]) for choice in found
        ]
        return [choice for choice in some if choice.targets]


def ollama_to_ask(config: Config, providers: Providers) -> str | None:
    """The Ollama that has to be asked for the default model; None: none has."""
    if config.default_model is not None:
        return None
    configured = list(config.providers)
    if not configured:
        return "ollama"
    return configured[0] if len(configured) == 1 and providers.kind(configured[0]) == "ollama" else None


def default_model(
    config: Config, providers: Providers, store: ModelStore, running: str | None, *, only_provider: str | None = None
) -> str:
    """The model of a call that names none; `running`: what a running Ollama would answer with."""
    if config.default_model is not None:
        return config.default_model
    configured = list(config.providers)
    kind = providers.kind(configured[0]) if len(configured) == 1 else None
    if kind == "gguf":
        return DEFAULT_MODEL if only_provider else f"{configured[0]}/{DEFAULT_MODEL}"
    if configured and kind != "ollama":
        raise ConfigError(
            f"default_model is not set, and {', '.join(configured)} could mean many: set it, or pass model"
        )
    ollama = configured[0] if configured else "ollama"
    if running is not None:
        return running if only_provider else f"{ollama}/{running}"
    if configured:
        raise ConfigError(f"default_model is not set, and {ollama} is not running or has no chat model: set it")
    pulled = store.preferred()
    if pulled is None:
        raise ConfigError(
            "no model is configured, Ollama is not running, and no model has been pulled: run `llama-client pull "
            "smollm2-135m` (a tiny demo), or `llama-client pull hf:ORG/REPO/FILE.gguf` for a real one"
        )
    return f"gguf/{pulled.name}"


def _named(name: str, providers: Providers) -> Target | None:
    """None: the name is not `provider/model-id`."""
    provider, slash, model = name.partition("/")
    return Target(provider, model, providers.get(provider)) if slash and model and providers.knows(provider) else None


def _of_names(name: str, providers: Providers, store: ModelStore, routes: Mapping[str, RouteConfig]) -> list[Target]:
    provider, slash, model = name.partition("/")
    if not slash:
        found = _of_catalogue(name, providers)
        if found:
            return found
    hint = providers.catalog.nearest(name, day=providers.clock.today())
    if name in store.names():
        hint = f"gguf/{name}"
    where = f"no provider is named {quoted(provider)}"
    row = SERVICES.get(provider)
    if slash and row is not None:
        # Model ids of other services begin with its name too.
        where = f"{where}, as {' or '.join(row.key_variables)} is not set"
    if not slash or not model:
        where = f"must be 'provider/model-id', a route, or a name that the catalogue knows, got {quoted(name)}"
        hint = nearest(name, routes) or hint
    suggested = f"; did you mean {hint!r}?" if hint else ""
    raise ConfigError(f"model: {where} (providers: {', '.join(providers.names)}){suggested}")


def _of_catalogue(name: str, providers: Providers) -> list[Target]:
    """Every provider in use that serves a model of the catalogue today; or the one that an id belongs to."""
    catalog, today = providers.catalog, providers.clock.today()
    model = catalog.find(name)
    offers = catalog.offers(model.name) if model is not None else catalog.ids(name)
    if not offers:
        return []
    # An id is sent whatever the catalogue says: some accounts keep models that are retired for all others.
    wanted = [offer for offer in offers if model is None or offer.is_served(today)]
    targets = [
        Target(provider, offer.id, providers.get(provider))
        for provider in providers.in_use
        for offer in wanted
        if offer.provider_kind in (provider, providers.kind(provider))
    ]
    if model is None and len({target.provider_name for target in targets}) > 1:
        choices = ", ".join(target.name for target in targets)
        raise ConfigError(f"model: {quoted(name)} could be any of {choices}: name one of them")
    if not targets:
        raise ConfigError(f"model: no provider in use serves {name} today{_reasons(offers, providers, today)}")
    return list({target.name: target for target in targets}.values())


def _reasons(offers: Sequence[Offer], providers: Providers, today: date) -> str:
    served = [f"{offer.provider_kind} as {offer.id}" for offer in offers if offer.is_served(today)]
    if served:
        return f"; it is served by {' and '.join(served)}: configure one of these"
    last = offers[-1]
    retired = providers.catalog.explain_retirement(last.provider_kind, last.id, today)
    return f"; {retired}" if retired else ""
