"""The short form of `dropped`."""

from __future__ import annotations

import pytest

from tests.chaos.dropped import WAYS, run


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wire", ["builtin", pytest.param("httpx", marks=pytest.mark.long)])
def test_streams_that_are_dropped_in_cycles_hang_nothing_and_are_all_in_the_books(
    wire: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    assert run(100, 4, wire, way) == []
