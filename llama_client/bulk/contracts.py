"""What the parts of a job are to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.rows import Row
    from llama_client.errors import LlamaClientError
    from llama_client.types.completion import ChatCompletion

Ask = Callable[["Row"], "ChatCompletion"]
"""Asks a row at once, through the router."""
AsyncAsk = Callable[["Row"], Awaitable["ChatCompletion"]]


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
    """What a job has done so far: in a folder, or in memory. Safe to use from several threads."""

    def began(self, row: Row) -> None:
        """The row is about to be asked: until it is recorded it may have been paid for."""
        ...

    def record(self, result: BulkResult) -> None:
        """The row is done, for good: it returns once another process would find it."""
        ...

    def is_done(self, row: Row) -> bool:
        """Whether it was answered. Raises `JobError` where another row stood at its position."""
        ...

    def results(self) -> Iterator[BulkResult]:
        """What is done, failures included, in the order of the input."""
        ...


class Limits(Protocol):
    """How many requests may be in flight, by target. No I/O; called under the dispatcher's lock."""

    def wait_s(self, target: str, now: float) -> float | None:
        """0: one more may start; seconds: not before then; None: not before another one has ended."""
        ...

    def started(self, target: str, now: float) -> None: ...

    def ended(self, target: str, now: float, took_s: float, outcome: ChatCompletion | LlamaClientError) -> None: ...


class OutputWriter(Protocol):
    """Writes all results of a job in the order of the input, whole or not at all."""

    def write(self, path: Path, results: Iterator[BulkResult]) -> None: ...
