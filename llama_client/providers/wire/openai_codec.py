"""The codec of OpenAI-compatible services: requests, with their declared quirks, and streams."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from llama_client.errors import InvalidResponseError, ProviderError
from llama_client.providers.base import Capabilities, HttpAnswer, HttpCall, ProviderCall
from llama_client.providers.services import LIMIT_NAMES, NO_QUIRKS, Quirks
from llama_client.providers.wire.decoders import BARE, ServerSentEvent, SseDecoder, json_value
from llama_client.providers.wire.errors import Failure, error_of, failure_in_body, failure_in_event
from llama_client.providers.wire.handed_back import messages_of, require_known, tools_of
from llama_client.providers.wire.json_steps import MIN_COUNTED_BYTES, is_long, json_of
from llama_client.providers.wire.kept_fields import bytes_in
from llama_client.providers.wire.openai_response import ANSWER_KEYS, ChunkReader
from llama_client.providers.wire.usage import below
from llama_client.types.completion import ChatCompletionChunk
from llama_client.types.media import has_address
from llama_client.types.messages import ImagePart

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

PATH = "chat/completions"
PARAMETERS = frozenset(
    {
        "messages", "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "stop", "seed",
        "n", "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs",
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "service_tier", "user",
        "stream_options", "extra_body", "extra_headers",
    }
)  # fmt: skip
_ANSWER_FIELDS = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier", "x_groq", "timings"}
)
_CHOICE_FIELDS = frozenset({"index", "message", "finish_reason", "logprobs"})
_TEXT = frozenset({str})
_PLAIN = frozenset({str, int, float, bool})
# Parameters of ours that are not fields of the body.
_NO_FIELDS = frozenset({"extra_body", "extra_headers", "stream_options"})
TOOL_PARAMETERS = ("tools", "tool_choice", "parallel_tool_calls")
_REASONING_PARAMETERS = ("reasoning_effort", "reasoning_format")
# A longer event is parsed in steps.
_MAX_PLAIN_BYTES = 1 << 20
# Some servers put blanks or quotes around the word that ends a stream.
_AROUND_DONE = b' \t"'
_MAX_DONE_BYTES = 16
# Events whose data need not be a JSON object.
_ODD_EVENTS = frozenset({"error", BARE})
# Beside a finish reason: that of the server behind a gateway.
_NATIVE_REASON = b'"native_finish_reason"'
# What a candidate for a token takes in memory, by tracemalloc.
_LOGPROB_BYTES = 600
Abilities = Callable[[str], "frozenset[str] | None"]


def body_of(
    request: ChatRequest, parameters: Collection[str], messages: Callable[[], list[dict[str, Any]]] | None = None
) -> dict[str, Any]:
    """The fields of a request's body, in the order of its parameters; `messages` makes those with more than texts."""
    plain = _plain_body(request, parameters)
    if plain is not None:
        return plain
    fields = {*parameters} - _NO_FIELDS - {"messages"}
    body = request.model_dump(mode="json", by_alias=True, exclude_none=True, include=fields)
    return body if messages is None else {"messages": messages(), **body}


def _plain_body(request: ChatRequest, parameters: Collection[str]) -> dict[str, Any] | None:
    """The body of a request that has only texts and numbers, faster than pydantic makes it; None: it has more."""
    body: dict[str, Any] = {}
    # Pydantic's own dict has the fields in their order.
    for name, value in vars(request).items():
        if value is None or name not in parameters or name in _NO_FIELDS:
            continue
        if name == "messages":
            body[name] = [{key: text for key, text in vars(message).items() if text is not None} for message in value]
            for message, written in zip(value, body[name], strict=True):
                if message.__pydantic_extra__ or not {*map(type, written.values())} <= _TEXT:
                    return None
        elif type(value) in _PLAIN:
            body[name] = value
        else:
            return None
    return body


def abilities_unknown(_model: str) -> frozenset[str] | None:
    return None


def missing_abilities(known: frozenset[str] | None) -> dict[str, str]:
    """The parameters that a model with these abilities cannot honour, and why; None (unknown) refuses nothing."""
    if known is None:
        return {}
    why_not: dict[str, str] = {}
    if "tools" not in known:
        why_not |= dict.fromkeys(TOOL_PARAMETERS, "the model calls no tools")
    if "reasoning" not in known:
        why_not |= dict.fromkeys(_REASONING_PARAMETERS, "the model does not reason")
    return why_not


def describe_schema(body: dict[str, Any], request: ChatRequest) -> None:
    """Adds the schema as a system message, for a model that supports JSON mode but not schemas."""
    if request.response_format is None or request.response_format.json_schema is None:
        return
    schema = json.dumps(request.response_format.json_schema.schema_, ensure_ascii=False)
    words = f"Answer with one JSON object that satisfies this JSON schema, and with nothing else:\n{schema}"
    body["messages"] = [{"role": "system", "content": words}, *body["messages"]]


class CompatibleCodec:
    """A `Codec` for any OpenAI-compatible service, by its `Quirks`. Subclasses override the public hooks."""

    def __init__(self, abilities: Abilities = abilities_unknown, quirks: Quirks = NO_QUIRKS) -> None:
        self._abilities = abilities
        self.quirks = quirks
        self._adapts_messages = quirks.is_strict or not quirks.keeps_developer or quirks.tool_call_id_chars is not None
        self.parameters = PARAMETERS - quirks.refuses | quirks.adds

    def why_not(self, request: ChatRequest) -> dict[str, str]:
        """The parameters that this provider honours, but not with these values, and why not."""
        why_not = {}
        for name, values in self.quirks.only.items():
            if getattr(request, name) not in (None, *values):
                why_not[name] = f"it takes {', '.join(map(_shown, values))} only"
        if self.quirks.max_stops is not None and len(request.stops) > self.quirks.max_stops:
            why_not["stop"] = f"at most {self.quirks.max_stops} of them"
        return why_not

    def adapt(self, body: dict[str, Any], call: ProviderCall) -> None:
        quirks = self.quirks
        for name in quirks.without_effect:
            if body.get(name):
                call.facts.warn(f"{call.provider} accepts {name} and does not apply it yet", is_of_request=True)
        if quirks.effort_none is not None and body.get("reasoning_effort") == "none":
            del body["reasoning_effort"]
            body.update(quirks.effort_none)
        if quirks.stop_is_list and call.request.stops:
            body["stop"] = list(call.request.stops)
        for name in quirks.renames:
            if name in body:
                body.update(dict.fromkeys(quirks.renames[name], body.pop(name)))
        for name in call.refused:
            if name in LIMIT_NAMES and name in body:
                body[LIMIT_NAMES[name]] = body.pop(name)
        if quirks.always:
            body.update(quirks.always)
        if call.is_continuation:
            body.update(quirks.continuation)
        if self._adapts_messages:
            for message in body["messages"]:
                self._adapt_message(message)
        if quirks.is_strict and "tools" in body:
            body["tools"] = tools_of(body["tools"], quirks)

    def _adapt_message(self, message: dict[str, Any]) -> None:
        if self.quirks.is_strict:
            message.pop("name", None)
        if message["role"] == "developer" and not self.quirks.keeps_developer:
            message["role"] = "system"  # "developer" is OpenAI's newer word for it
        size = self.quirks.tool_call_id_chars
        if size is not None:
            for tool_call in message.get("tool_calls") or ():
                tool_call["id"] = _short_id(tool_call["id"], size)
            if "tool_call_id" in message:
                message["tool_call_id"] = _short_id(message["tool_call_id"], size)

    def logprobs_of(self, choice: Mapping[str, Any], call: ProviderCall) -> object:
        """A choice's log probabilities in OpenAI's shape."""
        return choice.get("logprobs")

    def error_in(self, event: Mapping[str, Any]) -> object:
        """The error object or text in one event of a stream."""
        return failure_in_event(event)

    def rescued(self, failure: Failure, call: ProviderCall) -> dict[str, Any] | None:
        """A valid message that a failure contains, in the shape of a whole answer's."""
        return None

    def require(self, call: ProviderCall) -> None:
        known = self._abilities(call.model)
        # Where it is no parameter of the server, it tells how its answer is to be read.
        read_here = {"reasoning_format"} if call.request.reasoning_format == "raw" else frozenset()
        Capabilities(self.parameters | read_here, missing_abilities(known) | self.why_not(call.request)).require(call)
        require_known(call, self.quirks)
        described = self._schema_in_words(call)
        wanted = call.request.response_format
        if wanted is not None and wanted.type in self.quirks.refused_formats and not described:
            raise call.unsupported("response_format", f"{call.provider} does not support {wanted.type}")
        require_abilities(call, known, schema_in_words=described)

    def encode(self, call: ProviderCall) -> HttpCall:
        request = call.request
        body = {"model": call.model, **body_of(request, self.parameters, lambda: messages_of(call, self.quirks))}
        if "max_completion_tokens" in body:
            del body["max_tokens"]
        if request.schema_in_words and self._schema_in_words(call):
            describe_schema(body, request)
            body["response_format"] = {"type": "json_object"}
        self.adapt(body, call)
        body |= request.extra_body or {}
        if request.stream:
            body["stream"] = True
            options: dict[str, Any] = {"include_usage": True} if self._asks_for_usage(call) else {}
            if request.stream_options is not None and self._takes_stream_options(call):
                options |= request.stream_options.__pydantic_extra__ or {}
            if options:
                body["stream_options"] = options
        return HttpCall(PATH, to_json(body), request.extra_headers or {})

    def decode(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk:
        is_kept_as_bytes = len(answer.body) > MIN_COUNTED_BYTES and is_long(answer.body)
        body = None if is_kept_as_bytes else parsed(answer.body)
        if isinstance(body, str) and body.rstrip().endswith("[DONE]"):
            # A whole answer, ended as a stream.
            answer = answer._replace(
                body=answer.body[: answer.body.rindex(b"data:")] if b"data:" in answer.body else b""
            )
            body = parsed(answer.body)
        if not isinstance(body, dict):
            failure = Failure(answer.status, answer.headers, body, answer.received_at)
            if failure.has_words:  # in a list, or in the events of a stream
                return self._failed(failure, call)
            body = json_value(answer.body, is_object=True)  # raises what is wrong with it
        call.facts.body = answer.body if is_kept_as_bytes else body
        choices: Any = body.get("choices")
        # Nearly all answers are of this kind, and none of these fields tells of a failure.
        is_plain = (
            body.keys() <= _ANSWER_FIELDS
            and body.get("object") == "chat.completion"
            and type(choices) is list
            and len(choices) == 1
            and type(choices[0]) is dict
            and choices[0].keys() <= _CHOICE_FIELDS
            and choices[0].get("message") is not None
        )
        if not is_plain:
            error = failure_in_body(body)
            if error is not None:
                told = error if error is body else {**body, "error": error}
                return self._failed(Failure(answer.status, answer.headers, told, answer.received_at), call)
            if not isinstance(choices, list) or not choices:
                raise InvalidResponseError(
                    f"{call.target} sent an answer without choices", http_status=answer.status, body=body
                )
            choices = [_with_message(choice) for choice in choices]
        if "timings" in body and call.request.messages[-1].role == "assistant":
            choices = [_without_beginning(choice, call.request) for choice in choices]
        return ChunkReader(answer, call, self.logprobs_of, gives_up=is_kept_as_bytes).whole(body, choices)

    def stream(self, answer: HttpAnswer, call: ProviderCall) -> OpenAIStream:
        return OpenAIStream(self, answer, call)

    def failure(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk | ProviderError:
        failure = Failure(answer.status, answer.headers, parsed(answer.body), answer.received_at)
        try:
            return self._failed(failure, call)
        except ProviderError as error:
            return error

    def _failed(self, failure: Failure, call: ProviderCall) -> ChatCompletionChunk:
        if isinstance(failure.body, Mapping) and call.facts.provider_request_id is None:
            identity = failure.body.get("id")  # Together puts it there
            call.facts.provider_request_id = identity if isinstance(identity, str) else None
        answer = HttpAnswer(failure.status or 200, failure.headers, b"", failure.now)
        return self.rescued_chunk(failure, call, ChunkReader(answer, call, self.logprobs_of))

    def rescued_chunk(
        self, failure: Failure, call: ProviderCall, reader: ChunkReader, *, has_content: bool = False
    ) -> ChatCompletionChunk:
        """The message that a failure contains; raises the failure's error where it contains none."""
        message, reason = self.rescued(failure, call), "tool_calls"
        if message is None:
            if not failure.is_filtered_answer:
                raise error_of(failure)
            message, reason = {}, "content_filter"
            call.facts.warn(f"{call.target} filtered the answer: {failure.message}")
        if has_content:  # the caller already has the text before the tool call
            message["content"] = None
        return reader.whole({}, [{"message": message, "finish_reason": reason}])

    def _asks_for_usage(self, call: ProviderCall) -> bool:
        """Whether a stream has `stream_options`: not where the caller declines, or the server does not know them."""
        asked, how = call.request.asks_for_usage, self.quirks.stream_usage
        if "stream_options" in call.refused:
            return False
        return asked is not False and (how == "ask" or (how == "unasked" and asked is True))

    def _takes_stream_options(self, call: ProviderCall) -> bool:
        return "stream_options" not in call.refused and self.quirks.stream_usage != "never"

    def _schema_in_words(self, call: ProviderCall) -> bool:
        """Whether to send the schema as text: allowed only where the caller validates the answer."""
        if not call.request.schema_in_words or not _has_schema(call.request):
            return False
        known = self._abilities(call.model)
        return "json_schema" in self.quirks.refused_formats or (known is not None and "json_schema" not in known)


def _is_whole(body: Mapping[str, Any]) -> bool:
    """Whether an event is a whole answer: of servers that cannot stream."""
    choices = body.get("choices")
    return isinstance(choices, list) and any(
        isinstance(each, dict) and isinstance(each.get("message"), dict) and not each.get("delta") for each in choices
    )


def _with_message(choice: Any) -> Any:
    """A choice of a whole answer, with an empty message where a filter has left none, as in Azure's answers."""
    is_filtered = isinstance(choice, dict) and choice.get("finish_reason") == "content_filter"
    return {**choice, "message": {}} if is_filtered and choice.get("message") is None else choice


def _without_beginning(choice: Any, request: ChatRequest) -> Any:
    """A choice of llama.cpp's server, which repeats the text to go on from in whole answers and not in streams."""
    content: object = request.messages[-1].content
    message: Any = below(choice, "message")
    if isinstance(content, tuple):
        content = "".join(part.text for part in content if part.type == "text")
    text = below(message, "content")
    if not (content and isinstance(content, str) and isinstance(text, str) and text.startswith(content)):
        return choice
    return {**choice, "message": {**message, "content": text.removeprefix(content)}}


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short_id(identity: str, size: int) -> str:
    """An id of so many letters and digits: itself where it is one, else the same for the same id."""
    if len(identity) == size and identity.isascii() and identity.isalnum():
        return identity
    return hashlib.sha256(identity.encode()).hexdigest()[:size]


def require_abilities(call: ProviderCall, known: frozenset[str] | None, *, schema_in_words: bool) -> None:
    """Refuses images and schemas, which depend on the value of a parameter, where the model lacks the ability."""
    if known is None:
        return
    if call.request.has_images and "vision" not in known:
        raise call.unsupported("messages", "the model accepts no images")
    if _has_schema(call.request) and "json_schema" not in known and not schema_in_words:
        raise call.unsupported("response_format", "the model supports no JSON schema; json_object works")


def _has_schema(request: ChatRequest) -> bool:
    return request.response_format is not None and request.response_format.type == "json_schema"


def _is_finished(chunk: ChatCompletionChunk) -> bool:
    return any(choice.finish_reason is not None for choice in chunk.choices)


def _logprobs_in(chunk: ChatCompletionChunk) -> int:
    each = [choice.logprobs for choice in chunk.choices if choice.logprobs is not None]
    tokens = [token for logprobs in each for token in (*(logprobs.content or ()), *(logprobs.refusal or ()))]
    return len(tokens) + sum(len(token.top_logprobs) for token in tokens)


class OpenAIStream:
    """A `StreamDecoder` for server-sent events."""

    def __init__(self, codec: CompatibleCodec, answer: HttpAnswer, call: ProviderCall) -> None:
        self._codec = codec
        self._answer = answer
        self._call = call
        self._events = SseDecoder()
        self._reader = ChunkReader(answer, call, codec.logprobs_of)
        self._unfinished: set[int] = set()
        self._began = False
        self._has_content = False
        self.is_done = False

    @property
    def is_complete(self) -> bool:
        return self._began and not self._unfinished

    def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
        return self._chunks(self._events.feed(data))

    def end(self) -> Iterator[ChatCompletionChunk]:
        return self._chunks(self._events.end())

    def _chunks(self, events: list[ServerSentEvent]) -> Iterator[ChatCompletionChunk]:
        for event in events:
            if self.is_done:
                return
            if len(event.data) <= _MAX_DONE_BYTES and event.data.strip(_AROUND_DONE) == b"[DONE]":
                self.is_done = True
                yield from self._done()
                return
            if not event.data.strip():
                continue
            is_short, is_odd = len(event.data) <= _MAX_PLAIN_BYTES, event.name in _ODD_EVENTS
            if not is_odd:
                self._call.facts.bodies.append(event.data)
            plain = self._reader.plain_chunk(event.data) if is_short and not is_odd else None
            if plain is not None and not (_NATIVE_REASON in event.data and _is_finished(plain)):
                self._note(plain)
                yield plain
                continue
            body = self._object(event, is_odd=is_odd)
            if body is None:
                continue
            error = self._codec.error_in(body)
            if event.name == "error" or error:
                yield self._failed(body, error or body)
            elif any(body.get(key) for key in ANSWER_KEYS):
                self._reader.gives_up = not is_short
                chunk = self._chunk(body)
                self._note(chunk)
                self._events.count(_LOGPROB_BYTES * _logprobs_in(chunk))
                yield chunk

    def _object(self, event: ServerSentEvent, *, is_odd: bool) -> dict[str, Any] | None:
        """The object that is or tells an error, or a part of an answer; None: it is left out."""
        if not is_odd:
            if event.name != "message" and not event.data.lstrip().startswith(b"{"):
                # An event of the server's own: progress, say.
                return None
            value: dict[str, Any] = json_value(event.data, is_object=True)
            return value
        odd = parsed(event.data)
        if isinstance(odd, dict | list):
            self._call.facts.bodies.append(event.data)
        if isinstance(odd, dict):
            return odd
        # An error is also told as text, or in a list.
        return {"error": odd} if event.name == "error" or isinstance(odd, list) else None

    def _chunk(self, body: dict[str, Any]) -> ChatCompletionChunk:
        if not _is_whole(body):
            return self._reader.chunk(body)
        if not self._has_content:
            return self._reader.whole(body, body["choices"])
        # The whole message once more, at the end of its parts.
        choices = [{**each, "delta": {}} if isinstance(each, dict) else each for each in body["choices"]]
        return self._reader.chunk({**body, "choices": choices})

    def _done(self) -> Iterator[ChatCompletionChunk]:
        """Ends an answer without a finish reason (Snowflake's), where the counts of it show that it is whole."""
        if self._unfinished and self._reader.has_usage:
            self._call.facts.warn(f"{self._call.target} sent no finish reason; the answer may be incomplete")
            choices: list[dict[str, Any]] = [
                {
                    "index": index,
                    "delta": {},
                    "finish_reason": "tool_calls" if self._reader.calls_tools(index) else "stop",
                }
                for index in sorted(self._unfinished)
            ]
            chunk = self._reader.chunk({"choices": choices})
            self._note(chunk)
            yield chunk

    def _note(self, chunk: ChatCompletionChunk) -> None:
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self._unfinished.discard(choice.index)
            else:
                self._unfinished.add(choice.index)
            if choice.delta.has_content:
                self._has_content = True
            self._began = True
            if choice.delta.__pydantic_extra__ or choice.delta.tool_calls:
                self._events.count(bytes_in(choice))

    def _failed(self, body: dict[str, Any], error: object) -> ChatCompletionChunk:
        told = body if error is body else {**body, "error": error}
        failure = Failure(self._answer.status, self._answer.headers, told, self._answer.received_at)
        chunk = self._codec.rescued_chunk(failure, self._call, self._reader, has_content=self._has_content)
        self._note(chunk)
        return chunk


def parsed(body: bytes) -> object:
    """A body as JSON, or as text where it is not JSON."""
    try:
        return from_json(body) if len(body) <= MIN_COUNTED_BYTES else json_of(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def has_remote_images(request: ChatRequest) -> bool:
    """Whether an image, or any other part, is behind an address."""
    return any(not url.startswith("data:") for url in image_urls(request)) or has_address(request)


def image_urls(request: ChatRequest) -> Iterator[str]:
    for part in request.parts:
        if isinstance(part, ImagePart):
            yield part.image_url.url
