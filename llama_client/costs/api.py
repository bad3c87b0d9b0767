"""`client.costs`: reports, budgets and traffic, sync and async."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from llama_client.errors import ConfigError, InvalidRequestError
from llama_client.types.report import BudgetState, CostReport, DayCosts, TrafficReport

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from llama_client.clock import Clock, EventLoop
    from llama_client.config.tables import BudgetTable
    from llama_client.costs.accounting import Accounting, Database
    from llama_client.costs.money import Calendar
    from llama_client.costs.queries import Reports


_BY = ("provider", "target", "route", "day")
_AGO = re.compile(r"(\d{1,9})\s*([mhdw])")
# The last days of the year 9999, beyond which Python has no dates.
_END_OF_TIME = 253_402_000_000.0
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class CostSource:
    """Reads reports from the ledger, sync."""

    accounting: Accounting
    database: Database
    calendar: Calendar
    budgets: Sequence[BudgetTable]
    clock: Clock

    def report(self, since: object, by: str) -> CostReport:
        """See `Costs.report`."""
        start = self._start(since)
        _check_by(by)
        report = self._read(lambda reports: reports.report(start, by)) or CostReport(since=self._shown(start))
        ledger = self.accounting.ledger
        lost = ledger.unrecorded_calls if ledger is not None else 0
        return report.model_copy(update={"unrecorded_calls": report.unrecorded_calls + lost}) if lost else report

    def timeline(self, since: object, by: str) -> list[DayCosts]:
        """See `Costs.timeline`."""
        start = self._start(since)
        _check_by(by)
        if by == "day":
            raise InvalidRequestError(
                "by: a timeline is split by day anyway; choose 'target', 'provider', 'route' or 'tag:<key>'", param="by"
            )
        return self._read(lambda reports: reports.by_day(start, by)) or []

    def states(self) -> list[BudgetState]:
        """See `Costs.budgets`."""
        return self._read(lambda reports: reports.budgets(self.budgets), even_new=bool(self.budgets)) or []

    def traffic(self, since: object, model: object, target: object) -> TrafficReport:
        """See `Costs.traffic`."""
        start = self._start(since)
        for name, value in (("model", model), ("target", target)):
            if value is not None and not (isinstance(value, str) and value):
                raise InvalidRequestError(f"{name}: must be a name, got {value!r}", param=name)

        def ask(connection: Connection) -> TrafficReport:
            from llama_client.costs.queries import TrafficFilter, ids_of_model, traffic

            models = ids_of_model(model) if isinstance(model, str) else None
            return traffic(connection, TrafficFilter(start, models, target if isinstance(target, str) else None))

        report = self._connected(ask) or TrafficReport()
        ledger = self.accounting.ledger
        lost = report.unrecorded_calls + (ledger.unrecorded_calls if ledger is not None else 0)
        return report.model_copy(update={"since": self._shown(start), "unrecorded_calls": lost})

    def _read(self, ask: Callable[[Reports], R], *, even_new: bool = False) -> R | None:
        """Runs a query of reports; None: there is no database yet."""
        from llama_client.costs.queries import Reports

        return self._connected(
            lambda connection: ask(Reports(connection, self.calendar, self.clock.wall())), even_new=even_new
        )

    def _connected(self, ask: Callable[[Connection], R], *, even_new: bool = False) -> R | None:
        """Runs a query; None: there is no database yet."""
        from llama_client.costs.database import StorageError

        if self.accounting.ledger is not None:
            self.accounting.ledger.flush()
        storage = self.database.open()
        if not storage.is_there() and not even_new:
            return None
        try:
            with storage.connection(reads_only=True) as connection:
                return ask(connection)
        except StorageError as error:
            raise ConfigError(f"ledger.url: the ledger cannot be read: {error}", key="ledger.url") from error

    def _start(self, since: object) -> float | None:
        # Nothing is older than Unix time.
        if since is None:
            return None
        try:
            return min(max(self._moment(since), 0.0), _END_OF_TIME)
        except (ValueError, OverflowError):
            raise _wrong_since(since) from None

    def _moment(self, since: object) -> float:
        match since:
            case datetime():
                return (since if since.tzinfo is not None else since.replace(tzinfo=self.calendar.zone)).timestamp()
            case date():
                return float(self.calendar.start_of(since))
            case timedelta():
                return self.clock.wall() - since.total_seconds()
            case str():
                return self._parsed(since.strip())
            case _:
                raise _wrong_since(since)

    def _parsed(self, text: str) -> float:
        ago = _AGO.fullmatch(text)
        if ago is not None:
            return self.clock.wall() - int(ago[1]) * _SECONDS[ago[2]]
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=self.calendar.zone)).timestamp()
        except (ValueError, OverflowError):
            raise _wrong_since(text) from None

    def _shown(self, start: float | None) -> datetime | None:
        return None if start is None else datetime.fromtimestamp(start, tz=self.calendar.zone)


class Costs:
    """What `client.costs` offers: what was spent, what is left of budgets, and how much traffic there was."""

    def __init__(self, source: CostSource) -> None:
        self._source = source

    def report(self, *, since: str | date | datetime | timedelta | None = None, by: str = "target") -> CostReport:
        """What every program that writes to the same ledger has spent.

        Args:
            since: The start: an age (`7d`, `24h`, `30m`, `2w`), a day, moment or `timedelta` before now; None: all.
            by: `target`, `provider`, `route`, `day` (in the configuration's time zone) or `tag:<key>`.

        Raises:
            InvalidRequestError: An argument is none of these.
            ConfigError: The ledger cannot be read.

        Example:
            report = client.costs.report(since="7d", by="day")
            print(report.total_usd, "and", report.unpriced_calls, "calls of unknown price")
        """
        return self._source.report(since, by)

    def timeline(self, *, since: str | date | datetime | timedelta | None = None, by: str = "target") -> list[DayCosts]:
        """The costs of each day, split into groups: what a chart with a bar a day shows.

        `report(by="day")` gives the sum of each day alone.

        Args:
            since: As of `report`.
            by: What splits a day: as of `report`, but not `day`.

        Returns:
            The days in order; days without a call are left out.

        Raises:
            InvalidRequestError: An argument is none of these.
            ConfigError: The ledger cannot be read.
        """
        return self._source.timeline(since, by)

    def budgets(self) -> list[BudgetState]:
        """What each budget has left in its current window; a budget by tag has one entry for each value of that tag.

        Raises:
            ConfigError: The database cannot be read.
        """
        return self._source.states()

    def traffic(
        self,
        *,
        since: str | date | datetime | timedelta | None = None,
        model: str | None = None,
        target: str | None = None,
    ) -> TrafficReport:
        """The traffic in the ledger, as a machine of one's own would have to serve it.

        Only answered calls count, since only these generate tokens; calls of `llama-client bench` do not count.

        Args:
            since: The start, as of `report`.
            model: Only calls of this model: a catalogue name (of all providers) or a provider's own id.
            target: Only calls of this target: `provider/model`.

        Returns:
            The tokens a day by kind, and their spread over the hours; without a call, `calls` is 0 and figures that
            depend on it are None.

        Raises:
            InvalidRequestError: An argument is none of these.
            ConfigError: The ledger cannot be read.

        Example:
            traffic = client.costs.traffic(since="30d")
            if traffic.calls:
                print(traffic.tokens_per_day, "tokens a day, in the busiest hour", traffic.peak_to_mean, "of the mean")
        """
        return self._source.traffic(since, model, target)


class AsyncCosts:
    """`Costs` for an `AsyncLlamaClient`: the same, awaited. Queries run in a thread."""

    def __init__(self, source: CostSource, loop: EventLoop) -> None:
        self._source = source
        self._loop = loop

    async def report(self, *, since: str | date | datetime | timedelta | None = None, by: str = "target") -> CostReport:
        """`Costs.report`, awaited."""
        import asyncio

        self._loop.check()
        return await asyncio.to_thread(self._source.report, since, by)

    async def timeline(
        self, *, since: str | date | datetime | timedelta | None = None, by: str = "target"
    ) -> list[DayCosts]:
        """`Costs.timeline`, awaited."""
        import asyncio

        self._loop.check()
        return await asyncio.to_thread(self._source.timeline, since, by)

    async def budgets(self) -> list[BudgetState]:
        """`Costs.budgets`, awaited."""
        import asyncio

        self._loop.check()
        return await asyncio.to_thread(self._source.states)

    async def traffic(
        self,
        *,
        since: str | date | datetime | timedelta | None = None,
        model: str | None = None,
        target: str | None = None,
    ) -> TrafficReport:
        """`Costs.traffic`, awaited."""
        import asyncio

        self._loop.check()
        return await asyncio.to_thread(self._source.traffic, since, model, target)


def _check_by(by: object) -> None:
    if not isinstance(by, str) or not (by in _BY or (by.startswith("tag:") and len(by) > len("tag:"))):
        raise InvalidRequestError(
            f"by: must be one of {', '.join(repr(each) for each in _BY)} or 'tag:<key>', got {by!r}", param="by"
        )


def _wrong_since(since: object) -> InvalidRequestError:
    return InvalidRequestError(
        f"since: must be an age such as '7d', '24h' or '30m', a day such as '2026-11-01' or a moment, got {since!r}",
        param="since",
    )
