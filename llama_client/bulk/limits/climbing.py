"""How many requests of a job may be in flight at a target: as many as still make it answer more. No I/O.

The rate at which a target answers is the number in flight divided by the time that one takes (Little's law), which a few
answers tell at once. The number doubles while that rate grows, and then tries a step up or down at times.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST = 16
# Twice as many that answer less than this much faster: they wait for each other.
_WORTH_DOUBLING = 1.15
# A step at times, to follow a target that has become faster or slower.
_STEP = 1.5
_WORTH_A_STEP_UP = 1.05
_WORTH_A_STEP_DOWN = 0.98
# Answers whose mean time tells a rate.
_FEWEST_ANSWERS = 16
# A share of refusals for lack of capacity that says: fewer.
_TOO_MANY_REFUSALS = 0.05
_BACK = 0.8
# Once it has refused about as many before, more are not tried for so long.
_HOLD_S = 30.0
_ABOUT = 0.75


@dataclass(slots=True)
class _Sample:
    """What the requests that started with the same limit came to."""

    since: float
    answers: int = 0
    failures: int = 0
    refusals: int = 0
    in_flight: int = 0
    took_s: float = 0.0

    @property
    def ended(self) -> int:
        return self.answers + self.failures + self.refusals

    @property
    def rate(self) -> float:
        """Answers a second."""
        # in flight / time of one, times the share that was answered
        return self.in_flight / max(self.took_s, 1e-9) * self.answers / max(self.ended, 1)


@dataclass(slots=True)
class Climb:
    """The number of requests that may be in flight at one target.

    Attributes:
        most: It never exceeds this.
        limit: The number.
    """

    most: int
    limit: int = 0
    _is_doubling: bool = True
    _sample: _Sample = field(default_factory=lambda: _Sample(0.0))
    # The rate at the limit that is kept, and that limit while another one is tried.
    _rate: float | None = None
    _kept: int = 0
    _tries_up: bool = True
    _refused: int = 0
    _holds_until: float = 0.0

    def __post_init__(self) -> None:
        self.limit = min(FIRST, self.most)

    def ended(self, now: float, took_s: float, in_flight: int, *, is_answer: bool, is_refusal: bool) -> None:
        """One request has ended.

        Args:
            now: The time.
            took_s: How long it took.
            in_flight: How many were in flight when it started, itself included.
            is_answer: Whether it was answered.
            is_refusal: Whether it was refused for lack of capacity.
        """
        sample = self._sample
        if now - took_s < sample.since:
            return
        sample.answers += is_answer
        sample.refusals += is_refusal
        sample.failures += not is_answer and not is_refusal
        sample.in_flight += in_flight
        sample.took_s += took_s
        if sample.ended >= max(_FEWEST_ANSWERS, self.limit * (1 if self._is_doubling else 2)):
            self._decide(sample, now)

    def lower(self, limit: int, now: float) -> None:
        """No more than so many: the target refuses them."""
        self._is_doubling = False
        limit = max(1, min(limit, self.limit))
        if limit >= self._refused * _ABOUT:
            self._holds_until = now + _HOLD_S if self._refused else now
        self._refused = limit
        self._rate = None
        self._set(limit, now, is_kept=True)

    def _decide(self, sample: _Sample, now: float) -> None:
        if sample.refusals > _TOO_MANY_REFUSALS * sample.ended:
            self.lower(int(self.limit * _BACK), now)
            return
        rate, before, is_binding = sample.rate, self._rate, sample.in_flight >= 0.7 * self.limit * sample.ended
        if self._is_doubling:
            if not is_binding:
                self._sample = _Sample(now)
            elif before is None or rate >= before * _WORTH_DOUBLING:
                self._rate, self._kept = rate, self.limit
                self._set(min(self.limit * 2, self.most), now, is_kept=self.limit == self.most)
                self._is_doubling = self._kept < self.most
            else:
                self._is_doubling = False
                self._set(self._kept, now, is_kept=True)
        elif self.limit == self._kept or before is None:
            self._rate = rate if before is None else (before + rate) / 2
            self._try(now, is_binding=is_binding)
        else:
            is_up = self.limit > self._kept
            is_worth = rate >= before * (_WORTH_A_STEP_UP if is_up else _WORTH_A_STEP_DOWN)
            self._rate = rate if is_worth else before
            self._tries_up = is_up if is_worth else not is_up
            self._set(self.limit if is_worth else self._kept, now, is_kept=True)

    def _try(self, now: float, *, is_binding: bool) -> None:
        """Goes a step from the limit that is kept, where that would show a difference."""
        step = _STEP if self._tries_up else 1 / _STEP
        limit = max(1, min(round(self._kept * step), self.most))
        if not is_binding or limit == self._kept or (limit > self._kept and now < self._holds_until):
            self._tries_up = not self._tries_up
            limit = self._kept
        self._set(limit, now, is_kept=limit == self._kept)

    def _set(self, limit: int, now: float, *, is_kept: bool) -> None:
        self.limit = limit
        if is_kept:
            self._kept = limit
        self._sample = _Sample(now)
