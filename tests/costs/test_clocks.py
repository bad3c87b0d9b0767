"""Programs that share budgets, and whose clocks, or time zones, differ."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.clock import Clock
from llama_client.costs import budgets as keeper
from llama_client.costs.reservations import Reservation, Reserved, WorstCase
from llama_client.testing.clock import FakeClock
from llama_client.testing.loopback import Answer, Received, WireServer
from llama_client.testing.seams import client_classes
from tests.costs.buying import (
    MAX_TOKENS,
    configuration,
    file_in,
    no_other_writer,
    outcome,
    rows,
    run_statements,
    spending,
)
from tests.routing.asking import broken_after, timed

SPENT = "SELECT settled_pico, reserved_pico FROM llama_client_spending"
OWNERS = "SELECT id, alive_until FROM llama_client_owners"
WORST_PICO = 3_500_000_000
TRUE_PICO = 350_000_000
SECONDS = keeper.DEAD_AFTER_S


def budget(usd: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"usd": usd, "window": "total", **more}


def spent(url: str) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in rows(url, SPENT)]


class Gate:
    """A server that answers a call once it is let."""

    def __init__(self) -> None:
        self.opens = threading.Event()
        self.server = WireServer(self._answer)

    def _answer(self, request: Received) -> Answer:
        self.opens.wait(60)
        return spending(350)(request)  # type: ignore[no-any-return]


@contextmanager
def in_flight(url: str, client_class: type[LlamaClient] = LlamaClient) -> Iterator[Callable[[], str]]:
    """A client with a call in flight; what is given lets it end, and returns its cost."""
    gate = Gate()
    with (
        gate.server,
        client_class(configuration(url, gate.server, budgets=[budget()])) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(outcome, client, timeout=60)

        def end() -> str:
            gate.opens.set()
            return call.result(60)

        try:
            while not gate.server.requests:
                assert not call.done(), call.result()
                time.sleep(0.01)
            yield end
        finally:
            gate.opens.set()


def clock_off_by(seconds: float) -> type[LlamaClient]:
    """A client whose clock differs from this machine's by that much."""

    return client_classes(clock=Clock(wall=lambda: time.time() + seconds))[0]


def settles_at(url: str, settled_pico: int) -> None:
    """Settlements are sent, and not waited for."""
    until = time.monotonic() + 20
    while spent(url) != [(settled_pico, 0)] and time.monotonic() < until:
        time.sleep(0.02)
    assert spent(url) == [(settled_pico, 0)]


@pytest.fixture
def cheap() -> Iterator[WireServer]:
    with WireServer(spending(350)) as server:
        yield server


# Clocks


@pytest.mark.parametrize("seconds", [2 * SECONDS, -2 * SECONDS, 400 * 86_400, -400 * 86_400])
@pytest.mark.parametrize("is_own", [True, False])
def test_a_call_in_flight_settles_at_its_cost_whatever_the_clocks_say(
    seconds: float, is_own: bool, ledger_url: str, cheap: WireServer
) -> None:
    first, second = (clock_off_by(seconds), LlamaClient) if is_own else (LlamaClient, clock_off_by(seconds))
    with in_flight(ledger_url, first) as end:
        for _ in range(2):
            with second(configuration(ledger_url, cheap, budgets=[budget()])) as other:
                assert outcome(other) == "0.00035"
        if not ledger_url.startswith("sqlite"):
            # The clock of the database itself, which is everybody's.
            assert spent(ledger_url) == [(2 * TRUE_PICO, WORST_PICO)]
        assert end() == "0.00035"
    assert spent(ledger_url) == [(3 * TRUE_PICO, 0)]


def test_a_client_that_seemed_dead_goes_on_and_its_costs_take_the_place_of_the_worst_cases(
    ledger_url: str, cheap: WireServer
) -> None:
    with in_flight(ledger_url) as end:
        for _ in range(3):
            # It was suspended for so long; others came and went.
            run_statements(ledger_url, ["UPDATE llama_client_owners SET alive_until = 5"])
            with LlamaClient(configuration(ledger_url, cheap, budgets=[budget()])) as other:
                assert outcome(other) == "0.00035"
        assert spent(ledger_url) == [(3 * TRUE_PICO + WORST_PICO, 0)]
        assert end() == "0.00035"
    assert spent(ledger_url) == [(4 * TRUE_PICO, 0)]
    assert rows(ledger_url, OWNERS) == []
    assert rows(ledger_url, "SELECT * FROM llama_client_presumed") == []


def _child(url: str, server: str) -> None:
    with LlamaClient(configuration(url, budgets=[budget()]) | {"providers": _paid(server)}) as client:
        outcome(client, timeout=60)


def _paid(url: str) -> dict[str, Any]:
    return {"paid": {"kind": "openai", "base_url": f"{url}/v1"}}


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP") or not hasattr(os, "fork"), reason="needs SIGSTOP and fork")
def test_a_process_that_was_stopped_for_long_settles_at_its_cost(ledger_url: str, cheap: WireServer) -> None:
    gate = Gate()
    with gate.server:
        child = os.fork()
        if child == 0:
            try:
                _child(ledger_url, gate.server.url)
            finally:
                os._exit(0)
        while not gate.server.requests:
            time.sleep(0.01)
        # Stopped while it writes, it would keep its lock.
        with no_other_writer(ledger_url) as run_statement:
            os.kill(child, signal.SIGSTOP)
            os.waitpid(child, os.WUNTRACED)
            # So much later.
            run_statement("UPDATE llama_client_owners SET alive_until = alive_until - 3600")
        with LlamaClient(configuration(ledger_url, cheap, budgets=[budget()])) as other:
            assert outcome(other) == "0.00035"
            settles_at(ledger_url, TRUE_PICO + WORST_PICO)
            gate.opens.set()
            os.kill(child, signal.SIGCONT)
            os.waitpid(child, 0)
            assert outcome(other) == "0.00035"
    assert spent(ledger_url) == [(3 * TRUE_PICO, 0)]


def test_an_attempt_of_unknown_cost_stays_at_its_worst_case(ledger_url: str, cheap: WireServer) -> None:
    opens = threading.Event()

    def answer(_: Received) -> Answer:
        opens.wait(60)
        return broken_after("Hel")

    with (
        WireServer(answer) as server,
        LlamaClient(configuration(ledger_url, server, budgets=[budget()])) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(outcome_of_stream, client)
        while not server.requests:
            assert not call.done(), call.result()
            time.sleep(0.01)
        run_statements(ledger_url, ["UPDATE llama_client_owners SET alive_until = 5"])
        with LlamaClient(configuration(ledger_url, cheap, budgets=[budget()])) as other:
            assert outcome(other) == "0.00035"
        opens.set()
        assert call.result(60) == "StreamInterruptedError"
    assert spent(ledger_url) == [(TRUE_PICO + WORST_PICO, 0)]


def outcome_of_stream(client: LlamaClient) -> str:
    try:
        for _ in client.chat.completions.create(
            messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=MAX_TOKENS, timeout=60
        ):
            pass
    except Exception as error:  # noqa: BLE001 - its class is what is wanted
        return type(error).__name__
    return "ok"


def test_what_settles_after_its_client_was_closed_settles_at_its_cost(ledger_url: str, cheap: WireServer) -> None:
    # A stream may end so late, if all of it had arrived.
    with LlamaClient(configuration(ledger_url, cheap, budgets=[budget()])) as client:
        budgets = client._context.accounting.budgets
        assert budgets is not None
        limits, worst = budgets.limits("paid", {}, time.time()), WorstCase(Decimal("0.0035"), Decimal(0), None)
        kept: list[Reservation] = []
        assert isinstance(budgets.reserve("paid/m", limits, worst, kept.append).wait(), Reserved)
    assert spent(ledger_url) == [(WORST_PICO, 0)]
    kept[0].settle(Decimal("0.00035"))
    settles_at(ledger_url, TRUE_PICO)


def test_what_was_presumed_is_forgotten_after_a_month(tmp_path: Path, cheap: WireServer) -> None:
    url = file_in(tmp_path)
    config = configuration(url, cheap, budgets=[budget()])
    with LlamaClient(config) as client:
        assert outcome(client) == "0.00035"
    days = [(f"INSERT INTO llama_client_presumed VALUES ('{age}', 'x', 0, 1, {time.time() - age * 86_400:.0f})", age)
            for age in (1, 29, 31, 400)]  # fmt: skip
    run_statements(url, [statement for statement, _ in days])
    with LlamaClient(config) as client:
        assert outcome(client) == "0.00035"
    assert [row[0] for row in rows(url, "SELECT id FROM llama_client_presumed ORDER BY at DESC")] == ["1", "29"]


# Time zones


NOON = datetime(2027, 7, 14, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def at_noon() -> type[LlamaClient]:
    return clock_off_by(NOON - time.time())


def warnings_of(
    client_class: type[LlamaClient],
    config: dict[str, Any],
    zones: list[str],
    log: pytest.LogCaptureFixture,
    **call: Any,
) -> list[list[str]]:
    """What a program of each time zone logs, one after the other, each with two calls."""
    found = []
    for zone in zones:
        log.clear()
        with client_class(config | {"timezone": zone}) as client:
            for _ in range(2):
                assert outcome(client, **call) == "0.00035"
        found.append([record.message for record in log.records])
    return found


@pytest.mark.parametrize("window", ["day", "month"])
@pytest.mark.parametrize("scope", ["all", "tag:user", "provider:paid"])
def test_time_zones_that_differ_are_said_once(
    scope: str, window: str, ledger_url: str, cheap: WireServer, at_noon: type[LlamaClient],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    config = configuration(ledger_url, cheap, budgets=[budget(window=window, scope=scope)])
    zones = ["Europe/Berlin", "Europe/Berlin", "Europe/Paris", "UTC", "Asia/Kolkata"]
    same, again, alike, utc, india = warnings_of(at_noon, config, zones, caplog, tags={"user": "ann"})
    assert (same, again, alike) == ([], [], [])
    assert [len(utc), len(india)] == [1, 1]
    words = "all a day" if (scope, window) == ("all", "day") else scope
    day = 13 if window == "day" else 30
    month = "07" if window == "day" else "06"
    assert utc[0].startswith(f"budget {words}")
    assert f"begins at 2027-{month}-{day} 22:00 UTC" in utc[0]
    assert "(timezone = 'UTC')" in utc[0]


@pytest.mark.parametrize("window", ["hour", "total"])
def test_windows_that_are_the_same_everywhere_need_no_warning(
    window: str, tmp_path: Path, cheap: WireServer, at_noon: type[LlamaClient], caplog: pytest.LogCaptureFixture
) -> None:
    config = configuration(file_in(tmp_path), cheap, budgets=[budget(window=window)])
    assert warnings_of(at_noon, config, ["Europe/Berlin", "UTC", "Asia/Kolkata"], caplog) == [[], [], []]
    assert len(rows(file_in(tmp_path), SPENT)) == 1


def test_the_days_of_one_time_zone_need_no_warning(
    tmp_path: Path, cheap: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    config = configuration(file_in(tmp_path), cheap, budgets=[budget(window="day"), budget(window="month")])
    # Through both changes of summer time, and the end of a year.
    moments = [datetime(2027, month, day, hour, tzinfo=UTC).timestamp()
               for month, day in [(3, 27), (3, 28), (3, 29), (10, 30), (10, 31), (11, 1), (12, 31)]
               for hour in (1, 12, 23)]  # fmt: skip
    for moment in moments:
        client_class = clock_off_by(moment - time.time())
        assert warnings_of(client_class, config, ["Europe/Berlin"], caplog) == [[]]


def test_a_time_zone_is_said_to_a_program_that_was_there_first(
    tmp_path: Path, cheap: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeClock()
    fake.now += NOON - fake.clock.wall()
    sync, _ = timed(fake)
    config = configuration(file_in(tmp_path), cheap, budgets=[budget(window="day")])
    with sync(config) as first, sync(config | {"timezone": "Asia/Tokyo"}) as second:
        assert outcome(first) == "0.00035"
        assert caplog.records == []
        assert outcome(second) == "0.00035"
        assert [("Asia/Tokyo" in record.message) for record in caplog.records] == [True]
        fake.now += 86_400
        assert [outcome(client) for client in (second, first, second)] == ["0.00035"] * 3
    assert [("(timezone = 'UTC')" in record.message) for record in caplog.records] == [False, True]
    assert Decimal(len(cheap.requests)) * TRUE_PICO == sum(row[0] for row in spent(file_in(tmp_path)))
