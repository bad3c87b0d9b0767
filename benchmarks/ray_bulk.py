"""A bulk job on Ray beside Ray Data LLM's own HTTP processor: 256 rows of 100 ms, on the same cluster, in one run.

Times are taken at the server, from the first request to the last answer: after the start of Ray and of the workers.

Ray Data LLM's default is one worker.

    python benchmarks/ray_bulk.py [--rows 256] [--takes-s 0.1] [--workers 2]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bulk import Served, prompts

from llama_client import LlamaClient


class TimedServer(Served):
    """Remembers when the first request came, and when the last answer went; a GET reads that, and forgets it."""

    first_at = last_at = 0.0
    answers = 0

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            told = f"{TimedServer.last_at - TimedServer.first_at} {TimedServer.answers}".encode()
            TimedServer.first_at, TimedServer.answers = 0.0, 0
            assert self._transport is not None
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))
            return
        TimedServer.first_at = TimedServer.first_at or asyncio.get_running_loop().time()
        super().data_received(data)

    def reply(self, status: int, body: Any, headers: str = "", *, is_cut: bool = False) -> None:
        super().reply(status, body, headers, is_cut=is_cut)
        TimedServer.last_at = asyncio.get_running_loop().time()
        TimedServer.answers += 1


async def serve(takes_s: float) -> None:
    Served.takes_s = takes_s
    server = await asyncio.get_running_loop().create_server(TimedServer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def served(takes_s: float) -> Iterator[str]:
    """The address of a server in a child."""
    command = [sys.executable, __file__, "--serve", "--takes-s", str(takes_s)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
    finally:
        child.kill()
        child.communicate()


def ours(url: str, rows: int, workers: int) -> None:
    providers = {"here": {"kind": "openai", "base_url": f"{url}/v1"}}
    with LlamaClient({"providers": providers, "ledger": {"enabled": False}}) as client:
        job = client.bulk(prompts(rows), model="here/m", prompt="{text}", engine="ray", ray_workers=workers)
        assert all(result.error is None for result in job)


def processor(url: str, rows: int, workers: int) -> None:
    """Ray Data LLM's: each worker asks one request at a time."""
    import ray.data
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    config = HttpRequestProcessorConfig(url=f"{url}/v1/chat/completions", headers={}, concurrency=workers)
    ask = build_processor(
        config,
        preprocess=lambda row: {
            "payload": {"model": "m", "messages": [{"role": "user", "content": row["text"]}]},
        },
        postprocess=lambda row: {"answer": row["http_response"]["choices"][0]["message"]["content"]},
    )
    assert ask(ray.data.from_items(list(prompts(rows)))).count() == rows


def seconds_of(way: Callable[[str, int, int], None], url: str, rows: int, workers: int) -> float:
    way(url, rows, workers)
    with urllib.request.urlopen(f"{url}/times") as answer:
        seconds, answers = answer.read().split()
    assert int(answers) == rows, f"{int(answers)} answers for {rows} rows"
    return float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--takes-s", type=float, default=0.1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--serve", action="store_true")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.takes_s))
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    folder = tempfile.mkdtemp(prefix="ray-")
    ray.init(num_cpus=2 * given.workers, include_dashboard=False, logging_level=logging.ERROR, _temp_dir=folder)
    try:
        with served(given.takes_s) as url:
            ours_s = seconds_of(ours, url, given.rows, given.workers)
            print(f"llama_client, engine='ray': {ours_s:.2f} s", flush=True)
            for workers in (1, given.workers):
                theirs_s = seconds_of(processor, url, given.rows, workers)
                name = f"Ray Data LLM's HttpRequestProcessorConfig, concurrency={workers}"
                print(f"{name}: {theirs_s:.2f} s, {theirs_s / ours_s:.1f} times as long", flush=True)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
