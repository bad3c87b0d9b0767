"""The ledger on, as it is for users, in a file of SQLite's or in a PostgreSQL that really runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def ledger_on(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for users."""
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")


@pytest.fixture(scope="session")
def new_postgres() -> Iterator[Callable[[], str]]:
    """Makes an empty database in a server that runs for all tests."""
    from tests.costs.postgres import programs, running

    folder = programs()
    if folder is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed; the gate installs it")
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with running(folder) as server:
        yield server.new_database


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database's address."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    new: Callable[[], str] = request.getfixturevalue("new_postgres")
    return new()
