"""Sensitivity: what each figure changes on its own, and the value of each at which both sides cost the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llama_client.crossover.assumptions import Assumption
from llama_client.crossover.crossings import is_ever_below
from llama_client.crossover.economics import MTOK, CostInputs, cheapest_somewhere, line, staircase, usd_per_mtok
from llama_client.crossover.scenario import ApiPrice

# A break-even that is this many times larger or smaller than the figure is out of reach.
_FARTHEST = 1e4
_BISECTIONS = 80
_API_PRICES = (
    *("input_usd_per_mtok", "output_usd_per_mtok", "cached_usd_per_mtok", "cache_write_usd_per_mtok"),
    "usd_per_request",
)
OF_PURCHASES = ("usd_per_gpu", "computer_usd", "colocation_usd_per_kw", "residual_share", "pue", "usd_per_kwh")
VARYING = (
    *("tokens_per_second", "slo_derate", "max_utilisation", "peak_to_mean"),
    *("gpu_usd_per_hour", "ops_usd_per_month", "spare", *OF_PURCHASES),
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
        if each.low is None or each.high is None or each.name not in VARYING:
            continue
        costs = (staircase(changed(plan, each.name, bound)).usd(tokens_per_day) for bound in (each.low, each.high))
        low, high = (cost / (tokens_per_day * plan.days_per_month) * MTOK for cost in costs)
        found.append(Swing(each.name, each.low, each.high, low, high))
    return tuple(sorted(found, key=lambda swing: -swing.width))


def break_evens(plan: CostInputs, volume: float | None, reference_volume: float) -> tuple[BreakEven, ...]:
    """The value of each figure, on its own, that changes the winner at the volume; without one, "never" at any."""

    def wins(other: CostInputs) -> bool:
        lines = [line(api, other) for api in other.apis]
        if volume is None:
            return is_ever_below(staircase(other), lines)
        return staircase(other).usd(volume) < min(each.usd(volume) for each in lines)

    def is_turned(name: str, now: float, value: float) -> bool:
        other = _with_prices(plan, value / now) if name == "api price" else changed(plan, name, value)
        return wins(other) != wins_now

    # Dearer APIs stay dearer, whichever figure changes.
    plan = replace(plan, apis=cheapest_somewhere(plan))
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


def changed(plan: CostInputs, name: str, value: float) -> CostInputs:
    """The plan with one figure changed."""
    figure: dict[str, Any] = {name: round(value) if name == "spare" else value}
    if name not in OF_PURCHASES:
        return replace(plan, **figure)
    assert plan.owned is not None
    return replace(plan, owned=replace(plan.owned, **figure))


def _with_prices(plan: CostInputs, factor: float) -> CostInputs:
    """The plan with all prices of APIs changed by a factor, up to the most that `ApiPrice` accepts."""

    def scaled(api: ApiPrice) -> ApiPrice:
        prices = {name: getattr(api, name) for name in _API_PRICES}
        other: Any = {name: min(1e6, usd * factor) for name, usd in prices.items() if usd is not None}
        return replace(api, **other)

    escalation = None if plan.escalation is None else scaled(plan.escalation)
    return replace(plan, apis=tuple(scaled(api) for api in plan.apis), escalation=escalation)
