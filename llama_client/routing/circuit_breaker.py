"""A circuit breaker: opens after consecutive failures, half-opens for exactly one trial. No I/O."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field
from typing import Literal

from llama_client.errors import LlamaClientError
from llama_client.waiting import Event


class HalfOpenTrial(Event):
    """The one attempt that tests an open circuit. Other calls may wait for its end."""

    __slots__ = ("error",)

    def __init__(self) -> None:
        super().__init__()
        self.error: LlamaClientError | None = None


@dataclass(slots=True, eq=False)
class CircuitBreaker:
    _failures: int
    _cooldown_s: float
    failures_in_row: int = 0
    opened_at: float | None = None
    trial: HalfOpenTrial | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def state(self, now: float) -> Literal["closed", "open", "half-open"]:
        if self.opened_at is None:
            return "closed"
        return "half-open" if self.trial is not None or self.half_open_in_s(now) <= 0 else "open"

    def half_open_in_s(self, now: float) -> float:
        return 0.0 if self.opened_at is None else max(self.opened_at + self._cooldown_s - now, 0.0)

    def start_trial(self, trial: HalfOpenTrial) -> bool:
        """False: another trial is in flight."""
        with self._lock:
            if self.trial is None:
                self.trial = trial
            return self.trial is trial

    def end_trial(self, trial: HalfOpenTrial, error: LlamaClientError | None) -> None:
        """Wakes the calls that wait for it. Safe to call again, as content may end a trial before the attempt ends."""
        with self._lock:
            if not trial.is_set:
                # Without its traceback, which refers to the frames of the call that made the trial.
                trial.error = copy.copy(error)
            if self.trial is trial:
                self.trial = None
        trial.set()

    def succeeded(self) -> None:
        """The target responded, if only with a refusal."""
        self.failures_in_row = 0
        self.opened_at = None

    def failed(self, now: float) -> None:
        with self._lock:
            self.failures_in_row += 1
            if self.failures_in_row >= self._failures:
                self.opened_at = now
