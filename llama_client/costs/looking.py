"""Looks at the database without changing it: no file is made, nothing is migrated, and nobody who writes is waited for.

For those who want to know whether it is well; what was spent is reports.py's affair.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, func, inspect, select, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

from llama_client.costs.reports import Reports
from llama_client.costs.storage import SCHEMA_VERSION, Place, StorageError, attempts, told_of, unrecorded
from llama_client.types.report import BudgetState

if TYPE_CHECKING:
    from llama_client.config.accounting import BudgetTable
    from llama_client.costs.windows import Calendar

# SQLite asks so often whether to go on: some thousand times a second.
_STEPS_BETWEEN_LOOKS = 10_000
_BUSY_S = 1.0
_MAX_COMPLAINT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Seen:
    """What a database holds.

    Attributes:
        schema_version: Its version; None: it holds nothing of this package yet.
        is_newer: A newer version of this package has written it.
        is_understood: This version may read and write it.
        rows: How many attempts are written down; None: counting took too long.
        last_row_at: When the last of them began; None: there is none.
        unrecorded_calls: Calls that could not be written down, or not wholly.
        budgets: What each budget has spent in the window that runs now.
    """

    schema_version: int | None = None
    is_newer: bool = False
    is_understood: bool = True
    rows: int | None = None
    last_row_at: datetime | None = None
    unrecorded_calls: int = 0
    budgets: list[BudgetState] = field(default_factory=list)


def look(place: Place, *, calendar: Calendar, now: float, budgets: Sequence[BudgetTable], within_s: float) -> Seen:
    """What is in a database that is there.

    Args:
        place: Where it is.
        calendar: The user's days.
        now: Seconds since the Unix epoch.
        budgets: The configured ones.
        within_s: How long each question may take.

    Raises:
        StorageError: It cannot be reached or read.
    """
    with told_of(place), _engine(place, within_s).connect() as connection, connection.begin():
        if place.file is None:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            connection.execute(text(f"SET LOCAL statement_timeout = {round(within_s * 1000)}"))
        if not inspect(connection).has_table("llama_client_schema"):
            return Seen()
        row = connection.execute(text("SELECT version, understood_from FROM llama_client_schema")).first()
        version, understood_from = (int(row[0]), int(row[1])) if row is not None else (0, 0)
        if understood_from > SCHEMA_VERSION:
            return Seen(version, is_newer=True, is_understood=False)
        last_us = connection.execute(select(func.max(attempts.c.at_us))).scalar()
        return Seen(
            version,
            is_newer=version > SCHEMA_VERSION,
            rows=connection.execute(select(func.count()).select_from(attempts)).scalar(),
            last_row_at=None if last_us is None else datetime.fromtimestamp(last_us / 1e6, tz=UTC),
            unrecorded_calls=_unrecorded(connection),
            budgets=Reports(connection, calendar, now).budgets(budgets),
        )


def damage_in(file: Path, *, within_s: float) -> str | None:
    """SQLite's own quick check of a file.

    Args:
        file: The database.
        within_s: How long it may take.

    Returns:
        What it complains of, or `ok`; None: it did not get to the end in time.

    Raises:
        StorageError: The file cannot be read at all.
    """
    with told_of(Place(f"sqlite:///{file}", file=file)), closing(_read_only(file)) as connection:
        until = time.monotonic() + within_s
        connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_LOOKS)
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                return None
            raise
        return str(found[0])[:_MAX_COMPLAINT_CHARS]


def _unrecorded(connection: Connection) -> int:
    return int(connection.execute(select(func.sum(unrecorded.c.calls))).scalar() or 0)


def _engine(place: Place, within_s: float) -> Engine:
    file = place.file
    if file is not None:
        return create_engine("sqlite+pysqlite://", creator=lambda: _bounded(file, within_s), poolclass=NullPool)
    assert place.connect is not None
    return create_engine("postgresql+psycopg://", creator=place.connect, poolclass=NullPool)


def _bounded(file: Path, within_s: float) -> sqlite3.Connection:
    connection = _read_only(file)
    until = time.monotonic() + within_s
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_LOOKS)
    return connection


def _read_only(file: Path) -> sqlite3.Connection:
    """Opens a file to read.

    A reader of a database in WAL mode makes the two files beside it where they are missing, and leaves them behind.
    Where nobody has it open they are missing, and all is in the file itself, which is read as one that stays.
    """
    beside = file.with_name(f"{file.name}-wal")
    how = "mode=ro" if beside.exists() else "immutable=1"
    return sqlite3.connect(f"{file.absolute().as_uri()}?{how}", uri=True, timeout=_BUSY_S, check_same_thread=False)


__all__ = ["Seen", "StorageError", "damage_in", "look"]
