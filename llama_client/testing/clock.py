"""A clock to turn: time that passes only in sleeps and where a test says so, and random numbers that are known."""

from __future__ import annotations

import asyncio
import random
import threading
from datetime import UTC, datetime, timedelta

from llama_client.clock import Clock, Deadline
from llama_client.waiting import Event

_START = datetime(2026, 11, 18, 11, 8, 20, tzinfo=UTC)


class FakeClock:
    """The time of a test: it stands still, and passes where a client waits and where the test says so.

    Waits between attempts (backoff, `Retry-After`) return at once, and the time has passed. Everything that a client
    reads of the time is by this clock: circuit breakers, rate limits, deadlines, windows of budgets, prices, the
    moments in the ledger. By real time go the waits that something else ends: for `hedge_after_s`, for a free place
    under `max_concurrency`, for bytes of a socket, and the writing of the ledger.

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
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds

    async def asleep(self, seconds: float) -> None:
        """The same on an event loop, which turns to its other tasks meanwhile.

        Args:
            seconds: How long.
        """
        self.slept.append(seconds)
        until = self.now + seconds
        # What other tasks sleep meanwhile passes at the same time.
        await asyncio.sleep(0)
        with self._lock:
            self.now = max(self.now, until)

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


def _require_zone(moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError(f"{moment}: must have a time zone, as datetime(2026, 11, 18, tzinfo=UTC) has")


class NoJitter(random.Random):
    """Waits are as long as they may be, and nothing is explored."""

    def uniform(self, a: float, b: float) -> float:
        return b

    def random(self) -> float:
        return 0.5
