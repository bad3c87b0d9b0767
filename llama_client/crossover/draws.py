"""Draws of all uncertain figures at once: how often self-hosting is cheaper, by how much, and from which volume on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_client.crossover.assumptions import TENTH, Assumption
from llama_client.crossover.crossings import Crossings
from llama_client.crossover.economics import MTOK, CostInputs, cheapest_somewhere, line, staircase
from llama_client.crossover.scenario import whole
from llama_client.crossover.sensitivity import OF_PURCHASES, VARYING
from llama_client.errors import MissingExtraError

MAX_DRAWS, MAX_SEED = 1_000_000, 2**63 - 1
# Below the first share of draws an API is the answer, above the second self-hosting is; between them it is open.
OPEN_FROM, OPEN_TO = 0.2, 0.8
_LOWER, _UPPER = 0.1, 0.9
# Volumes at which the crossing is looked for, before it is narrowed down.
_GRID = 200
_BISECTIONS = 40
# From where next to no token is served to where one replica more does not matter.
_FROM, _TO = 1e-3, 1e6
# Each further replica makes the share of draws fall, so beside a crossing it is looked at more closely: so far, at so
# many volumes and again around the most doubtful of them, so often anew where the crossing has moved.
_BESIDE, _CLOSE, _DOUBTFUL, _AGAIN, _ROUNDS = 3.0, 250, 6, 8, 8
# Full replicas of the plan, just below and just above which the share of draws is looked at.
_EDGES = 20


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over all draws.

    Attributes:
        low: The 10th percentile.
        median: The 50th.
        high: The 90th.
    """

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class CrossingBand:
    """The volumes, in tokens a day, between which the draws leave the answer open.

    Attributes:
        low: The lowest at which self-hosting is cheaper in 20% of the draws; 0: from the first token; None: nowhere.
        likely: From here on it is so in half of them or more; None: nowhere for good.
        high: From here on it is so in more than 80%; None: nowhere for good.
        highest_probability: The largest share of the draws at any volume.
    """

    low: float | None
    likely: float | None
    high: float | None
    highest_probability: float

    @property
    def is_never(self) -> bool:
        """Whether an API is the answer at all volumes."""
        return self.low is None


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


class Draws:
    """A plan's cost in each draw, as arrays; figures that do not vary are the plan's own."""

    def __init__(self, plan: CostInputs, drawn: Mapping[str, Any], *, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._plan, self._drawn = plan, drawn
        self._lines = [line(api, plan) for api in cheapest_somewhere(plan)]
        # Costs are the same arithmetic over arrays; figures of a purchase multiply each other, so none is taken alone.
        of_plan: Any = {name: values for name, values in drawn.items() if name not in OF_PURCHASES}
        of_purchase: Any = {name: values for name, values in drawn.items() if name in OF_PURCHASES}
        owned = plan.owned if plan.owned is None else replace(plan.owned, **of_purchase)
        self._stairs: Any = staircase(replace(plan, owned=owned, **of_plan))

    @property
    def varied(self) -> tuple[str, ...]:
        """The figures that differ from draw to draw."""
        return tuple(self._drawn)

    def given(self, name: str) -> Draws:
        """The same draws, with one figure as if it had been given as it is assumed."""
        kept = {each: values for each, values in self._drawn.items() if each != name}
        return Draws(self._plan, kept, count=self.count, seed=self.seed)

    def probability(self, tokens_per_day: float) -> float:
        """The share of draws in which self-hosting is cheaper than every API at a volume."""
        import numpy as np

        wins = self._usd_per_month(tokens_per_day) < self._api_usd_per_month(tokens_per_day)
        # Asked for at more than a thousand volumes: five times as fast as a mean.
        return float(np.count_nonzero(wins) / np.size(wins))

    def saving(self, tokens_per_day: float) -> Spread:
        """US dollars a month that self-hosting saves against the cheapest API; below 0: that it costs more."""
        return _spread(self._api_usd_per_month(tokens_per_day) - self._usd_per_month(tokens_per_day))

    def full_usd_per_mtok(self) -> Spread:
        """A million tokens of a full replica, without staff."""
        return _spread(self._stairs.usd_per_full_daily_token / self._plan.days_per_month * MTOK)

    def band(self, volumes: Sequence[float]) -> ProbabilityBand:
        import numpy as np

        costs = [np.broadcast_to(self._usd_per_month(volume), self.count) for volume in volumes]
        ends = [np.quantile(cost, [_LOWER, _UPPER]).tolist() for cost in costs]
        wins = [
            float(np.mean(cost < self._api_usd_per_month(volume)))
            for cost, volume in zip(costs, volumes, strict=True)
            if self._lines
        ]
        return ProbabilityBand(
            draws=self.count,
            seed=self.seed,
            varied=self.varied,
            tokens_per_day=tuple(volumes),
            probability=tuple(wins),
            low_usd_per_month=tuple(low for low, _ in ends),
            high_usd_per_month=tuple(high for _, high in ends),
        )

    def crossing(self, exact: Crossings) -> CrossingBand:
        """The volumes between which it is open; where nothing varies, the exact crossings."""
        if not self._drawn:
            certain = 1.0 if exact.intervals else 0.0
            return CrossingBand(exact.first, exact.permanent, exact.permanent, certain)
        volumes = self._grid(exact)
        shares = [self.probability(volume) for volume in volumes]
        for_good = self._probability_for_good()

        def first(share: float) -> float | None:
            place = next((place for place, found in enumerate(shares) if found >= share), None)
            if place is None:
                return volumes[-1] if for_good >= share else None
            if place == 0:
                return 0.0
            found = self._narrowed(volumes[place - 1 : place + 1], lambda found: found >= share)
            return self._none_below(found, lambda found: found >= share)

        def last(is_reached: Callable[[float], bool]) -> float | None:
            if not is_reached(for_good) or not is_reached(shares[-1]):
                return None
            place = next((place for place in reversed(range(len(shares))) if not is_reached(shares[place])), None)
            if place is None:
                return 0.0
            return self._all_above(self._narrowed(volumes[place : place + 2], is_reached), is_reached)

        return CrossingBand(
            low=first(OPEN_FROM),
            likely=last(lambda found: found >= 0.5),
            high=last(lambda found: found > OPEN_TO),
            highest_probability=max(*shares, for_good),
        )

    def _none_below(self, found: float, is_reached: Callable[[float], bool]) -> float:
        """The first volume at which a share is reached, from one that may be a later one."""
        seen = found
        for _ in range(_ROUNDS):
            looked = self._closely(found / _BESIDE, seen, doubtful=lambda share: -share)
            place = next((place for place, (_, share) in enumerate(looked) if is_reached(share)), None)
            if place is None:
                break
            seen = looked[0][0]
            found = (
                self._narrowed([volume for volume, _ in looked[place - 1 : place + 1]], is_reached) if place else seen
            )
        return found

    def _all_above(self, found: float, is_reached: Callable[[float], bool]) -> float:
        """The volume from which on a share is reached, from one above which it may be missed again."""
        seen = found
        for _ in range(_ROUNDS):
            looked = self._closely(seen, found * _BESIDE, doubtful=lambda share: share)
            place = next((place for place in reversed(range(len(looked))) if not is_reached(looked[place][1])), None)
            if place is None:
                break
            seen = looked[-1][0]
            beside = [volume for volume, _ in looked[place : place + 2]]
            found = self._narrowed(beside, is_reached) if len(beside) > 1 else seen
        return found

    def _closely(self, low: float, high: float, *, doubtful: Callable[[float], float]) -> list[tuple[float, float]]:
        """Volumes between two, each with its share of draws; closest around those with the lowest `doubtful`."""
        import numpy as np

        within = np.geomspace(low, high, _CLOSE + 2)[1:-1].tolist()
        size = self._stairs.tokens_per_day_per_replica
        if np.ndim(size) == 0:
            # All replicas have one size: the winner changes where one is full.
            first = math.ceil(low / size)
            counts = range(first, min(math.floor(high / size), first + _CLOSE) + 1)
            within += (float(size) * count * side for count in counts for side in (1.0, 1 + 1e-9))
        shares = {volume: self.probability(volume) for volume in within if low < volume < high}
        volumes = sorted(shares)
        doubts = [doubtful(shares[volume]) for volume in volumes]
        valleys = [
            place for place in range(1, len(volumes) - 1) if doubts[place - 1] >= doubts[place] <= doubts[place + 1]
        ]
        for place in sorted(valleys, key=doubts.__getitem__)[:_DOUBTFUL]:
            again = np.geomspace(volumes[place - 1], volumes[place + 1], _AGAIN + 2)[1:-1].tolist()
            shares |= {volume: self.probability(volume) for volume in again}
        return sorted(shares.items())

    def _usd_per_month(self, tokens_per_day: float) -> Any:
        import numpy as np

        stairs = self._stairs
        needed = np.maximum(stairs.min_replicas, np.ceil(tokens_per_day / stairs.tokens_per_day_per_replica))
        replicas = needed + stairs.spare
        own = stairs.fixed_usd + stairs.usd_per_replica * replicas + stairs.usd_per_daily_token * tokens_per_day
        if stairs.replicas_per_block > 1:
            # Faster than whole-number division, which arrays are slow at.
            own = own + stairs.usd_per_block * np.ceil(replicas / stairs.replicas_per_block)
        return own

    def _api_usd_per_month(self, tokens_per_day: float) -> float:
        return min((each.usd(tokens_per_day) for each in self._lines), default=math.nan)

    def _probability_for_good(self) -> float:
        """The share of draws in which a full replica's token is cheaper than the API's: from some volume on all win."""
        import numpy as np

        price = min(each.usd_per_daily_token for each in self._lines)
        return float(np.mean(self._stairs.usd_per_full_daily_token < price))

    def _grid(self, exact: Crossings) -> list[float]:
        """Volumes by orders of magnitude, and just above those at which the plan's own winner changes."""
        import numpy as np

        sizes = np.broadcast_to(self._stairs.tokens_per_day_per_replica, self.count)
        least = float(sizes.min()) * _FROM
        # A price by the token so high that an API is dearer before that.
        slope = max(each.usd_per_daily_token for each in self._lines)
        own = float(np.min(self._usd_per_month(least)))
        if slope > 0 and own > 0:
            least = min(least, own / slope / 2)
        low, high = math.log(least), math.log(float(sizes.max()) * _TO)
        even = (math.exp(low + (high - low) * place / (_GRID - 1)) for place in range(_GRID))
        ends = (end for interval in exact.intervals[:_GRID] for end in interval if end)
        full = staircase(self._plan).tokens_per_day_per_replica
        edges = (full * count for count in range(1, _EDGES + 1))
        return sorted({*even, *(end * (1 + 1e-9) for end in ends), *edges})

    def _narrowed(self, between: Sequence[float], is_reached: Callable[[float], bool]) -> float:
        """The volume between two at which the share of draws passes what is reached at the upper one alone."""
        low, high = between
        for _ in range(_BISECTIONS):
            middle = math.sqrt(low * high)
            if is_reached(self.probability(middle)):
                high = middle
            else:
                low = middle
        return high


def draw(plan: CostInputs, assumptions: Iterable[Assumption], *, draws: int, seed: int) -> Draws:
    """Draws all figures that are assumed and have bounds."""
    whole(0, MAX_DRAWS)(draws, "draws")
    whole(0, MAX_SEED)(seed, "seed")
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtraError(
            'a band of uncertainty needs numpy: pip install "llama-client[crossover]"; or ask for 0 draws',
            extra="crossover",
        ) from error
    random = np.random.default_rng(seed)
    # Of a single quote nothing can be drawn.
    varied = (
        each
        for each in assumptions
        if each.spread != "none" and each.low != each.high and not each.is_given and each.name in VARYING
    )
    return Draws(plan, {each.name: _values(each, random, draws) for each in varied}, count=draws, seed=seed)


def _values(each: Assumption, random: Any, count: int) -> Any:
    value = float(each.value)
    if each.spread == "quotes":
        return random.choice(each.quotes, count)
    assert each.low is not None
    assert each.high is not None
    if each.spread == "lognormal":
        # Its bounds are the 10th and the 90th percentile.
        return random.lognormal(math.log(value), math.log(each.high / each.low) / (2 * TENTH), count)
    return random.triangular(each.low, min(max(value, each.low), each.high), each.high, count)


def _spread(values: Any) -> Spread:
    import numpy as np

    low, median, high = np.quantile(values, [_LOWER, 0.5, _UPPER]).tolist()
    return Spread(low, median, high)
