"""What is known of a replica's configuration: the user's own points and published ones, and which of them is nearest.

What counts as the same configuration is told in `rates.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from llama_client.crossover.serving.ceiling import ceiling_tokens_per_s
from llama_client.crossover.serving.engines import canonical_engine, precision_for
from llama_client.crossover.serving.measured_point import MeasuredPoint
from llama_client.crossover.serving.published import bundled_points, same_shape
from llama_client.crossover.serving.replica import Replica, Saturation
from llama_client.crossover.tables import Architecture, Gpu, Tables
from llama_client.errors import InvalidRequestError

Rung = Literal["measured", "published", "estimated"]
# Published rates of dense models that are faster than this had their prompts in a cache: at 2000 tokens in and 100 out,
# those of vLLM 0.12 with an 8B on an H200 need all of the data sheet's FLOPS.
MOST_OF_ESTIMATE = 1.5
# Lengths within this factor of one another are the same.
_SAME_LENGTH = 1.1


@dataclass(frozen=True, slots=True)
class KnownPoint:
    """A point of the same configuration.

    `batch` is None for as many as fit, offline. `own_prompt`: the rate is over the whole time of requests; not: over
    the time in which they write.
    """

    rung: Rung
    isl: int
    osl: int
    batch: float | None
    output_tokens_per_s: float
    source: str
    as_of: date | None
    own_prompt: bool = True
    tpot_ms: float | None = None
    ttft_ms: float | None = None


def own_points(replica: Replica, measured: Sequence[MeasuredPoint]) -> tuple[list[KnownPoint], tuple[str, ...]]:
    """The user's own points that are of a replica's configuration, and sentences on those that cannot be used.

    One that cannot be, or that nothing can be made of, must not keep the others from being used: it lies in a file that
    nobody looks into.
    """
    # Read only where there is a point whose model has to be looked up.
    shapes = {row.name: row for row in Tables.bundled().models} if measured else {}
    taken, skipped = [], []
    for point in measured:
        if not _is_of(point, replica, shapes):
            continue
        why = _unusable(point, replica)
        if why is None:
            taken.append(known(point))
        else:
            rate = f"{point.output_tokens_per_s:,.0f} tokens/s ({point.measured_on})"
            skipped.append(f"a measured rate of {rate} {why} and was left out")
    return taken, tuple(skipped)


def is_usable(point: MeasuredPoint, model: Architecture, gpu: Gpu) -> bool:
    """Whether a point of the user's own, of this model on this GPU, can be one: by its names and the data sheet."""
    try:
        replica = Replica(model, gpu, point.n_gpus, point.precision, point.engine or "vllm")
        return _unusable(point, replica) is None
    except InvalidRequestError:
        return False


def known(point: MeasuredPoint) -> KnownPoint:
    """A point of the user's own, as one of those that rates are taken from."""
    isl, osl = point.input_tokens, point.output_tokens
    return KnownPoint(
        "measured",
        isl,
        osl,
        point.concurrency,
        point.output_tokens_per_s,
        f"measured on {point.measured_on} with {_load(point.concurrency)}, {_lengths(isl, osl)}",
        point.measured_on,
        tpot_ms=point.tpot_ms,
        ttft_ms=point.ttft_ms,
    )


def published_points(replica: Replica) -> list[KnownPoint]:
    """The published points of a replica's configuration, without those that left prompts out or do not fit it."""
    return [point for point in _published(replica) if _is_plausible(replica, point)]


def nearest(points: Sequence[KnownPoint], full: Saturation, isl: int, osl: int) -> KnownPoint | None:
    """The point of the nearest lengths and load, the newest of equals.

    All three weigh the same: that is how one measured row predicts another best.
    """

    def order(point: KnownPoint) -> tuple[float, int]:
        return distance(point, full.batch, isl, osl), -(point.as_of or date.min).toordinal()

    return min(points, key=order, default=None)


def distance(point: KnownPoint, full_batch: float, isl: int, osl: int) -> float:
    """How far a point is from a full load at other lengths: logarithms of their ratios, added up."""
    load = 0.0 if point.batch is None else max(0.0, math.log(full_batch / point.batch))
    return apart(point, isl, osl) + load


def apart(point: KnownPoint, isl: int, osl: int) -> float:
    """How far a point's lengths are from others: 0 where they are the same."""
    return abs(math.log(point.isl / isl)) + abs(math.log(point.osl / osl))


def is_as_long(point: KnownPoint, isl: int, osl: int) -> bool:
    """Whether a point's lengths are others, but for what they vary by from run to run."""
    return all(max(a / b, b / a) <= _SAME_LENGTH for a, b in ((point.isl, isl), (point.osl, osl)))


def estimated_tokens_per_s(replica: Replica, point: KnownPoint) -> float:
    """What the estimator says of a point's own load and lengths, in output tokens per second."""
    if point.batch is None:
        return replica.max_output_tokens_per_s(point.isl, point.osl).output_tokens_per_s
    running = min(point.batch, replica.largest_batch(point.isl, point.osl))
    return replica.output_tokens_per_s(running, point.isl, point.osl, own_prompt=point.own_prompt)


def _unusable(point: MeasuredPoint, replica: Replica) -> str | None:
    """Why a point of the replica's configuration cannot be used, to stand after its rate; None: it can."""
    if min(point.input_tokens, point.output_tokens, point.concurrency) < 1 or not point.output_tokens_per_s > 0:
        return "counts too few tokens or requests"
    isl, osl = point.input_tokens, point.output_tokens
    if replica.has_curve and not _has_room(replica, isl, osl):
        return "is of lengths that the model or the memory has no room for"
    if point.output_tokens_per_s > ceiling_tokens_per_s(replica, isl=isl, osl=osl, batch=point.concurrency):
        return "is above what the data sheet allows"
    return None


def _has_room(replica: Replica, isl: int, osl: int) -> bool:
    """Whether the estimator can say anything of lengths: a model of the same shape may have a shorter context."""
    try:
        replica.largest_batch(isl, osl)
    except InvalidRequestError:
        return False
    return True


def _is_of(point: MeasuredPoint, replica: Replica, shapes: Mapping[str, Architecture]) -> bool:
    if point.gpu != replica.gpu.name or point.n_gpus != replica.n_gpus:
        return False
    if point.engine is not None and canonical_engine(point.engine, param="measured.engine") != replica.engine:
        return False
    try:
        if precision_for(point.precision, replica.engine, replica.gpu) != replica.precision:
            return False
    except InvalidRequestError:
        # A precision that this engine does not run.
        return False
    if point.model == replica.model.name:
        return True
    # A model of the user's own tables goes by its name alone.
    return point.model in shapes and same_shape(shapes[point.model], replica.model)


def _published(replica: Replica) -> Iterator[KnownPoint]:
    for point in bundled_points():
        same = (point.n_gpus, point.precision, point.engine) == (replica.n_gpus, replica.precision, replica.engine)
        if not same or point.gpu.name != replica.gpu.name or not same_shape(point.model, replica.model):
            continue
        if (point.isl is None and point.load != "single") or point.osl is None:
            continue
        if not _has_room(replica, point.isl or 1, point.osl):
            continue
        rate, isl, own_prompt = point.output_tokens_per_s, point.isl or 1, point.load != "single"
        if point.tpot_ms is not None and point.batch is not None:
            # Without the time to first tokens, in which the start of a short run weighs too much.
            rate = min(point.batch, replica.largest_batch(isl, point.osl)) / point.tpot_ms * 1e3
            own_prompt = False
        batch = None if point.load == "offline" else point.batch
        load = "a full load" if batch is None else _load(batch)
        source = f"{point.source}, with {load}, {_lengths(isl, point.osl)}"
        yield KnownPoint("published", isl, point.osl, batch, rate, source, point.as_of, own_prompt)


def _is_plausible(replica: Replica, point: KnownPoint) -> bool:
    """Whether a server can have read its prompts, too."""
    if replica.model.moe is not None:
        return True
    return point.output_tokens_per_s <= MOST_OF_ESTIMATE * estimated_tokens_per_s(replica, point)


def _load(batch: float) -> str:
    return "one request at a time" if batch == 1 else f"{batch:.0f} requests at once"


def _lengths(isl: int, osl: int) -> str:
    return f"{isl} tokens in and {osl} out"
