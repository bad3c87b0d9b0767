"""What a measured level comes to: each request's times and tokens, and the numbers that are made of them.

A level holds a number of requests open all the time: a new one starts as soon as one ends. Its rate is taken over its
steady phase: from the end of the first answer (before it, all were read at once) to the first end that nobody took the
place of (after it, fewer were open than there should be). Where that phase is shorter than an answer takes, the whole
level is taken, start and end included, which tells too low a rate; `is_steady` says which it was. A single request at a
time has no such edges.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, with its times in seconds of one clock."""

    started: float
    ended: float
    first: float | None = None
    last: float | None = None
    pieces: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    hidden_tokens: int = 0
    are_estimated: bool = False
    error: str | None = None
    is_cut: bool = False
    is_overcounted: bool = False
    queue_s: float | None = None

    @property
    def is_answered(self) -> bool:
        """Whether it came to a good end."""
        return self.error is None and not self.is_cut

    @property
    def ttft_ms(self) -> float | None:
        """From sending it to the first content, in milliseconds."""
        return None if self.first is None else (self.first - self.started) * 1000

    @property
    def tpot_ms(self) -> float | None:
        """The time of an output token after the first piece, in milliseconds; None: it came in one piece.

        A piece may hold several tokens; the first one's are not among those that the time after it was spent on.
        """
        shown = (self.output_tokens or 0) - self.hidden_tokens
        if self.first is None or self.last is None or self.pieces < 2 or shown < 2:
            return None
        return (self.last - self.first) * 1000 / (shown * (self.pieces - 1) / self.pieces)


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of several requests, in milliseconds."""

    p50: float
    p95: float
    mean: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Of these; None: there are none.

        Examples:
            >>> Spread.of([1, 2, 3, 10])
            Spread(p50=2, p95=10, mean=4.0)
        """
        if not values:
            return None
        ordered = sorted(values)
        middle, high = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.95))
        return cls(middle, high, sum(ordered) / len(ordered))


@dataclass(frozen=True, slots=True)
class Level:
    """What was measured with a number of requests open at once."""

    concurrency: int
    answered: int
    errors: Mapping[str, int]
    cut: int
    wall_s: float
    output_tokens_per_s: float | None = None
    is_steady: bool = False
    ttft_ms: Spread | None = None
    tpot_ms: Spread | None = None
    mean_input_tokens: float | None = None
    mean_output_tokens: float | None = None
    estimated: int = 0
    overcounted: int = 0
    pieces_per_token: float | None = None
    mean_queue_s: float | None = None

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.errors.values())


def level_of(concurrency: int, samples: Sequence[Sample]) -> Level:
    """The numbers of a level."""
    answered = [sample for sample in samples if sample.is_answered and sample.output_tokens is not None]
    errors = Counter(sample.error for sample in samples if sample.error is not None)
    began, over = min(sample.started for sample in samples), max(sample.ended for sample in samples)
    cut = sum(sample.is_cut for sample in samples)
    if not answered:
        return Level(concurrency, 0, errors, cut, over - began)
    window = _steady_phase(concurrency, samples, answered)
    start, end = window or (began, over)
    tokens, pieces = sum(each.output_tokens or 0 for each in answered), sum(each.pieces for each in answered)
    rate = sum(_tokens_within(sample, start, end, tokens / max(pieces, 1)) for sample in samples) / (end - start)
    # What began before was read together with all others.
    settled = [each for each in answered if window is None or each.started >= start] or answered
    queues = [each.queue_s for each in answered if each.queue_s is not None]
    return Level(
        concurrency,
        len(answered),
        errors,
        cut,
        over - began,
        rate,
        window is not None,
        Spread.of([each.ttft_ms for each in settled if each.ttft_ms is not None]),
        Spread.of([each.tpot_ms for each in settled if each.tpot_ms is not None]),
        _mean([each.input_tokens for each in settled if each.input_tokens is not None]),
        _mean([each.output_tokens for each in settled if each.output_tokens is not None]),
        sum(each.are_estimated for each in answered),
        sum(each.is_overcounted for each in answered),
        pieces / tokens if tokens else None,
        _mean(queues),
    )


def _steady_phase(
    concurrency: int, samples: Sequence[Sample], answered: Sequence[Sample]
) -> tuple[float, float] | None:
    """From when to when as many were open as there should be, at different stages; None: for less than an answer."""
    last_start = max(sample.started for sample in samples)
    end = min(sample.ended for sample in samples if sample.ended > last_start or sample.started == last_start)
    if concurrency == 1:
        return min(sample.started for sample in samples), end
    start = min(sample.ended for sample in answered)
    latency_s = sum(sample.ended - sample.started for sample in answered) / len(answered)
    return (start, end) if end - start >= latency_s else None


def _tokens_within(sample: Sample, start: float, end: float, tokens_a_piece: float) -> float:
    """The tokens of a request that came between two moments, as if they came evenly."""
    if sample.first is None or sample.last is None:
        return 0.0
    tokens = sample.output_tokens if sample.output_tokens is not None else sample.pieces * tokens_a_piece
    took = sample.last - sample.first
    if took <= 0:
        return tokens if start < sample.last <= end else 0.0
    return tokens * max(0.0, min(end, sample.last) - max(start, sample.first)) / took


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
