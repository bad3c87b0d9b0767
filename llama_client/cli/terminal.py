"""Text for a terminal: escaped where it comes from models and servers; tables that never cut a figure."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, ProgressColumn

# Control characters: they move the cursor, colour the screen, reverse a line or worse. Line ends and tabs stay.
_CONTROL_RANGES = ((0, 9), (11, 32), (127, 160), (0x061C, 0x061D), (0x200E, 0x2010), (0x202A, 0x202F), (0x2066, 0x206A))
_CONTROLS: dict[int, None] = {code: None for start, end in _CONTROL_RANGES for code in range(start, end)}
# The same, tabs, line ends and invisible characters: escaped in a name or a message.
_ESCAPES = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (*_CONTROLS, 0x09, 0x0A, 0xAD, 0x200B, 0x2028, 0x2029, 0x2060, 0xFEFF)
}
_QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"")
# Stands for a space that must not end a line. As a control character, it is in no text that is shown.
_NO_BREAK = "\x1f"
_GAP = 2
# The least width of a column of words (or its longest word), so that sentences do not become ladders; a word longer
# than the second, such as a URL, is broken.
_LEAST_FOR_WORDS, _LONGEST_WORD = 16, 28
# Narrower terminals do not show names and values side by side.
_LEAST_SIDE_BY_SIDE = 20


def printable(text: str) -> str:
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    """Text from elsewhere in one line, its control characters escaped: it cannot imitate a line of this command."""
    return text.translate(_ESCAPES)


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # None where it was closed


def fitted(text: str, stream: TextIO | None, *, indent: str = "") -> str:
    """The text for a stream: on a terminal in lines of its width, all but the first indented."""
    if not is_terminal(stream):
        return text
    return wrapped(text, shutil.get_terminal_size().columns - len(indent)).replace("\n", f"\n{indent}")


def say(text: str) -> None:
    """Writes to standard error, on a terminal wrapped between words."""
    click.echo(fitted(printable(text), sys.stderr), err=True)


def wrapped(text: str, width: int) -> str:
    """The text in lines of a width, not broken within words and quoted commands."""
    lines = []
    for line in text.split("\n"):
        whole = _QUOTED.sub(lambda quoted: quoted[0].replace(" ", _NO_BREAK), line)
        indent = re.match(" *", line)
        after = indent[0] if indent else ""
        lines += textwrap.wrap(
            whole, width, subsequent_indent=after, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines).replace(_NO_BREAK, " ")


def answer_console() -> Console:
    """A console on standard output, which prints a text as it is."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


@contextmanager
def progress_bar(*columns: ProgressColumn) -> Iterator[Progress | None]:
    """A bar on standard error, in colours visible on black and on white; None where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.theme import Theme

    plain = ("progress.download", "progress.data.speed", "progress.elapsed", "progress.remaining")
    bars = dict.fromkeys(("bar.complete", "bar.finished", "bar.pulse"), "magenta") | {"bar.back": "bright_black"}
    console = Console(stderr=True, theme=Theme(dict.fromkeys(plain, "none") | bars))
    if not console.is_terminal:
        yield None
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=console, transient=True) as bar:
        yield bar


def table_of(
    columns: Sequence[tuple[str, bool]],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    headings: Sequence[str] | None = None,
    shows_headings: bool = True,
) -> RenderableType:
    """A table of columns (name, whether it holds figures) in which no figure is cut, however narrow the terminal is."""
    from rich.table import Table
    from rich.text import Text

    cells = [[one_line(cell) for cell in row] for row in rows]
    names = [printable(name) for name, _ in columns]
    above = [printable(text) for text in headings or names] if shows_headings else [""] * len(columns)
    texts = [[heading, *(row[place] for row in cells)] for place, heading in enumerate(above)]
    needs = [_need(column, are_figures) for column, (_, are_figures) in zip(texts, columns, strict=True)]
    room = width - _GAP * (len(columns) - 1)
    if sum(needs) > room:
        return _blocks(names, cells, width)
    widths = _widths(needs, [_widest(column) for column in texts], room)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=shows_headings)
    for (_, are_figures), heading, column_width in zip(columns, above, widths, strict=True):
        table.add_column(Text(heading), justify="right" if are_figures else "left", overflow="fold", width=column_width)
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def _widest(texts: Iterable[str]) -> int:
    """The width in which no line is broken."""
    from rich.cells import cell_len

    return max((cell_len(line) for text in texts for line in text.splitlines()), default=0)


def _need(texts: Sequence[str], are_figures: bool) -> int:
    """The width of a column, its heading first, below which blocks are better than a table."""
    if are_figures:
        return max(_widest([*texts[0].split(), *texts[1:]]), 1)
    longest_word = _widest(word for text in texts for word in text.split())
    return max(min(_widest(texts), max(min(longest_word, _LONGEST_WORD), _LEAST_FOR_WORDS)), 1)


def _widths(needs: Sequence[int], full: Sequence[int], room: int) -> list[int]:
    """What each column needs; the rest of the room goes first to columns that lack least.

    Rich's own way shrinks the widest column first, also below what a figure needs.
    """
    widths, left = list(needs), room - sum(needs)
    by_lack = sorted(range(len(needs)), key=lambda place: full[place] - needs[place])
    for done, place in enumerate(by_lack):
        more = min(max(full[place] - needs[place], 0), left // (len(by_lack) - done))
        widths[place] += more
        left -= more
    return widths


def _blocks(names: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> RenderableType:
    """Each row as a block of lines `name  value` without empty cells; of a column without a name, the value alone."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    # Long names are broken, so that values keep what they need, up to half of the line.
    values = min(_widest(value for row in cells for value in row), (width - _GAP) // 2)
    name_width = min(_widest(names), max(width - _GAP - values, 1))
    lines: list[RenderableType] = []
    for row in cells:
        if lines:
            lines.append(Text())
        for name, value in zip(names, row, strict=True):
            if not value.strip():
                continue
            if not name or width < _LEAST_SIDE_BY_SIDE:
                lines.append(Text(f"{name} {value}".strip(), overflow="fold"))
                continue
            line = Table.grid(padding=(0, _GAP, 0, 0))
            line.add_column(width=name_width, overflow="fold")
            line.add_column(overflow="fold")
            line.add_row(Text(name), Text(value))
            lines.append(line)
    return Group(*lines)
