"""How many requests of a job may be in flight at a target: as many as still make it answer more. No I/O.

The number doubles while the target answers more, and then a step up or down is tried at times, long enough to tell the
difference from chance. Of two numbers with the same rate the lower one is kept. Where the target refuses more than a
number, that one is its ceiling, above which one more is tried at times.
"""

from __future__ import annotations

from llama_client.bulk.limits.samples import Sample

FIRST = 16
# Twice as many that answer less than this much faster wait for each other.
_WORTH_DOUBLING = 1.15
# A step at times, to follow a target that has become faster or slower.
_STEP = 1.5
# Until one up was not worth it: chance may have ended the doubling.
_FIRST_STEP = 2.0
_WORTH_A_STEP_UP = 1.05
_WORTH_A_STEP_DOWN = 0.975
# Answers whose mean time tells a rate at least; and more, as many times these, where chance may have decided.
_FEWEST_ANSWERS = 16
_MOST_TIMES = 6
_SURE = 0.015
# After a step that was not worth it.
_STAYS_S = 4.0
# Above a ceiling one more is tried after so long, and twice as long each time that it is refused.
_BELOW_CEILING_S, _LONGEST_BELOW_S = 10.0, 40.0


class Climb:
    """The number of requests that may be in flight at one target.

    Args:
        most: It never exceeds this.

    Attributes:
        limit: The number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = min(FIRST, most)
        self._is_doubling = True
        self._sample = Sample(0.0)
        # The rate at the limit that is kept, how sure it is, and that limit while another one is tried.
        self._rate: float | None = None
        self._error = 0.0
        self._kept = self.limit
        self._tries_up = True
        self._stride = _FIRST_STEP
        self._stays_until = 0.0
        self._ceiling: int | None = None
        self._more = 1
        self._below_s = _BELOW_CEILING_S
        self._tries_more_at = 0.0
        self._spacing_s = 0.0

    def pass_time(self, now: float, in_flight: int) -> None:
        """So many were in flight until now."""
        self._sample.pass_time(now, in_flight)

    def ended(self, now: float, took_s: float, *, is_answer: bool, is_refusal: bool) -> bool:
        """One request has ended.

        Args:
            now: The time.
            took_s: How long it took.
            is_answer: Whether it was answered.
            is_refusal: Whether it was refused for lack of capacity.

        Returns:
            Whether many were refused of late.
        """
        sample = self._sample
        if self._is_doubling and now - took_s < sample.since:
            return False
        sample.add(now, took_s, is_answer=is_answer, is_refusal=is_refusal)
        fewest = max(_FEWEST_ANSWERS, self.limit * (1 if self._is_doubling else 2))
        if sample.ended < fewest:
            return sample.refusals > 2 and sample.refusals > 0.05 * sample.ended
        if not sample.is_full(self.limit):
            self._sample = Sample(now)
        elif self._is_doubling:
            self._double(sample, now)
        else:
            self._step(sample, now, is_last=sample.ended >= fewest * _MOST_TIMES)
        return sample.refusals > 0.05 * sample.ended

    def spacing_s(self) -> float:
        """How far apart requests start while more than a ceiling are tried: at once they may be refused for that."""
        return self._spacing_s if self._more > 1 else 0.0

    def stay_below(self, places: int, now: float) -> None:
        """The target refuses more than so many."""
        if self._ceiling is not None:
            self._below_s = min(self._below_s * 2, _LONGEST_BELOW_S)
        self._ceiling, self._more = max(1, min(places, self._most)), 1
        self._tries_more_at = now + self._below_s
        self._is_doubling = False
        self._rate = None
        self._keep(self._ceiling, now)

    def lift_ceiling(self) -> None:
        """The target does not refuse by the number in flight."""
        self._ceiling, self._more = None, 1

    def _double(self, sample: Sample, now: float) -> None:
        # Those that end first are the quickest, in each of these samples alike: no longer ones are compared.
        if self._rate is not None and sample.rate < self._rate * _WORTH_DOUBLING:
            self._is_doubling = False
            self._rate = None
            self._keep(self._kept, now)
            return
        self._rate, self._error = sample.rate, sample.error
        self._is_doubling = self.limit < self._most
        kept = self._kept = self.limit
        self._keep(min(self.limit * 2, self._most), now)
        self._kept = kept if self._is_doubling else self.limit

    def _step(self, sample: Sample, now: float, *, is_last: bool) -> None:
        if self.limit == self._kept or self._rate is None:
            if now >= self._stays_until and now >= self._tries_more_at * (self.limit == self._ceiling):
                self._note(sample)
                self._try(now)
            elif is_last:
                self._note(sample)
                self._sample = Sample(now)
            return
        is_up = self.limit > self._kept
        worth = _WORTH_A_STEP_UP if is_up else _WORTH_A_STEP_DOWN
        is_worth = self._is_worth(sample, self._rate, worth, is_last=is_last)
        if is_worth is None:
            return
        if is_worth:
            self._rate, self._error, self._kept = sample.rate, sample.error, self.limit
            self._try(now)
            return
        self._tries_up = not is_up
        self._stride = _STEP
        self._stays_until = now + _STAYS_S
        self._keep(self._kept, now)

    def _is_worth(self, sample: Sample, before: float, worth: float, *, is_last: bool) -> bool | None:
        """None: chance may have decided."""
        gain, error = sample.rate / max(before, 1e-9), (sample.error**2 + self._error**2) ** 0.5
        if is_last or error < _SURE or abs(gain - worth) > 2 * error * gain:
            return gain >= worth
        return None

    def _note(self, sample: Sample) -> None:
        rate, error = sample.rate, max(sample.error, 1e-3)
        if self._rate is not None and abs(rate / max(self._rate, 1e-9) - 1) < 2 * (error + self._error):
            weight, before = error**-2, max(self._error, 1e-3) ** -2
            # It may change slowly: what was before counts no more than what is now.
            before = min(before, weight)
            rate = (rate * weight + self._rate * before) / (weight + before)
            error = (weight + before) ** -0.5
        self._rate, self._error = rate, error

    def _try(self, now: float) -> None:
        """Goes a step from the limit that is kept, where there is one."""
        if self._ceiling is not None and self.limit >= self._ceiling:
            # Once that was not refused, more at once.
            self._ceiling = min(self._ceiling + self._more, self._most)
            self._more *= 2
            self._spacing_s = self._sample.mean_s / self._ceiling
            self._keep(self._ceiling, now)
            return
        step = self._stride if self._tries_up else 1 / _STEP
        top = self._most if self._ceiling is None else self._ceiling
        limit = max(1, min(round(self._kept * step), top))
        if limit == self._kept:
            limit = max(1, round(self._kept / step)) if self._tries_up else min(self._kept + 1, top)
        self._set(limit, now)

    def _keep(self, limit: int, now: float) -> None:
        self._set(limit, now)
        self._kept = limit

    def _set(self, limit: int, now: float) -> None:
        skips = 0 if self._is_doubling else max(self.limit, limit)
        self.limit = limit
        self._sample = Sample(now, skips)
