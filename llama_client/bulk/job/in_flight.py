"""Which rows were being asked when a process ended: a slot for each row on its way, used again by the next one."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

# The position of the row, plus one: 0 is a slot that was never used.
_SLOT = struct.Struct("<Q")


class InFlight:
    """The slots of one file. Not safe to use from several threads at once."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = open(path, "r+b" if path.exists() else "w+b", buffering=0)  # noqa: SIM115
        self._slots: dict[int, int] = {}
        self._free: list[int] = []

    def earlier(self) -> list[int]:
        """The positions that an earlier process has left in the slots: answered ones among them."""
        self._file.seek(0)
        content = self._file.read()
        content = content[: len(content) // _SLOT.size * _SLOT.size]
        return [position - 1 for (position,) in _SLOT.iter_unpack(content) if position]

    def clear(self) -> None:
        self._file.truncate(0)

    def began(self, position: int) -> None:
        slot = self._slots.get(position)
        if slot is None:
            slot = self._free.pop() if self._free else len(self._slots)
        self._slots[position] = slot
        self._file.seek(slot * _SLOT.size)
        self._file.write(_SLOT.pack(position + 1))

    def ended(self, position: int, *, is_answered: bool = True) -> None:
        """Its slot is free. What stands there is another row's soon; until then it is known to be answered, or not."""
        slot = self._slots.pop(position, None)
        if slot is not None:
            self._free.append(slot)
            if not is_answered:
                # Beside its failure, that would look as if it was being tried again.
                self._file.seek(slot * _SLOT.size)
                self._file.write(_SLOT.pack(0))

    def close(self) -> None:
        self._file.close()
