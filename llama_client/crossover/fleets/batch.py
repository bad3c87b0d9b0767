"""Work that may wait: into the idle hours of machines that run anyway, or together in as few replica-hours as it can."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moved:
    """The hours after work was moved; what cannot wait any longer is `expired`."""

    served: list[float]
    expired: list[float]
    longest_wait_hours: int


def into_idle(idle: Sequence[float], arriving: Sequence[float], wait_hours: int) -> Moved:
    """Work in the idle tokens of each hour, oldest first, which leaves the least undone.

    All work has the same time to wait, so the oldest is also the most urgent; no work is carried over the end.
    """
    served, expired, longest = [0.0] * len(idle), [0.0] * len(idle), 0
    queue: deque[tuple[int, float]] = deque()
    last = len(idle) - 1
    for hour, (room, new) in enumerate(zip(idle, arriving, strict=True)):
        if new > 0:
            queue.append((hour, new))
        while queue and room > 0:
            since, tokens = queue.popleft()
            done = min(tokens, room)
            room -= done
            served[hour] += done
            longest = max(longest, hour - since)
            if done < tokens:
                queue.appendleft((since, tokens - done))
        while queue and (hour - queue[0][0] >= wait_hours or hour == last):
            expired[hour] += queue.popleft()[1]
    return Moved(served, expired, longest)


def together(
    loads: Sequence[float], arriving: Sequence[float], capacity: float, *, base: int, wait_hours: int
) -> Moved:
    """All work on replicas: in idle ones of the base, else where work is due, on whole replicas that are then filled."""
    served, longest = [0.0] * len(loads), 0
    queue: deque[tuple[int, float]] = deque()
    last = len(loads) - 1
    for hour, (load, new) in enumerate(zip(loads, arriving, strict=True)):
        if new > 0:
            queue.append((hour, new))
        due = sum(tokens for since, tokens in queue if hour - since >= wait_hours or hour == last) if queue else 0.0
        replicas = max(base, math.ceil((load + due) / capacity - 1e-9)) if due else max(base, _running(load, capacity))
        room = max(due, replicas * capacity - load)
        while queue and room > 0:
            since, tokens = queue.popleft()
            done = min(tokens, room)
            room -= done
            served[hour] += done
            longest = max(longest, hour - since)
            if done < tokens:
                queue.appendleft((since, tokens - done))
    return Moved(served, [0.0] * len(loads), longest)


def _running(load: float, capacity: float) -> int:
    return math.ceil(load / capacity - 1e-9)
