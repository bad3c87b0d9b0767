"""A ledger and budgets in the memory of this process, for tests: SQLite without a file."""

from __future__ import annotations

import sqlite3
import uuid
import weakref

from llama_client.errors import ConfigError

# Before it, connections could not share a database of this kind, and each would have seen an empty one of its own.
_OLDEST = (3, 36)
# How long a transaction waits for another thread's.
_BUSY_S = 5.0


class MemoryDatabase:
    """Shared by the connections of all threads, and gone at `close`."""

    def __init__(self) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise ConfigError(
                "ledger.url: 'memory' needs SQLite 3.36 or newer, and this Python has "
                f"{sqlite3.sqlite_version}: name a file, as 'sqlite:///ledger.db' does",
                key="ledger.url",
            )
        # Not `cache=shared`, in which a transaction that finds another one fails instead of waiting.
        self._uri = f"file:/llama-client-{uuid.uuid4().hex}?vfs=memdb"
        self._is_closed = False
        # The database exists as long as it has a connection.
        self._close = weakref.finalize(self, self._connection().close)

    def connect(self) -> sqlite3.Connection:
        if self._is_closed:
            raise sqlite3.OperationalError("the client is closed, and its ledger in memory is gone")
        return self._connection()

    def close(self) -> None:
        self._is_closed = True
        self._close()

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
