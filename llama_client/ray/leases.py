"""Which rows which worker has: blocks of the input's positions, lent until they are recorded. No I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llama_client.bulk.work import BATCH

if TYPE_CHECKING:
    from llama_client.bulk.dispatcher import PendingRow
    from llama_client.bulk.rows import Row

# A worker that says nothing for so long is gone; it says something every two seconds.
_SILENT_S = 30.0
# Fewer rows at a time would cost more than they share.
_FEWEST = 8


@dataclass(slots=True, eq=False)
class _Session:
    shard: int
    seen_at: float
    rows: dict[int, PendingRow] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Leases:
    """Of one run of a job.

    Args:
        shards: How many workers share the rows.
        total: How many rows there are; None: known at their end only.
    """

    shards: int
    total: int | None
    is_read: bool = False
    _read: int = 0
    _ready: deque[PendingRow] = field(default_factory=deque)
    _sessions: dict[str, _Session] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether no row is left to be recorded."""
        return self.is_read and not self._ready and not any(each.rows for each in self._sessions.values())

    @property
    def in_flight(self) -> int:
        return sum(len(each.begun) for each in self._sessions.values())

    @property
    def is_short(self) -> bool:
        """Whether rows should be read."""
        return not self.is_read and len(self._ready) < BATCH

    def add(self, rows: Iterable[PendingRow], reached: int, *, is_end: bool) -> None:
        """Takes rows that were read; with those that were done, so many have been reached."""
        self._ready.extend(rows)
        self._read, self.is_read = reached, is_end

    def opened(self, session: str, shard: int, now: float) -> list[Row]:
        """A worker begins. What is returned was in flight in the same shard's earlier one, and is lost."""
        if session in self._sessions:
            return []
        gone = [name for name, each in self._sessions.items() if each.shard == shard]
        self._sessions[session] = _Session(shard, now)
        return self._taken_back(gone)

    def closed(self, session: str) -> list[Row]:
        """A worker has ended. What is returned was in flight."""
        return self._taken_back([session] if session in self._sessions else [])

    def silent(self, now: float) -> list[Row]:
        """Takes back what workers have that have said nothing for long. What is returned was in flight."""
        gone = [name for name, each in self._sessions.items() if now - each.seen_at > _SILENT_S]
        return self._taken_back(gone)

    def seen(self, session: str, now: float) -> bool:
        """It has said something; False: its rows were taken back."""
        found = self._sessions.get(session)
        if found is not None:
            found.seen_at = now
        return found is not None

    def has_rows(self, session: str) -> bool:
        return bool(self._sessions[session].rows)

    def lend(self, session: str, most: int) -> list[PendingRow]:
        """Rows for a worker: fewer towards the end, so that all end at about the same time."""
        left = len(self._ready)
        if self.is_read or self.total is not None:
            unread = 0 if self.is_read else max((self.total or 0) - self._read, 0)
            most = min(most, max(_FEWEST, math.ceil((left + unread) / (2 * self.shards))))
        lent = [self._ready.popleft() for _ in range(min(most, left))]
        self._sessions[session].rows |= {each.row.position: each for each in lent}
        return lent

    def began(self, session: str, positions: Iterable[int]) -> list[Row]:
        """The rows of these positions, which it has."""
        found = self._sessions[session]
        known = [each for each in positions if each in found.rows]
        found.begun.update(known)
        return [found.rows[each].row for each in known]

    def withdrew(self, session: str, positions: Iterable[int]) -> list[Row]:
        """Rows whose calls have failed, and will be made again by the same worker."""
        found = self._sessions[session]
        known = [each for each in positions if each in found.begun]
        found.begun.difference_update(known)
        return [found.rows[each].row for each in known]

    def recording(self, session: str, position: int) -> PendingRow | None:
        """The row of an outcome; None: it was recorded before."""
        found = self._sessions[session]
        found.begun.discard(position)
        return found.rows.pop(position, None)

    def _taken_back(self, sessions: Iterable[str]) -> list[Row]:
        lost: list[Row] = []
        for name in sessions:
            gone = self._sessions.pop(name)
            lost += [gone.rows[position].row for position in sorted(gone.begun)]
            self._ready.extendleft(reversed(gone.rows.values()))
        return lost
