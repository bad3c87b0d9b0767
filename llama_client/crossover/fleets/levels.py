"""A load cut into layers of one replica each, and what each layer costs that starts and stops with the load.

Replica k serves the load between k - 1 and k times a replica's capacity, so it works in the hours that need at least k
replicas. The layers are independent of each other: the cheapest way to serve each makes the cheapest fleet. Layers
between two neighbouring numbers of needed replicas are alike, and are one block here, so the work grows with the hours
and not with the replicas.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import TypeAlias, TypeVar

from llama_client.crossover.crossings import MAX_REPLICAS
from llama_client.crossover.economics import SECONDS_AN_HOUR

T = TypeVar("T")
# A replica that takes longer to start cannot follow the load of an hour.
LONGEST_START_S = SECONDS_AN_HOUR
# A share of a second that floats add to a run.
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class Scaling:
    """How replicas follow the load.

    Attributes:
        start_s: From the decision until a replica serves; it is paid for meanwhile.
        idle_s: A replica without work is paid for so long before it stops.
        billing_s: Each run is billed in whole units of this.
    """

    start_s: float
    idle_s: float
    billing_s: float

    def billed_hours(self, busy_hours: int) -> float:
        """The hours that are billed for a run with so many busy hours at a stretch, or with short gaps in it."""
        seconds = busy_hours * SECONDS_AN_HOUR + self.idle_s
        return math.ceil((seconds - _ROUNDING_S) / self.billing_s) * self.billing_s / SECONDS_AN_HOUR


@dataclass(frozen=True, slots=True)
class ColdStart:
    """An hour in which replicas start: those above `warm`, up to `needed`."""

    hour: int
    warm: int
    needed: int


@dataclass(frozen=True, slots=True)
class Following:
    """One replica of each block, as it follows the load over the whole curve."""

    billed_hours: list[float]
    starts: list[int]
    late_tokens: list[float]  # what comes while it starts
    left_tokens: list[float]  # of hours with too little load to start it
    cold_starts: list[ColdStart]


class Levels:
    """The layers of a load; the lists have one entry a block of equal layers, from the lowest up."""

    def __init__(self, loads: Sequence[float], capacity: float, *, edges: Sequence[int] = ()) -> None:
        self.loads, self.capacity = loads, capacity
        self.needed = [_needed(load, capacity) for load in loads]
        tops = {edge for needed in set(self.needed) for edge in (needed - 1, needed)} | set(edges)
        self.tops = sorted(top for top in tops if top > 0)
        self.counts = [top - below for top, below in zip(self.tops, [0, *self.tops], strict=False)]
        ordered = sorted(loads)
        from_place = [*list(accumulate(reversed(ordered)))[::-1], 0.0]

        def above(level: float) -> float:
            place = bisect.bisect_right(ordered, level)
            return from_place[place] - (len(ordered) - place) * level

        rests = [above(top * capacity) for top in (0, *self.tops)]
        # Tokens over the whole curve of one layer.
        self.tokens = [
            max(0.0, below - up) / count for below, up, count in zip(rests, rests[1:], self.counts, strict=False)
        ]
        self._known: dict[tuple[Scaling, float], Following] = {}

    def with_edge(self, level: int) -> Levels:
        """The same with a block that ends at a layer; what is known of the other blocks stays known."""
        block = bisect.bisect_left(self.tops, level)
        if not level or (block < len(self.tops) and self.tops[block] == level):
            return self
        is_above = block == len(self.tops)
        found = copy(self)
        below = self.tops[block - 1] if block else 0
        found.tops = [*self.tops[:block], level, *self.tops[block:]]
        found.counts = [*self.counts[:block], level - below, *self.counts[block:]]
        if not is_above:
            found.counts[block + 1] = self.tops[block] - level
        found.tokens = _twice(self.tokens, block, 0.0)
        found._known = {
            key: Following(
                _twice(known.billed_hours, block, 0.0),
                _twice(known.starts, block, 0),
                _twice(known.late_tokens, block, 0.0),
                _twice(known.left_tokens, block, 0.0),
                known.cold_starts,
            )
            for key, known in self._known.items()
        }
        return found

    def following(self, scaling: Scaling, *, smallest_share: float = 0.0) -> Following:
        """Replicas that follow the load; the last one starts from a share of its capacity on, less is left."""
        known = self._known.get((scaling, smallest_share))
        if known is None:
            known = self._known[scaling, smallest_share] = self._followed(scaling, smallest_share)
        return known

    def _followed(self, scaling: Scaling, smallest_share: float) -> Following:
        loads, capacity, hours = self.loads, self.capacity, len(self.loads)
        wanted: list[int] = self.needed
        billed: _Steps = {}
        starts: _Steps = {}
        late: _Steps = {}
        left: _Steps = {}
        rests = [0.0] * hours
        if smallest_share > 0:
            wanted = list(self.needed)
            for hour, needed in enumerate(self.needed):
                rest = loads[hour] - (needed - 1) * capacity
                if needed and rest < smallest_share * capacity:
                    wanted[hour] -= 1
                    rests[hour] = rest
        first = wanted.index(min(wanted))
        colds: list[ColdStart] = []
        share = scaling.start_s / SECONDS_AN_HOUR
        runs = _cold_starts(_from(wanted, first), _from(rests, first), scaling, billed, starts, left)
        for cold in runs:
            hour = (cold.hour + first) % hours
            colds.append(ColdStart(hour, cold.warm, cold.needed))
            full = min(cold.needed, max(cold.warm, int(loads[hour] / capacity)))
            _add(late, cold.warm, full, capacity * share)
            if cold.needed > full:
                _add(late, cold.needed - 1, cold.needed, max(0.0, loads[hour] - full * capacity) * share)
        starts_of_blocks = [round(count) for count in _sums(starts, self.tops)]
        paid_of_blocks = zip(starts_of_blocks, _sums(billed, self.tops), strict=True)
        return Following(
            # A replica that never starts again never stops.
            [paid if count else float(hours) for count, paid in paid_of_blocks],
            starts_of_blocks,
            _sums(late, self.tops),
            _sums(left, self.tops),
            colds,
        )


def _needed(load: float, capacity: float) -> int:
    count = math.ceil(min(load / capacity, MAX_REPLICAS))
    # A load that fills them exactly must not take one more because a quotient was rounded up.
    return count - 1 if count and (count - 1) * capacity >= load else count


def _twice(values: list[T], place: int, above: T) -> list[T]:
    """The values with that of one block once more for its upper part; above all blocks there is nothing."""
    return [*values[:place], values[place] if place < len(values) else above, *values[place:]]


# What is added to a range of layers, as differences: from the layer above a number on.
_Steps: TypeAlias = dict[int, float]


def _add(steps: _Steps, below: int, top: int, value: float) -> None:
    """Adds a value to each layer above one, up to another."""
    steps[below] = steps.get(below, 0.0) + value
    steps[top] = steps.get(top, 0.0) - value


def _sums(steps: _Steps, tops: Sequence[int]) -> list[float]:
    sums = accumulate(map(steps.get, (0, *tops)[: len(tops)], repeat(0.0)))
    return [total if total > 0 else 0.0 for total in sums]


def _from(hours: list[T], first: int) -> list[T]:
    return [*hours[first:], *hours[:first]]


def _cold_starts(
    wanted: Sequence[int], rests: Sequence[float], scaling: Scaling, billed: _Steps, starts: _Steps, left: _Steps
) -> list[ColdStart]:
    """Adds up the runs of each layer over one period; the curve begins in an hour with the fewest replicas.

    `rests` is the load of an hour that no replica starts for; one that still waits for work serves it until it stops.

    Replicas start from the lowest layer up and stop from the highest down, so both are stacks: each hour touches only
    the layers that change. The period runs twice, since the first pass does not know what was running before it.
    """
    hours, idle_hours = len(wanted), scaling.idle_s / SECONDS_AN_HOUR
    always = running = wanted[0]
    active: list[tuple[int, int]] = []  # (highest layer, hour of the start), from the lowest up
    idle: list[tuple[int, int, int]] = []  # (highest layer, hour of the start, of the stop); the lowest is last
    found: list[ColdStart] = []
    billed_of: dict[int, float] = {}
    twice = [*wanted, *wanted]
    for time in range(1, 2 * hours):
        now = twice[time]
        if now < running:
            while active and active[-1][0] > now:
                high, start = active.pop()
                idle.append((high, start, time))
                if (active[-1][0] if active else always) < now:
                    active.append((now, start))
        elif now > running:
            at = warm = running
            counts = time >= hours
            while at < now:
                high, start, stop = idle[-1] if idle else (now, -1, -1)
                if high <= now:
                    if idle:
                        idle.pop()
                else:
                    high = now
                if stop >= 0 and time - stop <= idle_hours:
                    active.append((high, start))
                    warm = high
                else:
                    if stop >= 0 and counts:
                        busy = stop - start
                        paid = billed_of.get(busy)
                        if paid is None:
                            paid = billed_of[busy] = scaling.billed_hours(busy)
                        _add(billed, at, high, paid)
                        _add(starts, at, high, 1)
                    if active and active[-1][1] == time:
                        active.pop()
                    active.append((high, time))
                at = high
            if counts and warm < now:
                found.append(ColdStart(time % hours, warm, now))
        running = now
        if time >= hours and rests[time - hours]:
            waits = idle_hours - (time - idle[-1][2]) if idle and idle[-1][2] >= 0 else 0.0
            _add(left, now, now + 1, rests[time - hours] * (1 - min(1.0, max(0.0, waits))))
    return found
