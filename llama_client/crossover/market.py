"""The market: who sells which open-weights model by the token, and for how much; the rows of `data/market.csv`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources

from llama_client.crossover.scenario import ApiPrice, PriceTier


@dataclass(frozen=True, slots=True)
class MarketOffer:
    """One row of the table: a model, and a seller's price of it."""

    model: str
    price: ApiPrice


def models() -> tuple[str, ...]:
    """The names of the models that the table has."""
    return tuple(_rows())


def offers(model: str) -> tuple[MarketOffer, ...]:
    """The offers of a model, ended ones too, as the table has them; empty: none is known."""
    return tuple(_offer(row) for row in _rows().get(model, ()))


def all_offers() -> Iterator[MarketOffer]:
    """Every row of the table."""
    for model in _rows():
        yield from offers(model)


def sellers(day: date) -> tuple[str, ...]:
    """The sellers of any model of the table on a day."""
    sold = (row for row in _all_rows() if not row["retires"] or row["retires"] > day.isoformat())
    return tuple(sorted({row["seller"] for row in sold}))


def last_checked() -> date:
    """The last day on which the table was compared with its sources."""
    return date.fromisoformat(max(row["last_confirmed"] for row in _all_rows()))


def absence(day: date) -> str:
    """What is known where no offer is, as in `none of the 31 sellers listed here (checked 2026-11-23)`."""
    return f"none of the {len(sellers(day))} sellers listed here (checked {last_checked()})"


def checked_on(prices: Iterable[ApiPrice]) -> date | None:
    """The day until which all prices were confirmed: the oldest of their days; None: none of them has one."""
    return min((price.as_of for price in prices if price.as_of is not None), default=None)


@cache
def _rows() -> Mapping[str, list[dict[str, str]]]:
    """The rows as text, by model, read once; they become prices when a model is asked for."""
    import csv

    text = resources.files("llama_client.crossover.data").joinpath("market.csv").read_text(encoding="utf-8")
    found: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        found.setdefault(row["model"], []).append(row)
    return found


def _all_rows() -> Iterator[dict[str, str]]:
    for found in _rows().values():
        yield from found


def _offer(row: Mapping[str, str]) -> MarketOffer:
    price = ApiPrice(
        provider=row["seller"],
        model=row["id"],
        input_usd_per_mtok=float(row["input"]),
        output_usd_per_mtok=float(row["output"]),
        cached_usd_per_mtok=_number(row["cached"]),
        # The table has the whole price of a written token, a comparison what it costs on top.
        cache_write_usd_per_mtok=max(0.0, (_number(row["cache_write"]) or 0.0) - float(row["input"])),
        batch_input_usd_per_mtok=_number(row["batch_input"]),
        batch_output_usd_per_mtok=_number(row["batch_output"]),
        tiers=tuple(_tiers(row)),
        available_until=_day(row["retires"]),
        precision=row["precision"] or None,
        region=row["region"] or None,
        context_tokens=int(row["context_tokens"]) if row["context_tokens"] else None,
        source=row["source"],
        as_of=_day(row["last_confirmed"]),
        unverified=row["unverified"] or None,
    )
    return MarketOffer(row["model"], price)


def _tiers(row: Mapping[str, str]) -> Iterator[PriceTier]:
    if row["flex_input"]:
        yield PriceTier(
            kind="flex", input_usd_per_mtok=float(row["flex_input"]), output_usd_per_mtok=float(row["flex_output"])
        )
    if row["off_peak_input"]:
        yield PriceTier(
            kind="off_peak",
            input_usd_per_mtok=float(row["off_peak_input"]),
            output_usd_per_mtok=float(row["off_peak_output"]),
            utc_windows=tuple(row["off_peak_utc"].split()),
        )


def _number(text: str) -> float | None:
    return float(text) if text else None


def _day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None
