"""Time as something that is handed in, so that tests need not wait for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from llama_client.errors import APITimeoutError


async def _asleep(seconds: float) -> None:
    # Imported by those who have a loop anyway: it takes a twentieth of a second.
    import asyncio

    await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the package reads the time, and lets it pass.

    Attributes:
        monotonic: Seconds from an arbitrary start, never going back: for durations and deadlines.
        wall: Seconds since the Unix epoch: for what is shown to people and other systems.
        sleep: Lets seconds pass, blocking.
        asleep: The same on an event loop.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep
    asleep: Callable[[float], Awaitable[object]] = _asleep

    def today(self) -> date:
        """The day, in UTC."""
        return datetime.fromtimestamp(self.wall(), tz=UTC).date()


@dataclass(slots=True)
class Deadline:
    """When to give up.

    Attributes:
        timeout_s: Seconds from now; None: never.
        clock: The time.
    """

    timeout_s: float | None
    clock: Clock
    _at: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.restart(self.timeout_s)

    def restart(self, timeout_s: float | None) -> None:
        """From here on it is that many seconds from now; None: it no longer holds."""
        self.timeout_s = timeout_s
        self._at = None if timeout_s is None else self.clock.monotonic() + timeout_s

    def left_s(self) -> float | None:
        """Seconds that are left, below 0 once it has passed; None: no limit."""
        return None if self._at is None else self._at - self.clock.monotonic()

    def remaining_s(self) -> float | None:
        """Seconds that are left, above 0; None: no limit.

        Raises:
            APITimeoutError: None are left.
        """
        if self._at is None:
            return None
        left = self._at - self.clock.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> APITimeoutError:
        """The error for having passed it."""
        return APITimeoutError(f"no answer within {self.timeout_s:.3g} s")
