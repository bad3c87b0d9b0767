"""The right codec with one fault each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from llama_client.errors import ProviderError, ServerError
from llama_client.providers.base import (
    HttpAnswer,
    HttpCall,
    ProviderCall,
)
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.openai_codec import parsed
from llama_client.types.completion import ChatCompletionChunk
from tests.testing.hum import HumCodec, HumStream


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


class OnlyTheLastMessage(HumCodec):
    def encode(self, call: ProviderCall) -> HttpCall:
        made = super().encode(call)
        body = json.loads(made.body)
        return made._replace(body=json.dumps(body | {"hear": body["hear"][-1:]}).encode())


class SwapsParameters(HumCodec):
    def encode(self, call: ProviderCall) -> HttpCall:
        made = super().encode(call)
        body = json.loads(made.body)
        body["most"], body["heat"] = body.get("heat"), body.get("most")
        return made._replace(body=json.dumps(body).encode())


class DropsSettings(HumCodec):
    parameters: ClassVar[frozenset[str] | None] = frozenset({"tools", "tool_choice", "service_tier", "extra_body"})


class CountsOfTheLastAnswer(HumCodec):
    last: dict[str, Any] | None = None

    def usage_of(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        usage = super().usage_of(body)
        self.last = usage or self.last
        return self.last if "why" in body else usage


class StripsTexts(HumCodec):
    def chunks_of(self, line: dict[str, Any], stream: HumStream) -> Iterator[ChatCompletionChunk]:
        return super().chunks_of({**line, **({"says": line["says"].lstrip()} if "says" in line else {})}, stream)


class SplitsAtAnyEndOfLine(HumCodec):
    def object_of(self, data: bytes) -> dict[str, Any]:
        return super().object_of(data.decode().splitlines()[0].encode() if data.strip() else data)


class LosesSpacesOfArguments(HumCodec):
    def call_of(self, line: Mapping[str, Any]) -> dict[str, Any]:
        return super().call_of({**line, "arguments": line["arguments"].replace(" ", "")})


class LosesCallsWithoutArguments(HumCodec):
    def chunks_of(self, line: dict[str, Any], stream: HumStream) -> Iterator[ChatCompletionChunk]:
        return iter(()) if line.get("arguments") == "{}" else super().chunks_of(line, stream)


class ForgetsToTryAtOnce(HumCodec):
    def failure(self, answer: HttpAnswer, call: ProviderCall) -> ProviderError:
        headers = {name: value for name, value in answer.headers.items() if value != "0"}
        return error_of(Failure(answer.status, headers, parsed(answer.body), answer.received_at))


class Mistyped(HumCodec):
    def encode(self, call: ProviderCall) -> HttpCall:
        raise NameError("name 'bdoy' is not defined")
