"""Tokens per second of a model in this process: through this package, and through xllamacpp driven directly.

    python benchmarks/generation.py [--tokens 200] [--rounds 15] [--model PATH]

The two are interleaved, in turns the one or the other first, and each is loaded alone: a second engine in the process
slows both, as their threads no longer wait for each other actively. Each round makes ratios against the direct way of
the same kind (whole, streamed), as the machine's own speed drifts; their medians are what counts.
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
Way = Callable[[], int]
# Each of ours, and the direct way that it is held against.
PAIRS = {
    "ours, whole": "direct, whole",
    "ours, streamed": "direct, streamed",
    "ours, streamed, async": "direct, streamed",
}


def measured(ways: dict[str, Way], speeds: dict[str, list[float]]) -> None:
    """Runs each way once to warm up and once for the record."""
    for name, way in ways.items():
        way()
        started = time.perf_counter()
        tokens = way()
        speeds.setdefault(name, []).append(tokens / (time.perf_counter() - started))


def direct(model: Path, tokens: int, speeds: dict[str, list[float]]) -> None:
    """The library as its own documentation drives it."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_ctx = N_CTX
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    body = {"messages": MESSAGES, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}

    def whole() -> int:
        return int(server.handle_chat_completions(body)["usage"]["completion_tokens"])

    def streamed() -> int:
        counts: list[int] = []

        def receive(chunk: dict[str, Any]) -> bool:
            if chunk.get("usage"):
                counts.append(chunk["usage"]["completion_tokens"])
            return False

        server.handle_chat_completions({**body, "stream": True, "stream_options": {"include_usage": True}}, receive)
        return counts[-1]

    measured({"direct, whole": whole, "direct, streamed": streamed}, speeds)


def ours(model: Path, tokens: int, speeds: dict[str, list[float]]) -> None:
    """The same through a synchronous and an asynchronous client, which share one engine."""
    request: Any = {
        "messages": MESSAGES,
        "max_tokens": tokens,
        "temperature": 0,
        "extra_body": {"ignore_eos": True},
    }
    loop = asyncio.new_event_loop()
    async_client = AsyncLlamaClient.for_provider("gguf", model_path=model, n_ctx=N_CTX)
    with LlamaClient.for_provider("gguf", model_path=model, n_ctx=N_CTX) as client:
        create = client.chat.completions.create

        def whole() -> int:
            return create(**request).usage.completion_tokens or 0

        def streamed() -> int:
            with create(stream=True, **request) as stream:
                for _ in stream:
                    pass
            return stream.completion.usage.completion_tokens or 0

        async def streamed_async() -> int:
            async with await async_client.chat.completions.create(stream=True, **request) as stream:
                async for _ in stream:
                    pass
            return stream.completion.usage.completion_tokens or 0

        ways: dict[str, Way] = {
            "ours, whole": whole,
            "ours, streamed": streamed,
            "ours, streamed, async": lambda: loop.run_until_complete(streamed_async()),
        }
        measured(ways, speeds)
        loop.run_until_complete(async_client.aclose())
    loop.close()


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
    speeds: dict[str, list[float]] = {}
    for round_ in range(options.rounds):
        for side in (direct, ours) if round_ % 2 else (ours, direct):
            side(model, options.tokens, speeds)
    print(f"{model.name}, {options.tokens} tokens, {options.rounds} rounds, medians")
    for name, values in sorted(speeds.items()):
        ratio = ""
        if name in PAIRS:
            pairs = zip(values, speeds[PAIRS[name]], strict=True)
            ratio = f"   {statistics.median(mine / theirs for mine, theirs in pairs):.3f} x {PAIRS[name]}"
        print(f"{name:24}{statistics.median(values):8.1f} tokens/s{ratio}")


if __name__ == "__main__":
    main()
