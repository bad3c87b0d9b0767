"""Rows that no job may have: what stood elsewhere in an earlier run, and ids that are there twice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from llama_client.bulk.cancelling import until_left
from llama_client.bulk.seen_ids import SeenIds
from llama_client.errors import JobError

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Input, Journal
    from llama_client.bulk.rows import Row


class RowChecks:
    """Checks rows in their order. Close it.

    Args:
        source: Where they come from.
        journal: What was done.
    """

    def __init__(self, source: Input, journal: Journal) -> None:
        self._source = source
        self._journal = journal
        self._ids: SeenIds | None = None

    def is_done(self, row: Row) -> bool:
        """Whether an earlier run has done the row.

        Raises:
            JobError: It is not the row that it was, or its id is there twice.
        """
        if row.custom_id is not None:
            try:
                self._ids = self._ids or SeenIds()
                first = self._ids.add(row.custom_id, row.position)
            except OSError as error:
                why = error.strerror or type(error).__name__
                raise JobError(f"the folder for temporary files cannot hold the rows' ids: {why}") from error
            if first is not None:
                raise JobError(
                    f"{row.where}: custom_id {row.custom_id!r:.80} is also that of {self._place_of(first)}; "
                    "give each row its own",
                    where=row.where or None,
                )
        return self._journal.is_done(row)

    def close(self) -> None:
        if self._ids is not None:
            self._ids.close()

    def _place_of(self, position: int) -> str:
        """Where a row stands: found by reading again, as places are not kept."""
        row = next(islice(self._source.rows(), position, None), None) if self._source.is_replayable else None
        return row.where if row is not None and row.where else f"row {position + 1}"


def check_rows(source: Input, journal: Journal, limit: int | None, is_left: Callable[[], bool]) -> int:
    """Looks at all rows before the first one is asked; how many there are.

    Raises:
        LeftError: Nothing waits for it any more.
        JobError: A row is not what it was, its id is there twice, or rows that were done are missing.
        InvalidRequestError: A row is broken.
    """
    checks, count = RowChecks(source, journal), 0
    try:
        for row in until_left(source.rows(), is_left):
            checks.is_done(row)
            count += 1
    finally:
        checks.close()
    if limit is None or count < limit:
        require_all(source, journal, count)
    return count


def require_all(source: Input, journal: Journal, count: int) -> None:
    if journal.end > count:
        raise JobError(
            f"{source.name}: has {count} rows, and row {journal.end} is done already; restore the input, or use "
            "another job folder"
        )
