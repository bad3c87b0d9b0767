"""`client.costs`: reports, budgets and traffic, sync and async."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeAlias, TypeVar

from llama_client.errors import ConfigError, InvalidRequestError
from llama_client.imports import ready

if TYPE_CHECKING:
    from llama_client.clock import Clock, EventLoop
    from llama_client.config.tables import BudgetTable
    from llama_client.costs.accounting import Accounting, Database
    from llama_client.costs.money import Calendar
    from llama_client.costs.queries import Reports
    from llama_client.types.report import BudgetState, CostReport, DayCosts, TrafficReport

_BY = ("provider", "target", "route", "day")
_AGE = re.compile(r"(\d{1,9})\s*([mhdw])")
# The last days of the year 9999, beyond which Python has no dates.
_END_OF_TIME = 253_402_000_000.0
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
Since: TypeAlias = str | date | datetime | timedelta | None
P = ParamSpec("P")
R = TypeVar("R")
AnyReport = TypeVar("AnyReport", "CostReport", "TrafficReport")


class CostSource(NamedTuple):
    accounting: Accounting
    database: Database
    calendar: Calendar
    budgets: Sequence[BudgetTable]
    clock: Clock

    def report(self, ask: Callable[[Reports], R], *, creates: bool = False) -> R | None:
        """Asks the database, after what this process has to write; None: there is none yet."""
        ready("llama_client.costs.queries", "llama_client.types.report")
        from llama_client.costs.database import StorageError
        from llama_client.costs.queries import Reports

        self.accounting.reaper.settle()
        if self.accounting.ledger is not None:
            self.accounting.ledger.flush()
        if self.accounting.budgets is not None:
            self.accounting.budgets.flush()
        storage = self.database.open()
        if not storage.place.exists() and not creates:
            return None
        try:
            with storage.place.reading(), storage.connection(reads_only=True) as connection:
                return ask(Reports(connection, self.calendar, self.clock.wall()))
        except StorageError as error:
            raise ConfigError(f"ledger.url: the ledger cannot be read: {error}", key="ledger.url") from error

    def completed(self, report: AnyReport, start: float | None) -> AnyReport:
        """A report with its start, and with the calls that this process has still to count in the database."""
        ledger = self.accounting.ledger
        lost = report.unrecorded_calls + (0 if ledger is None else ledger.unrecorded_calls)
        since = None if start is None else datetime.fromtimestamp(start, tz=self.calendar.zone)
        return report.model_copy(update={"since": since, "unrecorded_calls": lost})

    def start(self, since: object) -> float | None:
        """The moment that `since` means, in seconds since the Unix epoch; None: no limit."""
        if since is None:
            return None
        try:
            return min(max(self._moment(since), 0.0), _END_OF_TIME)
        except (ValueError, OverflowError):
            raise InvalidRequestError(
                "since: must be an age such as '7d', '24h' or '30m', a day such as '2026-11-01' or a moment, got "
                f"{since!r}",
                param="since",
            ) from None

    def _moment(self, since: object) -> float:
        match since:
            case datetime():
                return (since if since.tzinfo is not None else since.replace(tzinfo=self.calendar.zone)).timestamp()
            case date():
                return float(self.calendar.start_of(since))
            case timedelta():
                return self.clock.wall() - since.total_seconds()
            case str():
                age = _AGE.fullmatch(since.strip())
                if age is not None:
                    return self.clock.wall() - int(age[1]) * _SECONDS[age[2]]
                return self._moment(datetime.fromisoformat(since.strip()))
            case _:
                raise ValueError


class Costs:
    """What `client.costs` offers: what was spent, what is left of budgets, and how much traffic there was."""

    def __init__(self, source: CostSource) -> None:
        self._source = source

    def report(self, *, since: Since = None, by: str = "target") -> CostReport:
        """What was spent by every program that writes to the same ledger.

        Args:
            since: The start: an age (`7d`, `24h`, `30m`, `2w`), a day or moment, or an age as `timedelta`; None: all.
            by: `target`, `provider`, `route`, `day` (in the configuration's time zone) or `tag:<key>`.

        Raises:
            InvalidRequestError: An argument is none of these.
            ConfigError: The ledger cannot be read.

        Example:
            report = client.costs.report(since="7d", by="day")
            print(report.total_usd, "and", report.unpriced_calls, "calls without a known price")
        """
        from llama_client.types.report import CostReport

        source, start = self._source, self._source.start(since)
        _check_by(by)
        return source.completed(source.report(lambda reports: reports.report(start, by)) or CostReport(), start)

    def timeline(self, *, since: Since = None, by: str = "target") -> list[DayCosts]:
        """The costs of each day, split into groups: what a chart with a bar per day shows.

        `report(by="day")` gives only the sum of each day.

        Args:
            since: As in `report`.
            by: As in `report`, but not `day`.

        Returns:
            The days in order; days without a call are left out.

        Raises:
            InvalidRequestError: An argument is none of these.
            ConfigError: The ledger cannot be read.
        """
        start = self._source.start(since)
        _check_by(by)
        if by == "day":
            raise InvalidRequestError(
                "by: a timeline is split by day already; choose 'target', 'provider', 'route' or 'tag:<key>'",
                param="by",
            )
        return self._source.report(lambda reports: reports.by_day(start, by)) or []

    def budgets(self) -> list[BudgetState]:
        """What each budget has left in its current window; a budget of a tag for each value that was seen in it.

        Raises:
            ConfigError: The database cannot be read.
        """
        budgets = self._source.budgets
        return self._source.report(lambda reports: reports.budgets(budgets), creates=bool(budgets)) or []

    def traffic(self, *, since: Since = None, model: str | None = None, target: str | None = None) -> TrafficReport:
        """What a machine that took over the traffic of the ledger would have to serve.

        Only answered calls count, since only these generate tokens; calls of `llama-client bench` do not count.

        Args:
            since: The start, as in `report`.
            model: Only calls of this model: a name of the catalogue (of all providers) or the provider's own id.
            target: Only calls of this target: `provider/model`.

        Returns:
            The tokens a day, of which kind they were, and how they spread over the hours. Without traffic `calls` is 0
            and what is derived from it is None.

        Raises:
            InvalidRequestError: An argument is none of these.
            ConfigError: The ledger cannot be read.

        Example:
            traffic = client.costs.traffic(since="30d")
            if traffic.calls:
                print(traffic.tokens_per_day, "tokens a day, in the busiest hour", traffic.peak_to_mean, "of the mean")
        """
        from llama_client.types.report import TrafficReport

        source, start = self._source, self._source.start(since)
        filters: dict[str, object] = {"model": model, "target": target}
        for name, value in filters.items():
            if value is not None and not (isinstance(value, str) and value):
                raise InvalidRequestError(f"{name}: must be a name, got {value!r}", param=name)
        report = source.report(lambda reports: reports.traffic(start, model, target))
        return source.completed(report or TrafficReport(), start)


class AsyncCosts:
    """`Costs` for an `AsyncLlamaClient`: the same, awaited. Queries run in a thread."""

    def __init__(self, source: CostSource, loop: EventLoop) -> None:
        self._costs = Costs(source)
        self._loop = loop

    async def report(self, *, since: Since = None, by: str = "target") -> CostReport:
        """`Costs.report`, awaited."""
        return await self._in_thread(self._costs.report, since=since, by=by)

    async def timeline(self, *, since: Since = None, by: str = "target") -> list[DayCosts]:
        """`Costs.timeline`, awaited."""
        return await self._in_thread(self._costs.timeline, since=since, by=by)

    async def budgets(self) -> list[BudgetState]:
        """`Costs.budgets`, awaited."""
        return await self._in_thread(self._costs.budgets)

    async def traffic(
        self, *, since: Since = None, model: str | None = None, target: str | None = None
    ) -> TrafficReport:
        """`Costs.traffic`, awaited."""
        return await self._in_thread(self._costs.traffic, since=since, model=model, target=target)

    async def _in_thread(self, read: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        import asyncio

        self._loop.check()
        return await asyncio.to_thread(read, *args, **kwargs)


def _check_by(by: object) -> None:
    if not isinstance(by, str) or not (by in _BY or (by.startswith("tag:") and len(by) > len("tag:"))):
        raise InvalidRequestError(
            f"by: must be one of {', '.join(repr(each) for each in _BY)} or 'tag:<key>', got {by!r}", param="by"
        )
