"""One question in the four modes that every provider must answer: call and stream, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openai.types.chat import ChatCompletion as OpenAICompletion
from openai.types.chat import ChatCompletionChunk as OpenAIChunk

from llama_client import AsyncLlamaClient, ChatCompletion, ChatCompletionChunk, LlamaClient

MODES = ["call-sync", "call-async", "stream-sync", "stream-async"]


@dataclass
class Asker:
    """Asks in one of `MODES`; a stream is read to its end."""

    mode: str
    config: Mapping[str, Any] | None
    chunks: list[ChatCompletionChunk]

    @property
    def streams(self) -> bool:
        return self.mode.startswith("stream")

    def __call__(self, prompt: Any, **params: Any) -> ChatCompletion:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if self.mode.endswith("async"):
            reply = asyncio.run(self._ask_async(messages, params))
        else:
            reply = self._ask(messages, params)
        # Whatever a test is about, each answer and each chunk of it must be one of OpenAI's too.
        OpenAICompletion.model_validate(reply.to_openai())
        for chunk in self.chunks:
            OpenAIChunk.model_validate(chunk.to_openai())
        return reply

    def _ask(self, messages: Any, params: dict[str, Any]) -> ChatCompletion:
        with LlamaClient(self.config) as client:
            if not self.streams:
                reply: ChatCompletion = client.chat.completions.create(messages=messages, **params)
                return reply
            with client.chat.completions.create(messages=messages, stream=True, **params) as stream:
                self.chunks = list(stream)
            whole: ChatCompletion = stream.completion
            return whole

    async def _ask_async(self, messages: Any, params: dict[str, Any]) -> ChatCompletion:
        async with AsyncLlamaClient(self.config) as client:
            if not self.streams:
                reply: ChatCompletion = await client.chat.completions.create(messages=messages, **params)
                return reply
            async with await client.chat.completions.create(messages=messages, stream=True, **params) as stream:
                self.chunks = [chunk async for chunk in stream]
            whole: ChatCompletion = stream.completion
            return whole
