"""Checks ledger, budgets and prices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from llama_client.costs.accounting import Database
from llama_client.costs.money import Calendar, shown, windows_differ
from llama_client.costs.prices import STALE_AFTER_DAYS, HourPrice, Price, PriceBook, TokenPrice
from llama_client.diagnostics.finding import Fact, Facts, Finding, Status
from llama_client.diagnostics.machine import gib, nearest_folder
from llama_client.errors import LlamaClientError, LocalOnlyError, MissingExtraError
from llama_client.local_only import ConnectionGuard, leads_here

if TYPE_CHECKING:
    from llama_client.clock import Clock
    from llama_client.config.schema import Config
    from llama_client.config.tables import BudgetTable
    from llama_client.costs.inspection import LedgerSnapshot, StorageError
    from llama_client.diagnostics.targets import TargetState
    from llama_client.providers.registry import Providers
    from llama_client.types.report import BudgetState

# For one query of the database; one that takes longer is aborted.
QUERY_S = 3.0
_NEARLY_SPENT = Decimal("0.8")
_MAX_BUDGETS = 20
BUSY = {"took too long": f"the query took longer than {QUERY_S:g} s", "locked": "another process has locked it"}
MOVE_AWAY = "Move {} away: the next call creates a new one."
_OWN_PRICE = 'Give its price: [[prices]] with target = "{}", input_usd_per_mtok and output_usd_per_mtok.'
_ONE_ZONE = "Set the same timezone in the configuration of every program that uses this ledger."
_EXHAUSTED = {
    "block": "calls that cost anything are refused",
    "local": "only free local targets are called",
    "warn": "calls continue, with a warning",
}


def ledger_file(config: Config, guard: ConnectionGuard, *, load: bool = False) -> Path | None:
    """The path of the ledger's file, whether it exists or not; None: no ledger, or none in a file."""
    try:
        place = Database.of_ledger(config, guard).place() if config.ledger.enabled or config.budgets else None
    except LlamaClientError:
        return None
    if place is not None and load and (place.file is None or place.file.is_file()):
        # Now, so that the time of the import does not count as the database's.
        from llama_client.costs import inspection

        inspection.load(place)
    return None if place is None else place.file


def examine_ledger(config: Config, guard: ConnectionGuard, clock: Clock, *, offline: bool) -> list[Finding]:
    """The findings on the ledger and on budgets. May block for as long as the database takes to answer."""
    if not (config.ledger.enabled or config.budgets):
        message = "switched off (ledger.enabled = false): no call is recorded"
        return [Finding("ledger", "money", "ledger", "info", message)]
    try:
        database = Database.of_ledger(config, guard)
    except LlamaClientError as error:
        return [_unusable("ledger", error)]
    if database.is_in_memory:
        message = "in memory: of one client, and gone when it closes, as are its budgets"
        return [Finding("ledger", "money", database.name, "info", message), *_budgets([], config)]
    check = _LedgerCheck(config, database, clock)
    if check.file is not None:
        return list(check.of_file(check.file))
    if offline and not database.is_here:
        return [check.finding("ledger", "skipped", "not contacted: --offline")]
    return list(check.of_content())


def _unusable(subject: str, error: LlamaClientError) -> Finding:
    facts: dict[str, Fact] = {}
    match error:
        case LocalOnlyError():
            remedy = 'Set ledger.url = "sqlite", or add its host to privacy.allow_hosts.'
            facts = {"rule": "local_only"}
        case MissingExtraError():
            remedy = 'Run `pip install "llama-client[postgres]"`.'
        case _:
            remedy = f"Correct {getattr(error, 'key', None) or 'ledger.url'}."
    return Finding("ledger", "money", subject, "problem", str(error), remedy, facts)


class _LedgerCheck:
    def __init__(self, config: Config, database: Database, clock: Clock) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._place = database.place()
        self.file = self._place.file
        self._subject = database.name if self.file is None else str(self.file)

    def finding(
        self, check: str, status: Status, message: str, remedy: str | None = None, facts: Facts | None = None
    ) -> Finding:
        return Finding(check, "money", self._subject, status, message, remedy, facts or {})

    def of_file(self, file: Path) -> Iterator[Finding]:
        not_writable = why_not_writable(file)
        if not_writable is not None:
            remedy = f"Make {file} writable, or name another file in ledger.url."
            yield self.finding("ledger", "problem", f"it cannot be written: {not_writable}", remedy)
        if not file.is_file():
            if not_writable is None:
                yield self.finding("ledger", "info", "none yet; the first call creates it")
                yield from _budgets([], self._config)
            return
        size_bytes = 0
        for part in (file, file.with_name(f"{file.name}-wal")):
            with suppress(OSError):
                size_bytes += part.stat().st_size
        found = list(self.of_content(size_bytes, has_status=not_writable is not None))
        yield from found
        if all(finding.check != "ledger" or finding.status in ("ok", "info") for finding in found):
            yield self._integrity(file)

    def of_content(self, size_bytes: int | None = None, *, has_status: bool = False) -> Iterator[Finding]:
        """The content of the database; `has_status`: there is a finding on its state already."""
        from llama_client.costs.inspection import StorageError, look

        config, now = self._config, self._clock.wall()
        calendar = Calendar(config.timezone)
        try:
            seen = look(self._place, calendar=calendar, now=now, budgets=config.budgets, within_s=QUERY_S)
        except StorageError as error:
            yield self._unreadable(error)
            return
        except LlamaClientError as error:
            yield _unusable(self._subject, error)
            return
        if not has_status:
            yield self._contents(seen, size_bytes)
        if seen.is_newer and seen.is_understood:
            message = f"written by a newer llama-client (version {seen.schema_version}), and still compatible"
            yield self.finding("ledger_schema", "info", message)
        if seen.unrecorded_calls:
            message = f"{seen.unrecorded_calls:,} calls could not be recorded in full; reports count them separately"
            remedy = "Check that its disk has room and is fast enough; lost records cannot be restored."
            unrecorded = {"unrecorded_calls": seen.unrecorded_calls}
            yield self.finding("ledger_unrecorded", "warning", message, remedy, unrecorded)
        yield from _budgets(seen.budgets, config)
        for table, start in seen.other_windows:
            yield _in_two_zones(table, start, calendar)

    def _unreadable(self, error: StorageError) -> Finding:
        from llama_client.costs.inspection import why_not

        why = why_not(error)
        if why in BUSY:
            return self.finding("ledger", "skipped", f"not read: {BUSY[why]}")
        if self.file is None:
            remedy = "Check that the server runs, and host, user and password in ledger.url."
        elif why == "damaged":
            remedy = MOVE_AWAY.format(self.file)
        else:
            remedy = f"Make {self.file} readable, or name another file in ledger.url."
        message = str(error).removeprefix(f"{self._database.name}: ")
        return self.finding("ledger", "problem", f"it cannot be read: {message}", remedy)

    def _contents(self, seen: LedgerSnapshot, size_bytes: int | None) -> Finding:
        version = seen.schema_version
        if not seen.is_understood:
            message = f"its version {version} is of a newer llama-client, and not compatible with this one"
            remedy = "Run `pip install --upgrade llama-client`."
            return self.finding("ledger", "problem", message, remedy, {"schema_version": version})
        facts: dict[str, Fact] = {} if size_bytes is None else {"size_bytes": size_bytes}
        if version is None:
            return self.finding("ledger", "info", "empty; the first call fills it", facts=facts)
        last = seen.last_row_at
        message = "1 attempt recorded" if seen.rows == 1 else f"{seen.rows or 0:,} attempts recorded"
        message += "" if last is None else f", the last of {_moment(last, self._config.timezone)}"
        message += "" if size_bytes is None else f"; {gib(size_bytes)}"
        facts |= {"rows": seen.rows, "last_row_at": last.isoformat() if last else None, "schema_version": version}
        return self.finding("ledger", "ok", message, facts=facts)

    def _integrity(self, file: Path) -> Finding:
        from llama_client.costs.inspection import StorageError, damage_in, why_not

        check = "ledger_integrity"
        try:
            damage = damage_in(file, within_s=QUERY_S)
        except StorageError as error:
            why = why_not(error)
            if why != "damaged":
                return self.finding(check, "skipped", f"check not completed: {BUSY.get(why, str(error))}")
            damage = str(error).removeprefix(f"sqlite:///{file}: ")
        if damage == "ok":
            return self.finding(check, "ok", "undamaged, by SQLite's quick check")
        remedy = f"{MOVE_AWAY.format(file)} SQLite's `.recover` may restore the old one."
        return self.finding(check, "problem", f"it is damaged: {damage}", remedy)


def _budgets(states: Sequence[BudgetState], config: Config) -> Iterator[Finding]:
    """Each budget; of many, those with the least left."""
    if not states:
        for table in config.budgets:
            yield Finding("budget", "money", table.name_for(None), "ok", f"{shown(table.usd)}, nothing spent")
    listed = sorted(states, key=lambda state: (state.spent_usd + state.reserved_usd) / state.usd, reverse=True)
    yield from (_budget(state, config.timezone) for state in listed[:_MAX_BUDGETS])


def _budget(state: BudgetState, zone: str) -> Finding:
    taken = state.spent_usd + state.reserved_usd
    until = None if state.resets_at is None else _moment(state.resets_at, zone)
    message = f"{shown(state.spent_usd)} of {shown(state.usd)} spent, {shown(state.reserved_usd)} reserved"
    message += f", until {until}" if until else ""
    status: Status = "ok"
    remedy = None
    if taken >= state.usd:
        status = "problem" if state.on_exceeded == "block" else "warning"
        message += f"; {_EXHAUSTED[state.on_exceeded]}"
        remedy = f"{f'Wait until {until}, or raise' if until else 'Raise'} its usd in [[budgets]]."
    elif taken >= state.usd * _NEARLY_SPENT:
        status, remedy = "warning", "Raise its usd in [[budgets]] to spend more."
    facts = {name: f"{getattr(state, name):f}" for name in ("usd", "spent_usd", "reserved_usd")}
    facts["on_exceeded"] = state.on_exceeded
    return Finding("budget", "money", state.budget, status, message, remedy, facts)


def _in_two_zones(table: BudgetTable, other_start: int, calendar: Calendar) -> Finding:
    start = datetime.fromtimestamp(other_start, tz=UTC)
    facts: dict[str, Fact] = {"timezone": str(calendar.zone), "other_window_start": start.isoformat()}
    name, message = table.name_for(None), windows_differ(other_start, calendar)
    return Finding("budget_timezone", "money", name, "warning", message, _ONE_ZONE, facts)


def why_not_writable(file: Path) -> str | None:
    """Why a database cannot be written; None: it can, as far as is known without trying."""
    if file.exists():
        if not file.is_file():
            return "it is a folder"
        if not os.access(file, os.W_OK):
            return "the file is read-only"
        return None if os.access(file.parent, os.W_OK) else "its folder is read-only"
    folder = nearest_folder(file.parent)
    if not folder.is_dir():
        return f"{folder} is a file, not a folder"
    return None if os.access(folder, os.W_OK) else f"{folder} is read-only"


def _moment(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"


def price_findings(config: Config, providers: Providers, states: Sequence[TargetState]) -> Iterator[Finding]:
    calendar = Calendar(config.timezone)
    at = providers.clock.wall()
    book = PriceBook(config.prices, providers, calendar)
    refuses = any(b.on_unpriced == "refuse" and b.on_exceeded != "warn" for b in config.budgets)
    for state in states:
        try:
            is_free = providers.get(state.provider).is_free(state.model)
        except LlamaClientError:
            continue
        price = book.price(state.provider, state.model, at, is_free=is_free)
        if price is not None and price.is_nothing:
            continue
        row = providers.list_prices.of(providers.kind(state.provider), state.model, calendar.day(at))
        age_days = None if row is None else (calendar.day(at) - row.checked_on).days
        if price is None:
            yield _unknown(state, providers, refuses=refuses)
        else:
            yield _known(state.name, price, age_days)


def _unknown(state: TargetState, providers: Providers, *, refuses: bool) -> Finding:
    message = "no price known, so the cost of calls is unknown"
    status: Status = "problem" if refuses else "warning"
    if refuses:
        message += ", and a budget refuses unpriced targets (on_unpriced)"
    elif leads_here(providers.url(state.provider) or ""):
        status = "info"
    remedy = _OWN_PRICE.format(state.name)
    if providers.kind(state.provider) == "openai":
        remedy += f" Or, for a machine of your own, set providers.{state.provider}.usd_per_hour."
    return Finding("price", "money", state.name, status, message, remedy)


def _known(target: str, price: Price, age_days: int | None) -> Finding:
    facts: dict[str, Fact] = {"source": price.origin.source}
    doubt = f"; in doubt: {price.origin.doubt}" if price.origin.doubt else ""
    status: Status = "ok"
    remedy = None
    if isinstance(price, HourPrice):
        facts["usd_per_hour"] = f"{price.usd_per_hour:f}"
        message = f"${price.usd_per_hour:f} per hour of the machine"
    elif not isinstance(price, TokenPrice):
        message = f"priced by {price.origin.source}{doubt}"
    else:
        input_usd, output_usd = f"{price.input_usd_per_mtok:f}", f"{price.output_usd_per_mtok:f}"
        facts |= {"input_usd_per_mtok": input_usd, "output_usd_per_mtok": output_usd}
        message = f"${input_usd} in and ${output_usd} out per million tokens"
        if price.origin.source == "the configuration" or age_days is None:
            message += ", by your own [[prices]]"
        else:
            facts["age_days"] = age_days
            ago = "today" if age_days <= 0 else "yesterday" if age_days == 1 else f"{age_days} days ago"
            message += f", checked {ago}{doubt}"
            if age_days > STALE_AFTER_DAYS:
                status, remedy = "warning", f"Install a newer llama-client. Or: {_OWN_PRICE.format(target)}"
    return Finding("price", "money", target, status, message, remedy, facts)
