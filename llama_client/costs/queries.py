"""Queries over the ledger: reports and traffic."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, and_, func, literal, not_, select
from sqlalchemy.exc import OperationalError

from llama_client.costs.database import attempts, labels, spending, unrecorded
from llama_client.costs.ledger import (
    CACHED,
    CALL,
    ERROR,
    PROVIDER,
    TARGET,
    UNPRICED_CALL,
    UNPRICED_PROVIDER,
    UNPRICED_TARGET,
)
from llama_client.costs.measured import MeasuredRate, measured_rate
from llama_client.costs.money import CALENDAR_WINDOWS, from_pico
from llama_client.types.report import (
    BENCH_TAG,
    BudgetState,
    CostGroup,
    CostReport,
    DayCosts,
    TargetTraffic,
    TrafficReport,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.sql.elements import ColumnElement

    from llama_client.config.tables import BudgetTable
    from llama_client.costs.money import Calendar

_US = 1_000_000
# The last days of the year 9999, beyond which Python has no dates.
_END_OF_TIME_US = 253_402_000_000 * _US
# A sum above nine million dollars does not fit into SQLite's 64 bits; then two halves are summed.
_HALF = 1_000_000
# The bits of `counts` that count a call and an unpriced call, where a call may have attempts in several groups.
_LEVELS = {"provider": (PROVIDER, UNPRICED_PROVIDER), "target": (TARGET, UNPRICED_TARGET)}
_WHOLE = (CALL, UNPRICED_CALL)
# Calls, unpriced calls, errors, the upper and lower half of pico-dollars, input tokens, output tokens, answers from the
# cache, and the pico-dollars that these had cost.
_SUMS = 9
_HOUR_US = 3600 * _US
_HOURS_A_DAY = 24
# As long as the ledger keeps rows by default; it bounds the memory for the hours.
MAX_HOURS = 400 * _HOURS_A_DAY


class Reports:
    def __init__(self, connection: Connection, calendar: Calendar, now: float) -> None:
        self._connection = connection
        self._calendar = calendar
        self._now = now
        self._labels: dict[int, Any] | None = None

    def report(self, since: float | None, by: str) -> CostReport:
        total, groups = [0] * _SUMS, defaultdict[str, list[int]](lambda: [0] * _SUMS)
        for key, row, whole_calls in self._rows(since, by):
            _add(groups[key], row)
            _add(total, (*whole_calls, *row[2:]))
        whole = _group("", total)
        return CostReport(
            total_usd=whole.usd,
            calls=whole.calls,
            unpriced_calls=whole.unpriced_calls,
            unrecorded_calls=unrecorded_calls(self._connection, since),
            cached_calls=whole.cached_calls,
            saved_usd=whole.saved_usd,
            groups=[_group(key, sums) for key, sums in groups.items()] if by == "day" else _ranked(groups),
        )

    def attempts(self) -> Sequence[Any]:
        """Every attempt with what it is grouped by, in the order in which they were recorded."""
        query = select(attempts, labels).join(labels, labels.c.id == attempts.c.label_id).order_by(attempts.c.id)
        return self._connection.execute(query).all()

    def by_day(self, since: float | None, by: str) -> list[DayCosts]:
        found = []
        for day, start, end in self._days(since):
            groups = defaultdict[str, list[int]](lambda: [0] * _SUMS)
            for label_id, *row, _, _ in self._sums_by_label(start, end, by):
                _add(groups[self._key(label_id, by)], row)
            # Of a target that was only ever skipped there is none.
            if ranked := _ranked(groups):
                found.append(DayCosts(day=day, groups=ranked))
        return found

    def budgets(self, tables: Iterable[BudgetTable]) -> list[BudgetState]:
        states = []
        for table in tables:
            span = self._calendar.span(table.window, self._now)
            rows = self._connection.execute(select(spending).where(spending.c.window_start == span.start))
            seen = {tuple(json.loads(row.budget)): (row.settled_pico, row.reserved_pico) for row in rows}
            mine = (table.scope, table.window)
            keys = [key for key in seen if key[:2] == mine] or ([] if table.scope.startswith("tag:") else [mine])
            for key in keys:
                spent_pico, reserved_pico = seen.get(key, (0, 0))
                states.append(
                    BudgetState(
                        budget=table.name_for(key[2] if len(key) > len(mine) else None),
                        usd=table.usd,
                        spent_usd=from_pico(spent_pico),
                        reserved_usd=from_pico(reserved_pico),
                        resets_at=span.ends_at,
                        on_exceeded=table.on_exceeded,
                    )
                )
        return states

    def other_windows(self, tables: Iterable[BudgetTable]) -> list[tuple[BudgetTable, int]]:
        """Budgets of which another time zone has begun a window that overlaps the current one, and its start."""
        found = []
        for table in tables:
            span = self._calendar.span(table.window, self._now)
            if table.window not in CALENDAR_WINDOWS or span.end is None:
                continue
            start = spending.c.window_start
            before = self._calendar.span(table.window, span.start - 1).start
            query = select(spending).where(start > before, start < span.end, start != span.start).order_by(start.desc())
            mine = [table.scope, table.window]
            others = (row.window_start for row in self._connection.execute(query) if json.loads(row.budget)[:2] == mine)
            other = next(others, None)
            if other is not None:
                found.append((table, int(other)))
        return found

    def traffic(self, since: float | None, model: str | None, target: str | None) -> TrafficReport:
        connection = self._connection
        where = [*_is_traffic(connection, model, target), *_within(_us(since))]
        hours, older_calls = _hours(connection, where)
        if older_calls:
            # Where nothing is older, the condition would only make the database go through its index.
            where.append(attempts.c.at_us >= min(hours) * _HOUR_US)
        report = _report(hours, _sums_of_labels(connection, where)) if hours else TrafficReport()
        lost = unrecorded_calls(connection, since)
        return report.model_copy(update={"unrecorded_calls": lost, "older_calls": older_calls})

    def measured(self, target: str) -> MeasuredRate | None:
        return measured_rate(self._connection, target, self._now)

    def _days(self, since: float | None) -> Iterable[tuple[date, int, int]]:
        """The days with rows. The others are skipped: a wrong clock may have written a row far from all others."""
        first_us = _us(since)
        while True:
            query = select(func.min(attempts.c.at_us)).where(*_within(first_us))
            at_us = self._connection.execute(query).scalar()
            if at_us is None:
                return
            at = moment_of(at_us).timestamp()
            day, span = self._calendar.day(at), self._calendar.span("day", at)
            assert span.end is not None
            yield day, max(span.start * _US, at_us), span.end * _US
            first_us = span.end * _US

    def _rows(self, since: float | None, by: str) -> Iterable[tuple[str, Sequence[Any], Sequence[Any]]]:
        """Keys, sums, and the calls and unpriced calls of the whole: a call with attempts in two groups is one call."""
        if by != "day":
            for label_id, *row, calls, unpriced in self._sums_by_label(_us(since), None, by):
                yield self._key(label_id, by), row, (calls, unpriced)
            return
        for day, start, end in self._days(since):
            within = _within(start, end)
            [(*row, rows)] = self._summed(lambda usd: select(*_columns(_WHOLE, usd), func.count()), within)
            if rows:
                saved = sum(self._saved(within).values()) if row[-1] else 0
                yield day.isoformat(), [*row, saved], row[:2]

    def _sums_by_label(self, start_us: int | None, end_us: int | None, by: str) -> Sequence[Any]:
        bits, label_id, whole = _LEVELS.get(by, _WHOLE), attempts.c.label_id, [_count(bit) for bit in _WHOLE]
        within = _within(start_us, end_us)
        rows = self._summed(lambda usd: select(label_id, *_columns(bits, usd), *whole).group_by(label_id), within)
        # Not in the index that the others are read from, and mostly there is none.
        saved = self._saved(within) if any(row[-len(whole) - 1] for row in rows) else {}
        return [(*row[: -len(whole)], saved.get(row[0], 0), *row[-len(whole) :]) for row in rows]

    def _saved(self, within: Sequence[ColumnElement[bool]]) -> dict[int, int]:
        """By label, what the answers from the cache had cost."""
        is_cached = attempts.c.counts.op("&")(CACHED) != 0
        query = select(attempts.c.label_id, func.sum(attempts.c.saved_usd_pico)).where(*within, is_cached)
        return {row[0]: int(row[1] or 0) for row in self._connection.execute(query.group_by(attempts.c.label_id))}

    def _summed(
        self, query: Callable[[Sequence[Any]], Select[Any]], where: Sequence[ColumnElement[bool]]
    ) -> Sequence[Any]:
        usd = attempts.c.usd_pico
        try:
            return self._connection.execute(query((literal(0), func.sum(usd))).where(*where)).all()
        except OperationalError as error:
            if "overflow" not in str(error):
                raise
        # In two halves, which takes half as long again.
        halves = (func.sum(usd.op("/")(_HALF)), func.sum(usd.op("%")(_HALF)))
        return self._connection.execute(query(halves).where(*where)).all()

    def _key(self, label_id: int, by: str) -> str:
        if self._labels is None:
            self._labels = {row.id: row for row in self._connection.execute(select(labels))}
        label = self._labels.get(label_id)
        if label is None:
            return ""
        kind, _, tag = by.partition(":")
        return (json.loads(label.tags).get(tag) if kind == "tag" else getattr(label, kind)) or ""


def unrecorded_calls(connection: Connection, since: float | None = None) -> int:
    query = select(func.sum(unrecorded.c.calls))
    if since is not None:
        query = query.where(unrecorded.c.at_us >= _us(since))
    return int(connection.execute(query).scalar() or 0)


def _add(sums: list[int], row: Sequence[Any]) -> None:
    for place, value in enumerate(row):
        sums[place] += int(value or 0)


def _group(key: str, sums: Sequence[int]) -> CostGroup:
    calls, unpriced, errors, upper, lower, input_tokens, output_tokens, cached, saved = sums
    return CostGroup(
        key=key,
        calls=calls,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        usd=from_pico(upper * _HALF + lower),
        unpriced_calls=unpriced,
        errors=errors,
        cached_calls=cached,
        saved_usd=from_pico(saved),
    )


def _ranked(groups: Mapping[str, Sequence[int]]) -> list[CostGroup]:
    """The most expensive first, then by calls. A target that was only ever skipped has no group."""
    found = [_group(key, sums) for key, sums in groups.items()]
    found = [group for group in found if group.calls or group.errors or group.usd]
    return sorted(found, key=lambda group: (-group.usd, -group.calls, group.key))


def _columns(bits: tuple[int, int], usd: Sequence[Any]) -> list[Any]:
    calls, unpriced = bits
    tokens = (func.sum(attempts.c.input_tokens), func.sum(attempts.c.output_tokens))
    return [_count(calls), _count(unpriced), _count(ERROR), *usd, *tokens, _count(CACHED)]


def _count(bit: int) -> Any:
    return func.count().filter(attempts.c.counts.op("&")(bit) != 0)


def _within(start_us: int | None, end_us: int | None = None) -> list[ColumnElement[bool]]:
    where = [] if start_us is None else [attempts.c.at_us >= start_us]
    return where if end_us is None else [*where, attempts.c.at_us < end_us]


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _US)


def moment_of(at_us: float) -> datetime:
    """The moment of a row; ValueError: no clock shows it."""
    if not 0 <= at_us < _END_OF_TIME_US:
        raise ValueError(f"{at_us} is no moment in microseconds")
    return datetime.fromtimestamp(at_us / _US, tz=UTC)


def _ids_of_model(name: str) -> set[str]:
    """Every id under which the catalogue knows a model, and the name itself, which may be a provider's own id."""
    from llama_client.catalog.catalog import Catalog

    catalog = Catalog.bundled()
    model = catalog.find(name)
    offers = catalog.ids(name) if model is None else catalog.offers(model.name)
    known = {offer.name for offer in offers}
    same = [offer.id for offer in catalog.all_offers if offer.name in known]
    names = [] if model is None else [model.name, *model.aliases]
    return {name, *names, *same}


def _is_traffic(connection: Connection, model: str | None, target: str | None) -> list[ColumnElement[bool]]:
    """Answered, of a wanted label, and not made by `bench` only to measure a server."""
    key, value = BENCH_TAG
    # As the ledger writes it: a quote within a tag is escaped by a backslash, so no other tag contains this.
    tag = json.dumps({key: value})[1:-1]
    wanted: list[ColumnElement[bool]] = [~labels.c.tags.contains(tag, autoescape=True)]
    if target is not None:
        wanted.append(labels.c.target == target)
    if model is not None:
        ids = _ids_of_model(model)
        # Ollama's ids may be written with or without the default tag.
        written = ids | {f"{each}:latest" for each in ids if ":" not in each}
        wanted.append(labels.c.model.in_(sorted(written)))
    where: list[ColumnElement[bool]] = [attempts.c.outcome == "ok"]
    # Looking up each row's label would take a fifth longer; mostly all labels are wanted.
    if connection.execute(select(labels.c.id).where(not_(and_(*wanted))).limit(1)).first() is not None:
        where.append(attempts.c.label_id.in_(select(labels.c.id).where(*wanted)))
    return where


def _hours(connection: Connection, where: Sequence[ColumnElement[bool]]) -> tuple[Mapping[int, Sequence[int]], int]:
    """By hours since the Unix epoch, calls, input and output tokens; and how many calls are older than `MAX_HOURS`."""
    hour = attempts.c.at_us.op("/")(_HOUR_US).label("hour")
    sums = (func.count(), func.sum(attempts.c.input_tokens), func.sum(attempts.c.output_tokens))
    query = select(hour, *sums).where(*where).group_by(hour).order_by(hour.desc())
    hours: dict[int, Sequence[int]] = {}
    older_calls, last = 0, None
    for number, *row in connection.execute(query):
        last = number if last is None else last
        if number > last - MAX_HOURS:
            hours[number] = [int(value or 0) for value in row]
        else:
            older_calls += row[0]
    return hours, older_calls


def _report(hours: Mapping[int, Sequence[int]], rows: Sequence[Any]) -> TrafficReport:
    calls, read, written = (sum(column) for column in zip(*hours.values(), strict=True))
    first = min(hours)
    length = max(max(hours) - first + 1, _HOURS_A_DAY)
    period = [hours.get(first + offset, (0, 0, 0)) for offset in range(length)]
    hourly = tuple(input_tokens + output_tokens for _, input_tokens, output_tokens in period)
    tokens, days = read + written, length / _HOURS_A_DAY
    cached_tokens = [int(row.cached_tokens) for row in rows if row.cached_tokens is not None]
    return TrafficReport(
        calls=calls,
        first_call_at=moment_of(min(row.first_us for row in rows)),
        last_call_at=moment_of(max(row.last_us for row in rows)),
        days=days,
        tokens_per_day=tokens / days,
        input_tokens=read,
        output_tokens=written,
        cached_tokens=sum(cached_tokens) if cached_tokens else None,
        input_share=_share(read, tokens),
        output_share=_share(written, tokens),
        cached_share=_share(sum(cached_tokens), sum(int(row.of_reporting or 0) for row in rows)),
        mean_input_tokens=read / calls,
        mean_output_tokens=written / calls,
        peak_to_mean=_share(max(hourly) * length, tokens),
        hourly_tokens=hourly,
        hourly_output_tokens=tuple(output_tokens for *_, output_tokens in period),
        targets=_targets(rows),
        estimated_calls=sum(int(row.estimated) for row in rows),
    )


def _sums_of_labels(connection: Connection, where: Sequence[ColumnElement[bool]]) -> Sequence[Any]:
    row = attempts.c
    sums = select(
        row.label_id,
        func.count().label("calls"),
        func.min(row.at_us).label("first_us"),
        func.max(row.at_us).label("last_us"),
        func.sum(row.input_tokens).label("input_tokens"),
        func.sum(row.output_tokens).label("output_tokens"),
        func.sum(row.cached_tokens).label("cached_tokens"),
        # Input tokens of the calls whose provider reports cached tokens.
        func.sum(row.input_tokens).filter(row.cached_tokens.is_not(None)).label("of_reporting"),
        func.sum(row.tokens_are_estimated).label("estimated"),
    )
    by_label = sums.where(*where).group_by(row.label_id).subquery()
    query = select(labels.c.target, by_label).select_from(
        by_label.outerjoin(labels, labels.c.id == by_label.c.label_id)
    )
    return connection.execute(query).all()


def _targets(rows: Sequence[Any]) -> list[TargetTraffic]:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        _add(sums[row.target or ""], (row.calls, row.input_tokens, row.output_tokens))
    targets = [
        TargetTraffic(target=name, calls=calls, input_tokens=read, output_tokens=written)
        for name, (calls, read, written) in sums.items()
    ]
    return sorted(targets, key=lambda each: (-each.input_tokens - each.output_tokens, each.target))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
