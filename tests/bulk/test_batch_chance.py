"""Jobs whose batches and requests go wrong by chance, cut off now and then: nothing is lost, repeated or left."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

import pytest

from llama_client.testing import FakeClock
from llama_client.testing.faults.batches import BatchPlay, BatchServer
from llama_client.testing.faults.batches.plays import Ending
from tests.bulk.batching import DAY_S, Bench, Kept, counted, rows
from tests.bulk.test_batch_kills import CutOffError, Knife

_ENDINGS: list[Ending] = ["completed", "completed", "expired", "failed"]


def play_of(chance: random.Random) -> BatchPlay:
    return BatchPlay(
        ending=chance.choice(_ENDINGS),
        takes_s=chance.choice([0, 60, 600]),
        answered=chance.random(),
        failing=chance.choice([0, 0, 0.2]),
        is_reordered=chance.random() < 0.3,
        is_duplicated=chance.random() < 0.2,
        is_truncated=chance.random() < 0.1,
        strange_ids=chance.choice([0, 0, 3]),
    )


@pytest.mark.parametrize("seed", [*range(4), *[pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 60)]])
def test_a_job_by_chance(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    chance, clock, kept = random.Random(seed), FakeClock(), Kept()
    some = rows(chance.randrange(1, 30))
    with BatchServer(chance.choice(["openai", "groq"]), clock=clock) as server:
        server.batches(*[play_of(chance) for _ in range(3)])
        server.fails_at_rate(chance.choice([0, 0.2, 0.4]), seed=seed)
        bench = Bench(server, clock, tmp_path, {"budgets": [{"usd": 1, "window": "total"}]})
        parts = chance.randrange(1, 4)
        with bench.client() as client:
            for start in range(parts):
                bench.venue(client).add(some[start::parts], window_s=DAY_S, refused=kept.refuse)
        for _ in range(chance.randrange(3)):
            with monkeypatch.context() as cutting, bench.client() as client:
                Knife(cutting, chance.randrange(1, 40))
                try:
                    bench.venue(client).run(kept).wait()
                except CutOffError:
                    continue
        # Once more for what a failure has left.
        for _ in range(3):
            with bench.client() as client:
                venue = bench.venue(client)
                venue.run(kept).wait()
                if venue.is_settled:
                    break
        else:
            pytest.fail("something is left at the server")
        report = server.batch_report()
        settled, reserved = counted(bench)
        spent = sum((row.usd for row in bench.ledger() if row.usd is not None), Decimal(0))
    assert {*kept.texts} | {*kept.errors} | {*kept.left} == {row.position for row in some}
    assert not ({*kept.texts} | {*kept.errors}) & {*kept.left}
    assert (report.orphans, report.left_files, report.left_batches) == ([], [], [])
    assert set(report.billed.values()) <= {1}
    assert (settled, reserved) == (spent, Decimal(0))
