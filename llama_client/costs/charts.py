"""Costs by day as a chart: on the terminal, or as a picture through matplotlib."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from llama_client import figures
from llama_client.config.files import atomic_file
from llama_client.costs.money import added, shown
from llama_client.figures import COLOURS, GRID_COLOUR, REST_COLOUR, drawing, form_of
from llama_client.types.report import CostGroup, DayCosts

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.text import Text

Unit = Literal["day", "week", "month", "year"]

# As many colours as can still be told apart.
MAX_LAYERS = 8
_ZERO = Decimal(0)


class _UnitForm(NamedTuple):
    # Longer than the unit and shorter than two of it: the next one's start is found from anywhere in it.
    step: timedelta
    heading: str
    label: str


_UNITS: dict[Unit, _UnitForm] = {
    "day": _UnitForm(timedelta(days=1), "US dollars a day", "%Y-%m-%d"),
    "week": _UnitForm(timedelta(days=7), "US dollars a week, each with its Monday", "%Y-%m-%d"),
    "month": _UnitForm(timedelta(days=31), "US dollars a month", "%Y-%m"),
    "year": _UnitForm(timedelta(days=366), "US dollars a year", "%Y"),
}


@dataclass(frozen=True, slots=True)
class Layer:
    name: str
    usd: Decimal
    calls: int
    unpriced_calls: int
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    first_day: date
    # By layer.
    usd: tuple[Decimal, ...]
    unpriced_calls: int

    @property
    def total_usd(self) -> Decimal:
        return added(_ZERO, *self.usd)


@dataclass(frozen=True, slots=True)
class Stack:
    unit: Unit
    layers: tuple[Layer, ...]
    bars: tuple[Bar, ...]

    @property
    def unpriced_calls(self) -> int:
        return sum(bar.unpriced_calls for bar in self.bars)


def stack(days: Sequence[DayCosts], max_bars: int) -> Stack:
    """Merges days into larger units, and the cheapest groups into one, until they fit into a chart."""
    groups: dict[str, list[CostGroup]] = defaultdict(list)
    for group in (group for day in days for group in day.groups):
        groups[group.key].append(group)
    by_key = {key: _layer(readable(key), of_key) for key, of_key in groups.items()}
    ranked = sorted(by_key.items(), key=lambda item: (-item[1].usd, -item[1].calls, item[1].name))
    own = MAX_LAYERS if len(ranked) <= MAX_LAYERS else MAX_LAYERS - 1
    layers = [layer for _, layer in ranked[:own]]
    if rest := [layer for _, layer in ranked[own:]]:
        layers.append(_layer(f"{len(rest)} others", rest, is_rest=True))
    index = {key: min(position, own) for position, (key, _) in enumerate(ranked)}
    unit, starts = _starts(days, max_bars)
    usd = {start: [_ZERO] * len(layers) for start in starts}
    unpriced = dict.fromkeys(starts, 0)
    for start, group in ((_start(day.day, unit), group) for day in days for group in day.groups):
        layer = index[group.key]
        usd[start][layer] = added(usd[start][layer], group.usd)
        unpriced[start] += group.unpriced_calls
    return Stack(unit, tuple(layers), tuple(Bar(start, tuple(usd[start]), unpriced[start]) for start in starts))


def readable(key: str) -> str:
    """A group's key for people: without control characters, and never empty."""
    return "".join(sign if sign.isprintable() else " " for sign in key).strip() or "(none)"


def is_unpriced(group: CostGroup | Layer) -> bool:
    """Whether none of its cost is known: an amount of 0 would be wrong."""
    return not group.usd and 0 < group.unpriced_calls >= group.calls


def _layer(name: str, groups: Sequence[CostGroup | Layer], *, is_rest: bool = False) -> Layer:
    usd = added(_ZERO, *(group.usd for group in groups))
    return Layer(
        name, usd, sum(group.calls for group in groups), sum(group.unpriced_calls for group in groups), is_rest
    )


def _starts(days: Sequence[DayCosts], max_bars: int) -> tuple[Unit, list[date]]:
    """The smallest unit of which at most `max_bars` are needed (else years), and the first day of each."""
    if not days:
        return "day", []
    first, last = min(day.day for day in days), max(day.day for day in days)
    for unit, form in _UNITS.items():
        starts = [_start(first, unit)]
        while (following := _start(starts[-1] + form.step, unit)) <= last:
            starts.append(following)
        if len(starts) <= max_bars:
            break
    return unit, starts


def _start(day: date, unit: Unit) -> date:
    """The first day of the unit that contains a day; weeks begin on Mondays."""
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day if unit == "day" else day.replace(day=1, month=1 if unit == "year" else day.month)


# More lines than a month's would not be seen at once.
MAX_BARS = 31
# Longer bars say nothing more.
_MAX_WIDTH, _MIN_BAR_WIDTH = 120, 8
_FILLS, _ASCII_FILLS = "█▓▒░#=+%", "#=+o%*x@"
_REST_FILL = "."
# Names, which a terminal's theme makes readable on its background.
_STYLES = ("blue", "yellow", "magenta", "cyan", "red", "green", "bright_blue", "bright_magenta")
assert len(_FILLS) == len(_ASCII_FILLS) == len(_STYLES) == MAX_LAYERS


def terminal_chart(days: Sequence[DayCosts], width: int, *, ascii_only: bool = False) -> list[Text]:
    from rich.text import Text

    chart = stack(days, MAX_BARS)
    signs = zip(chart.layers, _ASCII_FILLS if ascii_only else _FILLS, _STYLES, strict=False)
    fills = [Text(_REST_FILL) if layer.is_rest else Text(sign, style) for layer, sign, style in signs]
    return [Text(_UNITS[chart.unit].heading, "bold"), *_bars(chart, fills, width), Text(), *_key(chart.layers, fills)]


def money_column(amounts: Sequence[Decimal]) -> list[str]:
    """Amounts for a column, aligned at the point, all of the same width."""
    texts = [shown(usd) for usd in amounts]
    decimals = [len(text.partition(".")[2]) for text in texts]
    texts = [text + " " * (max(decimals) - own) for text, own in zip(texts, decimals, strict=True)]
    width = max(map(len, texts), default=0)
    return [text.rjust(width) for text in texts]


def _bars(chart: Stack, fills: Sequence[Text], width: int) -> list[Text]:
    from rich.text import Text

    amounts = money_column([bar.total_usd for bar in chart.bars])
    notes = [_unpriced_note(bar, "  ") for bar in chart.bars]
    labels = [bar.first_day.strftime(_UNITS[chart.unit].label) for bar in chart.bars]
    beside = max(map(len, map("".join, zip(labels, amounts, notes, strict=True))), default=0)
    room = max(min(width, _MAX_WIDTH) - beside - 4, _MIN_BAR_WIDTH)
    longest_usd = max((bar.total_usd for bar in chart.bars), default=_ZERO)
    lines = []
    for label, bar, amount, note in zip(labels, chart.bars, amounts, notes, strict=True):
        lengths = _lengths(bar, longest_usd, room)
        parts = [(fill.plain * length, fill.style) for fill, length in zip(fills, lengths, strict=True)]
        blank = " " * (room - sum(lengths))
        lines.append(Text.assemble(f"{label}  ", *parts, f"{blank}  {amount}", (note, "bold")))
    return lines


def _unpriced_note(of: Bar | Layer, separator: str) -> str:
    return f"{separator}{of.unpriced_calls:,} unpriced" if of.unpriced_calls else ""


def _lengths(bar: Bar, longest_usd: Decimal, room: int) -> list[int]:
    """How many characters each layer has: together those of the bar, whatever is rounded on the way."""
    lengths: list[int] = []
    usd = Decimal(0)
    for part in bar.usd:
        usd += part
        end = round(usd / longest_usd * room) if longest_usd else 0
        lengths.append(end - sum(lengths))
    if usd and not any(lengths):
        # Whatever cost anything is visible.
        lengths[bar.usd.index(max(bar.usd))] = 1
    return lengths


def _key(layers: Sequence[Layer], fills: Sequence[Text]) -> list[Text]:
    from rich.text import Text

    lines = []
    for layer, fill, amount in zip(layers, fills, money_column([layer.usd for layer in layers]), strict=True):
        known = "-".rjust(len(amount)) if is_unpriced(layer) else amount
        note = (_unpriced_note(layer, ", "), "bold")
        lines.append(Text.assemble((fill.plain * 2, fill.style), f"  {known}  {layer.name}", note))
    return lines


# A year and more of days; thinner bars would be less than a few pixels.
MAX_FIGURE_BARS = 500
_UNPRICED_LOOK: dict[str, Any] = {"facecolor": "white", "edgecolor": "#8c8c8c", "hatch": "////", "linewidth": 0.6}
_UNPRICED_HEADING = "unpriced: calls with a part of unknown cost, which the bars above do not include"
_WIDTH_IN, _BARS_HEIGHT_IN, _PANEL_HEIGHT_IN, _ROW_HEIGHT_IN = 10.0, 4.7, 1.1, 0.24
_PAD_IN = 0.1
_MAX_TITLE, _MAX_NAME, _MAX_NAME_IN_COLUMNS = 80, 90, 45
_MAX_TICKS = 12
# More bars have no room for gaps; fewer would be as wide as the picture.
_MAX_BARS_WITH_GAPS, _MIN_PLACES = 62, 7
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def save(days: Sequence[DayCosts], path: Path, *, title: str) -> None:
    form = form_of(path)
    with drawing("a picture of costs"), atomic_file(path) as file:
        figures.save(_drawn(stack(days, MAX_FIGURE_BARS), title), file, form)


def _drawn(chart: Stack, title: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    labels = [_label(layer) for layer in chart.layers]
    columns = 2 if len(labels) > 2 and max(map(len, labels)) <= _MAX_NAME_IN_COLUMNS else 1
    has_panel = chart.unpriced_calls > 0
    height_in = _BARS_HEIGHT_IN + _PANEL_HEIGHT_IN * has_panel + _ROW_HEIGHT_IN * -(-len(labels) // columns)
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout=ConstrainedLayoutEngine(w_pad=_PAD_IN, h_pad=_PAD_IN))
    if has_panel:
        bars, panel = figure.subplots(2, 1, sharex=True, height_ratios=(_BARS_HEIGHT_IN, _PANEL_HEIGHT_IN))
        _draw_unpriced(panel, chart)
    else:
        bars = figure.subplots()
    handles = _draw_bars(bars, chart)
    bars.set_title(_cut(readable(title), _MAX_TITLE), loc="left", fontsize=12, fontweight="bold", pad=10)
    if handles:
        figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False)
    _draw_axis_of_time(bars, chart)
    for axes in figure.axes:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


def _draw_bars(axes: Axes, chart: Stack) -> list[Artist]:
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import FuncFormatter

    positions = range(len(chart.bars))
    bottoms = [0.0] * len(chart.bars)
    width, edge = (0.82, 0.6) if len(chart.bars) <= _MAX_BARS_WITH_GAPS else (1.0, 0.0)
    handles: list[Artist] = []
    for number, (layer, colour) in enumerate(zip(chart.layers, COLOURS, strict=False)):
        colour = REST_COLOUR if layer.is_rest else colour
        heights = [float(bar.usd[number]) for bar in chart.bars]
        axes.bar(positions, heights, bottom=bottoms, width=width, color=colour, edgecolor="white", linewidth=edge)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
        look: dict[str, Any] = _UNPRICED_LOOK if is_unpriced(layer) else {"color": colour}
        handles.append(Rectangle((0, 0), 1, 1, **look))
    axes.set_ylim(0, max(bottoms, default=0) * 1.05 or 1)
    axes.set_ylabel(f"US dollars a {chart.unit}")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda usd, _: shown(Decimal(f"{usd:.12f}"))))
    return handles


def _draw_unpriced(axes: Axes, chart: Stack) -> None:
    from matplotlib.ticker import MaxNLocator

    calls = [bar.unpriced_calls for bar in chart.bars]
    axes.bar(range(len(calls)), calls, width=0.82, **_UNPRICED_LOOK)
    axes.set_ylim(0, max(calls) * 1.15)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.set_ylabel("calls")
    axes.set_title(_UNPRICED_HEADING, loc="left", fontsize=9)


def _draw_axis_of_time(axes: Axes, chart: Stack) -> None:
    step = max(-(-len(chart.bars) // _MAX_TICKS), 1)
    ticks = range(0, len(chart.bars), step)
    labels, year = [], None
    for tick in ticks:
        first_day = chart.bars[tick].first_day
        labels.append(_day(first_day, chart.unit, with_year=first_day.year != year))
        year = first_day.year
    axes.set_xticks(list(ticks), labels)
    beside = max(_MIN_PLACES - len(chart.bars), 0) / 2 + 0.6
    axes.set_xlim(-beside, len(chart.bars) - 1 + beside)


def _day(first_day: date, unit: Unit, *, with_year: bool) -> str:
    if unit == "year":
        return str(first_day.year)
    month = _MONTHS[first_day.month - 1]
    text = month if unit == "month" else f"{first_day.day} {month}"
    # Two lines everywhere, so that all labels have the same height.
    return f"{text}\n{first_day.year if with_year else ' '}"


def _label(layer: Layer) -> str:
    known = "" if is_unpriced(layer) else shown(layer.usd)
    return f"{_cut(layer.name, _MAX_NAME)}  {known}{_unpriced_note(layer, ', ' if known else '')}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
