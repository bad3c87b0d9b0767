"""Results as Parquet, with typed columns. Needs the extra `bulk` (pyarrow)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_client.bulk.inputs.answers import Kind
from llama_client.bulk.inputs.arrow import pyarrow_for, readable_schema
from llama_client.bulk.inputs.memory import PandasTable
from llama_client.bulk.inputs.tables import OnceTable
from llama_client.bulk.outputs.columns import Columns, columns_of
from llama_client.bulk.outputs.records import as_text, unicode_text
from llama_client.bulk.outputs.whole_files import whole_file
from llama_client.errors import JobError

if TYPE_CHECKING:
    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.bulk.results import BulkResult

_BATCH_ROWS = 512
# Of a row group: readers want them large, and one is in memory while it is written.
_GROUP_BYTES = 4 * 2**20
_PICO = Decimal("1e-12")


class ParquetWriter:
    """Writes Parquet: input columns with their types, the answer's by the schema, `usd` as a decimal of 12 places."""

    def __init__(self, rows: RowsInput, *, replace: bool) -> None:
        self._rows = rows
        self._replace = replace
        self._arrow = pyarrow_for("Parquet")

    def write(self, path: Path, results: Iterator[BulkResult], *, claim: Callable[[], object] | None = None) -> None:
        arrow = self._arrow
        with (
            whole_file(path, replace=self._replace, claim=claim) as file,
            columns_of(self._rows, results, path.resolve().parent) as columns,
        ):
            schema = self._schema(columns)
            forms = [FORMS.get(kind) for kind in self._kinds(columns)]
            with arrow.parquet.ParquetWriter(file, schema) as writer:
                batches: list[Any] = []
                for batch in self._batches(columns, schema, forms):
                    batches.append(batch)
                    if sum(each.nbytes for each in batches) >= _GROUP_BYTES:
                        writer.write_table(arrow.Table.from_batches(batches, schema))
                        batches = []
                if batches:
                    writer.write_table(arrow.Table.from_batches(batches, schema))

    def _kinds(self, columns: Columns) -> list[Kind | None]:
        return [*columns.given.values(), *(field.kind for field in columns.added)]

    def _schema(self, columns: Columns) -> Any:
        arrow = self._arrow
        types = arrow_types(arrow)
        own = self._own_types()
        fields = [
            arrow.field(name, own.get(name, arrow.string()) if kind is None else types[kind])
            for name, kind in columns.given.items()
        ]
        return arrow.schema([*fields, *(arrow.field(field.name, types[field.kind]) for field in columns.added)])

    def _own_types(self) -> dict[str, Any]:
        """The types that the columns of the input have by themselves."""
        table = self._rows.table
        table = table.of if isinstance(table, OnceTable) else table
        schema = getattr(table, "schema", None)
        if schema is not None:
            return dict(zip(schema.names, schema.types, strict=True))
        if isinstance(table, PandasTable):
            return {name: self._pandas_type(table.frame, at) for at, name in enumerate(table.columns)}
        return {}

    def _pandas_type(self, frame: Any, at: int) -> Any:
        arrow = self._arrow
        try:
            found = readable_schema(arrow.Schema.from_pandas(frame.iloc[:, at : at + 1], preserve_index=False), arrow)
        except (arrow.ArrowException, TypeError, ValueError):
            # Objects of several kinds.
            return arrow.string()
        kind = found.types[0]
        # What pandas has types of its own for (periods, intervals) is text elsewhere.
        return arrow.string() if arrow.types.is_null(kind) or isinstance(kind, arrow.BaseExtensionType) else kind

    def _batches(self, columns: Columns, schema: Any, forms: list[Form | None]) -> Iterator[Any]:
        names = list(columns.given)
        rows: list[list[Any]] = []
        for values, ours in columns.records:
            rows.append([*(values.get(name) for name in names), *ours])
            if len(rows) >= _BATCH_ROWS:
                yield self._batch(rows, schema, forms)
                rows = []
        if rows:
            yield self._batch(rows, schema, forms)

    def _batch(self, rows: list[list[Any]], schema: Any, forms: list[Form | None]) -> Any:
        arrays = []
        for field, form, values in zip(schema, forms, zip(*rows, strict=True), strict=True):
            if form is None and field.type == self._arrow.string():
                form = _text
            try:
                arrays.append(arrow_array(self._arrow, field.type, form, values))
            except (self._arrow.ArrowException, OverflowError, TypeError, ValueError) as error:
                raise JobError(
                    f"column {field.name!r} holds a value that Parquet's type {field.type} has not "
                    f"({str(error).splitlines()[0]:.100}); write to .jsonl or .csv instead: the job keeps its results"
                ) from error
        return self._arrow.RecordBatch.from_arrays(arrays, schema=schema)


def arrow_types(arrow: Any) -> dict[Kind, Any]:
    """The types of columns that a job adds."""
    return {
        "text": arrow.string(),
        "json": arrow.string(),
        "integer": arrow.int64(),
        "number": arrow.float64(),
        "boolean": arrow.bool_(),
        "money": arrow.decimal128(38, 12),
    }


def arrow_array(arrow: Any, kind: Any, form: Form | None, values: Any) -> Any:
    """A column. Raises what pyarrow does where a value is not of the type."""
    if form is not None:
        values = [_formed(form, each) for each in values]
    if all(isinstance(each, str | None) for each in values):
        # Dates and amounts are texts where a job kept the rows of what can be read once.
        return arrow.array(values, arrow.string()).cast(kind)
    return arrow.array(values, type=kind)


Form = Callable[[Any], Any]


def _formed(form: Form, value: Any) -> Any:
    return None if value is None else form(value)


def _text(value: Any) -> str:
    return unicode_text(as_text(value))


def _money(value: Any) -> Decimal:
    # A text where it was written aside.
    usd = Decimal(value)
    exponent = usd.as_tuple().exponent
    return usd.quantize(_PICO) if isinstance(exponent, int) and exponent < -12 else usd


FORMS: dict[Kind | None, Form] = {"text": _text, "json": _text, "number": float, "money": _money}
