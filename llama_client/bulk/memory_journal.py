"""The journal of a job without a folder: it remembers nothing, and cannot be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.rows import Row


class NoJournal:
    is_lasting = False
    answered = failed = end = 0

    def __init__(self) -> None:
        self.maybe_paid_twice = 0

    def began(self, rows: Sequence[Row]) -> None: ...

    def withdrew(self, row: Row) -> None: ...

    def lost(self, rows: Sequence[Row]) -> None:
        self.maybe_paid_twice += len(rows)

    def record(self, results: Sequence[BulkResult]) -> None: ...

    def is_done(self, row: Row) -> bool:
        return False

    def results(self, rows: Iterator[Row] | None = None, *, only_earlier: bool = False) -> Iterator[BulkResult]:
        return iter(())

    def spent(self) -> Decimal | None:
        return Decimal(0)

    def close(self) -> None: ...
