"""What a hit of the cache takes, whole: from `client.chat.completions.create` to its answer.

Over HTTP to a loopback server, with the ledger in a SQLite file. Beside it the same call without the cache, and how
many calls are made where 200 threads, and 200 tasks, ask the same at once.

    python benchmarks/cache.py [--calls 3000] [--most-us 60]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from http_calls import serve

from llama_client import AsyncLlamaClient, LlamaClient

WARM_UP, AT_ONCE = 50, 200
_MESSAGES = [{"role": "user", "content": "Why do llamas hum? Answer in one word."}]
_PARAMS: dict[str, Any] = {"messages": _MESSAGES, "temperature": 0, "max_tokens": 8}


def config(url: str, folder: Path, cache: str | None) -> dict[str, Any]:
    """A target with a price, a ledger, and a cache or none."""
    made: dict[str, Any] = {
        "default_model": "one/m",
        "providers": {"one": {"kind": "openai", "api_key": "some-key", "base_url": f"{url}/v1"}},
        "prices": [{"target": "one/m", "input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4}],
        "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
    }
    return made if cache is None else {**made, "cache": {"enabled": True, "url": cache}}


def median_us(call: Callable[[], object], calls: int) -> float:
    """Of single calls, each timed by itself."""
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(calls):
        started = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - started)
    return statistics.median(times) / 1e3


async def async_median_us(configured: dict[str, Any], calls: int) -> float:
    async with AsyncLlamaClient(configured) as client:
        times = []
        for _ in range(WARM_UP + calls):
            started = time.perf_counter_ns()
            await client.chat.completions.create(**_PARAMS)
            times.append(time.perf_counter_ns() - started)
        return statistics.median(times[WARM_UP:]) / 1e3


def made_by_threads(configured: dict[str, Any]) -> int:
    """Calls that were made of those of many threads at once."""
    begin = threading.Barrier(AT_ONCE)

    with LlamaClient(configured) as client, ThreadPoolExecutor(AT_ONCE) as pool:

        def ask(_: int) -> bool:
            begin.wait()
            return client.ask("threads", max_tokens=8).is_cached

        return AT_ONCE - sum(pool.map(ask, range(AT_ONCE)))


async def made_by_tasks(configured: dict[str, Any]) -> int:
    async with AsyncLlamaClient(configured) as client:
        replies = await asyncio.gather(*[client.ask("tasks", max_tokens=8) for _ in range(AT_ONCE)])
        return sum(not reply.is_cached for reply in replies)


def main() -> None:
    """Measures, and says whether a hit takes longer than was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--most-us", type=float, help="fail where the median hit of a sync call takes longer")
    arguments = parser.parse_args()
    found: dict[str, float] = {}
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, tempfile.TemporaryDirectory() as name:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url, folder = f"http://127.0.0.1:{listener.getsockname()[1]}", Path(name)
        with LlamaClient(config(url, folder, None)) as client:
            found["call_without_cache_us"] = median_us(
                lambda: client.chat.completions.create(**_PARAMS), arguments.calls // 3
            )
        with LlamaClient(config(url, folder, "memory")) as client:
            found["hit_us"] = median_us(lambda: client.chat.completions.create(**_PARAMS), arguments.calls)
        found["async_hit_us"] = asyncio.run(async_median_us(config(url, folder, "memory"), arguments.calls))
        answers = f"sqlite:///{folder / 'answers.db'}"
        found["threads_made_calls"] = made_by_threads(config(url, folder, answers))
        found["tasks_made_calls"] = asyncio.run(made_by_tasks(config(url, folder, answers)))
    print(json.dumps({name: round(value, 1) for name, value in found.items()}, indent=2))
    if arguments.most_us is not None and found["hit_us"] > arguments.most_us:
        sys.exit("a hit takes longer than was asked for")


if __name__ == "__main__":
    main()
