"""What a chart of costs is made of: a bar for each day, stacked by group; the dearest have a layer of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from llama_client.costs.money import added
from llama_client.types.report import CostGroup, DayCosts

Unit = Literal["day", "week", "month", "year"]

# So many colours can still be told apart.
MAX_LAYERS = 8
_UNITS: tuple[Unit, ...] = ("day", "week", "month", "year")
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Layer:
    """One group over the whole time.

    Attributes:
        name: For people, without anything that steers a terminal or breaks a file.
        usd: What it cost, as far as known.
        calls: How many calls it had.
        unpriced_calls: Of these, how many have a part whose cost nobody knows.
        is_rest: It is the small ones together.
    """

    name: str
    usd: Decimal
    calls: int
    unpriced_calls: int
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """One day, or what days are put together to.

    Attributes:
        first_day: Its first day.
        usd: What each layer cost in it.
        unpriced_calls: The unpriced calls of all groups; a call that had two of them counts in both.
    """

    first_day: date
    usd: tuple[Decimal, ...]
    unpriced_calls: int

    @property
    def total_usd(self) -> Decimal:
        """What is known of its cost."""
        return added(_ZERO, *self.usd)


@dataclass(frozen=True, slots=True)
class Stack:
    """A chart, whatever it is drawn with.

    Attributes:
        unit: What a bar is.
        layers: The dearest first.
        bars: In order, with those that had no call.
    """

    unit: Unit
    layers: tuple[Layer, ...]
    bars: tuple[Bar, ...]

    @property
    def unpriced_calls(self) -> int:
        """Of all bars."""
        return sum(bar.unpriced_calls for bar in self.bars)


def stack(days: Sequence[DayCosts], max_bars: int) -> Stack:
    """Puts days and groups together until they fit into a chart.

    Args:
        days: The days that had calls.
        max_bars: Of more days, weeks, months or years are made.

    Example:
        chart = stack(client.costs.by_day(since="30d"), max_bars=31)
        print(chart.unit, [layer.name for layer in chart.layers])
    """
    sums: dict[str, list[CostGroup]] = {}
    for day in days:
        for group in day.groups:
            sums.setdefault(group.key, []).append(group)
    ranked = sorted((_layer(key, groups) for key, groups in sums.items()), key=lambda each: _rank(each[1]))
    shown = MAX_LAYERS if len(ranked) <= MAX_LAYERS else MAX_LAYERS - 1
    layers = [layer for _, layer in ranked[:shown]]
    if rest := [layer for _, layer in ranked[shown:]]:
        layers.append(_together(rest))
    index = {key: min(position, shown) for position, (key, _) in enumerate(ranked)}
    unit, starts = _starts(days, max_bars)
    usd = {start: [_ZERO] * len(layers) for start in starts}
    unpriced = dict.fromkeys(starts, 0)
    for day in days:
        start = _start(day.day, unit)
        for group in day.groups:
            layer = index[group.key]
            usd[start][layer] = added(usd[start][layer], group.usd)
            unpriced[start] += group.unpriced_calls
    return Stack(unit, tuple(layers), tuple(Bar(start, tuple(usd[start]), unpriced[start]) for start in starts))


def readable(key: str) -> str:
    """A group's key for people: without control characters, and never empty."""
    return "".join(sign if sign.isprintable() else " " for sign in key).strip() or "(none)"


def is_unpriced(group: CostGroup | Layer) -> bool:
    """Nothing is known of what it cost: an amount of 0 would be a lie."""
    return not group.usd and 0 < group.unpriced_calls >= group.calls


def _layer(key: str, groups: Sequence[CostGroup]) -> tuple[str, Layer]:
    usd = added(_ZERO, *(group.usd for group in groups))
    calls, unpriced = sum(group.calls for group in groups), sum(group.unpriced_calls for group in groups)
    return key, Layer(readable(key), usd, calls, unpriced)


def _rank(layer: Layer) -> tuple[Decimal, int, str]:
    return -layer.usd, -layer.calls, layer.name


def _together(rest: Sequence[Layer]) -> Layer:
    usd = added(_ZERO, *(layer.usd for layer in rest))
    calls, unpriced = sum(layer.calls for layer in rest), sum(layer.unpriced_calls for layer in rest)
    return Layer(f"{len(rest)} others", usd, calls, unpriced, is_rest=True)


def _starts(days: Sequence[DayCosts], max_bars: int) -> tuple[Unit, list[date]]:
    """The smallest unit of which there are not too many, and its first days from the first call to the last."""
    if not days:
        return "day", []
    first, last = min(day.day for day in days), max(day.day for day in days)
    for unit in _UNITS:
        starts = list(_each(_start(first, unit), last, unit))
        if len(starts) <= max_bars:
            break
    return unit, starts


def _each(start: date, last: date, unit: Unit) -> Iterator[date]:
    # Longer than the unit and shorter than two of it, so that the next one's start is found from anywhere in it.
    step = timedelta(days={"day": 1, "week": 7, "month": 31, "year": 366}[unit])
    while start <= last:
        yield start
        start = _start(start + step, unit)


def _start(day: date, unit: Unit) -> date:
    """The first day of the unit in which a day lies; weeks begin on Mondays."""
    match unit:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)
