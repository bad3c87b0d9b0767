"""Queries over the ledger: reports and traffic."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, and_, func, literal, not_, select
from sqlalchemy.exc import OperationalError

from llama_client.costs.database import attempts, labels, spending, unrecorded
from llama_client.costs.ledger import CALL, ERROR, PROVIDER, TARGET, UNPRICED_CALL, UNPRICED_PROVIDER, UNPRICED_TARGET
from llama_client.costs.money import from_pico
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
# A sum of more than nine million dollars does not fit into SQLite's 64 bits; then two halves are added up.
_HALF = 1_000_000
_LEVELS = {"provider": (PROVIDER, UNPRICED_PROVIDER), "target": (TARGET, UNPRICED_TARGET)}


@dataclass(slots=True)
class _Sums:
    """What is added up."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    pico: int = 0
    unpriced_calls: int = 0
    errors: int = 0

    def add(self, row: Sequence[Any]) -> None:
        calls, unpriced, errors, upper, lower, input_tokens, output_tokens = (int(each or 0) for each in row[:7])
        self.calls += calls
        self.unpriced_calls += unpriced
        self.errors += errors
        self.pico += upper * _HALF + lower
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def group(self, key: str) -> CostGroup:
        return CostGroup(
            key=key,
            calls=self.calls,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            usd=from_pico(self.pico),
            unpriced_calls=self.unpriced_calls,
            errors=self.errors,
        )


@dataclass(slots=True)
class _Groups:
    """Sums by key."""

    sums: dict[str, _Sums] = field(default_factory=dict)

    def add(self, key: str, row: Sequence[Any]) -> None:
        self.sums.setdefault(key, _Sums()).add(row)

    def all(self) -> list[CostGroup]:
        """The dearest first; what is not priced, by its calls."""
        # Who was only ever passed over has no group.
        groups = [sums.group(key) for key, sums in self.sums.items() if sums.calls or sums.errors or sums.pico]
        return sorted(groups, key=lambda group: (-group.usd, -group.calls, group.key))


class Reports:
    """Reports over one connection."""

    def __init__(self, connection: Connection, calendar: Calendar, now: float) -> None:
        self._connection = connection
        self._calendar = calendar
        self._now = now
        self._words: dict[int, Any] | None = None

    def report(self, since: float | None, by: str) -> CostReport:
        """What was spent, by day or by what attempts share."""
        total, days, groups = _Sums(), [], _Groups()
        if by == "day":
            for day, start, end in self._days(since):
                row = self._sums(start, end, CALL, UNPRICED_CALL)
                if row[-1]:
                    of_day = _Sums()
                    of_day.add(row)
                    total.add(row)
                    days.append(of_day.group(day.isoformat()))
        else:
            calls, unpriced = _LEVELS.get(by, (CALL, UNPRICED_CALL))
            for identity, *row in self._sums_by_label(_us(since), None, calls, unpriced):
                groups.add(self._key(identity, by), row)
                # Of the whole, a call that asked two providers is one call.
                total.add((row[7], row[8], *row[2:7]))
        return CostReport(
            total_usd=from_pico(total.pico),
            calls=total.calls,
            unpriced_calls=total.unpriced_calls,
            unrecorded_calls=self._unrecorded(since),
            since=None if since is None else datetime.fromtimestamp(since, tz=self._calendar.zone),
            groups=days if by == "day" else groups.all(),
        )

    def by_day(self, since: float | None, by: str) -> list[DayCosts]:
        """Each day's costs, by what attempts share."""
        calls, unpriced = _LEVELS.get(by, (CALL, UNPRICED_CALL))
        found = []
        for day, start, end in self._days(since):
            groups = _Groups()
            for identity, *row in self._sums_by_label(start, end, calls, unpriced):
                groups.add(self._key(identity, by), row)
            if groups.sums:
                found.append(DayCosts(day=day, groups=groups.all()))
        return found

    def budgets(self, tables: Iterable[BudgetTable]) -> list[BudgetState]:
        """Each budget in the window that runs now; one of a tag for each value that was seen in it."""
        states = []
        for table in tables:
            span = self._calendar.span(table.window, self._now)
            rows = self._connection.execute(select(spending).where(spending.c.window_start == span.start)).all()
            seen = {tuple(json.loads(row.budget)): row for row in rows}
            mine = (table.scope, table.window)
            keys = [key for key in seen if key[:2] == mine] or ([] if table.scope.startswith("tag:") else [mine])
            for key in keys:
                row = seen.get(key)
                states.append(
                    BudgetState(
                        budget=table.name_for(key[2] if len(key) > len(mine) else None),
                        usd=table.usd,
                        spent_usd=from_pico(row.settled_pico if row is not None else 0),
                        reserved_usd=from_pico(row.reserved_pico if row is not None else 0),
                        resets_at=None if span.end is None else datetime.fromtimestamp(span.end, tz=UTC),
                        on_exceeded=table.on_exceeded,
                    )
                )
        return states

    def _days(self, since: float | None) -> Iterable[tuple[date, int, int]]:
        first_us = self._connection.execute(select(func.min(attempts.c.at_us))).scalar()
        last_us = self._connection.execute(select(func.max(attempts.c.at_us))).scalar()
        if first_us is None or last_us is None:
            return
        begin_us = max(first_us, _us(since) or first_us)
        for day, span in self._calendar.days(begin_us / _US, last_us / _US):
            assert span.end is not None
            yield day, max(span.start * _US, begin_us), span.end * _US

    def _sums(self, start_us: int, end_us: int, calls: int, unpriced: int) -> Any:
        where = (attempts.c.at_us >= start_us, attempts.c.at_us < end_us)
        [row] = self._added_up(lambda usd: select(*_columns(calls, unpriced, usd), func.count()).where(*where))
        return row

    def _sums_by_label(self, start_us: int | None, end_us: int | None, calls: int, unpriced: int) -> Iterable[Any]:
        whole = (_bits(CALL), _bits(UNPRICED_CALL))
        where = []
        if start_us is not None:
            where.append(attempts.c.at_us >= start_us)
        if end_us is not None:
            where.append(attempts.c.at_us < end_us)

        def query(usd: Sequence[Any]) -> Select[Any]:
            sums = select(attempts.c.label_id, *_columns(calls, unpriced, usd), *whole)
            return sums.where(*where).group_by(attempts.c.label_id)

        return self._added_up(query)

    def _added_up(self, query: Callable[[Sequence[Any]], Select[Any]]) -> Sequence[Any]:
        usd = attempts.c.usd_pico
        try:
            return self._connection.execute(query((literal(0), func.sum(usd)))).all()
        except OperationalError as error:
            if "overflow" not in str(error):
                raise
        # More than nine million dollars: in two halves, which takes half as long again.
        return self._connection.execute(query((func.sum(usd.op("/")(_HALF)), func.sum(usd.op("%")(_HALF))))).all()

    def _unrecorded(self, since: float | None) -> int:
        query = select(func.sum(unrecorded.c.calls))
        if since is not None:
            query = query.where(unrecorded.c.at_us >= _us(since))
        return int(self._connection.execute(query).scalar() or 0)

    def _key(self, identity: int, by: str) -> str:
        if self._words is None:
            self._words = {row.id: row for row in self._connection.execute(select(labels))}
        words = self._words.get(identity)
        if words is None:
            return ""
        kind, _, tag = by.partition(":")
        read: dict[str, Callable[[], Any]] = {
            "provider": lambda: words.provider,
            "target": lambda: words.target,
            "route": lambda: words.route,
            "tag": lambda: json.loads(words.tags).get(tag),
        }
        return read[kind]() or ""


def _columns(calls: int, unpriced: int, usd: Sequence[Any]) -> list[Any]:
    return [
        _bits(calls),
        _bits(unpriced),
        _bits(ERROR),
        *usd,
        func.sum(attempts.c.input_tokens),
        func.sum(attempts.c.output_tokens),
    ]


def _bits(bit: int) -> Any:
    """How many rows have it."""
    return func.count().filter(attempts.c.counts.op("&")(bit) != 0)


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _US)


_HOUR_US = 3600 * _US
_HOURS_A_DAY = 24
# As long as the ledger keeps rows by default; so much memory, and no more, is taken by the hours.
MAX_HOURS = 400 * _HOURS_A_DAY


@dataclass(frozen=True, slots=True)
class TrafficFilter:
    """Which calls are looked at."""

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
    """Adds up the answered calls."""
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
