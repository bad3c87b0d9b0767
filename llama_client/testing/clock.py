"""Time that passes only in sleeps, and random numbers that are known before."""

from __future__ import annotations

import random

from llama_client.clock import Clock, Deadline


class FakeClock:
    """The time of a test.

    Attributes:
        now: The seconds so far.
        slept: Each sleep, in order.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.clock = Clock(
            monotonic=lambda: self.now, wall=lambda: 1_795_000_000.0 + self.now, sleep=self.sleep, asleep=self.asleep
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(timeout_s, self.clock)


class NoJitter(random.Random):
    """Waits are as long as they may be, and nothing is explored."""

    def uniform(self, a: float, b: float) -> float:
        return b

    def random(self) -> float:
        return 0.5
