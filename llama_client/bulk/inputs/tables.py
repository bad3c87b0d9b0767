"""What every source of rows is read as: a table of records, each with its number."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

Unit = Literal["line", "row", "item"]
"""What the number of a record counts."""


class Record(NamedTuple):
    """One row as it stands in its source.

    Attributes:
        number: Its line in a file of text, otherwise its number, from 1.
        values: Its columns.
    """

    number: int
    values: Mapping[str, Any]


class Table(Protocol):
    """A source of rows."""

    @property
    def name(self) -> str:
        """For people: the file's name, `a DataFrame`, `an iterable`."""
        ...

    @property
    def unit(self) -> Unit: ...

    @property
    def is_replayable(self) -> bool: ...

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns of every record; None: each record has its own."""
        ...

    def count(self) -> int | None:
        """How many records there are; None: that is known at their end only."""
        ...

    def records(self) -> Generator[Record]: ...
