"""Ledgers that hold what a test is about, written past the client: many days, and calls that failed over."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from llama_client.costs.database import DatabaseLocation, Storage, attempts, labels, unrecorded
from llama_client.costs.ledger import CALL, ERROR, PROVIDER, TARGET, UNPRICED_CALL, UNPRICED_PROVIDER, UNPRICED_TARGET
from llama_client.costs.money import to_pico

_FIRST = CALL | PROVIDER | TARGET
_FIRST_UNPRICED = UNPRICED_CALL | UNPRICED_PROVIDER | UNPRICED_TARGET
TODAY = datetime.now(UTC).date()


@dataclass(frozen=True)
class Spent:
    """A call with one attempt.

    Attributes:
        target: `provider/model`.
        usd: What it cost; None: nobody knows.
        day: When; at noon of Coordinated Universal Time.
        tags: Its labels.
        error: It failed.
    """

    target: str
    usd: str | None
    day: date = TODAY
    tags: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


def ago(days: int) -> date:
    """The day before so many days."""
    return TODAY - timedelta(days=days)


def fill(file: Path, calls: Sequence[Spent], *, lost_calls: int = 0) -> None:
    """Writes calls into a ledger, and how many were lost."""
    known: dict[tuple[str, str], int] = {}
    words: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, call in enumerate(calls):
        label = (call.target, json.dumps(dict(call.tags)))
        if label not in known:
            known[label] = len(known) + 1
            provider, _, model = call.target.partition("/")
            words.append(
                {"id": known[label], "route": None, "provider": provider, "target": call.target, "model": model}
                | {"tags": label[1]}
            )
        at = datetime(call.day.year, call.day.month, call.day.day, 12, tzinfo=UTC)
        counts = _FIRST | (_FIRST_UNPRICED if call.usd is None else 0) | (ERROR if call.error else 0)
        rows.append(
            {"at_us": round(at.timestamp() * 1e6), "request_id": f"call-{number}", "number": 1}
            | {"label_id": known[label], "outcome": "error" if call.error else "ok", "error": call.error}
            | {"input_tokens": 100, "output_tokens": 20, "tokens_are_estimated": 0, "counts": counts}
            | {"usd_pico": None if call.usd is None else to_pico(Decimal(call.usd))}
        )
    with Storage(DatabaseLocation("the test's", file=file)).connection() as connection, connection.begin():
        if rows:
            connection.execute(labels.insert(), words)
            connection.execute(attempts.insert(), rows)
        if lost_calls:
            at_us = round(datetime.now(UTC).timestamp() * 1e6)
            connection.execute(unrecorded.insert(), {"at_us": at_us, "calls": lost_calls})
