"""What was committed counts once, also where the answer to the commit is lost and it is done again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama_client import BudgetExceededError, LlamaClient
from llama_client.costs import database as storage
from llama_client.costs import ledger as ledgers
from llama_client.testing.loopback import WireServer
from tests.costs import version1
from tests.costs.buying import MAX_TOKENS, configuration, file_in, kept, outcome, rows, run_statements, spending
from tests.costs.lost_answers import CommitCutter, cutting, lose_answers
from tests.routing.asking import good

COUNT = "SELECT count(*), count(DISTINCT request_id) FROM llama_client_attempts"
SPENT = "SELECT settled_pico, reserved_pico FROM llama_client_spending"
WORST_PICO = 3_500_000_000


@pytest.fixture
def cutter(new_postgres: Callable[[], str]) -> Iterator[CommitCutter]:
    with cutting(new_postgres()) as found:
        yield found


@pytest.fixture
def paid() -> Iterator[WireServer]:
    with WireServer(spending(MAX_TOKENS)) as server:
        yield server


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again soon."""
    monkeypatch.setattr(ledgers, "_FIRST_RETRY_S", 0.05)


def counted(url: str) -> tuple[int, ...]:
    return tuple(rows(url, COUNT)[0])


# The ledger


@pytest.mark.parametrize("lost", [1, 3])
@pytest.mark.parametrize("calls", [1, 12])
def test_rows_whose_commit_was_carried_out_and_not_answered_are_there_once(
    lost: int, calls: int, cutter: CommitCutter, paid: WireServer
) -> None:
    with LlamaClient(configuration(cutter.url, paid)) as client:
        outcome(client)
        client.costs.report()
        cutter.arm(lost)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: outcome(client), range(calls)))
        eventually(lambda: cutter.cuts == lost)
        client.costs.report()
        assert outcome(client) == "0.0035"
        eventually(lambda: client.costs.report().calls >= calls + 2)
        report = client.costs.report()
    assert (report.calls, report.total_usd, report.unrecorded_calls) == (calls + 2, Decimal("0.0035") * (calls + 2), 0)
    assert counted(cutter.url) == (calls + 2, calls + 2)


def test_calls_that_are_not_recorded_are_counted_once(
    cutter: CommitCutter, paid: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "MAX_QUEUED", 3)
    config = configuration(cutter.url, paid)
    with LlamaClient(config) as client:
        outcome(client)
        client.costs.report()
        with psycopg.connect(cutter.url) as holder:
            holder.execute("LOCK TABLE llama_client_attempts IN EXCLUSIVE MODE")
            for _ in range(10):
                outcome(client)
            cutter.arm(2)
            # A commit that wrote nothing would be cut as well.
            holder.rollback()
            eventually(lambda: cutter.cuts == 2)
        eventually(lambda: client.costs.report().calls == 4)
    with LlamaClient(config) as client:
        assert client.costs.report().unrecorded_calls == 7


def test_rows_that_are_written_singly_are_there_once(cutter: CommitCutter, paid: WireServer) -> None:
    config = configuration(cutter.url, paid)
    with LlamaClient(config) as client:
        outcome(client)
        client.costs.report()
        with psycopg.connect(cutter.url, autocommit=True) as other:
            other.execute("ALTER TABLE llama_client_labels ADD CHECK (tags NOT LIKE '%bad%')")
            other.execute("BEGIN")
            other.execute("LOCK TABLE llama_client_attempts IN EXCLUSIVE MODE")
            for name in ("one", "bad", "two"):
                outcome(client, tags={"name": name})
            # The batch is refused, and the first of its rows is written.
            cutter.arm()
            other.execute("ROLLBACK")
        eventually(lambda: cutter.cuts == 1)
        eventually(lambda: client.costs.report().calls == 3)
        report = client.costs.report(by="tag:name")
    assert {group.key: group.calls for group in report.groups} == {"": 1, "one": 1, "two": 1}
    assert report.unrecorded_calls == 1


def test_a_connection_that_was_cut_loses_no_row_of_a_client_that_closes(
    new_postgres: Callable[[], str], paid: WireServer
) -> None:
    url = new_postgres()
    with LlamaClient(configuration(url, paid, ledger={"url": url, "flush_interval_s": 0.5})) as client:
        outcome(client)
        client.costs.report()
        with psycopg.connect(url, autocommit=True) as connection:
            outcome(client)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    assert counted(url) == (2, 2)


@pytest.mark.parametrize("closes", [False, True])
def test_a_commit_that_fails_in_a_file_after_it_was_carried_out_counts_once(
    closes: bool, tmp_path: Path, paid: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = file_in(tmp_path)
    with LlamaClient(configuration(url, paid)) as client:
        outcome(client)
        client.costs.report()
        coming = lose_answers(monkeypatch, [True, True] if not closes else [True])
        outcome(client)
        if not closes:
            eventually(lambda: not coming)
    assert counted(url) == (2, 2)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.booleans(), max_size=12), st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_whichever_commits_lose_their_answers_the_books_balance(
    tmp_path_factory: pytest.TempPathFactory, lost: list[bool], groups: list[int]
) -> None:
    url = file_in(tmp_path_factory.mktemp("books"))
    budgets = [{"usd": 1.0, "window": "total"}, {"usd": 1.0, "window": "day"}]
    with WireServer(spending(350)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledgers, "_FIRST_RETRY_S", 0.01)
        with LlamaClient(configuration(url, server, budgets=budgets)) as client:
            outcome(client)
            coming = lose_answers(patch, lost)
            for calls in groups:
                with ThreadPoolExecutor(calls) as pool:
                    list(pool.map(lambda _: outcome(client), range(calls)))
            coming.clear()
            # What a commit refused, though it was carried out, is released by the next one.
            assert outcome(client) == "0.00035"
            report = client.costs.report()
    calls, distinct = counted(url)
    assert distinct == report.calls == sum(groups) + 2
    assert calls == distinct
    pico = 350_000_000 * len(server.requests)
    assert [tuple(row) for row in rows(url, SPENT)] == [(pico, 0), (pico, 0)]
    assert report.total_usd == Decimal(pico).scaleb(-12)


# Ledgers that hold rows twice

_ROW = """INSERT INTO llama_client_attempts (at_us, request_id, number, label_id, outcome, tokens_are_estimated,
    usd_pico, counts) VALUES ({at_us}, '{request}', {number}, 7, 'ok', 0, {pico}, 7)"""


def test_a_ledger_that_holds_rows_twice_keeps_each_once_and_loses_none(
    ledger_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    label = "INSERT INTO llama_client_labels VALUES (7, NULL, 'a', 'a/m', 'm', '{}')"
    written = [("x", 1, 10), ("y", 1, "NULL"), ("y", 2, 30), ("z", 1, 40)]
    # A batch that was written twice, one row three times; and a row that only has the number of another.
    again = [*written, ("x", 1, 10), ("y", 1, 500)]
    inserts = [_ROW.format(at_us=1, request=a, number=b, pico=c) for a, b, c in [*written, *again]]
    run_statements(ledger_url, [*version1.statements(ledger_url), label, *inserts])
    with WireServer(good()) as server, caplog.at_level(logging.WARNING, "llama_client.ledger"):
        for calls in (5, 5):
            with LlamaClient(kept(server, ledger_url)) as client:
                report = client.costs.report()
            assert (report.calls, report.total_usd) == (calls, Decimal(580).scaleb(-12))
    found = rows(ledger_url, "SELECT request_id, number, usd_pico FROM llama_client_attempts ORDER BY id")
    assert [tuple(row) for row in found] == [("x", 1, 10), ("y", 1, None), ("y", 2, 30), ("z", 1, 40), ("y", 3, 500)]
    said = [record.message.partition(": ")[2] for record in caplog.records]
    assert said == [
        "5 rows were in it twice, and were counted twice; the copies are removed",
        "1 rows had the number of another attempt of their call; they got the next one",
    ]


def test_an_older_program_that_goes_on_writing_is_understood(ledger_url: str) -> None:
    def row(request: str) -> str:
        return _ROW.format(at_us=round(time.time() * 1e6), request=request, number=1, pico=1)

    run_statements(ledger_url, [*version1.statements(ledger_url), row("before")])
    with WireServer(good()) as server, LlamaClient(kept(server, ledger_url)) as client:
        client.ask("hi")
        assert client.costs.report().calls == 2
        lost = f"INSERT INTO llama_client_unrecorded (at_us, calls) VALUES ({round(time.time() * 1e6)}, 2)"
        run_statements(ledger_url, [row("after"), lost, lost])
        report = client.costs.report()
    assert (report.calls, report.unrecorded_calls) == (3, 4)
    assert rows(ledger_url, "SELECT version FROM llama_client_schema")[0][0] == storage.SCHEMA_VERSION


# Budgets


# The first commit is that of a reservation, the second that of its settlement.
@pytest.mark.parametrize("answered", [0, 1])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_reservation_or_settlement_that_was_not_answered_is_applied_once(
    lost: int, answered: int, cutter: CommitCutter, paid: WireServer
) -> None:
    budgets = [{"usd": 1.0, "window": "total"}]
    ledger = {"enabled": False, "url": cutter.url}
    with LlamaClient(configuration(cutter.url, paid, budgets=budgets) | {"ledger": ledger}) as client:
        assert outcome(client) == "0.0035"
        eventually(lambda: [tuple(row) for row in rows(cutter.url, SPENT)] == [(WORST_PICO, 0)])
        cutter.arm(lost, after=answered)
        outcomes = [outcome(client) for _ in range(4)]
        eventually(lambda: cutter.cuts == lost)
        outcomes.append(outcome(client))
    made = outcomes.count("0.0035") + 1
    assert made == len(paid.requests)
    # One cut costs no call; another right after it is a database that fails.
    assert len(outcomes) - outcomes.count("0.0035") <= lost - 1
    assert [tuple(row) for row in rows(cutter.url, SPENT)] == [(made * WORST_PICO, 0)]


def test_what_was_granted_and_not_answered_is_released(cutter: CommitCutter, paid: WireServer) -> None:
    budgets = [{"usd": 0.0035, "window": "total"}]
    config: dict[str, Any] = configuration(cutter.url, paid, budgets=budgets)
    config["ledger"] = {"enabled": False, "url": cutter.url}
    with LlamaClient(config) as client:
        client.costs.budgets()
        # Of the first connection: reading the version, saying that it is alive, and the reservation.
        cutter.arm(after=2)
        with pytest.raises(BudgetExceededError, match="cannot be enforced"):
            client.ask("hi", max_tokens=MAX_TOKENS)
        assert [tuple(row) for row in rows(cutter.url, SPENT)] == [(0, WORST_PICO)]
        assert outcome(client) == "0.0035"
    assert cutter.cuts == 1
    assert [tuple(row) for row in rows(cutter.url, SPENT)] == [(WORST_PICO, 0)]


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds() and time.monotonic() < until:
        threading.Event().wait(0.02)
    assert holds()
