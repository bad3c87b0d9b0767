"""The codec of Ollama's native API: requests for `/api/chat`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from llama_client.errors import ProviderError
from llama_client.providers.base import Capabilities, HttpAnswer, HttpCall, ProviderCall
from llama_client.providers.services import SERVICES, Quirks
from llama_client.providers.wire.decoders import json_value
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.handed_back import messages_of, require_known, tools_of
from llama_client.providers.wire.json_steps import is_long
from llama_client.providers.wire.ollama_response import OllamaReader
from llama_client.providers.wire.openai_codec import PARAMETERS as OPENAI_PARAMETERS
from llama_client.providers.wire.openai_codec import Abilities, body_of, missing_abilities, parsed, require_abilities
from llama_client.types.completion import ChatCompletionChunk

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

# Our parameters, and their names in Ollama's `options`.
_SAME_NAME = ("temperature", "top_p", "top_k", "min_p", "seed", "frequency_penalty", "presence_penalty")
_OPTIONS = {name: name for name in _SAME_NAME} | {"max_tokens": "num_predict", "repetition_penalty": "repeat_penalty"}
PARAMETERS = OPENAI_PARAMETERS - {"logit_bias", "service_tier", "user", "stream_options"} | {"reasoning_format"}
# "none" switches thinking off; models without levels take every other level as "on".
_THINK: dict[str, bool | str] = {level: level for level in ("low", "medium", "high", "max")}
_THINK |= {"none": False, "minimal": "low", "xhigh": "max"}


_QUIRKS = SERVICES["ollama"].quirks


class OllamaCodec:
    def __init__(
        self,
        abilities: Abilities,
        *,
        options: Mapping[str, Any],
        keep_alive: str | float | None = None,
        quirks: Quirks = _QUIRKS,
        allow_truncation: bool = False,
    ) -> None:
        self._abilities = abilities
        self._quirks = quirks
        self._options = options
        # Ollama cuts a prompt that is too long unless it is told not to.
        self._always: dict[str, Any] = {} if allow_truncation else {"truncate": False}
        if keep_alive is not None:
            self._always["keep_alive"] = keep_alive

    def require(self, call: ProviderCall) -> None:
        known = self._abilities(call.model)
        Capabilities(PARAMETERS, {**missing_abilities(known), **_why_not(call.request)}).require(call)
        require_known(call, self._quirks)
        # Ollama enforces a schema with every model.
        require_abilities(call, known | {"json_schema"} if known is not None else None, schema_in_words=False)

    def encode(self, call: ProviderCall) -> HttpCall:
        request = call.request
        body: dict[str, Any] = {
            "model": call.model,
            "messages": _messages(call, self._quirks),
            "stream": request.stream,
        }
        values = {theirs: getattr(request, ours) for ours, theirs in _OPTIONS.items()}
        options = {**self._options, **{name: value for name, value in values.items() if value is not None}}
        if request.stops:
            options["stop"] = list(request.stops)
        body |= self._always
        if request.reasoning_effort not in (None, "default"):
            body["think"] = _THINK[request.reasoning_effort]
        if request.response_format is not None and request.response_format.type != "text":
            schema = request.response_format.json_schema
            body["format"] = schema.schema_ if schema is not None else "json"
        if request.tools and request.tool_choice != "none":
            body["tools"] = tools_of(body_of(request, {"tools"})["tools"], self._quirks)
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
        extra = dict(request.extra_body or {})
        given = extra.pop("options", None)
        options |= given if isinstance(given, dict) else {}
        if options:
            body["options"] = options
        return HttpCall("api/chat", to_json({**body, **extra}), request.extra_headers or {})

    def decode(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk:
        body = json_value(answer.body, is_object=True)
        call.facts.body = answer.body if is_long(answer.body) else body
        return self.stream(answer, call).chunk(body)

    def stream(self, answer: HttpAnswer, call: ProviderCall) -> OllamaReader:
        return OllamaReader(answer, call)

    def failure(self, answer: HttpAnswer, call: ProviderCall) -> ProviderError:
        return error_of(Failure(answer.status, answer.headers, parsed(answer.body), answer.received_at))


def _why_not(request: ChatRequest) -> dict[str, str]:
    why_not = {}
    if request.n not in (None, 1):
        why_not["n"] = "one answer a call"
    if request.tool_choice not in (None, "auto", "none"):
        why_not["tool_choice"] = "only 'auto' and 'none' are supported"
    if request.parallel_tool_calls is False:
        why_not["parallel_tool_calls"] = "it cannot be switched off"
    if request.reasoning_format == "raw":
        why_not["reasoning_format"] = "only 'parsed' and 'hidden' are supported"
    return why_not


def _messages(call: ProviderCall, quirks: Quirks) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    written = []
    for message in body_of(call.request, {"messages"}, lambda: messages_of(call, quirks))["messages"]:
        content, role = message.get("content"), message["role"]
        ours: dict[str, Any] = {"role": "system" if role == "developer" else role}
        if isinstance(content, list):
            ours["content"] = "\n".join(part["text"] for part in content if part["type"] == "text")
            images = [_base64(part["image_url"]["url"], call) for part in content if part["type"] == "image_url"]
            ours |= {"images": images} if images else {}
        else:
            ours["content"] = content or ""
        if "thinking" in message:
            ours["thinking"] = message["thinking"]
        if message.get("tool_calls"):
            ours["tool_calls"] = [_tool_call(tool_call, call) for tool_call in message["tool_calls"]]
            names |= {tool_call["id"]: tool_call["function"]["name"] for tool_call in message["tool_calls"]}
        if role == "tool":
            ours["tool_call_id"] = message["tool_call_id"]
            if message["tool_call_id"] in names:
                ours["tool_name"] = names[message["tool_call_id"]]
        written.append(ours)
    return written


def _tool_call(tool_call: Mapping[str, Any], call: ProviderCall) -> dict[str, Any]:
    """A tool call of an earlier answer; Ollama accepts arguments only as an object."""
    function = tool_call["function"]
    try:
        arguments = from_json(function["arguments"] or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise call.unsupported("messages", f"the arguments of the call of {function['name']} are not a JSON object")
    return {"id": tool_call["id"], "function": {"name": function["name"], "arguments": arguments}}


def _base64(url: str, call: ProviderCall) -> str:
    if url in call.images:
        return call.images[url]
    head, _, data = url.partition(",")
    if not head.endswith(";base64"):
        raise call.unsupported("messages", "a data: URI must be in base64 here")
    return data
