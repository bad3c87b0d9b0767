"""Own the base of the load and send its peaks to an API: how many machines that takes, and what it costs."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from llama_client.crossover.crossings import Line, Staircase


@dataclass(frozen=True, slots=True)
class Hybrid:
    """The cheapest mix at one volume.

    Attributes:
        replicas: One's own, spare ones included; 0: all goes to the API.
        api_share: The share of tokens that goes there.
        usd_per_month: What both cost.
        saves_usd_per_month: Against the cheaper of all own and all API; never below 0.
    """

    replicas: int
    api_share: float
    usd_per_month: float
    saves_usd_per_month: float


class LoadCurve:
    """How the load is spread over hours: which share of it lies above a capacity.

    Without hours of one's own it is the curve on which the load is R (1 - x)^(R - 1) times the mean once the busiest
    share x of time is past: its mean is 1, its peak R, and with R = 1 it is flat.

    Examples:
        >>> round(LoadCurve(peak_to_mean=2).share_above(1.0), 3)
        0.25
        >>> LoadCurve(hourly_tokens=(1, 3)).share_above(1.0)
        0.25
        >>> LoadCurve(peak_to_mean=1).share_above(0.4)
        0.6
    """

    def __init__(self, *, peak_to_mean: float = 1.0, hourly_tokens: Sequence[float] = ()) -> None:
        self._peak = peak_to_mean
        self._loads: list[float] = []
        if hourly_tokens:
            mean = math.fsum(hourly_tokens) / len(hourly_tokens)
            self._loads = sorted(load / mean for load in hourly_tokens)
            # What the hours from each place on carry together.
            self._above: list[float] = [*list(accumulate(reversed(self._loads)))[::-1], 0.0]
            self._peak = self._loads[-1]

    @property
    def peak_to_mean(self) -> float:
        """The busiest hour against the mean one."""
        return self._peak

    def share_above(self, capacity: float) -> float:
        """The share of all tokens that does not fit below a capacity.

        Args:
            capacity: In units of the mean load.
        """
        if capacity >= self._peak:
            return 0.0
        if capacity <= 0:
            return 1.0
        if self._loads:
            place = bisect.bisect_right(self._loads, capacity)
            busy = len(self._loads) - place
            return float((self._above[place] - busy * capacity) / len(self._loads))
        if self._peak == 1:
            return 1 - capacity
        left = float((capacity / self._peak) ** (1 / (self._peak - 1)))
        return float((1 - left**self._peak) - capacity * (1 - left))


def cheapest_mix(
    stairs: Staircase, lines: Sequence[Line], curve: LoadCurve, *, tokens_per_day: float, usable_tokens_per_day: float
) -> Hybrid | None:
    """The number of own machines that costs least where the API takes what they cannot.

    Args:
        stairs: The own machines.
        lines: The APIs; the one that is cheapest for what is left takes it.
        curve: How the load is spread.
        tokens_per_day: The volume.
        usable_tokens_per_day: What one replica carries of an even load.

    Returns:
        None: there is no API to send anything to.
    """
    if not lines:
        return None

    def share(base: int) -> float:
        return curve.share_above(base * usable_tokens_per_day / tokens_per_day)

    def usd(base: int, line: Line) -> float:
        to_api = tokens_per_day * share(base)
        own = stairs.step_usd(base) + stairs.usd_per_daily_token * (tokens_per_day - to_api) if base else 0.0
        return own + (line.usd(to_api) if to_api > 0 else 0.0)

    most = max(stairs.min_replicas, math.ceil(curve.peak_to_mean * tokens_per_day / usable_tokens_per_day))
    tried = [(usd(base, line), base) for line in lines for base in (0, most)]
    if most > stairs.min_replicas:
        # While something goes to one API, each further machine saves less than the one before: costs fall, then rise.
        found = ((line, _lowest(partial(usd, line=line), stairs.min_replicas, most - 1)) for line in lines)
        tried += [(usd(base, line), base) for line, base in found]
    cost, base = min(tried)
    pure = min(stairs.usd(tokens_per_day), *(line.usd(tokens_per_day) for line in lines))
    return Hybrid(base + stairs.spare if base else 0, share(base), cost, max(0.0, pure - cost))


def _lowest(usd: Callable[[int], float], low: int, high: int) -> int:
    while low < high:
        middle = (low + high) // 2
        if usd(middle) <= usd(middle + 1):
            high = middle
        else:
            low = middle + 1
    return low
