"""Values of a parameter, some of which only `pytest --long` tries."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from tests.asking import MODES


def values(all_of_them: Iterable[Any], *, long: Collection[Any]) -> list[Any]:
    """Arguments for `pytest.mark.parametrize`; those in `long` are marked so."""
    return [pytest.param(value, marks=pytest.mark.long if value in long else []) for value in all_of_them]


# Whole and streamed, sync and async, each once in the gate.
two_modes = pytest.mark.parametrize("mode", values(MODES, long=("call-async", "stream-sync")))
