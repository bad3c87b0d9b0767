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


# The hours repeat; after so many rounds they nearly always begin as they end. Of a long curve one is close to that.
_ROUNDS, _LONG_HOURS = 3, 2_000
# Takes an hour and the tokens that are due in it; returns the tokens that there is room for.
_Room = Callable[[int, float], float]


def into_idle(idle: Sequence[float], arriving: Sequence[float], wait_hours: int) -> Moved:
    """Work in the idle tokens of each hour, oldest first, which leaves the least undone; the rest expires."""
    return _moved(lambda hour, _: idle[hour], arriving, wait_hours)


def left_of_idle(idle: Sequence[float], arriving: Sequence[float], wait_hours: int) -> float:
    """The work that idle hours leave undone; for a search among many idle hours."""
    if len(idle) < _LONG_HOURS:
        return math.fsum(into_idle(idle, arriving, wait_hours).expired)
    left, hours = 0.0, len(idle)
    first, rest = 0, arriving[0]  # the oldest hour whose work waits, and what is left of it
    for hour, room in enumerate(idle):
        while first <= hour:
            if rest > room:
                rest -= room
                if hour - first < wait_hours:
                    break
                left += rest
                room = 0.0
            else:
                room -= rest
            first += 1
            rest = arriving[first] if first < hours else 0.0
    return left


def together(
    loads: Sequence[float], arriving: Sequence[float], capacity: float, *, base: int, wait_hours: int
) -> Moved:
    """All work on replicas: idle ones of the base, and where work is due, whole ones that are then filled."""

    def room(hour: int, due: float) -> float:
        needed = math.ceil((loads[hour] + due) / capacity - 1e-9)
        return max(due, max(base, needed) * capacity - loads[hour])

    return _moved(room, arriving, wait_hours)


def _moved(room: _Room, arriving: Sequence[float], wait_hours: int) -> Moved:
    """All work has the same time to wait, so the oldest is also the most urgent."""
    hours = len(arriving)
    begins: list[tuple[int, float]] = []
    for _ in range(_ROUNDS):
        moved, left = _once(room, arriving, wait_hours, begins)
        ends = [(since - hours, tokens) for since, tokens in left]
        if ends == begins:
            break
        begins, before = ends, begins
    else:
        # What waits at the end must be what waited at the beginning, so that nothing is lost or done twice.
        _even(moved, sum(tokens for _, tokens in ends) - sum(tokens for _, tokens in before), room)
    return moved


def _even(moved: Moved, more: float, room: _Room) -> None:
    last = len(moved.served) - 1
    if more > 0:
        done = min(more, max(0.0, room(last, moved.served[last] + more) - moved.served[last]))
        moved.served[last] += done
        moved.expired[last] += more - done
    for hour in range(last, -1, -1):
        if more >= 0:
            break
        fewer = min(-more, moved.served[hour])
        moved.served[hour] -= fewer
        more += fewer


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
