"""Models by name, and which provider serves each, under which id, until when: `models.toml` and the user's own rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

Ability = Literal["tools", "vision", "reasoning", "json_schema", "prefill"]
ABILITIES: tuple[Ability, ...] = get_args(Ability)

_USERS_OWN = "the configuration"


@dataclass(frozen=True, slots=True)
class CatalogModel:
    name: str
    aliases: tuple[str, ...] = ()
    family: str | None = None
    context_tokens: int | None = None
    abilities: frozenset[str] | None = None
    source: str = _USERS_OWN
    checked_on: date | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    provider_kind: str
    id: str
    name: str
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    abilities: frozenset[str] | None = None
    deprecated_on: date | None = None
    deprecated_text: str | None = None
    replacement: str | None = None
    unverified: str | None = None
    source: str = _USERS_OWN
    checked_on: date | None = None

    @property
    def target(self) -> str:
        return f"{self.provider_kind}/{self.id}"

    def is_served(self, day: date) -> bool:
        """Whether it is served, as far as is known; on the day of its shutdown it is not."""
        return self.deprecated_on is None or day < self.deprecated_on


class UserRow(NamedTuple):
    """A row of the user's own: a `[[models]]` table of the configuration, already validated."""

    target: str
    name: str
    aliases: tuple[str, ...] = ()
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    abilities: frozenset[str] | None = None
    deprecated_on: date | None = None
    replacement: str | None = None


class Catalog:
    def __init__(self, models: tuple[CatalogModel, ...], all_offers: tuple[Offer, ...]) -> None:
        self.models = models
        self.all_offers = all_offers
        aliases = {alias.lower(): model for model in models for alias in model.aliases}
        # Names after aliases: no alias hides a model from its own name.
        self._names = aliases | {model.name.lower(): model for model in models}
        self._targets = {_place(offer.provider_kind, offer.id): offer for offer in all_offers}

    @classmethod
    @cache
    def bundled(cls) -> Catalog:
        tables = read_bundled("models.toml")
        return cls(
            tuple(CatalogModel(**_facts(row)) for row in tables["models"]),
            tuple(_offer(row, model_id) for row in tables["offers"] for model_id in row["ids"]),
        )

    def extended(self, rows: Sequence[UserRow]) -> Catalog:
        """This catalogue with the user's own rows, each of which replaces the bundled one of the same target."""
        if not rows:
            return self
        models = {model.name: model for model in self.models}
        names = {word: model.name for word, model in self._names.items()}
        offers = dict(self._targets)
        for row in rows:
            name = names.get(row.name.lower(), row.name)
            model = models.get(name) or CatalogModel(name)
            models = {known: _without(other, row.aliases) for known, other in models.items()}
            models[name] = replace(model, aliases=tuple(dict.fromkeys([*model.aliases, *row.aliases])))
            # Canonical names last: an alias does not take one away.
            names |= {alias.lower(): name for alias in row.aliases} | {known.lower(): known for known in models}
            provider, _, model_id = row.target.partition("/")
            place = _place(provider, model_id)
            ours = offers.get(place)
            same = ours if ours and ours.name == name else Offer(provider, model_id, name)
            offers[place] = _users_offer(row, name, same)
        return Catalog(tuple(models.values()), tuple(offers.values()))

    def find(self, name: str) -> CatalogModel | None:
        """The model of a canonical name or alias, case-insensitive; None: unknown."""
        return self._names.get(name.lower())

    def offers(self, name: str) -> tuple[Offer, ...]:
        """The offers of a canonical name, retired ones too. Ollama may have several: one for each tag of the model."""
        return tuple(offer for offer in self.all_offers if offer.name == name)

    def offer(self, provider_kind: str, model_id: str) -> Offer | None:
        """The offer of a provider's own id; None: unknown, which is no reason to refuse it."""
        return self._targets.get(_place(provider_kind, model_id))

    def ids(self, model_id: str) -> tuple[Offer, ...]:
        return tuple(o for o in self.all_offers if o is self.offer(o.provider_kind, model_id))

    def explain_retirement(self, provider_kind: str, model_id: str, day: date) -> str | None:
        """When a provider retired an id, and what to use instead; None: not retired, as far as is known."""
        offer = self.offer(provider_kind, model_id)
        if offer is None or offer.is_served(day):
            return None
        sentence = f"{provider_kind} retired {model_id} {offer.deprecated_text}"
        successor = self.offer(provider_kind, offer.replacement) if offer.replacement else None
        if offer.replacement and (successor is None or successor.is_served(day)):
            other = " (a different model)" if successor and successor.name != offer.name else ""
            sentence += f"; its replacement there is {offer.replacement}{other}"
        elsewhere: dict[str, str] = {}
        for same in self.offers(offer.name):
            if same.is_served(day) and not same.unverified and same is not successor:
                elsewhere.setdefault(same.provider_kind, f"by {same.provider_kind} as {same.id}")
        if elsewhere:
            sentence += f"; the same model is served {' and '.join(elsewhere.values())}"
        return sentence

    def nearest(self, name: str, *, day: date | None = None) -> str | None:
        # Here, because it brings pydantic.
        from llama_client.validation import nearest

        targets = (offer.target for offer in self.all_offers if day is None or offer.is_served(day))
        spelled = {word.lower(): word for word in (*self._names, *targets)}
        match = nearest(name.lower(), spelled)
        return spelled[match] if match else None


def _place(provider: str, model_id: str) -> tuple[str, str]:
    return provider, model_id.removesuffix(":latest") if provider == "ollama" else model_id


def read_bundled(name: str) -> dict[str, Any]:
    import tomllib
    from importlib import resources

    return tomllib.loads(resources.files("llama_client.catalog").joinpath(name).read_text(encoding="utf-8"))


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {"aliases": tuple, "abilities": frozenset}
    return {name: kinds[name](value) if name in kinds else value for name, value in row.items()}


def _offer(row: Mapping[str, Any], model_id: str) -> Offer:
    facts = {"deprecated_text": _on(row.get("deprecated_on")), **_facts(row)}
    del facts["ids"]
    return Offer(provider_kind=facts.pop("provider"), id=model_id, **facts)


def _users_offer(row: UserRow, name: str, ours: Offer) -> Offer:
    facts = ("context_tokens", "max_output_tokens", "abilities")
    stated = {fact: value for fact in facts if (value := getattr(row, fact)) is not None}
    return replace(
        ours,
        **stated,
        name=name,
        # Absent: the model is served, as an enterprise account may keep a retired one.
        deprecated_on=row.deprecated_on,
        deprecated_text=_on(row.deprecated_on),
        replacement=row.replacement,
        unverified=None,
        source=_USERS_OWN if ours.source == _USERS_OWN else f"{_USERS_OWN}; {ours.source}",
    )


def _without(model: CatalogModel, aliases: Sequence[str]) -> CatalogModel:
    taken = {alias.lower() for alias in aliases}
    return replace(model, aliases=tuple(alias for alias in model.aliases if alias.lower() not in taken))


def _on(day: date | None) -> str | None:
    return None if day is None else f"on {day.isoformat()}"
