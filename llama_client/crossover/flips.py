"""What would change the answer: at which rent, price, rate, peak or staff both sides cost the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.crossover.economics import line, staircase

if TYPE_CHECKING:
    from llama_client.crossover.evaluation import Crossover


@dataclass(frozen=True, slots=True)
class Flip:
    """One figure, and where it would have to be for the other side to be the cheaper one.

    Attributes:
        name: The figure.
        now: What it is.
        at: Where both sides cost the same.
        unit: Of both.
    """

    name: str
    now: float
    at: float
    unit: str


def flips(crossover: Crossover) -> tuple[Flip, ...]:
    """What would change the answer, each figure on its own.

    With a volume, at that volume. Without one, where the answer is "never": for large volumes, where only what a full
    replica's token costs counts against the API's.

    Args:
        crossover: The answer.

    Returns:
        The figures that alone could do it; empty where there is no API, or no one volume to ask at.
    """
    if not crossover.plan.apis:
        return ()
    if crossover.volume is not None:
        return _at(crossover, crossover.volume)
    return _for_good(crossover) if crossover.verdict == "never" else ()


def _at(crossover: Crossover, volume: float) -> tuple[Flip, ...]:
    plan, stairs = crossover.plan, staircase(crossover.plan)
    api, own = crossover.api_usd_per_month(volume), crossover.self_host_usd_per_month(volume)
    assert api is not None
    replicas, tokens_a_month = stairs.replicas(volume), volume * plan.days_per_month / 1e6
    found = [Flip("api price", api / tokens_a_month, own / tokens_a_month, "USD per million tokens")]
    # What is left of the API's bill for machines, staff aside.
    left = api - stairs.fixed_usd - stairs.usd_per_daily_token * volume
    if plan.owned is None and left > 0:
        hours = plan.n_gpus * (1 + plan.spot_overhead) * plan.powered_hours_per_month
        found.append(Flip("gpu_usd_per_hour", plan.gpu_usd_per_hour, left / replicas / hours, "USD"))
    staff = api - (own - plan.ops_usd_per_month)
    if staff > 0 and plan.ops_usd_per_month > 0:
        found.append(Flip("ops_usd_per_month", plan.ops_usd_per_month, staff, "USD"))
    affordable = math.floor(left / stairs.usd_per_replica) - stairs.spare if left > 0 else 0
    if affordable >= stairs.min_replicas and (own >= api or volume > stairs.edge(stairs.min_replicas)):
        # The rate, or the peak, at which so many replicas and no more carry the volume.
        factor = volume / affordable / stairs.tokens_per_day_per_replica
        found.append(Flip("tokens_per_second", plan.tokens_per_second, plan.tokens_per_second * factor, "tokens/s"))
        if plan.peak_to_mean / factor >= 1:
            found.append(Flip("peak_to_mean", plan.peak_to_mean, plan.peak_to_mean / factor, ""))
    return tuple(found)


def _for_good(crossover: Crossover) -> tuple[Flip, ...]:
    plan, stairs = crossover.plan, staircase(crossover.plan)
    price = min(line(api, plan).usd_per_daily_token for api in plan.apis)
    of_ours = stairs.usd_per_replica / stairs.tokens_per_day_per_replica + stairs.usd_per_daily_token
    mtok = plan.days_per_month / 1e6
    found = [Flip("api price", price / mtok, of_ours / mtok, "USD per million tokens")]
    gain = price - stairs.usd_per_daily_token
    if gain <= 0:
        return tuple(found)
    # By how much too dear a full replica is.
    factor = stairs.usd_per_replica / (gain * stairs.tokens_per_day_per_replica)
    if plan.owned is None:
        found.append(Flip("gpu_usd_per_hour", plan.gpu_usd_per_hour, plan.gpu_usd_per_hour / factor, "USD"))
    found.append(Flip("tokens_per_second", plan.tokens_per_second, plan.tokens_per_second * factor, "tokens/s"))
    if plan.peak_to_mean / factor >= 1:
        found.append(Flip("peak_to_mean", plan.peak_to_mean, plan.peak_to_mean / factor, ""))
    return tuple(found)
