"""What the parts of a job are to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from llama_client.bulk.limits.flights import Flight
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.rows import Row
    from llama_client.errors import LlamaClientError
    from llama_client.types.completion import ChatCompletion


class Question(Protocol):
    """One call of a row, which another thread may stop."""

    def answer(self) -> ChatCompletion:
        """Blocks until the answer has come, through the router."""
        ...

    def stop(self) -> None:
        """Ends it soon."""
        ...


Ask = Callable[["Row"], Question]
"""Prepares the call of a row."""
AsyncAsk = Callable[["Row"], Awaitable["ChatCompletion"]]
"""Asks a row at once, through the router; cancelling it ends the call."""


class Input(Protocol):
    """What the rows come from."""

    name: str
    """For people: the file's name, `a DataFrame`, `an iterable`."""
    is_replayable: bool
    """Whether `rows` can be called again; an iterator cannot."""

    def rows(self) -> Iterator[Row]:
        """Each row, in order, read as they are asked for. A broken one raises `InvalidRequestError` with its place."""
        ...

    def count(self) -> int | None:
        """How many there are; None: that is known at their end only."""
        ...


class Journal(Protocol):
    """What a job has done so far: in a folder, or nowhere. Safe to use from several threads; may block."""

    is_lasting: bool
    """Whether another run finds what was recorded."""
    maybe_paid_twice: int
    """How many calls were in flight when earlier runs were killed."""

    @property
    def failed(self) -> int:
        """How many rows have failed, and were not answered since."""
        ...

    @property
    def end(self) -> int:
        """One more than the last position that is done."""
        ...

    def began(self, rows: Sequence[Row]) -> None:
        """The rows are about to be asked: until they are recorded they may have been paid for."""
        ...

    def withdrew(self, row: Row) -> None:
        """It failed, and will be tried again later. Does not block."""
        ...

    def lost(self, rows: Sequence[Row]) -> None:
        """They were being asked by a process that is gone, and will be asked again: they may be paid for twice."""
        ...

    def record(self, results: Sequence[BulkResult]) -> None:
        """The rows are done, for good: another process would find them once it returns."""
        ...

    def is_done(self, row: Row) -> bool:
        """Whether it was done by an earlier run. Raises `JobError` where another row stood at its position."""
        ...

    def results(self, rows: Iterator[Row] | None = None, *, only_earlier: bool = False) -> Iterator[BulkResult]:
        """What is done, failures included, in the order of the input: with the rows of the input where given."""
        ...

    def spent(self) -> Decimal | None:
        """What the rows have cost that are done; None: of at least one it is unknown."""
        ...

    def close(self) -> None: ...


class Limits(Protocol):
    """How many requests may be in flight, by target. No I/O; called under the dispatcher's lock."""

    def wait_s(self, target: str, now: float) -> float | None:
        """0: one more may start; seconds: not before then; None: not before another one has ended."""
        ...

    def started(self, target: str, now: float) -> Flight:
        """A call starts. What is returned is for `ended` or `abandoned`."""
        ...

    def ended(self, flight: Flight, now: float, outcome: ChatCompletion | LlamaClientError) -> None:
        """A call is over: its outcome and its attempts tell whether it was refused, and how long it took."""
        ...

    def abandoned(self, flight: Flight) -> None:
        """A call was cut off, and tells nothing."""
        ...


class OutputWriter(Protocol):
    """Writes all results of a job in the order of the input, whole or not at all."""

    def write(self, path: Path, results: Iterator[BulkResult], *, claim: Callable[[], object] | None = None) -> None:
        """`claim` is called right before the file takes its place."""
        ...
