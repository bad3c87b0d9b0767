"""The rows of a part, in a file beside that of its requests: found again by position, without all of them in memory."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from llama_client.bulk.rows import Row, plain_json


def row_line(row: Row) -> bytes:
    """A row as a line that begins with its position."""
    values = [row.position, row.custom_id, row.params, row.columns, row.where]
    return json.dumps(values, ensure_ascii=False, default=plain_json).encode("utf-8", "surrogatepass") + b"\n"


def row_of(line: bytes) -> Row:
    position, custom_id, params, columns, where = json.loads(line.decode("utf-8", "surrogatepass"))
    return Row(position, params, custom_id, columns, where)


class KeptRows:
    """The rows in a file. What is kept in memory is 17 bytes a row.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = sorted(_places(path))
        self.positions = array("q", [position for position, _ in found])
        self._offsets = array("q", [offset for _, offset in found])
        self._is_taken = bytearray(len(found))
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def holds(self, position: int) -> bool:
        return self._index(position) is not None

    def take(self, row_id: str) -> Row | None:
        """The row with an id, once; None: there is none, or it was taken."""
        index = self._index(_position_in(row_id))
        if index is None or self._is_taken[index]:
            return None
        row = self._read(index)
        if row.id != row_id:
            return None
        self._is_taken[index] = 1
        return row

    def left(self) -> Iterator[Row]:
        """The rows that were not taken."""
        return (self._read(index) for index in range(len(self.positions)) if not self._is_taken[index])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _index(self, position: int | None) -> int | None:
        if position is None:
            return None
        index = bisect_left(self.positions, position)
        return index if index < len(self.positions) and self.positions[index] == position else None

    def _read(self, index: int) -> Row:
        if self._file is None:
            self._file = self._path.open("rb")
        self._file.seek(self._offsets[index])
        return row_of(self._file.readline())


def _places(path: Path) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file:
        offset = 0
        for line in file:
            yield int(line[1 : line.index(b",")]), offset
            offset += len(line)


def _position_in(row_id: str) -> int | None:
    text = row_id.partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
