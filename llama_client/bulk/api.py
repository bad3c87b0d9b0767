"""What `client.bulk` returns, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_client.bulk.cancelling import finished, opened
from llama_client.bulk.engines import async_calls_of, calls_of
from llama_client.bulk.notebook import receipt_table
from llama_client.bulk.paths import checked_path
from llama_client.bulk.setup import Run

if TYPE_CHECKING:
    from llama_client.bulk.planning.quotes import BulkPlan
    from llama_client.bulk.receipt import BulkReceipt
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.setup import JobSetup


class Bulk:
    """A job of a sync client: iterate over it, or run it to a file.

    Example:
        job = client.bulk(["Why do llamas hum?", "What do llamas eat?"], model="gguf/smollm2-135m")
        for result in job:
            print(result.row.position, result.text or result.error)
        print(job.receipt.answered, "answered for", job.receipt.usd, "USD")
    """

    def __init__(self, setup: JobSetup) -> None:
        self._setup = setup

    @property
    def receipt(self) -> BulkReceipt:
        """What the last run has done so far, or did; its `has_begun` is False where none has begun."""
        return self._setup.receipt

    def _repr_html_(self) -> str:
        return receipt_table(self.receipt)

    def plan(self) -> BulkPlan:
        """What the job would do, what it would cost at each venue, and why it is done so. Reads all rows, asks none.

        Returns:
            The plan for the rows that are not done; `as_dict` gives it as JSON.

        Raises:
            InvalidRequestError: The rows can be read once only (an iterator), or one is broken.
            JobError: The folder is in use or of another job.
            ConfigError: The model is unknown.

        Example:
            job = client.bulk(["Why do llamas hum?"], model="gguf/smollm2-135m", params={"max_tokens": 8})
            plan = job.plan()
            print(plan.rows, plan.venue, plan.usd, plan.most_usd)
            print(plan.explanation)
        """
        return self._setup.plan()

    def __iter__(self) -> Generator[BulkResult]:
        """Each result as it comes; first those that earlier runs of the job had, with `is_earlier`."""
        with closing(self._setup.begin()) as run:
            calls = calls_of(self._setup, run, keeps_results=True)
            with closing(calls.results(run.work.results(only_earlier=True))) as results:
                yield from results

    def run(self, path: str | Path, *, replace: bool = False) -> BulkReceipt:
        """Asks all rows that are not done, and writes all results in the order of the input, whole or not at all.

        The job is kept in its folder, by default that of the path with `.job` appended. After an interruption, of
        whatever kind, the same call goes on.

        Args:
            path: The file; its name ends in `.jsonl`, `.csv`, `.tsv` or `.parquet`.
            replace: Whether a file that is there, and is not this job's, may be replaced.

        Returns:
            What this run did.

        Raises:
            JobError: The folder is in use or of another job, the input has changed, or the disk is full.
            BudgetExceededError: A budget or `max_usd` does not allow further calls. What was done is kept.
            InvalidRequestError: A row is broken; nothing was asked.
            ConfigError: The model is unknown; nothing was asked.

        Example:
            receipt = client.bulk(["Why do llamas hum?"], model="gguf/smollm2-135m").run("answers.jsonl")
        """
        with closing(self._setup.begin(checked_path(path, "path"), replace=replace)) as run:
            calls = calls_of(self._setup, run, keeps_results=False)
            with closing(calls.results(iter(()))) as results:
                for _ in results:
                    pass
            run.write()
        return self.receipt

    def frame(self) -> Any:
        """Asks all rows of a pandas DataFrame, and gives it back with the answers as columns more.

        Its index, its columns and their types stay. Results are in memory until the last one is there.

        Returns:
            A new DataFrame: `answer` or the properties of the schema, `error`, `usd` and `target` beside its columns. A
            column of it that has such a name stays; that of the answer is then `answer_2`.

        Raises:
            InvalidRequestError: The rows are no pandas DataFrame, or one of them is broken; nothing was asked.
            JobError: As `run`.
            BudgetExceededError: As `run`.

        Example:
            import pandas

            tickets = pandas.DataFrame({"text": ["Late again!", "Thank you."]}, index=[101, 102])
            job = client.bulk(tickets, model="gguf/smollm2-135m", prompt="Answer in a word: {text}")
            print(job.frame()[["text", "answer"]])
        """
        frame = self._setup.frame()
        with closing(iter(self)) as results:
            for result in results:
                frame.add(result)
        return frame.made()


class AsyncBulk:
    """`Bulk` for an `AsyncLlamaClient`: the same with `async for`, and `await` before `run`."""

    def __init__(self, setup: JobSetup) -> None:
        self._setup = setup

    @property
    def receipt(self) -> BulkReceipt:
        """What the last run has done so far, or did; its `has_begun` is False where none has begun."""
        return self._setup.receipt

    def _repr_html_(self) -> str:
        return receipt_table(self.receipt)

    async def plan(self) -> BulkPlan:
        """`Bulk.plan`, awaited."""
        return await opened(self._setup.plan, id)

    async def __aiter__(self) -> AsyncGenerator[BulkResult]:
        """Each result as it comes; first those that earlier runs of the job had, with `is_earlier`."""
        run = await opened(lambda is_left: self._setup.begin(is_left=is_left), Run.close)
        try:
            calls = async_calls_of(self._setup, run, keeps_results=True)
            async with aclosing(calls.results(run.work.results(only_earlier=True))) as results:
                async for result in results:
                    yield result
        finally:
            await finished(run.close)

    async def run(self, path: str | Path, *, replace: bool = False) -> BulkReceipt:
        """`Bulk.run`, awaited."""
        output = checked_path(path, "path")
        run = await opened(lambda is_left: self._setup.begin(output, replace=replace, is_left=is_left), Run.close)
        try:
            calls = async_calls_of(self._setup, run, keeps_results=False)
            async with aclosing(calls.results(iter(()))) as results:
                async for _ in results:
                    pass
            await finished(run.write)
        finally:
            await finished(run.close)
        return self.receipt

    async def frame(self) -> Any:
        """`Bulk.frame`, awaited."""
        frame = await asyncio.to_thread(self._setup.frame)
        async with aclosing(aiter(self)) as results:
            async for result in results:
                frame.add(result)
        return await asyncio.to_thread(frame.made)
