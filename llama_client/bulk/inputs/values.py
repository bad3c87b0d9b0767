"""Values of tables in memory as Python's own: missing ones are None, numpy's numbers are numbers."""

from __future__ import annotations

from typing import Any

_PLAIN = frozenset((str, int, bool, type(None), dict, list))
# Of pandas, by name: it is never imported here.
_MISSING = frozenset(("NAType", "NaTType"))


def plain(value: Any) -> Any:
    """The value without what is numpy's and pandas' own."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind.__name__ in _MISSING:
        return None
    if isinstance(value, float):
        return None if value != value else float(value)
    if isinstance(value, str):
        return str(value)
    if kind.__module__ == "numpy" and callable(getattr(value, "tolist", None)):
        return plain(value.tolist())
    to_datetime = getattr(value, "to_pydatetime", None)
    if callable(to_datetime):
        # Timestamps of pandas, whose nanoseconds Python's dates do not have.
        return to_datetime(warn=False)
    return value
