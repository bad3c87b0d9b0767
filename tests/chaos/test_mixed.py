"""The short form of `mixed`: about 1,500 calls over all of its phases."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.mixed import PHASES, Figures, standing
from tests.costs.postgres import programs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and signals of Linux")
CALLS, LEAST = 1500, 60
SEED = 1


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[str, int, bool], Figures]]:
    # In a process of its own, which the tests' environment does not reach until here.
    with standing(SEED) as phase:
        yield phase


@pytest.mark.parametrize("name", PHASES)
def test_each_call_ends_typed_the_books_balance_and_nothing_leaks(
    name: str, run: Callable[[str, int, bool], Figures], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "postgres" and programs() is None and not os.environ.get("CI"):
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    figures = run(name, max(round(CALLS * PHASES[name][1]), LEAST), True)
    print(figures)
    assert figures.problems == []
