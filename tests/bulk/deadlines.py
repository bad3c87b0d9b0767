"""Random jobs with deadlines at played batch APIs: met where they could be, within the quoted cost, nothing left over.

Some also have a model of this machine, which may be asked in idle hours only.

python -m tests.bulk.deadlines --jobs 200 --seed 1
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any

from llama_client import JobError, LlamaClient, ProviderError
from llama_client.bulk.idle.hours import IdleHours
from llama_client.bulk.planning.quotes import BulkPlan
from llama_client.costs.money import from_pico
from llama_client.testing import FakeClock, ledger_rows, using
from llama_client.testing.dialects import OPENAI
from llama_client.testing.faults.batches import BatchPlay, BatchServer
from llama_client.testing.faults.batches.plays import BatchKind, Ending
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
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
        idle_rows: How many rows this machine has answered in idle hours.
        faults: What must not be.
    """

    plan: BulkPlan
    took_s: float = 0.0
    usd: Decimal = Decimal(0)
    batch_rows: int = 0
    was_left: bool = False
    idle_rows: int = 0
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


class IdleMachine:
    """A server on loopback that answers one row after the other, and may be slower than it was, or fail.

    Args:
        chance: Says how fast it is, in which hours it may be asked, and whether that is known.
        clock: It passes while it answers.
    """

    def __init__(self, chance: random.Random, clock: FakeClock) -> None:
        self._chance, self._clock = chance, clock
        self.row_s = chance.choice([1.0, 20.0, 90.0])
        self._fails = chance.choice([0, 0, 0, 0.2, 1])
        self.hours = chance.choice(["22:00-06:00", "11:30-13:00", "daily", "12:00-12:20, 20:00-20:20", "09:00-10:00"])
        self.venues = chance.choice([None, ["now", "idle"], ["now", "batch", "idle"]])
        self.usd_per_hour = chance.choice([None, None, None, 0.0001, 2])
        self._is_measured = chance.random() < 0.9
        self._begun: list[float] = []
        self.server = WireServer(self._answer)

    def config(self) -> dict[str, Any]:
        price = {"target": "here/m", "input_usd_per_mtok": 0, "output_usd_per_mtok": 0}
        table = {"kind": "openai", "base_url": f"{self.server.url}/v1", "max_concurrency": 1}
        hourly = {} if self.usd_per_hour is None else {"usd_per_hour": self.usd_per_hour}
        return {"table": table | hourly, "prices": [price] if self.usd_per_hour is None else []}

    def measure(self, own: Any) -> None:
        fails, self._fails = self._fails, 0
        with LlamaClient(own) as client:
            for _ in range(4 if self._is_measured else 0):
                client.ask("ticket", model="here/m", max_tokens=8)
        self._fails = fails
        # Since then it may have become slower; a call may take two minutes.
        self.row_s = min(self.row_s * self._chance.choice([1, 1, 1, 20]), 100.0)
        self._begun.clear()

    def begun_outside(self) -> int:
        """How many rows it was asked outside of its hours."""
        hours = IdleHours.of(self.hours, UTC)
        return sum(hours.opens_in_s(at) > 0 for at in self._begun)

    def _answer(self, received: Received) -> Answer:
        self._begun.append(self._clock.moment.timestamp())
        self._clock.sleep(self.row_s)
        if self._chance.random() < self._fails:
            return as_json({"error": {"message": "not now", "type": "server_error"}}, status=500)
        return OPENAI.good(streams=False, text="here")


@contextmanager
def _machine(
    chance: random.Random, clock: FakeClock, own: dict[str, Any], options: dict[str, Any]
) -> Iterator[IdleMachine]:
    """A machine that a job may use: its configuration and its options say so."""
    machine = IdleMachine(chance, clock)
    with machine.server:
        told = machine.config()
        own["providers"]["here"] = told["table"]
        own["prices"] = [*own["prices"], *told["prices"]]
        own["timezone"] = "UTC"
        options |= {"model": ["here/m", options["model"]], "idle": machine.hours, "venues": machine.venues}
        with using(clock=clock):
            machine.measure(own)
        yield machine


def _paid(own: Any, clock: FakeClock) -> Decimal:
    """What was paid so far, by the ledger."""
    with using(clock=clock), LlamaClient(own) as client:
        return sum((entry.usd for entry in ledger_rows(client) if entry.usd is not None), Decimal(0))


def one_job(seed: int, folder: Path, *, has_idle: bool = False) -> Outcome:
    """Plays a job by chance, and looks at what is left of it.

    Args:
        seed: Says what happens.
        folder: An empty one.
        has_idle: Whether this machine may answer rows in idle hours.
    """
    chance, clock = random.Random(seed), FakeClock()
    rows = [f"ticket {number}" for number in range(chance.randrange(1, 40))]
    with ExitStack() as stack, BatchServer(chance.choice(KINDS), clock=clock) as server:
        server.batches(*[play_of(chance) for _ in range(4)])
        server.fails_at_rate(chance.choice([0, 0, 0.1, 0.3]), seed=seed)
        budgets = {"budgets": [{"usd": 1, "window": "total"}]}
        own = config(server.kind, server.url_for(server.kind), folder, **budgets)
        options: dict[str, Any] = {
            "model": f"x/{MODELS[server.kind]}",
            "params": {"max_tokens": 8},
            "deadline_s": chance.choice([900, 1800, 3600, 3 * 3600, DAY_S, 2 * DAY_S]),
        }
        machine = None
        if has_idle:
            options["deadline_s"] = chance.choice([1800, 3600, 3 * 3600, DAY_S, 2 * DAY_S])
            machine = stack.enter_context(_machine(random.Random(-seed), clock, own, options))
        paid_before = _paid(own, clock)
        output, began = folder / "out.jsonl", clock.now
        with using(clock=clock), LlamaClient(own) as client:
            outcome = Outcome(client.bulk(rows, **options).plan())
            if chance.random() < 0.3:
                outcome.was_left = True
                _leave(client, rows, options, output, chance)
        _run(own, clock, rows, options, output, outcome)
        outcome.took_s = clock.now - began
        _look(outcome, server, own, clock, rows, folder, options["deadline_s"], paid_before)
        # With batches, time passes by their thread too, also between a decision and the request.
        if machine is not None and not outcome.batch_rows and (late := machine.begun_outside()):
            outcome.faults.append(f"{late} rows began outside of idle hours")
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
    outcome: Outcome,
    server: BatchServer,
    own: Any,
    clock: FakeClock,
    rows: list[str],
    folder: Path,
    deadline_s: float,
    paid_before: Decimal,
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
    whole = sum((entry.usd for entry in entries if entry.usd is not None), Decimal(0))
    outcome.usd = whole - paid_before
    outcome.idle_rows = sum(line["answer"] == "here" for line in answers)
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
    # The budget presumes the worst of a call that was cut off when the job was left, or that timed out while this
    # machine let time pass.
    is_unknown = any(entry.usd is None and entry.outcome == "error" for entry in entries)
    is_right = settled >= whole if outcome.was_left or is_unknown else settled == whole
    if not is_right or reserved:
        faults.append(f"settled {settled} of {whole}, and {reserved} is still reserved")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.environ.pop("LLAMA_CLIENT_LEDGER__ENABLED", None)
    outcomes = []
    for number in range(given.jobs):
        with tempfile.TemporaryDirectory() as folder:
            # Every third.
            outcome = one_job(given.seed * 100_000 + number, Path(folder), has_idle=number % 3 == 2)
        outcomes.append(outcome)
        for fault in outcome.faults:
            print(f"seed {given.seed * 100_000 + number}: {fault}", flush=True)
    bad = sum(bool(each.faults) for each in outcomes)
    planned = sum(each.plan.batch_rows > 0 for each in outcomes)
    answered = sum(each.batch_rows for each in outcomes)
    rows = sum(each.plan.rows for each in outcomes)
    waiting = sum(each.plan.idle_rows > 0 for each in outcomes)
    here = sum(each.idle_rows for each in outcomes)
    print(f"{given.jobs} jobs, {bad} with faults; {planned} with batches, which answered {answered} of {rows} rows")
    print(f"{waiting} with rows for idle hours, in which this machine answered {here}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
