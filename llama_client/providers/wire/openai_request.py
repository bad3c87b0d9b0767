"""The OpenAI-shaped wire, outgoing: a request as a body, and the codec."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic_core import from_json, to_json

from llama_client.errors import InvalidResponseError, ProviderError
from llama_client.providers.base import Capabilities, HttpAnswer, HttpCall, ProviderCall
from llama_client.providers.wire.decoders import ServerSentEvent, SseDecoder, json_object
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.openai_response import ChunkReader
from llama_client.types.completion import ChatCompletionChunk
from llama_client.types.messages import ImagePart

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest


PATH = "chat/completions"
PARAMETERS = frozenset(
    {
        "messages", "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "stop", "seed",
        "n",
        "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs",
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "service_tier", "user",
        "stream_options", "extra_body", "extra_headers",
    }
)  # fmt: skip
# Parameters of ours that are no field of the body.
_NO_FIELDS = frozenset({"extra_body", "extra_headers", "stream_options"})
TOOL_PARAMETERS = ("tools", "tool_choice", "parallel_tool_calls")
_REASONING_PARAMETERS = ("reasoning_effort", "reasoning_format")
Abilities = Callable[[str], "frozenset[str] | None"]


def body_of(request: ChatRequest, parameters: Collection[str]) -> dict[str, Any]:
    """The request as a JSON body that holds these parameters and no others."""
    return request.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(parameters))


def abilities_unknown(_model: str) -> frozenset[str] | None:
    """The answer where nobody knows what a model can do."""
    return None


def missing_abilities(known: frozenset[str] | None) -> dict[str, str]:
    """The parameters that a model with these abilities cannot honour, and why. Unknown abilities refuse nothing."""
    if known is None:
        return {}
    why_not: dict[str, str] = {}
    if "tools" not in known:
        why_not |= dict.fromkeys(TOOL_PARAMETERS, "the model calls no tools")
    if "reasoning" not in known:
        why_not |= dict.fromkeys(_REASONING_PARAMETERS, "the model does not reason")
    return why_not


def describe_schema(body: dict[str, Any], request: ChatRequest) -> None:
    """Puts the schema into words, for a model that can be held to JSON but not to a schema."""
    if request.response_format is None or request.response_format.json_schema is None:
        return
    schema = json.dumps(request.response_format.json_schema.schema_, ensure_ascii=False)
    words = f"Answer with one JSON object that satisfies this JSON schema, and with nothing else:\n{schema}"
    body["messages"] = [{"role": "system", "content": words}, *body["messages"]]


class OpenAICodec:
    """Any OpenAI-compatible server."""

    parameters: ClassVar[frozenset[str]] = PARAMETERS
    # Whether streams carry usage without being asked.
    streams_usage_unasked: ClassVar[bool] = False
    # What has to be said for a model to go on from the beginning of an answer.
    continuing: ClassVar[Mapping[str, bool]] = MappingProxyType({})

    def __init__(self, abilities: Abilities = abilities_unknown) -> None:
        self._abilities = abilities

    # What providers override.

    def why_not(self, request: ChatRequest) -> dict[str, str]:
        """Parameters that this provider honours, but not with these values; and why not."""
        return {}

    def adapt(self, body: dict[str, Any], call: ProviderCall) -> None:
        """Changes a body to this provider's way of writing it."""
        if "repetition_penalty" in body:
            # vLLM's and llama.cpp's names for it; each ignores the other's.
            body["repeat_penalty"] = body["repetition_penalty"]
        if call.is_continuation:
            body.update(self.continuing)

    def logprobs_of(self, choice: Mapping[str, Any], call: ProviderCall) -> object:
        """A choice's log probabilities in OpenAI's shape."""
        return choice.get("logprobs")

    def rescued(self, failure: Failure, call: ProviderCall) -> dict[str, Any] | None:
        """The message that a failure holds all the same, in the shape of a whole answer's."""
        return None

    # The codec.

    def require(self, call: ProviderCall) -> None:
        """Refuses what the target cannot honour. See `Codec`."""
        known = self._abilities(call.model)
        Capabilities(self.parameters, missing_abilities(known) | self.why_not(call.request)).require(call)
        require_abilities(call, known, schema_in_words=self._schema_in_words(call))

    def encode(self, call: ProviderCall) -> HttpCall:
        """Our request as the provider's. See `Codec`."""
        request = call.request
        described = request.schema_in_words and self._schema_in_words(call)
        body = {"model": call.model, **body_of(request, self.parameters - _NO_FIELDS)}
        if "max_completion_tokens" in body:
            del body["max_tokens"]
        if described:
            describe_schema(body, request)
            body["response_format"] = {"type": "json_object"}
        self.adapt(body, call)
        body |= request.extra_body or {}
        if request.stream:
            body["stream"] = True
            asked = request.stream_options is not None and request.stream_options.include_usage
            if asked or not self.streams_usage_unasked:
                body["stream_options"] = {"include_usage": True}
        return HttpCall(PATH, to_json(body), request.extra_headers or {})

    def decode(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk:
        """A whole answer as one chunk. See `Codec`."""
        body = parsed(answer.body)
        if not isinstance(body, dict):
            # Says what it is instead.
            body = json_object(answer.body)
        call.facts.body = body
        if body.get("error") or ("choices" not in body and body.get("object") == "error"):
            return self._failed(Failure(answer.status, answer.headers, body, answer.received_at), call)
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices:
            raise InvalidResponseError(
                f"{call.target} sent an answer without choices", http_status=answer.status, body=body
            )
        return ChunkReader(answer, call, self.logprobs_of).whole(body, choices)

    def stream(self, answer: HttpAnswer, call: ProviderCall) -> OpenAIStream:
        """A decoder for a stream. See `Codec`."""
        return OpenAIStream(self, answer, call)

    def failure(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk | ProviderError:
        """An answer with an error status. See `Codec`."""
        failure = Failure(answer.status, answer.headers, parsed(answer.body), answer.received_at)
        try:
            return self._failed(failure, call)
        except ProviderError as error:
            return error

    def _failed(self, failure: Failure, call: ProviderCall) -> ChatCompletionChunk:
        if isinstance(failure.body, Mapping) and call.facts.provider_request_id is None:
            identity = failure.body.get("id")  # Together puts it there
            call.facts.provider_request_id = identity if isinstance(identity, str) else None
        message = self.rescued(failure, call)
        if message is None:
            raise error_of(failure)
        answer = HttpAnswer(failure.status or 200, failure.headers, b"", failure.now)
        choice = {"message": message, "finish_reason": "tool_calls"}
        return ChunkReader(answer, call, self.logprobs_of).whole({}, [choice])

    def _schema_in_words(self, call: ProviderCall) -> bool:
        """Whether the schema must travel as text: allowed only where whoever asks checks the answer."""
        request = call.request
        form = request.response_format
        if not request.schema_in_words or form is None or form.type != "json_schema":
            return False
        known = self._abilities(call.model)
        return known is not None and "json_schema" not in known


def require_abilities(call: ProviderCall, known: frozenset[str] | None, *, schema_in_words: bool) -> None:
    """Refuses what hangs on the content of a parameter, not on its being there."""
    if known is None:
        return
    request = call.request
    if request.has_images and "vision" not in known:
        raise call.unsupported("messages", "the model sees no images")
    schema = request.response_format is not None and request.response_format.type == "json_schema"
    if schema and "json_schema" not in known and not schema_in_words:
        raise call.unsupported("response_format", "the model cannot be held to a schema; json_object works")


class OpenAIStream:
    """One stream's server-sent events as chunks. See `StreamDecoder`."""

    def __init__(self, codec: OpenAICodec, answer: HttpAnswer, call: ProviderCall) -> None:
        self._codec = codec
        self._answer = answer
        self._call = call
        self._events = SseDecoder()
        self._reader = ChunkReader(answer, call, codec.logprobs_of)
        self._unfinished: set[int] = set()
        self._began = False
        self._said_something = False
        self.is_done = False

    @property
    def is_complete(self) -> bool:
        """Whether every choice has its finish reason."""
        return self._began and not self._unfinished

    def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
        """The chunks that these bytes complete."""
        return self._chunks(self._events.feed(data))

    def end(self) -> Iterator[ChatCompletionChunk]:
        """What is left at the end of the bytes."""
        return self._chunks(self._events.end())

    def _chunks(self, events: list[ServerSentEvent]) -> Iterator[ChatCompletionChunk]:
        for event in events:
            if self.is_done or event.data == b"[DONE]":
                self.is_done = True
                return
            if not event.data.strip():
                continue
            self._call.facts.bodies.append(event.data)
            plain = self._reader.plain_chunk(event.data) if event.name != "error" else None
            if plain is not None:
                self._note(plain)
                yield plain
                continue
            body = json_object(event.data)
            if event.name == "error" or body.get("error") or _error_of_groq(body):
                yield self._failed(body)
            elif body.get("choices") or body.get("usage") or body.get("x_groq"):
                chunk = self._reader.chunk(body)
                self._note(chunk)
                yield chunk

    def _note(self, chunk: ChatCompletionChunk) -> None:
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self._unfinished.discard(choice.index)
            else:
                self._unfinished.add(choice.index)
            if choice.delta.content:
                self._said_something = True
            self._began = True

    def _failed(self, body: dict[str, Any]) -> ChatCompletionChunk:
        error = body.get("error") or _error_of_groq(body) or body
        failure = Failure(self._answer.status, self._answer.headers, {**body, "error": error}, self._answer.received_at)
        message = self._codec.rescued(failure, self._call)
        if message is None:
            raise error_of(failure)
        if self._said_something:
            # The text before the call has been handed over already.
            message["content"] = None
        chunk = self._reader.whole({}, [{"message": message, "finish_reason": "tool_calls"}])
        self._note(chunk)
        return chunk


def parsed(body: bytes) -> object:
    """A body as JSON, else as text."""
    try:
        return from_json(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def has_remote_images(request: ChatRequest) -> bool:
    """Whether an image is an address that somebody would have to fetch."""
    return any(not url.startswith("data:") for url in image_urls(request))


def image_urls(request: ChatRequest) -> Iterator[str]:
    """Every image of a request: an address, or a `data:` URI."""
    for message in request.messages:
        for part in message.content if isinstance(message.content, tuple) else ():
            if isinstance(part, ImagePart):
                yield part.image_url.url


def _error_of_groq(body: Mapping[str, Any]) -> object:
    groq = body.get("x_groq")
    error = groq.get("error") if isinstance(groq, dict) else None
    return {"message": error} if isinstance(error, str) else error
