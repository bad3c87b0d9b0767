"""Which row is asked next, and when; which one is tried again. No I/O: drivers call it under one lock."""

from __future__ import annotations

import copy
import heapq
import math
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.bulk.outages import Outages, Waiting
from llama_client.bulk.pending import Done, Outcome, PendingRow, is_unreached, usd_of
from llama_client.bulk.tries import LASTING, MAX_LASTING, delay_s
from llama_client.errors import LlamaClientError

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Limits
    from llama_client.bulk.idle.shift import IdleShift
    from llama_client.bulk.planning.purse import Purse

# Rows that wait for another try; with more, no new one is begun.
_MAX_DELAYED = 4_096


class MoneyEndedError(Exception):
    """The job may not cost so much as its next row might."""

    def __init__(self, pending: PendingRow) -> None:
        super().__init__(pending.row.where)
        self.pending = pending


@dataclass(slots=True, eq=False)
class Dispatcher:
    """Holds the rows that are to be asked, in memory that does not grow with their number.

    Args:
        limits: How many requests may be in flight.
        max_pending: The most rows that are asked, or answered and not yet recorded: what a killed process may lose.
        random: Spreads the tries of rows that failed together.
        read_ahead: Rows that are read before their turn; fewer would leave calls without a row while the input is read.
        is_lasting: Whether another run finds what was recorded.
        outages: What is known of the connections to targets.

    Attributes:
        in_flight: The calls in flight.
        is_stopped: Whether no further call starts. Setting it needs no lock.
        purse: The money of the job; None: no limit.
        shift: Rows that wait for idle hours of this machine; None: none do.
        idle_ready: How many of these were read, and have not begun.
        needs_money: Whether rows wait for money that batches hold: these are to be looked at, however many rows wait.
    """

    limits: Limits
    max_pending: int
    random: random.Random = field(default_factory=random.Random)
    read_ahead: int = 256
    in_flight: int = 0
    is_stopped: bool = False
    purse: Purse | None = None
    shift: IdleShift | None = None
    idle_ready: int = 0
    needs_money: bool = False
    is_lasting: bool = False
    outages: Outages = field(default_factory=Outages)
    _is_read: bool = False
    _unrecorded: int = 0
    # By target, so that one that is full does not hold back the rows of the others.
    _ready: dict[str, deque[PendingRow]] = field(default_factory=dict)
    _ready_count: int = 0
    _delayed: list[tuple[float, int, PendingRow]] = field(default_factory=list)
    # Rows that met an error which may be that of every row, by target.
    _held: dict[str, list[Done]] = field(default_factory=dict)

    @property
    def waiting(self) -> Waiting | None:
        """The target without a connection that the job waits for; None: there is none."""
        return self.outages.waiting

    @property
    def is_over(self) -> bool:
        """Whether no row will follow and none is on its way."""
        return self._has_none_left and self._unrecorded == 0

    @property
    def _has_none_left(self) -> bool:
        if self.in_flight:
            return False
        return self.is_stopped or (self._is_read and not self._ready_count and not self._delayed)

    def wanted(self) -> int:
        """How many rows should be read now."""
        if self._is_read or self.is_stopped or len(self._delayed) >= _MAX_DELAYED:
            return 0
        return max(self.read_ahead - self._ready_count, 0)

    def add(self, rows: Iterable[PendingRow], *, is_end: bool, done: Sequence[Done] = ()) -> list[Done]:
        """Takes rows that were read, and those that came of batches. What is returned is to be recorded."""
        for pending in rows:
            self._make_ready(pending)
        self._is_read = self._is_read or is_end
        return self._done([*done])

    def next(self, now: float) -> PendingRow | float:
        """The row to ask now, which counts as in flight from here on; or seconds until there may be one.

        Raises:
            MoneyEndedError: The next row may cost more than the job may, and nothing is under way that could cost less.
        """
        self.needs_money = False
        if self.is_stopped or self._unrecorded + self.in_flight >= self.max_pending:
            return math.inf
        while self._delayed and self._delayed[0][0] <= now:
            self._make_ready(heapq.heappop(self._delayed)[2], is_first=True)
        wait_s = self._delayed[0][0] - now if self._delayed else math.inf
        if self.shift is not None and self.idle_ready:
            self._move(self.shift.due(now))
            wait_s = min(wait_s, self.shift.look_in_s(now))
        dear: PendingRow | None = None
        may_be_free = False
        for target, rows in self._ready.items():
            target_s = self._wait_s(target, now)
            if target_s > 0:
                wait_s = min(wait_s, target_s)
                # It begins later, and its turn may need no money.
                may_be_free = may_be_free or rows[0].venue == "idle"
                continue
            if self.purse is not None and not self.purse.take(rows[0].worst_usd):
                # Rows of other targets may cost less.
                dear = dear or rows[0]
                continue
            return self._begun(target, now)
        is_owed = self.purse is not None and bool(self.purse.held_usd)
        if dear is not None and not (self.in_flight or is_owed or self._delayed or may_be_free):
            raise MoneyEndedError(dear)
        self.needs_money = dear is not None and is_owed
        return wait_s

    def _begun(self, target: str, now: float) -> PendingRow:
        rows = self._ready[target]
        pending = rows.popleft()
        self._ready_count -= 1
        if not rows:
            del self._ready[target]
        self.in_flight += 1
        if pending.venue == "idle" and self.shift is not None:
            self.idle_ready -= 1
            self.shift.started(pending.row.position, now)
        pending.flight = self.limits.started(target, now)
        self.outages.started(pending)
        return pending

    def _move(self, most: int) -> None:
        """Rows that idle hours do not answer in time are asked at once."""
        for target in [each for each, rows in self._ready.items() if rows[0].venue == "idle"] if most else ():
            most -= self._leave(target, most)

    def _leave(self, target: str, most: float) -> int:
        """The same of one target; returns how many."""
        rows, left = self._ready.get(target, deque()), 0
        while rows and left < most and rows[0].at_once is not None:
            left += 1
            self._ready_count -= 1
            self.idle_ready -= 1
            self._leave_idle(rows.popleft())
        if not rows:
            self._ready.pop(target, None)
        return left

    def _leave_idle(self, pending: PendingRow) -> None:
        assert self.shift is not None
        self.shift.moved(1)
        pending.leave_idle()
        self._make_ready(pending)

    def _wait_s(self, target: str, now: float) -> float:
        """Seconds until one of a target's rows may start; endless: not before another one has ended."""
        waits = self.outages.wait_s(target, now), self.limits.wait_s(target, now)
        return max(math.inf if each is None else each for each in waits)

    def ended(self, pending: PendingRow, outcome: Outcome, now: float) -> list[Done]:
        """Takes the outcome of a call. What is returned is to be recorded; the row itself may have another try.

        Raises:
            LlamaClientError: Rows of a target have failed, in succession, by what only the user can mend, or there has
                been no connection to it for too long.
        """
        self.in_flight -= 1
        assert pending.flight is not None
        self.limits.ended(pending.flight, now, outcome)
        self._pay(pending, usd_of(outcome.attempts))
        is_answer = not isinstance(outcome, LlamaClientError)
        if pending.venue == "idle" and self.shift is not None:
            self.shift.ended(pending.row.position, now, is_done=is_answer)
        if any(each.sent for each in outcome.attempts):
            self.outages.reached(pending)
        elif isinstance(outcome, LlamaClientError) and is_unreached(outcome):
            if self.outages.failed(pending, now):
                return self._unreached(pending, outcome)
        else:
            # From the cache, or refused here: that tells nothing of the target.
            self.outages.abandoned(pending)
        if not isinstance(outcome, LlamaClientError):
            return self._done([*self._held.pop(pending.target, ()), (pending, outcome)])
        wait_s = delay_s(pending, outcome, self.random)
        if wait_s is not None:
            pending.attempts += outcome.attempts
            if not self.is_stopped:
                heapq.heappush(self._delayed, (now + wait_s, pending.row.position, pending))
            return self._done([])
        if pending.at_once is not None:
            # What fails at this machine may be answered elsewhere.
            pending.attempts += outcome.attempts
            self._leave_idle(pending)
            return self._done([])
        if not isinstance(outcome, LASTING):
            return self._done([(pending, outcome)])
        held = self._held.setdefault(pending.target, [])
        held.append((pending, outcome))
        if len(held) >= MAX_LASTING:
            self.is_stopped = True
            self._held.clear()
            raise outcome
        return self._done([])

    def _unreached(self, pending: PendingRow, error: LlamaClientError) -> list[Done]:
        """The row waits until its target is back."""
        target = pending.target
        is_over = self.outages.is_over(pending)
        if not is_over or pending.at_once is not None:
            pending.attempts += error.attempts
            if not self.is_stopped:
                self._make_ready(pending, is_first=True)
            if is_over:
                self._leave(target, math.inf)
            return self._done([])
        if self.outages.are_rows_alone(target):
            return self._done([(pending, error)])
        self.is_stopped = True
        ended = copy.copy(error)
        ended.args = (f"{self.outages.sentence(target, is_lasting=self.is_lasting)}: {error}",)
        raise ended from error

    def abandoned(self, pending: PendingRow) -> None:
        """A call in flight was cut off: its row stays to be done."""
        self.in_flight -= 1
        self.outages.abandoned(pending)
        assert pending.flight is not None
        self.limits.abandoned(pending.flight)
        if pending.venue == "idle" and self.shift is not None:
            self.shift.in_flight.discard(pending.row.position)
        self._pay(pending, None)

    def _pay(self, pending: PendingRow, usd: Decimal | None) -> None:
        if self.purse is not None and pending.worst_usd is not None:
            self.purse.settle(pending.worst_usd, usd)

    def recorded(self, rows: int) -> None:
        self._unrecorded -= rows

    def _done(self, rows: list[Done]) -> list[Done]:
        if self._held and self._has_none_left and not self.is_stopped:
            # Too few to judge by: these are failures of their rows.
            rows = [*(each for held in self._held.values() for each in held), *rows]
            self._held.clear()
        self._unrecorded += len(rows)
        return rows

    def _make_ready(self, pending: PendingRow, *, is_first: bool = False) -> None:
        rows = self._ready.setdefault(pending.target, deque())
        if is_first:
            rows.appendleft(pending)
        else:
            rows.append(pending)
        self._ready_count += 1
        self.idle_ready += pending.venue == "idle"
