"""A clock to turn: time that passes only in sleeps and where a test says so, and random numbers that are known."""

from __future__ import annotations

import asyncio
import heapq
import random
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakSet

from llama_client.clock import Clock, Deadline
from llama_client.waiting import Event

_START = datetime(2026, 11, 18, 11, 8, 20, tzinfo=UTC)
# In real time: how long a sleeper lets other threads and tasks begin a sleep of their own before time passes.
_GRACE_S = 0.01
_LOOKS = 30
# In real time: after so long without a change an earlier sleeper cannot wake, such as a task whose loop is blocked.
_STUCK_S = 0.1
# Between two looks of a thread.
_LOOK_S = 0.0002


class _Sleep:
    """A sleep of a thread or task that has not ended."""

    def __init__(self, due: float, number: int, sleeper: object) -> None:
        self.due = due
        self.number = number
        self.sleeper = sleeper
        self.is_over = False

    def __lt__(self, other: _Sleep) -> bool:
        return (self.due, self.number) < (other.due, other.number)


class FakeClock:
    """The time of a test: it stands still, and passes where a client waits and where the test says so.

    Waits between attempts (backoff, `Retry-After`) return at once, and the time has passed. Everything that a client
    reads of the time is by this clock: circuit breakers, rate limits, deadlines, windows of budgets, prices, the
    moments in the ledger. Sleeps of several threads and tasks overlap: each ends at its begin plus its length. By real
    time go the waits that something else ends: for `hedge_after_s`, for a free place under `max_concurrency`, for bytes
    of a socket, and the writing of the ledger.

    May be used by many threads at once.

    Args:
        at: What the calendar says when the test begins, with its time zone.

    Attributes:
        now: Seconds of the monotonic clock.
        slept: Each sleep in seconds, in order.
        clock: The same as a `Clock`.

    Raises:
        ValueError: `at` has no time zone.

    Example:
        >>> from datetime import UTC, datetime
        >>> from llama_client import LlamaClient
        >>> from llama_client.testing.clock import FakeClock
        >>> from llama_client.testing.seams import using
        >>> clock = FakeClock(datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC))
        >>> with using(clock=clock), LlamaClient({"ledger": {"url": "memory"}}) as client:
        ...     clock.turn(31)
        ...     print(clock.moment)
        2027-01-01 00:00:01+00:00
    """

    def __init__(self, at: datetime = _START) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self._lock = threading.Lock()
        self._sleeps: list[_Sleep] = []
        # Threads and tasks that do something else than to come to a sleep, as far as is known.
        self._idle: WeakSet[Any] = WeakSet()
        # Real time of the last begin or end of a sleep.
        self._changed_at = 0.0
        # Looks at the earliest sleep since then: where the machine is busy, real time says little.
        self._looks = 0
        _require_zone(at)
        self._wall_at_0 = at.timestamp() - self.now
        self.clock = Clock(
            monotonic=lambda: self.now, wall=lambda: self._wall_at_0 + self.now, sleep=self.sleep, asleep=self.asleep
        )

    @property
    def moment(self) -> datetime:
        """What the calendar says, in UTC."""
        return datetime.fromtimestamp(self._wall_at_0 + self.now, tz=UTC)

    def turn(self, seconds: float | timedelta) -> None:
        """Lets time pass.

        Args:
            seconds: How much: a number of seconds, or a `timedelta`.

        Raises:
            ValueError: It is negative.
        """
        passed_s = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if not passed_s >= 0:
            raise ValueError(f"seconds: must be 0 or more, as time does not go back, got {seconds!r}")
        with self._lock:
            self.now += passed_s

    def turn_to(self, moment: datetime) -> None:
        """Lets time pass until a moment of the calendar, such as midnight where a budget begins anew.

        Args:
            moment: With its time zone.

        Raises:
            ValueError: It has no time zone, or has passed.
        """
        _require_zone(moment)
        with self._lock:
            until = moment.timestamp() - self._wall_at_0
            if until < self.now:
                raise ValueError(f"moment: must not be before {self.moment}, as time does not go back, got {moment}")
            self.now = until

    def sleep(self, seconds: float) -> None:
        """What the client calls to wait.

        Args:
            seconds: How long.
        """
        me = threading.current_thread()
        sleep = self._begun(seconds, me)
        try:
            while not self._ends(sleep, _other_threads(me)):
                time.sleep(_LOOK_S)
        finally:
            sleep.is_over = True

    async def asleep(self, seconds: float) -> None:
        """The same on an event loop, which turns to its other tasks meanwhile.

        Args:
            seconds: How long.
        """
        me = asyncio.current_task()
        sleep = self._begun(seconds, me)
        try:
            await asyncio.sleep(0)
            # No event tells that other tasks have come to a sleep of their own.
            while not self._ends(sleep, [*asyncio.all_tasks(), *_other_threads(threading.current_thread())]):  # noqa: ASYNC110
                await asyncio.sleep(0)
        finally:
            # Also of a task that was cancelled.
            sleep.is_over = True

    def _begun(self, seconds: float, sleeper: object) -> _Sleep:
        with self._lock:
            self.slept.append(seconds)
            sleep = _Sleep(self.now + seconds, len(self.slept), sleeper)
            heapq.heappush(self._sleeps, sleep)
            self._idle.discard(sleeper)
            self._changed_at, self._looks = time.monotonic(), 0
            return sleep

    def _ends(self, sleep: _Sleep, others: Iterable[object]) -> bool:
        """Whether a sleep is over; time passes up to its end where no other sleep may end before."""
        with self._lock:
            while self._sleeps and self._sleeps[0].is_over:
                heapq.heappop(self._sleeps)
            waited_s = time.monotonic() - self._changed_at
            if sleep.due > self.now:
                if sleep is not self._sleeps[0]:
                    if waited_s < _STUCK_S:
                        return False
                else:
                    asleep = {each.sleeper for each in self._sleeps if not each.is_over}
                    awake = [each for each in others if each not in asleep and each not in self._idle]
                    self._looks += 1
                    if awake and (waited_s < _GRACE_S or self._looks < _LOOKS):
                        return False
                    self._idle.update(awake)
                self.now = sleep.due
            sleep.is_over = True
            self._changed_at, self._looks = time.monotonic(), 0
            return True

    def wait(self, event: Event, seconds: float) -> None:
        """A wait that an event ends; one that is set already makes it none.

        Args:
            event: What ends it.
            seconds: How long.
        """
        if not event.is_set:
            self.sleep(seconds)

    async def await_(self, event: Event, seconds: float) -> None:
        """The same on an event loop.

        Args:
            event: What ends it.
            seconds: How long.
        """
        if not event.is_set:
            await self.asleep(seconds)

    def deadline(self, timeout_s: float | None) -> Deadline:
        """A deadline by this clock.

        Args:
            timeout_s: In so many seconds; None: never.
        """
        return Deadline(timeout_s, self.clock)


def _other_threads(me: threading.Thread) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each is not me]


def _require_zone(moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError(f"{moment}: must have a time zone, as datetime(2026, 11, 18, tzinfo=UTC) has")


class NoJitter(random.Random):
    """Waits are as long as they may be, and nothing is explored."""

    def uniform(self, a: float, b: float) -> float:
        return b

    def random(self) -> float:
        return 0.5


class SameEachTime(NoJitter):
    """Waits are as long as they may be, and what is drawn is the same in each run, with its usual shares."""

    def __init__(self) -> None:
        super().__init__(20)
        self._drawn = random.Random(20)  # noqa: S311 - nothing secret

    def random(self) -> float:
        return self._drawn.random()
