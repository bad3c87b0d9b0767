"""The style of the panels: colours by role, text above and below, axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llama_client.crossover.format import short_usd, tokens
from llama_client.figures import BLUE, GREEN, GRID_COLOUR, ORANGE, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis


# A page replaces each of these in dark mode, so no two roles that differ there share a colour.
INK, MUTED, PAPER, GRID = "#1b1b1b", "#595959", "#ffffff", GRID_COLOUR
OWN, WINS, DEARER, MIX = BLUE, GREEN, VERMILION, "#1c1c1c"
# The cheapest APIs, each with its colour, dashes and width; the others are one grey.
API_LOOKS: tuple[tuple[str, object, float], ...] = (
    (ORANGE, "-", 2.0),
    ("#b34a00", (0, (6, 2)), 1.5),
    (PURPLE, (0, (1.5, 1.5)), 1.8),
)
OTHER_APIS = "#8c8c8c"
# From self-hosting far below an API to far above it.
LEVEL_COLOURS = ("#0073b3", SKY, "#b9def4", "#fae0a8", ORANGE, VERMILION)
WON, LOST = "#00734f", "#b34700"  # of words: dark enough to be read
# An axis of dollars spans at least this many orders of magnitude.
_LEAST_DECADES = 1.2


@dataclass(frozen=True, slots=True)
class PanelStyle:
    name_length: int  # characters of a name in the legend
    note_length: int  # characters of a line above the panel
    marks: int  # on an axis, at most
    has_heading: bool
    legend_beside: bool = False


# One panel as wide as a phone, half a sheet, and all of it.
PHONE = PanelStyle(name_length=32, note_length=44, marks=5, has_heading=False)
HALF_SHEET = PanelStyle(name_length=48, note_length=64, marks=7, has_heading=True)
SHEET = PanelStyle(name_length=40, note_length=92, marks=9, has_heading=True, legend_beside=True)


def label(
    axes: Axes,
    look: PanelStyle,
    handles: Sequence[Artist],
    *,
    heading: str,
    unit: str,
    note: str = "",
    colour: str = INK,
    columns: int = 1,
) -> None:
    """Writes the unit of the vertical axis, a note and the heading above a panel, and its legend."""
    lines = [(unit, MUTED, 8.5, "normal")]
    lines += [(text, colour, 9, "bold") for text in reversed(textwrap.wrap(note, look.note_length))]
    if look.has_heading:
        lines.append((heading, INK, 11, "bold"))
    offset = 5.0
    for text, ink, size, weight in lines:
        axes.annotate(
            text,
            (0, 1),
            xytext=(0, offset),
            xycoords="axes fraction",
            textcoords="offset points",
            annotation_clip=False,
            color=ink,
            fontsize=size,
            fontweight=weight,
        )
        offset += size * 1.4
    _write_legend(axes, look, handles, columns)


def _write_legend(axes: Axes, look: PanelStyle, handles: Sequence[Artist], columns: int) -> None:
    """Puts the legend beside a wide panel, and below another one."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    if not handles or figure is None:
        return
    at, x_pt, y_pt = ((1, 1), 10, 4) if look.legend_beside else ((0, 0), -4, -36)
    legend = axes.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=at,
        bbox_transform=axes.transAxes + ScaledTranslation(x_pt / 72, y_pt / 72, figure.dpi_scale_trans),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        ncols=columns,
        borderpad=0,
        borderaxespad=0,
        handlelength=2.2,
        labelspacing=0.35,
        columnspacing=1.2,
    )
    legend.set_gid("legend")


def dot(colour: str, marker: str = "o") -> dict[str, Any]:
    shape = {"marker": marker, "markersize": 7.5, "markeredgecolor": PAPER}
    return {"color": colour, "linestyle": "none", "zorder": 6, **shape}


def patch(colour: str, label: str, alpha: float | None = None) -> Artist:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, color=colour, alpha=alpha, linewidth=0, label=label)


def mark_volume(axes: Axes, volume: float, **more: Any) -> Artist:
    return axes.axvline(volume, color=INK, linewidth=1.1, linestyle=(0, (1, 1.5)), zorder=2, **more)


def mark_usd(axis: Axis, nbins: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=nbins))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_usd(value)))


def quieten(axes: Axes, *, grid: Literal["both", "x", "y"] = "both") -> None:
    """Reduces the frame to the grid and the horizontal axis."""
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(which="both", length=0, colors=INK, labelsize=8.5)
    axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def scale_tokens(axes: Axes, look: PanelStyle, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _mark(axes.xaxis, _marks(low, high, look.marks), tokens)
    axes.set_xlabel("tokens a day", fontsize=8.5, color=MUTED)


def scale_usd(axes: Axes, look: PanelStyle, low: float, high: float) -> None:
    missing = _LEAST_DECADES - math.log10(high / low)
    if missing > 0:
        low, high = low / 10 ** (missing / 2), high * 10 ** (missing / 2)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    _mark(axes.yaxis, _marks(low, high, look.marks), short_usd)


def _mark(axis: Axis, marks: list[float], text: Callable[[float], str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(marks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def _marks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within bounds: as many as there is room for, by powers of ten or within them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = [((1, 2, 5), 1), ((1, 3), 1), *(((1,), step) for step in range(1, len(powers) + 1))]
    for digits, step in choices:
        found = [digit * 10.0**power for power in powers if power % step == 0 for digit in digits]
        found = [mark for mark in found if low <= mark <= high]
        if len(found) <= most:
            break
    return found
