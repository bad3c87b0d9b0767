"""Sensitivity: what each figure changes on its own, at which value the answer turns, and the probability band."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llama_client.crossover.assumptions import TENTH, Assumption
from llama_client.crossover.crossings import is_ever_below
from llama_client.crossover.economics import CostInputs, line, staircase, usd_per_mtok
from llama_client.crossover.scenario import ApiPrice, whole
from llama_client.errors import MissingExtraError

MAX_DRAWS, MAX_SEED = 1_000_000, 2**63 - 1
# Draws are made in batches, so that a million of them take no more memory than one.
_BATCH = 10_000
_LOWER, _UPPER = 0.1, 0.9
# A break-even that is this many times larger or smaller than the figure is out of reach.
_FARTHEST = 1e4
_BISECTIONS = 80
_API_PRICES = (
    *("input_usd_per_mtok", "output_usd_per_mtok", "cached_usd_per_mtok", "cache_write_usd_per_mtok"),
    "usd_per_request",
)
_OF_PURCHASES = ("usd_per_gpu", "computer_usd", "colocation_usd_per_kw", "residual_share", "pue", "usd_per_kwh")
_VARYING = (
    *("tokens_per_second", "slo_derate", "max_utilisation", "peak_to_mean"),
    *("gpu_usd_per_hour", "ops_usd_per_month", "spare", *_OF_PURCHASES),
)


@dataclass(frozen=True, slots=True)
class Swing:
    """The cost of a million self-hosted tokens at both bounds of one figure."""

    name: str
    low: float
    high: float
    usd_per_mtok_at_low: float
    usd_per_mtok_at_high: float

    @property
    def width(self) -> float:
        return abs(self.usd_per_mtok_at_high - self.usd_per_mtok_at_low)


@dataclass(frozen=True, slots=True)
class ProbabilityBand:
    """The spread of self-hosting's cost over draws of all uncertain figures."""

    draws: int
    seed: int
    varied: tuple[str, ...]  # names of the figures that were drawn
    tokens_per_day: tuple[float, ...]
    probability: tuple[float, ...]  # at each volume, the share of draws in which self-hosting wins; empty: no API
    low_usd_per_month: tuple[float, ...]  # 10th percentile at each volume
    high_usd_per_month: tuple[float, ...]  # 90th percentile
    at_volume: float | None  # the probability at the scenario's own volume


@dataclass(frozen=True, slots=True)
class BreakEven:
    """The value of one figure at which both sides cost the same."""

    name: str  # `api price`: the cheapest API's, with all others changed by the same factor
    now: float
    at: float
    unit: str


def swings(plan: CostInputs, assumptions: Sequence[Assumption], tokens_per_day: float) -> tuple[Swing, ...]:
    """The swing of each bounded figure at a volume, widest first."""
    found = []
    for each in assumptions:
        if each.low is None or each.high is None or each.name not in _VARYING:
            continue
        costs = (staircase(_with(plan, each.name, bound)).usd(tokens_per_day) for bound in (each.low, each.high))
        low, high = (cost / (tokens_per_day * plan.days_per_month) * 1e6 for cost in costs)
        found.append(Swing(each.name, each.low, each.high, low, high))
    return tuple(sorted(found, key=lambda swing: -swing.width))


def break_evens(plan: CostInputs, volume: float | None, reference_volume: float) -> tuple[BreakEven, ...]:
    """The value of each figure, on its own, that changes the winner at the volume; without one, "never" at any."""

    def wins(changed: CostInputs) -> bool:
        lines = [line(api, changed) for api in changed.apis]
        if volume is None:
            return is_ever_below(staircase(changed), lines)
        return staircase(changed).usd(volume) < min(each.usd(volume) for each in lines)

    def is_turned(name: str, now: float, value: float) -> bool:
        changed = _with_prices(plan, value / now) if name == "api price" else _with(plan, name, value)
        return wins(changed) != wins_now

    wins_now = wins(plan)
    cheapest = min(plan.apis, key=lambda api: line(api, plan).usd(reference_volume))
    found = []
    # Each figure, and whether self-hosting gains where it grows.
    for name, now, unit, gains in (
        ("api price", usd_per_mtok(cheapest, plan), "USD per million tokens", True),
        ("gpu_usd_per_hour", plan.gpu_usd_per_hour, "USD", False),
        ("ops_usd_per_month", plan.ops_usd_per_month, "USD", False),
        ("tokens_per_second", plan.tokens_per_second, "tokens/s", True),
        ("peak_to_mean", plan.peak_to_mean, "", False),
    ):
        if now <= 0:
            continue
        far = now / _FARTHEST if gains == wins_now else now * _FARTHEST
        if name == "peak_to_mean":
            far = max(1.0, far)
        at = _turning_point(now, far, partial(is_turned, name, now))
        if at is not None:
            found.append(BreakEven(name, now, at, unit))
    return tuple(found)


def _turning_point(near: float, far: float, is_turned: Callable[[float], bool]) -> float | None:
    """The value from which on the winner is another; None: there is none up to `far`."""
    if not is_turned(far):
        return None
    # The cost of either side only rises or only falls with each figure.
    for _ in range(_BISECTIONS):
        middle = math.sqrt(near * far)
        if is_turned(middle):
            far = middle
        else:
            near = middle
    return far


def _with(plan: CostInputs, name: str, value: float) -> CostInputs:
    changed: dict[str, Any] = {name: round(value) if name == "spare" else value}
    if name not in _OF_PURCHASES:
        return replace(plan, **changed)
    assert plan.owned is not None
    return replace(plan, owned=replace(plan.owned, **changed))


def _with_prices(plan: CostInputs, factor: float) -> CostInputs:
    """The plan with all prices of APIs changed by a factor, up to the most that `ApiPrice` accepts."""

    def scaled(api: ApiPrice) -> ApiPrice:
        prices = {name: getattr(api, name) for name in _API_PRICES}
        changed: Any = {name: min(1e6, usd * factor) for name, usd in prices.items() if usd is not None}
        return replace(api, **changed)

    escalation = None if plan.escalation is None else scaled(plan.escalation)
    return replace(plan, apis=tuple(scaled(api) for api in plan.apis), escalation=escalation)


def band(
    plan: CostInputs,
    assumptions: Sequence[Assumption],
    tokens_per_day: Sequence[float],
    *,
    draws: int,
    seed: int,
    at: float | None,
) -> ProbabilityBand:
    whole(1, MAX_DRAWS)(draws, "draws")
    whole(0, MAX_SEED)(seed, "seed")
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtraError(
            'a band of uncertainty needs numpy: pip install "llama-client[crossover]"; or ask for 0 draws',
            extra="crossover",
        ) from error
    varied = tuple(
        each for each in assumptions if each.spread != "none" and not each.is_given and each.name in _VARYING
    )
    volumes = [*tokens_per_day, *([at] if at is not None else [])]
    api = np.array([min((line(api, plan).usd(v) for api in plan.apis), default=math.nan) for v in volumes])
    random = np.random.default_rng(seed)
    costs = []
    wins = np.zeros(len(volumes))
    for start in range(0, draws, _BATCH):
        size = min(_BATCH, draws - start)
        drawn = {each.name: _draw(each, random, size) for each in varied}
        usd = _costs(plan, drawn, np.array(volumes), size)
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


def _draw(each: Assumption, random: Any, count: int) -> Any:
    value = float(each.value)
    if each.spread == "quotes":
        return random.choice(each.quotes, count)
    assert each.low is not None
    assert each.high is not None
    if each.spread == "lognormal":
        # Its bounds are the 10th and the 90th percentile.
        return random.lognormal(math.log(value), math.log(each.high / each.low) / (2 * TENTH), count)
    return random.triangular(each.low, min(max(value, each.low), each.high), each.high, count)


def _costs(plan: CostInputs, drawn: dict[str, Any], volumes: Any, count: int) -> Any:
    """A month's cost for each draw and volume."""
    import numpy as np

    stairs = staircase(plan)
    # A replica's volume is proportional to its rate and to the shares that are left of it.
    size = np.full(count, stairs.tokens_per_day_per_replica)
    for name in ("tokens_per_second", "slo_derate", "max_utilisation"):
        if name in drawn:
            size = size * drawn[name] / getattr(plan, name)
    if "peak_to_mean" in drawn:
        size = size * plan.peak_to_mean / drawn["peak_to_mean"]
    # Its cost is linear in the rent and in each figure of a purchase, so two points give the slope.
    usd, block = np.full(count, stairs.usd_per_replica), np.full(count, stairs.usd_per_block)
    slope = np.full(count, stairs.usd_per_daily_token)
    for name in ("gpu_usd_per_hour", *_OF_PURCHASES):
        if name in drawn:
            low, high = (staircase(_with(plan, name, value)) for value in (1.0, 2.0))
            at = drawn[name] - getattr(plan.owned if name in _OF_PURCHASES else plan, name)
            usd = usd + (high.usd_per_replica - low.usd_per_replica) * at
            block = block + (high.usd_per_block - low.usd_per_block) * at
            slope = slope + (high.usd_per_daily_token - low.usd_per_daily_token) * at
    fixed = stairs.fixed_usd + drawn.get("ops_usd_per_month", plan.ops_usd_per_month) - plan.ops_usd_per_month
    replicas = plan.spare + np.maximum(plan.min_replicas, np.ceil(volumes[None, :] / size[:, None]))
    own = np.reshape(fixed, (-1, 1)) + usd[:, None] * replicas + slope[:, None] * volumes[None, :]
    if stairs.usd_per_block:
        own += block[:, None] * np.ceil(replicas / stairs.replicas_per_block)
    return own
