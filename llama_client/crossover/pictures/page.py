"""A report as one HTML file that needs nothing else: no script, no font, no address that is loaded."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from llama_client.crossover.report_tables import Table
from llama_client.pictures import moved_into

if TYPE_CHECKING:
    from pathlib import Path

# A cell with more characters is a sentence, and gets room for one.
_LONG = 40


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a page.

    Attributes:
        svg: The element, as `plots.pictures` gives it; it goes into the page as it is.
        heading: What stands above it.
        caption: What it shows, in words; also for those who cannot see it.
    """

    svg: str
    heading: str
    caption: str


@dataclass(frozen=True, slots=True)
class Page:
    """What stands on a page, from top to bottom.

    Attributes:
        title: Of the page.
        sentence: The verdict.
        notes: What bears on it, each a line.
        pictures: What is seen of it.
        tables: What it rests on.
    """

    title: str
    sentence: str
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def render(page: Page) -> str:
    """The page as HTML.

    It is readable on a phone and on paper, by day and by night, and the same page gives the same text.

    Args:
        page: What stands on it. All but the pictures is text, and shown as such whatever it holds.

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


def save(page: Page, path: Path) -> None:
    """Writes the page; the file is there as a whole or not at all.

    Args:
        page: What stands on it.
        path: Where to.

    Raises:
        OSError: It cannot be written.
    """
    with moved_into(path) as file:
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
