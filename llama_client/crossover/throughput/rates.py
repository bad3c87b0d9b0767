"""The output rate of one replica: measured by the user, else published, else estimated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import partial

from llama_client.crossover.scenario import invalid
from llama_client.crossover.tables import Architecture, Gpu, Tables
from llama_client.crossover.throughput.engines import fitted
from llama_client.crossover.throughput.points import (
    KnownPoint,
    MeasuredPoint,
    RateSource,
    apart,
    are_as_long,
    bundled_points,
    estimated_tokens_per_s,
    known,
    load_apart,
    nearest,
    own_points,
    published_points,
)
from llama_client.crossover.throughput.replica import Replica, Saturation, ceiling_tokens_per_s
from llama_client.crossover.throughput.work import require_lengths, require_number

# Relative errors of a repeated measurement, and of another installation of the same: judgements. Two releases of
# TensorRT-LLM differ by 0.04 at the same lengths.
MEASURED_ERROR, PUBLISHED_ERROR = 0.05, 0.06
# Up to so many at once, reading the weights is most of a step, and that is what estimates meet best: of measured rows
# with up to 8, 32, 64 and more at once, bands that hold 80% have sigmas of 0.05, 0.06, 0.09 and 0.15.
FEW_REQUESTS = 32
# Loads within this factor of one another are the same.
_SAME_LOAD = 1.5
# The fixed time of a request (connecting, preparing its prompt), in tokens of output: it hardly shows in a long answer,
# and dominates a short one. A judgement.
_REQUEST_TOKENS = 5
# A GPU that nothing was fitted on: a judgement.
_UNSEEN_GPU_ERROR = 0.25
# llama.cpp with several requests: nothing was fitted, nor measured how one request predicts several.
_UNFITTED_ERROR = 0.5


def weighed(
    replica: Replica,
    full: Saturation,
    near: KnownPoint | None,
    isl: int,
    osl: int,
    errors: Mapping[str, float] | None = None,
) -> tuple[float, float, bool]:
    """The factor of the estimate, the error of the product, and whether a point was scaled for it.

    Args:
        replica: The configuration.
        full: What is estimated of it.
        near: The known point to scale it by; None: there is none.
        isl: The length of the prompts of `full`.
        osl: The length of its answers.
        errors: As in throughput.toml; None: that file's.
    """
    errors = errors or fitted().errors
    estimated = estimate_error(replica, full, errors)
    if near is None:
        return 1.0, estimated, False
    off = math.log(near.output_tokens_per_s / estimated_tokens_per_s(replica, near))
    own = MEASURED_ERROR if near.rung == "measured" else PUBLISHED_ERROR
    as_long = are_as_long((near.isl, near.osl), (isl, osl))
    if as_long and (near.batch is None or near.batch * _SAME_LOAD >= full.batch):
        return math.exp(off), own, False
    if not as_long:
        own = math.hypot(own, math.log1p(_REQUEST_TOKENS / near.osl))
    drifts = drift_of(errors, experts=replica.model.moe is not None)
    scaled = scaled_error(own, apart(near, isl, osl), load_apart(near, full.batch), drifts)
    if replica.is_llama_cpp and near.batch == 1 and full.batch > 1:
        scaled = math.hypot(scaled, _UNFITTED_ERROR)
    moved, error = weigh(off, estimated, scaled)
    if near.own_prompt and as_long:
        # More requests do not give less than fewer did.
        moved = max(moved, math.log(near.output_tokens_per_s / full.output_tokens_per_s))
    return math.exp(moved), error, True


def drift_of(errors: Mapping[str, float], *, experts: bool) -> tuple[float, float]:
    """How the estimator's error drifts with the distance of lengths, and with that of loads."""
    if not experts:
        return errors["drift"], errors["load_drift"]
    # Of mixtures only full loads were published.
    return errors["expert_drift"], max(errors["expert_drift"], errors["load_drift"])


def scaled_error(own: float, lengths: float, load: float, drifts: tuple[float, float]) -> float:
    """The sigma of a rate scaled from a point: the point's own, and the drift of the estimator's error on the way."""
    # As of a random walk, the variance grows with the distance: that suits the measured rows better than the sigma.
    by_length, by_load = drifts
    return math.sqrt(own**2 + by_length**2 * lengths + by_load**2 * load)


def weigh(off: float, estimated: float, scaled: float) -> tuple[float, float]:
    """The shift of the logarithm of a rate, and the sigma of the result: weights are inverse variances."""
    # Where a point shows the estimator to be further off than both sigmas explain, its sigma is too small.
    estimated = max(estimated, math.sqrt(max(0.0, off**2 - scaled**2)))
    moved = off * estimated**2 / (estimated**2 + scaled**2)
    # Both err the same way in part, so their mean is no better than the better of the two.
    return moved, min(estimated, scaled)


def estimate_error(replica: Replica, full: Saturation, errors: Mapping[str, float]) -> float:
    """The sigma of an estimate."""
    if replica.is_llama_cpp:
        return errors[f"llama_cpp_{replica.gpu.memory_kind}"] if full.batch == 1 else _UNFITTED_ERROR
    if replica.model.moe is not None:
        estimated = errors["moe"]
    else:
        estimated = errors["few_requests" if full.batch <= FEW_REQUESTS else "many_requests"]
    if replica.engine != "trtllm":
        # What was fitted was tuned; most are not.
        estimated = max(estimated, errors["untuned"])
    if any(point.gpu.name == replica.gpu.name and point.load != "single" for point in bundled_points()):
        return estimated
    return max(estimated, _UNSEEN_GPU_ERROR)


# An answer that is read as it is written: 20 tokens per second and user, the first within 2 seconds. Judgements.
DEFAULT_TPOT_LIMIT_MS, DEFAULT_TTFT_LIMIT_S = 50.0, 2.0
_UNTUNED = (
    "; an installation as it comes, with nothing tuned, gave 0.6 to 0.85 of it (vLLM 0.6 and 0.19: "
    "dstackai/benchmarks, arXiv 2606.11690)"
)


@dataclass(frozen=True, slots=True)
class Rate(Saturation):
    """The rate of one replica at full load, within the limits, and of one request; `error` is relative (a sigma)."""

    rung: RateSource
    error: float
    source: str
    as_of: date | None
    within_limits: Saturation
    alone: Saturation
    factor: float = 1.0
    is_scaled: bool = False
    skipped: tuple[str, ...] = ()
    cached: Callable[..., Rate] | None = field(default=None, repr=False, compare=False)
    """The rate with another `cached_share` of the prompts in the prefix cache; None: unknown."""

    @property
    def share_within_limits(self) -> float:
        """The share of the full rate within the latency limits; of one request where even that is too slow."""
        held = self.within_limits.output_tokens_per_s or self.alone.output_tokens_per_s
        return min(1.0, held / self.output_tokens_per_s)


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
    cached_share: float = 0.0,
) -> Rate:
    _require_limits(tpot_limit_ms, ttft_limit_s)
    replica = Replica(model, gpu, n_gpus, precision, engine)
    require_lengths(model, input_tokens, output_tokens, params=("input_tokens", "output_tokens"))
    own, skipped = own_points(replica, measured)
    if own and not replica.has_curve:
        of_points = _of_points_alone(own, input_tokens, output_tokens, tpot_limit_ms, ttft_limit_s)
        return replace(of_points, skipped=skipped)
    full = replica.max_output_tokens_per_s(input_tokens, output_tokens)
    near = nearest(own or published_points(replica), replica, full, input_tokens, output_tokens)
    # The point may be of requests that came over the network: then the full load it is compared with is too.
    is_served = near is not None and near.batch is not None
    if is_served:
        full = replica.max_output_tokens_per_s(input_tokens, output_tokens, served=True)
    factor, error, is_scaled = weighed(replica, full, near, input_tokens, output_tokens)
    if cached_share:
        # Points were measured with prompts that no cache held.
        replica = replace(replica, cached_share=cached_share)
        full = replica.max_output_tokens_per_s(input_tokens, output_tokens, served=is_served)
    ceiling = ceiling_tokens_per_s(replica, isl=input_tokens, osl=output_tokens)
    factor = min(factor, ceiling / full.output_tokens_per_s)
    held = replica.output_tokens_per_s_under(
        input_tokens, output_tokens, tpot_ms=tpot_limit_ms * factor, ttft_s=ttft_limit_s * factor
    )
    return Rate(
        **asdict(full.times(factor)),
        rung="estimated" if near is None else near.rung,
        error=error,
        source=_source(replica, near, is_scaled=is_scaled),
        as_of=None if near is None else near.as_of,
        within_limits=held.times(factor),
        alone=replica.alone(input_tokens, output_tokens).times(factor),
        factor=factor,
        is_scaled=is_scaled,
        skipped=skipped,
        cached=partial(
            replica_rate,
            model,
            gpu,
            n_gpus=n_gpus,
            precision=precision,
            engine=engine,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            tpot_limit_ms=tpot_limit_ms,
            ttft_limit_s=ttft_limit_s,
            measured=measured,
        ),
    )


def measured_rate(
    points: Sequence[MeasuredPoint], isl: int, osl: int, *, tpot_limit_ms: float, ttft_limit_s: float
) -> Rate:
    """The rate of a machine that only measured points are known of, such as a CPU."""
    _require_limits(tpot_limit_ms, ttft_limit_s)
    if not points:
        raise invalid("points", "at least one is required")
    return _of_points_alone([known(point) for point in points], isl, osl, tpot_limit_ms, ttft_limit_s)


def _of_points_alone(own: Sequence[KnownPoint], isl: int, osl: int, tpot_limit_ms: float, ttft_limit_s: float) -> Rate:
    """The rate from the user's points of the nearest lengths, where there is no curve to scale."""
    least = min(apart(point, isl, osl) for point in own)
    points = [point for point in own if apart(point, isl, osl) == least]
    full = max(points, key=lambda point: point.output_tokens_per_s)

    def keeps(point: KnownPoint) -> bool:
        first = point.ttft_ms
        return _saturation(point).tpot_ms <= tpot_limit_ms and (first is None or first <= ttft_limit_s * 1e3)

    held = max(filter(keeps, points), key=lambda point: point.output_tokens_per_s, default=None)
    alone = min(points, key=lambda point: point.batch or 1)
    is_scaled = not are_as_long((full.isl, full.osl), (isl, osl))
    # Other lengths make another rate, and there is no estimate of it.
    grown = fitted().errors["unscaled_drift"] * math.sqrt(least) if is_scaled else 0.0
    slow = replace(_saturation(alone), output_tokens_per_s=0.0, batch=0)
    within = slow if held is None else _saturation(held)
    return Rate(
        **asdict(_saturation(full)),
        rung="measured",
        error=math.hypot(MEASURED_ERROR, grown),
        source=f"{full.source}; taken for these lengths as it is" if is_scaled else full.source,
        as_of=full.as_of,
        within_limits=replace(within, binding=None if held is full else "slo"),
        alone=_saturation(alone),
        is_scaled=is_scaled,
    )


def _saturation(point: KnownPoint) -> Saturation:
    tpot_ms = point.tpot_ms or (point.batch or 1) / point.output_tokens_per_s * 1e3
    return Saturation(point.output_tokens_per_s, round(point.batch or 1), tpot_ms, point.ttft_ms, None)


def _source(replica: Replica, near: KnownPoint | None, *, is_scaled: bool) -> str:
    if near is not None:
        return f"{near.source}; scaled to these lengths and a full load by the estimator" if is_scaled else near.source
    if replica.is_llama_cpp:
        return "estimated from the data sheet's bandwidth; what several requests at once give is a judgement"
    untuned = _UNTUNED if replica.engine in ("vllm", "sglang") else ""
    return f"estimated from the data sheets' bandwidth and FLOPS, as a tuned server reaches them{untuned}"


def _require_limits(tpot_limit_ms: float, ttft_limit_s: float) -> None:
    for param, limit in (("tpot_limit_ms", tpot_limit_ms), ("ttft_limit_s", ttft_limit_s)):
        if limit != math.inf:
            require_number(param, limit)
        if limit <= 0:
            raise invalid(param, f"must be above 0, got {limit:g}")


def decode_tpot_ms(
    model: str,
    gpu: str,
    *,
    n_gpus: int = 1,
    precision: str = "fp8",
    isl: int,
    osl: int,
    batch: float,
    engine: str = "trtllm",
    tables: Tables | None = None,
) -> float:
    """Milliseconds per output token of each request on a server with `batch` requests in flight.

    Prompts that arrive meanwhile are included. Requests beyond what the memory holds wait and do not slow the others.

    Args:
        model: A name of the tables, as in `llama-3.1-70b`.
        gpu: The same, as in `h100_sxm`.
        n_gpus: Over how many GPUs the model is split.
        precision: `bf16`, `fp16`, `fp8`, `fp8_block`, `nvfp4`, `mxfp4`, `int4`; with llama.cpp GGUF's, as in `Q4_K_M`.
        isl: Tokens of a prompt.
        osl: Tokens of an answer.
        batch: Requests in flight at once. For llama.cpp the constants are fitted for 1; more of them read the weights
            once, and how fast it computes then is a judgement.
        engine: `trtllm`, `vllm`, `sglang` or `llama.cpp`.
        tables: Where names are looked up; None: the bundled ones.

    Raises:
        InvalidRequestError: A name is unknown, a number is invalid or out of range, the model does not fit, or the
            GPU's FLOPS are needed and unknown.

    Examples:
        >>> 15 < decode_tpot_ms("llama-3.1-70b", "h200_sxm", isl=1024, osl=1024, batch=4) < 25
        True
        >>> lengths = {"isl": 16, "osl": 1024}
        >>> alone = decode_tpot_ms("llama-3-8b", "rtx_4090", precision="Q4_K_M", **lengths, batch=1, engine="llama.cpp")
        >>> 6 < alone < 10
        True
    """
    return _replica(model, gpu, n_gpus, precision, engine, tables).tpot_ms(batch, isl, osl)


def max_throughput(
    model: str,
    gpu: str,
    *,
    n_gpus: int = 1,
    precision: str = "fp8",
    isl: int,
    osl: int,
    engine: str = "trtllm",
    tables: Tables | None = None,
) -> float:
    """Output tokens per second of a replica that always runs as many requests as its memory holds, offline.

    Args:
        model: A name of the tables, as in `llama-3.1-70b`.
        gpu: The same, as in `h100_sxm`.
        n_gpus: Over how many GPUs the model is split.
        precision: As for `decode_tpot_ms`.
        isl: Tokens of a prompt.
        osl: Tokens of an answer.
        engine: `trtllm`, `vllm`, `sglang` or `llama.cpp`. On a chip of unknown FLOPS llama.cpp's figure is that of one
            request.
        tables: Where names are looked up; None: the bundled ones.

    Raises:
        InvalidRequestError: A name is unknown, a number is invalid or out of range, the model does not fit, or the
            GPU's FLOPS are needed and unknown.

    Examples:
        >>> 3500 < max_throughput("llama-3.3-70b", "h100_sxm", n_gpus=2, isl=1000, osl=1000) < 5000
        True
    """
    replica = _replica(model, gpu, n_gpus, precision, engine, tables)
    return replica.max_output_tokens_per_s(isl, osl).output_tokens_per_s


def _replica(model: str, gpu: str, n_gpus: int, precision: str, engine: str, tables: Tables | None) -> Replica:
    for param, name in (("model", model), ("gpu", gpu)):
        if not isinstance(name, str):
            raise invalid(param, f"must be a name of the tables, not {type(name).__name__}")
    known = tables or Tables.bundled()
    return Replica(known.model(model), known.gpu(gpu), n_gpus, precision, engine)
