"""Ollama's native wire: our request as `/api/chat`, its objects and lines of JSON as our chunks. No I/O."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from llama_client.errors import InvalidResponseError, ProviderError
from llama_client.providers.base import Capabilities, HttpAnswer, HttpCall, ProviderCall
from llama_client.providers.wire.decoders import NdjsonDecoder, json_object
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.openai import (
    Abilities,
    body_of,
    missing_abilities,
    parsed,
    require_abilities,
)
from llama_client.types.chunk import ChatCompletionChunk
from llama_client.validation import first_problem

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

PARAMETERS = frozenset(
    {
        "messages", "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "stop", "seed",
        "n",
        "frequency_penalty", "presence_penalty", "repetition_penalty", "logprobs", "top_logprobs", "response_format",
        "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "reasoning_format", "extra_body",
        "extra_headers",
    }
)  # fmt: skip
# Ours, and Ollama's name below `options`.
_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "max_tokens": "num_predict",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "repetition_penalty": "repeat_penalty",
}
# "none" switches thinking off; models without levels take every level for "on".
_THINK: dict[str, bool | str] = {
    "none": False,
    "xhigh": "max",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
}
# The contexts that Ollama chooses by itself, by the memory of the machine, where `num_ctx` is not set.
_DEFAULT_CONTEXTS = (4096, 32768, 262144)
# A prompt that fills this much of the context has probably been cut to fit.
_NEARLY_FULL = 0.95
# No tokenizer puts more bytes of ordinary text into a token, on average.
_MAX_BYTES_PER_TOKEN = 8
# More than most text has; what was cut out of a prompt still counts here.
_LONG_BYTES_PER_TOKEN = 5
_NS = 1e-9
# A count beyond it is none, and no float could hold it.
_MAX_COUNT = 2**63


class OllamaCodec:
    """Ollama's `/api/chat`. See `Codec`.

    Args:
        abilities: What a model is known to be able to do; None where nobody knows.
        options: Ollama's options for every request.
        keep_alive: How long the model stays in memory.
    """

    def __init__(
        self, abilities: Abilities, *, options: Mapping[str, Any], keep_alive: str | float | None = None
    ) -> None:
        self._abilities = abilities
        self._options = options
        self._keep_alive = keep_alive

    def require(self, call: ProviderCall) -> None:
        """Refuses what the target cannot honour."""
        known = self._abilities(call.model)
        Capabilities(PARAMETERS, {**missing_abilities(known), **_why_not(call.request)}).require(call)
        # Ollama itself holds any model to a schema.
        require_abilities(call, known | {"json_schema"} if known is not None else None, schema_in_words=False)

    def encode(self, call: ProviderCall) -> HttpCall:
        """Our request as Ollama's."""
        request = call.request
        body: dict[str, Any] = {"model": call.model, "messages": _messages(call), "stream": request.stream}
        options = {**self._options, **_options(request)}
        if self._keep_alive is not None:
            body["keep_alive"] = self._keep_alive
        if request.reasoning_effort not in (None, "default"):
            body["think"] = _THINK[request.reasoning_effort]
        if request.response_format is not None and request.response_format.type != "text":
            schema = request.response_format.json_schema
            body["format"] = schema.schema_ if schema is not None else "json"
        if request.tools and request.tool_choice != "none":
            body["tools"] = body_of(request, {"tools"})["tools"]
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
        extra = dict(request.extra_body or {})
        given = extra.pop("options", None)
        options |= given if isinstance(given, dict) else {}
        if options:
            body["options"] = options
        return HttpCall("api/chat", to_json({**body, **extra, "stream": request.stream}), request.extra_headers or {})

    def decode(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk:
        """A whole answer as one chunk."""
        body = json_object(answer.body)
        call.facts.body = body
        if "error" in body:
            raise error_of(Failure(answer.status, answer.headers, body, answer.received_at))
        return self._reader(answer, call).chunk(body)

    def stream(self, answer: HttpAnswer, call: ProviderCall) -> OllamaStream:
        """A decoder for a stream."""
        return OllamaStream(self._reader(answer, call), answer, call)

    def failure(self, answer: HttpAnswer, call: ProviderCall) -> ProviderError:
        """An answer with an error status."""
        return error_of(Failure(answer.status, answer.headers, parsed(answer.body), answer.received_at))

    def _reader(self, answer: HttpAnswer, call: ProviderCall) -> _Reader:
        extra = (call.request.extra_body or {}).get("options")
        num_ctx = (extra if isinstance(extra, dict) else {}).get("num_ctx", self._options.get("num_ctx"))
        return _Reader(answer, call, num_ctx if isinstance(num_ctx, int) else None)


class OllamaStream:
    """One stream's lines as chunks. See `StreamDecoder`."""

    def __init__(self, reader: _Reader, answer: HttpAnswer, call: ProviderCall) -> None:
        self._lines = NdjsonDecoder()
        self._reader = reader
        self._answer = answer
        self._call = call
        self.is_done = False

    @property
    def is_complete(self) -> bool:
        """Whether the last object has come."""
        return self.is_done

    def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
        """The chunks that these bytes complete."""
        return self._chunks(self._lines.feed(data))

    def end(self) -> Iterator[ChatCompletionChunk]:
        """What is left at the end of the bytes."""
        return self._chunks(self._lines.end())

    def _chunks(self, lines: list[bytes]) -> Iterator[ChatCompletionChunk]:
        for line in lines:
            if self.is_done:
                return
            body = json_object(line)
            self._call.facts.bodies.append(body)
            if "error" in body:
                raise error_of(Failure(self._answer.status, self._answer.headers, body, self._answer.received_at))
            self.is_done = body.get("done") is True
            yield self._reader.chunk(body)


class _Reader:
    """Turns Ollama's objects into chunks."""

    def __init__(self, answer: HttpAnswer, call: ProviderCall, num_ctx: int | None) -> None:
        self._created = int(answer.received_at)
        self._call = call
        self._num_ctx = num_ctx
        self._tool_calls = 0

    def chunk(self, body: Mapping[str, Any]) -> ChatCompletionChunk:
        """An object as a chunk."""
        call = self._call
        message, reason = body.get("message"), body.get("done_reason")
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if (
            not isinstance(message, dict)
            or not (reason is None or isinstance(reason, str))
            or not (calls is None or (isinstance(calls, list) and all(_is_tool_call(call) for call in calls)))
        ):
            raise InvalidResponseError(
                f"{call.target} sent an object that is no part of an answer", target=call.target, body=dict(body)
            )
        delta = {
            "role": "assistant",
            "content": message.get("content"),
            "reasoning": message.get("thinking") or None,
            "tool_calls": self._tool_call_deltas(calls or []),
        }
        if call.request.reasoning_format == "hidden":
            delta["reasoning"] = None
        done = body.get("done") is True
        choice = {
            "index": 0,
            "delta": delta,
            "finish_reason": self._finish_reason(body) if done else None,
            "logprobs": _logprobs(body.get("logprobs"), call.request),
        }
        if done:
            self._learn(body)
        try:
            return ChatCompletionChunk.model_validate(
                {
                    "id": call.request_id,
                    "created": self._created,
                    "model": body.get("model") or call.model,
                    "choices": [choice],
                    "usage": _usage(body) if done else None,
                    "target": call.target,
                    "provider": call.provider,
                    "request_id": call.request_id,
                }
            )
        except ValidationError as error:
            problem = first_problem(error, show_values=False)
            raise InvalidResponseError(
                f"{call.target} sent what is no answer ({problem.sentence})", target=call.target, body=dict(body)
            ) from None

    def _tool_call_deltas(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
        deltas = []
        for call in calls:
            function = call["function"]
            # Calls come whole, sometimes all with index 0 and seldom with an id.
            arguments = function.get("arguments")
            deltas.append(
                {
                    "index": self._tool_calls,
                    "id": call.get("id") or f"call_{uuid.uuid4().hex[:24]}",
                    "type": "function",
                    "function": {
                        "name": function.get("name"),
                        "arguments": arguments
                        if isinstance(arguments, str)
                        else json.dumps(arguments or {}, ensure_ascii=False),
                    },
                }
            )
            self._tool_calls += 1
        return deltas or None

    def _finish_reason(self, body: Mapping[str, Any]) -> str:
        if body.get("done_reason") == "length":
            return "length"
        return "tool_calls" if self._tool_calls else "stop"

    def _learn(self, body: Mapping[str, Any]) -> None:
        facts = self._call.facts
        facts.total_s, facts.load_s = _seconds(body.get("total_duration")), _seconds(body.get("load_duration"))
        tokens, spent_s = _count(body.get("eval_count")), _seconds(body.get("eval_duration"))
        if tokens and spent_s:
            facts.tokens_per_s = tokens / spent_s
        cut_to = _suspected_cut(_count(body.get("prompt_eval_count")), _text_bytes(self._call.request), self._num_ctx)
        if cut_to is not None:
            facts.warn(
                f"{self._call.target} has probably cut the prompt to fit its context of {cut_to} tokens, which Ollama "
                "does without telling: raise options.num_ctx, or shorten the prompt"
            )


def _suspected_cut(prompt_tokens: int | None, text_bytes: int, num_ctx: int | None) -> int | None:
    """The context that a prompt was probably cut to; None: nothing speaks for it."""
    if prompt_tokens is None:
        return None
    for context in _DEFAULT_CONTEXTS if num_ctx is None else (num_ctx,):
        too_long = text_bytes > context * _MAX_BYTES_PER_TOKEN
        nearly_full = prompt_tokens >= context * _NEARLY_FULL
        # Where nobody said how large the context is, a prompt may be of that length by chance; then its text is short.
        by_chance = num_ctx is None and text_bytes < prompt_tokens * _LONG_BYTES_PER_TOKEN
        if prompt_tokens <= context and (too_long or (nearly_full and not by_chance)):
            return context
    return None


def _why_not(request: ChatRequest) -> dict[str, str]:
    why_not = {}
    if request.n not in (None, 1):
        why_not["n"] = "one answer a call"
    if request.tool_choice not in (None, "auto", "none"):
        why_not["tool_choice"] = "the model chooses by itself; 'auto' and 'none' are known"
    if request.parallel_tool_calls is False:
        why_not["parallel_tool_calls"] = "it cannot be switched off"
    if request.reasoning_format == "raw":
        why_not["reasoning_format"] = "'parsed' and 'hidden' are known here"
    return why_not


def _options(request: ChatRequest) -> dict[str, Any]:
    options = {
        theirs: getattr(request, ours) for ours, theirs in _OPTIONS.items() if getattr(request, ours) is not None
    }
    return options | ({"stop": list(request.stops)} if request.stops else {})


def _messages(call: ProviderCall) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    written = []
    for message in body_of(call.request, {"messages"})["messages"]:
        content = message.get("content")
        role = message["role"]
        ours: dict[str, Any] = {"role": "system" if role == "developer" else role}
        if isinstance(content, list):
            ours["content"] = "\n".join(part["text"] for part in content if part["type"] == "text")
            images = [_base64(part["image_url"]["url"], call) for part in content if part["type"] == "image_url"]
            if images:
                ours["images"] = images
        else:
            ours["content"] = content or ""
        if message.get("tool_calls"):
            ours["tool_calls"] = [_tool_call(tool_call, call) for tool_call in message["tool_calls"]]
            names |= {tool_call["id"]: tool_call["function"]["name"] for tool_call in message["tool_calls"]}
        if role == "tool":
            identity = message["tool_call_id"]
            ours["tool_call_id"] = identity
            if identity in names:
                ours["tool_name"] = names[identity]
        written.append(ours)
    return written


def _tool_call(tool_call: Mapping[str, Any], call: ProviderCall) -> dict[str, Any]:
    """A call of an earlier answer; Ollama takes its arguments as an object alone."""
    function = tool_call["function"]
    try:
        arguments = from_json(function["arguments"] or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise call.unsupported("messages", f"the arguments of the call of {function['name']} are no JSON object")
    return {"id": tool_call["id"], "function": {"name": function["name"], "arguments": arguments}}


def _base64(url: str, call: ProviderCall) -> str:
    if url in call.images:
        return call.images[url]
    head, _, data = url.partition(",")
    if not head.endswith(";base64"):
        raise call.unsupported("messages", "a data: URI must be in base64 here")
    return data


def _logprobs(tokens: object, request: ChatRequest) -> dict[str, Any] | None:
    if not isinstance(tokens, list) or not tokens:
        return None
    wanted = request.top_logprobs or 0
    return {
        "content": [
            {**token, "top_logprobs": top[:wanted] if isinstance(top := token.get("top_logprobs"), list) else []}
            for token in tokens
            if isinstance(token, dict)
        ]
    }


def _usage(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Ollama leaves out counts that are zero or unknown: absent is unknown."""
    prompt, answer = _count(body.get("prompt_eval_count")), _count(body.get("eval_count"))
    if prompt is None and answer is None:
        return None
    total = prompt + answer if prompt is not None and answer is not None else None
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": total}


def _text_bytes(request: ChatRequest) -> int:
    total = 0
    for message in request.messages:
        parts = message.content if isinstance(message.content, tuple) else (message.content,)
        total += sum(
            len(text.encode()) for part in parts if (text := getattr(part, "text", part)) and isinstance(text, str)
        )
    return total


def _is_tool_call(call: object) -> bool:
    return isinstance(call, dict) and isinstance(call.get("function"), dict)


def _seconds(nanoseconds: object) -> float | None:
    count = _count(nanoseconds)
    return count * _NS if count is not None else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT else None
