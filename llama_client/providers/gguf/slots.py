"""Which slot of an engine reads a prompt: one that has read the same beginning with the same adapters.

llama.cpp chooses by the beginning alone, and then reads the whole prompt again where the slot had other adapters. So
where requests choose adapters the slot is set here; elsewhere its own choice, by tokens, is better.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class _Slot:
    """What a slot has read last; empty at first."""

    adapters: Any = None
    messages: tuple[Any, ...] = ()
    used_at: int = 0

    def shared(self, adapters: Any, messages: list[Any]) -> int:
        """How many messages at the beginning it has read already."""
        if self.adapters != adapters:
            return 0
        pairs = enumerate(zip(self.messages, messages, strict=False))
        return next((number for number, (old, new) in pairs if old != new), min(len(self.messages), len(messages)))


class Slots:
    """Not safe to share between threads: for an engine under its lock."""

    def __init__(self, number: int) -> None:
        self._slots = [_Slot() for _ in range(number)]
        self._uses = 0

    def choose(self, body: dict[str, Any], taken: Collection[int | None]) -> int | None:
        """The slot for a request, of those that are not taken; None: llama.cpp chooses.

        `taken`: of each request that runs its slot, None where llama.cpp has chosen that: it may be any.
        """
        adapters, messages = body.get("lora"), body.get("messages", [])
        if adapters is None or body.get("n", 1) > 1 or "id_slot" in body or None in taken:
            return None
        free = [number for number in range(len(self._slots)) if number not in taken]
        # Where nothing is shared, the one that was used the longest time ago: first those that never were.
        chosen = max(free, key=lambda each: (self._slots[each].shared(adapters, messages), -self._slots[each].used_at))
        self._uses += 1
        self._slots[chosen] = _Slot(adapters, tuple(messages), self._uses)
        return chosen
