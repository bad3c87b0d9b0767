"""The short form of `mixed`: about 1,000 calls over those phases that need not wait for a disk, a lock or a server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.mixed import Figures, standing
from tests.lengths import values

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and signals of Linux")
CALLS = {
    "wire": 400, "deleted": 150, "replaced": 150, "clock": 150, "fork": 150, "descriptors": 120, "threads": 150,
    "cancelled": 120,
}  # fmt: skip
LONG = ("replaced", "cancelled", "clock")
SEED = 1


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[str, int, bool], Figures]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
        with standing(SEED) as phase:
            yield phase


@pytest.mark.parametrize("name", values(CALLS, long=LONG))
def test_each_call_ends_typed_the_books_balance_and_nothing_leaks(
    name: str, run: Callable[[str, int, bool], Figures], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    figures = run(name, CALLS[name], True)
    print(figures)
    assert figures.problems == []
