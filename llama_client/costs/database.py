"""The database of the ledger and the budgets: schema, opening, migrations."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    func,
    inspect,
    select,
)
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

# How long SQLite waits for another process's transaction, and PostgreSQL for a connection.
_BUSY_S = 5.0
_POLL_S = 0.01
_READS_ONLY = "llama_client_reads_only"
# PostgreSQL's advisory lock: of processes that open a database at once, one migrates it.
_MIGRATION_LOCK = 0x6C6C616D61

metadata = MetaData()

_SERIAL = BigInteger().with_variant(Integer, "sqlite")


def _optional(kind: type[BigInteger | Text], *names: str) -> list[Column[Any]]:
    return [Column(name, kind) for name in names]


schema = Table(
    "llama_client_schema",
    metadata,
    Column("version", Integer, nullable=False),
    # The oldest version of this schema whose programs can read and write the database.
    Column("understood_from", Integer, nullable=False),
)
# What attempts are grouped by, once for each combination. The id is a hash of the rest, so that every process computes
# the same without a query.
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
    Column("id", _SERIAL, Identity(), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("label_id", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    Column("http_status", Integer),
    *_optional(BigInteger, "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"),
    Column("tokens_are_estimated", Integer, nullable=False),
    *_optional(BigInteger, "usd_pico", "input_usd_pico", "cached_usd_pico", "output_usd_pico"),
    *_optional(Text, "cost_status", "cost_source", "price_effective_from"),
    *_optional(BigInteger, "latency_us", "ttft_us"),
    Column("counts", Integer, nullable=False),
    # Every column that a report sums, in order of time, so that a report reads the index alone.
    Index("llama_client_attempts_by_time", "at_us", "label_id", "counts", "usd_pico", "input_tokens", "output_tokens"),
)
unrecorded = Table(
    "llama_client_unrecorded",
    metadata,
    Column("id", _SERIAL, Identity(), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
)
# What each budget has settled and reserved in each of its windows. A budget is its scope, its window's kind and (for
# tags) a value.
spending = Table(
    "llama_client_spending",
    metadata,
    Column("budget", Text, primary_key=True),
    Column("window_start", BigInteger, primary_key=True),
    Column("settled_pico", BigInteger, nullable=False),
    Column("reserved_pico", BigInteger, nullable=False),
)
reservations = Table(
    "llama_client_reservations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("budget", Text, primary_key=True),
    Column("window_start", BigInteger, nullable=False),
    Column("pico", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Index("llama_client_reservations_by_owner", "owner"),
)
# Clients with reservations; one that has not renewed `alive_until` (seconds since the Unix epoch) is taken for dead.
owners = Table(
    "llama_client_owners",
    metadata,
    Column("id", Text, primary_key=True),
    Column("alive_until", BigInteger, nullable=False),
)
# A new database gets the tables above. One of version n gets the statements after the first n - 1 of these, which make
# the same of it: so a change of a table above comes with a migration here. Migrations are appended, never edited.
_MIGRATIONS: tuple[tuple[str, ...], ...] = ()
SCHEMA_VERSION = 1 + len(_MIGRATIONS)
# A version that only adds tables and columns is still read and written by older programs. One that changes what exists
# raises this, and older programs refuse the database.
_OLDEST_THAT_UNDERSTANDS = 1


class StorageError(Exception):
    """The database cannot be opened, read or written; says why, without any password."""


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """Where the database is: an SQLite file, or PostgreSQL, which `connect` connects to."""

    name: str
    file: Path | None = None
    connect: Callable[[], Any] | None = None

    @property
    def is_sqlite(self) -> bool:
        return self.file is not None

    def exists(self) -> bool:
        """Whether the file exists: reading must not create it."""
        return self.file is None or self.file.exists()

    def inode(self) -> int | None:
        # Windows does not let an open file be deleted.
        if self.file is None or os.name == "nt":
            return None
        try:
            return self.file.stat().st_ino
        except OSError:
            return None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises errors of the database as `StorageError`."""
        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise StorageError(f"{self.name}: {str(cause).strip() or type(cause).__name__}") from error
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{self.name}: {error}") from error

    def engine(self, connect_to_file: Callable[[], sqlite3.Connection]) -> Engine:
        """An engine without a pool, for either kind."""
        if self.connect is not None:
            return create_engine("postgresql+psycopg://", creator=self.connect, poolclass=NullPool)
        return create_engine("sqlite+pysqlite://", creator=connect_to_file, poolclass=NullPool)


class Storage:
    """One database, opened and migrated at its first use."""

    def __init__(self, place: DatabaseLocation) -> None:
        self.place = place
        self._engine: Engine | None = None
        self._inode: int | None = None

    @contextmanager
    def connection(self, *, reads_only: bool = False) -> Iterator[Connection]:
        """A connection, closed at the end; each `begin()` on it is a transaction."""
        with self.place.errors():
            if self._engine is None:
                engine = self._new_engine()
                with engine.connect() as connection:
                    if not _is_up_to_date(connection.execution_options(**{_READS_ONLY: True})):
                        _migrate(connection.execution_options(**{_READS_ONLY: False}))
                self._engine = engine
                self._inode = self.place.inode()
            with self._engine.connect() as connection:
                yield connection.execution_options(**{_READS_ONLY: reads_only})

    def require_same_file(self) -> None:
        """Refuses to write to a deleted file while other processes use the one in its place."""
        if self._inode != self.place.inode():
            self._engine = None
            raise StorageError(f"{self.place.name}: the file was replaced")

    def _new_engine(self) -> Engine:
        file = self.place.file
        if file is not None:
            # Readable for its user alone.
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

        def connect() -> sqlite3.Connection:
            assert file is not None
            connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                _prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

        engine = self.place.engine(connect)

        def begin(connection: Connection) -> None:
            # A deferred transaction that reads first fails at its first write where another one wrote in between.
            reads_only = connection.get_execution_options().get(_READS_ONLY, False)
            connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

        if file is not None:
            event.listen(engine, "begin", begin)
        return engine


def _prepare(connection: sqlite3.Connection) -> None:
    """Readers and the writer do not wait for each other; a commit survives a crash of the process, and may not survive
    one of the machine."""
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            # Where several processes do this at once, SQLite raises "locked" instead of waiting.
            connection.execute("PRAGMA journal_mode=WAL").close()
            break
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_S)
    # SQLite's default cache of 2 MB is enough: a larger one is no faster, and fills with what is written.
    for statement in ("synchronous=NORMAL", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {statement}").close()


def _is_up_to_date(connection: Connection) -> bool:
    """Whether there is nothing to migrate, found without waiting for a writer."""
    with connection.begin():
        row = read_version(connection)
        return row is not None and row[0] == 1 + len(_MIGRATIONS)


def read_version(connection: Connection) -> tuple[int, int] | None:
    """The schema's version, and the oldest one that understands it; None: there is no schema."""
    if not inspect(connection).has_table(schema.name):
        return None
    row = connection.execute(select(schema)).first()
    return (0, 0) if row is None else (row.version, row.understood_from)


def _migrate(connection: Connection) -> None:
    """Brings the database up to date, in one transaction, by one process at a time."""
    known = 1 + len(_MIGRATIONS)
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        version, understood_from = read_version(connection) or (0, 0)
        if understood_from > known:
            raise StorageError(
                f"the database has version {version} of the schema, written by a newer llama-client; this one knows "
                f"version {known}: upgrade it"
            )
        if version >= known:
            return
        if not version:
            metadata.create_all(connection)
        else:
            for statement in itertools.chain(*_MIGRATIONS[version - 1 :]):
                connection.exec_driver_sql(statement)
        connection.execute(schema.delete())
        connection.execute(schema.insert(), {"version": known, "understood_from": _OLDEST_THAT_UNDERSTANDS})
