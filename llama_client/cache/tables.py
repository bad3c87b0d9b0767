"""The table of answers in SQLite or PostgreSQL: its statements, and keeping it within age and size."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from llama_client.costs.database import READS_ONLY, Storage

# PostgreSQL's advisory lock: of processes that open a database at once, one creates the table.
_CREATION_LOCK = 0x6C6C616D63
# A cache that another process is writing to for longer is not worth the wait.
_BUSY_MS = 1_000
# Deleted in one transaction, so that other processes get their turn.
_DELETED_AT_ONCE = 500
# After it was too large, this share of its size is free.
_FREED_SHARE = 0.1

metadata = sa.MetaData()
answers = sa.Table(
    "llama_client_answers",
    metadata,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    # When it was made, in seconds since the Unix epoch.
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    # All that keeping it small reads, so that it reads no value.
    sa.Index("llama_client_answers_by_age", "at", "size"),
)
# What a row takes beside its value: its key twice, and its places in two indexes.
ROW_BYTES = 150


class AnswerStorage(Storage):
    """A database with the table of answers; it may be that of the ledger."""

    def _bring_up_to_date(self, connection: Connection, *, reads_only: bool) -> None:
        # Read first, so that it waits for no writer where there is nothing to create.
        find_table = f"SELECT max(name) FROM sqlite_master WHERE name = '{answers.name}'"  # noqa: S608 - a name of our own
        if connection.dialect.name == "postgresql":
            find_table = f"SELECT to_regclass('{answers.name}')::text"
        with connection.execution_options(**{READS_ONLY: True}).begin():
            if connection.exec_driver_sql(find_table).scalar() is not None:
                return
        with connection.execution_options(**{READS_ONLY: False}).begin():
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
            metadata.create_all(connection)


def require_impatient(connection: Connection) -> None:
    """Waits for no other process for long."""
    if connection.dialect.name == "sqlite":
        # Past SQLAlchemy, which would begin a transaction.
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute(f"PRAGMA busy_timeout={_BUSY_MS}").close()


def find(connection: Connection, keys: Sequence[bytes], oldest: int) -> dict[bytes, bytes]:
    query = sa.select(answers.c.key, answers.c.value).where(answers.c.key.in_(keys), answers.c.at >= oldest)
    with connection.execution_options(**{READS_ONLY: True}).begin():
        return {bytes(row.key): bytes(row.value) for row in connection.execute(query)}


def size(connection: Connection) -> tuple[int, int] | None:
    """How many answers there are, and their bytes; None: there is no table yet."""
    if not sa.inspect(connection).has_table(answers.name):
        return None
    count, total = connection.execute(sa.select(sa.func.count(), sa.func.sum(answers.c.size))).one()
    return int(count), int(total or 0)


def write(connection: Connection, rows: Sequence[tuple[bytes, int, bytes]]) -> None:
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    statement = (
        f"INSERT INTO {answers.name} (key, at, size, value) VALUES ({mark}, {mark}, {mark}, {mark}) "  # noqa: S608 - no value
        "ON CONFLICT (key) DO UPDATE SET at = excluded.at, size = excluded.size, value = excluded.value"
    )
    # In one order, so that no two processes deadlock.
    values = [(key, at, len(value) + ROW_BYTES, value) for key, at, value in sorted(rows)]
    with connection.execution_options(**{READS_ONLY: False}).begin():
        connection.exec_driver_sql(statement, values)


def clean(connection: Connection, oldest: int, most_bytes: int) -> bool:
    """Deletes some of what is too old, else the oldest answers of a cache that is too large; True: more is left."""
    by_age = sa.select(answers.c.key, answers.c.size).order_by(answers.c.at, answers.c.size).limit(_DELETED_AT_ONCE)
    with connection.execution_options(**{READS_ONLY: False}).begin():
        keys = [row.key for row in connection.execute(by_age.where(answers.c.at < oldest))]
        if not keys:
            total = int(connection.execute(sa.select(sa.func.sum(answers.c.size))).scalar() or 0)
            excess = total - most_bytes
            if excess <= 0:
                return False
            excess += int(most_bytes * _FREED_SHARE)
            for row in connection.execute(by_age):
                if excess <= 0:
                    break
                keys.append(row.key)
                excess -= row.size
        connection.execute(sa.delete(answers).where(answers.c.key.in_(keys)))
    return True
