"""The database of ledger and budgets: schema, opening, migrations."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, create_engine, event, inspect, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

# How long SQLite waits for another process's transaction, and PostgreSQL for a connection.
_BUSY_S = 5.0
_POLL_S = 0.01
_READS_ONLY = "llama_client_reads_only"
# Of all who open a database of this package at once, one brings it up to date.
_MIGRATION_LOCK = 0x6C6C616D61

metadata = MetaData()

# Each set of words that an attempt is grouped by stands here once; its id is a hash of them, so that every process
# finds the same without asking.
labels = Table(
    "llama_client_labels",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("route", Text),
    Column("provider", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("tags", Text, nullable=False),
)
attempts = Table(
    "llama_client_attempts",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("label_id", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    Column("http_status", Integer),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("tokens_are_estimated", Integer, nullable=False),
    Column("usd_pico", BigInteger),
    Column("input_usd_pico", BigInteger),
    Column("cached_usd_pico", BigInteger),
    Column("output_usd_pico", BigInteger),
    Column("cost_status", Text),
    Column("cost_source", Text),
    Column("price_effective_from", Text),
    Column("latency_us", BigInteger),
    Column("ttft_us", BigInteger),
    Column("counts", Integer, nullable=False),
)
unrecorded = Table(
    "llama_client_unrecorded",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
)
# What each budget has seen in each of its windows. A budget is its scope, its window's kind and (for tags) a value.
spending = Table(
    "llama_client_spending",
    metadata,
    Column("budget", Text, primary_key=True),
    Column("window_start", BigInteger, primary_key=True),
    Column("settled_pico", BigInteger, nullable=False),
    Column("reserved_pico", BigInteger, nullable=False),
)
# Migrations are appended, never edited. `{key}` is the type of a number that the database itself gives out.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE llama_client_labels (
            id BIGINT NOT NULL PRIMARY KEY, route TEXT, provider TEXT NOT NULL, target TEXT NOT NULL,
            model TEXT NOT NULL, tags TEXT NOT NULL)""",
        """CREATE TABLE llama_client_attempts (
            id {key}, at_us BIGINT NOT NULL, request_id TEXT NOT NULL, number INTEGER NOT NULL,
            label_id BIGINT NOT NULL, outcome TEXT NOT NULL, error TEXT, http_status INTEGER,
            input_tokens BIGINT, output_tokens BIGINT, cached_tokens BIGINT, reasoning_tokens BIGINT,
            tokens_are_estimated INTEGER NOT NULL, usd_pico BIGINT, input_usd_pico BIGINT, cached_usd_pico BIGINT,
            output_usd_pico BIGINT, cost_status TEXT, cost_source TEXT, price_effective_from TEXT, latency_us BIGINT,
            ttft_us BIGINT, counts INTEGER NOT NULL)""",
        # All that a report adds up, in the order of time, so that it reads nothing else.
        """CREATE INDEX llama_client_attempts_by_time ON llama_client_attempts
            (at_us, label_id, counts, usd_pico, input_tokens, output_tokens)""",
        "CREATE TABLE llama_client_unrecorded (id {key}, at_us BIGINT NOT NULL, calls BIGINT NOT NULL)",
        """CREATE TABLE llama_client_spending (
            budget TEXT NOT NULL, window_start BIGINT NOT NULL, settled_pico BIGINT NOT NULL,
            reserved_pico BIGINT NOT NULL, PRIMARY KEY (budget, window_start))""",
        """CREATE TABLE llama_client_reservations (
            id TEXT NOT NULL, budget TEXT NOT NULL, window_start BIGINT NOT NULL, pico BIGINT NOT NULL,
            owner TEXT NOT NULL, PRIMARY KEY (id, budget))""",
        "CREATE INDEX llama_client_reservations_by_owner ON llama_client_reservations (owner)",
        "CREATE TABLE llama_client_owners (id TEXT NOT NULL PRIMARY KEY, alive_until BIGINT NOT NULL)",
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)
# A version that only adds tables and columns is still read and written by those before it; one that changes what is
# there would raise this, and they would refuse.
_OLDEST_THAT_UNDERSTANDS = 1
_KEY = {
    "sqlite": "INTEGER NOT NULL PRIMARY KEY",
    "postgresql": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
}


class StorageError(Exception):
    """The database cannot be opened, read or written; says why, without any password."""


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """Where the database is."""

    name: str
    file: Path | None = None
    connect: Callable[[], Any] | None = None


class Storage:
    """One database, opened at its first use and brought up to date then."""

    def __init__(self, place: DatabaseLocation) -> None:
        self.place = place
        self._engine: Engine | None = None
        self._inode: int | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite."""
        return self.place.file is not None

    @contextmanager
    def connection(self, *, reads_only: bool = False) -> Iterator[Connection]:
        """A connection of its own, closed at the end; each use of `begin()` on it is a transaction."""
        with told_of(self.place):
            if self._engine is None:
                engine = _engine(self.place)
                with engine.connect() as connection:
                    if not _is_up_to_date(connection.execution_options(**{_READS_ONLY: True})):
                        _migrate(connection.execution_options(**{_READS_ONLY: False}))
                self._engine = engine
                self._inode = self._inode_now()
            with self._engine.connect() as connection:
                yield connection.execution_options(**{_READS_ONLY: reads_only})

    def require_same_file(self) -> None:
        """Refuses to go on in a file that somebody has deleted, while others begin anew in its place."""
        if self._inode != self._inode_now():
            self._engine = None
            raise StorageError(f"{self.place.name}: the file was replaced")

    def _inode_now(self) -> int | None:
        # Windows does not let an open file be deleted.
        if self.place.file is None or os.name == "nt":
            return None
        try:
            return self.place.file.stat().st_ino
        except OSError:
            return None

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turns what the database says is wrong into a `StorageError`."""
        with told_of(self.place):
            yield

    def is_there(self) -> bool:
        """Whether anybody has written anything: reading must not create the file."""
        return self.place.file is None or self.place.file.exists()


@contextmanager
def told_of(place: DatabaseLocation) -> Iterator[None]:
    """Turns what the database says is wrong into a `StorageError`."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise StorageError(f"{place.name}: {str(cause).strip() or type(cause).__name__}") from error
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{place.name}: {error}") from error


def _engine(place: DatabaseLocation) -> Engine:
    file = place.file
    if file is None:
        assert place.connect is not None
        return create_engine("postgresql+psycopg://", creator=place.connect, poolclass=NullPool)
    # The data of a user's own, which nobody else has to read.
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes then would fail where another one wrote in between.
        reads_only = connection.get_execution_options().get(_READS_ONLY, False)
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


def _prepare(connection: sqlite3.Connection) -> None:
    """Readers and the writer do not wait for each other; a process that dies loses nothing that was committed, and a
    machine that does loses the last moments, and no more."""
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            # Where several do this at once, SQLite does not wait but says that it is locked.
            connection.execute("PRAGMA journal_mode=WAL").close()
            break
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_S)
    # SQLite's own 2 MB of cache are enough: a larger one makes nothing faster, and fills with what is written.
    for statement in ("synchronous=NORMAL", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {statement}").close()


def _is_up_to_date(connection: Connection) -> bool:
    """Whether there is nothing to migrate, found out without waiting for whoever writes."""
    with connection.begin():
        if not inspect(connection).has_table("llama_client_schema"):
            return False
        version = connection.execute(text("SELECT version FROM llama_client_schema")).scalar()
        return version == len(_MIGRATIONS)


def _migrate(connection: Connection) -> None:
    """Brings the database up to date, in one transaction, by one process at a time."""
    is_sqlite = connection.dialect.name == "sqlite"
    with connection.begin():
        if not is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        connection.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS llama_client_schema"
            " (version INTEGER NOT NULL, understood_from INTEGER NOT NULL)"
        )
        row = connection.execute(text("SELECT version, understood_from FROM llama_client_schema")).first()
        version, understood_from = row or (0, 0)
        if version > len(_MIGRATIONS):
            if understood_from > len(_MIGRATIONS):
                raise StorageError(
                    f"the database has version {version}, which a newer llama-client has written, and this one knows "
                    f"{len(_MIGRATIONS)}: upgrade it"
                )
            return
        if version == len(_MIGRATIONS):
            return
        for statements in _MIGRATIONS[version:]:
            for statement in statements:
                connection.exec_driver_sql(statement.format(key=_KEY[connection.dialect.name]))
        connection.execute(text("DELETE FROM llama_client_schema"))
        connection.execute(
            text("INSERT INTO llama_client_schema VALUES (:version, :oldest)"),
            {"version": len(_MIGRATIONS), "oldest": _OLDEST_THAT_UNDERSTANDS},
        )
