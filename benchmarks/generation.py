"""Tokens per second of a model in this process: through this package, and through xllamacpp driven directly.

    python benchmarks/generation.py [--tokens 200] [--rounds 15] [--model PATH]

The ways are interleaved, and each round makes a ratio against the direct way of the same kind (whole, streamed), as the
machine's own speed drifts. The medians of these ratios are what counts; 1.00 is as fast as direct.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xllamacpp

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.providers.gguf.store import ModelStore

MESSAGES = [{"role": "user", "content": "Tell me a long story about a llama."}]
N_CTX = 4096


def direct_server(model: Path) -> Any:
    """The library as its own documentation drives it, with the engine settings of this package."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_ctx = N_CTX
    parameters.n_batch = 512
    parameters.cache_ram_mib = 0
    parameters.verbosity = 0
    return xllamacpp.Server(parameters)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    stored = ModelStore.of_user().preferred()
    model = options.model or (stored.path if stored else None)
    if model is None:
        parser.error("no model: run `llama-client pull smollm2-135m`, or give --model")

    server = direct_server(model)
    client = LlamaClient.for_provider("gguf", model_path=model, n_ctx=N_CTX)
    loop = asyncio.new_event_loop()
    async_client = AsyncLlamaClient.for_provider("gguf", model_path=model, n_ctx=N_CTX)
    body = {"messages": MESSAGES, "max_tokens": options.tokens, "temperature": 0, "ignore_eos": True}
    ours: Any = {
        "messages": MESSAGES,
        "max_tokens": options.tokens,
        "temperature": 0,
        "extra_body": {"ignore_eos": True},
    }

    def direct_call() -> int:
        return int(server.handle_chat_completions(body)["usage"]["completion_tokens"])

    def direct_stream() -> int:
        usage: list[int] = []

        def receive(chunk: dict[str, Any]) -> bool:
            if chunk.get("usage"):
                usage.append(chunk["usage"]["completion_tokens"])
            return False

        server.handle_chat_completions({**body, "stream": True, "stream_options": {"include_usage": True}}, receive)
        return usage[-1]

    def our_call() -> int:
        return client.chat.completions.create(**ours).usage.completion_tokens or 0

    def our_stream() -> int:
        with client.chat.completions.create(stream=True, **ours) as stream:
            for _ in stream:
                pass
        return stream.completion.usage.completion_tokens or 0

    async def our_async_stream() -> int:
        async with await async_client.chat.completions.create(stream=True, **ours) as stream:
            async for _ in stream:
                pass
        return stream.completion.usage.completion_tokens or 0

    ways: dict[str, Callable[[], int]] = {
        "direct, whole": direct_call,
        "ours, whole": our_call,
        "direct, streamed": direct_stream,
        "ours, streamed": our_stream,
        "ours, streamed, async": lambda: loop.run_until_complete(our_async_stream()),
    }
    compared = {
        "ours, whole": "direct, whole",
        "ours, streamed": "direct, streamed",
        "ours, streamed, async": "direct, streamed",
    }
    for way in ways.values():
        way()
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(options.rounds):
        # Another order each round, so that no way always follows the same one.
        names = list(ways)[round_ % len(ways) :] + list(ways)[: round_ % len(ways)]
        for name in names:
            started = time.perf_counter()
            tokens = ways[name]()
            speeds[name].append(tokens / (time.perf_counter() - started))
    print(f"{model.name}, {options.tokens} tokens, {options.rounds} rounds, medians")
    for name, values in speeds.items():
        ratio = ""
        if name in compared:
            pairs = zip(values, speeds[compared[name]], strict=True)
            ratio = f"   {statistics.median(mine / direct for mine, direct in pairs):.3f} x {compared[name]}"
        print(f"{name:24}{statistics.median(values):8.1f} tokens/s{ratio}")
    client.close()
    loop.run_until_complete(async_client.aclose())
    loop.close()


if __name__ == "__main__":
    main()
