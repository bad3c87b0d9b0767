"""Which ids a job's rows have: a hash table in a temporary file, so that memory does not grow with the rows."""

from __future__ import annotations

import struct
import tempfile
from hashlib import blake2b
from typing import IO

# The digest of the id, and the position of its row plus one: 0 is free.
_SLOT = struct.Struct("<16sQ")
_FREE = bytes(_SLOT.size)
_FIRST_SLOTS = 1 << 12
# Slots that are read at once.
_RUN = 16
_FULLEST = 0.6


class SeenIds:
    """Close it."""

    def __init__(self) -> None:
        self._slots = _FIRST_SLOTS
        self._used = 0
        self._file = self._new_table()

    def add(self, custom_id: str, position: int) -> int | None:
        """The position of the row that has this id already; None: none has."""
        if self._used >= self._slots * _FULLEST:
            self._grow()
        digest = blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        at, known = self._find(self._file, self._slots, digest)
        if known is not None:
            return known
        self._put(self._file, at, digest, position)
        self._used += 1
        return None

    def close(self) -> None:
        self._file.close()

    def _new_table(self) -> IO[bytes]:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        try:
            file.truncate(self._slots * _SLOT.size)
        except BaseException:
            file.close()
            raise
        return file

    def _grow(self) -> None:
        old, old_slots, self._slots = self._file, self._slots, self._slots * 4
        try:
            self._file = self._new_table()
        except BaseException:
            self._slots = old_slots
            raise
        with old:
            old.seek(0)
            while block := old.read(_SLOT.size * 4_096):
                for digest, position in _SLOT.iter_unpack(block):
                    if position:
                        at, _ = self._find(self._file, self._slots, digest)
                        self._put(self._file, at, digest, position - 1)

    @staticmethod
    def _put(file: IO[bytes], at: int, digest: bytes, position: int) -> None:
        file.seek(at * _SLOT.size)
        file.write(_SLOT.pack(digest, position + 1))

    @staticmethod
    def _find(file: IO[bytes], slots: int, digest: bytes) -> tuple[int, int | None]:
        """Its slot, or the free one where it belongs; and the position that stands there."""
        at = int.from_bytes(digest[:8], "little") % slots
        while True:
            file.seek(at * _SLOT.size)
            run = file.read(_SLOT.size * _RUN)
            for start in range(0, len(run), _SLOT.size):
                slot = run[start : start + _SLOT.size]
                if slot == _FREE:
                    return at + start // _SLOT.size, None
                if slot.startswith(digest):
                    return at + start // _SLOT.size, _SLOT.unpack(slot)[1] - 1
            at += len(run) // _SLOT.size
            if at >= slots:
                at = 0
