"""What tests of batches share: a client at a `BatchServer`, rows, and a receiver that keeps what comes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.bulk.batches.driver import BatchRun
from llama_client.bulk.batches.venue import BatchVenue
from llama_client.bulk.results import BulkResult
from llama_client.bulk.rows import Row
from llama_client.costs.money import from_pico
from llama_client.errors import LlamaClientError
from llama_client.testing import FakeClock, LedgerRow, ledger_rows, using
from llama_client.testing.faults.batches import BatchServer

MODELS = {
    "groq": "llama-3.1-8b-instant", "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo", "openai": "gpt-x",
}  # fmt: skip
DAY_S = 86_400.0
# Of gpt-x, which no list has.
PRICES = [
    {"target": "x/gpt-x", "input_usd_per_mtok": 2, "output_usd_per_mtok": 8},
    {"target": "x/gpt-x", "input_usd_per_mtok": 1, "output_usd_per_mtok": 4, "service_tier": "batch"},
]


def rows(count: int, *, start: int = 0, **params: Any) -> list[Row]:
    return [
        Row(
            position,
            {"messages": [{"role": "user", "content": f"ticket {position}"}], "max_tokens": 8, **params},
            columns={"n": position},
            where=f"tickets.csv, line {position + 2}",
        )
        for position in range(start, start + count)
    ]


@dataclass
class Kept:
    """What came of rows."""

    results: list[BulkResult] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)
    refused: dict[int, LlamaClientError] = field(default_factory=dict)

    def answered(self, result: BulkResult) -> None:
        self.results.append(result)

    def unanswered(self, row: Row, why: str) -> None:
        self.left[row.position] = why

    def refuse(self, row: Row, error: LlamaClientError) -> None:
        self.refused[row.position] = error

    @property
    def texts(self) -> dict[int, str | None]:
        return {result.row.position: result.text for result in self.results if result.completion is not None}

    @property
    def errors(self) -> dict[int, LlamaClientError]:
        return {result.row.position: result.error for result in self.results if result.error is not None}


def config(kind: str, url: str, folder: Path, **more: Any) -> dict[str, Any]:
    table = {"kind": kind, "base_url": url, "api_key": "the-key-of-a-test"}
    ledger = {"url": f"sqlite:///{folder / 'ledger.db'}", "enabled": True}
    return {"providers": {"x": table}, "ledger": ledger, "prices": PRICES, **more}


@dataclass
class Bench:
    """A client at a server, by a clock to turn."""

    server: BatchServer
    clock: FakeClock
    folder: Path
    more: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def client(self) -> Iterator[LlamaClient]:
        own = config(self.server.kind, self.server.url_for(self.server.kind), self.folder, **self.more)
        with using(clock=self.clock), LlamaClient(own) as client:
            yield client

    def venue(self, client: LlamaClient | AsyncLlamaClient, **more: Any) -> BatchVenue:
        folder = self.folder / "job"
        folder.mkdir(exist_ok=True)
        return BatchVenue(client._context, f"x/{MODELS[self.server.kind]}", folder, **more)

    def run(self, some: list[Row], kept: Kept | None = None, mode: str = "sync") -> Kept:
        """Hands rows in, and waits for what becomes of them."""
        kept = kept or Kept()
        with self.client() as client:
            venue = self.venue(client)
            if some:
                venue.add(some, window_s=DAY_S, refused=kept.refuse)
            wait(venue.run(kept), mode)
            assert venue.is_settled
        return kept

    def ledger(self) -> list[LedgerRow]:
        with self.client() as client:
            return ledger_rows(client)

    def priced(self, in_usd: str, out_usd: str) -> Decimal:
        """What the server has billed, at a price per million tokens."""
        report = self.server.batch_report()
        tokens = report.prompt_tokens * Decimal(in_usd) + report.completion_tokens * Decimal(out_usd)
        return tokens / 1_000_000


def counted(bench: Bench) -> tuple[Decimal, Decimal]:
    """What the budget has settled and reserved."""
    with closing(sqlite3.connect(bench.folder / "ledger.db")) as database:
        [row] = database.execute("SELECT settled_pico, reserved_pico FROM llama_client_spending").fetchall()
    return from_pico(row[0]), from_pico(row[1])


def until_asked(server: BatchServer, step: str, times: int = 1) -> None:
    """Waits until a server was asked so often."""
    while server.batch_report().asked.get(step, 0) < times:
        time.sleep(0.002)


def wait(run: BatchRun, mode: str) -> None:
    if mode == "sync":
        run.wait()
    else:
        asyncio.run(run.wait_async())
