"""Ollama's native wire, outgoing: a request as `/api/chat`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from llama_client.errors import ProviderError
from llama_client.providers.base import Capabilities, HttpAnswer, HttpCall, ProviderCall
from llama_client.providers.wire.decoders import json_object
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.ollama_response import OllamaReader, OllamaStream
from llama_client.providers.wire.openai_request import Abilities, body_of, missing_abilities, parsed, require_abilities
from llama_client.types.completion import ChatCompletionChunk

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


class OllamaCodec:
    """Ollama's `/api/chat`. See `Codec`."""

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
        return HttpCall("api/chat", to_json({**body, **extra}), request.extra_headers or {})

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

    def _reader(self, answer: HttpAnswer, call: ProviderCall) -> OllamaReader:
        extra = (call.request.extra_body or {}).get("options")
        num_ctx = (extra if isinstance(extra, dict) else {}).get("num_ctx", self._options.get("num_ctx"))
        return OllamaReader(answer, call, num_ctx if isinstance(num_ctx, int) else None)


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
