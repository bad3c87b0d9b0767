"""The cache and batches: what is kept need not be in a batch, and what a batch brings is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClientError
from llama_client.testing import FakeClock
from llama_client.testing.faults.batches import BatchPlay, BatchServer
from tests.bulk.batching import DAY_S
from tests.bulk.test_plans import ROWS, Desk, both

SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = FakeClock()
    with BatchServer("openai", clock=clock) as server:
        desk = Desk(server, clock, tmp_path)
        desk.config["cache"] = {"enabled": True, "url": f"sqlite:///{tmp_path / 'answers.db'}"}
        yield desk


def again(desk: Desk, mode: str = "sync", **options: Any) -> Any:
    """A new job with the same rows."""
    desk.output = desk.folder / "again.jsonl"
    return desk.run(mode, deadline_s=DAY_S, **options)


@both
def test_answers_of_a_batch_are_kept_for_the_next_job(desk: Desk, mode: str) -> None:
    first = desk.run(mode, deadline_s=DAY_S)
    assert first.venues["batch"].rows == len(ROWS)
    answers = desk.answers
    second = again(desk, mode)
    assert desk.answers == answers
    assert second.venues["cache"].rows == len(ROWS)
    assert second.usd == 0
    assert desk.server.batch_report().created == 1


def test_a_hit_saves_what_the_batch_has_cost(desk: Desk) -> None:
    first = desk.run(deadline_s=DAY_S)
    second = again(desk)
    assert {*second.venues} == {"cache"}
    assert second.saved_usd == first.usd > 0


@both
def test_rows_that_were_asked_before_are_in_no_batch(desk: Desk, mode: str) -> None:
    desk.run(mode, limit=2)
    receipt = again(desk, mode)
    assert receipt.venues["cache"].rows == 2
    assert receipt.venues["batch"].rows == len(ROWS) - 2


def test_a_plan_counts_what_is_kept_as_free(desk: Desk) -> None:
    dear = desk.plan(deadline_s=DAY_S)
    desk.run(limit=2)
    plan = desk.plan(deadline_s=DAY_S)
    assert (plan.rows, plan.kept_rows, plan.batch_rows) == (len(ROWS), 2, len(ROWS) - 2)
    assert "2 rows have their answers in the cache" in plan.explanation
    assert plan.usd is not None
    assert dear.usd is not None
    assert plan.usd < dear.usd
    desk.output = desk.folder / "all.jsonl"
    desk.run()
    assert desk.plan(deadline_s=DAY_S).usd == Decimal(0)


def test_failures_of_a_batch_are_not_kept(desk: Desk) -> None:
    desk.server.every_batch(BatchPlay(failing=1))
    with suppress(LlamaClientError):
        desk.run(deadline_s=DAY_S, venues={"batch"})
    assert desk.server.batch_report().created == 1
    assert desk.plan(deadline_s=DAY_S).kept_rows == 0


def test_answers_that_do_not_fit_the_schema_are_not_kept(desk: Desk) -> None:
    desk.run(deadline_s=DAY_S, schema=SCHEMA, venues={"batch"})
    assert desk.plan(deadline_s=DAY_S, schema=SCHEMA).kept_rows == 0


def test_without_the_cache_all_rows_are_asked_again(desk: Desk) -> None:
    del desk.config["cache"]
    desk.run(deadline_s=DAY_S)
    assert desk.plan(deadline_s=DAY_S).kept_rows == 0
    again(desk)
    assert desk.server.batch_report().created == 2


def test_rows_with_other_parameters_are_not_there(desk: Desk) -> None:
    desk.run(deadline_s=DAY_S)
    assert desk.plan(deadline_s=DAY_S, params={"max_tokens": 9}).kept_rows == 0
    assert desk.plan(deadline_s=DAY_S, system="Short.").kept_rows == 0
    assert desk.plan(deadline_s=DAY_S).kept_rows == len(ROWS)
