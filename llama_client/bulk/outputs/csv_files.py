"""Results as CSV (RFC 4180) or TSV, in UTF-8."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_client.bulk.outputs.columns import columns_of
from llama_client.bulk.outputs.records import as_text, unicode_text
from llama_client.bulk.outputs.whole_files import whole_file

if TYPE_CHECKING:
    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.bulk.results import BulkResult

_NUMBER = re.compile(r"[+-]?\d[\d.,_ ]*(?:[eE][+-]?\d+)?%?")


class CsvWriter:
    """Writes CSV.

    What the model wrote and a spreadsheet would run as a formula begins with `'`: a prompt may hold other people's
    text, which can make a model write one. Columns of the input are written as they came.
    """

    def __init__(self, rows: RowsInput, *, delimiter: str, replace: bool) -> None:
        self._rows = rows
        self._replace = replace
        self._delimiter = delimiter
        self._needs_quotes = re.compile(f'[{delimiter}"\r\n]')

    def write(self, path: Path, results: Iterator[BulkResult], *, claim: Callable[[], object] | None = None) -> None:
        with (
            whole_file(path, replace=self._replace, claim=claim) as file,
            columns_of(self._rows, results, path.resolve().parent) as columns,
        ):
            given, added = list(columns.given), columns.added
            file.write(self._line([*given, *(field.name for field in added)]))
            for values, ours in columns.records:
                cells = [cell(values.get(name)) for name in given]
                cells += [without_formula(cell(value)) for value in ours]
                file.write(self._line(cells))

    def _line(self, cells: list[str]) -> bytes:
        if cells == [""]:
            # An empty line would be no record.
            return b'""\r\n'
        quoted = ['"' + text.replace('"', '""') + '"' if self._needs_quotes.search(text) else text for text in cells]
        return unicode_text(self._delimiter.join(quoted) + "\r\n").encode()


def cell(value: Any) -> str:
    """A value as a field of CSV; a missing one is empty."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, date | time):
        return value.isoformat()
    return as_text(value)


def without_formula(text: str) -> str:
    """The text as a spreadsheet shows it, instead of running it."""
    if text[:1] not in ("=", "+", "-", "@", "\t", "\r") or not text or _NUMBER.fullmatch(text):
        return text
    return f"'{text}"
