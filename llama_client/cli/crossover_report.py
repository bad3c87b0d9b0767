"""A crossover on the terminal: the verdict first, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_client.cli.terminal import printable
from llama_client.crossover import report_tables
from llama_client.crossover.report import report, sentence_of

if TYPE_CHECKING:
    from rich.console import Console

    from llama_client.crossover.choosing import Choice
    from llama_client.crossover.report_tables import Table

# Columns of words; all others hold figures, and stand on the right.
_WORDS = frozenset({"", "figure", "replica", "source"})
_MAX_VALUE_WIDTH = 20


def show(choice: Choice) -> None:
    """Prints it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    crossover, told = choice.best, report(choice.best)
    console.print(Text(printable(told.sentence), style="bold"))
    console.print()
    for note in (told.binding, *told.notes):
        console.print(Text(printable(note)))
    _print(console, report_tables.volumes(told))
    _print(console, report_tables.machines(choice.others))
    if told.flips:
        _heading(console, "What would change the answer, each on its own")
        for flip in told.flips:
            console.print(Text(f"- {sentence_of(flip)}"))
    _print(console, report_tables.swings(crossover))
    _print(console, report_tables.assumptions(crossover))
    if told.stale:
        console.print()
        names = ", ".join(each.name.replace("_", " ") for each in told.stale)
        console.print(Text(f"Older than 60 days, check again: {names}."))


def _heading(console: Console, text: str) -> None:
    from rich.text import Text

    console.print()
    console.print(Text(text, style="bold"))


def _print(console: Console, table: Table | None) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    if table is None:
        return
    _heading(console, table.heading)
    grid = Grid(box=None, pad_edge=False)
    for name in table.columns:
        is_words = name in _WORDS
        narrow = _MAX_VALUE_WIDTH if name == "value" else None
        grid.add_column(
            name,
            justify="left" if is_words else "right",
            overflow="fold",
            no_wrap=not is_words and not narrow,
            max_width=narrow,
        )
    for row in table.rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    console.print(grid)
