"""Who sells a model by the token, and who no longer does: the catalogue's offers and prices, and those of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from llama_client.catalog.catalog import Catalog, Offer
from llama_client.catalog.prices import ListPrices
from llama_client.crossover.scenario import ApiPrice
from llama_client.crossover.tables import Architecture, Tables, rows, unknown
from llama_client.errors import InvalidRequestError

# These run on a machine of one's own.
_LOCAL_KINDS = frozenset({"ollama", "gguf"})


@dataclass(frozen=True, slots=True)
class Offers:
    """Who sells a model."""

    current: tuple[ApiPrice, ...]
    ended: tuple[ApiPrice, ...]
    unpriced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """A price of the user's own, for a target."""

    target: str
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_usd_per_mtok: Decimal | None = None


def offers_of(
    model: Architecture,
    *,
    tables: Tables,
    today: date,
    catalog: Catalog | None = None,
    own_prices: Iterable[OwnPrice] = (),
) -> Offers:
    """Who sells a model by the token.

    Examples:
        >>> tables = Tables.bundled()
        >>> offers = offers_of(tables.model("llama-3.1-70b"), tables=tables, today=date(2026, 11, 24))
        >>> [offer.provider for offer in offers.current]
        []
    """
    found = [
        *_of_the_catalogue(model, tables, catalog or Catalog.bundled(), own_prices, today),
        *_of_others(model, tables),
    ]
    current = [price for price in found if isinstance(price, ApiPrice) and _is_sold(price, today)]
    current.sort(key=lambda price: price.input_usd_per_mtok + price.output_usd_per_mtok)
    ended = [price for price in found if isinstance(price, ApiPrice) and not _is_sold(price, today)]
    return Offers(tuple(current), tuple(ended), tuple(name for name in found if isinstance(name, str)))


def offer_named(
    target: str,
    *,
    model: Architecture | None,
    tables: Tables,
    today: date,
    catalog: Catalog | None = None,
    own_prices: Iterable[OwnPrice] = (),
) -> ApiPrice:
    """The price of one target, whichever model it is."""
    catalog = catalog or Catalog.bundled()
    provider, _, model_id = target.partition("/")
    offer = catalog.offer(provider, model_id)
    if offer is not None:
        if not offer.is_served(today):
            raise InvalidRequestError(
                f"api: {catalog.explain_retirement(provider, model_id, today)}; "
                "give api_input and api_output to calculate with its old price",
                param="api",
            )
        found = _priced(offer, ListPrices.bundled(), {price.target: price for price in own_prices}, today)
        if isinstance(found, str):
            raise InvalidRequestError(
                f"api: nobody knows the price of {target}; give api_input and api_output", param="api"
            )
        same = model is not None and _name(offer.name, tables) == model.name
        return found if same else _as_another(found)
    for price, name in _others():
        if target.lower() == f"{price.provider}/{price.model}".lower() and _is_sold(price, today):
            return price if model is not None and name == model.name else _as_another(price)
    known = [o.target for o in catalog.all_offers if o.provider_kind not in _LOCAL_KINDS and o.is_served(today)]
    known += [f"{price.provider}/{price.model}" for price, _ in _others() if _is_sold(price, today)]
    raise unknown("api", target, known)


def _of_the_catalogue(
    model: Architecture, tables: Tables, catalog: Catalog, own_prices: Iterable[OwnPrice], today: date
) -> list[ApiPrice | str]:
    prices, own = ListPrices.bundled(), {price.target: price for price in own_prices}
    return [
        _priced(offer, prices, own, today)
        for offer in catalog.all_offers
        if offer.provider_kind not in _LOCAL_KINDS and _name(offer.name, tables) == model.name
    ]


def _priced(offer: Offer, prices: ListPrices, own: Mapping[str, OwnPrice], today: date) -> ApiPrice | str:
    mine = own.get(offer.target)
    # Of an offer that has ended, the price of its last days.
    day = today if offer.deprecated_on is None else min(today, offer.deprecated_on)
    listed = prices.of(offer.provider_kind, offer.id, day)
    price = mine or listed
    if price is None:
        return offer.target
    doubts = [doubt for doubt in (offer.unverified, None if mine or listed is None else listed.unverified) if doubt]
    return ApiPrice(
        provider=offer.provider_kind.capitalize(),
        model=offer.id,
        input_usd_per_mtok=float(price.input_usd_per_mtok),
        output_usd_per_mtok=float(price.output_usd_per_mtok),
        cached_usd_per_mtok=None if price.cached_usd_per_mtok is None else float(price.cached_usd_per_mtok),
        available_until=offer.deprecated_on,
        source="the configuration" if mine or listed is None else listed.source,
        as_of=None if mine or listed is None else listed.checked_on,
        unverified="; ".join(doubts) or None,
    )


def _of_others(model: Architecture, tables: Tables) -> list[ApiPrice]:
    return [price for price, name in _others() if _name(name, tables) == model.name]


def _others() -> list[tuple[ApiPrice, str]]:
    return [
        (
            ApiPrice(
                provider=row["provider"],
                model=row["id"],
                input_usd_per_mtok=float(row["input_usd_per_mtok"]),
                output_usd_per_mtok=float(row["output_usd_per_mtok"]),
                available_until=row.get("available_until"),
                source=row["source"],
                as_of=row["checked_on"],
                unverified=row.get("unverified"),
            ),
            row["model"],
        )
        for row in rows("api_offers.toml", "offers")
    ]


def _as_another(price: ApiPrice) -> ApiPrice:
    return replace(price, is_same_model=False)


def _name(name: str, tables: Tables) -> str | None:
    """The architecture's name of a catalogue's model; None: the tables do not have its shape."""
    try:
        return tables.model(name).name
    except InvalidRequestError:
        return None


def _is_sold(price: ApiPrice, today: date) -> bool:
    return price.available_until is None or today < price.available_until
