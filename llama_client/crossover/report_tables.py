"""The tables of a report, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.crossover.format import counted, figure, in_words, share, tokens, usd
from llama_client.crossover.headline import machine
from llama_client.crossover.offers_report import SOLD_OTHERWISE, apart_rows, dearer_row, shown_assumptions

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.evaluation import Crossover
    from llama_client.crossover.report import CrossoverReport
    from llama_client.crossover.sensitivity import BreakEven

_MAX_MACHINES_SHOWN = 5
_BREAK_EVENS = {
    "gpu_usd_per_hour": "a GPU for {} an hour",
    "api price": "an API price of {} per million tokens",
    "ops_usd_per_month": "staff for {} a month",
    "tokens_per_second": "{} tokens/s from a replica",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text; the first cell of a row is its name."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


def tables(text: CrossoverReport, crossover: Crossover, others: Sequence[Crossover] = ()) -> list[Table]:
    rests_on = [_row(each, crossover) for each in shown_assumptions(crossover)] + dearer_row(crossover)
    found = [
        _volumes_table(text),
        _machines_table(others),
        Table(*SOLD_OTHERWISE, apart_rows(crossover)),
        Table(
            "Where both would cost the same",
            ["each figure on its own"],
            [[break_even_in_words(each)] for each in text.break_evens],
        ),
        _swings_table(text, crossover),
        Table("Beside the answer", ["no part of it"], [[note] for note in text.beside]),
        Table("What it rests on", ["figure", "value", "source", "age"], rests_on),
    ]
    return [table for table in found if table.rows]


def break_even_in_words(found: BreakEven) -> str:
    at, now = (usd(value) if found.unit.startswith("USD") else figure(value) for value in (found.at, found.now))
    if found.name == "tokens_per_second":
        at, now = figure(round(found.at)), figure(round(found.now))
    template = _BREAK_EVENS.get(found.name, f"{in_words(found.name)} of {{}}")
    return f"{template.format(at)} (now {now})"


def _volumes_table(text: CrossoverReport) -> Table:
    rows = [
        [
            tokens(row.tokens_per_day),
            row.what,
            f"{row.replicas:,}",
            *("-" if amount is None else usd(amount) for amount in (row.self_host_usd, row.api_usd, row.hybrid_usd)),
            "" if row.probability is None else share(row.probability),
        ]
        for row in text.volumes
    ]
    columns = ["tokens/day", "", "replicas", "own", "API", "mix", "own wins"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table("What a month costs", columns, rows)


def _machines_table(others: Sequence[Crossover]) -> Table:
    rows = [
        [
            machine(each),
            figure(round(each.plan.tokens_per_second)),
            usd(each.plan.gpu_usd_per_hour if each.plan.owned is None else each.plan.owned.usd_per_gpu),
            _cheaper_from(each),
        ]
        for each in others[:_MAX_MACHINES_SHOWN]
    ]
    price = "a GPU" if others and others[0].plan.owned is not None else "a GPU-hour"
    return Table(
        "Other machines, next cheapest first", ["replica", "tokens/s", price, "cheaper from, as assumed"], rows
    )


def _cheaper_from(crossover: Crossover) -> str:
    if not crossover.plan.apis:
        return "-"
    first = crossover.first_crossing
    return "never" if first is None else f"{tokens(first)} a day" if first else "the first token"


def _swings_table(text: CrossoverReport, crossover: Crossover) -> Table:
    at = tokens(crossover.reference_volume)
    stated = {each.name: share(each.probability) for each in text.stated}
    rows = [
        [
            in_words(swing.name),
            *(figure(bound) for bound in (swing.low, swing.high)),
            *(usd(cost) for cost in (swing.usd_per_mtok_at_low, swing.usd_per_mtok_at_high)),
            *([stated.get(swing.name, "not drawn")] if stated else []),
        ]
        for swing in text.swings
    ]
    heading = f"What is assumed, and what a million of your own costs then at {at} tokens a day"
    columns = ["figure", "from", "to", "own costs", "to", *(["own wins if stated"] if stated else [])]
    return Table(heading, columns, rows)


def _row(each: Assumption, crossover: Crossover) -> list[str]:
    name = each.name if each.name.startswith("api: ") else in_words(each.name)
    sources = [each.source, each.rung or "", f"unverified: {each.unverified}" if each.unverified else ""]
    return [name, f"{figure(each.value)} {each.unit}".strip(), "; ".join(filter(None, sources)), _age(each, crossover)]


def _age(each: Assumption, crossover: Crossover) -> str:
    if each.is_given:
        return "stated"
    days = each.age_days(crossover.today)
    if days is None:
        return "assumed" if each.is_judgement else "undated"
    if days < 0:
        return f"{counted(-days, 'day')} later"
    return f"{counted(days, 'day')}{', old' if each.is_stale(crossover.today) else ''}"
