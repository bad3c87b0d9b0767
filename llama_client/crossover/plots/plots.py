"""The plots of a crossover: on one sheet, or on one self-contained HTML page with the report."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from itertools import count
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from llama_client.config.files import atomic_file
from llama_client.crossover.format import cut, tokens
from llama_client.crossover.offers_report import prices_as_of
from llama_client.crossover.plots import costs, style, uncertainty
from llama_client.crossover.plots.costs import Curves, curves
from llama_client.crossover.report import report
from llama_client.crossover.report_tables import Table, tables
from llama_client.figures import drawing, form_of, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from llama_client.crossover.evaluation import Crossover
    from llama_client.crossover.fleets.parts import FleetPlan


# A cell with more characters is a sentence, and gets a wider column.
_LONG, _WIDE = 40, ' class="long"'


@dataclass(frozen=True, slots=True)
class Plot:
    svg: str  # goes into the page as it is
    heading: str
    caption: str


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    sentence: str
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()


def render(page: Page) -> str:
    """The page as HTML: for phones, screens and paper, in light and dark mode; the same page gives the same text."""
    template = resources.files("llama_client.crossover.data").joinpath("page.html").read_text(encoding="utf-8")
    plots, tables = list(map(_figure, page.plots, count(1))), list(map(_table, page.tables, count(1)))
    return Template(template).substitute(
        title=_text(page.title),
        sentence=f'<p class="verdict">{_text(page.sentence)}</p>' if page.sentence else "",
        # What is looked at first: one picture and its figures.
        lead=_block('<div class="plots lead">', [*plots[:1], *tables[:1]], "</div>"),
        notes=_block('<ul class="notes">', [f"<li>{_text(note)}</li>" for note in page.notes], "</ul>"),
        tables="\n".join(tables[1:-1]),
        plots=_block('<div class="plots">', plots[1:], "</div>"),
        sources="\n".join(tables[1:][-1:]),
    )


def write_page(page: Page, path: Path) -> None:
    with atomic_file(path) as file:
        file.write(render(page).encode("utf-8"))


def _figure(plot: Plot, place: int) -> str:
    name = f'role="img" aria-labelledby="figure{place}" aria-describedby="caption{place}"'
    svg = plot.svg.replace("<svg ", f"<svg {name} ", 1)
    heading = f'<h2 id="figure{place}">{_text(plot.heading)}</h2>'
    return f'<figure>\n{heading}\n{svg}\n<figcaption id="caption{place}">{_text(plot.caption)}</figcaption>\n</figure>'


def _table(table: Table, place: int) -> str:
    """A table in a box that scrolls where it is too wide, and takes the focus so that keys scroll it too."""
    columns = "".join(f'<th scope="col">{_text(column)}</th>' for column in table.columns)
    rows = []
    for row in table.rows:
        cells = [f"<td{_WIDE if len(cell) > _LONG else ''}>{_text(cell)}</td>" for cell in row]
        if len(row) > 1:
            cells[0] = f'<th scope="row">{_text(row[0])}</th>'
        rows.append(f"<tr>{''.join(cells)}</tr>")
    caption = f"<caption>{_text(table.caption)}</caption>\n" if table.caption else ""
    return (
        f'<section>\n<h2 id="table{place}">{_text(table.heading)}</h2>\n'
        f'<div class="scrolled" role="region" aria-labelledby="table{place}" tabindex="0">\n<table>\n{caption}'
        f"<thead><tr>{columns}</tr></thead>\n" + _block("<tbody>", rows, "</tbody>") + "\n</table>\n</div>\n</section>"
    )


def _block(opening: str, lines: Sequence[str], closing: str) -> str:
    return "\n".join([opening, *lines, closing]) if lines else ""


def _text(text: str) -> str:
    """Foreign text, escaped; control characters, lone surrogates and marks of writing direction become blanks."""
    plain = "".join(" " if unicodedata.category(sign) in {"Cc", "Cf", "Cs"} else sign for sign in text)
    return escape(plain)


def save_page(
    crossover: Crossover, path: Path, *, others: Sequence[Crossover] = (), fleet: FleetPlan | None = None
) -> None:
    text = report(crossover)
    *found, sources = tables(text, crossover, others)
    if fleet is not None:
        found += _of_fleet(fleet)
    page = Page(
        title=text.title,
        sentence=text.sentence,
        notes=(text.binding, *text.notes, prices_as_of(crossover)),
        plots=page_plots(crossover),
        tables=[*found, sources],
    )
    write_page(page, path)


def _of_fleet(fleet: FleetPlan) -> list[Table]:
    from llama_client.crossover.fleets import report as fleets

    mix, *others = fleets.tables(fleet)
    return [mix, Table("Why this fleet", ["and what it does"], [[note] for note in fleets.notes(fleet)]), *others]


# The page's variables for the colours that dark mode replaces.
PAGE_COLOURS = {
    style.INK: "ink",
    style.MUTED: "muted",
    style.PAPER: "paper",
    style.GRID: "grid",
    style.OWN: "own",
    style.MIX: "mix",
    style.API_LOOKS[1][0]: "second-api",
    style.WON: "won",
    style.LOST: "lost",
}
_COLOUR = re.compile("|".join(PAGE_COLOURS))
# What stands before the element itself, metadata, and comments.
_NOT_DRAWN = re.compile(r"^.*?(?=<svg\b)|<metadata>.*?</metadata>|<!--.*?-->\s*", re.DOTALL)
_ROOT = re.compile(r"<svg\b[^>]*?viewBox=\"([^\"]*)\"[^>]*>")
_NAME = re.compile(r'(\bid="|(?:xlink:)?href="#|url\(#)([^")]+)')
# The page sets the font once.
_FONTS = re.compile(r"font-family: [^;\"]*;? ?")


def inline(figure: Figure, prefix: str) -> str:
    """A figure as an SVG element, with ids under a prefix, and with the page's colours and font."""
    file = io.BytesIO()
    save(figure, file, "svg")
    text = _NOT_DRAWN.sub("", file.getvalue().decode("utf-8"))
    text = _ROOT.sub(r'<svg viewBox="\1">', text, count=1)
    text = _NAME.sub(lambda match: f"{match[1].replace('xlink:', '')}{prefix}-{match[2]}", text)
    # Within tags alone: the text between them may look like a colour or a font.
    text = re.sub(r"<[^>]*>", lambda tag: _with_page_style(tag[0]), text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _with_page_style(tag: str) -> str:
    return _FONTS.sub("", _COLOUR.sub(lambda match: f"var(--{PAGE_COLOURS[match[0]]})", tag))


_WHAT = "a picture of a crossover"
_SHEET_WIDTH_IN, _TITLE_HEIGHT_IN, _ROW_HEIGHT_IN = 12.0, 0.5, 4.4
# The width of a phone's screen in CSS pixels, less its margins, so that text keeps its size.
_PHONE_WIDTH_IN, _PANEL_HEIGHT_IN, _LEGEND_ROW_IN = 4.0, 2.9, 0.165
_PAD_IN = 0.04
_MAX_TITLE = 100


@dataclass(frozen=True, slots=True)
class _Panel:
    heading: str
    caption: str
    draw: Callable[[Axes, Curves, style.PanelStyle], None]


def save_sheet(crossover: Crossover, path: Path, *, title: str) -> None:
    """Draws all panels of a crossover on one sheet."""
    form = form_of(path)
    with drawing(_WHAT), atomic_file(path) as file:
        save(_sheet(curves(crossover), title), file, form)


def page_plots(crossover: Crossover) -> list[Plot]:
    """The same panels for a page, each on its own and as wide as a phone."""
    found = curves(crossover)
    with drawing(_WHAT):
        return [
            Plot(inline(_alone(panel, found), f"plot{number}"), panel.heading, panel.caption)
            for number, panel in enumerate(_panels(found), 1)
        ]


def _panels(found: Curves) -> list[_Panel]:
    """The panels that have something to show, most important first."""
    crossover = found.crossover
    volume = tokens(crossover.reference_volume).replace(" ", "\u00a0")  # no line ends within it
    at = f"at {volume} tokens a day"
    caption = "What a month costs against tokens a day, both by orders of magnitude; a fleet grows machine by machine."
    panels = [_Panel(costs.COST_HEADING, caption, costs.draw_costs)]
    caption = "Self-hosting gets cheaper by the token as its machines fill; an API always costs the same, fees apart."
    panels.append(_Panel(costs.PRICE_HEADING, caption, costs.draw_prices))
    if uncertainty.widest_swings(found):
        caption = f"What a million self-hosted tokens costs {at}, with one figure at the least or most that it may be."
        panels.append(_Panel(uncertainty.SWING_HEADING, caption, uncertainty.draw_swings))
    if found.investment is not None:
        caption = (
            f"{costs.payback_words(found.investment)}: what it saves {at} against the cheapest API, less its price."
        )
        panels.append(_Panel(costs.CASH_HEADING, caption, costs.draw_cash))
    elif crossover.band is not None and found.apis:
        caption = "All uncertain figures are drawn at once, many times; given figures stay as they are."
        panels.append(_Panel(uncertainty.LIKELY_HEADING, caption, uncertainty.draw_likelihood))
    if any(api.line.usd(found.high) for api in found.apis):
        caption = "Blue: self-hosting is cheaper. Yellow to red: the API is. A fleet is sized for its busiest hour."
        panels.append(_Panel(uncertainty.PEAK_HEADING, caption, uncertainty.draw_peaks))
    return panels


def _sheet(found: Curves, title: str) -> Figure:
    """The first panel in full width, the others in pairs below it."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    first, *others = _panels(found)
    rows = [[first], *([*others[place : place + 2]] for place in range(0, len(others), 2))]
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(_SHEET_WIDTH_IN, _TITLE_HEIGHT_IN + len(rows) * _ROW_HEIGHT_IN), layout=layout)
    # Each in its own subfigure, so that the margins of one do not move the others.
    for row, place in zip(rows, figure.subfigures(len(rows), 1, squeeze=False)[:, 0], strict=True):
        for panel, part in zip(row, place.subfigures(1, len(row), squeeze=False)[0], strict=True):
            panel.draw(part.subplots(), found, style.SHEET if len(row) == 1 else style.HALF_SHEET)
    figure.suptitle(cut(title, _MAX_TITLE), x=0.012, ha="left", fontsize=14, fontweight="bold", color=style.INK)
    return figure


def _alone(panel: _Panel, found: Curves) -> Figure:
    """One panel as wide as a phone, and as high as its legend needs."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(facecolor="none", layout=ConstrainedLayoutEngine(w_pad=_PAD_IN, h_pad=_PAD_IN))
    axes = figure.subplots()
    panel.draw(axes, found, style.PHONE)
    legend = axes.get_legend()
    lines = 0 if legend is None else len(legend.get_texts())
    figure.set_size_inches(_PHONE_WIDTH_IN, _PANEL_HEIGHT_IN + _LEGEND_ROW_IN * lines)
    return figure
