"""How soon a stopped generation frees its slot: from the stop to the first word of the next request on a single slot.

python benchmarks/cancellation.py [--rounds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from typing import Any

from llama_client import AsyncLlamaClient, LlamaClient

ENDLESS: Any = {"messages": [{"role": "user", "content": "Tell me a story."}], "extra_body": {"ignore_eos": True}}
SHORT: Any = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
CONFIG = {"providers": {"gguf": {"n_parallel": 1}}}


def closed_stream(client: LlamaClient) -> float:
    """A stream that is closed after its first words; the wait of the next request for the slot."""
    stream = client.chat.completions.create(stream=True, **ENDLESS)
    for _ in range(5):
        next(stream)
    stopped = time.perf_counter()
    stream.close()
    client.chat.completions.create(**SHORT)
    return time.perf_counter() - stopped


async def cancelled_task(client: AsyncLlamaClient) -> float:
    """A task that is cancelled in the middle of its answer; the wait of the next request for the slot."""
    task = asyncio.create_task(client.chat.completions.create(**ENDLESS))
    await asyncio.sleep(0.3)
    stopped = time.perf_counter()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.chat.completions.create(**SHORT)
    return time.perf_counter() - stopped


async def cancelled_tasks(rounds: int) -> list[float]:
    """Several of them on one client."""
    async with AsyncLlamaClient(CONFIG) as client:
        await client.chat.completions.create(**SHORT)
        return [await cancelled_task(client) for _ in range(rounds)]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with LlamaClient(CONFIG) as client:
        client.chat.completions.create(**SHORT)
        streams = [closed_stream(client) for _ in range(rounds)]
    tasks = asyncio.run(cancelled_tasks(rounds))
    for name, values in (("closed stream", streams), ("cancelled task", tasks)):
        print(f"{name:16} median {statistics.median(values) * 1000:6.1f} ms   worst {max(values) * 1000:6.1f} ms")


if __name__ == "__main__":
    main()
