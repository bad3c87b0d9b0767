"""Tokens per second of a model in this process: through this package, and through xllamacpp driven directly.

    python benchmarks/generation.py [--tokens 120] [--rounds 24] [--model PATH]

All ways use one loaded engine (two in a process slow each other, and no two loads are equally fast), and take turns,
another first in each round. Each round makes ratios against the direct way of the same kind (whole, streamed), as the
machine's own speed drifts; their medians are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.providers.gguf.engine import EngineOptions
from llama_client.providers.gguf.engine_registry import lease
from llama_client.providers.gguf.store import ModelStore

MESSAGES = [{"role": "user", "content": "Tell me a long story about a llama."}]
N_CTX = 4096
Way = Callable[[], object]
# Each of ours, and the direct way that it is held against.
PAIRS = {
    "ours, whole": "direct, whole",
    "ours, streamed": "direct, streamed",
    "ours, streamed, async": "direct, streamed",
}


def direct_ways(server: Any, tokens: int) -> dict[str, Way]:
    """The library as its own documentation drives it."""
    body = {"messages": MESSAGES, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    return {
        "direct, whole": lambda: server.handle_chat_completions(body),
        "direct, streamed": lambda: server.handle_chat_completions(streamed, lambda _: False),
    }


def our_ways(
    client: LlamaClient, async_client: AsyncLlamaClient, run: Callable[..., object], tokens: int
) -> dict[str, Way]:
    """The same through the clients."""
    request: Any = {
        "messages": MESSAGES,
        "max_tokens": tokens,
        "temperature": 0,
        "extra_body": {"ignore_eos": True},
    }

    def whole() -> None:
        assert client.chat.completions.create(**request).usage.completion_tokens == tokens

    def streamed() -> None:
        with client.chat.completions.create(stream=True, **request) as stream:
            for _ in stream:
                pass

    async def streamed_async() -> None:
        async with await async_client.chat.completions.create(stream=True, **request) as stream:
            async for _ in stream:
                pass

    return {"ours, whole": whole, "ours, streamed": streamed, "ours, streamed, async": lambda: run(streamed_async())}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    stored = ModelStore.of_user().preferred()
    model: Path | None = options.model or (stored.path if stored else None)
    if model is None:
        parser.error("no model: run `llama-client pull smollm2-135m`, or give --model")
    # The clients below find this engine by its options and share it; its server is the library itself.
    leased = lease(EngineOptions(model.resolve(), n_ctx=N_CTX))
    client = LlamaClient.for_provider("gguf", model_path=model, n_ctx=N_CTX)
    async_client = AsyncLlamaClient.for_provider("gguf", model_path=model, n_ctx=N_CTX)
    with asyncio.Runner() as runner:
        ways = direct_ways(leased.engine._server, options.tokens)
        ways |= our_ways(client, async_client, runner.run, options.tokens)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            way()
        for round_ in range(options.rounds):
            first = round_ % len(ways)
            for name in [*ways][first:] + [*ways][:first]:
                started = time.perf_counter()
                ways[name]()
                seconds[name].append(time.perf_counter() - started)
        runner.run(async_client.aclose())
    client.close()
    leased.release()
    print(f"{model.name}, {options.tokens} tokens, {options.rounds} rounds, medians")
    for name, values in seconds.items():
        ratio = ""
        if name in PAIRS:
            ratios = [theirs / mine for mine, theirs in zip(values, seconds[PAIRS[name]], strict=True)]
            ratio = f"   {statistics.median(ratios):.3f} x {PAIRS[name]}"
        print(f"{name:24}{options.tokens / statistics.median(values):8.1f} tokens/s{ratio}")


if __name__ == "__main__":
    main()
