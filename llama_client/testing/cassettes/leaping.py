"""Real time in which nothing waits: a replay is as quick as it can be, and its clients still see their waits pass."""

from __future__ import annotations

import asyncio
import threading
import time

from llama_client.clock import Clock


class LeapingTime:
    """Time that leaps to the end of each wait between attempts, and passes as ever else.

    Attributes:
        clock: The same as a `Clock`.
    """

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._lock = threading.Lock()
        self.clock = Clock(
            monotonic=self._now_s, wall=lambda: time.time() + self._ahead_s, sleep=self._sleep, asleep=self._asleep
        )

    def _now_s(self) -> float:
        return time.monotonic() + self._ahead_s

    def _sleep(self, seconds: float) -> None:
        self._leap(self._now_s() + seconds)

    async def _asleep(self, seconds: float) -> None:
        until_s = self._now_s() + seconds
        # The waits of other tasks pass at the same time.
        await asyncio.sleep(0)
        self._leap(until_s)

    def _leap(self, until_s: float) -> None:
        with self._lock:
            self._ahead_s = max(self._ahead_s, until_s - time.monotonic())
