"""The tables of a report, as text: the terminal prints them, and the page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.crossover.amounts import figure, share, tokens, usd
from llama_client.crossover.report import Report, machine

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.evaluation import Crossover

_MAX_MACHINES = 5


@dataclass(frozen=True, slots=True)
class Table:
    """A table, all of it text.

    Attributes:
        heading: What stands above it.
        columns: Their names.
        rows: With a cell for each column, the row's name first.
        caption: What else there is to say.
    """

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


def volumes(told: Report) -> Table:
    """What both sides cost a month at the volumes that matter."""
    drawn = any(row.probability is not None for row in told.volumes)
    rows = []
    for row in told.volumes:
        likely = "" if row.probability is None else share(row.probability)
        cells = [
            tokens(row.tokens_per_day),
            row.what,
            f"{row.replicas:,}",
            *map(_money, (row.self_host_usd, row.api_usd, row.hybrid_usd)),
        ]
        rows.append([*cells, *([likely] if drawn else [])])
    columns = ["tokens/day", "", "replicas", "own", "API", "mix", *(["own wins"] if drawn else [])]
    return Table("What a month costs", columns, rows)


def machines(others: Sequence[Crossover]) -> Table | None:
    """Other machines for the same; None: only one was asked for."""
    if not others:
        return None
    rows = [
        [
            machine(each),
            figure(round(each.plan.tokens_per_second)),
            usd(each.plan.gpu_usd_per_hour),
            "never" if each.first_crossing is None else f"{tokens(each.first_crossing)} a day",
        ]
        for each in others[:_MAX_MACHINES]
    ]
    return Table("Other machines, next cheapest first", ["replica", "tokens/s", "a GPU-hour", "cheaper from"], rows)


def swings(crossover: Crossover) -> Table | None:
    """What each uncertain figure changes on its own; None: all are given."""
    found = crossover.swings()
    if not found:
        return None
    rows = []
    for swing in found:
        bounds = [figure(swing.low), figure(swing.high)]
        rows.append([_words(swing.name), *bounds, usd(swing.usd_per_mtok_at_low), usd(swing.usd_per_mtok_at_high)])
    at = tokens(crossover.reference_volume)
    heading = f"What matters at {at} tokens a day, and what a million of your own costs then"
    return Table(heading, ["figure", "from", "to", "own costs", "to"], rows)


def assumptions(crossover: Crossover) -> Table:
    """What all of it rests on, with sources and ages."""
    rows = [
        [_words(each.name), f"{figure(each.value)} {each.unit}".strip(), _source(each, crossover)]
        for each in crossover.assumptions
    ]
    return Table("What it rests on", ["figure", "value", "source"], rows)


def _money(amount: float | None) -> str:
    return "-" if amount is None else usd(amount)


def _words(name: str) -> str:
    return name if name.startswith("api: ") else name.replace("_", " ")


def _source(each: Assumption, crossover: Crossover) -> str:
    parts = [each.source]
    if each.rung:
        parts.append(each.rung)
    if each.as_of is not None:
        stale = ", older than 60 days" if each.is_stale(crossover.today) else ""
        parts.append(f"{each.as_of}{stale}")
    if each.unverified:
        parts.append(f"unverified: {each.unverified}")
    return "; ".join(parts)
