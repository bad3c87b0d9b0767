"""The columns of a table that is written, with their types: known before, or found by writing the records aside."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_client.bulk.inputs.answers import Kind, joined_kind, kind_of_value
from llama_client.bulk.outputs.records import OutputRecord, json_form, records, to_json

if TYPE_CHECKING:
    from llama_client.bulk.inputs.answers import OutputField
    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.bulk.results import BulkResult

_CUSTOM_ID = "custom_id"


class Columns(NamedTuple):
    """The columns of an output.

    Attributes:
        given: The input's, with their types where they were found; None: as the input has them.
        added: Those of the job.
        records: What stands in them.
    """

    given: Mapping[str, Kind | None]
    added: list[OutputField]
    records: Iterator[OutputRecord]


@contextmanager
def columns_of(rows: RowsInput, results: Iterator[BulkResult], folder: Path) -> Iterator[Columns]:
    """The columns of an output; `folder` is where records are put aside."""
    table_columns, is_batch = rows.table.columns, rows.is_batch
    found = records(results, rows.answers, with_ids=is_batch)
    names = (_CUSTOM_ID, *rows.columns) if is_batch else rows.columns
    added = rows.answers.fields(names)
    if table_columns is not None and not is_batch:
        yield Columns(dict.fromkeys(table_columns), added, found)
        return
    with ExitStack() as stack:
        # Beside the output, where there is room for it, and gone with the process.
        aside = stack.enter_context(tempfile.TemporaryFile("w+b", dir=folder, prefix=".bulk-"))
        kinds: dict[str, set[Kind]] = {name: set() for name in names}
        for columns, values in found:
            _note(kinds, columns)
            aside.write(to_json([columns, values]).encode("utf-8", "surrogatepass") + b"\n")
        aside.seek(0)
        again = (OutputRecord(*json.loads(line.decode("utf-8", "surrogatepass"))) for line in aside)
        yield Columns({name: joined_kind(each) for name, each in kinds.items()}, added, again)


def _note(kinds: dict[str, set[Kind]], columns: Mapping[str, Any]) -> None:
    for name, value in columns.items():
        if value is not None:
            plain = value if isinstance(value, str | int | float | list | dict) else json_form(value)
            kinds.setdefault(name, set()).add(kind_of_value(plain))
        elif name not in kinds:
            kinds[name] = set()
