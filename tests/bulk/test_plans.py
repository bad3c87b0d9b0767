"""Where the rows of a job go, what that costs, and what it may cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, BudgetExceededError, InvalidRequestError, JobError, LlamaClient
from llama_client.bulk.planning.quotes import BulkPlan
from llama_client.bulk.planning.venues import BatchWork
from llama_client.testing import FakeClock, FakeProvider, using
from llama_client.testing.faults.batches import BatchPlay, BatchServer
from tests.bulk.batching import DAY_S, MODELS, config
from tests.bulk.jobs import MODES, lines, run
from tests.bulk.test_batch_kills import CutOffError, Knife

both = pytest.mark.parametrize("mode", MODES)
ROWS = [f"ticket {number}" for number in range(6)]
PARAMS = {"max_tokens": 8}
HOUR_S = 3600.0


class Desk:
    """Jobs at a server with a batch API, by a clock to turn."""

    def __init__(self, server: BatchServer, clock: FakeClock, folder: Path) -> None:
        self.server, self.clock, self.folder = server, clock, folder
        self.output = folder / "out.jsonl"
        self.rows: list[str] = ROWS
        self.config = config(server.kind, server.url_for(server.kind), folder)
        self.options: dict[str, Any] = {"model": f"x/{MODELS[server.kind]}", "params": PARAMS}

    def run(self, mode: str = "sync", **options: Any) -> Any:
        with using(clock=self.clock):
            return run(mode, self.config, self.rows, self.output, **{**self.options, **options})

    def plan(self, mode: str = "sync", **options: Any) -> BulkPlan:
        given = {**self.options, **options}
        with using(clock=self.clock):
            if mode == "sync":
                with LlamaClient(self.config) as client:
                    return client.bulk(self.rows, **given).plan()

            async def planned() -> BulkPlan:
                async with AsyncLlamaClient(self.config) as client:
                    return await client.bulk(self.rows, **given).plan()

            return asyncio.run(planned())

    @property
    def answers(self) -> list[str]:
        return [line["answer"] for line in lines(self.output)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = FakeClock()
    with BatchServer("openai", clock=clock) as server:
        yield Desk(server, clock, tmp_path)


@both
def test_rows_of_a_job_with_a_deadline_go_to_the_batch_that_is_cheaper(desk: Desk, mode: str) -> None:
    plan = desk.plan(mode, deadline_s=6 * HOUR_S)
    assert (plan.venue, plan.rows, plan.batch_rows) == ("batch", len(ROWS), len(ROWS))
    receipt = desk.run(mode, deadline_s=6 * HOUR_S)
    assert len(desk.answers) == receipt.answered == len(ROWS)
    assert desk.server.batch_report().created == 1
    [(venue, told)] = receipt.venues.items()
    assert (venue, told.rows) == ("batch", len(ROWS))
    assert told.usd is not None
    assert told.list_usd == 2 * told.usd == told.usd + told.saved_usd
    assert receipt.usd == told.usd <= plan.most_usd
    # The same call again asks nothing, and hands nothing in.
    assert desk.run(mode, deadline_s=6 * HOUR_S).earlier == len(ROWS)
    assert desk.server.batch_report().created == 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param({}, "no deadline is given", id="no-deadline"),
        pytest.param({"deadline_s": 60}, "the deadline is too near", id="near"),
        pytest.param({"deadline_s": DAY_S, "venues": ["now"]}, "venues leaves it out", id="not-permitted"),
    ],
)
def test_otherwise_all_is_asked_at_once(desk: Desk, options: dict[str, Any], why: str) -> None:
    plan = desk.plan(**options)
    assert (plan.venue, plan.batch_rows) == ("now", 0)
    assert why in plan.explanation
    receipt = desk.run(**options)
    assert {*receipt.venues} == {"now"}
    assert desk.server.batch_report().asked == {}
    assert receipt.usd <= plan.most_usd


def test_a_plan_prices_every_venue_and_is_json(desk: Desk) -> None:
    plan = desk.plan(deadline_s=DAY_S)
    now, batch = plan.quotes
    assert (now.venue, batch.venue, batch.parts) == ("now", "batch", 1)
    assert now.usd == 2 * (batch.usd or 0) > 0
    assert now.most_usd == 2 * (batch.most_usd or 0) > (now.usd or 0)
    told = json.loads(json.dumps(plan.as_dict()))
    assert Decimal(told["quotes"][0]["usd"]) == now.usd
    assert "6 of 6 rows go to batches of x/gpt-x" in plan.explanation


def test_a_target_without_a_batch_api_is_asked_at_once() -> None:
    with LlamaClient({"default_model": "gguf/smollm2-135m"}) as client:
        plan = client.bulk(ROWS, deadline_s=DAY_S, params=PARAMS).plan()
    assert plan.venue == "now"
    assert plan.usd == plan.most_usd == 0
    assert "has no batch API" in plan.quotes[1].why


def test_rows_that_can_be_read_once_have_no_plan() -> None:
    with (
        FakeProvider(clock=FakeClock()) as fake,
        LlamaClient(fake.config()) as client,
        pytest.raises(InvalidRequestError, match="gives its rows once"),
    ):
        client.bulk(iter(ROWS)).plan()


def test_batches_alone_need_no_deadline(desk: Desk) -> None:
    desk.server.every_batch(BatchPlay(takes_s=20 * HOUR_S))
    plan = desk.plan(venues=["batch"])
    assert "What has no answer at their end is asked at once" in plan.explanation
    assert {*desk.run(venues=["batch"]).venues} == {"batch"}


def test_rows_that_no_batch_can_hold_are_asked_at_once_beside_it(desk: Desk) -> None:
    requests = [
        {"custom_id": str(number), "body": {"messages": [{"role": "user", "content": text}], **extra}}
        for number, (text, extra) in enumerate([("one", {}), ("two", {"extra_headers": {"x-a": "b"}}), ("three", {})])
    ]
    with using(clock=desk.clock):
        receipt = run("sync", desk.config, requests, desk.output, **desk.options, deadline_s=DAY_S)
    assert (receipt.venues["batch"].rows, receipt.venues["now"].rows, receipt.answered) == (2, 1, 3)


def test_answers_of_a_batch_that_do_not_fit_the_schema_are_asked_for_again(desk: Desk) -> None:
    schema = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}
    receipt = desk.run(deadline_s=DAY_S, schema=schema)
    assert len(desk.server.batch_report().billed) == len(ROWS)
    # What this server answers never fits.
    assert ({*receipt.venues}, receipt.failed) == ({"now"}, len(ROWS))
    batch_usd = desk.server.batch_report().prompt_tokens / Decimal(1_000_000)
    assert receipt.usd is not None
    assert receipt.usd > batch_usd


def test_free_rows_are_asked_whatever_was_spent(desk: Desk) -> None:
    desk.run(limit=2)
    desk.config["prices"] = [{"target": "x/gpt-x", "input_usd_per_mtok": 0, "output_usd_per_mtok": 0}]
    receipt = desk.run(max_usd="0.000000000001")
    assert (receipt.answered, receipt.usd) == (len(ROWS) - 2, 0)


@both
@pytest.mark.parametrize(
    ("play", "in_batch"),
    [
        pytest.param(BatchPlay(ending="never", takes_s=30 * DAY_S), 3, id="never-ends"),
        pytest.param(BatchPlay(ending="expired", answered=0.5, takes_s=60), 3, id="expired"),
        pytest.param(BatchPlay(ending="failed"), 0, id="failed"),
    ],
)
def test_rows_of_a_batch_that_is_late_are_asked_at_once_in_time(
    desk: Desk, mode: str, play: BatchPlay, in_batch: int
) -> None:
    desk.server.every_batch(play)
    plan = desk.plan(deadline_s=6 * HOUR_S)
    began = desk.clock.now
    receipt = desk.run(mode, deadline_s=6 * HOUR_S)
    assert desk.clock.now - began <= 6 * HOUR_S
    assert len(desk.answers) == receipt.answered == len(ROWS)
    assert receipt.venues["now"].rows >= len(ROWS) - in_batch
    assert receipt.usd <= plan.most_usd
    report = desk.server.batch_report()
    assert (report.orphans, report.left_files, report.left_batches) == ([], [], [])


def test_a_job_that_was_left_finds_its_batches(desk: Desk) -> None:
    desk.server.every_batch(BatchPlay(takes_s=HOUR_S))
    with using(clock=desk.clock), LlamaClient(desk.config) as client:
        job = client.bulk(ROWS, **desk.options, deadline_s=DAY_S, job=desk.folder / "out.jsonl.job")
        results = iter(job)
        first = next(results)
        results.close()
    assert first.venue == "batch"
    receipt = desk.run(deadline_s=DAY_S)
    assert len(desk.answers) == len(ROWS) == receipt.answered + receipt.earlier
    assert desk.server.batch_report().created == 1
    assert set(desk.server.batch_report().billed.values()) == {1}


@pytest.mark.parametrize("step", [2, 6, 12, 18, 24])
def test_a_job_that_was_cut_off_goes_on_with_its_batch(desk: Desk, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.server.every_batch(BatchPlay(takes_s=600, answered=0.5, ending="expired"))
    with monkeypatch.context() as cutting:
        Knife(cutting, step)
        with suppress(CutOffError):
            desk.run(deadline_s=DAY_S)
    desk.run(deadline_s=DAY_S)
    answers = desk.answers
    assert answers[:3] == [f"re: {row}" for row in ROWS[:3]]
    assert all(row in answer for row, answer in zip(ROWS, answers, strict=True))
    report = desk.server.batch_report()
    assert (report.created, report.orphans, report.left_files) == (1, [], [])
    assert set(report.billed.values()) == {1}


@both
def test_a_job_costs_no_more_than_it_may_and_goes_on_with_more(tmp_path: Path, mode: str) -> None:
    with FakeProvider(clock=FakeClock()) as fake:
        fake.always(lambda request: f"answer to {request.text}")
        options: dict[str, Any] = {"params": PARAMS, "max_concurrency": 2}
        with LlamaClient(fake.config()) as client:
            plan = client.bulk(ROWS, **options).plan()
            one = client.bulk(ROWS[:1], **options)
            assert len([*one]) == len(fake.requests) == 1
        assert plan.most_usd
        assert one.receipt.usd
        # A row may begin while its worst case fits: with two more paid, and the third.
        most = plan.most_usd / len(ROWS) + one.receipt.usd * Decimal("2.5")
        with pytest.raises(
            BudgetExceededError, match=r"max_usd: .* rows are done; the other .* would cost about"
        ) as told:
            run(mode, fake.config(), ROWS, tmp_path / "out.jsonl", max_usd=most, **options)
        asked = len(fake.requests) - 1
        assert asked == 3
        assert told.value.spent_usd is not None
        assert 0 < told.value.spent_usd <= most
        # What was spent counts in the next run, too.
        with pytest.raises(BudgetExceededError):
            run(mode, fake.config(), ROWS, tmp_path / "out.jsonl", max_usd=told.value.spent_usd, **options)
        assert len(fake.requests) == asked + 1
        receipt = run(mode, fake.config(), ROWS, tmp_path / "out.jsonl", max_usd=2 * plan.most_usd, **options)
        assert (receipt.earlier, receipt.answered) == (asked, len(ROWS) - asked)


def test_batches_take_no_more_rows_than_the_money_allows(desk: Desk) -> None:
    plan = desk.plan(deadline_s=DAY_S)
    batch_most = plan.quotes[1].most_usd
    assert batch_most
    with pytest.raises(BudgetExceededError, match="max_usd"):
        desk.run(deadline_s=DAY_S, max_usd=batch_most / 6 * 2)
    assert len(desk.server.batch_report().billed) == 2


@both
def test_rows_wait_for_the_money_of_a_batch_however_many_they_are(desk: Desk, mode: str) -> None:
    count = 600
    desk.rows = [f"ticket {number}" for number in range(count)]
    plan = desk.plan(deadline_s=DAY_S)
    batch_most = plan.quotes[1].most_usd
    assert batch_most
    # The batch takes all rows but the last 300, which begin with what it leaves.
    receipt = desk.run(mode, deadline_s=DAY_S, max_usd=batch_most / count * (count - 300))
    assert receipt.answered == count
    assert receipt.venues["batch"].rows == count - 300
    assert receipt.usd <= batch_most / count * (count - 300)


@both
def test_a_job_ends_where_a_batch_leaves_too_little_money(desk: Desk, mode: str) -> None:
    count = 500
    desk.rows = [f"ticket {number}" for number in range(count)]
    plan = desk.plan(deadline_s=DAY_S)
    batch_most = plan.quotes[1].most_usd
    assert batch_most
    most = batch_most / count * 5
    with pytest.raises(BudgetExceededError, match="max_usd") as told:
        desk.run(mode, deadline_s=DAY_S, max_usd=most)
    assert told.value.spent_usd
    assert told.value.spent_usd <= most
    assert len(desk.server.batch_report().billed) >= 5


@both
def test_rows_that_a_batch_has_left_begin_with_its_money(desk: Desk, mode: str) -> None:
    desk.server.every_batch(BatchPlay(ending="expired", answered=0))
    count = 600
    desk.rows = [f"ticket {number}" for number in range(count)]
    plan = desk.plan(deadline_s=DAY_S)
    batch_most = plan.quotes[1].most_usd
    assert batch_most
    receipt = desk.run(mode, deadline_s=DAY_S, max_usd=batch_most / count * 350)
    assert receipt.answered == receipt.venues["now"].rows == count
    assert receipt.usd <= batch_most / count * 350


def test_batches_are_over_once_their_end_was_taken(tmp_path: Path) -> None:
    given: Any = None
    work = BatchWork(given, tmp_path, given, given, None, given, given, None, None)
    assert work.is_over, "there are none"
    failure: list[Exception] = [JobError("they cannot go on")]

    def wait() -> None:
        if failure:
            raise failure.pop()

    run: Any = SimpleNamespace(is_over=False, wait=wait)
    work._runs.append(run)
    assert work.take(64, 0.0) == ([], [])
    # It ends while rows of the input are read: neither its error nor its money may be passed over.
    run.is_over = True
    assert not work.is_over
    with pytest.raises(JobError, match="cannot go on"):
        work.take(64, 0.0)
    assert not work.is_over
    work.take(64, 0.0)
    assert work.is_over


def test_a_row_of_unknown_cost_is_not_asked(desk: Desk) -> None:
    desk.config["prices"] = []
    with pytest.raises(BudgetExceededError, match=r"may cost is unknown.*\[\[prices\]\]"):
        desk.run(max_usd=1)
    desk.run()
    with pytest.raises(JobError, match="what earlier runs of the job cost is unknown"):
        desk.run(max_usd=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param({"max_usd": 0}, "max_usd: must be an amount above 0", id="no-money"),
        pytest.param({"max_usd": "much"}, "max_usd: must be an amount", id="money-as-words"),
        pytest.param({"max_usd": float("nan")}, "max_usd: must be an amount", id="money-nan"),
        pytest.param({"deadline_s": "6h"}, "deadline_s: must be a number of seconds", id="deadline-text"),
        pytest.param({"deadline_s": -1}, "deadline_s: must be a number of seconds", id="deadline-past"),
        pytest.param({"venues": ["batches"]}, "venues: 'batches' is none; did you mean 'batch'", id="venue"),
        pytest.param({"venues": "now"}, "venues: must be a list", id="venue-text"),
        pytest.param({"venues": []}, "venues: must be a list", id="no-venue"),
    ],
)
def test_wrong_terms_are_refused(options: dict[str, Any], told: str) -> None:
    with FakeProvider() as fake, LlamaClient(fake.config()) as client, pytest.raises(InvalidRequestError, match=told):
        client.bulk(ROWS, **options)


def test_a_plan_of_a_begun_job_counts_its_deadline_from_the_first_run(desk: Desk) -> None:
    desk.run(limit=1, job=desk.folder / "job", deadline_s=2 * HOUR_S)
    desk.clock.turn(1.5 * HOUR_S)
    plan = desk.plan(job=desk.folder / "job", deadline_s=2 * HOUR_S)
    assert plan.deadline_s == pytest.approx(0.5 * HOUR_S)
    assert plan.batch_rows == 0
    # Another one is new, and looking at it keeps nothing.
    assert desk.plan(job=desk.folder / "job", deadline_s=DAY_S).deadline_s == DAY_S
    assert desk.plan(job=desk.folder / "job", deadline_s=2 * HOUR_S).deadline_s == pytest.approx(0.5 * HOUR_S)
