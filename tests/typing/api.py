"""Calls as users type them, checked by mypy and pyright: never run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Unpack, assert_type

import httpx
from pydantic import BaseModel

import llama_client
from llama_client import (
    AskParams,
    AsyncChatStream,
    AsyncLlamaClient,
    Attempt,
    BudgetState,
    ChatCompletion,
    ChatCompletionChunk,
    ChatStream,
    Choice,
    Config,
    Cost,
    CostEstimate,
    CostGroup,
    CostReport,
    CreateParams,
    DayCosts,
    LlamaClient,
    Message,
    ModelInfo,
    ParseParams,
    ProviderInfo,
    TargetHealth,
    Timing,
    TokenCount,
    ToolCall,
    TrafficReport,
    Usage,
    load_config,
)

plain: list[dict[str, str]] = [{"role": "user", "content": "hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Capital(BaseModel):
    city: str


def calls(client: LlamaClient, flag: bool, maybe: bool | None) -> None:
    create = client.chat.completions.create
    assert_type(create(messages=plain), ChatCompletion)
    assert_type(create(messages=plain, stream=False), ChatCompletion)
    assert_type(create(messages=plain, stream=None), ChatCompletion)
    assert_type(create(messages=plain, stream=True), ChatStream)
    assert_type(create(messages=plain, stream=flag), ChatCompletion | ChatStream)
    assert_type(create(messages=plain, stream=maybe), ChatCompletion | ChatStream)
    reply = create(
        model=["gguf/a", "gguf/b"],
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "x"}]},
        ],
        temperature=0,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        max_tokens=10,
        max_completion_tokens=10,
        stop=["a", "b"],
        seed=1,
        n=2,
        frequency_penalty=0,
        presence_penalty=0.5,
        repetition_penalty=1.1,
        logit_bias={1: 5},
        logprobs=True,
        top_logprobs=2,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
        reasoning_effort="low",
        reasoning_format="parsed",
        service_tier="flex",
        response_format={"type": "json_object"},
        stream_options=None,
        user="u",
        timeout=5,
        tags=None,
        extra_body={"guided_regex": "a+"},
        extra_headers={"x-team": "llamas"},
    )
    assert_type(reply.text, str)
    assert_type(reply.raw, dict[str, Any])
    assert_type(reply.to_openai(), dict[str, Any])
    assert_type(reply.cost, Cost)
    assert_type(reply.cost.usd, Decimal | None)
    assert_type(reply.attempts, list[Attempt])
    assert_type(reply.timing, Timing)
    assert_type(reply.usage, Usage)
    assert_type(client.ask("hi", model="gguf/a", max_tokens=5), ChatCompletion)
    assert_type(client.ask("hi", system="Be brief.", response_format={"type": "text"}), ChatCompletion)


def passed_on(client: LlamaClient, **params: Unpack[AskParams]) -> None:
    """Parameters in a dict of their own, for functions that pass them on."""
    create = client.chat.completions.create
    assert_type(client.ask("hi", **params), ChatCompletion)
    asked: CreateParams = {"messages": plain, "model": "chat"}
    assert_type(create(**asked), ChatCompletion)
    assert_type(create(**asked, stream=True), ChatStream)
    parsed: ParseParams = {"messages": plain, "temperature": 0}
    assert_type(client.chat.completions.parse(**parsed, response_format=Capital), ChatCompletion[Capital])


def tools(client: LlamaClient) -> None:
    """A reply's message goes back as it is, with the result of each of its calls."""
    reply = client.ask("Is it raining in Rome?", tools=[WEATHER], tool_choice="auto")
    choice = reply.choices[0]
    assert_type(choice, Choice)
    assert_type(choice.message, Message)
    messages: list[dict[str, object] | Message] = [{"role": "user", "content": "Is it raining in Rome?"}]
    messages.append(choice.message)
    for call in choice.message.tool_calls or []:
        assert_type(call, ToolCall)
        assert_type(call.function.name, str)
        assert_type(call.function.arguments, str)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "no"})
    assert_type(client.ask(messages), ChatCompletion)
    create = client.chat.completions.create
    assert_type(create(messages=[*plain, choice.message]), ChatCompletion)
    assert_type(create(messages=[*plain, choice.message], stream=True), ChatStream)


def streams(client: LlamaClient) -> None:
    with client.chat.completions.create(messages=plain, stream=True) as stream:
        assert_type(stream, ChatStream)
        assert_type(stream.target, str)
        assert_type(stream.request_id, str)
        for chunk in stream:
            assert_type(chunk, ChatCompletionChunk)
            assert_type(chunk.text, str)
            assert_type(chunk.has_content, bool)
            assert_type(chunk.to_openai(), dict[str, Any])
            for choice in chunk.choices:
                assert_type(choice.delta.content, str | None)
                assert_type(choice.delta.reasoning, str | None)
                for piece in choice.delta.tool_calls or []:
                    assert_type(piece.index, int)
    assert_type(stream.partial, ChatCompletion)
    assert_type(stream.completion, ChatCompletion)
    stream.close()


def parsing(client: LlamaClient) -> None:
    reply = client.chat.completions.parse(messages=plain, response_format=Capital, model="chat", max_tokens=20)
    assert_type(reply, ChatCompletion[Capital])
    assert_type(reply.choices[0], Choice[Capital])
    assert_type(reply.choices[0].message, Message[Capital])
    assert_type(reply.choices[0].message.parsed, Capital | None)
    if (capital := reply.choices[0].message.parsed) is not None:
        assert_type(capital.city, str)
    # Whoever takes any answer takes this one, and its message goes back like any other.
    whole(reply)
    client.ask([*plain, reply.choices[0].message])


def whole(reply: ChatCompletion) -> str:
    return reply.text


def opening(flag: bool | None) -> None:
    with httpx.Client() as http, LlamaClient(http_client=http, tags={"app": "x"}, local_only=flag) as client:
        assert_type(client, LlamaClient)
        assert_type(client.with_options(timeout=5, tags={"user": "u"}, model=["a/b", "c/d"]), LlamaClient)
    for config in (None, "llama-client.toml", Path("llama-client.toml"), {"default_model": "gguf/default"}, Config()):
        LlamaClient(config).close()
    assert_type(LlamaClient.for_provider("gguf", model_path="x.gguf", n_ctx=512), LlamaClient)
    LlamaClient.for_provider("vllm", kind="openai", base_url="http://127.0.0.1:8000/v1", usd_per_hour=1.99)
    LlamaClient.for_provider("groq", api_key="a-key", timeout=5, headers={"x-team": "llamas"})
    LlamaClient.for_provider("box", kind="openai", base_url="http://127.0.0.1:8000/v1", local_only=True)
    LlamaClient.for_provider("ollama", options={"num_ctx": 8192}, keep_alive="10m", allow_truncation=True)
    LlamaClient.for_provider("gguf", lora=[{"path": "x.gguf", "scale": 1.0}], n_parallel=4, mmproj="m.gguf")
    LlamaClient.for_provider(
        "gguf", lora=[{"path": "x.gguf", "name": "short"}], draft_model_path="d.gguf", draft_tokens=4
    )
    LlamaClient.for_provider("gguf", model_path="x.gguf", n_parallel=4, prompt_cache_mib=512)


def configuration() -> None:
    config = load_config({"default_model": "gguf/default"}, environ={}, working_folder=Path())
    assert_type(config, Config)
    assert_type(config.default_model, str | None)
    assert_type(config.local_only, bool)
    assert_type(config.local_only_source, str | None)
    assert_type(config.privacy.allow_hosts, tuple[str, ...])
    assert_type(load_config(), Config)
    assert_type(llama_client.__version__, str)


def models_and_health(client: LlamaClient) -> None:
    for provider in client.providers.list():
        assert_type(provider, ProviderInfo)
    for model in client.models.list():
        assert_type(model, ModelInfo)
        assert_type(model.provider, str)
    assert_type(client.default_model(), str)
    assert_type(client.health(), dict[str, TargetHealth])
    client.sdk("groq").models.list()
    image = {"type": "image_url", "image_url": {"url": Path("llama.png"), "detail": "low"}}
    bytes_of_it = {"type": "image_url", "image_url": {"url": b"..."}}
    client.ask([{"role": "user", "content": [image, bytes_of_it]}], model="groq/some-model")
    assert_type(client.count_tokens("hi", "chat"), TokenCount)
    assert_type(client.count_tokens(plain).tokens, int)
    assert_type(client.estimate_cost(plain, "chat", max_tokens=5), CostEstimate)


def costs(client: LlamaClient) -> None:
    assert_type(client.costs.report(since="7d", by="tag:user"), CostReport)
    assert_type(client.costs.report(since=date(2026, 11, 1)), CostReport)
    assert_type(client.costs.report(since=datetime(2026, 11, 1)), CostReport)  # noqa: DTZ001 - never run
    for group in client.costs.report(since=timedelta(days=1)).groups:
        assert_type(group, CostGroup)
        assert_type(group.usd, Decimal)
    assert_type(client.costs.timeline(since=timedelta(days=7), by="provider"), list[DayCosts])
    assert_type(client.costs.traffic(since="30d", target="groq/openai/gpt-oss-20b"), TrafficReport)
    assert_type(client.costs.budgets(), list[BudgetState])


async def asynchronous(prompts: Sequence[str], flag: bool) -> None:
    async with httpx.AsyncClient() as http, AsyncLlamaClient(http_client=http, tags={"app": "x"}) as client:
        assert_type(client, AsyncLlamaClient)
        create = client.chat.completions.create
        for prompt in prompts:
            assert_type(await client.ask(prompt), ChatCompletion)
        assert_type(await asyncio.gather(*(client.ask(prompt) for prompt in prompts)), list[ChatCompletion])
        assert_type(await create(messages=plain), ChatCompletion)
        assert_type(await create(messages=plain, stream=False), ChatCompletion)
        assert_type(await create(messages=plain, stream=True), AsyncChatStream)
        assert_type(await create(messages=plain, stream=flag), ChatCompletion | AsyncChatStream)
        parsed = await client.chat.completions.parse(messages=plain, response_format=Capital)
        assert_type(parsed.choices[0].message.parsed, Capital | None)
        async with await create(messages=plain, stream=True) as stream:
            async for chunk in stream:
                assert_type(chunk, ChatCompletionChunk)
        assert_type(stream.completion, ChatCompletion)
        assert_type(stream.partial, ChatCompletion)
        assert_type((stream.target, stream.request_id), tuple[str, str])
        await stream.aclose()
    await client.aclose()


async def asynchronous_beside_chat(client: AsyncLlamaClient) -> None:
    assert_type(await client.providers.list(), list[ProviderInfo])
    assert_type(await client.models.list(), list[ModelInfo])
    assert_type(await client.default_model(), str)
    assert_type(client.health(), dict[str, TargetHealth])
    assert_type(client.with_options(tags={"user": "u"}), AsyncLlamaClient)
    assert_type(AsyncLlamaClient.for_provider("groq", api_key="k"), AsyncLlamaClient)
    assert_type(await client.costs.report(since="7d", by="day"), CostReport)
    assert_type(await client.costs.timeline(since="7d"), list[DayCosts])
    assert_type(await client.costs.traffic(), TrafficReport)
    assert_type(await client.costs.budgets(), list[BudgetState])
    assert_type(await client.count_tokens("hi"), TokenCount)
    assert_type(await client.estimate_cost("hi", max_tokens=5), CostEstimate)
    await client.sdk("groq").models.list()


def wrong(client: LlamaClient) -> None:
    client.ask("hi", temprature=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.chat.completions.create(messages=plain, temprature=1)  # type: ignore[call-overload]  # pyright: ignore
    client.chat.completions.create(messages=plain, system="x")  # type: ignore[call-overload]  # pyright: ignore
    client.ask("hi", stream=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.ask("hi", temperature="hot")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.chat.completions.parse(messages=plain, response_format={})  # type: ignore[arg-type]  # pyright: ignore
    client.chat.completions.create(model="gguf/a")  # type: ignore[call-overload]  # pyright: ignore
    reply = client.chat.completions.parse(messages=plain, response_format=Capital)
    print(reply.choices[0].message.parsed.city)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
