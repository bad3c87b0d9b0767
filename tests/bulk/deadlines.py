"""Random jobs with deadlines at played batch APIs: met where they could be, within the quoted cost, nothing left over.

python -m tests.bulk.deadlines --jobs 200 --seed 1
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from llama_client import JobError, LlamaClient, ProviderError
from llama_client.bulk.planning.quotes import BulkPlan
from llama_client.costs.money import from_pico
from llama_client.testing import FakeClock, ledger_rows, using
from llama_client.testing.faults.batches import BatchPlay, BatchServer
from llama_client.testing.faults.batches.plays import BatchKind, Ending
from tests.bulk.batching import DAY_S, MODELS, config
from tests.bulk.jobs import lines

KINDS: tuple[BatchKind, ...] = ("groq", "together")
# Each is a run that could not go on, or was left.
_MOST_RUNS = 20


@dataclass
class Outcome:
    """What became of a job.

    Attributes:
        plan: What was told before.
        took_s: How long it took.
        usd: What it cost, by the ledger.
        batch_rows: How many rows a batch has answered.
        was_left: Whether its first run was left before the end.
        faults: What must not be.
    """

    plan: BulkPlan
    took_s: float = 0.0
    usd: Decimal = Decimal(0)
    batch_rows: int = 0
    was_left: bool = False
    faults: list[str] = field(default_factory=list)


def play_of(chance: random.Random) -> BatchPlay:
    ending: Ending = chance.choice(["completed", "completed", "expired", "failed", "never"])
    return BatchPlay(
        ending=ending,
        takes_s=30 * DAY_S if ending == "never" else chance.choice([60, 600, 3600, 6 * 3600, DAY_S]),
        answered=chance.random(),
        failing=chance.choice([0, 0, 0.2]),
        is_reordered=chance.random() < 0.3,
    )


def one_job(seed: int, folder: Path) -> Outcome:
    """Plays a job by chance, and looks at what is left of it."""
    chance, clock = random.Random(seed), FakeClock()
    rows = [f"ticket {number}" for number in range(chance.randrange(1, 40))]
    with BatchServer(chance.choice(KINDS), clock=clock) as server:
        server.batches(*[play_of(chance) for _ in range(4)])
        server.fails_at_rate(chance.choice([0, 0, 0.1, 0.3]), seed=seed)
        budgets = {"budgets": [{"usd": 1, "window": "total"}]}
        own = config(server.kind, server.url_for(server.kind), folder, **budgets)
        options: dict[str, Any] = {
            "model": f"x/{MODELS[server.kind]}",
            "params": {"max_tokens": 8},
            "deadline_s": chance.choice([900, 1800, 3600, 3 * 3600, DAY_S, 2 * DAY_S]),
        }
        output, began = folder / "out.jsonl", clock.now
        with using(clock=clock), LlamaClient(own) as client:
            outcome = Outcome(client.bulk(rows, **options).plan())
            if chance.random() < 0.3:
                outcome.was_left = True
                _leave(client, rows, options, output, chance)
        _run(own, clock, rows, options, output, outcome)
        outcome.took_s = clock.now - began
        _look(outcome, server, own, clock, rows, folder, options["deadline_s"])
    return outcome


def _leave(client: LlamaClient, rows: list[str], options: dict[str, Any], output: Path, chance: random.Random) -> None:
    """Begins the job, and leaves it after some results."""
    try:
        with closing(iter(client.bulk(rows, job=output.with_name(f"{output.name}.job"), **options))) as results:
            for _, _result in zip(range(chance.randrange(1, 5)), results, strict=False):
                pass
    except (JobError, ProviderError):
        # The batch API failed for too long; the next run goes on.
        return


def _run(own: Any, clock: FakeClock, rows: list[str], options: dict[str, Any], output: Path, outcome: Outcome) -> None:
    for _ in range(_MOST_RUNS):
        try:
            with using(clock=clock), LlamaClient(own) as client:
                client.bulk(rows, **options).run(output)
        except (JobError, ProviderError):
            continue
        return
    outcome.faults.append("it could not be ended")


def _look(
    outcome: Outcome, server: BatchServer, own: Any, clock: FakeClock, rows: list[str], folder: Path, deadline_s: float
) -> None:
    faults, report = outcome.faults, server.batch_report()
    answers = lines(folder / "out.jsonl")
    if [line["text"] for line in answers] != rows:
        faults.append("rows are lost")
    # A batch says of some rows that their request is wrong, which is final.
    if any(line["answer"] is None and "the prompt is too odd" not in line["error"] for line in answers):
        faults.append("rows have no answer")
    if outcome.took_s > deadline_s:
        faults.append(f"took {outcome.took_s:.0f} s of {deadline_s:.0f}")
    with using(clock=clock), LlamaClient(own) as client:
        entries = ledger_rows(client)
    outcome.usd = sum((entry.usd for entry in entries if entry.usd is not None), Decimal(0))
    outcome.batch_rows = sum(report.billed.values())
    if outcome.plan.most_usd is None or outcome.usd > outcome.plan.most_usd:
        faults.append(f"cost {outcome.usd}, and at most {outcome.plan.most_usd} was quoted")
    if report.orphans or report.left_files or report.left_batches:
        faults.append(f"left over: {report.orphans} {report.left_files} {report.left_batches}")
    if any(count > 1 for count in report.billed.values()):
        faults.append("rows were in two batches")
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        [found] = database.execute("SELECT settled_pico, reserved_pico FROM llama_client_spending").fetchall() or [
            (0, 0)
        ]
    settled, reserved = map(from_pico, found)
    # Of a call that was cut off when the job was left, the budget presumes the worst.
    is_right = settled >= outcome.usd if outcome.was_left else settled == outcome.usd
    if not is_right or reserved:
        faults.append(f"settled {settled} of {outcome.usd}, and {reserved} is still reserved")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.environ.pop("LLAMA_CLIENT_LEDGER__ENABLED", None)
    outcomes = []
    for number in range(given.jobs):
        with tempfile.TemporaryDirectory() as folder:
            outcome = one_job(given.seed * 100_000 + number, Path(folder))
        outcomes.append(outcome)
        for fault in outcome.faults:
            print(f"seed {given.seed * 100_000 + number}: {fault}", flush=True)
    bad = sum(bool(each.faults) for each in outcomes)
    planned = sum(each.plan.batch_rows > 0 for each in outcomes)
    answered = sum(each.batch_rows for each in outcomes)
    rows = sum(each.plan.rows for each in outcomes)
    print(f"{given.jobs} jobs, {bad} with faults; {planned} with batches, which answered {answered} of {rows} rows")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
