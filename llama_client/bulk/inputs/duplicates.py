"""Finds ids that are there twice, in bounded memory: on disk, in a database of SQLite's own that nobody else sees."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import NamedTuple, Self

_AT_ONCE = 1000
_CACHE_KIB = 4096


class Duplicate(NamedTuple):
    """An id with the numbers of the first two records that have it."""

    custom_id: str
    first: int
    second: int


class SeenIds:
    """The ids of the records of an input.

    Args:
        at_once: Whether a duplicate is to be found as it comes; otherwise at the end, by sorting, which is faster.
    """

    def __init__(self, *, at_once: bool) -> None:
        # The empty name: a temporary database, in memory while it is small, deleted when it is closed. Several threads
        # may read the rows of a job in turn.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._at_once = at_once
        # As bytes: ids may hold what is no valid Unicode.
        key = "id BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID" if at_once else "id BLOB, number INTEGER)"
        self._database.execute(f"CREATE TABLE ids ({key}")
        self._database.execute("BEGIN")
        self._waiting: list[tuple[bytes, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, custom_id: str, number: int) -> Duplicate | None:
        """Remembers an id; of a table that looks at once, the duplicate that it is."""
        key = custom_id.encode("utf-8", "surrogatepass")
        if not self._at_once:
            self._waiting.append((key, number))
            if len(self._waiting) >= _AT_ONCE:
                self._insert()
            return None
        try:
            self._database.execute("INSERT INTO ids VALUES (?, ?)", (key, number))
        except sqlite3.IntegrityError:
            found = self._database.execute("SELECT number FROM ids WHERE id = ?", (key,)).fetchone()
            return Duplicate(custom_id, found[0], number)
        return None

    def first_duplicate(self) -> Duplicate | None:
        """The one that comes first in the input."""
        self._insert()
        found = self._database.execute(
            "SELECT id, min(number) FROM ids GROUP BY id HAVING count(*) > 1 ORDER BY min(number) LIMIT 1"
        ).fetchone()
        if found is None:
            return None
        second = self._database.execute(
            "SELECT min(number) FROM ids WHERE id = ? AND number > ?", (found[0], found[1])
        ).fetchone()
        return Duplicate(found[0].decode("utf-8", "surrogatepass"), found[1], second[0])

    def _insert(self) -> None:
        self._database.executemany("INSERT INTO ids VALUES (?, ?)", self._waiting)
        self._waiting = []
