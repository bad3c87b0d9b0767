"""Text for a terminal: made safe where it is of models and servers, and tables that no width cuts a figure of."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# What could move the cursor, colour the screen, turn a line around or worse. Line ends and tabs stay.
_CONTROLS = dict.fromkeys(
    [
        *range(9),
        *range(11, 32),
        *range(127, 160),
        0x061C,
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ]
)
# The same, what ends a line or a cell, and what nobody sees: in a name or a message each is shown as what it is.
_ESCAPES = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (*_CONTROLS, 0x09, 0x0A, 0xAD, 0x200B, 0x2028, 0x2029, 0x2060, 0xFEFF)
}
_QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"")
# It stands for a space that no line ends at; as a control character, no text that is shown has it.
_NO_BREAK = "\x1f"
_GAP = 2
# A column of words gets at least this (or its longest word), so that sentences do not become ladders. A word that is
# longer than the second, such as an address, is broken.
_LEAST_FOR_WORDS, _LONGEST_WORD = 16, 28
# Names and values do not stand side by side in less.
_LEAST_SIDE_BY_SIDE = 20


def printable(text: str) -> str:
    """The text without characters that steer a terminal."""
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    """A name, a path or a message of somebody else's, in one line: line ends and other controls shown escaped.

    It is for whatever a configuration, a server or a ledger says, so that no text of theirs looks like a line of ours.

    Examples:
        >>> print(one_line("chat\\nall: is well\\x1b[2J"))
        chat\\nall: is well\\x1b[2J
    """
    return text.translate(_ESCAPES)


def say(text: str) -> None:
    """Writes what is not the answer to standard error, on a terminal in lines that end between words."""
    text = printable(text)
    if sys.stderr is not None and sys.stderr.isatty():
        text = wrapped(text, shutil.get_terminal_size().columns)
    click.echo(text, err=True)


def wrapped(text: str, width: int) -> str:
    """The text in lines of that width, as far as its words and commands allow.

    Examples:
        >>> print(wrapped("Ollama is not running: start it with `ollama serve`", 34))
        Ollama is not running: start it
        with `ollama serve`
    """
    lines = []
    for line in text.split("\n"):
        whole = _QUOTED.sub(lambda quoted: quoted[0].replace(" ", _NO_BREAK), line)
        indent = re.match(" *", line)
        lines += textwrap.wrap(
            whole,
            width,
            subsequent_indent=indent[0] if indent else "",
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines).replace(_NO_BREAK, " ")


def progress_console() -> Console:
    """A console on standard error for a progress bar, in colours that can be seen on black and on white."""
    from rich.console import Console
    from rich.theme import Theme

    plain = dict.fromkeys(
        ("progress.download", "progress.data.speed", "progress.elapsed", "progress.remaining"), "none"
    )
    bars = dict.fromkeys(("bar.complete", "bar.finished", "bar.pulse"), "magenta") | {"bar.back": "bright_black"}
    return Console(stderr=True, theme=Theme(plain | bars))


def table_of(
    columns: Sequence[tuple[str, bool]],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    headings: Sequence[str] | None = None,
    shows_headings: bool = True,
) -> RenderableType:
    """A table in which each figure stands whole, however narrow the terminal is.

    Where the width does not do for that, each row becomes a block of lines `name  value`, with an empty line between
    blocks and without the cells that are empty; a column without a name gives a line of the value alone.

    Examples:
        >>> from rich.console import Console
        >>> columns = [("precision", False), ("engine", False), ("needs", True)]
        >>> rows = [["Q8_0", "llama.cpp", "9.6 GiB"], ["fp8", "server", "16.5 GiB"]]
        >>> Console(width=40).print(table_of(columns, rows, width=40))
        precision  engine        needs
        Q8_0       llama.cpp   9.6 GiB
        fp8        server     16.5 GiB
        >>> Console(width=24).print(table_of(columns, rows, width=24))
        precision  Q8_0
        engine     llama.cpp
        needs      9.6 GiB
        <BLANKLINE>
        precision  fp8
        engine     server
        needs      16.5 GiB
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    above = [printable(text) for text in headings or [name for name, _ in columns]]
    if not shows_headings:
        above = [""] * len(columns)
    wishes = [_wish([text, *(row[place] for row in cells)]) for place, text in enumerate(above)]
    needs = [
        _need(are_figures, above[place], [row[place] for row in cells])
        for place, (_, are_figures) in enumerate(columns)
    ]
    room = width - _GAP * (len(columns) - 1)
    if sum(needs) > room:
        return _blocks([printable(name) for name, _ in columns], cells, width)
    return _grid(columns, above if shows_headings else None, cells, _shared(needs, wishes, room))


def _wish(texts: Sequence[str]) -> int:
    """The width in which no line is broken."""
    from rich.cells import cell_len

    return max(cell_len(line) for text in texts for line in (text.splitlines() or [""]))


def _need(are_figures: bool, heading: str, cells: Sequence[str]) -> int:
    """The width below which a table is worse than blocks."""
    words = max((_wish([word]) for text in (heading, *cells) for word in text.split()), default=0)
    if are_figures:
        return max(_wish([*heading.split(), *cells]) if cells else words, 1)
    return max(min(_wish([heading, *cells]), max(min(words, _LONGEST_WORD), _LEAST_FOR_WORDS)), 1)


def _shared(needs: Sequence[int], wishes: Sequence[int], room: int) -> list[int]:
    """Each column's width: what it needs, and what is left goes to those that wish for least more."""
    widths, left = list(needs), room - sum(needs)
    wanting = sorted(range(len(needs)), key=lambda place: wishes[place] - needs[place])
    for done, place in enumerate(wanting):
        more = min(max(wishes[place] - needs[place], 0), left // (len(wanting) - done))
        widths[place] += more
        left -= more
    return widths


def _grid(
    columns: Sequence[tuple[str, bool]],
    headings: Sequence[str] | None,
    cells: Sequence[Sequence[str]],
    widths: Sequence[int],
) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=headings is not None)
    for (_, are_figures), heading, width in zip(columns, headings or [""] * len(columns), widths, strict=True):
        justify: Literal["left", "right"] = "right" if are_figures else "left"
        table.add_column(Text(heading), justify=justify, overflow="fold", width=width)
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def _blocks(names: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    # Long names are broken, so that values keep what they need, up to half of the line.
    values = min(_wish([value for row in cells for value in row] or [""]), (width - _GAP) // 2)
    name_width = min(_wish(names), max(width - _GAP - values, 1))
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
