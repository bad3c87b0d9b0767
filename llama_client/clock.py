"""Time as something that is handed in, so that tests need not wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from llama_client.errors import APITimeoutError


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the package reads the time.

    Attributes:
        monotonic: Seconds from an arbitrary start, never going back: for durations and deadlines.
        wall: Seconds since the Unix epoch: for what is shown to people and other systems.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

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
        self._at = None if self.timeout_s is None else self.clock.monotonic() + self.timeout_s

    def lift(self) -> None:
        """From here on it no longer holds."""
        self._at = None

    def remaining_s(self) -> float | None:
        """Seconds that are left, above 0; None: no limit.

        Raises:
            APITimeoutError: None are left.
        """
        if self._at is None:
            return None
        left = self._at - self.clock.monotonic()
        if left <= 0:
            raise APITimeoutError(f"no answer within {self.timeout_s:.3g} s")
        return left
