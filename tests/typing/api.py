"""Calls as users type them, checked by mypy and pyright: never run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import assert_type

import httpx
from pydantic import BaseModel

from llama_client import (
    AsyncChatStream,
    AsyncLlamaClient,
    BudgetState,
    ChatCompletion,
    ChatCompletionChunk,
    ChatStream,
    CostEstimate,
    CostReport,
    DayCosts,
    LlamaClient,
    ProviderInfo,
    TargetHealth,
    TrafficReport,
)
from llama_client.crossover import (
    ApiPrice,
    Crossover,
    Purchase,
    Scenario,
    SelfHost,
    Traffic,
    decode_tpot_ms,
    evaluate,
    max_throughput,
)

plain: list[dict[str, str]] = [{"role": "user", "content": "hi"}]


def sync(flag: bool) -> None:
    with LlamaClient({"default_model": "gguf/default"}, tags={"app": "x"}) as client:
        create = client.chat.completions.create
        assert_type(create(messages=plain), ChatCompletion)
        assert_type(create(messages=plain, stream=False), ChatCompletion)
        assert_type(create(messages=plain, stream=True), ChatStream)
        assert_type(create(messages=plain, stream=flag), ChatCompletion | ChatStream)
        reply = create(
            model=["gguf/a", "gguf/b"],
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "x"}]},
            ],
            temperature=0,
            stop=["a", "b"],
            tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            response_format={"type": "json_object"},
            tags=None,
        )
        assert_type(reply.text, str)
        assert_type(reply.cost.usd, Decimal | None)
        create(messages=[*plain, reply.choices[0].message])
        assert_type(client.ask("hi", model="gguf/a", max_tokens=5), ChatCompletion)
        assert_type(client.with_options(timeout_s=5), LlamaClient)
        with create(messages=plain, stream=True) as stream:
            for chunk in stream:
                assert_type(chunk, ChatCompletionChunk)
        assert_type(stream.completion, ChatCompletion)
    assert_type(LlamaClient.for_provider("gguf", model_path="x.gguf", n_ctx=512), LlamaClient)


class Capital(BaseModel):
    city: str


def providers() -> None:
    with httpx.Client() as http, LlamaClient(http_client=http) as client:
        assert_type(client.chat.completions.parse(messages=plain, response_format=Capital), ChatCompletion)
        assert_type(client.models.list(), list[ProviderInfo])
        assert_type(client.default_model(), str)
        assert_type(client.health(), dict[str, TargetHealth])
        client.ask("hi", model=["chat", "groq/openai/gpt-oss-20b"])
        image = {"type": "image_url", "image_url": {"url": Path("llama.png")}}
        client.ask([{"role": "user", "content": [image]}], model="groq/some-model", max_completion_tokens=5)
        client.sdk("groq").models.list()
        assert_type(client.costs.report(since="7d", by="tag:user"), CostReport)
        assert_type(client.costs.traffic(since="30d", target="groq/openai/gpt-oss-20b"), TrafficReport)
        assert_type(client.costs.report().groups[0].usd, Decimal)
        assert_type(client.costs.by_day(since=timedelta(days=7)), list[DayCosts])
        assert_type(client.costs.budgets(), list[BudgetState])
        assert_type(client.count_tokens("hi").tokens, int)
        assert_type(client.estimate_cost(plain, "chat", max_tokens=5), CostEstimate)
    LlamaClient.for_provider("vllm", kind="openai", base_url="http://127.0.0.1:8000/v1", usd_per_hour=1.99)
    LlamaClient.for_provider("groq", api_key="a-key", timeout_s=5, headers={"x-team": "llamas"})
    LlamaClient.for_provider("box", kind="openai", base_url="http://127.0.0.1:8000/v1", local_only=True)
    LlamaClient.for_provider("ollama", options={"num_ctx": 8192}, keep_alive="10m")


async def asynchronous(prompts: Sequence[str]) -> None:
    async with AsyncLlamaClient() as client:
        for prompt in prompts:
            assert_type(await client.ask(prompt), ChatCompletion)
        assert_type(await client.chat.completions.create(messages=plain), ChatCompletion)
        assert_type(await client.chat.completions.parse(messages=plain, response_format=Capital), ChatCompletion)
        assert_type(await client.models.list(), list[ProviderInfo])
        assert_type(await client.default_model(), str)
        assert_type(client.health(), dict[str, TargetHealth])
        assert_type(await client.costs.report(since="7d"), CostReport)
        assert_type(await client.costs.traffic(), TrafficReport)
        assert_type(await client.costs.budgets(), list[BudgetState])
        assert_type(await client.estimate_cost("hi", max_tokens=5), CostEstimate)
        stream = await client.chat.completions.create(messages=plain, stream=True)
        assert_type(stream, AsyncChatStream)
        async with stream:
            async for chunk in stream:
                assert_type(chunk.text, str)


def crossover() -> None:
    scenario = Scenario(
        model="llama-3.3-70b",
        traffic=Traffic(tokens_per_day=2e9, output_share=0.2),
        self_host=SelfHost(gpu="h100_sxm", n_gpus=2, purchase=Purchase(usd_per_gpu=30_000)),
        apis=[ApiPrice(input_usd_per_mtok=0.88, output_usd_per_mtok=0.88)],
    )
    found = evaluate(scenario, draws=10)
    assert_type(found, Crossover)
    assert_type(found.intervals, list[tuple[float, float | None]])
    assert_type(found.first_crossing, float | None)
    assert_type(found.api_usd_per_month(1e9), float | None)
    assert_type(decode_tpot_ms("llama-3.1-8b", "h100_sxm", isl=1000, osl=1000, batch=8), float)
    assert_type(max_throughput("llama-3.1-8b", "h100_sxm", isl=1000, osl=1000, engine="vllm"), float)
    SelfHost(gpus=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def wrong(client: LlamaClient) -> None:
    client.ask("hi", temprature=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.ask("hi", temperature="hot")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.chat.completions.parse(messages=plain, response_format={})  # type: ignore[arg-type]  # pyright: ignore
    client.chat.completions.create(model="gguf/a")  # type: ignore[call-overload]  # pyright: ignore
