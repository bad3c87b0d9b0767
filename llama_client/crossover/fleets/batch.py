"""Work that may wait: into idle hours of machines that run anyway, or together in as few replica-hours as it can."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moved:
    """The hours after work was moved; what could not wait any longer is `expired`."""

    served: list[float]
    expired: list[float]
    longest_wait_hours: int


# Takes an hour and the tokens that are due in it; returns the tokens that there is room for.
_Room = Callable[[int, float], float]


def into_idle(idle: Sequence[float], arriving: Sequence[float], wait_hours: int) -> Moved:
    """Work in the idle tokens of each hour, oldest first, which leaves the least undone; the rest expires."""
    return _moved(lambda hour, _: idle[hour], arriving, wait_hours)


def together(
    loads: Sequence[float], arriving: Sequence[float], capacity: float, *, base: int, wait_hours: int
) -> Moved:
    """All work on replicas: idle ones of the base, and where work is due, whole ones that are then filled."""

    def room(hour: int, due: float) -> float:
        needed = math.ceil((loads[hour] + due) / capacity - 1e-9)
        return max(due, max(base, needed) * capacity - loads[hour])

    return _moved(room, arriving, wait_hours)


def _moved(room: _Room, arriving: Sequence[float], wait_hours: int) -> Moved:
    """All work has the same time to wait, so the oldest is also the most urgent.

    The hours repeat: they begin with what they end with.
    """
    hours = len(arriving)
    _, left = _once(room, arriving, wait_hours, ())
    begins = [(since - hours, tokens) for since, tokens in left]
    moved, ends = _once(room, arriving, wait_hours, begins)
    # What waits at the end beyond what waited at the beginning is done in the last hour, so that nothing is lost.
    more = sum(tokens for _, tokens in ends) - sum(tokens for _, tokens in begins)
    if more > 0:
        moved.served[-1] += (done := min(more, max(0.0, room(hours - 1, more) - moved.served[-1])))
        moved.expired[-1] += more - done
    return moved


def _once(
    room: _Room, arriving: Sequence[float], wait_hours: int, begins: Iterable[tuple[int, float]]
) -> tuple[Moved, deque[tuple[int, float]]]:
    served, expired, longest = [0.0] * len(arriving), [0.0] * len(arriving), 0
    queue = deque(begins)
    for hour, new in enumerate(arriving):
        if new > 0:
            queue.append((hour, new))
        due = queue[0][1] if queue and hour - queue[0][0] >= wait_hours else 0.0
        left = room(hour, due)
        while queue and left > 0:
            since, tokens = queue[0]
            if tokens > left:
                queue[0] = (since, tokens - left)
                tokens = left
            else:
                queue.popleft()
            left -= tokens
            served[hour] += tokens
            longest = max(longest, hour - since)
        while queue and hour - queue[0][0] >= wait_hours:
            expired[hour] += queue.popleft()[1]
    return Moved(served, expired, longest), queue
