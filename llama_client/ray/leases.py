"""Which rows which worker has: blocks of the input's positions, lent until they are recorded. No I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.bulk.work import BATCH
from llama_client.costs.money import added

if TYPE_CHECKING:
    from llama_client.bulk.outages import Waiting
    from llama_client.bulk.pending import PendingRow
    from llama_client.bulk.planning.purse import Purse
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
    waiting: Waiting | None = None
    # Rows whose worst case is set aside, and what the failed tries of rows have cost.
    held: set[int] = field(default_factory=set)
    paid: dict[int, Decimal] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Leases:
    """Of one run of a job.

    Args:
        shards: How many workers share the rows.
        total: How many rows there are; None: known at their end only.
        purse: The money of the job; None: no limit. A row is lent where its worst case fits.
    """

    shards: int
    total: int | None
    purse: Purse | None = None
    is_read: bool = False
    _read: int = 0
    _ready: deque[PendingRow] = field(default_factory=deque)
    _sessions: dict[str, _Session] = field(default_factory=dict)

    @property
    def has_ready(self) -> bool:
        """Whether a row waits to be lent."""
        return bool(self._ready)

    @property
    def is_over(self) -> bool:
        """Whether no row is left to be recorded."""
        return self.is_read and not self._ready and not any(each.rows for each in self._sessions.values())

    @property
    def in_flight(self) -> int:
        return sum(len(each.begun) for each in self._sessions.values())

    @property
    def waiting(self) -> Waiting | None:
        """The outage that lasts longest, of all workers; None: none waits for a target without a connection."""
        waiting = [each.waiting for each in self._sessions.values() if each.waiting is not None]
        return max(waiting, key=lambda each: each.seconds, default=None)

    def waits(self, session: str, waiting: Waiting | None) -> None:
        """What a worker waits for."""
        self._sessions[session].waiting = waiting

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
        found, lent = self._sessions[session], []
        for _ in range(min(most, left)):
            if not self._hold(found, self._ready[0]):
                break
            pending = self._ready.popleft()
            found.rows[pending.row.position] = pending
            lent.append(pending)
        return lent

    @property
    def needs_money(self) -> bool:
        """Whether rows wait for money that batches may hold."""
        return not self.is_read and bool(self._ready) and self.purse is not None and bool(self.purse.held_usd)

    @property
    def is_held_elsewhere(self) -> bool:
        """Whether money is set aside for more than rows of workers: batches hold the rest."""
        if self.purse is None:
            return False
        worst = (each.rows[at].worst_usd or Decimal(0) for each in self._sessions.values() for at in each.held)
        return self.purse.held_usd > added(Decimal(0), *worst)

    def unaffordable(self) -> PendingRow | None:
        """The next row, where it may cost more than the job may, and nothing is under way that could cost less."""
        if self.purse is None or not self._ready or self.purse.held_usd or any(e.rows for e in self._sessions.values()):
            return None
        pending, worst = self._ready[0], self._ready[0].worst_usd
        fits = worst is not None and (not worst or worst <= self.purse.left_usd)
        return None if fits else pending

    def unpaid(self, session: str, positions: Iterable[int]) -> PendingRow | None:
        """A row of these that may cost more than is left, as its tries before have cost something; None: none is."""
        found = self._sessions.get(session)
        rows = [] if found is None else [found.rows[each] for each in positions if each in found.rows]
        return next((each for each in rows if found is not None and not self._hold(found, each)), None)

    def is_stuck(self, waiting: Iterable[str]) -> bool:
        """Whether all workers with rows are among these, and neither a call nor a batch could leave money."""
        names = set(waiting)
        return not (self.in_flight or self.is_held_elsewhere) and all(
            name in names for name, each in self._sessions.items() if each.rows
        )

    def began(self, session: str, positions: Iterable[int]) -> list[Row]:
        """The rows of these positions, which it has."""
        found = self._sessions.get(session)
        if found is None:
            return []
        known = [each for each in positions if each in found.rows]
        found.begun.update(known)
        return [found.rows[each].row for each in known]

    def withdrew(self, session: str, withdrawn: Iterable[tuple[int, Decimal | None]]) -> list[Row]:
        """Rows whose calls have failed, and will be made again by the same worker; with the cost of all tries so far.

        None: it is unknown, and counts as the worst.
        """
        found = self._sessions[session]
        known = [(position, usd) for position, usd in withdrawn if position in found.begun]
        for position, usd in known:
            found.begun.discard(position)
            self._settle(found, found.rows[position], usd)
            self._hold(found, found.rows[position])
        return [found.rows[position].row for position, _ in known]

    def recording(self, session: str, position: int) -> PendingRow | None:
        """The row of an outcome; None: it was recorded before."""
        found = self._sessions[session]
        found.begun.discard(position)
        return found.rows.pop(position, None)

    def settle(self, session: str, pending: PendingRow, usd: Decimal | None) -> None:
        """What all tries of a row have cost that is to be recorded; None: unknown, which counts as the worst."""
        found = self._sessions[session]
        self._settle(found, pending, usd)
        found.paid.pop(pending.row.position, None)

    def _hold(self, found: _Session, pending: PendingRow) -> bool:
        """Sets the worst case of its next try aside, where that is not done; False: it does not fit."""
        position = pending.row.position
        if self.purse is None or position in found.held:
            return True
        if not self.purse.take(pending.worst_usd):
            return False
        found.held.add(position)
        return True

    def _settle(self, found: _Session, pending: PendingRow, usd: Decimal | None) -> None:
        position, worst = pending.row.position, pending.worst_usd
        if self.purse is None or worst is None or position not in found.held:
            return
        found.held.discard(position)
        before = found.paid.get(position, Decimal(0))
        total = before + worst if usd is None else usd
        found.paid[position] = total
        self.purse.settle(worst, total - before)

    def _taken_back(self, sessions: Iterable[str]) -> list[Row]:
        lost: list[Row] = []
        for name in sessions:
            gone = self._sessions.pop(name)
            lost += [gone.rows[position].row for position in sorted(gone.begun)]
            for position, pending in gone.rows.items():
                # What had begun may have been paid for; the others cost no more than they did.
                spent = None if position in gone.begun else gone.paid.get(position, Decimal(0))
                self._settle(gone, pending, spent)
            self._ready.extendleft(reversed(gone.rows.values()))
        return lost
