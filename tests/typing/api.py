"""Calls as users type them, checked by mypy and pyright: never run."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import assert_type

from llama_client import (
    AsyncChatStream,
    AsyncLlamaClient,
    ChatCompletion,
    ChatCompletionChunk,
    ChatStream,
    LlamaClient,
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


async def asynchronous(prompts: Sequence[str]) -> None:
    async with AsyncLlamaClient() as client:
        for prompt in prompts:
            assert_type(await client.ask(prompt), ChatCompletion)
        assert_type(await client.chat.completions.create(messages=plain), ChatCompletion)
        stream = await client.chat.completions.create(messages=plain, stream=True)
        assert_type(stream, AsyncChatStream)
        async with stream:
            async for chunk in stream:
                assert_type(chunk.text, str)


def wrong(client: LlamaClient) -> None:
    client.ask("hi", temprature=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.ask("hi", temperature="hot")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.chat.completions.create(model="gguf/a")  # type: ignore[call-overload]  # pyright: ignore
