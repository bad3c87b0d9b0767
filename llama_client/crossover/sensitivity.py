"""Sensitivity: what each input changes, and the probability band."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llama_client.crossover.assumptions import TENTH, Assumption
from llama_client.crossover.economics import CostInputs, line, staircase
from llama_client.errors import InvalidRequestError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence


MAX_DRAWS, MAX_SEED = 1_000_000, 2**63 - 1
# Draws are made in parts, so that a million of them take no more memory than this many.
_DRAWS_AT_ONCE = 10_000
_LOWER, _UPPER = 0.1, 0.9


@dataclass(frozen=True, slots=True)
class Swing:
    """What one figure changes on its own."""

    name: str
    low: float
    high: float
    usd_per_mtok_at_low: float
    usd_per_mtok_at_high: float

    @property
    def width(self) -> float:
        """How far the cost of a million tokens swings."""
        return abs(self.usd_per_mtok_at_high - self.usd_per_mtok_at_low)


@dataclass(frozen=True, slots=True)
class ProbabilityBand:
    """What all uncertain figures draw together."""

    draws: int
    seed: int
    varied: tuple[str, ...]
    tokens_per_day: tuple[float, ...]
    probability: tuple[float, ...]
    low_usd_per_month: tuple[float, ...]
    high_usd_per_month: tuple[float, ...]
    at_volume: float | None


def swings(plan: CostInputs, assumptions: Sequence[Assumption], tokens_per_day: float) -> tuple[Swing, ...]:
    """What each figure changes on its own in the cost of a million tokens, widest first."""
    found = []
    for each in assumptions:
        if each.low is None or each.high is None or each.name not in _CHANGES:
            continue
        low, high = (_usd_per_mtok(_CHANGES[each.name](plan, value), tokens_per_day) for value in (each.low, each.high))
        found.append(Swing(each.name, each.low, each.high, low, high))
    return tuple(sorted(found, key=lambda swing: -swing.width))


def band(
    plan: CostInputs,
    assumptions: Sequence[Assumption],
    tokens_per_day: Sequence[float],
    *,
    draws: int,
    seed: int,
    at: float | None,
) -> ProbabilityBand:
    """How likely one's own machines are cheaper, by volume."""
    _require_whole("draws", draws, 1, MAX_DRAWS)
    _require_whole("seed", seed, 0, MAX_SEED)
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtraError(
            'a band of uncertainty needs numpy: pip install "llama-client[crossover]"; or ask for 0 draws',
            extra="crossover",
        ) from error
    varied = tuple(
        each for each in assumptions if each.spread != "none" and not each.is_given and each.name in _CHANGES
    )
    volumes = [*tokens_per_day, *([at] if at is not None else [])]
    api = np.array([min((line(api, plan).usd(v) for api in plan.apis), default=math.nan) for v in volumes])
    random = np.random.default_rng(seed)
    costs = []
    wins = np.zeros(len(volumes))
    for start in range(0, draws, _DRAWS_AT_ONCE):
        drawn = {each.name: _draw(each, random, min(_DRAWS_AT_ONCE, draws - start)) for each in varied}
        usd = _costs(plan, drawn, np.array(volumes), min(_DRAWS_AT_ONCE, draws - start))
        wins += (usd < api).sum(axis=0)
        costs.append(np.quantile(usd, [_LOWER, _UPPER], axis=0))
    lower, upper = np.mean(costs, axis=0)
    shares = (wins / draws).tolist()
    count = len(tokens_per_day)
    return ProbabilityBand(
        draws=draws,
        seed=seed,
        varied=tuple(each.name for each in varied),
        tokens_per_day=tuple(tokens_per_day),
        probability=tuple(shares[:count]) if plan.apis else (),
        low_usd_per_month=tuple(lower.tolist()[:count]),
        high_usd_per_month=tuple(upper.tolist()[:count]),
        at_volume=shares[count] if at is not None and plan.apis else None,
    )


def _require_whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidRequestError(f"{name}: must be a whole number from {least} to {most:,}, got {value!r}", param=name)


def _usd_per_mtok(plan: CostInputs, tokens_per_day: float) -> float:
    return staircase(plan).usd(tokens_per_day) / (tokens_per_day * plan.days_per_month) * 1e6


def _owned_with(name: str) -> Callable[[CostInputs, float], CostInputs]:
    def change(plan: CostInputs, value: float) -> CostInputs:
        assert plan.owned is not None
        return replace(plan, owned=replace(plan.owned, **{name: value}))

    return change


# A figure's name and the plan in which it is another.
_CHANGES: dict[str, Callable[[CostInputs, float], CostInputs]] = {
    "tokens_per_second": lambda plan, value: replace(plan, tokens_per_second=value),
    "slo_derate": lambda plan, value: replace(plan, slo_derate=value),
    "max_utilisation": lambda plan, value: replace(plan, max_utilisation=value),
    "peak_to_mean": lambda plan, value: replace(plan, peak_to_mean=value),
    "gpu_usd_per_hour": lambda plan, value: replace(plan, gpu_usd_per_hour=value),
    "ops_usd_per_month": lambda plan, value: replace(plan, ops_usd_per_month=value),
    "spare": lambda plan, value: replace(plan, spare=round(value)),
    "usd_per_gpu": _owned_with("usd_per_gpu"),
    "residual_share": _owned_with("residual_share"),
    "pue": _owned_with("pue"),
    "usd_per_kwh": _owned_with("usd_per_kwh"),
}


def _draw(each: Assumption, random: Any, count: int) -> Any:
    """So many values of a figure, as its row says that they lie."""
    import numpy as np

    value = float(each.value)
    if each.spread == "quotes":
        return random.choice(np.array(each.quotes), count)
    assert each.low is not None
    assert each.high is not None
    if each.spread == "lognormal":
        # Its bounds are the tenth and the ninetieth of a hundred.
        return value * np.exp(random.normal(0.0, math.log(each.high / each.low) / (2 * TENTH), count))
    return random.triangular(each.low, min(max(value, each.low), each.high), each.high, count)


def _costs(plan: CostInputs, drawn: dict[str, Any], volumes: Any, count: int) -> Any:
    """A month's cost for each draw and volume.

    A replica's volume is in proportion to its rate and to what is left of that; its price is a straight line over the
    rent and over each price of a purchase, and so is taken from two points of it.
    """
    import numpy as np

    stairs = staircase(plan)
    size = np.full(count, stairs.tokens_per_day_per_replica)
    for name in ("tokens_per_second", "slo_derate", "max_utilisation"):
        if name in drawn:
            size = size * drawn[name] / getattr(plan, name)
    if "peak_to_mean" in drawn:
        size = size * plan.peak_to_mean / drawn["peak_to_mean"]
    usd = np.full(count, stairs.usd_per_replica)
    slope = np.full(count, stairs.usd_per_daily_token)
    for name in ("gpu_usd_per_hour", "usd_per_gpu", "residual_share", "pue", "usd_per_kwh"):
        if name in drawn:
            low, high = (staircase(_CHANGES[name](plan, value)) for value in (1.0, 2.0))
            at = drawn[name] - _now(plan, name)
            usd = usd + (high.usd_per_replica - low.usd_per_replica) * at
            slope = slope + (high.usd_per_daily_token - low.usd_per_daily_token) * at
    fixed = stairs.fixed_usd + drawn.get("ops_usd_per_month", plan.ops_usd_per_month) - plan.ops_usd_per_month
    replicas = plan.spare + np.maximum(plan.min_replicas, np.ceil(volumes[None, :] / size[:, None]))
    return np.reshape(fixed, (-1, 1)) + usd[:, None] * replicas + slope[:, None] * volumes[None, :]


def _now(plan: CostInputs, name: str) -> float:
    owner: Any = plan if name == "gpu_usd_per_hour" else plan.owned
    return float(getattr(owner, name))
