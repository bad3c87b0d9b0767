"""Injectable time: clocks, deadlines, and the event loop that an async client belongs to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from llama_client.errors import APITimeoutError, InvalidRequestError

if TYPE_CHECKING:
    import asyncio


async def _asleep(seconds: float) -> None:
    # Imported by those who have a loop anyway: it takes a twentieth of a second.
    import asyncio

    await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the package reads the time, and lets it pass."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep
    asleep: Callable[[float], Awaitable[object]] = _asleep

    def today(self) -> date:
        """The day, in UTC."""
        return datetime.fromtimestamp(self.wall(), tz=UTC).date()


@dataclass(slots=True)
class Deadline:
    """When to give up."""

    timeout_s: float | None
    clock: Clock
    # The moment; None: never.
    at: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.at = None if self.timeout_s is None else self.clock.monotonic() + self.timeout_s

    def restart(self, timeout_s: float | None) -> None:
        """From here on it is that many seconds from now; None: it no longer holds."""
        self.timeout_s = timeout_s
        self.__post_init__()

    def left_s(self) -> float | None:
        """Seconds that are left, below 0 once it has passed; None: no limit."""
        return None if self.at is None else self.at - self.clock.monotonic()

    def remaining_s(self) -> float | None:
        """Seconds that are left, above 0; None: no limit."""
        if self.at is None:
            return None
        left = self.at - self.clock.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> APITimeoutError:
        """The error for having passed it."""
        return APITimeoutError(f"no answer within {self.timeout_s:.3g} s")


class EventLoop:
    """The loop that an asynchronous client belongs to: that of its first call."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Refuses a second loop: what a client has opened belongs to the first."""
        import asyncio

        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise InvalidRequestError(
                "this AsyncLlamaClient belongs to another event loop; make one for each loop (each asyncio.run)"
            )
