"""A load cut into layers of one replica each, and what each layer costs that starts and stops with the load.

Replica k serves the load between k - 1 and k times a replica's capacity, so it works in the hours that need at least k
replicas. The layers are independent of each other: the cheapest way to serve each makes the cheapest fleet. Layers between
two neighbouring numbers of needed replicas are alike, and are one block here, so the work grows with the hours and not
with the replicas.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from llama_client.crossover.crossings import MAX_REPLICAS

SECONDS_AN_HOUR = 3600.0
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

    def __init__(self, loads: Sequence[float], capacity: float, *, least: int = 0) -> None:
        self.loads, self.capacity = loads, capacity
        self.needed = [_needed(load, capacity) for load in loads]
        tops = {edge for needed in set(self.needed) for edge in (needed - 1, needed)} | {least}
        self.tops = sorted(top for top in tops if top > 0)
        self.counts = [top - below for top, below in zip(self.tops, [0, *self.tops], strict=False)]
        ordered = sorted(loads)
        from_place = [*list(accumulate(reversed(ordered)))[::-1], 0.0]

        def above(level: float) -> float:
            place = bisect.bisect_right(ordered, level)
            return from_place[place] - (len(ordered) - place) * level

        edges = [above(top * capacity) for top in (0, *self.tops)]
        # Tokens over the whole curve of one layer.
        self.tokens = [
            max(0.0, below - up) / count for below, up, count in zip(edges, edges[1:], self.counts, strict=False)
        ]

    def block_of(self, level: int) -> int:
        """The block of a layer, counted from 1."""
        return bisect.bisect_left(self.tops, level)

    def following(self, scaling: Scaling, *, smallest_share: float = 0.0) -> Following:
        """Replicas that follow the load; the last one starts from a share of its capacity on, and leaves less undone."""
        loads, capacity, hours = self.loads, self.capacity, len(self.loads)
        wanted, left = self.needed, _Sums()
        if smallest_share > 0:
            wanted = list(self.needed)
            for hour, needed in enumerate(self.needed):
                rest = loads[hour] - (needed - 1) * capacity
                if needed and rest < smallest_share * capacity:
                    wanted[hour] -= 1
                    left.add(needed, needed, rest)
        billed, starts, late, colds = _Sums(), _Sums(), _Sums(), []
        first = wanted.index(min(wanted))
        for cold in _cold_starts([*wanted[first:], *wanted[:first]], scaling, billed, starts):
            hour = (cold.hour + first) % hours
            colds.append(ColdStart(hour, cold.warm, cold.needed))
            share = scaling.start_s / SECONDS_AN_HOUR
            full = min(cold.needed, int(loads[hour] / capacity))
            if full > cold.warm:
                late.add(cold.warm + 1, full, capacity * share)
            if cold.needed > full:
                late.add(cold.needed, cold.needed, max(0.0, loads[hour] - full * capacity) * share)
        most = max(wanted)
        starts_of_blocks = [round(count) for count in starts.of(self.tops)]
        return Following(
            # A replica that never starts again never stops.
            [
                (float(hours) if not count else paid) if top <= most else 0.0
                for top, count, paid in zip(self.tops, starts_of_blocks, billed.of(self.tops), strict=True)
            ],
            starts_of_blocks,
            late.of(self.tops),
            left.of(self.tops),
            colds,
        )


def _needed(load: float, capacity: float) -> int:
    count = math.ceil(min(load / capacity, MAX_REPLICAS))
    # A load that fills them exactly must not take one more because a quotient was rounded up.
    return count - 1 if count and (count - 1) * capacity >= load else count


class _Sums:
    """Sums over ranges of layers, kept as differences."""

    def __init__(self) -> None:
        self._steps: dict[int, float] = {}

    def add(self, low: int, high: int, value: float) -> None:
        """Adds a value to each layer of a range, both ends included."""
        self._steps[low - 1] = self._steps.get(low - 1, 0.0) + value
        self._steps[high] = self._steps.get(high, 0.0) - value

    def of(self, tops: Sequence[int]) -> list[float]:
        steps = self._steps
        return [max(0.0, total) for total in accumulate(steps.get(below, 0.0) for below in (0, *tops[:-1]))]


def _cold_starts(wanted: Sequence[int], scaling: Scaling, billed: _Sums, starts: _Sums) -> list[ColdStart]:
    """Adds up the runs of each layer over one period; the curve begins in an hour with the fewest replicas.

    Replicas start from the lowest layer up and stop from the highest down, so both are stacks: each hour touches only the
    layers that change. The period runs twice, since the first pass does not know what was running before it.
    """
    hours, idle_hours = len(wanted), scaling.idle_s / SECONDS_AN_HOUR
    always = running = wanted[0]
    active: list[tuple[int, int]] = []  # (highest layer, hour of the start), from the lowest up
    idle: list[tuple[int, int, int, int]] = []  # (lowest, highest, hour of the start, of the stop); the lowest is last
    found: list[ColdStart] = []
    billed_of: dict[int, float] = {}
    for time in range(1, 2 * hours):
        now = wanted[time % hours]
        if now == running:
            continue
        while active and active[-1][0] > now:
            high, start = active.pop()
            below = active[-1][0] if active else always
            idle.append((max(below, now) + 1, high, start, time))
            if below < now:
                active.append((now, start))
        at, warm = running, running
        while at < now:
            low, high, start, stop = idle.pop() if idle else (at + 1, now, -1, -1)
            if high > now:
                idle.append((now + 1, high, start, stop))
                high = now
            if stop >= 0 and time - stop <= idle_hours:
                active.append((high, start))
                warm = high
            else:
                if stop >= 0 and time >= hours:
                    busy = stop - start
                    if busy not in billed_of:
                        billed_of[busy] = scaling.billed_hours(busy)
                    billed.add(low, high, billed_of[busy])
                    starts.add(low, high, 1)
                if active and active[-1][1] == time:
                    active.pop()
                active.append((high, time))
            at = high
        if warm < now and now > running and time >= hours:
            found.append(ColdStart(time % hours, warm, now))
        running = now
    return found
