"""How many output tokens a second one replica gives: measured by the user, else published, else estimated.

**The same configuration** is the same shape of model (Llama 3.1-70B and 3.3-70B are one), GPU, number of GPUs,
precision and engine; a measured point without an engine suits each. Lengths and load may differ: the estimator's whole
curve is then scaled by what the nearest point gave over what the estimator says of that point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from llama_client.crossover.serving.ceiling import ceiling_tokens_per_s
from llama_client.crossover.serving.fitted import fitted
from llama_client.crossover.serving.known_points import (
    KnownPoint,
    Rung,
    apart,
    estimated_tokens_per_s,
    known,
    nearest,
    own_points,
    published_points,
)
from llama_client.crossover.serving.measured_point import MeasuredPoint
from llama_client.crossover.serving.published import bundled_points
from llama_client.crossover.serving.replica import Binding, Replica, Saturation
from llama_client.crossover.tables import Architecture, Gpu
from llama_client.errors import InvalidRequestError

# An answer that is read as it is written: 20 tokens a second for each user, the first of them within 2 seconds.
# Judgements.
DEFAULT_TPOT_LIMIT_MS = 50.0
DEFAULT_TTFT_LIMIT_S = 2.0
# Lengths within this factor of one another are the same, and so are loads within the second.
_SAME_LENGTH, _SAME_LOAD = 1.1, 1.5
# What repeating a measurement changes, and what another installation of the same does: judgements.
_MEASURED_ERROR, _PUBLISHED_ERROR = 0.05, 0.07
# A GPU that nothing was fitted on: a judgement.
_UNSEEN_GPU_ERROR = 0.25
# llama.cpp with several requests: nothing was fitted.
_UNFITTED_ERROR = 0.5
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
        binding: What keeps that rate from being higher.
        batch: Requests at once at that rate.
        tpot_ms: Milliseconds per output token of each at that rate.
        ttft_ms: Milliseconds to the first token at that rate, without the wait for a place; None: unknown, for want of
            the GPU's FLOPS.
        slo_output_tokens_per_s: The rate within the limits of waiting; 0: even one request alone misses them.
        slo_batch: Requests at once within the limits; 0: see above.
        slo_binding: What keeps that rate from being higher: `slo` where the limits do.
        alone_tpot_ms: Milliseconds per output token of a request that is alone: the least that there is.
        alone_ttft_ms: Milliseconds to its first token; None: unknown.
        factor: What the estimator's curve was multiplied by, from the point that was nearest; 1 where there is none.
    """

    output_tokens_per_s: float
    rung: Rung
    error: float
    source: str
    as_of: date | None
    binding: Binding
    batch: int
    tpot_ms: float
    ttft_ms: float | None
    slo_output_tokens_per_s: float
    slo_batch: int
    slo_binding: Binding
    alone_tpot_ms: float
    alone_ttft_ms: float | None
    factor: float = 1.0


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
        measured: The user's own points, of whatever configurations.

    Returns:
        The saturated rate and the one within the limits. On a chip whose FLOPS are unknown both are llama.cpp's with
        one request, or what the user measured: nothing says what more would give.

    Raises:
        InvalidRequestError: A name is unknown, the model does not fit, the GPU's FLOPS are unknown and needed, or a
            point of the user's is above what the data sheets allow.

    Examples:
        >>> from llama_client.crossover.tables import Tables
        >>> tables = Tables.bundled()
        >>> model, gpu = tables.model("llama-3.3-70b"), tables.gpu("h100_sxm")
        >>> rate = replica_rate(model, gpu, n_gpus=2, input_tokens=5000, output_tokens=500)
        >>> rate.rung, round(rate.output_tokens_per_s)
        ('published', 898)
    """
    for param, limit in (("tpot_limit_ms", tpot_limit_ms), ("ttft_limit_s", ttft_limit_s)):
        if not limit > 0:
            raise InvalidRequestError(f"{param}: must be above 0, got {limit:g}", param=param)
    replica = Replica(model, gpu, n_gpus, precision, engine)
    own, published = own_points(replica, measured), published_points(replica)
    if own and not replica.has_curve:
        return _of_points_alone(own, input_tokens, output_tokens, tpot_limit_ms, ttft_limit_s)
    full = replica.max_output_tokens_per_s(input_tokens, output_tokens)
    near = nearest(own or published, full, input_tokens, output_tokens)
    factor = 1.0 if near is None else near.output_tokens_per_s / estimated_tokens_per_s(replica, near)
    if near is not None and near.batch is not None:
        # Its host had requests to serve, so what it says of a full load is of one that is served too.
        full = replica.max_output_tokens_per_s(input_tokens, output_tokens, served=True)
    ceiling = ceiling_tokens_per_s(replica, isl=input_tokens, osl=output_tokens)
    factor = min(factor, ceiling / full.output_tokens_per_s)
    held = replica.output_tokens_per_s_under(
        input_tokens, output_tokens, tpot_ms=tpot_limit_ms * factor, ttft_s=ttft_limit_s * factor
    )
    alone = replica.alone(input_tokens, output_tokens)
    exact = near is not None and _is_exact(near, full, input_tokens, output_tokens)
    return Rate(
        output_tokens_per_s=full.output_tokens_per_s * factor,
        rung="estimated" if near is None else near.rung,
        error=_error(replica, full, near, exact=exact),
        source=_source(replica, near, exact=exact),
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
    """
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
    return Rate(
        output_tokens_per_s=full.output_tokens_per_s,
        rung="measured",
        error=_MEASURED_ERROR if least <= math.log(_SAME_LENGTH) else fitted().errors["nearby"],
        source=full.source,
        as_of=full.as_of,
        binding="bandwidth",
        batch=round(full.batch or 1),
        tpot_ms=_tpot_ms(full),
        ttft_ms=full.ttft_ms,
        slo_output_tokens_per_s=0.0 if held is None else held.output_tokens_per_s,
        slo_batch=0 if held is None else round(held.batch or 1),
        slo_binding="bandwidth" if held is full else "slo",
        alone_tpot_ms=_tpot_ms(alone),
        alone_ttft_ms=alone.ttft_ms,
    )


def _tpot_ms(point: KnownPoint) -> float:
    return point.tpot_ms or (point.batch or 1) / point.output_tokens_per_s * 1e3


def _is_exact(point: KnownPoint, full: Saturation, isl: int, osl: int) -> bool:
    same = all(max(a / b, b / a) <= _SAME_LENGTH for a, b in ((point.isl, isl), (point.osl, osl)))
    return same and (point.batch is None or point.batch * _SAME_LOAD >= full.batch)


def _error(replica: Replica, full: Saturation, near: KnownPoint | None, *, exact: bool) -> float:
    bands = fitted().errors
    if replica.is_llama_cpp:
        alone = bands[f"llama_cpp_{replica.gpu.memory_kind}"]
        estimated = alone if full.batch == 1 else _UNFITTED_ERROR
        if near is not None and near.batch == 1 and full.batch > 1:
            return _UNFITTED_ERROR
    elif replica.model.moe is not None:
        estimated = bands["moe"]
    else:
        estimated = bands["untuned"] if replica.engine != "trtllm" else bands["offline"]
        if not any(point.gpu.name == replica.gpu.name and point.load != "single" for point in bundled_points()):
            estimated = max(estimated, _UNSEEN_GPU_ERROR)
    if near is None:
        return estimated
    if exact:
        return _MEASURED_ERROR if near.rung == "measured" else _PUBLISHED_ERROR
    return bands["nearby"]


def _source(replica: Replica, near: KnownPoint | None, *, exact: bool) -> str:
    if near is None:
        said = "estimated from the data sheets' bandwidth and FLOPS, as a tuned server reaches them"
        if replica.is_llama_cpp:
            return "estimated from the data sheet's bandwidth; what several requests at once give is a judgement"
        return said + (_UNTUNED if replica.engine in ("vllm", "sglang") else "")
    return near.source if exact else f"{near.source}; scaled to these lengths and a full load by the estimator"
