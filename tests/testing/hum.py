"""A service with a wire of its own, and a codec for it that is right."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from llama_client.errors import InvalidResponseError, ServerError
from llama_client.providers.base import (
    HttpAnswer,
    HttpCall,
    Provider,
    ProviderCall,
)
from llama_client.providers.services import Service
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.openai_response import ChunkReader
from llama_client.providers.wire.plain import PlainCodec
from llama_client.testing.conformance import Counts, Feature, Said, Wire
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

    def written(self, parameter: str, value: Any) -> Mapping[str, Any]:
        names = {"temperature": "heat", "max_tokens": "most"}
        return {names[parameter]: value} if parameter in names else super().written(parameter, value)

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
        hear = [message.model_dump(mode="json", exclude_none=True) for message in request.messages]
        body: dict[str, Any] = {"model": call.model, "hear": hear, "live": request.stream}
        given = {"heat": request.temperature, "most": request.max_tokens}
        body |= {name: value for name, value in given.items() if value is not None}
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
