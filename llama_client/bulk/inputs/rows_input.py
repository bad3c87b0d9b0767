"""An input whose rows are ready to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from llama_client.bulk.inputs.answers import Answers
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
        self.answers = answers
        self.limit = limit
        self.path = path
        self.name = table.name
        self.is_replayable = table.is_replayable
        self.is_batch = shape.is_batch
        self._shape = shape
        self._count: int | None = None
        row = shape.row(0, first.values, self._where(first.number))
        self.columns = table.columns or tuple(row.columns)
        # A column that appears in a later row alone must not be one of those that the output adds.
        added = () if table.columns else answers.fields(self.columns)
        self._reserved = frozenset(field.name for field in added)
        # Each request is checked once, though its row is read several times.
        self._checked = 1
        _require_valid(row)

    def count(self) -> int | None:
        """How many rows there are; None: that is known only once they have all been read."""
        total = self.table.count() if self._count is None else self._count
        return total if total is None or self.limit is None else min(total, self.limit)

    def rows(self) -> Iterator[Row]:
        """Each row, in order, read as they are asked for.

        Raises:
            InvalidRequestError: A row is broken, or the client would refuse it; the message names its place.
            JobError: The file was changed while it was read, or an iterator is read again.
        """
        shape, reserved, position = self._shape, self._reserved, -1
        with closing(self.table.records()) as records:
            for position, (number, values) in enumerate(islice(records, self.limit)):
                row = shape.row(position, values, self._where(number))
                if not reserved.isdisjoint(row.columns):
                    self._require_no_new(row)
                if position >= self._checked:
                    self._checked = position + 1
                    if shape.has_own_requests:
                        _require_valid(row)
                yield row
        self._count = position + 1

    def _require_no_new(self, row: Row) -> None:
        name = min(self._reserved & row.columns.keys())
        raise InvalidRequestError(
            f"{row.where}: has a column {name!r}, which the first row has not, and which the output adds; "
            "rename it, or give the first row one too"
        )

    def _where(self, number: int) -> str:
        return f"{self.name}, {self.table.unit} {number}"


def _require_valid(row: Row) -> None:
    """Raises where the client would refuse the request."""
    from llama_client.types.request import check_request

    given = {name: value for name, value in row.params.items() if name != "model"}
    try:
        check_request(given, stream=False)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{row.where}: {error}", param=error.param) from error
