"""What the doctor says of prices, the ledger and budgets; it makes and changes nothing."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from llama_client import LlamaClient
from llama_client.clock import Clock
from llama_client.costs.database import SCHEMA_VERSION, DatabaseLocation, Storage
from llama_client.costs.money import Calendar, to_pico
from llama_client.diagnostics.finding import Finding
from llama_client.testing.loopback import WireServer
from tests.costs.conftest import new_postgres
from tests.costs.filling import Spent, fill
from tests.costs.postgres import PASSWORD
from tests.diagnostics.conftest import Doctor, compatible, ledger, listing, of

__all__ = ["new_postgres"]


@pytest.fixture(autouse=True)
def ledger_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)


def at(year: int, month: int, day: int) -> Clock:
    moment = datetime(year, month, day, tzinfo=UTC).timestamp()
    return Clock(wall=lambda: moment)


def price(doctor: Doctor, text: str) -> Finding:
    return of(doctor.says(text, offline=True), "price")


GROQ = 'default_model = "groq/openai/gpt-oss-20b"\n[providers.groq]\napi_key = "x"\n'


def test_a_list_price_tells_its_age(doctor: Doctor) -> None:
    doctor.clock = at(2026, 11, 25)
    found = price(doctor, GROQ)
    assert (found.status, found.facts["input_usd_per_mtok"], found.facts["age_days"]) == ("ok", "0.075", 2)


def test_a_price_older_than_sixty_days_is_a_warning(doctor: Doctor) -> None:
    doctor.clock = at(2027, 1, 23)
    assert price(doctor, GROQ).status == "warning"
    doctor.clock = at(2027, 1, 22)
    assert price(doctor, GROQ).status == "ok"


def test_one_s_own_price_has_no_age(doctor: Doctor) -> None:
    doctor.clock = at(2028, 1, 1)
    own = "[[prices]]\ntarget = 'groq/openai/gpt-oss-20b'\ninput_usd_per_mtok = 0.1\noutput_usd_per_mtok = 0.2\n"
    assert (price(doctor, GROQ + own).status, price(doctor, GROQ + own).facts["input_usd_per_mtok"]) == ("ok", "0.1")


UNKNOWN = 'default_model = "far/m"\n' + compatible("far", "https://far.example/v1")
BUDGET = "[[budgets]]\nusd = 5\nwindow = 'day'\n"


def test_a_price_that_nobody_knows_is_a_warning_with_what_to_write(doctor: Doctor) -> None:
    found = price(doctor, UNKNOWN)
    assert found.status == "warning"
    assert '[[prices]] with target = "far/m"' in str(found.remedy)


def test_a_budget_makes_an_unknown_price_a_problem(doctor: Doctor) -> None:
    assert price(doctor, UNKNOWN + BUDGET).status == "problem"
    assert price(doctor, UNKNOWN + BUDGET + "on_unpriced = 'allow'\n").status == "warning"


def test_a_server_of_this_machine_without_a_price_is_no_warning(doctor: Doctor) -> None:
    assert price(doctor, 'default_model = "v/m"\n' + compatible("v", "http://127.0.0.1:1")).status == "info"


def test_where_there_is_no_ledger_none_is_made(doctor: Doctor, file: Path, clean_home: Path) -> None:
    before = sorted(clean_home.rglob("*"))
    for text in (ledger(file), ledger(file, BUDGET), None):
        report = doctor.says(text)
        (doctor.folder / "llama-client.toml").unlink(missing_ok=True)
    assert of(report, "ledger").status == "info"
    assert not file.parent.exists()
    assert sorted(clean_home.rglob("*")) == before


def test_a_ledger_is_read_without_a_file_being_touched(doctor: Doctor, file: Path) -> None:
    fill(file, [Spent("a/b", "0.5"), Spent("a/b", None)], lost_calls=3)
    before = {path: path.read_bytes() for path in file.parent.iterdir()}
    report = doctor.says(ledger(file, BUDGET))
    assert {path: path.read_bytes() for path in file.parent.iterdir()} == before
    found = of(report, "ledger")
    assert (found.status, found.facts["rows"], found.facts["schema_version"]) == ("ok", 2, SCHEMA_VERSION)
    assert found.facts["size_bytes"] == file.stat().st_size
    assert str(found.facts["last_row_at"]).startswith(f"{datetime.now(UTC).date()}")
    assert of(report, "ledger_integrity").status == "ok"
    lost = of(report, "ledger_unrecorded")
    assert (lost.status, lost.facts["unrecorded_calls"]) == ("warning", 3)


def test_a_ledger_that_somebody_writes_to_is_read_with_what_is_not_in_the_file_yet(doctor: Doctor, file: Path) -> None:
    fill(file, [Spent("a/b", "0.5")])
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("UPDATE llama_client_unrecorded SET calls = 1")
        writer.execute("INSERT INTO llama_client_unrecorded (at_us, calls) VALUES (1, 7)")
        writer.commit()
        assert file.with_name("ledger.db-wal").exists()
        assert of(doctor.says(ledger(file)), "ledger_unrecorded").facts["unrecorded_calls"] == 7


def spend(file: Path, usd: str, spent: str, on_exceeded: str) -> str:
    """A budget of which so much is spent in this window."""
    with Storage(DatabaseLocation("x", file=file)).connection() as connection, connection.begin():
        start = Calendar("UTC").span("day", time.time()).start
        connection.exec_driver_sql(
            "INSERT INTO llama_client_spending VALUES (?, ?, ?, 0)",
            ('["all", "day"]', start, to_pico(Decimal(spent))),
        )
    return ledger(file, f"[[budgets]]\nusd = {usd}\nwindow = 'day'\non_exceeded = '{on_exceeded}'\n")


@pytest.mark.parametrize(
    ("spent", "on_exceeded", "status"),
    [
        ("0.5", "block", "ok"),
        ("0.8", "block", "warning"),
        ("1", "block", "problem"),
        ("1", "local", "warning"),
        ("1.5", "warn", "warning"),
    ],
)
def test_a_budget_tells_what_is_spent_of_it(
    doctor: Doctor, file: Path, spent: str, on_exceeded: str, status: str
) -> None:
    budget = of(doctor.says(spend(file, "1", spent, on_exceeded)), "budget")
    assert (budget.status, budget.facts["spent_usd"], budget.facts["usd"]) == (status, spent, "1")


@pytest.mark.parametrize(
    ("window", "zone", "is_told"),
    [("day", "Europe/Berlin", False), ("day", "Asia/Kolkata", True), ("month", "Asia/Kolkata", True),
     ("hour", "Asia/Kolkata", False), ("total", "Asia/Kolkata", False)],
)  # fmt: skip
def test_a_budget_that_another_time_zone_has_begun_anew_is_a_warning(
    doctor: Doctor, file: Path, window: str, zone: str, is_told: bool
) -> None:
    noon = datetime(2027, 7, 14, 12, tzinfo=UTC).timestamp()
    doctor.clock = Clock(wall=lambda: noon)
    with Storage(DatabaseLocation("x", file=file)).connection() as connection, connection.begin():
        # Of today and of longer ago; and a budget of other calls.
        for name, calendar, at_s in (
            (f'["all", "{window}"]', Calendar("Europe/Berlin"), noon),
            (f'["all", "{window}"]', Calendar("UTC"), noon - 70 * 86_400),
            (f'["provider:x", "{window}"]', Calendar("UTC"), noon),
        ):
            start = calendar.span(window, at_s).start  # type: ignore[arg-type]
            insert = "INSERT INTO llama_client_spending VALUES (?, ?, 1, 0) ON CONFLICT DO NOTHING"
            connection.exec_driver_sql(insert, (name, start))
    text = f"timezone = '{zone}'\n{ledger(file)}[[budgets]]\nusd = 5\nwindow = '{window}'\n"
    found = [each for each in doctor.says(text).findings if each.check == "budget_timezone"]
    assert [each.status for each in found] == ["warning"] * is_told
    for each in found:
        assert each.subject.startswith("all")
        assert each.facts["timezone"] == zone
        begun = "2027-07-13T22:00:00+00:00" if window == "day" else "2027-06-30T22:00:00+00:00"
        assert each.facts["other_window_start"] == begun
        assert "Set the same timezone" in str(each.remedy)


def test_a_postgres_that_is_not_there_is_a_problem_without_its_password(doctor: Doctor) -> None:
    report = doctor.says(f"[ledger]\nurl = 'postgresql://llama:{PASSWORD}@127.0.0.1:1/books'\n")
    found = of(report, "ledger")
    assert (found.status, found.subject) == ("problem", "postgresql://127.0.0.1/books")
    assert "ledger.url" in str(found.remedy)
    assert PASSWORD not in str(report.as_dict())


def test_a_postgres_is_looked_at_and_nothing_is_made_in_it(doctor: Doctor, new_postgres: Callable[[], str]) -> None:
    import psycopg

    url = new_postgres()
    text = f"[ledger]\nurl = '{url}'\n{BUDGET}"
    assert of(doctor.says(text), "ledger").status == "info"
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    with WireServer(listing("a")), LlamaClient({"ledger": {"url": url}}) as client:
        assert client.costs.report().calls == 0
    report = doctor.says(text)
    assert (of(report, "ledger").status, of(report, "ledger").facts["rows"]) == ("ok", 0)
    assert of(report, "budget").status == "ok"


def test_local_only_forbids_a_ledger_elsewhere(doctor: Doctor) -> None:
    found = of(doctor.says("local_only = true\n[ledger]\nurl = 'postgresql://u@192.0.2.7/b'\n"), "ledger")
    assert (found.status, found.facts["rule"]) == ("problem", "local_only")


@pytest.mark.parametrize(
    ("place", "variables"),
    [
        ("192.0.2.7", {}), ("localhost,192.0.2.7", {}), ("localhost%2C192.0.2.7", {}), ("127.0.0.1%2efar.test", {}),
        ("localhost/b?host=192.0.2.7", {}), ("localhost/b?%68ost=192.0.2.7", {}),
        ("localhost/b?hostaddr=192.0.2.7", {}), ("localhost/b?service=far", {}),
        ("localhost", {"PGHOSTADDR": "192.0.2.7"}), ("", {"PGHOST": "192.0.2.7"}),
        ("localhost", {"PGSERVICE": "far"}),
    ],
)  # fmt: skip
def test_offline_contacts_no_ledger_that_may_be_elsewhere(
    place: str, variables: dict[str, str], doctor: Doctor
) -> None:
    url = f"postgresql://u@{place}" + ("" if "/" in place else "/b")
    found = of(doctor.says(f"[ledger]\nurl = '{url}'\n", variables, offline=True), "ledger")
    assert (found.status, found.message) == ("skipped", "not contacted: --offline")


@pytest.mark.parametrize(
    "place", ["127.0.0.1:1/b", "far.test/b?host=/nowhere", "%2Fnowhere/b", "192.0.2.7:1/b?hostaddr=127.0.0.1"]
)
def test_offline_a_ledger_on_this_machine_is_examined(place: str, doctor: Doctor) -> None:
    found = of(doctor.says(f"[ledger]\nurl = 'postgresql://u@{place}'\n", offline=True), "ledger")
    assert found.status != "skipped"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody who listens and never says anything."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.skipif(sys.platform == "win32", reason="libpq waits in another way there")
def test_a_postgres_that_says_nothing_is_left_behind(doctor: Doctor, silent_port: int) -> None:
    report = doctor.says(f"[ledger]\nurl = 'postgresql://u@127.0.0.1:{silent_port}/b'\n", timeout_s=0.2)
    assert "did not answer within 0.2 s" in of(report, "ledger").message
