"""The rows of a job that wait for idle hours: how many are left, and when some must be asked at once. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_client.bulk.idle.hours import IdleHours
    from llama_client.bulk.rows import Row

_LEAST_SLACK_S = 300.0
MARGIN = 2.0
"""Rows that are asked at once may take so much longer than at the rate that is known."""
# Of what this machine does by its rate, so much is counted on.
_RELIED_ON = 0.9
# A job that sleeps looks at the clock as often: it may have been changed, and the machine may have been suspended.
_LONGEST_LOOK_S = 600.0
_LEAST_LOOK_S = 1.0
# A rate from before the job counts as that of so many rows.
_PRIOR_ROWS = 10


def slack_s(call_s: float) -> float:
    """How shortly before the deadline nothing begins at this machine any more: it might not end in time.

    Args:
        call_s: How long a call takes there; 0: unknown.
    """
    return max(_LEAST_SLACK_S, MARGIN * call_s)


@dataclass(slots=True, eq=False)
class IdleShift:
    """What waits for idle hours. The dispatcher calls it under its lock.

    Args:
        hours: When this machine is idle.
        wall: Unix time.
        deadline: When the job should be done, in Unix time; None: no matter.
        row_s: How long a row takes, by what was measured before; None: unknown.
        slack_s: See the function of this name.
        rows_at_once_per_s: The rate of rows that are asked at once.
        may_leave: Whether rows may be asked at once after all.
        begin_at: From which position on the rows of a group wait, by its key.
        key_of: The key of a row's group.

    Attributes:
        left: How many wait, or are being asked.
        in_flight: The positions of rows that are being asked.
    """

    hours: IdleHours
    wall: Callable[[], float]
    deadline: float | None
    row_s: float | None
    slack_s: float
    rows_at_once_per_s: Callable[[], float]
    may_leave: bool
    begin_at: Mapping[tuple[str, ...], int]
    key_of: Callable[[Row], tuple[str, ...]]
    left: int
    in_flight: set[int] = field(default_factory=set)
    _done: int = 0
    _busy_s: float = 0.0
    _busy_since: float = 0.0
    _looked_at: float = -math.inf

    def holds(self, row: Row) -> bool:
        """Whether a row waits for idle hours, unless it is done."""
        begin = self.begin_at.get(self.key_of(row))
        return begin is not None and row.position >= begin

    def closed_s(self) -> float:
        """In how many seconds a row may begin at this machine."""
        return min(self.hours.opens_in_s(self.wall()), _LONGEST_LOOK_S)

    def started(self, position: int, now: float) -> None:
        if not self.in_flight:
            self._busy_since = now
        self.in_flight.add(position)

    def ended(self, position: int, now: float, *, is_done: bool) -> None:
        """A call is over; a row that is not done waits on."""
        self.in_flight.discard(position)
        if not self.in_flight:
            self._busy_s += now - self._busy_since
        if is_done:
            self._done += 1
            self.left -= 1

    def due(self, now: float) -> int:
        """How many rows are to be asked at once from here on: idle hours do not answer them in time."""
        at = self.wall()
        if self.deadline is None or not self.may_leave or abs(at - self._looked_at) < _LEAST_LOOK_S:
            return 0
        self._looked_at = at
        excess = self._excess(now, at)
        return math.ceil(excess) if excess > 0 and at >= self._latest(excess) else 0

    def look_in_s(self, now: float) -> float:
        """After how many seconds `due` may say something else, where nothing else happens."""
        if self.deadline is None or not self.may_leave:
            return _LONGEST_LOOK_S
        at = self.wall()
        excess = self._excess(now, at)
        due_s = self._latest(excess) - at if excess > 0 else math.inf
        return min(max(due_s, _LEAST_LOOK_S), _LONGEST_LOOK_S)

    def moved(self, rows: int) -> None:
        """So many are asked at once, and wait no more."""
        self.left -= rows

    def _excess(self, now: float, at: float) -> float:
        """How many of the rows idle hours do not answer before the deadline."""
        row_s = self._present_row_s(now)
        if row_s is None or self.deadline is None:
            return self.left
        open_s = self.hours.open_s(at, max(self.deadline - self.slack_s, at))
        return self.left - open_s / row_s * _RELIED_ON

    def _latest(self, rows: float) -> float:
        """When so many rows have to be asked at once, to be done in time."""
        assert self.deadline is not None
        return self.deadline - self.slack_s - rows / self.rows_at_once_per_s() * MARGIN

    def _present_row_s(self, now: float) -> float | None:
        """How long a row takes now; what hangs shows as well."""
        busy_s = self._busy_s + (now - self._busy_since if self.in_flight else 0.0)
        if self.row_s is not None:
            return max((self.row_s * _PRIOR_ROWS + busy_s) / (_PRIOR_ROWS + self._done), 1e-6)
        return max(busy_s / self._done, 1e-6) if self._done >= _PRIOR_ROWS else None
