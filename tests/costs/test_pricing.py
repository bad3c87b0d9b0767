"""What a call costs: whose price holds on its day, which tokens are charged, and what is said where nobody knows."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact, localcontext
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, ChatCompletion, InvalidRequestError, InvalidResponseError, LlamaClient
from llama_client.catalog.prices import ListPrices
from llama_client.costs.money import Calendar
from llama_client.costs.prices import FREE, HourPrice, PriceBook
from llama_client.routing.request_size import RequestSize
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import GROQ, OLLAMA, OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, head, streamed
from llama_client.types.request import check_request
from tests.routing.asking import MODES, ask, ask_all, broken_after, failing, timed

DAY = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
PRICE = {"target": "x/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "cached_usd_per_mtok": 0.25}


@dataclass(frozen=True)
class Seller:
    """A provider, as far as its prices depend on it."""

    name: str
    kind: str
    url: str | None = None
    usd_per_hour: Decimal | None = None


@dataclass(frozen=True)
class SellersByName:
    """Providers by name."""

    sellers: dict[str, Seller]
    list_prices: ListPrices = field(default_factory=ListPrices.bundled)

    def kind(self, name: str) -> str:
        return self.sellers[name].kind

    def url(self, name: str) -> str | None:
        return self.sellers[name].url

    def usd_per_hour(self, name: str) -> Decimal | None:
        return self.sellers[name].usd_per_hour


def book(*rows: dict[str, Any], zone: str = "UTC", **sellers: Seller) -> PriceBook:
    from llama_client.config.schema import read_config

    config = read_config({"prices": list(rows)}, origin="test")
    known = {name: Seller(name, name) for name in ("groq", "together", "ollama")} | sellers
    return PriceBook(config.prices, SellersByName(known), Calendar(zone))


def price_of(found: Any) -> tuple[str, str, str] | None:
    return (
        None if found is None else (str(found.input_usd_per_mtok), str(found.output_usd_per_mtok), found.origin.source)
    )


def told(usage: dict[str, Any], *, text: str = "Hello", **more: Any) -> Any:
    """A server that says this of its tokens."""

    def answer(request: Received) -> Answer:
        streams = request.json.get("stream", False)
        if streams or not more:
            return OPENAI.good(streams=streams, text=text, usage=usage)
        return as_json({**OPENAI.whole(text), "usage": usage, **more})

    return answer


def configuration(server: WireServer, *prices: dict[str, Any], **tables: Any) -> dict[str, Any]:
    providers = {"x": {"kind": "openai", "base_url": f"{server.url}/v1"}}
    return {
        "default_model": "x/m",
        "providers": providers,
        "prices": list(prices),
        "routing": {"retries": 0},
        "ledger": {"enabled": False},
        **tables,
    }


# Whose price holds


def test_the_users_own_price_wins_over_the_list() -> None:
    own = {"target": "groq/openai/gpt-oss-20b", "input_usd_per_mtok": 0.01, "output_usd_per_mtok": 0.02}
    assert price_of(book(own).price("groq", "openai/gpt-oss-20b", DAY, is_free=False)) == (
        "0.01",
        "0.02",
        "the configuration",
    )
    assert price_of(book().price("groq", "openai/gpt-oss-20b", DAY, is_free=False)) == (
        "0.075",
        "0.30",
        "litellm 1.109.1; genai-prices 0.2.3",
    )


def test_our_list_wins_over_the_package_where_they_disagree() -> None:
    found = book().price("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", DAY, is_free=False)
    assert found is not None
    assert found.parts(1_000_000, 0).usd == Decimal("1.04")  # type: ignore[union-attr]
    assert found.origin.doubt is not None
    assert found.origin.effective_from == date(2026, 6, 1)


def test_the_package_knows_what_our_list_does_not() -> None:
    found = book(x=Seller("x", "openai", "https://api.openai.com/v1")).price("x", "gpt-5", DAY, is_free=False)
    assert found is not None
    assert found.origin.source.startswith("genai-prices ")
    parts = found.parts(1000, 100, 400)  # type: ignore[union-attr]
    # $1.25, $0.125 and $10 for a million.
    assert (parts.input_usd, parts.cached_usd, parts.output_usd) == (
        Decimal("0.00075"),
        Decimal("0.00005"),
        Decimal("0.001"),
    )


def test_a_model_that_only_looks_like_a_known_one_is_priced_with_a_doubt() -> None:
    prices = book(x=Seller("x", "openai", "https://api.anthropic.com/v1"))
    same, other = (
        prices.price("x", model, DAY, is_free=False)
        for model in ("claude-haiku-4-5-20251001", "claude-haiku-4-5-of-mine")
    )
    assert same is not None
    assert other is not None
    assert (same.origin.doubt, other.origin.doubt) == (None, "the price is that of claude-haiku-4-5")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "http://localhost/v1", "http://gpu-box/v1", "http://10.0.0.7/v1", None]
)
def test_nobody_knows_what_a_server_nearby_costs(url: str | None) -> None:
    assert book(x=Seller("x", "openai", url)).price("x", "gpt-5", DAY, is_free=False) is None


def test_an_unknown_model_has_no_price() -> None:
    assert book().price("groq", "of-tomorrow", DAY, is_free=False) is None


def test_what_runs_here_is_free_unless_the_user_says_what_it_costs() -> None:
    assert book().price("ollama", "llama3.1:8b", DAY, is_free=True) is FREE
    seller = Seller("ollama", "ollama", usd_per_hour=Decimal("1.99"))
    by_hour = book(ollama=seller).price("ollama", "llama3.1:8b", DAY, is_free=True)
    assert isinstance(by_hour, HourPrice)
    own = {"target": "ollama/llama3.1:8b", "input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.1}
    assert price_of(book(own, ollama=seller).price("ollama", "llama3.1:8b", DAY, is_free=True)) == (
        "0.1",
        "0.1",
        "the configuration",
    )


def test_of_several_rows_the_last_begun_of_the_day_holds() -> None:
    rows = [
        {**PRICE, "input_usd_per_mtok": usd, "effective_from": start, "effective_until": end}
        for usd, start, end in (
            (1, None, None),
            (2, date(2026, 11, 1), None),
            (3, date(2026, 11, 10), date(2026, 11, 20)),
        )
    ]
    prices = book(*rows, x=Seller("x", "openai"))

    def on(*day: int) -> str:
        found = prices.price("x", "m", datetime(*day, tzinfo=UTC).timestamp(), is_free=False)  # type: ignore[arg-type, misc]
        return str(found.input_usd_per_mtok)  # type: ignore[union-attr]

    assert [on(2026, 10, 31), on(2026, 11, 1), on(2026, 11, 10), on(2026, 11, 20)] == ["1", "2", "3", "2"]


def test_a_price_begins_at_midnight_of_the_users_time_zone() -> None:
    rows = [{**PRICE, "effective_until": date(2026, 11, 24)}, {**PRICE, "effective_from": date(2026, 11, 24)}]
    rows[1]["input_usd_per_mtok"] = 9
    prices = book(*rows, zone="America/New_York", x=Seller("x", "openai"))
    for hour, usd in ((4, "1"), (5, "9")):
        found = prices.price("x", "m", datetime(2026, 11, 24, hour, 0, 1, tzinfo=UTC).timestamp(), is_free=False)
        assert str(found.input_usd_per_mtok) == usd  # type: ignore[union-attr]


def test_a_tier_has_its_own_price_or_the_usual_one_with_a_doubt() -> None:
    rows = [PRICE, {**PRICE, "input_usd_per_mtok": 0.5, "service_tier": "flex"}]
    prices = book(*rows, x=Seller("x", "openai"))

    def of(tier: str | None) -> str:
        found = prices.price("x", "m", DAY, is_free=False, service_tier=tier)
        return str(found.input_usd_per_mtok)  # type: ignore[union-attr]

    assert [of(None), of("flex"), of("priority")] == ["1", "0.5", "1"]
    listed = book().price("groq", "openai/gpt-oss-20b", DAY, is_free=False, service_tier="flex")
    assert listed is not None
    assert listed.origin.doubt == "no price known for tier 'flex'; the default tier's is used"
    usual = book().price("groq", "openai/gpt-oss-20b", DAY, is_free=False, service_tier="on_demand")
    assert usual is not None
    assert usual.origin.doubt is None


def test_the_package_knows_tiers() -> None:
    prices = book(x=Seller("x", "openai", "https://api.openai.com/v1"))
    usual, flex = (prices.price("x", "gpt-5", DAY, is_free=False, service_tier=tier) for tier in ("default", "flex"))
    assert usual is not None
    assert flex is not None
    assert flex.parts(1000, 1000).usd * 2 == usual.parts(1000, 1000).usd  # type: ignore[union-attr]
    assert (usual.origin.doubt, flex.origin.doubt) == (None, None)


def test_prices_ask_nobody_start_no_thread_and_are_imported_only_when_needed() -> None:
    script = """
import sys, threading
from llama_client import LlamaClient
def refuse(*_): raise AssertionError("a socket")
import socket; socket.socket.connect = refuse
client = LlamaClient({"ledger": {"enabled": False}})
prices = client._context.accounting.prices
import time
assert prices.price("groq", "openai/gpt-oss-20b", time.time(), is_free=False) is not None
assert "genai_prices" not in sys.modules
assert prices.price("groq", "moonshotai/kimi-k2-instruct", time.time(), is_free=False) is not None
assert "genai_prices" in sys.modules
# The one that imports ends by itself.
[each.join(10) for each in threading.enumerate() if each.name == "llama-client-import"]
assert threading.active_count() == 1, threading.enumerate()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


# Which tokens are charged


@pytest.mark.parametrize("mode", MODES)
def test_input_cached_input_and_output_are_priced_each_and_add_up(mode: str) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "total_tokens": 1200,
        "prompt_tokens_details": {"cached_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 150},
    }
    with WireServer(told(usage)) as server:
        cost = ask(configuration(server, PRICE), mode).cost
    # Reasoning is part of the answer, and cached tokens are part of the prompt: neither is paid for twice.
    assert (cost.input_usd, cost.cached_usd, cost.output_usd) == (
        Decimal("0.0006"),
        Decimal("0.0001"),
        Decimal("0.0004"),
    )
    assert (cost.usd, cost.status, cost.source) == (Decimal("0.0011"), "exact", "the configuration")


def test_reasoning_that_is_not_counted_as_answer_is_paid_for_too() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "total_tokens": 130,
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    with WireServer(told(usage)) as server:
        assert ask(configuration(server, PRICE), "call-sync").cost.output_usd == Decimal("0.00024")


def test_the_tier_that_was_served_is_the_one_that_is_paid() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
    rows = [PRICE, {**PRICE, "input_usd_per_mtok": 0.5, "service_tier": "flex"}]
    with WireServer(told(usage, service_tier="flex")) as server:
        assert ask(configuration(server, *rows), "call-sync").cost.usd == Decimal("0.000502")


@pytest.mark.parametrize("mode", MODES)
def test_without_a_price_the_cost_is_unknown_and_never_nothing(mode: str) -> None:
    with WireServer(told({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})) as server:
        cost = ask(configuration(server), mode).cost
    assert (cost.usd, cost.status, cost.input_usd, cost.output_usd) == (None, "unknown", None, None)


@pytest.mark.parametrize("mode", MODES)
def test_without_usage_the_cost_is_estimated_and_says_so(mode: str) -> None:
    def answer(request: Received) -> Answer:
        streams = request.json.get("stream", False)
        if not streams:
            return as_json({name: value for name, value in OPENAI.whole("x" * 400).items() if name != "usage"})
        return OPENAI.good(streams=True, text="x" * 400)

    with WireServer(answer) as server:
        reply = ask(configuration(server, PRICE), mode)
    assert reply.usage.completion_tokens is None
    assert (reply.cost.status, reply.cost.output_usd) == ("estimated", Decimal("0.0002"))
    guess = reply.attempts[0].estimated_usage
    assert guess is not None
    assert guess.completion_tokens == 100


@pytest.mark.parametrize("mode", MODES)
def test_a_refused_attempt_costs_nothing_and_the_call_costs_what_the_other_one_did(mode: str) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
    with WireServer(lambda _: failing(503)) as down, WireServer(told(usage)) as server:
        config = configuration(server, PRICE)
        config["providers"]["down"] = {"kind": "openai", "base_url": f"{down.url}/v1"}
        reply = ask(config, mode, model=["down/m", "x/m"])
    refused, answered = reply.attempts
    assert refused.cost is not None
    assert (refused.cost.usd, refused.cost.status, refused.cost.source) == (Decimal(0), "exact", "it was refused")
    assert answered.cost is not None
    assert reply.cost == answered.cost
    assert (reply.cost.usd, reply.cost.status) == (Decimal("0.001002"), "exact")


def test_an_attempt_that_was_never_sent_has_no_cost() -> None:
    with WireServer(told({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})) as server:
        config = configuration(server, PRICE)
        config["providers"]["dead"] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}
        reply = ask(config, "call-sync", model=["dead/m", "x/m"])
    assert [attempt.cost is None for attempt in reply.attempts] == [True, False]


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_stream_that_broke_off_costs_what_had_come(mode: str) -> None:
    with WireServer(lambda _: broken_after("x" * 40, "x" * 40)) as server:
        [error] = ask_all(configuration(server, PRICE), mode, 1)
    [attempt] = error.attempts
    assert attempt.cost is not None
    assert (attempt.outcome, attempt.cost.status) == ("interrupted", "estimated")
    assert attempt.cost.output_usd == Decimal("0.00004")
    assert error.partial.cost == attempt.cost


def test_a_stream_that_was_closed_costs_what_had_come() -> None:
    def answer(_: Received) -> Answer:
        return Answer([*broken_after("x" * 40).pieces], "stall")

    with WireServer(answer) as server, LlamaClient(configuration(server, PRICE)) as client:
        stream = client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], stream=True)
        next(stream)
        stream.close()
        [attempt] = stream.partial.attempts
    assert attempt.cost is not None
    assert (attempt.outcome, attempt.cost.status, attempt.cost.output_usd) == (
        "cancelled",
        "estimated",
        Decimal("0.00002"),
    )
    assert attempt.usage is None
    assert attempt.estimated_usage is not None


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_generation_was_paid_for(mode: str) -> None:
    failure = {
        "error": {
            "message": "Failed to call a function.",
            "type": "invalid_request_error",
            "code": "tool_use_failed",
            "failed_generation": "y" * 400,
        }
    }
    with WireServer(lambda _: as_json(failure, status=400)) as server:
        config = configuration(server)
        config["providers"]["x"] = {"kind": "groq", "base_url": server.url, "api_key": "none"}
        config["prices"] = [PRICE]
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
        [error] = ask_all(config, mode, 1, tools=tools)
    cost = error.attempts[0].cost
    assert (cost.status, cost.output_usd) == ("estimated", Decimal("0.0002"))


def test_each_try_is_paid_for() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200}
    with WireServer(told(usage, text="no JSON")) as server:
        from pydantic import BaseModel

        class Form(BaseModel):
            word: str

        config = configuration(server, PRICE) | {"routing": {"retries": 1}}
        with LlamaClient(config) as client, pytest.raises(Exception, match="JSON") as error:
            client.chat.completions.parse(messages=[{"role": "user", "content": "hi"}], response_format=Form)
    assert [attempt.cost.usd for attempt in error.value.attempts] == [Decimal("0.0003")] * 2  # type: ignore[attr-defined]


def test_more_cached_tokens_than_there_are_is_no_exact_cost() -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 1,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 50},
    }
    with WireServer(told(usage)) as server:
        cost = ask(configuration(server, PRICE), "call-sync").cost
    assert cost.status == "estimated"
    assert (cost.input_usd, cost.cached_usd) == (Decimal(0), Decimal("0.00000125"))


@pytest.mark.parametrize("mode", MODES)
def test_no_tokens_at_all_beside_an_answer_is_no_count(mode: str) -> None:
    with WireServer(told({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})) as server:
        cost = ask(configuration(server, PRICE), mode).cost
    assert cost.status == "estimated"
    assert cost.usd
    assert cost.usd > 0


def test_usage_that_is_counted_along_is_not_the_whole_where_the_answer_is_stopped() -> None:
    def answer(_: Received) -> Answer:
        counting = json.loads(OPENAI.text("x" * 40)[6:]) | {"usage": {"prompt_tokens": 9, "completion_tokens": 1}}
        return Answer([*streamed([OPENAI.event(counting)] * 2, "stall").pieces], "stall")

    with WireServer(answer) as server, LlamaClient(configuration(server, PRICE)) as client:
        stream = client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], stream=True)
        next(stream)
        next(stream)
        stream.close()
        [attempt] = stream.partial.attempts
    assert attempt.cost is not None
    assert (attempt.cost.status, attempt.cost.output_usd) == ("estimated", Decimal("0.00004"))
    assert attempt.cost.input_usd == Decimal("0.000009")


@pytest.mark.parametrize("mode", MODES)
def test_a_program_that_reckons_with_few_digits_changes_nothing(mode: str) -> None:
    usage = {"prompt_tokens": 1_234_567, "completion_tokens": 7_654_321, "total_tokens": 8_888_888}
    with WireServer(told(usage)) as server, localcontext(Context(prec=2, traps=[Inexact])):
        cost = ask(configuration(server, PRICE), mode).cost
    assert str(cost.usd) == "16.543209"


# Age


def test_a_list_price_that_was_not_checked_for_long_warns() -> None:
    fake = FakeClock()

    def answer(request: Received) -> Answer:
        return GROQ.good(streams=False)

    with WireServer(answer) as server:
        sync, _ = timed(fake)
        config = {"providers": {"groq": {"base_url": server.url, "api_key": "none"}}, "ledger": {"enabled": False}}
        fake.now += datetime(2027, 1, 22, tzinfo=UTC).timestamp() - fake.clock.wall()
        with sync(config) as client:
            assert client.ask("hi", model="groq/openai/gpt-oss-20b").warnings == []
            fake.now += 86_400
            [warning] = client.ask("hi", model="groq/openai/gpt-oss-20b").warnings
    assert warning.startswith("cost: the list price of groq/openai/gpt-oss-20b was last checked on 2026-11-23, 61 days")


# Machines by the hour


def test_the_time_of_a_machine_is_shared_among_those_who_use_it_at_once() -> None:
    fake = FakeClock()
    # The time passes while all three are at work.
    at_work = threading.Barrier(3, action=lambda: fake.turn(30), timeout=60)

    def answer(request: Received) -> Answer:
        at_work.wait()
        return OLLAMA.good(streams=False)

    with WireServer(answer) as server:
        config = {
            "default_model": "ollama/m",
            "providers": {"ollama": {"base_url": server.url, "usd_per_hour": 3600}},
            "ledger": {"enabled": False},
        }
        replies = ask_all(config, "call-sync", 3, at_once=3, time=fake)
    costs = [reply.cost for reply in replies]
    assert {cost.status for cost in costs} == {"estimated"}
    assert {cost.source for cost in costs} == {"the time of the machine"}
    # At a dollar a second: all of them together cost the time in which it had work, and each a third of that.
    assert [float(cost.usd) for cost in costs] == [pytest.approx(10.0)] * 3
    assert all(cost.usd == cost.input_usd + cost.cached_usd + cost.output_usd for cost in costs)


def test_watts_and_the_price_of_power_are_a_price_by_the_hour() -> None:
    fake = FakeClock()

    def answer(request: Received) -> Answer:
        fake.turn(20)
        return OLLAMA.good(streams=request.json.get("stream", True))

    with WireServer(answer) as server:
        machine = {"base_url": server.url, "watts": 3_600_000.0, "usd_per_kwh": 1}
        config = {"default_model": "ollama/m", "providers": {"ollama": machine}, "ledger": {"enabled": False}}
        [reply] = ask_all(config, "stream-sync", 1, time=fake)
    cost = reply.cost
    # 3,600 kWh an hour at a dollar each: a dollar a second. What passed before the first word is the prompt's.
    assert float(cost.usd) == float(cost.input_usd) == pytest.approx(20.0)


def test_a_machine_that_failed_had_the_time_all_the_same() -> None:
    fake = FakeClock()

    def answer(_: Received) -> Answer:
        fake.turn(10)
        return as_json({"error": "out of memory"}, status=500)

    with WireServer(answer) as server:
        machine = {"base_url": server.url, "usd_per_hour": 3600}
        config = {"providers": {"ollama": machine}, "ledger": {"enabled": False}, "routing": {"retries": 0}}
        [error] = ask_all(config, "call-sync", 1, time=fake, model="ollama/m")
    assert "out of memory" in str(error)
    [attempt] = error.attempts
    assert attempt.cost.status == "estimated"
    assert float(attempt.cost.usd) == pytest.approx(10.0)


# An event loop does not import


def test_an_event_loop_does_not_wait_for_the_package_of_prices() -> None:
    script = """
import asyncio, sys, threading
from llama_client import AsyncLlamaClient
where = []
import builtins
real = builtins.__import__
def noting(name, *rest, **more):
    if name == "genai_prices":
        where.append(threading.current_thread() is threading.main_thread())
    return real(name, *rest, **more)
builtins.__import__ = noting
async def main():
    providers = {"x": {"kind": "openai", "base_url": "https://api.openai.invalid/v1", "api_key": "k"}}
    config = {"providers": providers, "ledger": {"enabled": False}, "routing": {"retries": 0}}
    async with AsyncLlamaClient(config) as client:
        try:
            await client.ask("hi", model="x/gpt-5", timeout=5)
        except Exception as error:
            print(type(error).__name__)
asyncio.run(main())
assert where and not any(where), where
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


async def _async_answer(server: WireServer) -> ChatCompletion:
    async with AsyncLlamaClient(configuration(server, PRICE)) as client:
        return await client.ask("hi")


def test_an_answer_that_cannot_be_read_was_paid_for() -> None:
    def answer(_: Received) -> Answer:
        body = b'{"choices": [{'
        return Answer([head(200, {"content-type": "application/json", "content-length": str(len(body))}) + body])

    with WireServer(answer) as server, pytest.raises(InvalidResponseError) as error:
        asyncio.run(_async_answer(server))
    [attempt] = error.value.attempts
    assert attempt.cost is not None
    assert attempt.cost.status == "estimated"
    assert attempt.cost.usd
    assert attempt.cost.usd > 0


def test_where_the_ledger_is_off_nothing_is_written(tmp_path: Path, clean_home: Path) -> None:
    with WireServer(told({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})) as server:
        ask(configuration(server, PRICE), "call-sync")
    assert not list(clean_home.rglob("ledger.db*"))


# Before anything is sent


def test_what_a_call_will_cost_is_estimated_before_it_is_sent() -> None:
    with WireServer(told({})) as server, LlamaClient(configuration(server, PRICE)) as client:
        estimate = client.estimate_cost("x" * 4000, max_tokens=1000)
        count = client.count_tokens("x" * 4000)
        free = client.estimate_cost("hi", "ollama/llama3.1:8b")
        unknown = client.estimate_cost("hi", "x/other")
    assert server.requests == []
    assert (count.tokens, count.status) == (1004, "estimated")
    assert count.most_tokens >= 4000
    assert (estimate.target, estimate.status, estimate.source) == ("x/m", "estimated", "the configuration")
    assert (estimate.input_tokens, estimate.output_tokens) == (1004, 1000)
    assert estimate.usd == Decimal("0.003004")
    assert estimate.most_usd == Decimal(count.most_tokens + 2 * 1000) / 1_000_000
    assert (str(free.usd), str(free.most_usd), free.status) == ("0", "0", "free")
    assert (unknown.usd, unknown.most_usd, unknown.status) == (None, None, "unknown")


# Longer in NFC or NFKC, one by the order of its marks; or shorter.
NORMALISED = ["\U0001d160", "\u0344", "\u0958", "\ufdfa", "\u00e4\u0323", "\u1100\u1161\u11a8", "\uff21\u3300"]


# Without backslashes: pytest escapes given ids once more each time it runs in a process, as mutmut has it do.
@pytest.mark.parametrize("text", NORMALISED, ids=[" ".join(f"U+{ord(c):04X}" for c in text) for text in NORMALISED])
def test_the_bound_holds_for_vocabularies_that_normalise_first(text: str) -> None:
    tool = {"type": "function", "function": {"name": "f", "description": text * 500}}
    bytes_at_most = max(len(unicodedata.normalize(form, text * 500).encode()) for form in ("NFC", "NFKC"))
    with LlamaClient({"default_model": "ollama/m"}) as client:
        assert client.count_tokens(text * 500).most_tokens >= bytes_at_most
    size = RequestSize(check_request({"messages": [{"role": "user", "content": "hi"}], "tools": [tool]}, stream=False))
    assert size.most_input_tokens >= bytes_at_most


def test_the_bound_of_other_texts_is_their_bytes() -> None:
    with LlamaClient({"default_model": "ollama/m"}) as client:
        empty = client.count_tokens(" ").most_tokens - 1
        for text in ("ü" * 100, "안녕하세요" * 100, "你好" * 100, "Tiếng Việt" * 100, "👩‍🚀" * 100):
            assert client.count_tokens(text).most_tokens == empty + len(text.encode())


def test_an_asynchronous_client_estimates_too() -> None:
    async def run() -> tuple[str, int]:
        async with AsyncLlamaClient(configuration(server, PRICE)) as client:
            return (await client.estimate_cost("hi", max_tokens=5)).status, (await client.count_tokens("hi")).tokens

    with WireServer(told({})) as server:
        assert asyncio.run(run()) == ("estimated", 4)


@pytest.mark.parametrize("messages", [5, [], [{"role": "x"}]])
def test_what_is_no_prompt_has_no_estimate(messages: Any) -> None:
    with LlamaClient({"default_model": "ollama/m"}) as client:
        with pytest.raises(InvalidRequestError, match="messages"):
            client.count_tokens(messages)
        with pytest.raises(InvalidRequestError, match="messages"):
            client.estimate_cost(messages)
