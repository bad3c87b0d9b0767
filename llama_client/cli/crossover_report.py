"""A crossover on the terminal: the verdict first, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_client.cli.terminal import one_line, table_of
from llama_client.crossover import report_tables
from llama_client.crossover.report import report, sentence_of

if TYPE_CHECKING:
    from rich.console import Console

    from llama_client.crossover.choosing import Choice
    from llama_client.crossover.report_tables import Table

# Columns of words; all others hold figures, and stand on the right.
_WORDS = frozenset({"", "figure", "replica", "value", "source"})


def show(choice: Choice) -> None:
    """Prints it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    crossover, told = choice.best, report(choice.best)
    console.print(Text(one_line(told.sentence), style="bold"))
    console.print()
    for note in (told.binding, *told.notes):
        console.print(Text(one_line(note)))
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
    if table is None:
        return
    _heading(console, table.heading)
    columns = [(name, name not in _WORDS) for name in table.columns]
    console.print(table_of(columns, table.rows, width=console.width))
