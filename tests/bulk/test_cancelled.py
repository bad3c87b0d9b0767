"""An async job that is cancelled before its first call: what it had opened is closed, and the next one can begin."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.bulk.outputs import whole_files
from llama_client.testing import FakeProvider


class Rows(list[str]):
    """A list that is read row by row, each of which takes a moment.

    Attributes:
        is_read: Set once somebody reads.
    """

    def __init__(self, count: int) -> None:
        super().__init__(f"row {number}" for number in range(count))
        self.is_read = threading.Event()

    def __iter__(self) -> Iterator[str]:
        for row in super().__iter__():
            self.is_read.set()
            time.sleep(0.001)
            yield row


async def iterate(job: Any) -> None:
    async for _ in job:
        pass


def begun(what: str, job: Any, folder: Path) -> Any:
    return {"run": lambda: job.run(folder / "out.jsonl"), "iteration": lambda: iterate(job), "plan": job.plan}[what]()


@pytest.mark.parametrize("what", ["run", "iteration", "plan"])
def test_a_job_that_is_cancelled_while_its_rows_are_looked_at_leaves_its_folder_free(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    with FakeProvider() as fake:
        fake.always("fine")
        with LlamaClient(fake.config()) as client:
            # So that a plan has a folder to lock.
            next(iter(client.bulk(Rows(60_000)[:1], job=folder)))
        rows = Rows(60_000)

        async def cancelled() -> float:
            async with AsyncLlamaClient(fake.config()) as client:
                task = asyncio.ensure_future(begun(what, client.bulk(rows, job=folder), tmp_path))
                await asyncio.to_thread(rows.is_read.wait)
                task.cancel()
                at = time.monotonic()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return time.monotonic() - at

        # A minute's rows are left.
        assert asyncio.run(cancelled()) < 30
        with LlamaClient(fake.config()) as client:
            results = iter(client.bulk(["row 0", "row 1"], job=folder))
            assert [next(results).is_earlier, next(results).is_earlier] == [True, False]
            results.close()


@pytest.mark.parametrize("after", range(12))
def test_wherever_a_job_is_cancelled_the_next_one_can_begin(after: int, tmp_path: Path) -> None:
    rows = ["row 0", "row 1"]
    with FakeProvider() as fake:
        fake.always("fine")

        async def cancelled() -> int:
            async with AsyncLlamaClient(fake.config()) as client:
                task = asyncio.ensure_future(client.bulk(rows).run(tmp_path / "out.jsonl"))
                for _ in range(after):
                    await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.wait([task])
                receipt = await client.bulk(rows).run(tmp_path / "out.jsonl")
                return receipt.answered + receipt.earlier

        assert asyncio.run(cancelled()) == len(rows)


def test_a_run_that_is_cancelled_while_its_output_is_written_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ["row 0", "row 1"]
    is_there = threading.Event()
    replace = os.replace

    def slow(part: Path, target: Path) -> None:
        replace(part, target)
        if Path(target).name == "out.jsonl":
            is_there.set()
            time.sleep(0.2)

    monkeypatch.setattr(os, "replace", slow)
    with FakeProvider() as fake:
        fake.always("fine")

        async def cancelled() -> int:
            async with AsyncLlamaClient(fake.config()) as client:
                task = asyncio.ensure_future(client.bulk(rows).run(tmp_path / "out.jsonl"))
                await asyncio.to_thread(is_there.wait)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                # Not even here is the file another one's.
                return (await client.bulk(rows).run(tmp_path / "out.jsonl")).earlier

        assert asyncio.run(cancelled()) == len(rows)


def test_a_process_that_ends_right_behind_its_output_may_write_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndedError(BaseException):
        pass

    def ended(folder: Path) -> None:
        raise EndedError

    with FakeProvider() as fake, LlamaClient(fake.config()) as client:
        fake.always("fine")
        with monkeypatch.context() as patch:
            patch.setattr(whole_files, "_sync_folder", ended)
            with pytest.raises(EndedError):
                client.bulk(["row 0"]).run(tmp_path / "out.jsonl")
        assert (tmp_path / "out.jsonl").exists()
        assert client.bulk(["row 0"]).run(tmp_path / "out.jsonl").earlier == 1
