"""What a report says of offers: where there is none, those that are no like for like, and the cheapest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

from llama_client.crossover import market
from llama_client.crossover.economics import usd_per_mtok
from llama_client.crossover.format import counted, figure, iso_day

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.evaluation import Crossover
    from llama_client.crossover.scenario import ApiPrice

SOLD_OTHERWISE = ("Sold otherwise, not compared", ("seller", "input", "output", "why"))
# A report lists so many of the APIs that it compares with; the JSON document has all.
_MAX_APIS_SHOWN = 5
_MAX_APART_SHOWN = 8


def absence(crossover: Crossover, model: str) -> str:
    """The beginning of a sentence: why there is no API to compare with."""
    if crossover.scenario.apis is not None and not crossover.scenario.apis:
        return "No API is given"
    if crossover.scenario.apis is not None:
        return f"None of the given APIs sells {model} today"
    apart = len(crossover.resolved.apart)
    if apart:
        others = "offer is" if apart == 1 else "offers are"
        return f"No like-for-like offer of {model} is known: {apart} {others} listed apart"
    none = market.absence(crossover.today)
    return f"{none[0].upper()}{none[1:]} has {model}"


def no_longer_sold_by(crossover: Crossover) -> list[str]:
    """The sellers that no longer have the model, each with the day of its end, as in `Groq (2026-08-16)`."""
    sells = {api.provider for api in crossover.plan.apis}
    ends = {api.provider: api.available_until for api in sorted(crossover.resolved.ended, key=_end)}
    return [f"{seller} ({day})" for seller, day in ends.items() if seller not in sells]


def _end(price: ApiPrice) -> date:
    return price.available_until or date.min


def apart_rows(crossover: Crossover) -> list[list[str]]:
    """The rows of `SOLD_OTHERWISE`, cheapest first."""
    apart = sorted(crossover.resolved.apart, key=lambda each: usd_per_mtok(each.price, crossover.plan))
    rows = [[each.price.name, *_prices(each.price), each.reason] for each in apart[:_MAX_APART_SHOWN]]
    more = len(apart) - len(rows)
    return [*rows, [f"{counted(more, 'dearer offer')}", "", "", ""]] if more else rows


def shown_assumptions(crossover: Crossover) -> Iterator[Assumption]:
    """All assumptions, but of many APIs only the cheapest ones."""
    apis = sorted(crossover.plan.apis, key=lambda api: usd_per_mtok(api, crossover.plan))
    hidden = {f"api: {api.name}" for api in apis[_MAX_APIS_SHOWN:]}
    hidden -= {f"api: {api.name}" for api in apis[:_MAX_APIS_SHOWN]}
    yield from (each for each in crossover.assumptions if each.name not in hidden)


def dearer_row(crossover: Crossover) -> list[list[str]]:
    """A row for the APIs that `shown_assumptions` leaves out; empty: there is none."""
    more = len(crossover.plan.apis) - _MAX_APIS_SHOWN
    return [["dearer APIs", f"{more} more", "in the JSON document", ""]] if more > 0 else []


def as_documents(crossover: Crossover) -> dict[str, Any]:
    """All that is sold today: what was compared, cheapest first, and what was not, with the reason."""
    apis = sorted(crossover.plan.apis, key=lambda api: usd_per_mtok(api, crossover.plan))
    return {
        "apis": [_document(api, crossover) for api in apis],
        "apart_apis": [_document(each.price, crossover) | {"reason": each.reason} for each in crossover.resolved.apart],
    }


def prices_as_of(crossover: Crossover) -> str:
    """The day of the compared prices, or of the table where there are none."""
    checked = market.checked_on(crossover.plan.apis)
    if checked is not None:
        return f"The compared prices were last confirmed on {checked} or later."
    return f"The table of sellers was last checked on {market.last_checked()}."


def _prices(price: ApiPrice) -> tuple[str, str]:
    return f"${figure(price.input_usd_per_mtok)}", f"${figure(price.output_usd_per_mtok)}"


def _document(price: ApiPrice, crossover: Crossover) -> dict[str, Any]:
    facts = asdict(price) | {"name": price.name, "usd_per_mtok": usd_per_mtok(price, crossover.plan)}
    return facts | {name: iso_day(facts[name]) for name in ("as_of", "available_until")}
