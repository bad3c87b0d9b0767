"""Bulk jobs as users type them, checked by mypy and pyright: never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

import pandas
from pydantic import BaseModel

from llama_client import (
    AsyncBulk,
    AsyncLlamaClient,
    Bulk,
    BulkPlan,
    BulkProgress,
    BulkReceipt,
    BulkResult,
    ChatCompletion,
    JobError,
    LlamaClient,
    LlamaClientError,
    VenueQuote,
    VenueReceipt,
)
from llama_client.bulk.planning.quotes import PlannedVenue
from llama_client.bulk.results import Venue
from llama_client.bulk.rows import Row


class Team(BaseModel):
    team: str


def told(progress: BulkProgress) -> None:
    assert_type(progress.done, int)
    assert_type(progress.failed, int)
    assert_type(progress.in_flight, int)
    assert_type(progress.total, int | None)
    assert_type(progress.rows_per_s, float | None)
    assert_type(progress.usd, Decimal)
    assert_type(progress.seconds, float)
    assert_type(progress.expected_usd, Decimal | None)
    assert_type(progress.left_s, float | None)
    assert_type(progress.waits_for, str | None)
    assert_type(progress.unreached_s, float | None)


def jobs(client: LlamaClient, questions: Iterator[str]) -> None:
    assert_type(client.bulk(["Why do llamas hum?"]), Bulk)
    client.bulk(questions, model="groq/openai/gpt-oss-20b", max_concurrency=4)
    client.bulk("tickets.csv", prompt="Sort: {text}", system="Be short.", schema=Team, params={"max_tokens": 8})
    client.bulk(Path("tickets.csv"), schema=Path("team.json"), job=Path("night"), limit=10, retry_failed=True)
    client.bulk([{"text": "Late again"}], schema={"type": "object"}, on_progress=told, model=["chat", "ollama/qwen:7b"])
    client.bulk(["Late again"], max_usd=Decimal("0.5"), deadline_s=6 * 3600, venues=["now", "batch"])
    client.bulk(["Late again"], max_usd="0.5", venues=["batch"])
    client.bulk(["Late again"], idle="22:00-06:00", venues=["now", "idle"])
    job = client.bulk(pandas.DataFrame({"text": ["Late again"]}))
    plans(job.plan())
    assert_type(job.frame(), Any)
    assert_type(iter(job), Generator[BulkResult])
    for result in job:
        results(result)
    receipts(job.run("answers.jsonl"))
    receipts(job.run(Path("answers.parquet"), replace=True))
    receipts(job.receipt)


async def async_jobs(client: AsyncLlamaClient) -> None:
    job = client.bulk(["Why do llamas hum?"], schema=Team, on_progress=told)
    assert_type(job, AsyncBulk)
    assert_type(aiter(job), AsyncGenerator[BulkResult])
    async for result in job:
        results(result)
    plans(await job.plan())
    receipts(await job.run("answers.jsonl", replace=True))
    assert_type(await job.frame(), Any)
    receipts(job.receipt)


def results(result: BulkResult) -> None:
    assert_type(result.row, Row)
    assert_type(result.completion, ChatCompletion | None)
    assert_type(result.error, LlamaClientError | None)
    assert_type(result.text, str | None)
    assert_type(result.usd, Decimal | None)
    assert_type(result.venue, Venue)
    assert_type(result.is_earlier, bool)
    assert_type(result.row.position, int)
    assert_type(result.row.custom_id, str | None)
    assert_type(result.row.columns, Mapping[str, Any])
    assert_type(result.row.params, Mapping[str, Any])
    assert_type(result.row.where, str)
    assert_type(result.row.id, str)


def plans(plan: BulkPlan) -> None:
    assert_type(plan.rows, int)
    assert_type(plan.kept_rows, int)
    assert_type(plan.input_tokens, int)
    assert_type(plan.output_tokens, int)
    assert_type(plan.deadline_s, float | None)
    assert_type(plan.venue, PlannedVenue)
    assert_type(plan.batch_rows, int)
    assert_type(plan.rescued_rows, int)
    assert_type(plan.idle_rows, int)
    assert_type(plan.usd, Decimal | None)
    assert_type(plan.most_usd, Decimal | None)
    assert_type(plan.quotes, tuple[VenueQuote, ...])
    assert_type(plan.explanation, str)
    assert_type(plan.as_dict(), dict[str, Any])
    quote = plan.quotes[0]
    assert_type(quote.target, str)
    assert_type(quote.is_possible, bool)
    assert_type(quote.why, str)
    assert_type(quote.ends_in_s, float | None)
    assert_type(quote.latest_s, float | None)
    assert_type(quote.parts, int | None)


def receipts(receipt: BulkReceipt) -> None:
    assert_type(receipt.rows, int)
    assert_type(receipt.answered, int)
    assert_type(receipt.failed, int)
    assert_type(receipt.earlier, int)
    assert_type(receipt.earlier_failed, int)
    assert_type(receipt.calls, int)
    assert_type(receipt.prompt_tokens, int | None)
    assert_type(receipt.completion_tokens, int | None)
    assert_type(receipt.usd, Decimal | None)
    assert_type(receipt.known_usd, Decimal)
    assert_type(receipt.seconds, float)
    assert_type(receipt.maybe_paid_twice, int)
    assert_type(receipt.has_begun, bool)
    assert_type(receipt.venues, Mapping[Venue, VenueReceipt])
    assert_type(receipt.venues["batch"].rows, int)
    assert_type(receipt.venues["batch"].list_usd, Decimal | None)
    assert_type(receipt.venues["batch"].usd, Decimal | None)
    assert_type(receipt.venues["batch"].saved_usd, Decimal | None)


def evaluations(client: LlamaClient) -> None:
    reply = client.with_options(cache="refresh").ask("Why do llamas hum?")
    assert_type(reply.is_cached, bool)
    report = client.costs.report()
    assert_type(report.cached_calls, int)
    assert_type(report.groups[0].cached_calls, int)


def errors(client: LlamaClient) -> None:
    try:
        client.bulk(["Why do llamas hum?"]).run("answers.jsonl")
    except JobError as error:
        assert_type(error.folder, Path | None)
        assert_type(error.where, str | None)
