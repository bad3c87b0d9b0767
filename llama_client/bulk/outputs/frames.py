"""Results as a DataFrame, or as a table of pyarrow, for input that is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llama_client.bulk.inputs.memory import PandasTable
from llama_client.bulk.outputs.records import records
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.bulk.results import BulkResult


def frame_of(rows: RowsInput, results: Iterator[BulkResult]) -> Any:
    """The DataFrame that the rows came from, with the answers as columns more: its index and types stay.

    Args:
        rows: The input, a pandas DataFrame.
        results: Its results, in order.

    Returns:
        A new DataFrame; with a limit, of its first rows.

    Raises:
        InvalidRequestError: The input is no pandas DataFrame.
    """
    table = rows.table
    if not isinstance(table, PandasTable):
        raise InvalidRequestError(
            f"the input is {rows.name}, and only a pandas DataFrame gives one back; write to a .parquet or .csv file"
        )
    fields = rows.answers.fields(rows.columns)
    columns: dict[str, list[Any]] = {field.name: [] for field in fields}
    for _, added in records(results, rows.answers, with_ids=False):
        for field, value in zip(fields, added, strict=True):
            columns[field.name].append(value)
    frame = table.frame if rows.limit is None else table.frame.iloc[: rows.limit]
    return frame.assign(**columns)
