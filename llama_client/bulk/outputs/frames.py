"""Results as columns of the DataFrame that the rows came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_client.bulk.inputs.memory import PandasTable
from llama_client.bulk.outputs.records import record_of
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.bulk.results import BulkResult


class AnsweredFrame:
    """A pandas DataFrame with the answers to its rows: its index, columns and types stay.

    Args:
        rows: The input.

    Raises:
        InvalidRequestError: The input is no pandas DataFrame.
    """

    def __init__(self, rows: RowsInput) -> None:
        table = rows.table
        if not isinstance(table, PandasTable):
            raise InvalidRequestError(
                f"the input is {rows.name}, and only a pandas DataFrame gives one back; run the job to a .parquet file"
            )
        self._answers = rows.answers
        self._frame = table.frame if rows.limit is None else table.frame.iloc[: rows.limit]
        fields = rows.answers.fields(rows.columns)
        self._columns: dict[str, list[Any]] = {field.name: [None] * len(self._frame) for field in fields}

    def add(self, result: BulkResult) -> None:
        """Puts a result where its row is; they may come in any order."""
        values = record_of(result, self._answers).added
        for column, value in zip(self._columns.values(), values, strict=True):
            column[result.row.position] = value

    def made(self) -> Any:
        """A new DataFrame."""
        return self._frame.assign(**self._columns)
