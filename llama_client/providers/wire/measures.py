"""Counts and measures in what servers send, which may be anything. No I/O."""

from __future__ import annotations

from typing import TypeGuard

# Beyond it nothing is a measure, and no float could hold it.
_LARGEST = 2**63
# A million million: no answer and no prompt has so many tokens, and sums of what is less fit into any database.
_LARGEST_COUNT = 10**12


def is_measure(value: object) -> TypeGuard[float]:
    """Whether a value is a number that could measure something."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def count(value: object) -> int | None:
    """A value as a count; None where it is none.

    Example:
        >>> count(3), count(3.0), count(True), count(-1), count("3")
        (3, 3, None, None, None)
    """
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(whole, int) or isinstance(whole, bool):
        return None
    return whole if 0 <= whole <= _LARGEST_COUNT else None
