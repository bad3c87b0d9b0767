"""Jobs of both clients, called in the same way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.bulk.receipt import BulkReceipt
from llama_client.bulk.results import BulkResult

MODES = ["sync", "async"]


def results(
    mode: str,
    config: Any,
    rows: Any,
    *,
    most: int | None = None,
    each: Callable[[BulkResult], Any] = id,
    **options: Any,
) -> tuple[list[BulkResult], BulkReceipt]:
    """The results that an iteration gives, at most so many, and the receipt. `each` is called with every one."""
    if mode == "sync":
        with LlamaClient(config) as client:
            job = client.bulk(rows, **options)
            found = []
            for result in islice(job, most):
                each(result)
                found.append(result)
            return found, job.receipt

    async def iterate() -> tuple[list[BulkResult], BulkReceipt]:
        async with AsyncLlamaClient(config) as client:
            job, found = client.bulk(rows, **options), []
            async for result in job:
                each(result)
                found.append(result)
                if len(found) == most:
                    break
            return found, job.receipt

    return asyncio.run(iterate())


def run(mode: str, config: Any, rows: Any, output: Path, **options: Any) -> BulkReceipt:
    if mode == "sync":
        with LlamaClient(config) as client:
            return client.bulk(rows, **options).run(output)

    async def run_it() -> BulkReceipt:
        async with AsyncLlamaClient(config) as client:
            return await client.bulk(rows, **options).run(output)

    return asyncio.run(run_it())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
