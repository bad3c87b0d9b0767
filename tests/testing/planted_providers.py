"""The right provider behind another one with one fault each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace

from llama_client.errors import APITimeoutError, ProviderError, ServerError
from llama_client.providers.base import (
    AttemptFacts,
    Provider,
    ProviderCall,
)
from llama_client.testing.conformance.bench import KEY
from llama_client.types.completion import ChatCompletionChunk


class Around(Provider):
    """Hands everything to another provider."""

    def __init__(self, inner: Provider) -> None:
        self.inner = inner

    def require(self, call: ProviderCall) -> None:
        self.inner.require(call)

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        yield from self.inner.chunks(call)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        inner = self.inner.achunks(call)
        try:
            async for chunk in inner:
                yield chunk
        finally:
            await inner.aclose()

    def close(self) -> None:
        self.inner.close()


class TriesAgainByItself(Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        try:
            yield from self.inner.chunks(call)
        except ServerError:
            yield from self.inner.chunks(call)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        try:
            async for chunk in self.inner.achunks(call):
                yield chunk
        except ServerError:
            async for chunk in self.inner.achunks(call):
                yield chunk


class BlocksTheLoop(Around):
    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        for chunk in self.inner.chunks(call):
            yield chunk


class ShowsTheKey(Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        try:
            yield from self.inner.chunks(call)
        except ProviderError as error:
            raise type(error)(f"{error} (key {KEY})", http_status=error.http_status) from None

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        try:
            async for chunk in super().achunks(call):
                yield chunk
        except ProviderError as error:
            raise type(error)(f"{error} (key {KEY})", http_status=error.http_status) from None


class LeavesAnswersOpen(Around):
    def __init__(self, inner: Provider) -> None:
        super().__init__(inner)
        self.kept: list[object] = []

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        chunks = self.inner.chunks(call)
        self.kept.append(chunks)
        for chunk in chunks:  # noqa: UP028 - `yield from` would close it
            yield chunk

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        chunks = self.inner.achunks(call)
        self.kept.append(chunks)
        async for chunk in chunks:
            yield chunk


class ForgetsWhatItSent(Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        yield from self.inner.chunks(replace(call, facts=AttemptFacts()))

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        async for chunk in super().achunks(replace(call, facts=AttemptFacts())):
            yield chunk


class SaysThatItSent(Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        try:
            yield from self.inner.chunks(call)
        finally:
            call.facts.sent = True

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        try:
            async for chunk in super().achunks(call):
                yield chunk
        finally:
            call.facts.sent = True


class IgnoresThatItIsCancelled(Around):
    def __init__(self, inner: Provider) -> None:
        super().__init__(inner)
        self.kept: list[object] = []

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        chunks: asyncio.Queue[ChatCompletionChunk | Exception | None] = asyncio.Queue()

        async def read() -> None:
            try:
                async for chunk in self.inner.achunks(call):
                    chunks.put_nowait(chunk)
                chunks.put_nowait(None)
            except Exception as error:  # noqa: BLE001 - raised where it is read
                chunks.put_nowait(error)

        self.kept.append(asyncio.create_task(read()))
        while (chunk := await chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


class RaisesWhatItLikes(Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        try:
            yield from self.inner.chunks(call)
        except ProviderError as error:
            raise KeyError("choices") from error

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        try:
            async for chunk in super().achunks(call):
                yield chunk
        except ProviderError as error:
            raise KeyError("choices") from error


class HasAllTheTime(Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        yield from self.inner.chunks(replace(call, timeout_s=None, first_content_s=None, whole_timeout_s=None))

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        async for chunk in super().achunks(replace(call, timeout_s=None, first_content_s=None, whole_timeout_s=None)):
            yield chunk


class LeavesAThread(Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        self._start()
        yield from super().chunks(call)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        self._start()
        async for chunk in super().achunks(call):
            yield chunk

    def _start(self) -> None:
        threading.Thread(target=threading.Event().wait, args=(3,), daemon=True, name="left behind").start()


class IsBrokenByAnError(Around):
    is_broken = False

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        if self.is_broken:
            raise ServerError("broken")
        try:
            yield from self.inner.chunks(call)
        except ProviderError:
            self.is_broken = True
            raise

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        if self.is_broken:
            raise ServerError("broken")
        try:
            async for chunk in super().achunks(call):
                yield chunk
        except ProviderError:
            self.is_broken = True
            raise


class TriesAgainAfterATimeout(Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        try:
            yield from self.inner.chunks(call)
        except APITimeoutError:
            yield from self.inner.chunks(call)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        try:
            async for chunk in super().achunks(call):
                yield chunk
        except APITimeoutError:
            async for chunk in super().achunks(call):
                yield chunk


class TakesBackThatItSent(Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        try:
            yield from self.inner.chunks(call)
        except APITimeoutError:
            call.facts.sent = False
            raise

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        try:
            async for chunk in super().achunks(call):
                yield chunk
        except APITimeoutError:
            call.facts.sent = False
            raise


class ShowsTheKeyInRaw(Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        yield from self.inner.chunks(call)
        call.facts.bodies.append({"authorization": KEY})

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        async for chunk in super().achunks(call):
            yield chunk
        call.facts.bodies.append({"authorization": KEY})
