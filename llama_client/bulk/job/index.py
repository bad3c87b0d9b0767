"""Where the line of each row stands in the journal: fixed records by position, so that memory does not grow with rows.

It only repeats what the journal says, and is made again from it after a process was killed.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, NamedTuple

_MAGIC = b"bulkidx1"
# The magic, whether it was closed, the sizes of results.jsonl and failures.jsonl, and how many rows of each kind.
_HEADER = struct.Struct("<8sQQQQQ")
_HEADER_BYTES = 64
# The digest of the row; the line's offset, and in the topmost bits what it is.
_RECORD = struct.Struct("<8sQ")
_ANSWERED, _FAILED = 1 << 62, 2 << 62
_OFFSET = (1 << 62) - 1


class Entry(NamedTuple):
    digest: bytes
    offset: int
    is_failure: bool


class Index:
    """The records of one file. Not safe to use from several threads at once.

    Attributes:
        answered: How many rows are answered.
        failed: How many have failed, and were not answered since.
        is_current: Whether it says all that the journal does; else it is empty, and has to be made again.
    """

    def __init__(self, path: Path, sizes: tuple[int, int]) -> None:
        self.answered = self.failed = 0
        self._file: IO[bytes] = open(path, "r+b" if path.exists() else "w+b", buffering=0)  # noqa: SIM115
        try:
            self.is_current = self._is_current(sizes)
            if not self.is_current:
                self._file.truncate(0)
            self._write_header(is_closed=False, sizes=(0, 0))
        except BaseException:
            self._file.close()
            raise

    @property
    def end(self) -> int:
        """One more than the last position with a record."""
        return max(self._file.seek(0, 2) - _HEADER_BYTES, 0) // _RECORD.size

    def get(self, position: int) -> Entry | None:
        self._file.seek(_HEADER_BYTES + position * _RECORD.size)
        record = self._file.read(_RECORD.size)
        if len(record) < _RECORD.size:
            return None
        digest, value = _RECORD.unpack(record)
        if not value:
            return None
        return Entry(digest, value & _OFFSET, bool(value & _FAILED))

    def set(self, position: int, digest: bytes, offset: int, *, is_failure: bool) -> bool:
        """Whether it was a failure before."""
        before = self.get(position)
        self._file.seek(_HEADER_BYTES + position * _RECORD.size)
        self._file.write(_RECORD.pack(digest, offset | (_FAILED if is_failure else _ANSWERED)))
        if before is not None:
            self._count(is_failure=before.is_failure, by=-1)
        self._count(is_failure=is_failure, by=1)
        return before is not None and before.is_failure

    def close(self, sizes: tuple[int, int] | None) -> None:
        """Closes it: with the journal's sizes, or None where it may not say all that the journal does."""
        try:
            if sizes is not None:
                self._write_header(is_closed=True, sizes=sizes)
        finally:
            self._file.close()

    def _count(self, *, is_failure: bool, by: int) -> None:
        if is_failure:
            self.failed += by
        else:
            self.answered += by

    def _is_current(self, sizes: tuple[int, int]) -> bool:
        header = self._file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return sizes == (0, 0)
        magic, is_closed, results, failures, self.answered, self.failed = _HEADER.unpack(header)
        if magic == _MAGIC and is_closed and (results, failures) == sizes:
            return True
        self.answered = self.failed = 0
        return False

    def _write_header(self, *, is_closed: bool, sizes: tuple[int, int]) -> None:
        header = _HEADER.pack(_MAGIC, int(is_closed), *sizes, self.answered, self.failed)
        self._file.seek(0)
        self._file.write(header.ljust(_HEADER_BYTES, b"\0"))
