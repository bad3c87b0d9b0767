"""The traffic that the ledger holds: how many tokens a day, of which kind, and how unevenly over the hours.

Reads the table in its own order, once by hour and once by label: no index holds what is asked for, and a million rows
take a second without one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, not_, select

from llama_client.costs.storage import attempts, labels, unrecorded
from llama_client.types.report import BENCH_TAG, TargetTraffic, TrafficReport

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.sql.elements import ColumnElement

_US = 1_000_000
_HOUR_US = 3600 * _US
_HOURS_A_DAY = 24
# As long as the ledger keeps rows by default; so much memory, and no more, is taken by the hours.
MAX_HOURS = 400 * _HOURS_A_DAY


@dataclass(frozen=True, slots=True)
class TrafficFilter:
    """Which calls are looked at.

    Attributes:
        since: From when on, in seconds since the Unix epoch; None: from the beginning.
        models: The ids of one model, as providers write them; None: of all.
        target: `provider/model`; None: all.
    """

    since: float | None = None
    models: frozenset[str] | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class _Hour:
    """What was answered of the calls that began in one hour."""

    calls: int
    input_tokens: int
    output_tokens: int


@dataclass(slots=True)
class _Kinds:
    """What is added up of the period as a whole."""

    targets: dict[str, TargetTraffic]
    cached_tokens: int | None = None
    input_tokens_of_tellers: int = 0
    estimated_calls: int = 0


def traffic(connection: Connection, wanted: TrafficFilter) -> TrafficReport:
    """Adds up the answered calls.

    Args:
        connection: To the ledger's database.
        wanted: Which calls.
    """
    where = _conditions(connection, wanted)
    hours, older_calls = _hours(connection, where)
    report = TrafficReport()
    if hours:
        first, last = min(hours), max(hours)
        # Where the condition leaves nothing out, it would only make the database go by way of its index.
        of_period = [*where, attempts.c.at_us >= first * _HOUR_US] if older_calls else where
        report = _report(hours, _kinds(connection, of_period)).model_copy(
            update={
                "first_call_at": _edge(connection, where, first, func.min),
                "last_call_at": _edge(connection, where, last, func.max),
            }
        )
    lost = _unrecorded(connection, wanted.since)
    return report.model_copy(update={"unrecorded_calls": lost, "older_calls": older_calls})


def ids_of_model(name: str) -> frozenset[str]:
    """Every id under which the catalogue knows a model, and the name itself, which may be somebody's own id."""
    from llama_client.catalog.catalog import Catalog

    catalog = Catalog.bundled()
    model = catalog.find(name)
    offers = catalog.ids(name) if model is None else catalog.offers(model.name)
    known = {offer.name for offer in offers}
    same = [offer.id for offer in catalog.all_offers if offer.name in known]
    names = [] if model is None else [model.name, *model.aliases]
    return frozenset([name, *names, *same])


def _conditions(connection: Connection, wanted: TrafficFilter) -> list[ColumnElement[bool]]:
    """Answered, wanted, and not only made to measure a server."""
    key, value = BENCH_TAG
    # As rows.py writes it: a quote within a tag would stand behind a backslash, so nothing else looks like this.
    tag = json.dumps({key: value})[1:-1]
    who: list[ColumnElement[bool]] = [~labels.c.tags.contains(tag, autoescape=True)]
    if wanted.target is not None:
        who.append(labels.c.target == wanted.target)
    if wanted.models is not None:
        # Ollama's ids may be written with or without the tag that is meant anyway.
        written = wanted.models | {f"{each}:latest" for each in wanted.models if ":" not in each}
        who.append(labels.c.model.in_(sorted(written)))
    where: list[ColumnElement[bool]] = [attempts.c.outcome == "ok"]
    # Looking each row's label up would take a fifth longer, and mostly finds that all are wanted.
    if connection.execute(select(labels.c.id).where(not_(and_(*who))).limit(1)).first() is not None:
        where.append(attempts.c.label_id.in_(select(labels.c.id).where(*who)))
    if wanted.since is not None:
        where.append(attempts.c.at_us >= round(wanted.since * _US))
    return where


def _hours(connection: Connection, where: Sequence[ColumnElement[bool]]) -> tuple[Mapping[int, _Hour], int]:
    """The hours that had calls, by their number since the Unix epoch, and how many calls were too long ago."""
    hour = attempts.c.at_us.op("/")(_HOUR_US).label("hour")
    sums = (func.count(), func.sum(attempts.c.input_tokens), func.sum(attempts.c.output_tokens))
    query = select(hour, *sums).where(*where).group_by(hour).order_by(hour.desc())
    hours: dict[int, _Hour] = {}
    older_calls, last = 0, None
    for number, calls, input_tokens, output_tokens in connection.execute(query):
        last = number if last is None else last
        if number > last - MAX_HOURS:
            hours[number] = _Hour(calls, int(input_tokens or 0), int(output_tokens or 0))
        else:
            older_calls += calls
    return hours, older_calls


def _kinds(connection: Connection, where: Sequence[ColumnElement[bool]]) -> _Kinds:
    row = attempts.c
    by_label = (
        select(
            row.label_id,
            func.count(),
            func.sum(row.input_tokens),
            func.sum(row.output_tokens),
            func.sum(row.cached_tokens),
            func.sum(row.input_tokens).filter(row.cached_tokens.is_not(None)),
            func.sum(row.tokens_are_estimated),
        )
        .where(*where)
        .group_by(row.label_id)
    )
    names = {each.id: each.target for each in connection.execute(select(labels.c.id, labels.c.target))}
    kinds = _Kinds({})
    for label, calls, input_tokens, output_tokens, cached, of_tellers, estimated in connection.execute(by_label):
        name = names.get(label, "")
        before = kinds.targets.get(name) or TargetTraffic(target=name, calls=0, input_tokens=0, output_tokens=0)
        kinds.targets[name] = TargetTraffic(
            target=name,
            calls=before.calls + calls,
            input_tokens=before.input_tokens + int(input_tokens or 0),
            output_tokens=before.output_tokens + int(output_tokens or 0),
        )
        if cached is not None:
            kinds.cached_tokens = (kinds.cached_tokens or 0) + int(cached)
            kinds.input_tokens_of_tellers += int(of_tellers or 0)
        kinds.estimated_calls += int(estimated)
    return kinds


def _edge(
    connection: Connection,
    where: Sequence[ColumnElement[bool]],
    hour: int,
    which: Callable[[ColumnElement[int]], ColumnElement[int]],
) -> datetime:
    at_us = attempts.c.at_us
    within = (at_us >= hour * _HOUR_US, at_us < (hour + 1) * _HOUR_US)
    found: int = connection.execute(select(which(at_us)).where(*where, *within)).scalar_one()
    return datetime.fromtimestamp(found / _US, tz=UTC)


def _report(hours: Mapping[int, _Hour], kinds: _Kinds) -> TrafficReport:
    calls = sum(hour.calls for hour in hours.values())
    read = sum(hour.input_tokens for hour in hours.values())
    written = sum(hour.output_tokens for hour in hours.values())
    first = min(hours)
    length = max(max(hours) - first + 1, _HOURS_A_DAY)
    period = [hours.get(first + offset) for offset in range(length)]
    hourly = tuple(0 if hour is None else hour.input_tokens + hour.output_tokens for hour in period)
    tokens, days = read + written, length / _HOURS_A_DAY
    targets = sorted(kinds.targets.values(), key=lambda each: (-each.input_tokens - each.output_tokens, each.target))
    return TrafficReport(
        calls=calls,
        days=days,
        tokens_per_day=tokens / days,
        input_tokens=read,
        output_tokens=written,
        cached_tokens=kinds.cached_tokens,
        input_share=_share(read, tokens),
        output_share=_share(written, tokens),
        cached_share=_share(kinds.cached_tokens or 0, kinds.input_tokens_of_tellers),
        mean_input_tokens=read / calls,
        mean_output_tokens=written / calls,
        peak_to_mean=_share(max(hourly) * length, tokens),
        hourly_tokens=hourly,
        hourly_output_tokens=tuple(0 if hour is None else hour.output_tokens for hour in period),
        targets=targets,
        estimated_calls=kinds.estimated_calls,
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _unrecorded(connection: Connection, since: float | None) -> int:
    query = select(func.sum(unrecorded.c.calls))
    if since is not None:
        query = query.where(unrecorded.c.at_us >= round(since * _US))
    return int(connection.execute(query).scalar() or 0)
