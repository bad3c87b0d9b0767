"""An input whose rows are ready to be asked, and checked before."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from llama_client.bulk.inputs.answers import Answers
from llama_client.bulk.inputs.duplicates import Duplicate, SeenIds
from llama_client.bulk.inputs.shapes import Shape
from llama_client.bulk.inputs.tables import Record, Table
from llama_client.bulk.rows import Row
from llama_client.errors import InvalidRequestError


class RowsInput:
    """An input whose rows are ready to be asked; see `open_input`.

    Attributes:
        name: For people: the file's name, `a DataFrame`, `an iterable`.
        is_replayable: Whether `rows` can be called again; an iterator's cannot.
        is_batch: Whether it has OpenAI's batch-file shape, which its output then has too.
        columns: The columns of the first row, in order; of a batch file what stands beside the request.
        answers: What the answers are.
        table: Where the records come from.
        path: The file; None: it is none.
        limit: How many rows count at most; None: all.
    """

    def __init__(
        self, table: Table, shape: Shape, answers: Answers, first: Record, limit: int | None, path: Path | None
    ) -> None:
        self.table = table
        self.path = path
        self.answers = answers
        self.limit = limit
        self.name = table.name
        self.is_replayable = table.is_replayable
        self.is_batch = shape.is_batch
        self._shape = shape
        self._count: int | None = None
        row = shape.row(0, first.values, self._where(first.number))
        self.columns = table.columns or tuple(row.columns)
        # A column that appears in a later row alone must not be one of those that the output adds.
        self._reserved = frozenset(field.name for field in answers.fields(self.columns)) if not table.columns else None
        _require_valid(row)

    def count(self) -> int | None:
        """How many rows there are; None: that is known at their end only, or after `check`."""
        total = self._count if self._count is not None else self.table.count()
        return total if total is None or self.limit is None else min(total, self.limit)

    def rows(self) -> Iterator[Row]:
        """Each row, in order, read as they are asked for.

        Raises:
            InvalidRequestError: A row is broken; the message names its place.
            JobError: The file was changed while it was read, or an iterator is read again.
        """
        if self.is_replayable or not self.is_batch:
            yield from self._rows()
            return
        with SeenIds(at_once=True) as seen:
            for row in self._rows():
                found = seen.add(row.custom_id or "", row.position + 1)
                if found is not None:
                    raise self._twice(found)
                yield row

    def check(self) -> int | None:
        """Reads everything once, before anything is asked: broken rows, wrong requests, ids that are there twice.

        Returns:
            How many rows there are; None: an iterator is checked as it is read.

        Raises:
            InvalidRequestError: Something is wrong; the message names its place and the remedy.
            JobError: The file was changed while it was read.
        """
        if not self.is_replayable:
            return None
        count = 0
        with SeenIds(at_once=False) as seen, closing(self._numbered()) as numbered:
            for number, row in numbered:
                count += 1
                if self.is_batch:
                    seen.add(row.custom_id or "", number)
                if self._shape.has_own_requests:
                    _require_valid(row)
            found = seen.first_duplicate() if self.is_batch else None
        if found is not None:
            raise self._twice(found)
        self._count = count
        return count

    def _rows(self) -> Iterator[Row]:
        with closing(self._numbered()) as numbered:
            for _, row in numbered:
                yield row

    def _numbered(self) -> Generator[tuple[int, Row]]:
        first_columns, reserved = self.columns, self._reserved
        with closing(self.table.records()) as records:
            for position, (number, values) in enumerate(islice(records, self.limit)):
                where = self._where(number)
                row = self._shape.row(position, values, where)
                if reserved is not None and not reserved.isdisjoint(row.columns):
                    self._require_no_new(row, reserved, first_columns)
                yield number, row

    def _require_no_new(self, row: Row, reserved: frozenset[str], columns: tuple[str, ...]) -> None:
        name = next(iter(sorted(reserved & row.columns.keys())))
        raise InvalidRequestError(
            f"{row.where}: has a column {name!r}, which the first row has not, and which the output adds; "
            "rename it, or give the first row one too"
        )

    def _where(self, number: int) -> str:
        return f"{self.name}, {self.table.unit} {number}"

    def _twice(self, found: Duplicate) -> InvalidRequestError:
        unit = self.table.unit
        return InvalidRequestError(
            f"{self.name}, {unit} {found.second}: custom_id {found.custom_id!r:.80} is also on {unit} {found.first}; "
            "each must be there once",
            param="custom_id",
        )


def _require_valid(row: Row) -> None:
    """Raises where the client would refuse the request."""
    from llama_client.types.request import check_request

    given = {name: value for name, value in row.params.items() if name != "model"}
    try:
        check_request(given, stream=False)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{row.where}: {error}", param=error.param) from error
