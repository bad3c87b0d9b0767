"""Which row is asked next, and when; which one is tried again. No I/O: drivers call it under one lock."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llama_client.errors import AllTargetsFailedError, LlamaClientError, OverloadedError, ProviderError, RateLimitError

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Limits
    from llama_client.bulk.rows import Row
    from llama_client.types.completion import ChatCompletion

# Rows that are read before their turn; fewer would leave calls without a row while the input is read.
_READ_AHEAD = 256
# Rows that wait for another try; with more, no new one is begun.
_MAX_DELAYED = 4_096
# How often a row is asked; each time the router makes attempts of its own.
_MAX_TRIES = 5
# A refused request cost nothing, and limits are found by meeting them.
_MAX_REFUSALS = 30
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 60.0
# No provider's window of requests is longer than a day.
_LONGEST_ASKED_S = 86_400.0


@dataclass(slots=True, eq=False)
class Task:
    """A row on its way: how often it was tried, and what for.

    Attributes:
        row: The row.
        target: What its limit is kept for.
        tries: How often it failed by an error that may pass.
        refusals: How often it was rate limited.
        started_at: When its call in flight began.
        errors: Each try's error, oldest first.
    """

    row: Row
    target: str
    tries: int = 0
    refusals: int = 0
    started_at: float = 0.0
    errors: list[LlamaClientError] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Dispatcher:
    """Holds the rows that are to be asked, in memory that does not grow with their number.

    Args:
        limits: How many requests may be in flight.
        target_of: What a row's limit is kept for.
        max_in_flight: The most rows that are on their way at once: asked, or answered and not yet recorded.
        random: Spreads the tries of rows that failed together.
    """

    limits: Limits
    target_of: Callable[[Row], str]
    max_in_flight: int
    random: random.Random = field(default_factory=random.Random)
    in_flight: int = 0
    is_stopped: bool = False
    _is_read: bool = False
    _unrecorded: int = 0
    # By target, so that one that is full does not hold back the rows of the others.
    _ready: dict[str, deque[Task]] = field(default_factory=dict)
    _ready_count: int = 0
    _delayed: list[tuple[float, int, Task]] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether no row will follow and none is on its way."""
        return self.has_none_left and self._unrecorded == 0

    @property
    def has_none_left(self) -> bool:
        """Whether no call will follow, unless one of those in flight fails."""
        if self.in_flight:
            return False
        return self.is_stopped or (self._is_read and not self._ready_count and not self._delayed)

    def wanted(self) -> int:
        """How many rows should be read now."""
        if self._is_read or self.is_stopped or len(self._delayed) >= _MAX_DELAYED:
            return 0
        return max(_READ_AHEAD - self._ready_count, 0)

    def add(self, rows: Iterable[Row], *, is_end: bool) -> None:
        for row in rows:
            self._make_ready(Task(row, self.target_of(row)))
        self._is_read = self._is_read or is_end

    def stop(self) -> None:
        """Starts no further call; those in flight end."""
        self.is_stopped = True

    def next(self, now: float) -> Task | float:
        """The row to ask now, which counts as in flight from here on; or seconds until there may be one."""
        if self.is_stopped or self._unrecorded + self.in_flight >= self.max_in_flight:
            return math.inf
        while self._delayed and self._delayed[0][0] <= now:
            self._make_ready(heapq.heappop(self._delayed)[2], is_first=True)
        wait_s = self._delayed[0][0] - now if self._delayed else math.inf
        for target, tasks in self._ready.items():
            target_s = self.limits.wait_s(target, now)
            if target_s is None:
                continue
            if target_s > 0:
                wait_s = min(wait_s, target_s)
                continue
            task = tasks.popleft()
            self._ready_count -= 1
            if not tasks:
                del self._ready[target]
            task.started_at = now
            self.in_flight += 1
            self.limits.started(target, now)
            return task
        return wait_s

    def ended(self, task: Task, outcome: ChatCompletion | LlamaClientError, now: float) -> bool:
        """Takes the outcome of a call; False: the row is tried again later. A row that is done is then recorded."""
        self.in_flight -= 1
        self.limits.ended(task.target, now, now - task.started_at, outcome)
        if isinstance(outcome, LlamaClientError):
            task.errors.append(outcome)
            delay_s = self._delay_s(task, outcome)
            if delay_s is not None and not self.is_stopped:
                heapq.heappush(self._delayed, (now + delay_s, task.row.position, task))
                return False
        self._unrecorded += 1
        return True

    def abandoned(self, task: Task) -> None:
        """The call in flight was cut off, and has no outcome."""
        self.in_flight -= 1

    def recorded(self, rows: int) -> None:
        self._unrecorded -= rows

    def _make_ready(self, task: Task, *, is_first: bool = False) -> None:
        tasks = self._ready.setdefault(task.target, deque())
        if is_first:
            tasks.appendleft(task)
        else:
            tasks.append(task)
        self._ready_count += 1

    def _delay_s(self, task: Task, error: LlamaClientError) -> float | None:
        """How long the row waits for its next try; None: it has failed for good."""
        if not isinstance(error, ProviderError) or not may_pass(error):
            return None
        if isinstance(error, RateLimitError | OverloadedError):
            task.refusals += 1
        else:
            task.tries += 1
        if task.tries >= _MAX_TRIES or task.refusals >= _MAX_REFUSALS:
            return None
        exponent = min(task.tries + task.refusals - 1, 16)
        delay_s = min(_FIRST_DELAY_S * 2.0**exponent, _LONGEST_DELAY_S) * self.random.uniform(0.5, 1.0)
        asked_s = error.retry_after_s
        return delay_s if asked_s is None else max(min(asked_s, _LONGEST_ASKED_S), delay_s)


def may_pass(error: LlamaClientError) -> bool:
    """Whether asking again later may help: of several targets, at any one."""
    if isinstance(error, AllTargetsFailedError):
        return any(may_pass(each) for each in error.errors)
    return isinstance(error, ProviderError) and error.retryable
