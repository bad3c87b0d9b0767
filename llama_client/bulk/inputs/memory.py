"""Rows from memory: a pandas DataFrame, and any iterable of dicts, texts or lists of messages."""

from __future__ import annotations

import io
from collections.abc import AsyncIterable, Generator, Iterable, Mapping, Set, Sized
from itertools import chain
from typing import Any

from llama_client.bulk.inputs.arrow import column_names
from llama_client.bulk.inputs.json_lines import kind_of
from llama_client.bulk.inputs.tables import Record, Unit
from llama_client.bulk.inputs.values import plain
from llama_client.errors import InvalidRequestError, JobError


def is_pandas(source: object) -> bool:
    """Whether it is a pandas DataFrame. Only its class is looked at: pandas is not imported."""
    return any(
        each.__name__ == "DataFrame" and each.__module__.partition(".")[0] == "pandas" for each in type(source).__mro__
    )


class PandasTable:
    """A pandas DataFrame. Its index is no column."""

    name = "a DataFrame"
    unit: Unit = "row"
    is_replayable = True

    def __init__(self, frame: Any) -> None:
        self.frame = frame
        labels = list(frame.columns)
        if any(isinstance(label, tuple) for label in labels):
            raise InvalidRequestError("a DataFrame: its columns have several levels; give them one: df.columns = [...]")
        self.columns = column_names([str(label) for label in labels], self.name)

    def count(self) -> int | None:
        return len(self.frame)

    def records(self) -> Generator[Record]:
        for number, values in enumerate(self.frame.itertuples(index=False, name=None), 1):
            yield Record(number, dict(zip(self.columns, map(plain, values), strict=True)))


class IterableTable:
    """Any iterable. An iterator gives its rows once."""

    unit: Unit = "item"
    columns: tuple[str, ...] | None = None

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = source
        iterator = iter(source)
        self.is_replayable = iterator is not source
        self.name = "an iterable" if self.is_replayable else "an iterator"
        # Only the first item of an iterator is read before its rows are: it tells what all are.
        self._iterator = None if self.is_replayable else iterator
        self._is_read = False

    def count(self) -> int | None:
        return len(self._source) if self.is_replayable and isinstance(self._source, Sized) else None

    def first(self) -> Record | None:
        """The first record, which is given again by `records`."""
        iterator = iter(self._source) if self._iterator is None else self._iterator
        for item in iterator:
            if self._iterator is not None:
                self._iterator = chain((item,), iterator)
            return self._record(1, item)
        return None

    def records(self) -> Generator[Record]:
        if self._iterator is None:
            items: Iterable[Any] = self._source
        elif self._is_read:
            raise JobError(
                "an iterator gives its rows once, and they were read; give a list, a file, "
                "or an object whose __iter__ begins anew"
            )
        else:
            items, self._is_read = self._iterator, True
        for number, item in enumerate(items, 1):
            yield self._record(number, item)

    def _record(self, number: int, item: object) -> Record:
        if isinstance(item, str):
            return Record(number, {"text": str(item)})
        if isinstance(item, list | tuple) and item and all(isinstance(each, Mapping) for each in item):
            return Record(number, {"messages": list(item)})
        if not isinstance(item, Mapping):
            what = "an empty list" if isinstance(item, list | tuple) and not item else kind_of(item)
            raise InvalidRequestError(
                f"{self.name}, item {number}: {what}; each must be a dict, a text or a list of messages"
            )
        for name in item:
            if not isinstance(name, str):
                raise InvalidRequestError(f"{self.name}, item {number}: its key {name!r:.60} must be text")
        return Record(number, {name: plain(value) for name, value in item.items()})


def iterable_table(source: object) -> IterableTable:
    """The table of an iterable.

    Raises:
        InvalidRequestError: It is none, or one whose items are no rows.
    """
    wrong = None
    if isinstance(source, Mapping):
        wrong = "is a mapping, which is one row; give a list of rows: [row]"
    elif isinstance(source, bytes | bytearray | memoryview):
        wrong = "is bytes; write them to a file and give its path"
    elif isinstance(source, io.IOBase):
        wrong = "is an open file; give its path instead"
    elif isinstance(source, Set):
        wrong = "is a set, which has no order, so its rows could not be found again; give sorted(...) of it"
    elif isinstance(source, AsyncIterable):
        wrong = "is an asynchronous iterable; collect it into a list first: [row async for row in ...]"
    elif isinstance(source, type) or not isinstance(source, Iterable):
        wrong = f"is {kind_of(source)}; it must be a path, a DataFrame or an iterable of dicts, texts or message lists"
    if wrong is not None:
        raise InvalidRequestError(f"the input {wrong}")
    assert isinstance(source, Iterable)
    return IterableTable(source)
