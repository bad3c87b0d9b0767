"""Adds up what the ledger holds. Reads one index, in the order of time, and nothing else of a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, func, literal, select
from sqlalchemy.exc import OperationalError

from llama_client.costs.money import from_pico
from llama_client.costs.rows import (
    CALL,
    ERROR,
    PROVIDER,
    TARGET,
    UNPRICED_CALL,
    UNPRICED_PROVIDER,
    UNPRICED_TARGET,
)
from llama_client.costs.storage import attempts, labels, spending, unrecorded
from llama_client.types.report import BudgetState, CostGroup, CostReport, DayCosts

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from llama_client.config.accounting import BudgetTable
    from llama_client.costs.windows import Calendar

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
    """Reports over one connection.

    Args:
        connection: To the ledger's database.
        calendar: The user's days.
        now: Seconds since the Unix epoch.
    """

    def __init__(self, connection: Connection, calendar: Calendar, now: float) -> None:
        self._connection = connection
        self._calendar = calendar
        self._now = now
        self._words: dict[int, Any] | None = None

    def report(self, since: float | None, by: str) -> CostReport:
        """What was spent, by day or by what attempts share.

        Args:
            since: Seconds since the Unix epoch; None: from the beginning.
            by: `provider`, `target`, `route`, `day` or `tag:<key>`.
        """
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
