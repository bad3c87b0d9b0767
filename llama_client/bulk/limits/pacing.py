"""How often requests of a job may start at a target that refuses what comes too often. No I/O.

A refusal (429) says how long to wait, and nothing more may start until then. The target's rate lies between what it has
admitted from one refusal to the next, as it may have admitted more, and the pace that it refused: these bounds are
halved until they are near, and after a while a little more is tried.
"""

from __future__ import annotations

from math import sqrt

from llama_client.bulk.limits.flights import Flight

# Without a word of the target: so long, and twice as long each time that it refuses again at once.
_SILENT_WAIT_S = 1.0
_LONGEST_SILENT_WAIT_S = 60.0
# While more than a few in a hundred are refused, each wait is twice as long as the one before, at least.
_TOO_MANY_REFUSED = 0.03
_LEAST_WAIT_S, _MOST_LEAST_WAIT_S = 0.05, 1.0
# A pace is kept so long, and for so many starts, before it counts as admitted; before the first that was refused: less.
_KEPT_S, _KEPT_AT_FIRST_S = 2.0, 0.4
_KEPT = 10
# Where none may start at once beside another: its second one would be refused.
_KEPT_WITHOUT_BURST = 4
# Bounds that are so near are the same rate, which is kept so long before more is tried; then more each time.
_NEAR = 1.04
_HOLD_S, _LONGEST_HOLD_S = 30.0, 60.0
_MORE = (1.05, 1.1, 1.3, 2.0)
# What came together during a wait starts so much faster than the pace.
_CATCHING_UP = 2.0
# Timers wake late: starts are made up for as far back.
_LATE_S = 0.05
_LOWEST_RATE = 1e-3
# Fewer starts at a pace tell nothing about it, but of how many may start at once after a wait.
_TOLD = 4
# Of a pace that was admitted once and is refused now.
_LOWER = 0.9


class Pace:
    """When the next request may start at one target."""

    def __init__(self) -> None:
        # The bounds of the target's rate, a second; None: unknown. And the pace between them; None: as fast as can be.
        self._low: float | None = None
        self._high: float | None = None
        self._pace: float | None = None
        self._paced_since = 0.0
        self._paced_from = 0
        self._raised = 0
        self._base = 0.0
        self._hold_s = _HOLD_S
        # The refused request that began an era, and how many were refused since.
        self._first: Flight | None = None
        self._refused = 0
        self._total = 0
        self._waits_until = 0.0
        self._next_at = 0.0
        self._least_wait_s = 0.0
        self._silent_s = _SILENT_WAIT_S
        # How many may start at once after a wait beside the first one, at most, and now; and how many of these have.
        self._most_credit = 0.0
        self._credit = 0.0
        self._spent = self._at_wait = 0

    def wait_s(self, now: float) -> float:
        """Seconds until the next one may start."""
        return max(0.0, self._waits_until - now, self._next_at - now if self._pace is not None else 0.0)

    def started(self, flight: Flight) -> None:
        """One has started."""
        self._total = flight.number
        if self._pace is None:
            return
        now = flight.started_at
        self._adjust(now)
        gap_s = 1.0 / self._pace
        # Where none may start at once, the next one keeps its distance.
        late_s = min(self._most_credit * gap_s, max(gap_s, _LATE_S))
        if self._credit >= 1.0:
            self._credit -= 1.0
            self._spent += 1
            gap_s /= 1.0 + _CATCHING_UP
        self._next_at = max(self._next_at, now - late_s) + gap_s

    def admitted(self) -> None:
        """One was answered."""
        self._silent_s = _SILENT_WAIT_S

    def is_new(self, flight: Flight) -> bool:
        """Whether a refused one started after the last wait: only then its refusal tells something."""
        return flight.number > self._at_wait

    def hold(self, until: float) -> None:
        """None may start before that time."""
        self._waits_until = max(self._waits_until, until)
        self._next_at = max(self._next_at, self._waits_until)

    def forget(self) -> None:
        """It is not the rate that the target refuses."""
        self._low = self._high = self._pace = self._first = None
        self._credit = 0.0

    def refused(self, flight: Flight, now: float, retry_after_s: float | None) -> None:
        """One was refused.

        Args:
            flight: The one.
            now: The time.
            retry_after_s: How long to wait, as the target says.
        """
        if not self.is_new(flight):
            self._refused += 1
            self.hold(now + (retry_after_s or 0.0))
            return
        is_first = self._first is None
        self._learn(flight)
        self._first, self._refused = flight, 1
        self.pause(now, retry_after_s)
        waited_s = max(self._waits_until - flight.started_at, 1e-3)
        if is_first:
            # As many as it has admitted at once, until the next refusal tells more.
            self._pace = (self._most_credit + 1.0) / waited_s
        if self._pace is not None:
            self._credit = min(self._pace * waited_s, self._most_credit)

    def pause(self, now: float, retry_after_s: float | None) -> None:
        """Waits as a target has asked that has refused."""
        wait_s = min(self._silent_s, _LONGEST_SILENT_WAIT_S) if retry_after_s is None else max(retry_after_s, 0.0)
        self._silent_s = self._silent_s * 2 if retry_after_s is None else _SILENT_WAIT_S
        self._waits_until = self._next_at = self._paced_since = now + max(wait_s, self._least_wait_s)
        self._spent, self._at_wait = 0, self._total
        self._paced_from = self._total

    def _learn(self, flight: Flight) -> None:
        """Takes the bounds of the rate from what was admitted until this refusal."""
        at_once = flight.number - self._at_wait - 1
        if self._first is None:
            self._most_credit = max(0.0, at_once - 1.0)
            return
        admitted = max(0, flight.number - self._first.number - self._refused)
        self._space_refusals(admitted)
        over_era = max(_LOWEST_RATE, max(admitted, 0.5) / max(flight.started_at - self._first.started_at, 1e-3))
        if self._pace is not None and at_once - self._spent < _TOLD and self._most_credit >= 1.0:
            # It has no more than this after a wait; of its rate that tells nothing.
            self._most_credit = float(max(0, min(at_once - 1, int(self._most_credit * _LOWER))))
        elif self._pace is not None and self._raised == 1:
            # A first step above what was kept for long: back to that.
            self._low, self._high = self._base, self._base * _NEAR
            self._hold_s = min(self._hold_s * 2, _LONGEST_HOLD_S)
            self._raised, self._pace = 0, self._low
            return
        elif self._pace is not None:
            self._high, self._hold_s, self._raised = self._pace, _HOLD_S, 0
            if self._low is not None and self._low > self._high / _NEAR:
                self._low = self._high * _LOWER
        low = over_era if self._low is None else max(over_era, self._low)
        self._low = low if self._high is None else min(low, self._high / _NEAR)
        self._pace = self._between()

    def _space_refusals(self, admitted: int) -> None:
        if self._refused > _TOO_MANY_REFUSED * admitted:
            self._least_wait_s = min(max(_LEAST_WAIT_S, self._least_wait_s * 2), _MOST_LEAST_WAIT_S)
        else:
            self._least_wait_s /= 2

    def _between(self) -> float:
        assert self._low is not None
        if self._high is None:
            return self._low
        return self._low if self._high <= self._low * _NEAR else sqrt(self._low * self._high)

    def _adjust(self, now: float) -> None:
        """Goes up from a pace that was kept for a while."""
        assert self._pace is not None
        kept_s, kept = now - self._paced_since, self._total - self._paced_from
        if self._credit >= 1.0:
            self._keep_from(now)
            return
        is_first = self._high is None
        fewest = _KEPT_WITHOUT_BURST if is_first and self._most_credit < 1.0 else _KEPT
        # Where the pace is not what holds the starts back, it is not tried.
        is_kept = kept >= max(fewest, 0.8 * kept_s * self._pace)
        # A rate that is exceeded by so little is refused only once what may start at once is used up.
        drained_s = min(self._most_credit / (self._pace * (_MORE[0] - 1.0)), _HOLD_S)
        if not is_kept or kept_s < (_KEPT_AT_FIRST_S if is_first else _KEPT_S + drained_s * (self._raised == 1)):
            if kept_s > 3 * _HOLD_S:
                self._keep_from(now)
            return
        if self._high is None:
            self._low, self._pace = self._pace, self._pace * 2
        elif self._high > self._pace * _NEAR:
            self._low = self._pace
            self._pace = self._between()
        elif kept_s >= (_KEPT_S if self._raised else self._hold_s):
            self._base = self._low = self._pace
            self._pace = self._high = self._pace * _MORE[min(self._raised, len(_MORE) - 1)]
            self._raised += 1
        else:
            return
        self._keep_from(now)

    def _keep_from(self, now: float) -> None:
        self._paced_since, self._paced_from = now, self._total
