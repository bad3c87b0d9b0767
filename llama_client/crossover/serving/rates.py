"""How many output tokens a second one replica gives: measured by the user, else published, else estimated.

**The same configuration** is the same shape of model (Llama 3.1-70B and 3.3-70B are one), GPU, number of GPUs,
precision and engine; a measured point without an engine suits each. Lengths and load may differ: the estimator's whole
curve is then scaled by what the nearest point gave over what the estimator says of that point, the less the further off
that point is: the logarithm of that ratio is weighed against the estimate's own, each by the inverse of its variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from llama_client.crossover.serving.capacity import require_lengths, require_number
from llama_client.crossover.serving.ceiling import ceiling_tokens_per_s
from llama_client.crossover.serving.fitted import fitted
from llama_client.crossover.serving.known_points import (
    KnownPoint,
    Rung,
    apart,
    is_as_long,
    known,
    nearest,
    own_points,
    published_points,
)
from llama_client.crossover.serving.measured_point import MeasuredPoint
from llama_client.crossover.serving.replica import Binding, Replica
from llama_client.crossover.serving.weighing import MEASURED_ERROR, weighed
from llama_client.crossover.tables import Architecture, Gpu
from llama_client.errors import InvalidRequestError

# An answer that is read as it is written: 20 tokens a second for each user, the first of them within 2 seconds.
# Judgements.
DEFAULT_TPOT_LIMIT_MS = 50.0
DEFAULT_TTFT_LIMIT_S = 2.0
_UNTUNED = (
    "; an installation as it comes, with nothing tuned, gave 0.6 to 0.85 of it (vLLM 0.6 and 0.19: "
    "dstackai/benchmarks, arXiv 2606.11690)"
)


@dataclass(frozen=True, slots=True)
class Rate:
    """What one replica gives, and how sure that is.

    Attributes:
        output_tokens_per_s: As many requests as the memory holds, all the time; output tokens of all together. Offline,
            or served over the network where the point that it rests on was.
        rung: Where it comes from.
        error: The sigma of a lognormal band around it: 0.15 is about 15% either way in two cases of three.
        source: In words, for a report.
        as_of: The day of the measurement or publication; None: estimated, or undated.
        binding: What keeps that rate from being higher; None: not known, where nothing but measured points is.
        batch: Requests at once at that rate.
        tpot_ms: Milliseconds per output token of each at that rate.
        ttft_ms: Milliseconds to the first token at that rate, without the wait for a place; None: unknown, for want of
            the GPU's FLOPS.
        slo_output_tokens_per_s: The rate within the limits of waiting; 0: even one request alone misses them.
        slo_batch: Requests at once within the limits; 0: see above.
        slo_binding: What keeps that rate from being higher: `slo` where the limits do; None: not known.
        alone_tpot_ms: Milliseconds per output token of a request that is alone: the least that there is.
        alone_ttft_ms: Milliseconds to its first token; None: unknown.
        factor: What the estimator's curve was multiplied by, from the point that was nearest; 1 where there is none.
        is_scaled: The point that it rests on was of other lengths, or of a lower load.
        skipped: Sentences on points of the user's own that could not be used.
    """

    output_tokens_per_s: float
    rung: Rung
    error: float
    source: str
    as_of: date | None
    binding: Binding | None
    batch: int
    tpot_ms: float
    ttft_ms: float | None
    slo_output_tokens_per_s: float
    slo_batch: int
    slo_binding: Binding | None
    alone_tpot_ms: float
    alone_ttft_ms: float | None
    factor: float = 1.0
    is_scaled: bool = False
    skipped: tuple[str, ...] = ()


def replica_rate(
    model: Architecture,
    gpu: Gpu,
    *,
    n_gpus: int = 1,
    precision: str = "fp8",
    engine: str = "trtllm",
    input_tokens: int,
    output_tokens: int,
    tpot_limit_ms: float = DEFAULT_TPOT_LIMIT_MS,
    ttft_limit_s: float = DEFAULT_TTFT_LIMIT_S,
    measured: Sequence[MeasuredPoint] = (),
) -> Rate:
    """The rate of one replica, from the highest rung that there is.

    Args:
        model: The shape.
        gpu: The data sheet.
        n_gpus: How many GPUs the replica has.
        precision: Of the weights, in any spelling.
        engine: `trtllm`, `vllm`, `sglang` or `llama.cpp`.
        input_tokens: Of a prompt.
        output_tokens: Of an answer.
        tpot_limit_ms: The longest time per output token, in milliseconds.
        ttft_limit_s: The longest time to the first token, in seconds.
        measured: The user's own points, of whatever configurations. Those that cannot be are left out, and told of in
            `skipped`.

    Returns:
        The saturated rate and the one within the limits. On a chip whose FLOPS are unknown both are llama.cpp's with
        one request, or what the user measured: nothing says what more would give.

    Raises:
        InvalidRequestError: A name is unknown, a number is none or out of range, the model does not fit, or the GPU's
            FLOPS are unknown and needed.

    Examples:
        >>> from llama_client.crossover.tables import Tables
        >>> tables = Tables.bundled()
        >>> model, gpu = tables.model("llama-3.3-70b"), tables.gpu("h100_sxm")
        >>> rate = replica_rate(model, gpu, n_gpus=2, input_tokens=5000, output_tokens=500)
        >>> rate.rung, round(rate.output_tokens_per_s)
        ('published', 898)
    """
    _require_limits(tpot_limit_ms, ttft_limit_s)
    replica = Replica(model, gpu, n_gpus, precision, engine)
    require_lengths(model, input_tokens, output_tokens, params=("input_tokens", "output_tokens"))
    own, skipped = own_points(replica, measured)
    if own and not replica.has_curve:
        of_points = _of_points_alone(own, input_tokens, output_tokens, tpot_limit_ms, ttft_limit_s)
        return replace(of_points, skipped=skipped)
    full = replica.max_output_tokens_per_s(input_tokens, output_tokens)
    near = nearest(own or published_points(replica), full, input_tokens, output_tokens)
    if near is not None and near.batch is not None:
        # Its host had requests to serve, so what it says of a full load is of one that is served too.
        full = replica.max_output_tokens_per_s(input_tokens, output_tokens, served=True)
    found = weighed(replica, full, near, input_tokens, output_tokens)
    ceiling = ceiling_tokens_per_s(replica, isl=input_tokens, osl=output_tokens)
    factor = min(found.factor, ceiling / full.output_tokens_per_s)
    held = replica.output_tokens_per_s_under(
        input_tokens, output_tokens, tpot_ms=tpot_limit_ms * factor, ttft_s=ttft_limit_s * factor
    )
    alone = replica.alone(input_tokens, output_tokens)
    return Rate(
        output_tokens_per_s=full.output_tokens_per_s * factor,
        rung="estimated" if near is None else near.rung,
        error=found.error,
        source=_source(replica, near, is_scaled=found.is_scaled),
        as_of=None if near is None else near.as_of,
        binding=full.binding,
        batch=full.batch,
        tpot_ms=full.tpot_ms / factor,
        ttft_ms=None if full.ttft_ms is None else full.ttft_ms / factor,
        slo_output_tokens_per_s=held.output_tokens_per_s * factor,
        slo_batch=held.batch,
        slo_binding=held.binding,
        alone_tpot_ms=alone.tpot_ms / factor,
        alone_ttft_ms=None if alone.ttft_ms is None else alone.ttft_ms / factor,
        factor=factor,
        is_scaled=found.is_scaled,
        skipped=skipped,
    )


def measured_rate(
    points: Sequence[MeasuredPoint], isl: int, osl: int, *, tpot_limit_ms: float, ttft_limit_s: float
) -> Rate:
    """The rate of a machine of which nothing but measured points is known, such as a processor.

    Args:
        points: Of one machine and model; at least one.
        isl: Tokens of a prompt.
        osl: Tokens of an answer.
        tpot_limit_ms: The longest time per output token, in milliseconds.
        ttft_limit_s: The longest time to the first token, in seconds.

    Raises:
        InvalidRequestError: There is no point, or a limit is not above 0.
    """
    _require_limits(tpot_limit_ms, ttft_limit_s)
    if not points:
        raise InvalidRequestError("points: at least one is required", param="points")
    return _of_points_alone([known(point) for point in points], isl, osl, tpot_limit_ms, ttft_limit_s)


def _of_points_alone(own: Sequence[KnownPoint], isl: int, osl: int, tpot_limit_ms: float, ttft_limit_s: float) -> Rate:
    """What the user's points of the nearest lengths say, where there is no curve to scale."""
    least = min(apart(point, isl, osl) for point in own)
    points = [point for point in own if apart(point, isl, osl) == least]
    full = max(points, key=lambda point: point.output_tokens_per_s)

    def keeps(point: KnownPoint) -> bool:
        first = point.ttft_ms
        return _tpot_ms(point) <= tpot_limit_ms and (first is None or first <= ttft_limit_s * 1e3)

    held = max(filter(keeps, points), key=lambda point: point.output_tokens_per_s, default=None)
    alone = min(points, key=lambda point: point.batch or 1)
    is_scaled = not is_as_long(full, isl, osl)
    # Prompts and answers of other lengths make another rate, and no estimate says which.
    grown = fitted().errors["unscaled_drift"] * math.sqrt(least) if is_scaled else 0.0
    return Rate(
        output_tokens_per_s=full.output_tokens_per_s,
        rung="measured",
        error=math.hypot(MEASURED_ERROR, grown),
        source=f"{full.source}; taken for these lengths as it is" if is_scaled else full.source,
        as_of=full.as_of,
        binding=None,
        batch=round(full.batch or 1),
        tpot_ms=_tpot_ms(full),
        ttft_ms=full.ttft_ms,
        slo_output_tokens_per_s=0.0 if held is None else held.output_tokens_per_s,
        slo_batch=0 if held is None else round(held.batch or 1),
        slo_binding=None if held is full else "slo",
        alone_tpot_ms=_tpot_ms(alone),
        alone_ttft_ms=alone.ttft_ms,
        is_scaled=is_scaled,
    )


def _tpot_ms(point: KnownPoint) -> float:
    return point.tpot_ms or (point.batch or 1) / point.output_tokens_per_s * 1e3


def _source(replica: Replica, near: KnownPoint | None, *, is_scaled: bool) -> str:
    if near is None:
        said = "estimated from the data sheets' bandwidth and FLOPS, as a tuned server reaches them"
        if replica.is_llama_cpp:
            return "estimated from the data sheet's bandwidth; what several requests at once give is a judgement"
        return said + (_UNTUNED if replica.engine in ("vllm", "sglang") else "")
    return f"{near.source}; scaled to these lengths and a full load by the estimator" if is_scaled else near.source


def _require_limits(tpot_limit_ms: float, ttft_limit_s: float) -> None:
    for param, limit in (("tpot_limit_ms", tpot_limit_ms), ("ttft_limit_s", ttft_limit_s)):
        if limit != math.inf:
            require_number(param, limit)
        if limit <= 0:
            raise InvalidRequestError(f"{param}: must be above 0, got {limit:g}", param=param)
