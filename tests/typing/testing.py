"""Calls of the test kit as users type them, checked by mypy and pyright: never run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import assert_type

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.testing import (
    FakeClock,
    LedgerRow,
    NetworkAttempt,
    NetworkForbiddenError,
    NetworkGuard,
    ledger_rows,
    no_network,
    spent,
    using,
)


def time() -> None:
    clock = FakeClock(datetime(2026, 12, 31, tzinfo=UTC))
    with using(clock=clock), LlamaClient({"ledger": {"url": "memory"}}):
        clock.turn(30)
        clock.turn(timedelta(hours=1))
        clock.turn_to(datetime(2027, 1, 1, tzinfo=UTC))
    assert_type(clock.moment, datetime)
    assert_type(clock.slept, list[float])


def network() -> None:
    with no_network(allow=["10.0.0.0/8", "registry.example.com"]) as guard:
        assert_type(guard, NetworkGuard)
        assert_type(guard.attempts, list[NetworkAttempt])
        assert_type(guard.attempts[0].what, str)
    error: type[OSError] = NetworkForbiddenError
    print(error)


def ledger(client: LlamaClient, other: AsyncLlamaClient) -> None:
    assert_type(spent(client), Decimal | None)
    assert_type(ledger_rows(other), list[LedgerRow])
    assert_type(ledger_rows(other)[0].usd, Decimal | None)
    assert_type(ledger_rows(other)[0].tags, dict[str, str])
