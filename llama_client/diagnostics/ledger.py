"""Checks ledger, budgets and prices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from llama_client.costs.accounting import Database, price_book
from llama_client.costs.money import Calendar, shown
from llama_client.costs.prices import STALE_AFTER_DAYS, HourPrice, TokenPrice
from llama_client.diagnostics.finding import Fact, Finding, Status
from llama_client.diagnostics.machine import gib, nearest_folder
from llama_client.errors import ConfigError, LlamaClientError, LocalOnlyError, MissingExtraError
from llama_client.local_only import is_this_machine

if TYPE_CHECKING:
    from llama_client.clock import Clock
    from llama_client.config.schema import Config
    from llama_client.costs.inspection import LedgerSnapshot, StorageError
    from llama_client.costs.prices import Price
    from llama_client.diagnostics.targets import TargetState
    from llama_client.local_only import ConnectionGuard
    from llama_client.providers.registry import Providers
    from llama_client.types.report import BudgetState


# How long it may take to read the database; a check that takes longer is left.
_QUESTION_S = 3.0
_NEARLY_SPENT = Decimal("0.8")
_MAX_BUDGETS = 20
_BUSY = {"took too long": f"that took longer than {_QUESTION_S:g} s", "locked": "somebody else has locked it"}
_MOVE_AWAY = "Move {} away: the next call begins a new one."


def ledger_file(config: Config, guard: ConnectionGuard) -> Path | None:
    """Where the ledger's file is, or will be; None: there is none."""
    if not (config.ledger.enabled or config.budgets):
        return None
    try:
        return Database(config, guard).place().file
    except LlamaClientError:
        return None


def load(config: Config, guard: ConnectionGuard) -> None:
    """Imports what it takes to look at the database, so that this counts against nobody."""
    if not (config.ledger.enabled or config.budgets):
        return
    try:
        place = Database(config, guard).place()
    except LlamaClientError:
        return
    if place.file is None or place.file.is_file():
        from llama_client.costs import inspection as looking

        looking.load(place)


def examine_ledger(config: Config, guard: ConnectionGuard, clock: Clock, *, offline: bool) -> list[Finding]:
    """What is found of it. May take as long as a database takes to answer."""
    if not (config.ledger.enabled or config.budgets):
        message = "switched off (ledger.enabled = false): no call is written down"
        return [Finding("ledger", "money", "ledger", "info", message)]
    try:
        database = Database(config, guard)
    except LlamaClientError as error:
        return [_unusable("ledger", error)]
    place = database.place()
    if place.file is not None:
        return list(_of_file(place.file, config, database, clock))
    if offline and database.host is not None and not is_this_machine(database.host):
        return [Finding("ledger", "money", database.name, "skipped", "not asked: --offline")]
    return list(_seen(database.name, config, database, clock, {}))


def _unusable(subject: str, error: LlamaClientError) -> Finding:
    match error:
        case LocalOnlyError():
            remedy = 'Set ledger.url = "sqlite", or add its host to privacy.allow_hosts.'
            return Finding("ledger", "money", subject, "problem", str(error), remedy, {"rule": "local_only"})
        case MissingExtraError():
            return Finding(
                "ledger", "money", subject, "problem", str(error), 'Run `pip install "llama-client[postgres]"`.'
            )
        case _:
            key = error.key if isinstance(error, ConfigError) and error.key else "ledger.url"
            return Finding("ledger", "money", subject, "problem", str(error), f"Correct {key}.")


def _of_file(file: Path, config: Config, database: Database, clock: Clock) -> Iterator[Finding]:
    not_writable = _not_writable(file)
    if not_writable is not None:
        remedy = f"Make {file} writable for you, or name another file in ledger.url."
        yield Finding("ledger", "money", str(file), "problem", f"it cannot be written: {not_writable}", remedy)
    if not file.is_file():
        if not_writable is None:
            yield Finding("ledger", "money", str(file), "info", "there is none yet; the first call makes it")
            yield from _budgets([], config)
        return
    size = sum(_size(file.with_name(f"{file.name}{ending}")) for ending in ("", "-wal"))
    is_read = True
    for finding in _seen(str(file), config, database, clock, {"size_bytes": size}, is_told=not_writable is None):
        is_read &= finding.check != "ledger" or finding.status in ("ok", "info")
        yield finding
    if is_read:
        yield _integrity(file)


def _seen(
    subject: str, config: Config, database: Database, clock: Clock, facts: dict[str, Fact], *, is_told: bool = True
) -> Iterator[Finding]:
    from llama_client.costs.inspection import StorageError, look

    calendar = Calendar(config.timezone)
    try:
        seen = look(database.place(), calendar=calendar, now=clock.wall(), budgets=config.budgets, within_s=_QUESTION_S)
    except StorageError as error:
        yield _unreadable(subject, error, database)
        return
    except LlamaClientError as error:
        yield _unusable(subject, error)
        return
    if is_told:
        yield _contents(subject, seen, facts, config.timezone)
    if seen.is_newer and seen.is_understood:
        message = f"a newer llama-client has written it (version {seen.schema_version}); this one still understands it"
        yield Finding("ledger_schema", "money", subject, "info", message)
    if seen.unrecorded_calls:
        message = f"{seen.unrecorded_calls:,} calls could not be written down, or not wholly; reports count them apart"
        remedy = "See that its disk has room and is quick enough; what was lost does not come back."
        unrecorded: dict[str, Fact] = {"unrecorded_calls": seen.unrecorded_calls}
        yield Finding("ledger_unrecorded", "money", subject, "warning", message, remedy, unrecorded)
    yield from _budgets(seen.budgets, config)


def _unreadable(subject: str, error: StorageError, database: Database) -> Finding:
    from llama_client.costs.inspection import why_not

    why = why_not(error)
    if why in ("took too long", "locked"):
        return Finding("ledger", "money", subject, "skipped", f"not read: {_BUSY[why]}")
    message = f"it cannot be read: {str(error).removeprefix(f'{database.name}: ')}"
    file = database.place().file
    if file is None:
        remedy = "See that the server runs and that ledger.url names it, its user and its password rightly."
    elif why == "damaged":
        remedy = _MOVE_AWAY.format(file)
    else:
        remedy = f"See that {file} can be read, or name another file in ledger.url."
    return Finding("ledger", "money", subject, "problem", message, remedy)


def _contents(subject: str, seen: LedgerSnapshot, facts: dict[str, Fact], zone: str) -> Finding:
    if not seen.is_understood:
        message = f"its version {seen.schema_version} is of a newer llama-client, which this one does not understand"
        remedy = "Run `pip install --upgrade llama-client`."
        return Finding("ledger", "money", subject, "problem", message, remedy, {"schema_version": seen.schema_version})
    if seen.schema_version is None:
        return Finding("ledger", "money", subject, "info", "it is empty; the first call fills it", facts=facts)
    size = facts.get("size_bytes")
    last = "" if seen.last_row_at is None else f", the last of {_moment(seen.last_row_at, zone)}"
    rows = "1 attempt" if seen.rows == 1 else f"{seen.rows or 0:,} attempts"
    told = f"{rows} written down{last}" + (f"; {gib(size)}" if isinstance(size, int) else "")
    more: dict[str, Fact] = {
        "rows": seen.rows,
        "last_row_at": None if seen.last_row_at is None else seen.last_row_at.isoformat(),
        "schema_version": seen.schema_version,
    }
    return Finding("ledger", "money", subject, "ok", told, facts={**facts, **more})


def _integrity(file: Path) -> Finding:
    from llama_client.costs.inspection import StorageError, damage_in, why_not

    check, subject = "ledger_integrity", str(file)
    try:
        damage = damage_in(file, within_s=_QUESTION_S)
    except StorageError as error:
        why = why_not(error)
        if why != "damaged":
            message = f"not checked to its end: {_BUSY.get(why, str(error))}"
            return Finding(check, "money", subject, "skipped", message)
        damage = str(error).removeprefix(f"sqlite:///{file}: ")
    if damage == "ok":
        return Finding(check, "money", subject, "ok", "whole, as SQLite's quick check says")
    remedy = f"{_MOVE_AWAY.format(file)} SQLite's `.recover` may save what is in the old one."
    return Finding(check, "money", subject, "problem", f"it is damaged: {damage}", remedy)


def _budgets(states: Sequence[BudgetState], config: Config) -> Iterator[Finding]:
    """Each budget; of many, those of which least is left."""
    if config.budgets and not states:
        for table in config.budgets:
            message = f"{shown(table.usd)}, of which nothing is spent"
            yield Finding("budget", "money", table.name_for(None), "ok", message)
        return
    listed = sorted(states, key=lambda state: (state.spent_usd + state.reserved_usd) / state.usd, reverse=True)
    for state in listed[:_MAX_BUDGETS]:
        yield _budget(state, config.timezone)


def _budget(state: BudgetState, zone: str) -> Finding:
    taken = state.spent_usd + state.reserved_usd
    until = f", until {_moment(state.resets_at, zone)}" if state.resets_at is not None else ""
    message = f"{shown(state.spent_usd)} of {shown(state.usd)} spent, {shown(state.reserved_usd)} set aside{until}"
    facts: dict[str, Fact] = {
        "usd": f"{state.usd:f}",
        "spent_usd": f"{state.spent_usd:f}",
        "reserved_usd": f"{state.reserved_usd:f}",
        "on_exceeded": state.on_exceeded,
    }
    if taken < state.usd:
        status: Status = "warning" if taken >= state.usd * _NEARLY_SPENT else "ok"
        nearly = "Raise its usd in [[budgets]] if more may be spent." if status == "warning" else None
        return Finding("budget", "money", state.budget, status, message, nearly, facts)
    effect = {
        "block": "calls that cost anything are refused",
        "local": "only free local targets are asked",
        "warn": "calls go on, with a warning",
    }[state.on_exceeded]
    wait = f"Wait until {_moment(state.resets_at, zone)}, or raise" if state.resets_at is not None else "Raise"
    status = "problem" if state.on_exceeded == "block" else "warning"
    return Finding(
        "budget", "money", state.budget, status, f"{message}; {effect}", f"{wait} its usd in [[budgets]].", facts
    )


def _not_writable(file: Path) -> str | None:
    """Why the ledger could not be written; None: it could be, as far as can be seen without trying."""
    if file.exists():
        if not file.is_file():
            return "that is a folder"
        if not os.access(file, os.W_OK):
            return "the file is read-only for you"
        return None if os.access(file.parent, os.W_OK) else "its folder is read-only for you"
    folder = nearest_folder(file.parent)
    if not folder.is_dir():
        return f"{folder} is a file, not a folder"
    return None if os.access(folder, os.W_OK) else f"{folder} is read-only for you"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _moment(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"


def price_findings(config: Config, providers: Providers, states: Sequence[TargetState]) -> Iterator[Finding]:
    """The price of each target that somebody is paid for."""
    calendar = Calendar(config.timezone)
    at = providers.clock.wall()
    book = price_book(config, calendar, providers)
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
    message = "nobody knows its price, so what calls cost is unknown"
    status: Status = "problem" if refuses else "warning"
    if refuses:
        message += ", and a budget refuses them (on_unpriced)"
    elif is_this_machine(urlsplit(providers.url(state.provider) or "").hostname or ""):
        status = "info"
    remedy = _own_price(state.name)
    if providers.kind(state.provider) == "openai":
        remedy += f" Or, of a machine of your own, providers.{state.provider}.usd_per_hour."
    return Finding("price", "money", state.name, status, message, remedy)


def _own_price(target: str) -> str:
    return f'Give its price: [[prices]] with target = "{target}", input_usd_per_mtok and output_usd_per_mtok.'


def _known(target: str, price: Price, age_days: int | None) -> Finding:
    facts: dict[str, Fact] = {"source": price.origin.source}
    if isinstance(price, HourPrice):
        facts["usd_per_hour"] = f"{price.usd_per_hour:f}"
        return Finding("price", "money", target, "ok", f"${price.usd_per_hour:f} an hour of the machine", facts=facts)
    doubt = f"; in doubt: {price.origin.doubt}" if price.origin.doubt else ""
    if not isinstance(price, TokenPrice):
        return Finding("price", "money", target, "ok", f"priced by {price.origin.source}{doubt}", facts=facts)
    facts |= {
        "input_usd_per_mtok": f"{price.input_usd_per_mtok:f}",
        "output_usd_per_mtok": f"{price.output_usd_per_mtok:f}",
    }
    told = f"${price.input_usd_per_mtok:f} in and ${price.output_usd_per_mtok:f} out per million tokens"
    if price.origin.source == "the configuration" or age_days is None:
        return Finding("price", "money", target, "ok", f"{told}, by your own [[prices]]", facts=facts)
    facts["age_days"] = age_days
    told = f"{told}, checked {_ago(age_days)}{doubt}"
    if age_days > STALE_AFTER_DAYS:
        return Finding(
            "price", "money", target, "warning", told, f"Install a newer llama-client. Or: {_own_price(target)}", facts
        )
    return Finding("price", "money", target, "ok", told, facts=facts)


def _ago(days: int) -> str:
    return "today" if days <= 0 else "yesterday" if days == 1 else f"{days} days ago"
