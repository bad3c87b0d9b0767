"""Parquet files and Arrow tables in memory, read by batches. Needs the extra `bulk` (pyarrow)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from llama_client.bulk.inputs.files import InputFile
from llama_client.bulk.inputs.tables import Record, Unit
from llama_client.errors import InvalidRequestError, MissingExtraError
from llama_client.imports import ready

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_MAGIC = b"PAR1"
# Of a batch: small enough for memory where a row holds a document, large enough for pyarrow to be quick.
_BATCH_ROWS = 512
_BUFFER_BYTES = 2**20


def pyarrow_for(what: str) -> Any:
    """The package, imported; `what` needs it.

    Raises:
        MissingExtraError: It is not installed.
    """
    ready("pyarrow", "pyarrow.parquet")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(f'{what} needs pyarrow: pip install "llama-client[bulk]"', extra="bulk") from error
    return pyarrow


class ParquetTable:
    """A Parquet file, of which a part of a row group is in memory at a time."""

    unit: Unit = "row"
    is_replayable = True

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self.name = file.name
        self._arrow = pyarrow_for(f"{file.name}: Parquet")
        with file.opened_whole() as handle:
            try:
                parquet = self._arrow.parquet.ParquetFile(handle)
                self.schema: pa.Schema = readable_schema(parquet.schema_arrow, self._arrow)
                self._rows: int = parquet.metadata.num_rows
            except (self._arrow.ArrowException, OSError, ValueError) as error:
                raise file.wrong(f"is no Parquet file, or damaged or cut ({_short(error)}); write it again") from error
        self.columns = column_names(self.schema.names, self.name)

    def count(self) -> int | None:
        return self._rows

    def records(self) -> Generator[Record]:
        with self._file.opened_whole() as handle:
            # Without pre-buffering, pages of a large row group are decoded as they are asked for.
            parquet = self._arrow.parquet.ParquetFile(handle, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            batches = parquet.iter_batches(batch_size=_BATCH_ROWS, use_threads=False)
            yield from numbered(batches, self.schema, self.name, self._arrow)


class ArrowTable:
    """What gives its rows through the Arrow PyCapsule interface: pyarrow's and polars' tables, streams of batches."""

    unit: Unit = "row"

    def __init__(self, source: Any) -> None:
        kind = type(source).__name__
        self._arrow = pyarrow_for(f"a {kind} as input")
        self._source = source
        self.name = f"a {kind}"
        # A reader of batches gives them once.
        self.is_replayable = not hasattr(source, "read_next_batch")
        schema = source.schema if isinstance(getattr(source, "schema", None), self._arrow.Schema) else None
        if schema is None:
            schema = self._arrow.RecordBatchReader.from_stream(source).schema
        self.schema: pa.Schema = readable_schema(schema, self._arrow)
        self.columns = column_names(self.schema.names, self.name)

    def count(self) -> int | None:
        rows = getattr(self._source, "num_rows", None)
        if rows is None:
            rows = getattr(self._source, "height", None)
        return rows if isinstance(rows, int) else None

    def records(self) -> Generator[Record]:
        # A table in memory is one batch, of which slices cost nothing.
        batches = (
            batch.slice(start, _BATCH_ROWS)
            for batch in self._arrow.RecordBatchReader.from_stream(self._source)
            for start in range(0, batch.num_rows, _BATCH_ROWS)
        )
        yield from numbered(batches, self.schema, self.name, self._arrow)


def column_names(names: list[str], source: str) -> tuple[str, ...]:
    """The names, if they are fit to be columns."""
    for at, name in enumerate(names):
        if not name.strip():
            raise InvalidRequestError(f"{source}: column {at + 1} has no name; name it")
        if name in names[:at]:
            raise InvalidRequestError(f"{source}: two columns are named {name!r}; rename one")
    return tuple(names)


def readable_schema(schema: pa.Schema, arrow: Any) -> pa.Schema:
    """The types of the values that are read: microseconds for nanoseconds, and values for places in a dictionary."""
    # Python's dates have no nanoseconds, and pyarrow would import pandas for them.
    types = arrow.types
    fields = []
    for field in schema:
        kind = field.type
        if types.is_dictionary(kind):
            kind = kind.value_type
            field = field.with_type(kind)
        if types.is_timestamp(kind) and kind.unit == "ns":
            field = field.with_type(arrow.timestamp("us", kind.tz))
        elif types.is_duration(kind) and kind.unit == "ns":
            field = field.with_type(arrow.duration("us"))
        elif types.is_time64(kind) and kind.unit == "ns":
            field = field.with_type(arrow.time64("us"))
        fields.append(field)
    return arrow.schema(fields)


def numbered(batches: Iterator[Any], schema: pa.Schema, name: str, arrow: Any) -> Iterator[Record]:
    number = 0
    try:
        for batch in batches:
            rows = _cast(batch, schema, arrow).to_pylist()
            for values in rows:
                number += 1
                yield Record(number, values)
    except (arrow.ArrowException, ValueError, OverflowError, UnicodeDecodeError) as error:
        place = f"{name}, after row {number}"
        raise InvalidRequestError(f"{place}: cannot be read ({_short(error)}); write the table again") from error


def _cast(batch: Any, schema: pa.Schema, arrow: Any) -> Any:
    if batch.schema.types == schema.types:
        return batch
    columns = [column.cast(field.type, safe=False) for column, field in zip(batch.columns, schema, strict=True)]
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
