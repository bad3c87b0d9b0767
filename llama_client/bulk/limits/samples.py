"""How fast a target answers with so many requests in flight, and how sure that is. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt


@dataclass(slots=True)
class Sample:
    """What requests came to that ended while the limit was the same.

    Attributes:
        since: When it began.
        skips: So many that end first are of the time before.
    """

    since: float
    skips: int = 0
    answers: int = 0
    ended: int = 0
    refusals: int = 0
    in_flight_s: float = 0.0
    took_s: float = 0.0
    squares: float = 0.0
    _at: float = 0.0

    def __post_init__(self) -> None:
        self._at = self.since

    def pass_time(self, now: float, in_flight: int) -> None:
        """So many were in flight until now."""
        self.in_flight_s += in_flight * (now - self._at)
        self._at = now

    def add(self, now: float, took_s: float, *, is_answer: bool, is_refusal: bool) -> None:
        """One has ended."""
        if self.skips > 0:
            self.skips -= 1
            self.since, self.in_flight_s = now, 0.0
            return
        self.ended += 1
        self.answers += is_answer
        self.refusals += is_refusal
        self.took_s += took_s
        self.squares += took_s * took_s

    @property
    def in_flight(self) -> float:
        """How many there were, on average over the time."""
        return self.in_flight_s / max(self._at - self.since, 1e-9)

    @property
    def mean_s(self) -> float:
        """How long one took."""
        return self.took_s / max(self.ended, 1)

    @property
    def rate(self) -> float:
        """Answers a second: in flight / time of one (Little's law), times the share that was answered."""
        return self.in_flight / max(self.mean_s, 1e-9) * self.answers / max(self.ended, 1)

    @property
    def error(self) -> float:
        """The standard error of the rate, as a share of it."""
        mean = self.mean_s
        variance = max(self.squares / max(self.ended, 1) - mean * mean, 0.0)
        return sqrt(variance / max(self.ended, 1)) / max(mean, 1e-9)

    def is_full(self, limit: int) -> bool:
        """Whether it was the limit that held requests back, so that their rate is of that limit."""
        return self.in_flight >= 0.8 * limit
