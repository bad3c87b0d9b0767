"""How fast a target has been of late."""

from __future__ import annotations

# Half of what was measured this long ago counts no more: providers change within minutes.
_HALF_LIFE_S = 300.0
# With less than this much of one measurement left, nothing is known any more.
_LEAST_WEIGHT = 0.05


class DecayedMean:
    """A mean in which a measurement counts the less the older it is: half as much after each half-life."""

    __slots__ = ("_at", "_mean", "_weight")

    def __init__(self) -> None:
        self._mean = 0.0
        self._weight = 0.0
        self._at = 0.0

    def add(self, value: float, now: float) -> None:
        """Takes in a measurement."""
        self._weight = self._weight_at(now) + 1.0
        self._at = now
        self._mean += (value - self._mean) / self._weight

    def value(self, now: float) -> float | None:
        """The mean; None where nothing was measured, or too long ago."""
        return self._mean if self._weight_at(now) >= _LEAST_WEIGHT else None

    def _weight_at(self, now: float) -> float:
        weight = self._weight
        return weight * 0.5 ** ((now - self._at) / _HALF_LIFE_S) if weight else 0.0


class Pace:
    """A target's times: to the first token and per token, from streams; of whole answers, by their tokens."""

    __slots__ = ("latency_s", "tokens_per_s", "ttft_s", "whole_tokens_per_s")

    def __init__(self) -> None:
        self.ttft_s = DecayedMean()
        self.tokens_per_s = DecayedMean()
        self.latency_s = DecayedMean()
        self.whole_tokens_per_s = DecayedMean()

    def note(
        self, now: float, *, latency_s: float, ttft_s: float | None, tokens: int | None, tokens_per_s: float | None
    ) -> None:
        """Takes in an answer.

        Args:
            now: The time.
            latency_s: From the start of the attempt to its end.
            ttft_s: From there to its first token; None for a whole answer.
            tokens: The answer's; None: unknown.
            tokens_per_s: The speed after the first token, where known.
        """
        self.latency_s.add(latency_s, now)
        if ttft_s is not None:
            self.ttft_s.add(ttft_s, now)
        elif tokens and latency_s > 0:
            self.whole_tokens_per_s.add(tokens / latency_s, now)
        if tokens_per_s is not None:
            self.tokens_per_s.add(tokens_per_s, now)

    def expected_s(self, now: float, *, tokens: float, streams: bool) -> float | None:
        """How long an answer of that many tokens will take; None: nobody knows.

        A stream's is the time to the first token and the tokens at their pace; a whole answer's the tokens at the pace
        of whole answers, which has the wait for the first token in it.
        """
        ttft, pace = self.ttft_s.value(now), self.tokens_per_s.value(now)
        as_stream = None if ttft is None else ttft + (tokens / pace if pace else 0.0)
        whole = self.whole_tokens_per_s.value(now)
        as_whole = tokens / whole if whole else None
        first, second = (as_stream, as_whole) if streams else (as_whole, as_stream)
        if first is not None:
            return first
        return second if second is not None else self.latency_s.value(now)
