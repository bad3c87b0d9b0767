"""How often requests of a job may start at a target that refuses what comes too often. No I/O.

A refusal (429) says how long to wait, and nothing more may start until then. Its rate lies between what it has admitted from
one refusal to the next, as it may have admitted more, and the pace that it refused: these bounds are halved until they are
near, and after a while the upper one is tried again.
"""

from __future__ import annotations

from collections import deque
from math import sqrt

# Without a word of the target: so long, and twice as long each time that it refuses again at once.
_SILENT_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
# A pace is kept so long, or for so many starts, before it counts as admitted.
_KEPT_S = 2.0
_KEPT = 10
# Bounds that are so near are the same rate, which is kept so long before more is tried.
_NEAR = 1.04
_HOLD_S = 30.0
_MORE = 1.1
# What came together during a wait starts so much faster than the pace.
_CATCHING_UP = 2.0
_LOWEST_RATE = 1e-3
# Fewer starts at a pace tell nothing about it, but of how many may start at once after a wait.
_TOLD = 4
# Of a pace that was admitted once and is refused now.
_LOWER = 0.9


class Starts:
    """The latest starts at a target: when, and how many were in flight then."""

    def __init__(self) -> None:
        self._latest: deque[tuple[float, int]] = deque(maxlen=8192)
        self.total = 0

    def add(self, at: float, in_flight: int) -> None:
        self._latest.append((at, in_flight))
        self.total += 1

    def since(self, at: float) -> int:
        """How many started at that time or later."""
        count = 0
        for each, _ in reversed(self._latest):
            if each < at:
                break
            count += 1
        return count

    def in_flight(self, at: float) -> int:
        """How many were in flight when the last one before or at that time had started."""
        for each, in_flight in reversed(self._latest):
            if each <= at:
                return in_flight
        return 1


class Pace:
    """When the next request may start at one target.

    Args:
        starts: What has started there.
    """

    def __init__(self, starts: Starts) -> None:
        self._starts = starts
        # The bounds of the target's rate, a second; None: unknown. And the pace between them; None: as fast as can be.
        self._low: float | None = None
        self._high: float | None = None
        self._pace: float | None = None
        self._paced_since = 0.0
        # Of the last refusal that began an era: its start, how many had started before, how many of the later were refused.
        self._refused_at: float | None = None
        self._before = 0
        self._refused = 0
        self._waits_until = 0.0
        self._next_at = 0.0
        self._credit = 0.0
        self._most_credit: float | None = None
        # Since the last wait: of what had come together; and how many had started before.
        self._spent = self._at_wait = 0
        self._silent_s = _SILENT_WAIT_S

    @property
    def is_pacing(self) -> bool:
        return self._pace is not None

    def wait_s(self, now: float) -> float:
        """Seconds until the next one may start."""
        return max(0.0, self._waits_until - now, self._next_at - now if self._pace is not None else 0.0)

    def started(self, now: float) -> None:
        """One has started."""
        if self._pace is None:
            return
        self._adjust(now)
        gap_s = 1.0 / self._pace
        if self._credit >= 1.0:
            self._credit -= 1.0
            self._spent += 1
            gap_s /= 1.0 + _CATCHING_UP
        # What came late is made up for, but no more than one.
        self._next_at = max(self._next_at, now - gap_s) + gap_s

    def admitted(self) -> None:
        """One was answered."""
        self._silent_s = _SILENT_WAIT_S

    def is_new(self, now: float, took_s: float) -> bool:
        """Whether a refusal that has come now tells something: what it refuses started after the last wait."""
        return now >= self._waits_until and now - took_s >= self._waits_until

    def refused(self, now: float, took_s: float, retry_after_s: float | None, *, is_rate: bool) -> None:
        """One was refused.

        Args:
            now: The time.
            took_s: How long the refusal took.
            retry_after_s: How long to wait, as the target says.
            is_rate: Whether it may be the rate that it refuses, and not the number in flight.
        """
        is_new, started_at = self.is_new(now, took_s), now - took_s
        if not is_new:
            if self._refused_at is not None and started_at >= self._refused_at:
                self._refused += 1
            self._waits_until = max(self._waits_until, now + (retry_after_s or 0.0))
            self._next_at = max(self._next_at, self._waits_until)
            return
        if is_rate:
            self._learn(started_at)
        self._begin_era(started_at)
        wait_s = min(self._silent_s, _LONGEST_WAIT_S) if retry_after_s is None else max(retry_after_s, 0.0)
        self._silent_s = self._silent_s * 2 if retry_after_s is None else _SILENT_WAIT_S
        self._waits_until = self._next_at = self._paced_since = now + wait_s
        if self._pace is not None:
            come = self._pace * wait_s
            self._credit = come if self._most_credit is None else min(come, self._most_credit)
            self._spent, self._at_wait = 0, self._starts.total

    def _begin_era(self, started_at: float) -> None:
        self._refused_at = started_at
        self._before = self._starts.total - self._starts.since(started_at)
        self._refused = 0

    def _learn(self, started_at: float) -> None:
        """Takes the bounds of the rate from what was admitted until this refusal."""
        over_era: float | None = None
        if self._refused_at is not None:
            count = self._starts.total - self._starts.since(started_at) - self._before - self._refused
            over_era = max(_LOWEST_RATE, count / max(started_at - self._refused_at, 1e-3))
        at_once = self._starts.total - self._starts.since(started_at) - self._at_wait
        if self._pace is not None and at_once - self._spent < _TOLD and self._most_credit != 0.0:
            # It has no more than this after a wait; of its rate that tells nothing.
            self._most_credit = float(max(0, min(at_once - 1, int((self._most_credit or 1e9) * _LOWER))))
        elif self._pace is not None:
            self._high = self._pace
            if self._low is not None and self._low > self._high / _NEAR:
                self._low = self._high * _LOWER
        if over_era is None:
            return
        low = over_era if self._low is None else max(over_era, self._low)
        self._low = low if self._high is None else min(low, self._high / _NEAR)
        self._pace = self._between()

    def _between(self) -> float:
        assert self._low is not None
        if self._high is None:
            return self._low
        return self._low if self._high <= self._low * _NEAR else sqrt(self._low * self._high)

    def _adjust(self, now: float) -> None:
        """Goes up from a pace that was kept for a while."""
        assert self._pace is not None
        kept_s = now - self._paced_since
        if self._credit >= 1.0:
            self._paced_since = now
            return
        if kept_s * self._pace < _KEPT or kept_s < (_KEPT_S if self._high is not None else _KEPT_S / 4):
            return
        if self._high is None:
            self._low, self._pace = self._pace, self._pace * 2
        elif self._high > self._pace * _NEAR:
            self._low = self._pace
            self._pace = self._between()
        elif kept_s >= _HOLD_S:
            self._high = self._pace * _MORE
            return
        else:
            return
        self._paced_since = now
