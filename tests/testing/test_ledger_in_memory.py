"""A ledger and budgets in memory: all that works on a file works on them, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import weakref
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, BudgetExceededError, ConfigError, LlamaClient
from llama_client.costs import memory_database
from llama_client.testing.ledger import LedgerRow, ledger_rows, spent
from llama_client.testing.loopback import WireServer, as_json
from tests.cli.conftest import run
from tests.costs.buying import MAX_TOKENS, MESSAGES, configuration, outcome, spending

COST = Decimal("0.00035")


@pytest.fixture(autouse=True)
def ledger_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")


@pytest.fixture
def server() -> Any:
    with WireServer(spending(350)) as server:
        yield server


def in_memory(server: WireServer, **tables: Any) -> dict[str, Any]:
    return configuration("memory", server, **tables)


def test_what_was_spent_is_one_short_line(server: WireServer) -> None:
    with LlamaClient(in_memory(server)) as client:
        assert spent(client) == 0
        reply = client.chat.completions.create(messages=MESSAGES, max_tokens=MAX_TOKENS, tags={"team": "a"})
        assert spent(client) == reply.cost.usd == COST
        assert client.costs.report(by="tag:team").groups[0].key == "a"
        [row] = ledger_rows(client)
        assert (row.target, row.outcome, row.output_tokens, row.usd) == ("paid/m", "ok", 350, COST)
        assert row.request_id == reply.request_id
        assert row.tags == {"team": "a"}


def test_async_clients_are_asked_without_await(server: WireServer) -> None:
    async def ask() -> list[LedgerRow]:
        async with AsyncLlamaClient(in_memory(server)) as client:
            await client.chat.completions.create(messages=MESSAGES, max_tokens=MAX_TOKENS)
            assert spent(client) == COST
            assert (await client.costs.report()).total_usd == COST
            return ledger_rows(client)

    assert [row.usd for row in asyncio.run(ask())] == [COST]


def test_an_unknown_price_is_not_a_cost_of_nothing(server: WireServer) -> None:
    with LlamaClient(in_memory(server, prices=[])) as client:
        client.chat.completions.create(messages=MESSAGES)
        assert spent(client) is None
        assert ledger_rows(client)[0].usd is None


def test_a_failed_attempt_is_a_row_too() -> None:
    with WireServer(lambda _: as_json({"error": {"message": "no"}}, status=401)) as server:
        with LlamaClient(in_memory(server)) as client:
            with pytest.raises(Exception, match="no"):
                client.chat.completions.create(messages=MESSAGES)
            [row] = ledger_rows(client)
    assert (row.outcome, row.error, row.http_status) == ("error", "AuthenticationError", 401)


def test_budgets_hold_across_threads_and_views(server: WireServer) -> None:
    """Five worst cases fit; the calls of twenty threads reserve, wait and settle in one database."""
    limit = {"usd": 0.0175, "window": "total"}
    with LlamaClient(in_memory(server, budgets=[limit])) as client, ThreadPoolExecutor(20) as pool:
        view = client.with_options(tags={"team": "b"})
        outcomes = list(pool.map(lambda at: outcome((client, view)[at % 2]), range(100)))
        assert outcomes.count(str(COST)) >= 5
        assert set(outcomes) <= {str(COST), BudgetExceededError.__name__}
        [state] = view.costs.budgets()
        assert (state.spent_usd, state.reserved_usd) == (outcomes.count(str(COST)) * COST, 0)
        assert state.spent_usd == spent(client) <= Decimal("0.0175")


def test_an_exceeded_budget_refuses(server: WireServer) -> None:
    with LlamaClient(in_memory(server, budgets=[{"usd": 0.001, "window": "day"}])) as client:
        with pytest.raises(BudgetExceededError, match="max_tokens = 1000 would fit"):
            client.chat.completions.create(messages=MESSAGES, max_tokens=MAX_TOKENS)
        client.chat.completions.create(messages=MESSAGES, max_tokens=1000)


def test_nothing_is_on_disk(server: WireServer, clean_home: Path) -> None:
    before = sorted(clean_home.rglob("*"))
    with LlamaClient(in_memory(server, budgets=[{"usd": 1, "window": "day"}])) as client:
        client.chat.completions.create(messages=MESSAGES, max_tokens=MAX_TOKENS)
        assert client.costs.report().calls == 1
        assert sorted(clean_home.rglob("*")) == before
    assert sorted(clean_home.rglob("*")) == before


def test_each_client_has_its_own(server: WireServer) -> None:
    with LlamaClient(in_memory(server)) as first, LlamaClient(in_memory(server)) as second:
        first.chat.completions.create(messages=MESSAGES, max_tokens=MAX_TOKENS)
        assert (spent(first), spent(second)) == (COST, 0)


def test_it_is_gone_when_the_client_closes(server: WireServer) -> None:
    with LlamaClient(in_memory(server)) as client:
        client.chat.completions.create(messages=MESSAGES, max_tokens=MAX_TOKENS)
    with pytest.raises(ConfigError, match="the client is closed, and its ledger in memory is gone"):
        client.costs.report()


def test_it_is_gone_with_a_client_that_was_never_closed(server: WireServer) -> None:
    client = LlamaClient(in_memory(server))
    kept = weakref.ref(client._context.accounting.database)
    del client
    gc.collect()
    assert kept() is None


def test_a_ledger_that_is_off_is_an_error_and_not_nothing_spent(server: WireServer) -> None:
    with LlamaClient(in_memory(server) | {"ledger": {"enabled": False}}) as client:
        for ask in (spent, ledger_rows):
            with pytest.raises(ConfigError, match=r'ledger = \{"url": "memory"\}'):
                ask(client)


def test_a_variable_puts_the_ledger_of_any_program_in_memory(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_LEDGER__URL", "memory")
    providers = {"a": {"kind": "openai", "base_url": f"{server.url}/v1"}}
    with LlamaClient({"providers": providers, "default_model": "a/m"}) as client:
        client.ask("hi")
        assert [row.target for row in ledger_rows(client)] == ["a/m"]


def test_an_sqlite_without_shared_memory_is_named(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_database, "_OLDEST", (sqlite3.sqlite_version_info[0] + 1,))
    with pytest.raises(ConfigError, match=r"needs SQLite 3.36 or newer, and this Python has"):
        LlamaClient(in_memory(server))


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "memory:", "sqlite://"])
def test_other_spellings_are_refused_with_the_right_one(url: str) -> None:
    with pytest.raises(ConfigError, match="'memory'"):
        LlamaClient({"ledger": {"url": url}})


def test_doctor_says_that_it_is_in_memory_and_reads_no_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[ledger]\nurl = "memory"\n[[budgets]]\nusd = 5\nwindow = "day"\n', encoding="utf-8")
    findings = json.loads(run("doctor", "--json", "--offline", "--config", str(file)).out)["findings"]
    told = {finding["check"]: (finding["status"], finding["message"]) for finding in findings}
    assert told["ledger"] == ("info", "in memory: of one client, and gone when it closes, as are its budgets")
    assert told["budget"][0] == "ok"
