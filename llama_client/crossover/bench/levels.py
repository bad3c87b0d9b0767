"""The figures of a measured level, which holds a number of requests in flight: a new one starts as soon as one ends."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, with its times in seconds of one clock."""

    started: float
    ended: float
    first: float | None = None
    last: float | None = None
    chunks: int = 0
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
        return self.error is None and not self.is_cut

    @property
    def ttft_ms(self) -> float | None:
        return None if self.first is None else (self.first - self.started) * 1000

    @property
    def tpot_ms(self) -> float | None:
        """The time of an output token after the first chunk; None: it came in one chunk."""
        shown = (self.output_tokens or 0) - self.hidden_tokens
        if self.first is None or self.last is None or self.chunks < 2 or shown < 2:
            return None
        # A chunk may hold several tokens; those of the first came before the measured time.
        return (self.last - self.first) * 1000 / (shown * (self.chunks - 1) / self.chunks)


@dataclass(frozen=True, slots=True)
class Spread:
    """The distribution of a value over requests, in milliseconds."""

    p50: float
    p95: float
    mean: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        if not values:
            return None
        ordered = sorted(values)
        middle, high = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.95))
        return cls(middle, high, sum(ordered) / len(ordered))


@dataclass(frozen=True, slots=True)
class Level:
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
    chunks_per_token: float | None = None
    mean_queue_s: float | None = None

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


def level_of(concurrency: int, samples: Sequence[Sample]) -> Level:
    answered = [sample for sample in samples if sample.is_answered and sample.output_tokens is not None]
    errors = dict(Counter(sample.error for sample in samples if sample.error is not None))
    began, over = min(sample.started for sample in samples), max(sample.ended for sample in samples)
    level = Level(concurrency, len(answered), errors, sum(sample.is_cut for sample in samples), over - began)
    if not answered:
        return level
    window = _steady_phase(concurrency, samples, answered)
    # Without a steady phase the rate is that of the whole level, and too low.
    start, end = window or (began, over)
    tokens, chunks = sum(each.output_tokens or 0 for each in answered), sum(each.chunks for each in answered)
    rate = sum(_tokens_within(each, start, end, tokens / max(chunks, 1)) for each in samples) / (end - start)
    # Prompts of requests that started before the steady phase were read together with all others.
    settled = [each for each in answered if window is None or each.started >= start] or answered
    return replace(
        level,
        output_tokens_per_s=rate,
        is_steady=window is not None,
        ttft_ms=Spread.of(_known(each.ttft_ms for each in settled)),
        tpot_ms=Spread.of(_known(each.tpot_ms for each in settled)),
        mean_input_tokens=_mean(each.input_tokens for each in settled),
        mean_output_tokens=_mean(each.output_tokens for each in settled),
        estimated=sum(each.are_estimated for each in answered),
        overcounted=sum(each.is_overcounted for each in answered),
        chunks_per_token=chunks / tokens if tokens else None,
        mean_queue_s=_mean(each.queue_s for each in answered),
    )


def _steady_phase(
    concurrency: int, samples: Sequence[Sample], answered: Sequence[Sample]
) -> tuple[float, float] | None:
    """Start and end of the steady phase; None: it is shorter than an answer takes."""
    # From the end of the first answer (before it, all prompts were read at once) to the first end that no new request
    # followed (after it, fewer were in flight). A single request at a time has no such edges.
    last_start = max(sample.started for sample in samples)
    end = min(sample.ended for sample in samples if sample.ended > last_start or sample.started == last_start)
    if concurrency == 1:
        return min(sample.started for sample in samples), end
    start = min(sample.ended for sample in answered)
    latency_s = sum(sample.ended - sample.started for sample in answered) / len(answered)
    return (start, end) if end - start >= latency_s else None


def _tokens_within(sample: Sample, start: float, end: float, tokens_per_chunk: float) -> float:
    """The tokens of a request that came between two moments, taken as evenly spread."""
    if sample.first is None or sample.last is None:
        return 0.0
    tokens = sample.output_tokens if sample.output_tokens is not None else sample.chunks * tokens_per_chunk
    took = sample.last - sample.first
    if took <= 0:
        return tokens if start < sample.last <= end else 0.0
    return tokens * max(0.0, min(end, sample.last) - max(start, sample.first)) / took


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return sum(known) / len(known) if known else None
