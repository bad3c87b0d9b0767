"""Whatever values a ledger's file holds, a report ends in a report or in an error that says what is wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from llama_client import BudgetExceededError, ConfigError, LlamaClient
from llama_client.clock import Clock
from llama_client.config.schema import read_config
from llama_client.costs import database
from llama_client.diagnostics.ledger import examine_ledger
from llama_client.local_only import ConnectionGuard
from llama_client.testing.loopback import WireServer
from tests.costs.buying import configuration, file_in
from tests.costs.filling import Spent, ago, fill
from tests.routing.asking import good

BUDGETS = [{"usd": 5, "window": "total", "scope": "tag:team"}, {"usd": 5, "window": "total"}]
ASKED: dict[str, Callable[[LlamaClient], Any]] = {
    "target": lambda client: client.costs.report(),
    "day": lambda client: client.costs.report(by="day"),
    "tag": lambda client: client.costs.report(by="tag:team"),
    "timeline": lambda client: client.costs.timeline(by="tag:team"),
    "traffic": lambda client: client.costs.traffic(),
    "budgets": lambda client: client.costs.budgets(),
}
# A column, a value that it takes, and what cannot be told then.
ODD = [
    ("attempts", "at_us", "soon", "day timeline traffic"),
    ("attempts", "at_us", 2**62, "day timeline traffic"),
    ("attempts", "at_us", -(2**62), "day timeline traffic"),
    ("attempts", "at_us", b"\x01", "day timeline traffic"),
    ("attempts", "usd_pico", float("-inf"), "day target tag timeline"),
    ("attempts", "input_tokens", float("inf"), "day target tag timeline traffic"),
    ("labels", "tags", "no JSON", "tag timeline"),
    ("labels", "tags", "[]", "tag timeline"),
    ("labels", "tags", "[" * 100_000, "tag timeline"),
    ("labels", "tags", '{"team": 5}', "tag timeline"),
    ("labels", "tags", b"\xff", "tag timeline"),
    ("unrecorded", "calls", "many", ""),
    ("spending", "budget", "no JSON", "budgets"),
    ("spending", "budget", "5", "budgets"),
    ("spending", "settled_pico", "much", "budgets"),
    ("spending", "reserved_pico", b"\x00", "budgets"),
]


def config_of(folder: Path, **more: Any) -> dict[str, Any]:
    provider = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}
    return {"providers": {"a": provider}, "ledger": {"url": file_in(folder)}, "budgets": BUDGETS, **more}


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with two calls, whose columns take any value."""
    file = tmp_path / "ledger.db"
    fill(file, [Spent("a/m", "0.5", tags={"team": "x"}), Spent("a/n", "0.5")], lost_calls=1)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute('INSERT INTO llama_client_spending VALUES (\'["all", "total"]\', 0, 5, 0)')
    return file


def put(file: Path, table: str, column: str, value: object) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(f"UPDATE llama_client_{table} SET {column} = ?", (value,))


@pytest.mark.parametrize(("table", "column", "value", "untold"), ODD, ids=lambda each: ascii(each)[:30])
def test_an_odd_value_makes_a_report_or_an_error_of_ours(
    ledger: Path, table: str, column: str, value: object, untold: str
) -> None:
    put(ledger, table, column, value)
    failed = set()
    with LlamaClient(config_of(ledger.parent)) as client:
        for name, ask in ASKED.items():
            try:
                ask(client).model_dump_json() if name in ("target", "day", "tag", "traffic") else ask(client)
            except ConfigError as error:
                failed.add(name)
                assert error.key == "ledger.url"
                assert "damaged" in str(error)
    assert failed == set(untold.split())


@pytest.mark.parametrize(("table", "column", "value", "untold"), ODD[::3], ids=lambda each: ascii(each)[:30])
def test_the_doctor_tells_of_a_damaged_ledger(
    ledger: Path, table: str, column: str, value: object, untold: str
) -> None:
    put(ledger, table, column, value)
    config = read_config(config_of(ledger.parent), origin="test")
    findings = examine_ledger(config, ConnectionGuard(), Clock(), offline=True)
    (state,) = [finding for finding in findings if finding.check == "ledger"]
    if "budgets" in untold or column == "at_us":
        assert state.status == "problem"
        assert "damaged" in state.message
        assert state.remedy is not None
        assert "Move" in state.remedy
    else:
        assert state.status == "ok"


@pytest.mark.parametrize("value", [None, "two", 1.5, b"\x02"])
def test_a_schema_whose_version_is_no_number_is_told(ledger: Path, value: object) -> None:
    with closing(sqlite3.connect(ledger)) as database, database:
        database.execute("DROP TABLE llama_client_schema")
        database.execute("CREATE TABLE llama_client_schema (version, understood_from)")
        database.execute("INSERT INTO llama_client_schema VALUES (?, 1)", (value,))
    with LlamaClient(config_of(ledger.parent)) as client, pytest.raises(ConfigError, match="damaged"):
        client.costs.report()
    config = read_config(config_of(ledger.parent), origin="test")
    (finding,) = examine_ledger(config, ConnectionGuard(), Clock(), offline=True)
    assert finding.status == "problem"


def test_a_budget_whose_sum_is_no_number_refuses_calls(ledger: Path) -> None:
    put(ledger, "spending", "settled_pico", "much")
    with WireServer(good()) as server:
        values = configuration(file_in(ledger.parent), server, budgets=[{"usd": 5, "window": "total"}])
        with LlamaClient(values) as client, pytest.raises(BudgetExceededError, match=r"cannot be enforced.*damaged"):
            client.ask("hi", max_tokens=5)


def test_a_row_of_a_wrong_clock_does_not_make_a_report_look_at_each_day_between(tmp_path: Path) -> None:
    """Where the clock of a machine stood in 1970, or far ahead."""
    days = [date(1970, 1, 2), ago(1), ago(0), date(9000, 1, 1)]
    fill(tmp_path / "ledger.db", [Spent("a/m", "0.5", day=day) for day in days])
    statements: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        with LlamaClient(config_of(tmp_path)) as client:
            report = client.costs.report(by="day")
            timeline = client.costs.timeline()
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert [group.key for group in report.groups] == [day.isoformat() for day in days]
    assert [day.day for day in timeline] == days
    assert len(statements) < 60


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/St_Johns"])
def test_days_begin_at_midnight_of_the_time_zone(tmp_path: Path, zone: str) -> None:
    """Each day once, with all of its rows, also where two are next to each other."""
    noons = [datetime(2026, 11, 1, 12, tzinfo=UTC) + timedelta(hours=6 * number) for number in range(20)]
    fill(tmp_path / "ledger.db", [Spent("a/m", "1", day=noon.date()) for noon in noons])
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database, database:
        for number, noon in enumerate(noons, start=1):
            at_us = round(noon.timestamp() * 1e6)
            database.execute("UPDATE llama_client_attempts SET at_us = ? WHERE id = ?", (at_us, number))
    with LlamaClient(config_of(tmp_path, timezone=zone)) as client:
        groups = client.costs.report(by="day").groups
    wanted: dict[str, int] = {}
    for noon in noons:
        day = noon.astimezone(ZoneInfo(zone)).date().isoformat()
        wanted[day] = wanted.get(day, 0) + 1
    assert {group.key: group.calls for group in groups} == wanted


def test_a_day_on_which_all_targets_were_skipped_is_in_no_timeline(tmp_path: Path) -> None:
    fill(tmp_path / "ledger.db", [Spent("a/m", "1", day=ago(1)), Spent("a/m", None, day=ago(0))])
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database, database:
        database.execute("UPDATE llama_client_attempts SET counts = 0, outcome = 'skipped' WHERE id = 2")
    with LlamaClient(config_of(tmp_path)) as client:
        assert [day.day for day in client.costs.timeline()] == [ago(1)]


@pytest.mark.parametrize("place", [*range(100, 4096, 333)])
def test_a_file_with_damaged_bytes_is_a_report_or_an_error_of_ours(ledger: Path, place: int) -> None:
    """SQLite's messages quote the damage, which may be no text."""
    content = ledger.read_bytes()
    ledger.write_bytes(content[:place] + b"\xe3p\xff\x00\x07" * 9 + content[place + 45 :])
    with LlamaClient(config_of(ledger.parent)) as client:
        for ask in ASKED.values():
            with suppress(ConfigError):
                ask(client)
    config = read_config(config_of(ledger.parent), origin="test")
    for finding in examine_ledger(config, ConnectionGuard(), Clock(), offline=True):
        assert finding.message


def test_a_file_that_may_only_be_read_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("CREATE TABLE some (thing)")
    waits: list[float] = []
    monkeypatch.setattr("llama_client.costs.database.time.sleep", waits.append)
    with closing(sqlite3.connect(f"file:{tmp_path / 'ledger.db'}?mode=ro", uri=True)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            database._prepare(connection)
    assert waits == []
