"""What calls cost: whether a price is known for each target, and how old it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llama_client.costs.opening import price_book
from llama_client.costs.prices import STALE_AFTER_DAYS, HourPrice, TokenPrice
from llama_client.costs.windows import Calendar
from llama_client.doctor.findings import Fact, Finding, Status
from llama_client.errors import LlamaClientError
from llama_client.privacy import is_this_machine

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.costs.prices import Price
    from llama_client.doctor.targets import TargetState
    from llama_client.providers.registry import Providers


def price_findings(config: Config, providers: Providers, states: Sequence[TargetState]) -> Iterator[Finding]:
    """The price of each target that somebody is paid for.

    Args:
        config: The configuration.
        providers: Who there is.
        states: The targets that the configuration names.
    """
    calendar = Calendar(config.timezone)
    at = providers.clock.wall()
    book = price_book(config, calendar, providers)
    refuses = any(b.on_unpriced == "refuse" and b.on_exceeded != "warn" for b in config.budgets)
    for state in states:
        try:
            is_free = providers.get(state.provider).is_free(state.model)
        except LlamaClientError:
            continue
        price = book.price(state.provider, state.model, at, is_free=is_free)
        if price is not None and price.is_nothing:
            continue
        row = providers.list_prices.of(providers.kind(state.provider), state.model, calendar.day(at))
        age_days = None if row is None else (calendar.day(at) - row.checked_on).days
        if price is None:
            yield _unknown(state, providers, refuses=refuses)
        else:
            yield _known(state.name, price, age_days)


def _unknown(state: TargetState, providers: Providers, *, refuses: bool) -> Finding:
    message = "nobody knows its price, so what calls cost is unknown"
    status: Status = "problem" if refuses else "warning"
    if refuses:
        message += ", and a budget refuses them (on_unpriced)"
    elif is_this_machine(urlsplit(providers.url(state.provider) or "").hostname or ""):
        status = "info"
    remedy = _own_price(state.name)
    if providers.kind(state.provider) == "openai":
        remedy += f" Or, of a machine of your own, providers.{state.provider}.usd_per_hour."
    return Finding("price", "money", state.name, status, message, remedy)


def _own_price(target: str) -> str:
    return f'Give its price: [[prices]] with target = "{target}", input_usd_per_mtok and output_usd_per_mtok.'


def _known(target: str, price: Price, age_days: int | None) -> Finding:
    facts: dict[str, Fact] = {"source": price.origin.source}
    if isinstance(price, HourPrice):
        facts["usd_per_hour"] = f"{price.usd_per_hour:f}"
        return Finding("price", "money", target, "ok", f"${price.usd_per_hour:f} an hour of the machine", facts=facts)
    doubt = f"; in doubt: {price.origin.doubt}" if price.origin.doubt else ""
    if not isinstance(price, TokenPrice):
        return Finding("price", "money", target, "ok", f"priced by {price.origin.source}{doubt}", facts=facts)
    facts |= {
        "input_usd_per_mtok": f"{price.input_usd_per_mtok:f}",
        "output_usd_per_mtok": f"{price.output_usd_per_mtok:f}",
    }
    told = f"${price.input_usd_per_mtok:f} in and ${price.output_usd_per_mtok:f} out per million tokens"
    if price.origin.source == "the configuration" or age_days is None:
        return Finding("price", "money", target, "ok", f"{told}, by your own [[prices]]", facts=facts)
    facts["age_days"] = age_days
    told = f"{told}, checked {_ago(age_days)}{doubt}"
    if age_days > STALE_AFTER_DAYS:
        return Finding(
            "price", "money", target, "warning", told, f"Install a newer llama-client. Or: {_own_price(target)}", facts
        )
    return Finding("price", "money", target, "ok", told, facts=facts)


def _ago(days: int) -> str:
    return "today" if days <= 0 else "yesterday" if days == 1 else f"{days} days ago"
