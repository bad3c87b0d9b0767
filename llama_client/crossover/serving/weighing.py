"""How far the nearest known point moves the estimator's curve, and how sure what comes of it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llama_client.crossover.serving.fitted import fitted
from llama_client.crossover.serving.known_points import KnownPoint, distance, estimated_tokens_per_s, is_as_long
from llama_client.crossover.serving.published import bundled_points
from llama_client.crossover.serving.replica import Replica, Saturation

# What repeating a measurement changes, and what another installation of the same does: judgements.
MEASURED_ERROR, PUBLISHED_ERROR = 0.05, 0.07
# Loads within this factor of one another are the same.
_SAME_LOAD = 1.5
# What a request takes beside its tokens (connecting, preparing its prompt), as the time of so many tokens: more than
# longer answers show of it, and most of a short one. A judgement.
_REQUEST_TOKENS = 5
# A GPU that nothing was fitted on: a judgement.
_UNSEEN_GPU_ERROR = 0.25
# llama.cpp with several requests: nothing was fitted, nor measured of what one request tells of several.
_UNFITTED_ERROR = 0.5


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the estimator's curve is multiplied by, and how sure the product is.

    Attributes:
        factor: 1 where no point is known.
        error: The sigma of a lognormal band.
        is_scaled: The point was of other lengths, or of a lower load.
    """

    factor: float
    error: float
    is_scaled: bool


def weighed(replica: Replica, full: Saturation, near: KnownPoint | None, isl: int, osl: int) -> Weighed:
    """The nearest point's word against the estimator's, about a full load.

    Args:
        replica: Whose curve it is.
        full: A full load of it, by the estimator.
        near: The nearest point; None: none is known.
        isl: Tokens of a prompt.
        osl: Tokens of an answer.
    """
    estimated = _estimate_error(replica, full)
    if near is None:
        return Weighed(1.0, estimated, is_scaled=False)
    off = math.log(near.output_tokens_per_s / estimated_tokens_per_s(replica, near))
    own = MEASURED_ERROR if near.rung == "measured" else PUBLISHED_ERROR
    as_long = is_as_long(near, isl, osl)
    if as_long and (near.batch is None or near.batch * _SAME_LOAD >= full.batch):
        return Weighed(math.exp(off), own, is_scaled=False)
    if not as_long:
        own = math.hypot(own, math.log1p(_REQUEST_TOKENS / near.osl))
    scaled = scaled_error(own, distance(near, full.batch, isl, osl))
    if replica.is_llama_cpp and near.batch == 1 and full.batch > 1:
        scaled = math.hypot(scaled, _UNFITTED_ERROR)
    moved, error = weigh(off, estimated, scaled)
    if near.own_prompt and as_long:
        # More requests do not give less than fewer did.
        moved = max(moved, math.log(near.output_tokens_per_s / full.output_tokens_per_s))
    return Weighed(math.exp(moved), error, is_scaled=True)


def scaled_error(own: float, apart: float) -> float:
    """The sigma of a rate scaled from a point: the point's own, and what the estimator's error drifts by on the way.

    The drift's variance grows with the distance, as a random walk's does: that suits the measured rows better than a
    sigma that does.

    Args:
        own: Sigma of the point itself.
        apart: `known_points.distance`.
    """
    return math.hypot(own, fitted().errors["drift"] * math.sqrt(apart))


def weigh(off: float, estimated: float, scaled: float) -> tuple[float, float]:
    """By how much to move a logarithm of a rate, and the sigma of what comes of it: weights are inverse variances.

    Args:
        off: The logarithm of what a point gave over what the estimator says of it.
        estimated: The estimator's sigma.
        scaled: The sigma of what is scaled by the point.

    Examples:
        >>> [round(figure, 3) for figure in weigh(0.1, 0.36, 0.12)]
        [0.09, 0.12]
    """
    # Where a point shows the estimator to be further off than both sigmas explain, so it is elsewhere.
    estimated = max(estimated, math.sqrt(max(0.0, off**2 - scaled**2)))
    moved = off * estimated**2 / (estimated**2 + scaled**2)
    # In part both err the same way, so their mean is not claimed to be surer than the better of them.
    return moved, min(estimated, scaled)


def _estimate_error(replica: Replica, full: Saturation) -> float:
    bands = fitted().errors
    if replica.is_llama_cpp:
        return bands[f"llama_cpp_{replica.gpu.memory_kind}"] if full.batch == 1 else _UNFITTED_ERROR
    if replica.model.moe is not None:
        return bands["moe"]
    estimated = bands["untuned"] if replica.engine != "trtllm" else bands["offline"]
    if any(point.gpu.name == replica.gpu.name and point.load != "single" for point in bundled_points()):
        return estimated
    return max(estimated, _UNSEEN_GPU_ERROR)
