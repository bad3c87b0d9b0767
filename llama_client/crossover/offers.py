"""The APIs that sell a model by the token: the offers of the catalogue with the user's own prices, and the market's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from llama_client.catalog.catalog import Catalog, Offer
from llama_client.catalog.prices import ListPrice, ListPrices
from llama_client.crossover import market
from llama_client.crossover.precisions import bits_of
from llama_client.crossover.scenario import ApiPrice, invalid
from llama_client.crossover.tables import Architecture, Tables, unknown
from llama_client.validation import nearest

# Providers on the user's own machine.
_LOCAL_KINDS = frozenset({"ollama", "gguf"})
# Weights of fewer bits answer measurably worse than those of the published checkpoints.
_FULL_BITS = 8


@dataclass(frozen=True, slots=True)
class Apart:
    """An offer that is no like for like, and why."""

    price: ApiPrice
    reason: str


@dataclass(frozen=True, slots=True)
class Offers:
    current: tuple[ApiPrice, ...]  # cheapest sum of input and output price first
    ended: tuple[ApiPrice, ...]
    unpriced: tuple[str, ...]  # targets without a known price
    apart: tuple[Apart, ...] = ()  # sold today, on other terms


@dataclass(frozen=True, slots=True)
class OwnPrice:
    target: str
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_usd_per_mtok: Decimal | None = None


def is_sold(price: ApiPrice, day: date) -> bool:
    return price.available_until is None or day < price.available_until


def offers_of(
    model: Architecture | str,
    *,
    tables: Tables,
    today: date,
    catalog: Catalog | None = None,
    own_prices: Iterable[OwnPrice] = (),
) -> Offers:
    """All that is known to sell a model: a row of the tables, or a name of the catalogue that they do not have."""
    catalog, own_prices = catalog or Catalog.bundled(), tuple(own_prices)
    name = _name(model, catalog, tables) if isinstance(model, str) else model.name
    rows = _with_own_prices(_market_rows(name, catalog, tables), own_prices)
    hosted = [offer for offer in _hosted(catalog) if _name(offer.name, catalog, tables) == name]
    priced = [(offer, _known_price(offer, rows.get(_place(offer)), own_prices, today)) for offer in hosted]
    found = [price for _, price in priced if price is not None]
    known = {_place(offer) for offer in hosted}
    found += [row for place, row in rows.items() if place not in known]
    sold = sorted(
        (price for price in found if is_sold(price, today)),
        key=lambda price: price.input_usd_per_mtok + price.output_usd_per_mtok,
    )
    everywhere = {price.provider for price in sold if price.region is None}
    # The dearer regions of a seller: a price that counts only where data must stay there.
    regional = [price for price in sold if price.region is not None and price.provider in everywhere]
    return Offers(
        tuple(price for price in sold if price not in regional),
        tuple(price for price in found if not is_sold(price, today)),
        tuple(offer.target for offer, price in priced if price is None),
        tuple(Apart(price, f"in {price.region} alone") for price in regional),
    )


def like_for_like(offers: Offers, *, precision: str | None, tokens_per_request: float) -> Offers:
    """The same with offers set apart that do less than a machine of that precision, or do not hold a request."""
    kept, apart = [], []
    for price in offers.current:
        reason = _difference(price, precision, tokens_per_request)
        if reason is None:
            kept.append(price)
        else:
            apart.append(Apart(price, reason))
    return replace(offers, current=tuple(kept), apart=(*apart, *offers.apart))


def _difference(price: ApiPrice, precision: str | None, tokens_per_request: float) -> str | None:
    if price.context_tokens is not None and price.context_tokens < tokens_per_request:
        return f"up to {price.context_tokens:,} tokens a request, yours have {tokens_per_request:,.0f}"
    theirs, own = bits_of(price.precision), bits_of(precision)
    # More bits than one's own do no less for the price: such an offer stays.
    if theirs is not None and own is not None and theirs < _FULL_BITS <= own:
        return f"weights in {price.precision}, yours in {precision}"
    return None


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
    catalog, own_prices = catalog or Catalog.bundled(), tuple(own_prices)
    provider, _, model_id = target.partition("/")
    offer = catalog.offer(provider, model_id)
    if offer is not None:
        if not offer.is_served(today):
            retired = catalog.explain_retirement(provider, model_id, today)
            raise invalid("api", f"{retired}; give api_input and api_output to calculate with its old price")
        name = _name(offer.name, catalog, tables)
        row = _market_rows(name, catalog, tables).get(_place(offer))
        price = _known_price(offer, row, own_prices, today)
        if price is None:
            raise invalid("api", f"no price known for {target}; give api_input and api_output")
    else:
        price, name = _market_price(target, model, catalog, tables, today)
        price = _own_of_market(price, own_prices) or price
    return price if model is not None and name == model.name else replace(price, is_same_model=False)


def _market_price(
    target: str, model: Architecture | None, catalog: Catalog, tables: Tables, today: date
) -> tuple[ApiPrice, str]:
    """The market's price of a `seller/id`, and the name of its model."""
    seller, _, model_id = target.partition("/")
    place = _plain(seller), model_id.lower()
    rows = [(row.price, _name(row.model, catalog, tables)) for row in market.all_offers()]
    # Of the regions of one offer, the price that holds everywhere, else the cheapest: it comes last.
    rows.sort(key=lambda row: (row[0].region is None, -row[0].input_usd_per_mtok - row[0].output_usd_per_mtok))
    named = {f"{price.provider}/{price.model}": (price, name) for price, name in rows if is_sold(price, today)}
    for price, name in named.values():
        if (_plain(price.provider), price.model.lower()) == place:
            return price, name
    ended = [price for price, _ in rows if (_plain(price.provider), price.model.lower()) == place]
    if ended:
        gone = f"{ended[0].provider} does not sell {ended[0].model} since {ended[0].available_until}"
        raise invalid("api", f"{gone}; give api_input and api_output to calculate with its old price")
    served = [offer.target for offer in _hosted(catalog) if offer.is_served(today)]
    # Without a near one, a list of all would be no help.
    few = served if model is None else [known for known, (_, name) in named.items() if name == model.name]
    # Of a seller that is known, all that it sells of the model, else of any.
    theirs = [known for known in named if _plain(known.partition("/")[0]) == place[0]]
    few = [known for known in few if known in theirs] or theirs or few
    everything = [*served, *named]
    raise unknown("api", target, everything if nearest(target.lower(), everything) else few or served)


def sold_offers(*, today: date, catalog: Catalog | None = None) -> Iterator[tuple[str, ApiPrice]]:
    """Every priced offer that is sold on a day, of whichever model, with the model's name."""
    catalog, tables = catalog or Catalog.bundled(), Tables.bundled()
    models = [*market.models(), *(offer.name for offer in _hosted(catalog))]
    for name in dict.fromkeys(_name(model, catalog, tables) for model in models):
        for price in offers_of(name, tables=tables, today=today, catalog=catalog).current:
            yield name, price


def _hosted(catalog: Catalog) -> list[Offer]:
    return [offer for offer in catalog.all_offers if offer.provider_kind not in _LOCAL_KINDS]


def _market_rows(name: str, catalog: Catalog, tables: Tables) -> dict[tuple[str, ...], ApiPrice]:
    """The market's prices of a model, by seller and id, under whichever of its names it is listed."""
    return {
        (_plain(row.price.provider), row.price.model.lower(), *filter(None, [row.price.region])): row.price
        for listed in market.models()
        if _name(listed, catalog, tables) == name
        for row in market.offers(listed)
    }


def _with_own_prices(
    rows: dict[tuple[str, ...], ApiPrice], own_prices: Iterable[OwnPrice]
) -> dict[tuple[str, ...], ApiPrice]:
    """The market's prices, and the user's own in their place; a region keeps its own beside one for everywhere."""
    return {
        place: price if len(place) > 2 and place[:2] in rows else _own_of_market(price, own_prices) or price
        for place, price in rows.items()
    }


def _own_of_market(price: ApiPrice, own_prices: Iterable[OwnPrice]) -> ApiPrice | None:
    """The user's own price of a market's offer, without the terms of the listed one; None: there is none."""
    place = _plain(price.provider), price.model.lower()
    for own in own_prices:
        provider, _, model_id = own.target.partition("/")
        if (_plain(provider), model_id.lower()) == place:
            return ApiPrice(
                provider=price.provider,
                model=price.model,
                **_usual(own),
                available_until=price.available_until,
                precision=price.precision,
                region=price.region,
                context_tokens=price.context_tokens,
                source="the configuration",
            )
    return None


def _place(offer: Offer) -> tuple[str, ...]:
    return _plain(offer.provider_kind), offer.id.lower()


def _plain(seller: str) -> str:
    return re.sub(r"[\W_]", "", seller).lower()


def _usual(price: OwnPrice | ListPrice) -> dict[str, Any]:
    """The prices of tokens without a tier, as an `ApiPrice` names them."""
    cached = price.cached_usd_per_mtok
    return {
        "input_usd_per_mtok": float(price.input_usd_per_mtok),
        "output_usd_per_mtok": float(price.output_usd_per_mtok),
        "cached_usd_per_mtok": None if cached is None else float(cached),
    }


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
        **_usual(price),
        available_until=offer.deprecated_on,
        context_tokens=offer.context_tokens,
        source=listed.source if listed else "the configuration",
        as_of=listed.checked_on if listed else None,
        unverified="; ".join(doubts) or None,
    )


def _known_price(offer: Offer, row: ApiPrice | None, own_prices: Iterable[OwnPrice], today: date) -> ApiPrice | None:
    """The price of an offer of the catalogue: its own, else the market's; None: neither is known."""
    price = _priced(offer, own_prices, today)
    if price is not None:
        return _completed(price, row)
    if row is None:
        return None
    row = _own_of_market(row, own_prices) or row
    # Of two days, the earlier: it is not sold afterwards.
    return replace(row, available_until=min(filter(None, (offer.deprecated_on, row.available_until)), default=None))


def _completed(price: ApiPrice, row: ApiPrice | None) -> ApiPrice:
    """The catalogue's price with what the market knows beside it; the user's own price keeps its terms."""
    if row is None:
        return price
    context = price.context_tokens or row.context_tokens
    facts = replace(price, precision=row.precision, region=row.region, context_tokens=context)
    if price.as_of is None:
        return facts
    return replace(
        facts,
        tiers=row.tiers,
        batch_input_usd_per_mtok=row.batch_input_usd_per_mtok,
        batch_output_usd_per_mtok=row.batch_output_usd_per_mtok,
    )


def _name(name: str, catalog: Catalog, tables: Tables) -> str:
    """The name in the tables of a model of the catalogue or the market, else the canonical name of the catalogue."""
    found = tables.find_model(name) or catalog.find(name)
    return name.lower() if found is None else found.name
