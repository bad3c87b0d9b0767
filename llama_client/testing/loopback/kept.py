"""What a server that runs for days keeps of what it has seen. No I/O."""

from __future__ import annotations

from typing import TypeVar

_T = TypeVar("_T")
_MOST_KEPT = 10_000


class Kept(list[_T]):
    """The last things that were appended."""

    def append(self, item: _T) -> None:
        if len(self) >= _MOST_KEPT:
            del self[0]
        super().append(item)
