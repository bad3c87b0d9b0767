"""What would flip the verdict: the rent, price, rate, peak or staff at which both sides cost the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llama_client.crossover.crossings import is_ever_below
from llama_client.crossover.economics import CostInputs, line, staircase, usd_per_mtok

if TYPE_CHECKING:
    from llama_client.crossover.evaluation import Crossover
    from llama_client.crossover.scenario import ApiPrice


# A figure that must be this many times larger or smaller is out of reach.
_FARTHEST = 1e4
_STEPS = 80


@dataclass(frozen=True, slots=True)
class Flip:
    """One figure, and where it would have to be for the other side to be the cheaper one."""

    name: str
    now: float
    at: float
    unit: str


@dataclass(frozen=True, slots=True)
class _Lever:
    """A figure that may be changed: `helps` is where to, for one's own machines to become cheaper."""

    name: str
    now: float
    unit: str
    helps: float
    hurts: float
    change: Callable[[CostInputs, float], CostInputs]


def flips(crossover: Crossover) -> tuple[Flip, ...]:
    """What would change the answer, each figure on its own.

    With a volume, at that volume. Without one, where the answer is "never": where there would be a volume at all.
    """
    plan, volume = crossover.plan, crossover.volume
    if not plan.apis or (volume is None and crossover.verdict != "never"):
        return ()

    def wins(changed: CostInputs) -> bool:
        if volume is None:
            return is_ever_below(staircase(changed), [line(api, changed) for api in changed.apis])
        return staircase(changed).usd(volume) < min(line(api, changed).usd(volume) for api in changed.apis)

    found = []
    for lever in _levers(plan, crossover.reference_volume):
        at = _turning_point(lever, plan, wins)
        if at is not None:
            found.append(Flip(lever.name, lever.now, at, lever.unit))
    return tuple(found)


def _levers(plan: CostInputs, volume: float) -> list[_Lever]:
    cheapest = min(plan.apis, key=lambda api: line(api, plan).usd(volume))
    price = usd_per_mtok(cheapest, plan)
    rent, rate, peak, staff = plan.gpu_usd_per_hour, plan.tokens_per_second, plan.peak_to_mean, plan.ops_usd_per_month
    levers = [
        _Lever(
            "api price",
            price,
            "USD per million tokens",
            price * _FARTHEST,
            price / _FARTHEST,
            lambda plan, value: _with_prices(plan, value / price),
        ),
        _Lever("gpu_usd_per_hour", rent, "USD", rent / _FARTHEST, rent * _FARTHEST, _setting("gpu_usd_per_hour")),
        _Lever("ops_usd_per_month", staff, "USD", staff / _FARTHEST, staff * _FARTHEST, _setting("ops_usd_per_month")),
        _Lever(
            "tokens_per_second", rate, "tokens/s", rate * _FARTHEST, rate / _FARTHEST, _setting("tokens_per_second")
        ),
        _Lever("peak_to_mean", peak, "", 1.0, peak * _FARTHEST, _setting("peak_to_mean")),
    ]
    return [lever for lever in levers if lever.now > 0]


def _setting(name: str) -> Callable[[CostInputs, float], CostInputs]:
    return lambda plan, value: replace(plan, **{name: value})  # type: ignore[arg-type]


def _with_prices(plan: CostInputs, factor: float) -> CostInputs:
    def scaled(api: ApiPrice) -> ApiPrice:
        cached = api.cached_usd_per_mtok
        return replace(
            api,
            input_usd_per_mtok=min(1e6, api.input_usd_per_mtok * factor),
            output_usd_per_mtok=min(1e6, api.output_usd_per_mtok * factor),
            cached_usd_per_mtok=None if cached is None else min(1e6, cached * factor),
            cache_write_usd_per_mtok=min(1e6, api.cache_write_usd_per_mtok * factor),
            usd_per_request=min(1e6, api.usd_per_request * factor),
        )

    escalation = None if plan.escalation is None else scaled(plan.escalation)
    return replace(plan, apis=tuple(scaled(api) for api in plan.apis), escalation=escalation)


def _turning_point(lever: _Lever, plan: CostInputs, wins: Callable[[CostInputs], bool]) -> float | None:
    """Where the winner changes, between what a figure is and as far as it may go; None: it does not.

    The cost of either side only rises or only falls with each figure, so halving the distance finds it.
    """
    now = wins(plan)
    far = lever.hurts if now else lever.helps
    if wins(lever.change(plan, far)) == now:
        return None
    near = lever.now
    for _ in range(_STEPS):
        middle = math.sqrt(near * far)
        if wins(lever.change(plan, middle)) == now:
            near = middle
        else:
            far = middle
    return far
