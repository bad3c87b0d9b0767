"""Inspects the database read-only: creates no file, migrates nothing, waits for no writer."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from sqlalchemy import create_engine, func, inspect, select, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from llama_client.costs.database import SCHEMA_VERSION, DatabaseLocation, StorageError, attempts, unrecorded
from llama_client.costs.queries import Reports
from llama_client.types.report import BudgetState

if TYPE_CHECKING:
    from llama_client.config.tables import BudgetTable
    from llama_client.costs.money import Calendar


R = TypeVar("R")
Why = Literal["took too long", "locked", "damaged", "not known"]

# SQLite asks so often whether to go on: some thousand times a second.
_STEPS_BETWEEN_LOOKS = 10_000
_BUSY_S = 1.0
_MAX_COMPLAINT_CHARS = 200
# A file that is never still for as long as it takes to look at it is left.
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
    """What a database holds."""

    schema_version: int | None = None
    is_newer: bool = False
    is_understood: bool = True
    rows: int | None = None
    last_row_at: datetime | None = None
    unrecorded_calls: int = 0
    budgets: list[BudgetState] = field(default_factory=list)


def look(
    place: DatabaseLocation, *, calendar: Calendar, now: float, budgets: Sequence[BudgetTable], within_s: float
) -> LedgerSnapshot:
    """What is in a database that is there."""
    until = time.monotonic() + within_s

    def seen(connect: Callable[[], sqlite3.Connection] | None) -> LedgerSnapshot:
        with _engine(place, connect).connect() as connection, connection.begin():
            if place.file is None:
                connection.execute(text("SET TRANSACTION READ ONLY"))
                connection.execute(text(f"SET LOCAL statement_timeout = {round(within_s * 1000)}"))
            return _seen(connection, calendar=calendar, now=now, budgets=budgets)

    with place.errors():
        return seen(None) if place.file is None else _read(place.file, seen, until)


def why_not(error: StorageError) -> Why:
    """Why a database could not be read."""
    cause = error.__cause__
    if isinstance(cause, SQLAlchemyError):
        cause = getattr(cause, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return _WHY.get(getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE, "not known")
    return _POSTGRES_WHY.get(str(getattr(cause, "sqlstate", None)), "not known")


def load(place: DatabaseLocation) -> None:
    """Imports what `look` needs, so that this counts against no database."""
    _engine(place, None)


def _seen(connection: Connection, *, calendar: Calendar, now: float, budgets: Sequence[BudgetTable]) -> LedgerSnapshot:
    if not inspect(connection).has_table("llama_client_schema"):
        return LedgerSnapshot()
    row = connection.execute(text("SELECT version, understood_from FROM llama_client_schema")).first()
    version, understood_from = (int(row[0]), int(row[1])) if row is not None else (0, 0)
    if understood_from > SCHEMA_VERSION:
        return LedgerSnapshot(version, is_newer=True, is_understood=False)
    last_us = connection.execute(select(func.max(attempts.c.at_us))).scalar()
    return LedgerSnapshot(
        version,
        is_newer=version > SCHEMA_VERSION,
        rows=connection.execute(select(func.count()).select_from(attempts)).scalar(),
        last_row_at=None if last_us is None else datetime.fromtimestamp(last_us / 1e6, tz=UTC),
        unrecorded_calls=_unrecorded(connection),
        budgets=Reports(connection, calendar, now).budgets(budgets),
    )


def damage_in(file: Path, *, within_s: float) -> str | None:
    """SQLite's own quick check of a file."""
    until = time.monotonic() + within_s

    def complaint(connect: Callable[[], sqlite3.Connection]) -> str:
        with closing(connect()) as connection:
            return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])[:_MAX_COMPLAINT_CHARS]

    with DatabaseLocation(f"sqlite:///{file}", file=file).errors():
        return _read(file, complaint, until, is_well=lambda found: found == "ok")


def _unrecorded(connection: Connection) -> int:
    return int(connection.execute(select(func.sum(unrecorded.c.calls))).scalar() or 0)


def _engine(place: DatabaseLocation, connect: Callable[[], sqlite3.Connection] | None) -> Engine:
    if place.file is not None:
        return create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool)
    assert place.connect is not None
    return create_engine("postgresql+psycopg://", creator=place.connect, poolclass=NullPool)


@dataclass(frozen=True, slots=True)
class _Stand:
    """What tells that somebody writes to a file, or has written to it."""

    has_log: bool
    size_bytes: int
    changed_at_ns: int

    @classmethod
    def of(cls, file: Path) -> _Stand:
        stat = file.stat()
        return cls(file.with_name(f"{file.name}-wal").exists(), stat.st_size, stat.st_mtime_ns)


def _read(
    file: Path,
    ask: Callable[[Callable[[], sqlite3.Connection]], R],
    until: float,
    *,
    is_well: Callable[[R], bool] = lambda _: True,
) -> R:
    """Asks a file something, and again where a complaint may come from somebody who wrote meanwhile.

    A reader of a database in WAL mode makes the two files beside it where they are missing, and leaves them behind.
    Where nobody has it open they are missing, and all is in the file itself, which is read as one that stays. Whoever
    begins to write then makes it look damaged.
    """
    for _ in range(_MAX_LOOKS):
        before = _Stand.of(file)
        how = "mode=ro" if before.has_log else "immutable=1"
        try:
            answer = ask(lambda how=how: _read_only(file, how, until))  # type: ignore[misc]
        except (SQLAlchemyError, sqlite3.Error):
            if before.has_log or _Stand.of(file) == before:
                raise
            continue
        if is_well(answer) or before.has_log or _Stand.of(file) == before:
            return answer
    error = sqlite3.OperationalError("somebody writes to it all the time")
    error.sqlite_errorcode = sqlite3.SQLITE_INTERRUPT
    raise error


def _read_only(file: Path, how: str, until: float) -> sqlite3.Connection:
    uri = f"{file.absolute().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, check_same_thread=False)
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_LOOKS)
    return connection


__all__ = ["LedgerSnapshot", "StorageError", "Why", "damage_in", "load", "look", "why_not"]
