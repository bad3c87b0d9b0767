"""A circuit breaker: opens after consecutive failures, half-opens for exactly one trial. No I/O."""

from __future__ import annotations

import threading
from typing import Literal

from llama_client.errors import LlamaClientError
from llama_client.routing.concurrency import Event

BreakerState = Literal["closed", "open", "half-open"]


class HalfOpenTrial(Event):
    """The one call that tries a target which is left alone by all others. They may wait for it."""

    __slots__ = ("error",)

    def __init__(self) -> None:
        super().__init__()
        self.error: LlamaClientError | None = None


class CircuitBreaker:
    """One target's breaker."""

    __slots__ = ("_cooldown_s", "_failures", "_lock", "failures_in_row", "opened_at", "probe")

    def __init__(self, failures: int, cooldown_s: float) -> None:
        self._failures = failures
        self._cooldown_s = cooldown_s
        self._lock = threading.RLock()
        self.failures_in_row = 0
        self.opened_at: float | None = None
        self.probe: HalfOpenTrial | None = None

    def state(self, now: float) -> BreakerState:
        """`closed`: asked as usual; `open`: left alone; `half-open`: one call may try, or is trying."""
        if self.opened_at is None:
            return "closed"
        return "half-open" if self.probe is not None or self.opens_in_s(now) <= 0 else "open"

    def opens_in_s(self, now: float) -> float:
        """Seconds until one call may try."""
        return 0.0 if self.opened_at is None else max(self.opened_at + self._cooldown_s - now, 0.0)

    def try_it(self) -> HalfOpenTrial | None:
        """Becomes the one call that tries; None: another is."""
        with self._lock:
            if self.probe is not None:
                return None
            self.probe = HalfOpenTrial()
            return self.probe

    def succeeded(self) -> None:
        """The target answered, if only to say no."""
        self.failures_in_row = 0
        self.opened_at = None

    def failed(self, now: float) -> bool:
        """The target failed; tells whether that opened the breaker."""
        with self._lock:
            self.failures_in_row += 1
            was_closed = self.opened_at is None
            if self.failures_in_row >= self._failures:
                self.opened_at = now
            return was_closed and self.opened_at is not None

    def end(self, probe: HalfOpenTrial, error: LlamaClientError | None) -> None:
        """The trial is over: who waited for it goes on. What becomes of its answer after that is its own affair."""
        with self._lock:
            if probe.has_come:
                return
            probe.error = error
            if self.probe is probe:
                self.probe = None
        probe.come()
