"""What the pictures of a crossover are drawn from: its costs over volume as points, and its verdict in a line.

Numbers and words alone, without matplotlib.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.crossover.amounts import share, tokens
from llama_client.crossover.crossings import Interval, Line, Staircase
from llama_client.crossover.economics import MTOK, line, staircase
from llama_client.crossover.pictures.numbers import times, usd

if TYPE_CHECKING:
    from llama_client.crossover.evaluation import Crossover

# Of steps that are drawn one by one; further ones are so flat that they look like a slope.
_STEPS = 120
# What a crossover refuses to reckon with.
_MOST_TOKENS = 1e18
# Of an axis: narrower than that, intervals and the gaps between them are seen as a shade.
_CELLS = 300
# A mix that saves less than this is the same line.
_WORTH_A_LINE = 0.98


@dataclass(frozen=True, slots=True)
class Api:
    """An API as a line.

    Attributes:
        name: Who sells it.
        line: Its costs of a month.
        usd_per_mtok: Its price of a million of the traffic's tokens, monthly fees apart.
    """

    name: str
    line: Line
    usd_per_mtok: float

    @property
    def price(self) -> str:
        """What it charges, in words."""
        fees = f"{usd(self.line.fixed_usd)} a month" if self.line.fixed_usd else ""
        by_token = f"{usd(self.usd_per_mtok)}/M" if self.usd_per_mtok else ""
        return " and ".join(part for part in (by_token, fees) if part) or "free"


@dataclass(frozen=True, slots=True)
class Curves:
    """Costs over volume.

    Attributes:
        crossover: Whose.
        stairs: The machines' costs of a month.
        apis: Cheapest first, at the volume of reference.
        volumes: Tokens a day, evenly over orders of magnitude.
        steps: The volumes at which the staircase is drawn: the ends of each step.
    """

    crossover: Crossover
    stairs: Staircase
    apis: tuple[Api, ...]
    volumes: tuple[float, ...]
    steps: tuple[float, ...]

    @property
    def low(self) -> float:
        """The least of the volumes."""
        return self.volumes[0]

    @property
    def high(self) -> float:
        """The greatest."""
        return self.volumes[-1]

    @property
    def days_per_month(self) -> float:
        """30.42 in a month of 730 hours."""
        return self.crossover.plan.days_per_month

    def api_usd(self, volume: float) -> float:
        """What the cheapest API costs a month; infinite where nobody sells the model."""
        return min((api.line.usd(volume) for api in self.apis), default=math.inf)

    def per_mtok(self, usd: float, volume: float) -> float:
        """A month's cost as one of a million tokens."""
        return usd / (volume * self.days_per_month) * MTOK

    def mix_usd(self) -> list[float]:
        """What the cheapest mix costs at each volume; NaN before and after those at which it is worth a line."""
        mixes = [self.crossover.hybrid(volume) if volume < _MOST_TOKENS else None for volume in self.volumes]
        worth = [
            place
            for place, (mix, volume) in enumerate(zip(mixes, self.volumes, strict=True))
            if mix is not None
            and mix.replicas > 0
            and mix.usd_per_month < _WORTH_A_LINE * min(self.stairs.usd(volume), self.api_usd(volume))
        ]
        within = range(worth[0], worth[-1] + 1) if worth else range(0)
        return [mix.usd_per_month if mix and place in within else math.nan for place, mix in enumerate(mixes)]

    def least_ratio(self) -> float:
        """Self-hosting's cost against the cheapest API's where that is least, however large the volume."""
        ends = [*self.steps, self.stairs.edge(10**6) if self.stairs.edge(10**6) < math.inf else self.high]
        return min(_ratio(self.stairs.usd(volume), self.api_usd(volume)) for volume in ends)


def curves(crossover: Crossover) -> Curves:
    """Reckons what is drawn."""
    plan, reference = crossover.plan, crossover.reference_volume
    lines = [(api.name, line(api, plan)) for api in plan.apis]
    apis = [Api(name, each, each.usd_per_daily_token / plan.days_per_month * MTOK) for name, each in lines]
    volumes = crossover.volumes()
    stairs = staircase(plan)
    return Curves(
        crossover,
        stairs,
        tuple(sorted(apis, key=lambda api: (api.line.usd(reference), api.name))),
        volumes,
        _steps(stairs, volumes),
    )


def ratios(found: Curves, peaks: Sequence[float]) -> list[list[float]]:
    """Self-hosting's cost against the cheapest API's, for each peak to mean and volume."""
    from dataclasses import replace

    rows = []
    for peak in peaks:
        stairs = staircase(replace(found.crossover.plan, peak_to_mean=peak))
        rows.append([_ratio(stairs.usd(volume), found.api_usd(volume)) for volume in found.volumes])
    return rows


def shades(crossover: Crossover, low: float, high: float) -> list[tuple[float, float, float]]:
    """Where self-hosting is cheaper between two volumes, as `(from, to, share of it)`.

    Intervals wide enough to be seen are as they are. Of narrower ones there may be thousands: what they fill of each
    cell of the axis is its share. Where the crossover does not list all, half stands for those that it leaves out.
    """
    width = math.log(high / low) / _CELLS
    known = list(crossover.intervals)
    if crossover.crossings.is_complete or len(known) < 2:
        return _shaded(known, low, high, width)
    left_out = (known[-2][1] or high, known[-1][0])
    start, end = max(left_out[0], low), min(left_out[1], high)
    return [*_shaded(known, low, high, width), *([(start, end, 0.5)] if start < end else [])]


def verdict_line(found: Curves) -> tuple[str, bool | None]:
    """The verdict in a line, and whether it speaks for self-hosting; None: for neither."""
    crossover = found.crossover
    draws = "" if crossover.probability is None else f"in {share(crossover.probability)} of the draws"
    at = "" if crossover.volume is None else f" at {tokens(crossover.volume)} tokens a day"
    match crossover.verdict:
        case "no-api":
            return "No API sells this model: there is nothing to compare with", None
        case "never":
            least = times(found.least_ratio())
            return f"Never: self-hosting costs at least {least} times the cheapest API, at any volume", False
        case "self-host":
            return f"Self-hosting is cheaper{at}{draws and f' ({draws})'}", True
        case "api":
            return f"The API is cheaper{at}{draws and f' (self-hosting {draws})'}", False
        case _ if at and draws:
            return f"Too close to call{at}: self-hosting is cheaper {draws}", None
        case _:
            return f"It depends: self-hosting is cheaper {where(crossover)}", None


def where(crossover: Crossover) -> str:
    """On which volumes self-hosting is cheaper, in words."""
    first, permanent, intervals = crossover.first_crossing, crossover.permanent_crossing, crossover.intervals
    if first is None:
        return "nowhere"
    begins = f"from {tokens(first)}" if first else "from the first token"
    if permanent is None:
        last = intervals[-1][1]
        assert last is not None
        several = f", on {len(intervals):,} stretches" if len(intervals) > 1 else ""
        return f"{begins} to {tokens(last)} tokens a day{several}"
    if permanent == first:
        return f"{begins} tokens a day on" if first else "at any volume"
    flips = crossover.crossings.flips
    often = "too often to list" if flips is None else f"{flips:,} times"
    return f"{begins} tokens a day, for good from {tokens(permanent)}; the winner changes {often}"


def _ratio(own: float, api: float) -> float:
    if api > 0:
        return own / api
    return math.inf if own > 0 else 1.0


def _steps(stairs: Staircase, volumes: Sequence[float]) -> tuple[float, ...]:
    """The volumes and both ends of the first steps; beyond these, what fills a machine."""
    low, high = volumes[0], volumes[-1]
    needed, found = stairs.needed(low), set[float]()
    for step in range(needed, needed + _STEPS):
        edge = min(stairs.edge(step), high)
        if edge < high:
            # The least above the edge takes a further machine.
            found |= {edge, math.nextafter(edge, math.inf)}
    drawn = bisect.bisect(volumes, edge)
    rest = {stairs.edge(stairs.needed(volume)) for volume in volumes[drawn:]}
    return tuple(sorted({*found, *volumes[:drawn], *(edge for edge in rest if edge < high), high}))


def _shaded(intervals: Sequence[Interval], low: float, high: float, width: float) -> list[tuple[float, float, float]]:
    wide, filled = [], dict[int, float]()
    for start, end in intervals:
        start, end = max(start, low), high if end is None else min(end, high)
        if start >= end:
            continue
        if math.log(end / start) >= 2 * width:
            wide.append((start, end, 1.0))
            continue
        left = start
        while left < end:
            # Part by part of the cells that it lies in.
            cell = math.floor(math.log(left / low) / width + 1e-9)
            right = min(end, low * math.exp((cell + 1) * width))
            if right <= left:
                break
            filled[cell] = filled.get(cell, 0.0) + (right - left)
            left = right
    cells = []
    for cell, part in filled.items():
        start, end = low * math.exp(cell * width), low * math.exp((cell + 1) * width)
        cells.append((start, end, min(1.0, part / (end - start))))
    return sorted([*wide, *cells])
