"""CSV and TSV: a header, and records whose quoted fields may span lines."""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterator

from llama_client.bulk.inputs.files import MAX_LINE_BYTES, InputFile
from llama_client.bulk.inputs.tables import Record, Unit
from llama_client.errors import InvalidRequestError

# Spreadsheets of countries with a decimal comma write semicolons. Tried only where the header has no comma.
_OTHER_DELIMITERS = (";", "\t", "|")


class CsvFile:
    """A CSV file with a header. A record is named by its first line.

    Args:
        file: The file.
        delimiter: What separates its fields; None: a comma, or what the header has instead of commas.
    """

    unit: Unit = "line"
    is_replayable = True

    def __init__(self, file: InputFile, delimiter: str | None) -> None:
        self._file = file
        self.name = file.name
        self._delimiter = delimiter
        self.columns: tuple[str, ...] = self._header()

    def count(self) -> int | None:
        return None

    def records(self) -> Generator[Record]:
        columns, rows = self.columns, self._rows()
        next(rows, None)
        for number, fields in rows:
            if len(fields) != len(columns):
                raise self._ragged(number, fields)
            yield Record(number, dict(zip(columns, fields, strict=True)))

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The records that are not blank, each with its first line."""
        if csv.field_size_limit() < MAX_LINE_BYTES:
            # The module's own limit, for the whole process, is 128 KiB a field; it holds for no more than its errors.
            csv.field_size_limit(MAX_LINE_BYTES)
        lines = _RecordLines(self._file)
        delimiter = self._delimiter or lines.delimiter()
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            first = lines.begin_record()
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise self._broken(first, lines.number, error) from None
            if fields is None:
                return
            if fields:
                yield first, fields

    def _header(self) -> tuple[str, ...]:
        header = next(self._rows(), None)
        if header is None:
            raise self._file.wrong("is empty; its first line must name the columns")
        number, names = header
        if len(names) == 1 and names[0].lstrip().startswith(("{", "[")):
            raise self._file.wrong("looks like JSON lines; rename it to end in .jsonl")
        for at, name in enumerate(names):
            if not name.strip():
                raise self._file.wrong(
                    f"the header of column {at + 1} is empty; name the column "
                    "(pandas writes its index so: to_csv(..., index=False) leaves it out)",
                    number,
                )
            if name in names[:at]:
                other = names.index(name) + 1
                raise self._file.wrong(f"columns {other} and {at + 1} are both named {name!r}; rename one", number)
        return tuple(names)

    def _ragged(self, number: int, fields: list[str]) -> InvalidRequestError:
        return self._file.wrong(
            f"{len(fields)} fields, and the header has {len(self.columns)}; "
            'a field that contains the delimiter must be in quotes ("...")',
            number,
        )

    def _broken(self, first: int, last: int, error: csv.Error) -> InvalidRequestError:
        why = str(error)
        if "unexpected end of data" in why:
            return self._file.wrong('a quoted field begins in this record and does not end; close it with "', first)
        if "expected after" in why:
            return self._file.wrong(
                'text stands after a closing quote; a quote within a field is written twice (""), '
                "and the field in quotes",
                last,
            )
        if "new-line character" in why:
            return self._file.wrong(
                "a carriage return without a line feed, as old Macs end lines; "
                f"convert the file: tr '\\r' '\\n' < {self.name} > converted-{self.name}",
                last,
            )
        return self._file.wrong(f"not CSV ({why})", last)


class _RecordLines:
    """The lines of a file, as an iterator that knows which record they belong to, and how long that is."""

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self._lines = file.lines()
        self._ahead: tuple[int, str] | None = None
        self._chars = 0
        self._first = 0
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = self._taken()
        self._chars += len(line)
        if self._chars > MAX_LINE_BYTES:
            raise self._file.wrong(
                f'a record longer than {MAX_LINE_BYTES // 2**20} MiB; is a quoted field not closed with "?', self._first
            )
        return line

    def begin_record(self) -> int:
        """The number of the line with which the next record begins."""
        self._chars = 0
        self._first = self.number + 1
        return self._first

    def delimiter(self) -> str:
        """The delimiter of the first line that is not blank, which is the header."""
        while True:
            number, line = next(self._lines, (0, ""))
            if line.strip() or not line:
                break
            self.number = number
        if line:
            self._ahead = (number, line)
        if "," in line:
            return ","
        return next((each for each in _OTHER_DELIMITERS if each in line), ",")

    def _taken(self) -> tuple[int, str]:
        ahead, self._ahead = self._ahead, None
        return next(self._lines) if ahead is None else ahead
