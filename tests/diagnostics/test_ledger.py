"""What the doctor says of a ledger that is damaged, locked, slow, newer, or written to while it is looked at."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.costs.filling import Spent, fill
from tests.diagnostics.conftest import Doctor, ledger, of


@pytest.fixture(autouse=True)
def ledger_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)


def damaged(file: Path) -> None:
    fill(file, [Spent(f"a/{number}", "0.5") for number in range(300)])
    data = bytearray(file.read_bytes())
    data[8192 : len(data) // 2] = b"\xff" * (len(data) // 2 - 8192)
    file.write_bytes(data)


def no_database(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database at all, but long enough to be taken for one" * 100)


@pytest.mark.parametrize("harm", [damaged, no_database])
def test_a_damaged_ledger_is_a_problem_and_says_what_to_do_with_it(
    doctor: Doctor, file: Path, harm: Callable[[Path], None]
) -> None:
    harm(file)
    wrong = [f for f in doctor.says(ledger(file)).findings if f.section == "money" and f.status == "problem"]
    assert wrong
    assert all(f"Move {file} away" in str(finding.remedy) for finding in wrong)


class Writers:
    """Others that write to a ledger each time that somebody has begun to look at it as one that stays.

    Args:
        file: The ledger.
        times: How often.
        stays: Whether they keep it open.
    """

    def __init__(self, file: Path, times: int, *, stays: bool) -> None:
        self._file = file
        self._times = times
        self._stays = stays
        self._connect: Callable[..., sqlite3.Connection] = sqlite3.connect
        self.open: list[sqlite3.Connection] = []

    def __call__(self, database: object, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = self._connect(database, *arguments, **options)
        if "immutable" in str(database) and self._times:
            self._times -= 1
            # It has read the first page, and with it how many there are.
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            writer = self._connect(self._file, check_same_thread=False)
            writer.execute("CREATE TABLE IF NOT EXISTS more (text)")
            writer.executemany("INSERT INTO more VALUES (?)", [("x" * 3000,)] * 300)
            writer.execute("DELETE FROM more WHERE rowid % 2 = 0")
            writer.commit()
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
            writer.execute("VACUUM")
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
            if self._stays:
                writer.execute("INSERT INTO more VALUES ('y')")
                writer.commit()
                self.open.append(writer)
            else:
                writer.close()
        return connection


@pytest.fixture
def write_meanwhile(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Has others write to the ledger while it is looked at."""
    begun: list[Writers] = []

    def begin(times: int, *, stays: bool) -> None:
        begun.append(Writers(file, times, stays=stays))
        monkeypatch.setattr(sqlite3, "connect", begun[0])

    yield begin
    for connection in begun[0].open:
        connection.close()


@pytest.mark.parametrize("stays", [True, False], ids=["who goes on", "who has ended"])
@pytest.mark.parametrize("times", [1, 2])
def test_somebody_who_writes_meanwhile_makes_no_ledger_look_damaged(
    doctor: Doctor, file: Path, write_meanwhile: Callable[..., None], times: int, stays: bool
) -> None:
    fill(file, [Spent(f"a/{number}", "0.5") for number in range(3000)])
    write_meanwhile(times, stays=stays)
    report = doctor.says(ledger(file))
    assert of(report, "ledger").status == "ok"
    assert of(report, "ledger_integrity").status == "ok"


def test_a_ledger_that_is_never_still_is_not_called_damaged(
    doctor: Doctor, file: Path, write_meanwhile: Callable[..., None]
) -> None:
    fill(file, [Spent(f"a/{number}", "0.5") for number in range(3000)])
    write_meanwhile(100, stays=False)
    report = doctor.says(ledger(file))
    assert {f.status for f in report.findings if f.section == "money"} <= {"ok", "info", "skipped"}


def test_a_ledger_that_takes_too_long_is_skipped_and_nobody_is_told_to_move_it(
    doctor: Doctor, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(file, [Spent("a/b", "0.5")] * 3000)
    monkeypatch.setattr("llama_client.diagnostics.ledger.QUERY_S", 0.0)
    # So that it is asked early enough whether to go on.
    monkeypatch.setattr("llama_client.costs.inspection._STEPS_BETWEEN_LOOKS", 1)
    found = of(doctor.says(ledger(file)), "ledger")
    assert (found.status, found.remedy) == ("skipped", None)
    assert "took longer than 3 s" in found.message


def test_a_ledger_that_another_has_locked_is_skipped(
    doctor: Doctor, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_client.costs.inspection._BUSY_S", 0.05)
    fill(file, [Spent("a/b", "0.5")])
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE llama_client_unrecorded SET calls = 1")
        found = of(doctor.says(ledger(file)), "ledger")
    assert (found.status, found.remedy) == ("skipped", None)
    assert "locked" in found.message


def test_a_ledger_of_a_newer_version_says_to_upgrade(doctor: Doctor, file: Path) -> None:
    fill(file, [Spent("a/b", "0.5")])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE llama_client_schema SET version = 99, understood_from = 98")
        connection.commit()
    found = of(doctor.says(ledger(file)), "ledger")
    assert (found.status, found.remedy) == ("problem", "Run `pip install --upgrade llama-client`.")


def test_a_ledger_of_a_newer_version_that_is_still_understood_is_told(doctor: Doctor, file: Path) -> None:
    fill(file, [Spent("a/b", "0.5")])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE llama_client_schema SET version = 99")
        connection.commit()
    report = doctor.says(ledger(file))
    assert (of(report, "ledger").status, of(report, "ledger_schema").status) == ("ok", "info")


def a_folder(file: Path) -> None:
    file.mkdir(parents=True)


def below_a_file(file: Path) -> None:
    file.parent.write_text("a file where a folder should be")


@pytest.mark.parametrize("harm", [a_folder, below_a_file])
def test_a_ledger_that_cannot_be_written_is_a_problem(doctor: Doctor, file: Path, harm: Callable[[Path], None]) -> None:
    harm(file)
    found = of(doctor.says(ledger(file)), "ledger")
    assert found.status == "problem"
    assert "ledger.url" in str(found.remedy)
