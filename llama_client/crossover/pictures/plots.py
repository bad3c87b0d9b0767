"""A crossover as pictures, through matplotlib: all of them on one sheet, or each on its own for a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.crossover.amounts import tokens
from llama_client.crossover.pictures.costs import COST_HEADING, PRICE_HEADING, draw_costs, draw_prices
from llama_client.crossover.pictures.curves import Curves, curves
from llama_client.crossover.pictures.numbers import cut
from llama_client.crossover.pictures.page import Picture
from llama_client.crossover.pictures.purchase import CASH_HEADING, draw_cash, payback_words
from llama_client.crossover.pictures.style import HALF_SHEET, INK, PHONE, SHEET, Look
from llama_client.crossover.pictures.sureness import (
    LIKELY_HEADING,
    PEAK_HEADING,
    SWING_HEADING,
    draw_likelihood,
    draw_peaks,
    draw_swings,
    widest_swings,
)
from llama_client.crossover.pictures.svg import inline
from llama_client.pictures import drawing, form_of, form_settings, moved_into

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from llama_client.crossover.evaluation import Crossover

_WHAT = "a picture of a crossover"
_SHEET_WIDTH_IN, _TITLE_HEIGHT_IN, _ROW_HEIGHT_IN = 12.0, 0.5, 4.4
# As wide as a phone's screen in CSS pixels is, less its margins: so letters keep the size that they are drawn with.
_PHONE_WIDTH_IN, _PANEL_HEIGHT_IN, _LEGEND_ROW_IN = 4.0, 2.9, 0.165
_PAD_IN = 0.04
_MAX_TITLE = 100


@dataclass(frozen=True, slots=True)
class _Panel:
    heading: str
    caption: str
    draw: Callable[[Axes, Curves, Look], None]


def save(crossover: Crossover, path: Path, *, title: str) -> None:
    """Draws a crossover on one sheet.

    A month's cost and that of a million tokens by volume, with where self-hosting is cheaper; what each figure changes
    on its own; what a purchase brings, else how likely self-hosting is cheaper where that was drawn; and the winner by
    volume and peak. The file is there as a whole or not at all.

    Args:
        crossover: The answer.
        path: Where to; ends in `.png` or `.svg`.
        title: What stands above it.

    Raises:
        ProviderNotInstalledError: matplotlib is missing.
        ValueError: The file has another ending.
        OSError: It cannot be written.

    Example:
        save(evaluate(scenario, draws=10_000), Path("crossover.png"), title="Llama 3.3 70B")
    """
    form = form_of(path)
    with drawing(_WHAT), moved_into(path) as file:
        _sheet(curves(crossover), title).savefig(file, **form_settings(form))


def pictures(crossover: Crossover) -> list[Picture]:
    """The same pictures for a page, each on its own and as wide as a phone.

    Args:
        crossover: The answer.

    Returns:
        Each with its heading and what it shows in words.

    Raises:
        ProviderNotInstalledError: matplotlib is missing.
    """
    found = curves(crossover)
    with drawing(_WHAT):
        return [
            Picture(svg=inline(_alone(panel, found), f"picture{number}"), heading=panel.heading, caption=panel.caption)
            for number, panel in enumerate(_panels(found), 1)
        ]


def _panels(found: Curves) -> list[_Panel]:
    """What there is to be seen, most telling first."""
    crossover = found.crossover
    volume = tokens(crossover.reference_volume).replace(" ", "\u00a0")  # no line ends within it
    at = f"at {volume} tokens a day"
    panels = [
        _Panel(
            COST_HEADING,
            "What a month costs against tokens a day, both by orders of magnitude; a fleet grows machine by machine.",
            draw_costs,
        ),
        _Panel(
            PRICE_HEADING,
            "Self-hosting gets cheaper by the token as its machines fill; an API always costs the same, fees apart.",
            draw_prices,
        ),
    ]
    if widest_swings(found):
        caption = f"What a million self-hosted tokens costs {at}, with one figure at the least or most that it may be."
        panels.append(_Panel(SWING_HEADING, caption, draw_swings))
    bought = crossover.investment()
    if bought is not None:
        caption = f"{payback_words(bought)}: what it saves {at} against the cheapest API, less its price."
        panels.append(_Panel(CASH_HEADING, caption, draw_cash))
    elif crossover.band is not None and found.apis:
        caption = "All uncertain figures are drawn at once, time and again; what was given stays as it is."
        panels.append(_Panel(LIKELY_HEADING, caption, draw_likelihood))
    if any(api.line.usd(found.high) for api in found.apis):
        caption = "Blue: self-hosting is cheaper. Yellow to red: the API is. A fleet is sized for its busiest hour."
        panels.append(_Panel(PEAK_HEADING, caption, draw_peaks))
    return panels


def _sheet(found: Curves, title: str) -> Figure:
    """The first panel in full width, the others in pairs below it."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    first, *others = _panels(found)
    rows = [[first], *([*others[place : place + 2]] for place in range(0, len(others), 2))]
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(_SHEET_WIDTH_IN, _TITLE_HEIGHT_IN + len(rows) * _ROW_HEIGHT_IN), layout=layout)
    # Each in a figure of its own within the sheet: the margins of one are not those of the others.
    for row, place in zip(rows, figure.subfigures(len(rows), 1, squeeze=False)[:, 0], strict=True):
        for panel, part in zip(row, place.subfigures(1, len(row), squeeze=False)[0], strict=True):
            panel.draw(part.subplots(), found, SHEET if len(row) == 1 else HALF_SHEET)
    figure.suptitle(cut(title, _MAX_TITLE), x=0.012, ha="left", fontsize=14, fontweight="bold", color=INK)
    return figure


def _alone(panel: _Panel, found: Curves) -> Figure:
    """One panel as wide as a phone, and as high as its legend asks for."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(facecolor="none", layout=ConstrainedLayoutEngine(w_pad=_PAD_IN, h_pad=_PAD_IN))
    axes = figure.subplots()
    panel.draw(axes, found, PHONE)
    legend = axes.get_legend()
    lines = 0 if legend is None else len(legend.get_texts())
    figure.set_size_inches(_PHONE_WIDTH_IN, _PANEL_HEIGHT_IN + _LEGEND_ROW_IN * lines)
    return figure
