"""Costs by day as a picture, through matplotlib: without its windows, and without any state of its own."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_client.costs.money import shown
from llama_client.costs.stacks import Layer, Stack, Unit, is_unpriced, readable, stack
from llama_client.pictures import COLOURS, GRID_COLOUR, REST_COLOUR, drawing, form_of, form_settings, moved_into

if TYPE_CHECKING:
    from datetime import date

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from llama_client.types.report import DayCosts

# A year and more of days; thinner bars would be less than a few pixels.
MAX_BARS = 500
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

    Args:
        days: The days that had calls; those between are shown too.
        path: Where to; ends in `.png` or `.svg`.
        title: What stands above it.

    Raises:
        ProviderNotInstalledError: matplotlib is missing.
        ValueError: The file has another ending.
        OSError: It cannot be written.

    Example:
        save(client.costs.by_day(since="30d"), Path("costs.png"), title="November")
    """
    form = form_of(path)
    with drawing("a picture of costs"), moved_into(path) as file:
        _drawn(stack(days, MAX_BARS), title).savefig(file, **form_settings(form))


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
