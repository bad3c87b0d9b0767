"""Files of any length are read and written in constant memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llama_client.bulk.inputs.opening import open_input
from llama_client.bulk.outputs.writers import writer_of
from llama_client.bulk.results import BulkResult
from tests.bulk.answered import completion

_MIB = 2**20
_TEXT = "The parcel is late again. "


def _csv(path: Path, lines: int, text: str) -> None:
    with path.open("w") as file:
        file.write("id,text\n")
        file.writelines(f"{at},{text}\n" for at in range(lines))


def _json_lines(path: Path, lines: int, text: str) -> None:
    with path.open("w") as file:
        file.writelines(f'{{"id": {at}, "text": "{text}"}}\n' for at in range(lines))


def _parquet(path: Path, lines: int, text: str) -> None:
    # In one row group, as pandas writes a table.
    pq.write_table(pa.table({"id": range(lines), "text": pa.array(repeat(text, lines))}), path, row_group_size=lines)


_WRITERS = {"csv": _csv, "jsonl": _json_lines, "parquet": _parquet}


_PAIRS = [(source, ending) for source in _WRITERS for ending in _WRITERS]
_IN_THE_GATE = [("csv", "csv"), ("jsonl", "parquet"), ("parquet", "jsonl")]
# The fewer lines, the longer they are: 10 MB at least, were they kept.
_CASES = [
    *((*pair, 4000, 2500) for pair in _IN_THE_GATE),
    *(pytest.param(*pair, 200_000, 200, marks=pytest.mark.long) for pair in _PAIRS),
]


@pytest.mark.parametrize(("source", "ending", "lines", "chars"), _CASES)
def test_reading_and_writing_take_a_few_mebibytes_however_many_lines(
    tmp_path: Path, source: str, ending: str, lines: int, chars: int
) -> None:
    _WRITERS[source](tmp_path / f"a.{source}", lines, (_TEXT * chars)[:chars])
    answer = completion("Yes")

    def results() -> Iterator[BulkResult]:
        return (BulkResult(row, answer) for row in rows.rows())

    # What modules keep is no part of it.
    rows = open_input(tmp_path / f"a.{source}", prompt="Sort: {text}", limit=1)
    writer_of(tmp_path / f"first.{ending}", rows).write(tmp_path / f"first.{ending}", results())
    path = tmp_path / f"o.{ending}"
    tracemalloc.start()
    try:
        arrow_before = pa.total_allocated_bytes()
        rows = open_input(tmp_path / f"a.{source}", prompt="Sort: {text}")
        writer_of(path, rows).write(path, results())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows.count() == lines
    assert sum(1 for _ in open_input(path, prompt="{text}").rows()) == lines
    assert most < 5 * _MIB
    assert pa.total_allocated_bytes() - arrow_before < _MIB
