"""Which kind of table a source is: by a file's first bytes and name, or by what an object is."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from llama_client.bulk.inputs.arrow import PARQUET_MAGIC, ArrowTable, ParquetTable
from llama_client.bulk.inputs.csv_files import CsvFile
from llama_client.bulk.inputs.files import InputFile
from llama_client.bulk.inputs.json_lines import JsonLines
from llama_client.bulk.inputs.memory import IterableTable, PandasTable, is_pandas, iterable_table
from llama_client.bulk.inputs.tables import Record, Table
from llama_client.errors import InvalidRequestError

_JSON_LINES = frozenset({".jsonl", ".ndjson", ".jsonlines", ".json", ""})
_DELIMITERS = {".csv": None, ".tsv": "\t", ".tab": "\t"}
_PARQUET = frozenset({".parquet", ".pq"})
_PACKED = frozenset({".gz", ".gzip", ".bz2", ".xz", ".zst", ".zstd"})


def table_of(source: object) -> Table:
    """The table that a source is."""
    if isinstance(source, str | os.PathLike):
        return _file_table(Path(source))
    if is_pandas(source):
        return PandasTable(source)
    if hasattr(source, "__arrow_c_stream__"):
        return ArrowTable(source)
    return iterable_table(source)


def _file_table(path: Path) -> Table:
    file = InputFile(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if file.head.startswith(PARQUET_MAGIC):
        return ParquetTable(file)
    if not file.head:
        raise file.wrong("is empty")
    if suffix in _PARQUET:
        if file.compression is not None:
            raise file.wrong(f"is compressed ({file.compression}); unpack it: Parquet compresses its columns itself")
        raise file.wrong("is no Parquet file: its first bytes are not PAR1")
    if suffix in _DELIMITERS:
        return CsvFile(file, _DELIMITERS[suffix])
    if suffix in _JSON_LINES:
        return JsonLines(file)
    raise file.wrong(f"ends in {suffix!r}; the name must end in .jsonl, .csv, .tsv or .parquet, as the content is")


def first_record(table: Table) -> Record:
    """The first record, which tells what all are."""
    if isinstance(table, IterableTable):
        first = table.first()
    else:
        with closing(table.records()) as records:
            first = next(records, None)
    if first is None:
        raise InvalidRequestError(f"{table.name} has no rows")
    return first
