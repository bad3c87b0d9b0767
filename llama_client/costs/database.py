"""The database of the ledger and the budgets: schema, opening, migrations."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

# How long SQLite waits for another process's transaction, and PostgreSQL for a connection.
_BUSY_S = 5.0
_POLL_S = 0.01
READS_ONLY = "llama_client_reads_only"
# PostgreSQL's advisory lock: of processes that open a database at once, one migrates it.
_MIGRATION_LOCK = 0x6C6C616D61

_log = logging.getLogger("llama_client.ledger")

metadata = sa.MetaData()

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _columns(kind: type[sa.BigInteger | sa.Text], *names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=nullable) for name in names]


schema = sa.Table(
    "llama_client_schema",
    metadata,
    sa.Column("version", sa.Integer, nullable=False),
    # The oldest version of this schema whose programs can read and write the database.
    sa.Column("understood_from", sa.Integer, nullable=False),
)
# What attempts are grouped by, once for each combination. The id is a hash of the rest, so that every process computes
# the same without a query.
labels = sa.Table(
    "llama_client_labels",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("route", sa.Text),
    *_columns(sa.Text, "provider", "target", "model", "tags"),
)
attempts = sa.Table(
    "llama_client_attempts",
    metadata,
    sa.Column("id", _SERIAL, sa.Identity(), primary_key=True),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("label_id", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("http_status", sa.Integer),
    *_columns(sa.BigInteger, "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", nullable=True),
    sa.Column("tokens_are_estimated", sa.Integer, nullable=False),
    *_columns(sa.BigInteger, "usd_pico", "input_usd_pico", "cached_usd_pico", "output_usd_pico", nullable=True),
    *_columns(sa.Text, "cost_status", "cost_source", "price_effective_from", nullable=True),
    *_columns(sa.BigInteger, "latency_us", "ttft_us", nullable=True),
    sa.Column("counts", sa.Integer, nullable=False),
    # What an answer from the cache had cost when it was made; versions before 3 write None.
    sa.Column("saved_usd_pico", sa.BigInteger),
    # Every column that a report sums, in order of time, so that a report reads the index alone.
    sa.Index(
        "llama_client_attempts_by_time", "at_us", "label_id", "counts", "usd_pico", "input_tokens", "output_tokens"
    ),
    # A transaction may be committed although its answer is lost; then its rows are written again, and kept once.
    sa.Index("llama_client_attempts_by_request", "request_id", "number", unique=True),
)
unrecorded = sa.Table(
    "llama_client_unrecorded",
    metadata,
    sa.Column("id", _SERIAL, sa.Identity(), primary_key=True),
    *_columns(sa.BigInteger, "at_us", "calls"),
    # Makes the row unique, for the same reason; versions before 2 write None.
    sa.Column("batch", sa.Text),
    sa.Index("llama_client_unrecorded_by_batch", "batch", unique=True),
)
# What each budget has settled and reserved in each of its windows. A budget is its scope, its window's kind and (for
# tags) a value.
spending = sa.Table(
    "llama_client_spending",
    metadata,
    sa.Column("budget", sa.Text, primary_key=True),
    sa.Column("window_start", sa.BigInteger, primary_key=True),
    *_columns(sa.BigInteger, "settled_pico", "reserved_pico"),
)
reservations = sa.Table(
    "llama_client_reservations",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("budget", sa.Text, primary_key=True),
    *_columns(sa.BigInteger, "window_start", "pico"),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Index("llama_client_reservations_by_owner", "owner"),
)
# Reservations that were settled at their worst case because their client seemed dead, or had closed. If it settles one
# after all, the true cost takes the place of the worst case. A table of its own: versions before 2 settle every
# reservation without a living client, and would settle these twice. `at`: seconds since the Unix epoch.
presumed = sa.Table(
    "llama_client_presumed",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("budget", sa.Text, primary_key=True),
    *_columns(sa.BigInteger, "window_start", "pico", "at"),
)
# Clients with reservations; one that has not renewed `alive_until` (seconds since the Unix epoch) is taken for dead.
owners = sa.Table(
    "llama_client_owners",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("alive_until", sa.BigInteger, nullable=False),
)
# The attempts of calls in which two attempts have the same number.
_NUMBERED_TWICE = """FROM llama_client_attempts WHERE request_id IN
    (SELECT request_id FROM llama_client_attempts GROUP BY request_id, number HAVING count(*) > 1)"""
# Rows that equal an earlier one in every column, NULL equal to NULL.
_COPIES = f"""SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY at_us, request_id, number, label_id, outcome,
    error, http_status, input_tokens, output_tokens, cached_tokens, reasoning_tokens, tokens_are_estimated, usd_pico,
    input_usd_pico, cached_usd_pico, output_usd_pico, cost_status, cost_source, price_effective_from, latency_us,
    ttft_us, counts ORDER BY id) AS nth {_NUMBERED_TWICE}) AS numbered WHERE nth > 1"""  # noqa: S608 - no value of a user
# The other rows with the number of an earlier one, each with the next free number of its call.
_CLASHES = f"""SELECT last + row_number() OVER (PARTITION BY request_id ORDER BY number, id), id FROM
    (SELECT id, request_id, number, row_number() OVER (PARTITION BY request_id, number ORDER BY id) AS nth,
    max(number) OVER (PARTITION BY request_id) AS last {_NUMBERED_TWICE}) AS numbered WHERE nth > 1"""  # noqa: S608


def _number_once(connection: Connection) -> list[str]:
    """Makes (request_id, number) unique. Copies of a row are deleted, and nothing that is not in another row."""
    create = "CREATE UNIQUE INDEX llama_client_attempts_by_request ON llama_client_attempts (request_id, number)"
    mark = "?"
    if connection.dialect.name == "postgresql":
        mark = "%s"
        # Older versions have the table open, and may write a row a second time.
        connection.exec_driver_sql("LOCK TABLE llama_client_attempts IN SHARE ROW EXCLUSIVE MODE")
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(create)
        return []
    except IntegrityError:
        pass
    notes = []
    copies = [(row[0],) for row in connection.exec_driver_sql(_COPIES)]
    if copies:
        connection.exec_driver_sql(f"DELETE FROM llama_client_attempts WHERE id = {mark}", copies)  # noqa: S608
        notes.append(f"{len(copies):,} rows were in it twice, and were counted twice; the copies are removed")
    clashes = [tuple(row) for row in connection.exec_driver_sql(_CLASHES)]
    if clashes:
        update = f"UPDATE llama_client_attempts SET number = {mark} WHERE id = {mark}"  # noqa: S608
        connection.exec_driver_sql(update, clashes)
        notes.append(f"{len(clashes):,} rows had the number of another attempt of their call; they got the next one")
    connection.exec_driver_sql(create)
    return notes


# A statement, or a function that returns what to log.
_Migration: TypeAlias = str | Callable[[Connection], list[str]]
# A new database gets the tables above. One of version n gets what follows the first n - 1 of these, which makes the
# same of it: so a change of a table above comes with a migration here. Migrations are appended, never edited.
_MIGRATIONS: tuple[Sequence[_Migration], ...] = (
    (
        _number_once,
        "ALTER TABLE llama_client_unrecorded ADD COLUMN batch TEXT",
        "CREATE UNIQUE INDEX llama_client_unrecorded_by_batch ON llama_client_unrecorded (batch)",
        """CREATE TABLE llama_client_presumed (
            id TEXT NOT NULL, budget TEXT NOT NULL, window_start BIGINT NOT NULL, pico BIGINT NOT NULL,
            at BIGINT NOT NULL, PRIMARY KEY (id, budget))""",
    ),
    ("ALTER TABLE llama_client_attempts ADD COLUMN saved_usd_pico BIGINT",),
)
SCHEMA_VERSION = 1 + len(_MIGRATIONS)
# A version that only adds tables and columns is still read and written by older programs. One that changes what exists
# raises this, and older programs refuse the database.
_OLDEST_THAT_UNDERSTANDS = 1


# What computing with a value of another type than its column's raises.
ODD_VALUES = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


class StorageError(Exception):
    """The database cannot be opened, read or written; says why, without any password."""


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """Where the database is: an SQLite file, SQLite in memory, or PostgreSQL. `connect` connects to the other two."""

    name: str
    file: Path | None = None
    connect: Callable[[], Any] | None = None
    is_in_memory: bool = False

    @property
    def is_sqlite(self) -> bool:
        return self.file is not None or self.is_in_memory

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
        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise StorageError(f"{self.name}: {str(cause).strip() or type(cause).__name__}") from error
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{self.name}: {error}") from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """As `errors`, for what uses values of rows: SQLite's columns take any, and damage is in its messages too."""
        try:
            with self.errors():
                yield
        except ODD_VALUES as error:
            why = f"it holds a value that llama-client does not write ({type(error).__name__}: it is damaged)"
            raise StorageError(f"{self.name}: {why}") from error

    def engine(self, connect_to_file: Callable[[], sqlite3.Connection] | None) -> Engine:
        url = "sqlite+pysqlite://" if self.is_sqlite else "postgresql+psycopg://"
        # Failures are logged, and rows hold tags.
        return sa.create_engine(url, creator=self.connect or connect_to_file, poolclass=NullPool, hide_parameters=True)


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
                    self._bring_up_to_date(connection, reads_only=reads_only)
                self._engine = engine
                self._inode = self.place.inode()
            with self._engine.connect() as connection:
                yield connection.execution_options(**{READS_ONLY: reads_only})

    def _bring_up_to_date(self, connection: Connection, *, reads_only: bool) -> None:
        # Read first, so that it waits for no writer where there is nothing to migrate.
        with connection.execution_options(**{READS_ONLY: True}).begin():
            found = read_version(connection)
        if found is not None and found[0] == 1 + len(_MIGRATIONS):
            return
        try:
            notes = _migrate(connection.execution_options(**{READS_ONLY: False}))
        except sa.exc.DBAPIError:
            # A database that may only be read is read as it is.
            if not reads_only or found is None:
                raise
            notes = []
        for note in notes:
            _log.warning("ledger %s: %s", self.place.name, note)

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
            reads_only = connection.get_execution_options().get(READS_ONLY, False)
            connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

        if self.place.is_sqlite:
            sa.event.listen(engine, "begin", begin)
        return engine


def _prepare(connection: sqlite3.Connection) -> None:
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            # Readers and the writer do not wait for each other. Where several processes do this at once, SQLite raises
            # "locked" instead of waiting.
            connection.execute("PRAGMA journal_mode=WAL").close()
            break
        except sqlite3.OperationalError as error:
            # Anything else, such as a file that may only be read, is the same in five seconds, for which calls would
            # wait whose budgets only warn.
            is_locked = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_locked or time.monotonic() > until:
                raise
            time.sleep(_POLL_S)
    # A commit survives a crash of the process, and may not survive one of the machine. The cache fills with what is
    # written, in every process: 1 MB is as fast as SQLite's default of 2 MB.
    for statement in ("synchronous=NORMAL", "temp_store=MEMORY", "cache_size=-1000"):
        connection.execute(f"PRAGMA {statement}").close()


def read_version(connection: Connection) -> tuple[int, int] | None:
    """The schema's version, and the oldest one that understands it; None: there is no schema."""
    # Not SQLAlchemy's inspector, whose cache keeps what belongs to the last 128 engines.
    find = "SELECT max(name) FROM sqlite_master WHERE name = '{}'"
    if connection.dialect.name == "postgresql":
        find = "SELECT to_regclass('{}')::text"
    if connection.exec_driver_sql(find.format(schema.name)).scalar() is None:
        return None
    row = connection.execute(sa.select(schema)).first()
    if row is None:
        return 0, 0
    if not (isinstance(row.version, int) and isinstance(row.understood_from, int)):
        raise StorageError("it is damaged: the version of its schema is no number")
    return row.version, row.understood_from


def _migrate(connection: Connection) -> list[str]:
    """Brings the database up to date, in one transaction, by one process at a time. Returns what to log."""
    known = 1 + len(_MIGRATIONS)
    notes: list[str] = []
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        version, understood_from = read_version(connection) or (0, 0)
        if understood_from > known:
            raise StorageError(
                f"the database has version {version} of the schema, written by a newer llama-client; this one knows "
                f"version {known}: upgrade it"
            )
        if version >= known:
            return []
        if not version:
            metadata.create_all(connection)
        else:
            for step in itertools.chain(*_MIGRATIONS[version - 1 :]):
                if isinstance(step, str):
                    connection.exec_driver_sql(step)
                else:
                    notes += step(connection)
        connection.execute(schema.delete())
        connection.execute(schema.insert(), {"version": known, "understood_from": _OLDEST_THAT_UNDERSTANDS})
    return notes
