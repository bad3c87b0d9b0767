"""Costs by day as a chart: on the terminal, or as a picture through matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llama_client.costs.money import added, shown
from llama_client.figures import COLOURS, GRID_COLOUR, REST_COLOUR, drawing, form_of, form_settings, moved_into
from llama_client.types.report import CostGroup, DayCosts

if TYPE_CHECKING:
    from datetime import date

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.text import Text

    from llama_client.types.report import DayCosts


Unit = Literal["day", "week", "month", "year"]

# So many colours can still be told apart.
MAX_LAYERS = 8
_UNITS: tuple[Unit, ...] = ("day", "week", "month", "year")
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Layer:
    """One group over the whole time."""

    name: str
    usd: Decimal
    calls: int
    unpriced_calls: int
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """One day, or what days are put together to."""

    first_day: date
    usd: tuple[Decimal, ...]
    unpriced_calls: int

    @property
    def total_usd(self) -> Decimal:
        """What is known of its cost."""
        return added(_ZERO, *self.usd)


@dataclass(frozen=True, slots=True)
class Stack:
    """A chart, whatever it is drawn with."""

    unit: Unit
    layers: tuple[Layer, ...]
    bars: tuple[Bar, ...]

    @property
    def unpriced_calls(self) -> int:
        """Of all bars."""
        return sum(bar.unpriced_calls for bar in self.bars)


def stack(days: Sequence[DayCosts], max_bars: int) -> Stack:
    """Puts days and groups together until they fit into a chart.

    Example:
        chart = stack(client.costs.timeline(since="30d"), max_bars=31)
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


# More lines than a month's would not be seen at once.
MAX_BARS = 31
# Longer bars say nothing more.
_MAX_WIDTH, _MIN_BAR_WIDTH = 120, 8
_FILLS, _ASCII_FILLS = "█▓▒░#=+%", "#=+o%*x@"
_REST_FILL = "."
# Names, as a terminal's own theme makes them readable on its background.
_STYLES = ("blue", "yellow", "magenta", "cyan", "red", "green", "bright_blue", "bright_magenta")
_HEADINGS: dict[Unit, str] = {
    "day": "US dollars a day",
    "week": "US dollars a week, each with its Monday",
    "month": "US dollars a month",
    "year": "US dollars a year",
}
_LABELS: dict[Unit, str] = {"day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
assert len(_FILLS) == len(_ASCII_FILLS) == len(_STYLES) == MAX_LAYERS


def terminal_chart(days: Sequence[DayCosts], width: int, *, ascii_only: bool = False) -> list[Text]:
    """Costs by day for a terminal: a bar for each day, its amount, and the key to the bars.

    More than 31 days are put together to weeks, months or years, and more than eight groups to eight.

    Example:
        from rich.console import Console

        console = Console()
        for line in terminal_chart(client.costs.timeline(since="7d"), console.width):
            console.print(line)
    """
    from rich.text import Text

    chart = stack(days, MAX_BARS)
    fills = _fills(chart.layers, ascii_only=ascii_only)
    return [Text(_HEADINGS[chart.unit], "bold"), *_bars(chart, fills, width), Text(), *_key(chart.layers, fills)]


def money_column(amounts: Sequence[Decimal]) -> list[str]:
    """Amounts for a column: the points below each other.

    Example:
        >>> money_column([Decimal("12"), Decimal("0.0035")])
        ['$12.00  ', ' $0.0035']
    """
    texts = [shown(usd) for usd in amounts]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    texts = [text + " " * (decimals - len(text.partition(".")[2])) for text in texts]
    width = max((len(text) for text in texts), default=0)
    return [text.rjust(width) for text in texts]


def _fills(layers: Sequence[Layer], *, ascii_only: bool) -> list[Text]:
    from rich.text import Text

    signs = _ASCII_FILLS if ascii_only else _FILLS
    return [
        Text(_REST_FILL) if layer.is_rest else Text(sign, style)
        for layer, sign, style in zip(layers, signs, _STYLES, strict=False)
    ]


def _bars(chart: Stack, fills: Sequence[Text], width: int) -> list[Text]:
    from rich.text import Text

    amounts = money_column([bar.total_usd for bar in chart.bars])
    notes = [f"  {bar.unpriced_calls:,} unpriced" if bar.unpriced_calls else "" for bar in chart.bars]
    labels = [bar.first_day.strftime(_LABELS[chart.unit]) for bar in chart.bars]
    beside = max(
        (len(label + amount + note) for label, amount, note in zip(labels, amounts, notes, strict=True)), default=0
    )
    room = max(min(width, _MAX_WIDTH) - beside - 4, _MIN_BAR_WIDTH)
    longest_usd = max((bar.total_usd for bar in chart.bars), default=Decimal(0))
    lines = []
    for label, bar, amount, note in zip(labels, chart.bars, amounts, notes, strict=True):
        line = Text(f"{label}  ")
        lengths = _lengths(bar, longest_usd, room)
        for fill, length in zip(fills, lengths, strict=True):
            line.append(fill.plain * length, fill.style)
        line.append(f"{' ' * (room - sum(lengths))}  {amount}")
        line.append(note, "bold")
        lines.append(line)
    return lines


def _lengths(bar: Bar, longest_usd: Decimal, room: int) -> list[int]:
    """How many characters each layer has: together as many as the bar, whatever was rounded on the way."""
    lengths: list[int] = []
    usd = Decimal(0)
    for part in bar.usd:
        usd += part
        end = round(usd / longest_usd * room) if longest_usd else 0
        lengths.append(end - sum(lengths))
    if usd and not any(lengths):
        # What cost anything is seen.
        lengths[bar.usd.index(max(bar.usd))] = 1
    return lengths


def _key(layers: Sequence[Layer], fills: Sequence[Text]) -> list[Text]:
    from rich.text import Text

    amounts = money_column([layer.usd for layer in layers])
    lines = []
    for layer, fill, amount in zip(layers, fills, amounts, strict=True):
        known = "-".rjust(len(amount)) if is_unpriced(layer) else amount
        note = f", {layer.unpriced_calls:,} unpriced" if layer.unpriced_calls else ""
        lines.append(Text.assemble((fill.plain * 2, fill.style), f"  {known}  {layer.name}", (note, "bold")))
    return lines


# A year and more of days; thinner bars would be less than a few pixels.
MAX_FIGURE_BARS = 500
_UNPRICED_LOOK: dict[str, Any] = {"facecolor": "white", "edgecolor": "#8c8c8c", "hatch": "////", "linewidth": 0.6}
_UNPRICED_HEADING = "unpriced: calls with a part whose cost nobody knows; the bars above hold nothing of it"
_WIDTH_IN, _BARS_HEIGHT_IN, _PANEL_HEIGHT_IN, _ROW_HEIGHT_IN = 10.0, 4.7, 1.1, 0.24
_PAD_IN = 0.1
_MAX_TITLE, _MAX_NAME, _MAX_NAME_IN_COLUMNS = 80, 90, 45
_MAX_TICKS = 12
# Of more bars, none has room for gaps; fewer would be as wide as the picture.
_MAX_BARS_WITH_GAPS, _MIN_PLACES = 62, 7
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def save(days: Sequence[DayCosts], path: Path, *, title: str) -> None:
    """Draws what was spent: a bar for each day, stacked by group; unpriced calls apart, below.

    More than 500 days are put together to weeks, months or years, and more than eight groups to eight. The file is
    there as a whole or not at all.

    Example:
        save(client.costs.timeline(since="30d"), Path("costs.png"), title="November")
    """
    form = form_of(path)
    with drawing("a picture of costs"), moved_into(path) as file:
        _drawn(stack(days, MAX_FIGURE_BARS), title).savefig(file, **form_settings(form))


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
    return figure


def _draw_bars(axes: Axes, chart: Stack) -> list[Artist]:
    """Draws them; returns what the legend shows of each layer."""
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
    _quieten(axes)
    return handles


def _draw_unpriced(axes: Axes, chart: Stack) -> None:
    from matplotlib.ticker import MaxNLocator

    calls = [bar.unpriced_calls for bar in chart.bars]
    axes.bar(range(len(calls)), calls, width=0.82, **_UNPRICED_LOOK)
    axes.set_ylim(0, max(calls) * 1.15)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.set_ylabel("calls")
    axes.set_title(_UNPRICED_HEADING, loc="left", fontsize=9)
    _quieten(axes)


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
    # Two lines everywhere, so that all stand at the same height.
    return f"{text}\n{first_day.year if with_year else ' '}"


def _quieten(axes: Axes) -> None:
    """Leaves of the frame what helps to read."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.6)
    axes.set_axisbelow(True)


def _label(layer: Layer) -> str:
    parts = [] if is_unpriced(layer) else [shown(layer.usd)]
    if layer.unpriced_calls:
        parts.append(f"{layer.unpriced_calls:,} unpriced")
    return f"{_cut(layer.name, _MAX_NAME)}  {', '.join(parts)}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
