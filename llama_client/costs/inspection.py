"""Inspects the database read-only: creates no file, migrates nothing, waits for no writer."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from sqlalchemy import func, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from llama_client.costs.database import (
    ODD_VALUES,
    SCHEMA_VERSION,
    DatabaseLocation,
    StorageError,
    attempts,
    read_version,
)
from llama_client.costs.queries import Reports, moment_of, unrecorded_calls
from llama_client.types.report import BudgetState

if TYPE_CHECKING:
    from llama_client.config.tables import BudgetTable
    from llama_client.costs.money import Calendar

R = TypeVar("R")
Why = Literal["took too long", "locked", "damaged", "not known"]

# Steps of SQLite's virtual machine between two checks of the time limit: some thousand checks a second.
_STEPS_BETWEEN_LOOKS = 10_000
_BUSY_S = 1.0
_MAX_DAMAGE_CHARS = 200
# Tries at a file that changes while it is read.
_MAX_LOOKS = 3
_WHY: dict[int, Why] = {
    sqlite3.SQLITE_INTERRUPT: "took too long",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}
_PRIMARY_CODE = 0xFF
_POSTGRES_WHY: dict[str, Why] = {"57014": "took too long", "55P03": "locked"}


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    schema_version: int | None = None
    is_newer: bool = False
    is_understood: bool = True
    rows: int | None = None
    last_row_at: datetime | None = None
    unrecorded_calls: int = 0
    budgets: list[BudgetState] = field(default_factory=list)
    # Budgets that another time zone has begun anew, and when.
    other_windows: list[tuple[BudgetTable, int]] = field(default_factory=list)


def look(
    place: DatabaseLocation, *, calendar: Calendar, now: float, budgets: Sequence[BudgetTable], within_s: float
) -> LedgerSnapshot:
    def snapshot(connection: Connection) -> LedgerSnapshot:
        found = _snapshot(connection)
        if found.rows is None:
            return found
        reports = Reports(connection, calendar, now)
        return replace(found, budgets=reports.budgets(budgets), other_windows=reports.other_windows(budgets))

    return read(place, snapshot, within_s=within_s)


def read(place: DatabaseLocation, question: Callable[[Connection], R], *, within_s: float) -> R:
    """What `question` makes of a connection that can read only."""
    until = time.monotonic() + within_s

    def asked(connect_to_file: Callable[[], sqlite3.Connection] | None) -> R:
        with place.engine(connect_to_file).connect() as connection, connection.begin():
            if not place.is_sqlite:
                connection.execute(text("SET TRANSACTION READ ONLY"))
                connection.execute(text(f"SET LOCAL statement_timeout = {round(within_s * 1000)}"))
            return question(connection)

    with place.reading():
        return asked(None) if place.file is None else _read(place.file, asked, until)


def why_not(error: StorageError) -> Why:
    cause = error.__cause__
    if cause is None or isinstance(cause, ODD_VALUES):
        return "damaged"
    if isinstance(cause, SQLAlchemyError):
        cause = getattr(cause, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return _WHY.get(getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE, "not known")
    return _POSTGRES_WHY.get(str(getattr(cause, "sqlstate", None)), "not known")


def load(place: DatabaseLocation) -> None:
    """Imports what `look` needs, so that the time limit of a database does not include it."""
    place.engine(None)


def _snapshot(connection: Connection) -> LedgerSnapshot:
    found = read_version(connection)
    if found is None:
        return LedgerSnapshot()
    version, understood_from = found
    if understood_from > SCHEMA_VERSION:
        return LedgerSnapshot(version, is_newer=True, is_understood=False)
    last_us = connection.execute(select(func.max(attempts.c.at_us))).scalar()
    return LedgerSnapshot(
        version,
        is_newer=version > SCHEMA_VERSION,
        rows=connection.execute(select(func.count()).select_from(attempts)).scalar(),
        last_row_at=None if last_us is None else moment_of(last_us),
        unrecorded_calls=unrecorded_calls(connection),
    )


def damage_in(file: Path, *, within_s: float) -> str | None:
    """What SQLite's quick check says of a file: "ok", or the damage."""
    until = time.monotonic() + within_s

    def check(connect: Callable[[], sqlite3.Connection]) -> str:
        with closing(connect()) as connection:
            return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])[:_MAX_DAMAGE_CHARS]

    with DatabaseLocation(f"sqlite:///{file}", file=file).reading():
        return _read(file, check, until, is_plausible=lambda found: found == "ok")


def _read(
    file: Path,
    ask: Callable[[Callable[[], sqlite3.Connection]], R],
    until: float,
    *,
    is_plausible: Callable[[R], bool] = lambda _: True,
) -> R:
    """Asks a file something, and again where another process wrote meanwhile, which may look like damage."""
    # A reader of a database in WAL mode creates the two files beside it where they are missing, and leaves them behind.
    # They are missing where no process has it open; then the file itself holds everything, and is read as immutable.

    def state() -> tuple[bool, int, int]:
        stat = file.stat()
        return file.with_name(f"{file.name}-wal").exists(), stat.st_size, stat.st_mtime_ns

    for _ in range(_MAX_LOOKS):
        before = state()
        has_log = before[0]
        connect = partial(_read_only, file, "mode=ro" if has_log else "immutable=1", until)
        try:
            answer = ask(connect)
        except (SQLAlchemyError, sqlite3.Error):
            if has_log or state() == before:
                raise
            continue
        if is_plausible(answer) or has_log or state() == before:
            return answer
    error = sqlite3.OperationalError("other processes write to it all the time")
    error.sqlite_errorcode = sqlite3.SQLITE_INTERRUPT
    raise error


def _read_only(file: Path, how: str, until: float) -> sqlite3.Connection:
    uri = f"{file.absolute().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, check_same_thread=False)
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_LOOKS)
    return connection


__all__ = ["LedgerSnapshot", "StorageError", "Why", "damage_in", "load", "look", "read", "why_not"]
