"""`writer_of`: the writer for the name of an output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.bulk.outputs.csv_files import CsvWriter
from llama_client.bulk.outputs.json_lines import JsonLinesWriter
from llama_client.bulk.outputs.parquet import ParquetWriter
from llama_client.bulk.outputs.whole_files import require_writable
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.bulk.contracts import OutputWriter
    from llama_client.bulk.inputs.rows_input import RowsInput

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}


def writer_of(path: Path, rows: RowsInput, *, replace: bool = False) -> OutputWriter:
    """The writer for an output, which is checked before anything is asked.

    Args:
        path: The output's path. Its name must end in `.jsonl`, `.ndjson`, `.csv`, `.tsv` or `.parquet`.
        rows: The input.
        replace: Whether a file that is there is the job's own, and is replaced.

    Returns:
        The writer. Its `write` puts a whole file there, or none.

    Raises:
        InvalidRequestError: The name ends otherwise, or is that of the input.
        JobError: The file exists and is not the job's, or its folder does not exist.
        MissingExtraError: Parquet without the extra `bulk`.

    Example:
        >>> from pathlib import Path
        >>> from llama_client.bulk.inputs.opening import open_input
        >>> from llama_client.bulk.outputs.writers import writer_of
        >>> rows = open_input(["Late again"])
        >>> writer_of(Path("answers.jsonl"), rows).write(Path("answers.jsonl"), iter([]))
    """
    source = rows.path
    if source is not None and path.exists() and path.samefile(source):
        raise InvalidRequestError(f"{path.name} is the input; write the answers to another file")
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        writer: OutputWriter = JsonLinesWriter(rows, replace=replace)
    elif suffix in _DELIMITERS:
        writer = CsvWriter(rows, delimiter=_DELIMITERS[suffix], replace=replace)
    elif suffix in (".parquet", ".pq"):
        writer = ParquetWriter(rows, replace=replace)
    else:
        what = "has no ending" if not suffix else f"ends in {suffix!r}"
        raise InvalidRequestError(f"{path.name} {what}; an output must end in .jsonl, .csv, .tsv or .parquet")
    require_writable(path, replace=replace)
    return writer
