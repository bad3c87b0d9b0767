"""A clock to turn: what of a client goes by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from llama_client import (
    APIConnectionError,
    AsyncLlamaClient,
    BudgetExceededError,
    LlamaClient,
    RateLimitError,
    ServerError,
)
from llama_client.testing import FakeProvider, Reply
from llama_client.testing.clock import FakeClock
from llama_client.testing.ledger import ledger_rows, spent
from llama_client.testing.loopback import Answer, WireServer, as_json, closed_port
from llama_client.testing.seams import client_classes, using
from tests.costs.buying import spending
from tests.routing.asking import failing, in_turn

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def ledger_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    clock = FakeClock(datetime(2026, 11, 18, 12, tzinfo=BERLIN))
    with using(clock=clock):
        yield clock


def limited(seconds: int) -> Answer:
    return as_json({"error": {"message": "slow down"}}, status=429, headers={"retry-after": str(seconds)})


def config(server: WireServer, **tables: Any) -> dict[str, Any]:
    return {
        "default_model": "paid/m",
        "timezone": "Europe/Berlin",
        "providers": {"paid": {"kind": "openai", "base_url": f"{server.url}/v1"}},
        "prices": [{"target": "paid/m", "input_usd_per_mtok": 0, "output_usd_per_mtok": 1}],
        "routing": {"retries": 0, "breaker_failures": 2, "breaker_cooldown_s": 30},
        "ledger": {"url": "memory"},
        **tables,
    }


def test_a_breaker_that_opened_tries_again_after_its_cooldown(clock: FakeClock) -> None:
    with WireServer(in_turn(failing(500), failing(500), None)) as server, LlamaClient(config(server)) as client:
        for _ in range(2):
            with pytest.raises(ServerError):
                client.ask("hi")
        assert client.health()["paid/m"].breaker == "open"
        clock.turn(29.9)
        assert client.health()["paid/m"].breaker == "open"
        clock.turn(0.2)
        assert client.health()["paid/m"].breaker == "half-open"
        assert client.ask("hi").text
        assert client.health()["paid/m"].breaker == "closed"


def test_a_retry_after_an_hour_takes_no_time(clock: FakeClock) -> None:
    answers = in_turn(limited(3600), None)
    began = clock.moment
    with WireServer(answers) as server, LlamaClient(config(server, routing={"deadline_s": 7200})) as client:
        assert client.ask("hi").text
        assert clock.slept == [3600.0]
        assert [row.outcome for row in ledger_rows(client)] == ["error", "ok"]
        second = ledger_rows(client)[1].at
    assert second - began == timedelta(hours=1)


def test_a_budget_of_the_day_begins_anew_at_midnight_of_its_time_zone(clock: FakeClock) -> None:
    tables = {"budgets": [{"usd": 0.001, "window": "day"}]}
    with WireServer(spending(900)) as server, LlamaClient(config(server, **tables)) as client:
        client.ask("hi", max_tokens=1000)
        clock.turn_to(datetime(2026, 11, 18, 23, 59, 59, tzinfo=BERLIN))
        with pytest.raises(BudgetExceededError) as refused:
            client.ask("hi", max_tokens=1000)
        assert refused.value.resets_at is not None
        clock.turn_to(refused.value.resets_at)
        assert clock.moment == datetime(2026, 11, 18, 23, tzinfo=UTC)
        client.ask("hi", max_tokens=1000)
        assert [state.spent_usd for state in client.costs.budgets()] == [Decimal("0.0009")]


def test_a_price_becomes_effective(clock: FakeClock) -> None:
    cheap = {"target": "paid/m", "input_usd_per_mtok": 0, "output_usd_per_mtok": 1, "effective_until": "2026-12-01"}
    dear = {"target": "paid/m", "input_usd_per_mtok": 0, "output_usd_per_mtok": 2, "effective_from": "2026-12-01"}
    with WireServer(spending(1000)) as server, LlamaClient(config(server, prices=[cheap, dear])) as client:
        before = client.ask("hi").cost.usd
        clock.turn_to(datetime(2026, 12, 2, tzinfo=UTC))
        assert (before, client.ask("hi").cost.usd) == (Decimal("0.001"), Decimal("0.002"))
        assert spent(client) == Decimal("0.003")


def test_a_report_by_day_has_the_days_of_the_clock(clock: FakeClock) -> None:
    with WireServer(spending(1000)) as server, LlamaClient(config(server)) as client:
        for _ in range(3):
            client.ask("hi")
            clock.turn(timedelta(days=1))
        days = [group.key for group in client.costs.report(by="day").groups]
        assert days == ["2026-11-18", "2026-11-19", "2026-11-20"]
        assert client.costs.report(since="36h").calls == 1


def test_async_clients_go_by_it_too(clock: FakeClock) -> None:
    async def main() -> None:
        with WireServer(in_turn(limited(60), None)) as server:
            async with AsyncLlamaClient(config(server, routing={"deadline_s": 600})) as client:
                assert (await client.ask("hi")).text

    asyncio.run(main())
    assert clock.slept == [60.0]


def test_a_deadline_passes_in_waits(clock: FakeClock) -> None:
    with WireServer(in_turn(limited(90))) as server:
        with LlamaClient(config(server, routing={"deadline_s": 60})) as client, pytest.raises(RateLimitError):
            client.ask("hi")
    assert clock.slept == []


def test_backoff_takes_no_time(clock: FakeClock) -> None:
    """Where one of these waits were real, the test would end by its timeout."""
    with closed_port() as url:
        providers = {"paid": {"kind": "openai", "base_url": f"{url}/v1"}}
        routing = {"retries": 40, "breaker_failures": 1000, "deadline_s": 86_400}
        tables = {"providers": providers, "default_model": "paid/m", "ledger": {"url": "memory"}, "routing": routing}
        with LlamaClient(tables) as client, pytest.raises(APIConnectionError):
            client.ask("hi")
    assert len(clock.slept) == 40
    assert sum(clock.slept) > 60


def test_threads_turn_it_together() -> None:
    clock = FakeClock()
    before = clock.now
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(clock.sleep, [1.0] * 4000))
    assert len(clock.slept) == 4000
    # As many at once as there are threads.
    assert 500 <= clock.now - before <= 4000


def test_clients_of_a_block_have_it_and_others_have_not(clock: FakeClock) -> None:
    fixed, _ = client_classes(clock=FakeClock(datetime(2030, 1, 1, tzinfo=UTC)))
    with WireServer(spending(1)) as server, LlamaClient(config(server)) as mine, fixed(config(server)) as other:
        mine.ask("hi")
        other.ask("hi")
        assert ledger_rows(mine)[0].at == clock.moment
        assert ledger_rows(other)[0].at.year == 2030


def test_time_does_not_go_back() -> None:
    clock = FakeClock()
    for back in (-1, float("nan"), timedelta(seconds=-1)):
        with pytest.raises(ValueError, match="must be 0 or more"):
            clock.turn(back)
    with pytest.raises(ValueError, match="must not be before 2026-11-18"):
        clock.turn_to(datetime(2026, 11, 17, tzinfo=UTC))


@pytest.mark.parametrize("what", ["at", "moment"])
def test_a_moment_without_a_time_zone_is_refused(what: str) -> None:
    naive = datetime(2026, 11, 18)  # noqa: DTZ001 - that is what is tested
    with pytest.raises(ValueError, match="must have a time zone"):
        FakeClock(naive) if what == "at" else FakeClock().turn_to(naive)


def paced(clock: FakeClock) -> tuple[FakeProvider, dict[str, Any]]:
    """A provider whose answers take a second, in ten pauses; and a configuration."""
    fake = FakeProvider(clock=clock)
    fake.always(Reply(" ".join("abcdefghijk"), pace_s=0.1))
    return fake, {**fake.config(), "ledger": {"enabled": False}}


def test_sleeps_of_threads_overlap() -> None:
    clock = FakeClock()
    before = clock.now
    start = threading.Barrier(4)

    def slept(seconds: float) -> float:
        start.wait()
        began = clock.now
        clock.sleep(seconds)
        return clock.now - began

    with ThreadPoolExecutor(4) as pool:
        lengths = list(pool.map(slept, [3.0, 1.0, 4.0, 2.0]))
    # Whatever the machine does meanwhile, none ends before it is over, and time does not add up where they overlap.
    assert all(length >= wanted for length, wanted in zip(lengths, [3.0, 1.0, 4.0, 2.0], strict=True))
    assert clock.now - before < 10


def test_calls_of_tasks_take_no_longer_together_than_one_of_them() -> None:
    async def main() -> list[float | None]:
        clock = FakeClock()
        fake, config = paced(clock)
        with fake:
            async with AsyncLlamaClient(config) as client:
                await client.ask("hi")
                before = clock.now
                replies = await asyncio.gather(*(client.ask("hi") for _ in range(20)))
                assert clock.now - before == pytest.approx(1)
                return [reply.timing.total_s for reply in replies]

    assert asyncio.run(main()) == [pytest.approx(1)] * 20


def test_a_task_that_is_cancelled_in_its_sleep_holds_up_nobody() -> None:
    async def main() -> float:
        clock = FakeClock()
        before = clock.now
        first = asyncio.create_task(clock.asleep(1))
        second = asyncio.create_task(clock.asleep(3))
        await asyncio.sleep(0)
        first.cancel()
        await second
        return clock.now - before

    assert asyncio.run(main()) == 3
