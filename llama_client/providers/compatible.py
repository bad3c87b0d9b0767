"""Codecs of OpenAI-compatible services: declared quirks applied, and what Groq and Together do beyond them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_client.providers.base import ProviderCall
from llama_client.providers.services import NO_QUIRKS, Quirks
from llama_client.providers.wire.errors import Failure
from llama_client.providers.wire.openai_request import PARAMETERS, Abilities, OpenAICodec, abilities_unknown
from llama_client.providers.wire.tool_calls import tool_calls_in

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest


class CompatibleCodec(OpenAICodec):
    """An OpenAI-compatible service with its quirks: see `Quirks`."""

    def __init__(self, abilities: Abilities = abilities_unknown, quirks: Quirks = NO_QUIRKS) -> None:
        super().__init__(abilities)
        self.quirks = quirks
        self._adapts_messages = quirks.is_strict or not quirks.keeps_developer or quirks.tool_call_id_chars is not None
        self.parameters = PARAMETERS - quirks.refuses | quirks.adds
        self.stream_usage = quirks.stream_usage
        self.refused_formats = quirks.refused_formats

    def why_not(self, request: ChatRequest) -> dict[str, str]:
        """See `OpenAICodec`."""
        why_not = {}
        for name, values in self.quirks.only.items():
            if getattr(request, name) not in (None, *values):
                why_not[name] = f"it takes {', '.join(map(_shown, values))} only"
        most = self.quirks.max_stops
        if most is not None and len(request.stops) > most:
            why_not["stop"] = f"at most {most} of them"
        return why_not

    def adapt(self, body: dict[str, Any], call: ProviderCall) -> None:
        """See `OpenAICodec`."""
        quirks = self.quirks
        for name in quirks.without_effect:
            if body.get(name):
                call.facts.warn(f"{call.provider} accepts {name} and does not apply it yet")
        if quirks.effort_none is not None and body.get("reasoning_effort") == "none":
            del body["reasoning_effort"]
            body.update(quirks.effort_none)
        if quirks.stop_is_list and call.request.stops:
            body["stop"] = list(call.request.stops)
        for name in quirks.renames:
            if name in body:
                body.update(dict.fromkeys(quirks.renames[name], body.pop(name)))
        if quirks.always:
            body.update(quirks.always)
        if call.is_continuation:
            body.update(quirks.continuation)
        if self._adapts_messages:
            for message in body["messages"]:
                self._adapt_message(message)

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


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short_id(identity: str, size: int) -> str:
    """An id of so many letters and digits: itself where it is one, else the same for the same id."""
    if len(identity) == size and identity.isascii() and identity.isalnum():
        return identity
    return hashlib.sha256(identity.encode()).hexdigest()[:size]


class GroqCodec(CompatibleCodec):
    """Groq, whose tool calls are rescued from what it calls a failed generation."""

    def error_in(self, event: Mapping[str, Any]) -> object:
        """See `OpenAICodec`. Groq may also put it into `x_groq`, as an object or as text."""
        error, own = event.get("error"), event.get("x_groq")
        if error or not isinstance(own, dict):
            return error
        error = own.get("error")
        return {"message": error} if isinstance(error, str) else error

    def rescued(self, failure: Failure, call: ProviderCall) -> dict[str, Any] | None:
        """The tool call that a `failed_generation` holds, where it is a valid call of a declared tool."""
        request, text = call.request, failure.error.get("failed_generation")
        if failure.code != "tool_use_failed" or not isinstance(text, str) or request.tool_choice == "none":
            return None
        found = tool_calls_in(text, request.tools or ())
        choice = request.tool_choice
        demanded = None if choice is None or isinstance(choice, str) else choice.function.name
        if found is None or (demanded is not None and any(name != demanded for name, _ in found.calls)):
            return None
        call.facts.warn(f"{call.target} rejected its own tool call, which is valid and was rescued from its text")
        call.facts.body = dict(failure.body) if isinstance(failure.body, Mapping) else None
        return {
            "content": found.text or None,
            "tool_calls": [{"function": {"name": name, "arguments": arguments}} for name, arguments in found.calls],
        }


class TogetherCodec(CompatibleCodec):
    """Together, which counts log probabilities instead of switching them on, and answers them in a shape of its own."""

    def adapt(self, body: dict[str, Any], call: ProviderCall) -> None:
        """See `OpenAICodec`."""
        super().adapt(body, call)
        body.pop("top_logprobs", None)
        if body.pop("logprobs", None):
            body["logprobs"] = max(call.request.top_logprobs or 0, 1)

    def logprobs_of(self, choice: Mapping[str, Any], call: ProviderCall) -> object:
        """See `OpenAICodec`. Together sends parallel lists: tokens, their logarithms, and tables of candidates."""
        given = choice.get("logprobs")
        if not isinstance(given, dict) or "content" in given:
            return given if isinstance(given, dict) else None
        tokens, logs = given.get("tokens"), given.get("token_logprobs")
        if not isinstance(tokens, list) or not isinstance(logs, list):
            return None
        tables = given.get("top_logprobs")
        wanted = call.request.top_logprobs or 0
        content = []
        for index, (token, logprob) in enumerate(zip(tokens, logs, strict=False)):
            table = tables[index] if isinstance(tables, list) and index < len(tables) else None
            candidates = sorted(table.items(), key=lambda item: -item[1]) if isinstance(table, dict) else []
            content.append(
                {
                    "token": token,
                    "logprob": logprob,
                    "top_logprobs": [{"token": name, "logprob": value} for name, value in candidates[:wanted]],
                }
            )
        return {"content": content}
