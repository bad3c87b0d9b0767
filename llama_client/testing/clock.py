"""A clock to turn: time that passes only in sleeps and where a test says so, and random numbers that are known."""

from __future__ import annotations

import asyncio
import random
import threading
from datetime import UTC, datetime

from llama_client.clock import Clock, Deadline
from llama_client.waiting import Event

_START = datetime(2026, 11, 18, 11, 8, 20, tzinfo=UTC)


class FakeClock:
    """The time of a test. Whatever sleeps by it returns at once, and the time has passed.

    Args:
        at: What the calendar says when the test begins.

    Attributes:
        now: Seconds of the monotonic clock.
        slept: Each sleep in seconds, in order.
        clock: For a client; see `use`.

    Example:
        >>> clock = FakeClock()
        >>> before = clock.now
        >>> clock.turn(30)
        >>> clock.now - before
        30.0
    """

    def __init__(self, at: datetime = _START) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self._lock = threading.Lock()
        self._wall_at_0 = at.timestamp() - self.now
        self.clock = Clock(
            monotonic=lambda: self.now, wall=lambda: self._wall_at_0 + self.now, sleep=self.sleep, asleep=self.asleep
        )

    def turn(self, seconds: float) -> None:
        """Lets time pass.

        Args:
            seconds: How much.
        """
        with self._lock:
            self.now += seconds

    def sleep(self, seconds: float) -> None:
        """What the client calls to wait.

        Args:
            seconds: How long.
        """
        self.slept.append(seconds)
        self.turn(seconds)

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
        """A wait that an event may end."""
        if not event.is_set:
            self.sleep(seconds)

    async def await_(self, event: Event, seconds: float) -> None:
        """The same on an event loop."""
        if not event.is_set:
            await self.asleep(seconds)

    def deadline(self, timeout_s: float | None) -> Deadline:
        """A deadline by this clock.

        Args:
            timeout_s: In so many seconds; None: never.
        """
        return Deadline(timeout_s, self.clock)


class NoJitter(random.Random):
    """Waits are as long as they may be, and nothing is explored."""

    def uniform(self, a: float, b: float) -> float:
        return b

    def random(self) -> float:
        return 0.5
