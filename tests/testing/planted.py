"""A provider with a wire of its own that is right, one without a wire, and the same with one fault each."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from llama_client.errors import APIConnectionError, InvalidResponseError, ProviderError, ServerError
from llama_client.providers.base import (
    AttemptFacts,
    HttpAnswer,
    HttpCall,
    Provider,
    ProviderCall,
    ProviderSetup,
    ServedModel,
)
from llama_client.providers.services import Service
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.openai_codec import parsed
from llama_client.providers.wire.openai_response import ChunkReader
from llama_client.providers.wire.plain import PlainCodec
from llama_client.testing.conformance import Counts, Engine, Feature, Refusal, Said, Wire
from llama_client.testing.conformance.bench import KEY
from llama_client.types.completion import ChatCompletionChunk

_CAN: frozenset[Feature] = frozenset(
    {
        "streams",
        "tools",
        "split tools",
        "reasoning",
        "usage",
        "cached tokens",
        "length",
        "errors",
        "errors in a 200",
        "error events",
    }
)


class HumWire(Wire):
    """Lines of JSON, each a part of an answer; a whole answer is one object."""

    can = _CAN

    def whole(self, said: Said) -> bytes:
        calls = [{"id": call.id, "name": call.name, "arguments": call.whole_arguments} for call in said.calls]
        body = {"says": said.text, "thinks": "".join(said.reasoning), "calls": calls, "why": said.finish_reason}
        return json.dumps(body | _usage(said.counts)).encode()

    def pieces(self, said: Said) -> Sequence[bytes]:
        lines: list[dict[str, Any]] = [{"says": ""}] if said.has_preamble else []
        lines += [{"thinks": part} for part in said.reasoning]
        lines += [{"says": text} for text in said.texts]
        for number, call, part, is_first in said.call_parts:
            lines.append(
                {"call": number, "arguments": part, **({"id": call.id, "name": call.name} if is_first else {})}
            )
        if said.finish_reason is not None:
            lines.append({"why": said.finish_reason, **_usage(said.counts)})
        return [json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines]

    def malformed_piece(self) -> bytes:
        return self.malformed + b"\n"

    def error_event(self, message: str) -> bytes:
        return json.dumps({"error": message}).encode() + b"\n"


def _usage(counts: Counts | None) -> dict[str, Any]:
    return {} if counts is None else {"tokens": [counts.prompt, counts.completion, counts.cached]}


class HumCodec(PlainCodec):
    """The right one."""

    parameters: ClassVar[frozenset[str] | None] = frozenset({"temperature", "max_tokens", "tools"})

    def encode(self, call: ProviderCall) -> HttpCall:
        request = call.request
        body: dict[str, Any] = {"model": call.model, "hear": str(request.messages[-1].content), "live": request.stream}
        body |= {"heat": request.temperature, "most": request.max_tokens}
        if request.tools:
            body["tools"] = [tool.model_dump(mode="json") for tool in request.tools]
        return HttpCall("hum", json.dumps(body).encode(), {})

    def decode(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk:
        body = self.object_of(answer.body)
        if "error" in body:
            raise error_of(Failure(answer.status, answer.headers, body, answer.received_at))
        if not isinstance(body.get("says"), str) or not isinstance(body.get("calls"), list):
            raise InvalidResponseError("the answer says nothing", http_status=answer.status, body=body)
        calls = [
            {"id": each["id"], "type": "function", "function": {"name": each["name"], "arguments": each["arguments"]}}
            for each in body["calls"]
        ]
        message = {"content": body["says"] or None, "reasoning": body["thinks"] or None, "tool_calls": calls or None}
        usage = self.usage_of(body)
        reader = self.reader(answer, call)
        return reader.whole({"usage": usage} if usage else {}, [{"message": message, "finish_reason": body["why"]}])

    def stream(self, answer: HttpAnswer, call: ProviderCall) -> HumStream:
        return HumStream(self, answer, call)

    def reader(self, answer: HttpAnswer, call: ProviderCall) -> ChunkReader:
        return ChunkReader(answer, call, lambda choice, _: None)

    def object_of(self, data: bytes) -> dict[str, Any]:
        try:
            body = json.loads(data)
        except ValueError as error:
            raise InvalidResponseError(f"a line is no JSON: {error}") from None
        if not isinstance(body, dict):
            raise InvalidResponseError("a line is no object")
        return body

    def usage_of(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        if "tokens" not in body:
            return None
        prompt, completion, cached = body["tokens"]
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return usage | ({} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}})

    def chunks_of(self, line: dict[str, Any], stream: HumStream) -> Iterator[ChatCompletionChunk]:
        """What one line of a stream says."""
        if "error" in line:
            raise ServerError(str(line["error"]))
        delta: dict[str, Any] = {}
        if "says" in line:
            delta["content"] = line["says"]
        if "thinks" in line:
            delta["reasoning"] = line["thinks"]
        if "call" in line:
            delta["tool_calls"] = [self.call_of(line)]
        usage = self.usage_of(line)
        choice = {"index": 0, "delta": delta, "finish_reason": line.get("why")}
        stream.is_complete = stream.is_done = "why" in line
        yield stream.reader.chunk({"choices": [choice]} | ({"usage": usage} if usage else {}))

    def call_of(self, line: Mapping[str, Any]) -> dict[str, Any]:
        begun = {"id": line["id"], "type": "function"} if "id" in line else {}
        function = {"arguments": line["arguments"]} | ({"name": line["name"]} if "name" in line else {})
        return {"index": line["call"], **begun, "function": function}


class HumStream:
    """See `StreamDecoder`."""

    def __init__(self, codec: HumCodec, answer: HttpAnswer, call: ProviderCall) -> None:
        self.codec = codec
        self.reader = codec.reader(answer, call)
        self.is_complete = self.is_done = False
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from self.codec.chunks_of(self.codec.object_of(line), self)

    def end(self) -> Iterator[ChatCompletionChunk]:
        if self._rest:
            yield from self.codec.chunks_of(self.codec.object_of(self._rest), self)


def row(codec: type[PlainCodec] = HumCodec, around: Callable[[Provider], Provider] = lambda inner: inner) -> Service:
    """A service with that codec, and maybe something around its provider."""
    return Service(name="hum", factory=lambda setup: around(setup.over_http(codec())))


# Faults of a codec.


class SwapsTokens(HumCodec):
    def usage_of(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        usage = super().usage_of(body)
        if usage is not None:
            usage["prompt_tokens"], usage["completion_tokens"] = usage["completion_tokens"], usage["prompt_tokens"]
        return usage


class CountsUnknownAsNothing(HumCodec):
    def usage_of(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        return super().usage_of(body) or {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class SwallowsErrors(HumCodec):
    def chunks_of(self, line: dict[str, Any], stream: HumStream) -> Iterator[ChatCompletionChunk]:
        return iter(()) if "error" in line else super().chunks_of(line, stream)


class SwallowsErrorsAndEndsWell(HumCodec):
    def chunks_of(self, line: dict[str, Any], stream: HumStream) -> Iterator[ChatCompletionChunk]:
        return super().chunks_of({"why": "stop"} if "error" in line else line, stream)


class LosesPartsOfCalls(HumCodec):
    def call_of(self, line: Mapping[str, Any]) -> dict[str, Any]:
        return super().call_of({**line, "arguments": line["arguments"] if "id" in line else ""})


class MixesCalls(HumCodec):
    def call_of(self, line: Mapping[str, Any]) -> dict[str, Any]:
        return super().call_of({**line, "call": line["call"] if "id" in line else 0})


class TearsCharacters(HumCodec):
    def stream(self, answer: HttpAnswer, call: ProviderCall) -> HumStream:
        class Torn(HumStream):
            def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
                return super().feed(data.decode("utf-8", "replace").encode())

        return Torn(self, answer, call)


class ReadsLinesAsTheyArrive(HumCodec):
    def stream(self, answer: HttpAnswer, call: ProviderCall) -> HumStream:
        class Line(HumStream):
            def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
                for line in data.splitlines():
                    yield from self.codec.chunks_of(self.codec.object_of(line), self)

        return Line(self, answer, call)


class SaysEverythingTwice(HumCodec):
    def chunks_of(self, line: dict[str, Any], stream: HumStream) -> Iterator[ChatCompletionChunk]:
        yield from super().chunks_of(line, stream)
        if "says" in line:
            yield from super().chunks_of(line, stream)


class DropsTheLastText(HumCodec):
    def stream(self, answer: HttpAnswer, call: ProviderCall) -> HumStream:
        class Late(HumStream):
            held: ChatCompletionChunk | None = None

            def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
                for chunk in super().feed(data):
                    if chunk.choices[0].finish_reason is not None:
                        yield chunk
                        return
                    if self.held is not None:
                        yield self.held
                    self.held = chunk

        return Late(self, answer, call)


class NeverEnds(HumCodec):
    def chunks_of(self, line: dict[str, Any], stream: HumStream) -> Iterator[ChatCompletionChunk]:
        return super().chunks_of({**line, "why": None} if "why" in line else line, stream)


class TakesAnyEndForAnEnd(HumCodec):
    def stream(self, answer: HttpAnswer, call: ProviderCall) -> HumStream:
        class Polite(HumStream):
            def end(self) -> Iterator[ChatCompletionChunk]:
                yield from super().end()
                if not self.is_complete:
                    yield from self.codec.chunks_of({"why": "stop"}, self)

        return Polite(self, answer, call)


class OneClassForAllErrors(HumCodec):
    def failure(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk | ProviderError:
        return ServerError(str(parsed(answer.body)), http_status=answer.status)


class ForgetsTheWait(HumCodec):
    def failure(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk | ProviderError:
        return error_of(Failure(answer.status, {}, parsed(answer.body), answer.received_at))


class DropsParameters(HumCodec):
    parameters = None


class SharesItsState(HumCodec):
    buffer = ""

    def chunks_of(self, line: dict[str, Any], stream: HumStream) -> Iterator[ChatCompletionChunk]:
        self.buffer += line.get("says", "")
        if "why" in line:
            text, self.buffer = self.buffer, ""
            yield from super().chunks_of({"says": text}, stream)
        yield from super().chunks_of({**line, "says": ""} if "says" in line else line, stream)


class ThinksAloud(HumCodec):
    def chunks_of(self, line: dict[str, Any], stream: HumStream) -> Iterator[ChatCompletionChunk]:
        return super().chunks_of({"says": line["thinks"]} if "thinks" in line else line, stream)


class CallsEveryEndAStop(HumCodec):
    def chunks_of(self, line: dict[str, Any], stream: HumStream) -> Iterator[ChatCompletionChunk]:
        return super().chunks_of({**line, "why": "stop"} if "why" in line else line, stream)


# Faults of a provider.


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


# A provider without a wire.


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
