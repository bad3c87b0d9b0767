"""A crossover as one page of HTML: the verdict, the pictures, and the tables that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llama_client.crossover import report_tables
from llama_client.crossover.pictures import page
from llama_client.crossover.pictures.plots import pictures
from llama_client.crossover.report import report, sentence_of
from llama_client.crossover.report_tables import Table

if TYPE_CHECKING:
    from pathlib import Path

    from llama_client.crossover.evaluation import Crossover


def page_of(crossover: Crossover, others: Sequence[Crossover] = ()) -> page.Page:
    """The page of a crossover.

    Args:
        crossover: The answer.
        others: Other machines for the same.

    Raises:
        ProviderNotInstalledError: matplotlib is missing.
    """
    told = report(crossover)
    flips = None
    if told.flips:
        flips = Table("What would change the answer", ["each on its own"], [[sentence_of(flip)] for flip in told.flips])
    tables = (
        report_tables.volumes(told),
        report_tables.machines(others),
        flips,
        report_tables.swings(crossover),
        report_tables.assumptions(crossover),
    )
    return page.Page(
        title=told.title,
        sentence=told.sentence,
        notes=(told.binding, *told.notes, f"Prices and sellers as of {crossover.today}."),
        pictures=pictures(crossover),
        tables=tuple(table for table in tables if table is not None),
    )


def save(crossover: Crossover, path: Path, *, others: Sequence[Crossover] = ()) -> None:
    """Writes the page; the file is there as a whole or not at all.

    Args:
        crossover: The answer.
        path: Where to.
        others: Other machines for the same.

    Raises:
        ProviderNotInstalledError: matplotlib is missing.
        OSError: It cannot be written.

    Example:
        save(evaluate(scenario, draws=10_000), Path("report.html"))
    """
    page.save(page_of(crossover, others), path)
