"""The APIs that sell a model by the token: the offers and prices of the catalogue, and those of other providers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from llama_client.catalog.catalog import Catalog, Offer
from llama_client.catalog.prices import ListPrices
from llama_client.crossover.scenario import ApiPrice, invalid
from llama_client.crossover.tables import Architecture, Tables, rows, unknown
from llama_client.errors import InvalidRequestError

# Providers on the user's own machine.
_LOCAL_KINDS = frozenset({"ollama", "gguf"})


@dataclass(frozen=True, slots=True)
class Offers:
    current: tuple[ApiPrice, ...]  # cheapest sum of input and output price first
    ended: tuple[ApiPrice, ...]
    unpriced: tuple[str, ...]  # targets without a known price


@dataclass(frozen=True, slots=True)
class OwnPrice:
    target: str
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_usd_per_mtok: Decimal | None = None


def is_sold(price: ApiPrice, day: date) -> bool:
    return price.available_until is None or day < price.available_until


def offers_of(
    model: Architecture,
    *,
    tables: Tables,
    today: date,
    catalog: Catalog | None = None,
    own_prices: Iterable[OwnPrice] = (),
) -> Offers:
    own_prices = tuple(own_prices)
    offers = [offer for offer in _hosted(catalog or Catalog.bundled()) if _shape(offer.name, tables) == model.name]
    priced = [(offer.target, _priced(offer, own_prices, today)) for offer in offers]
    found = [price for _, price in priced if price is not None]
    found += [price for price, name in _other_offers() if _shape(name, tables) == model.name]
    current = [price for price in found if is_sold(price, today)]
    return Offers(
        tuple(sorted(current, key=lambda price: price.input_usd_per_mtok + price.output_usd_per_mtok)),
        tuple(price for price in found if not is_sold(price, today)),
        tuple(target for target, price in priced if price is None),
    )


def offer_named(
    target: str,
    *,
    model: Architecture | None,
    tables: Tables,
    today: date,
    catalog: Catalog | None = None,
    own_prices: Iterable[OwnPrice] = (),
) -> ApiPrice:
    """The price of one target, of whichever model; it is marked where that is not the given one."""
    catalog = catalog or Catalog.bundled()
    provider, _, model_id = target.partition("/")
    others = [(price, name) for price, name in _other_offers() if is_sold(price, today)]
    offer = catalog.offer(provider, model_id)
    if offer is not None:
        if not offer.is_served(today):
            retired = catalog.explain_retirement(provider, model_id, today)
            raise invalid("api", f"{retired}; give api_input and api_output to calculate with its old price")
        price, name = _priced(offer, own_prices, today), _shape(offer.name, tables)
        if price is None:
            raise invalid("api", f"no price known for {target}; give api_input and api_output")
    else:
        named = {f"{price.provider}/{price.model}": (price, name) for price, name in others}
        match = next((each for each in named if each.lower() == target.lower()), None)
        if match is None:
            served = [offer.target for offer in _hosted(catalog) if offer.is_served(today)]
            raise unknown("api", target, [*served, *named])
        price, name = named[match]
    return price if model is not None and name == model.name else replace(price, is_same_model=False)


def sold_offers(*, today: date, catalog: Catalog | None = None) -> Iterator[tuple[str, ApiPrice]]:
    """Every priced offer that is sold on a day, of whichever model, with the model's name."""
    for offer in _hosted(catalog or Catalog.bundled()):
        price = _priced(offer, (), today) if offer.is_served(today) else None
        if price is not None:
            yield offer.name, price
    for price, name in _other_offers():
        if is_sold(price, today):
            yield name, price


def _hosted(catalog: Catalog) -> list[Offer]:
    return [offer for offer in catalog.all_offers if offer.provider_kind not in _LOCAL_KINDS]


def _priced(offer: Offer, own_prices: Iterable[OwnPrice], today: date) -> ApiPrice | None:
    """The user's own price of an offer, else the list price; None: neither is known."""
    # Of an offer that has ended, the price of its last days.
    day = today if offer.deprecated_on is None else min(today, offer.deprecated_on)
    own = {price.target: price for price in own_prices}.get(offer.target)
    listed = None if own else ListPrices.bundled().of(offer.provider_kind, offer.id, day)
    price = own or listed
    if price is None:
        return None
    doubts = [doubt for doubt in (offer.unverified, listed.unverified if listed else None) if doubt]
    return ApiPrice(
        provider=offer.provider_kind.capitalize(),
        model=offer.id,
        input_usd_per_mtok=float(price.input_usd_per_mtok),
        output_usd_per_mtok=float(price.output_usd_per_mtok),
        cached_usd_per_mtok=None if price.cached_usd_per_mtok is None else float(price.cached_usd_per_mtok),
        available_until=offer.deprecated_on,
        source=listed.source if listed else "the configuration",
        as_of=listed.checked_on if listed else None,
        unverified="; ".join(doubts) or None,
    )


def _other_offers() -> Iterator[tuple[ApiPrice, str]]:
    """Prices of providers without a row in the catalogue, each with the canonical name of its model."""
    for row in rows("api_offers.toml", "offers"):
        price = ApiPrice(
            provider=row["provider"],
            model=row["id"],
            input_usd_per_mtok=float(row["input_usd_per_mtok"]),
            output_usd_per_mtok=float(row["output_usd_per_mtok"]),
            available_until=row.get("available_until"),
            source=row["source"],
            as_of=row["checked_on"],
            unverified=row.get("unverified"),
        )
        yield price, row["model"]


def _shape(name: str, tables: Tables) -> str | None:
    """The name in the tables of a model of the catalogue; None: they do not have it."""
    try:
        return tables.model(name).name
    except InvalidRequestError:
        return None
