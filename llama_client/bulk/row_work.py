"""What a driver of calls needs of a run: here the job's own `Work`, in a worker elsewhere its part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from llama_client.bulk.dispatcher import Dispatcher, MoneyEndedError
    from llama_client.bulk.pending import Done, PendingRow
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.rows import Row
    from llama_client.errors import BudgetExceededError


class CallJournal(Protocol):
    """What a driver of calls tells the journal itself. May block, but for `withdrew`."""

    @property
    def is_lasting(self) -> bool: ...

    def began(self, rows: Sequence[Row]) -> None: ...

    def withdrew(self, row: Row) -> None: ...


class RowWork(Protocol):
    """What a driver of calls does beside asking. All of it may block."""

    @property
    def dispatcher(self) -> Dispatcher:
        """Which row is next."""
        ...

    @property
    def journal(self) -> CallJournal: ...

    def read(self, most: int, *, only_batches: bool = False) -> tuple[list[PendingRow], list[Done], bool]:
        """The next rows that are to be asked, those that were done elsewhere, and whether none of both follows.

        Args:
            most: How many together, at most.
            only_batches: No rows of the input: enough of them wait.
        """
        ...

    def record(self, done: Sequence[Done]) -> Sequence[BulkResult]:
        """Records rows that are done, for good."""
        ...

    def money_ended(self, ended: MoneyEndedError) -> BudgetExceededError:
        """The sentence for it, where the dispatcher has a purse."""
        ...

    def tell(self, *, is_last: bool = False) -> None:
        """How far the job is."""
        ...
