"""What a bulk job reaches against loopback servers in processes of their own: times and ratios.

First 256 rows that take 100 ms each, at a server without limits. Then a server that works on 64 requests at once: the
job's answers a second beside a bare loop over the same client, at the best of several concurrencies. Then a server that
permits a rate, and refuses more with `Retry-After`: the answers a second beside that rate.

    python -m benchmarks.bulk [--rounds 3] [--seconds 8] [--only rows throughput rate]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from llama_client import AsyncLlamaClient, LlamaClient
from tests.bulk.connections import JsonConnection

CONCURRENCIES = (8, 16, 32, 64, 128, 256)
SLOTS, TAKES_S = 64, 0.25
RATE, BURST = 50.0, 50.0
ROOT = Path(__file__).parents[1]
WAYS = ("rows", "throughput", "rate")
MESSAGE = {"role": "assistant", "content": "Hum."}
ANSWER = {
    "id": "chat-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


class Bucket:
    """Admits a rate, and a burst."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, time.monotonic()

    def refused_s(self) -> float:
        """0: one is admitted; else seconds until one would be."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate


class Served(JsonConnection):
    """One connection. Requests beyond the slots wait for one."""

    slots = math.inf
    takes_s = 0.0
    bucket: Bucket | None = None
    waiting: ClassVar[deque[Served]] = deque()

    def requested(self, head: bytes, body: bytes) -> None:
        wait_s = 0.0 if Served.bucket is None else Served.bucket.refused_s()
        if wait_s:
            self.reply(429, {"error": {"message": "slower"}}, f"retry-after: {math.ceil(wait_s)}\r\n")
        elif Served.slots > 0:
            self._begin()
        else:
            Served.waiting.append(self)

    def _begin(self) -> None:
        Served.slots -= 1
        asyncio.get_running_loop().call_later(Served.takes_s, self._answer)

    def _answer(self) -> None:
        self.reply(200, ANSWER)
        Served.slots += 1
        if Served.waiting:
            Served.waiting.popleft()._begin()


async def serve() -> None:
    """Prints the port, and serves until the input ends."""
    server = await asyncio.get_running_loop().create_server(Served, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def served(*arguments: str) -> Iterator[dict[str, Any]]:
    """The configuration of a client of a server in a child."""
    command = [sys.executable, "-m", "benchmarks.bulk", "--serve", *arguments]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
        yield {"providers": {"here": {"kind": "openai", "base_url": url, "api_key": "key"}}}
    finally:
        child.kill()
        child.communicate()


def prompts(count: int) -> Iterator[dict[str, str]]:
    return ({"text": f"Why does llama {number} hum?"} for number in range(count))


def job_s(config: dict[str, Any], count: int) -> float:
    """How long a job of so many rows takes."""
    with LlamaClient(config) as client:
        client.ask("Ready?", model="here/m")
        began = time.perf_counter()
        done = sum(result.error is None for result in client.bulk(prompts(count), model="here/m", prompt="{text}"))
        taken_s = time.perf_counter() - began
    assert done == count
    return taken_s


async def async_job_s(config: dict[str, Any], count: int) -> float:
    """The same of an async client."""
    async with AsyncLlamaClient(config) as client:
        await client.ask("Ready?", model="here/m")
        began, done = time.perf_counter(), 0
        async for result in client.bulk(prompts(count), model="here/m", prompt="{text}"):
            done += result.error is None
        taken_s = time.perf_counter() - began
    assert done == count
    return taken_s


async def loop_rate(config: dict[str, Any], concurrency: int, seconds: float) -> float:
    """Answers a second of a bare loop, once all of it is under way."""
    async with AsyncLlamaClient(config) as client:
        ends: list[float] = []
        until = time.perf_counter() + seconds

        async def ask() -> None:
            while time.perf_counter() < until:
                await client.ask("Why does a llama hum?", model="here/m")
                ends.append(time.perf_counter())

        await asyncio.gather(*(ask() for _ in range(concurrency)))
    return (len(ends) - concurrency) / (ends[-1] - ends[concurrency - 1])


def measure_rows(rounds: int) -> None:
    with served("--takes-s", "0.1") as config:
        both: list[list[float]] = [[], []]
        for _ in range(rounds):
            both[0].append(job_s(config, 256))
            both[1].append(asyncio.run(async_job_s(config, 256)))
    for name, times in zip(("sync", "async"), both, strict=True):
        print(
            f"256 rows of 100 ms, {name}: {statistics.median(times):.2f} s (of {', '.join(f'{t:.2f}' for t in times)})"
        )


def measure_throughput(rounds: int, seconds: float) -> None:
    ratios: dict[str, list[float]] = {"sync": [], "async": []}
    with served("--takes-s", str(TAKES_S), "--slots", str(SLOTS)) as config:
        for _ in range(rounds):
            rates = {each: asyncio.run(loop_rate(config, each, seconds / 3)) for each in CONCURRENCIES}
            best = max(rates.values())
            count = round(best * seconds)
            found = {"sync": count / job_s(config, count), "async": count / asyncio.run(async_job_s(config, count))}
            for name, rate in found.items():
                ratios[name].append(rate / best)
            loops = ", ".join(f"{each}: {rate:.0f}" for each, rate in rates.items())
            print(f"  a bare loop, answers a second by concurrency: {loops}; jobs: {found}")
    for name, values in ratios.items():
        print(f"a job beside the best bare loop, {name}: {statistics.median(values):.2f} x")


def measure_rate(rounds: int, seconds: float) -> None:
    count, shares = round(RATE * seconds), []
    for _ in range(rounds):
        with served("--takes-s", "0.1", "--rate", str(RATE), "--burst", str(BURST)) as config:
            shares.append(count / (BURST + RATE * job_s(config, count)))
    print(f"a job beside what was permitted ({BURST:g}, and {RATE:g}/s): {statistics.median(shares):.2f} x ({shares})")


def main() -> None:
    """Measures, or serves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each job")
    parser.add_argument("--only", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--takes-s", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--slots", type=float, default=math.inf, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--burst", type=float, default=1.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        Served.takes_s, Served.slots = given.takes_s, given.slots
        Served.bucket = None if given.rate is None else Bucket(given.rate, given.burst)
        asyncio.run(serve())
        return
    if "rows" in given.only:
        measure_rows(given.rounds)
    if "throughput" in given.only:
        measure_throughput(given.rounds, given.seconds)
    if "rate" in given.only:
        measure_rate(given.rounds, 3 * given.seconds)


if __name__ == "__main__":
    main()
