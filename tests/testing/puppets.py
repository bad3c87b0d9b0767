"""A provider without a wire that is right, and the same with one fault each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from llama_client.errors import APIConnectionError
from llama_client.providers.base import (
    HttpAnswer,
    Provider,
    ProviderCall,
    ProviderSetup,
    ServedModel,
)
from llama_client.providers.services import Service
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.openai_response import ChunkReader
from llama_client.testing.conformance import Engine, Refusal, Said
from llama_client.types.completion import ChatCompletionChunk


class Puppet(Provider):
    """Says what it is made to say."""

    def __init__(self, strings: Strings) -> None:
        self.strings = strings
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def require(self, call: ProviderCall) -> None:
        for name in sorted(call.request.set_parameters - {"messages", "stream", "timeout"}):
            raise call.unsupported(name, "a puppet takes none")

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        call.facts.sent = True
        reader = ChunkReader(HttpAnswer(200, {}, b"", 0.0), call, lambda choice, _: None)
        self.strings.count += 1
        try:
            said = self.strings.said
            if isinstance(said, Refusal):
                headers = {} if said.retry_after_s is None else {"retry-after": str(said.retry_after_s)}
                raise error_of(Failure(said.status, headers, {"error": {"message": said.message}}, 0.0))
            for choice in self.choices(said):
                if self.is_closed:
                    raise APIConnectionError("the puppet was put away")
                yield reader.chunk({"choices": [choice]})
        finally:
            self.strings.count -= 1

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        chunks = self.chunks(call)
        try:
            for chunk in chunks:
                yield chunk
        finally:
            chunks.close()

    def choices(self, said: Said) -> Iterator[dict[str, Any]]:
        for text in said.texts:
            yield {"index": 0, "delta": {"content": text}, "finish_reason": None}
        if said.finish_reason is not None:
            yield {"index": 0, "delta": {}, "finish_reason": said.finish_reason}

    def served_models(self) -> Sequence[ServedModel]:
        return ()


class Strings(Engine):
    """Moves the puppet, or one with a fault."""

    can = frozenset({"streams", "errors"})

    def __init__(self, puppet: type[Puppet] = Puppet) -> None:
        self.puppet = puppet
        self.said: Said | Refusal = Said()
        self.count = 0

    def say(self, said: Said | Refusal) -> None:
        self.said = said

    def running(self) -> int:
        return self.count

    def factory(self, setup: ProviderSetup) -> Provider:
        return self.puppet(self)

    @property
    def row(self) -> Service:
        return Service(name="puppet", is_local=True, sdk="", factory=self.factory)


class StutteringPuppet(Puppet):
    def choices(self, said: Said) -> Iterator[dict[str, Any]]:
        for choice in super().choices(said):
            yield choice
            if choice["delta"]:
                yield choice


class PuppetWithoutAnEnd(Puppet):
    def choices(self, said: Said) -> Iterator[dict[str, Any]]:
        return super().choices(replace(said, finish_reason=None))


class ObligingPuppet(Puppet):
    def require(self, call: ProviderCall) -> None:
        return


class PuppetThatCannotStop(Puppet):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        self.strings.count += 1
        yield from super().chunks(call)
        self.strings.count -= 1
