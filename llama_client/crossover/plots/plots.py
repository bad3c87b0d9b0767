"""A crossover's figures: one sheet, or one self-contained HTML page."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from llama_client.config.files import atomic_file
from llama_client.crossover.format import cut, tokens
from llama_client.crossover.plots import style
from llama_client.crossover.plots.costs import (
    CASH_HEADING,
    COST_HEADING,
    PRICE_HEADING,
    Curves,
    curves,
    draw_cash,
    draw_costs,
    draw_prices,
    payback_words,
)
from llama_client.crossover.plots.style import HALF_SHEET, INK, PHONE, SHEET, PanelStyle
from llama_client.crossover.plots.uncertainty import (
    LIKELY_HEADING,
    PEAK_HEADING,
    SWING_HEADING,
    draw_likelihood,
    draw_peaks,
    draw_swings,
    widest_swings,
)
from llama_client.crossover.report import (
    Table,
    assumptions_table,
    machines_table,
    report,
    sentence_of,
    swings_table,
    volumes_table,
)
from llama_client.figures import drawing, form_of, form_settings

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from llama_client.crossover.evaluation import Crossover


# A cell with more characters is a sentence, and gets room for one.
_LONG = 40


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a page."""

    svg: str
    heading: str
    caption: str


@dataclass(frozen=True, slots=True)
class Page:
    """What stands on a page, from top to bottom."""

    title: str
    sentence: str
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def render(page: Page) -> str:
    """The page as HTML.

    It is readable on a phone and on paper, by day and by night, and the same page gives the same text.

    Examples:
        >>> html = render(Page(title="Llama 3.3 70B", sentence="The API is cheaper at <1 G tokens a day."))
        >>> "cheaper at &lt;1 G" in html
        True
    """
    template = resources.files("llama_client.crossover.data").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=_text(page.title),
        sentence=f'<p class="verdict">{_text(page.sentence)}</p>' if page.sentence else "",
        notes=_lines('<ul class="notes">', [f"<li>{_text(note)}</li>" for note in page.notes], "</ul>"),
        pictures=_lines(
            '<div class="pictures">', [_figure(each, place) for place, each in enumerate(page.pictures, 1)], "</div>"
        ),
        tables="\n".join(_table(each, place) for place, each in enumerate(page.tables, 1)),
    )


def write_page(page: Page, path: Path) -> None:
    """Writes the page; the file is there as a whole or not at all."""
    with atomic_file(path) as file:
        file.write(render(page).encode("utf-8"))


def _figure(picture: Picture, place: int) -> str:
    name = f'role="img" aria-labelledby="figure{place}" aria-describedby="caption{place}"'
    svg = picture.svg.replace("<svg ", f"<svg {name} ", 1)
    heading = f'<h2 id="figure{place}">{_text(picture.heading)}</h2>'
    return (
        f'<figure>\n{heading}\n{svg}\n<figcaption id="caption{place}">{_text(picture.caption)}</figcaption>\n</figure>'
    )


def _table(table: Table, place: int) -> str:
    """A table in a box of its own, which scrolls where it is too wide; by keys too, so it takes the focus."""
    columns = "".join(f'<th scope="col">{_text(column)}</th>' for column in table.columns)
    rows = []
    for row in table.rows:
        cells = [f"<td{_room(cell)}>{_text(cell)}</td>" for cell in row]
        if len(row) > 1:
            cells[0] = f'<th scope="row">{_text(row[0])}</th>'
        rows.append(f"<tr>{''.join(cells)}</tr>")
    caption = f"<caption>{_text(table.caption)}</caption>\n" if table.caption else ""
    return (
        f'<section>\n<h2 id="table{place}">{_text(table.heading)}</h2>\n'
        f'<div class="scrolled" role="region" aria-labelledby="table{place}" tabindex="0">\n<table>\n{caption}'
        f"<thead><tr>{columns}</tr></thead>\n" + _lines("<tbody>", rows, "</tbody>") + "\n</table>\n</div>\n</section>"
    )


def _room(cell: str) -> str:
    return ' class="long"' if len(cell) > _LONG else ""


def _lines(opening: str, lines: Sequence[str], closing: str) -> str:
    return "\n".join([opening, *lines, closing]) if lines else ""


def _text(text: str) -> str:
    """Words of others, shown as they are: nothing in them is markup, and nothing turns the line around.

    Control characters, halves of pairs and what changes the direction of writing become blanks.
    """
    plain = "".join(" " if unicodedata.category(sign) in {"Cc", "Cf", "Cs"} else sign for sign in text)
    return escape(plain)


def page_of(crossover: Crossover, others: Sequence[Crossover] = ()) -> Page:
    """The page of a crossover."""
    told = report(crossover)
    flips = None
    if told.flips:
        flips = Table("What would change the answer", ["each on its own"], [[sentence_of(flip)] for flip in told.flips])
    tables = (
        volumes_table(told),
        machines_table(others),
        flips,
        swings_table(crossover),
        assumptions_table(crossover),
    )
    return Page(
        title=told.title,
        sentence=told.sentence,
        notes=(told.binding, *told.notes, f"Prices and sellers as of {crossover.today}."),
        pictures=pictures(crossover),
        tables=tuple(table for table in tables if table is not None),
    )


def save_page(crossover: Crossover, path: Path, *, others: Sequence[Crossover] = ()) -> None:
    """Writes the page; the file is there as a whole or not at all.

    Example:
        save_page(evaluate(scenario, draws=10_000), Path("report.html"))
    """
    write_page(page_of(crossover, others), path)


# The page's names for colours that are others in the dark.
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
_HEAD = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)
_ROOT = re.compile(r"<svg\b[^>]*?viewBox=\"([^\"]*)\"[^>]*>")
_NAME = re.compile(r'(\bid="|(?:xlink:)?href="#|url\(#)([^")]+)')
# Fonts are the page's: they need not be named at each word.
_FONTS = re.compile(r"font-family: [^;\"]*;? ?")


def inline(figure: Figure, prefix: str) -> str:
    """A figure as an SVG element."""
    file = io.BytesIO()
    figure.savefig(file, **form_settings("svg"))
    text = _HEAD.sub("", file.getvalue().decode("utf-8"), count=1)
    text = _METADATA.sub("", _COMMENT.sub("", text))
    text = _ROOT.sub(r'<svg viewBox="\1">', text, count=1)
    text = _NAME.sub(lambda match: f"{match[1].replace('xlink:', '')}{prefix}-{match[2]}", text)
    text = _outside_text(text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _outside_text(text: str) -> str:
    """Puts the page's colours and fonts into tags; words between them may look like either."""
    return re.sub(r"<[^>]*>", lambda tag: _coloured(tag[0]), text)


def _coloured(tag: str) -> str:
    return _FONTS.sub("", _COLOUR.sub(lambda match: f"var(--{PAGE_COLOURS[match[0]]})", tag))


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
    draw: Callable[[Axes, Curves, PanelStyle], None]


def save_sheet(crossover: Crossover, path: Path, *, title: str) -> None:
    """Draws a crossover on one sheet.

    A month's cost and that of a million tokens by volume, with where self-hosting is cheaper; what each figure changes
    on its own; what a purchase brings, else how likely self-hosting is cheaper where that was drawn; and the winner by
    volume and peak. The file is there as a whole or not at all.

    Example:
        save_sheet(evaluate(scenario, draws=10_000), Path("crossover.png"), title="Llama 3.3 70B")
    """
    form = form_of(path)
    with drawing(_WHAT), atomic_file(path) as file:
        _sheet(curves(crossover), title).savefig(file, **form_settings(form))


def pictures(crossover: Crossover) -> list[Picture]:
    """The same pictures for a page, each on its own and as wide as a phone."""
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
