"""Codecs of Groq and Together: what their declared quirks cannot express."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_client.providers.base import ProviderCall
from llama_client.providers.wire.errors import Failure
from llama_client.providers.wire.openai_codec import CompatibleCodec
from llama_client.providers.wire.tool_calls_in_text import tool_calls_in
from llama_client.providers.wire.usage import below
from llama_client.types.request import NamedToolChoice


class GroqCodec(CompatibleCodec):
    """Groq. Valid tool calls are recovered from its `tool_use_failed` errors."""

    def error_in(self, event: Mapping[str, Any]) -> object:
        """Groq may also put it into `x_groq`, as an object or as text."""
        return super().error_in(event) or below(event, "x_groq", "error")

    def rescued(self, failure: Failure, call: ProviderCall) -> dict[str, Any] | None:
        """The tool call in `failed_generation`, where it is a valid call of a declared tool."""
        request, text = call.request, failure.error.get("failed_generation")
        if failure.code != "tool_use_failed" or not isinstance(text, str) or request.tool_choice == "none":
            return None
        found = tool_calls_in(text, request.functions)
        if found is None:
            return None
        content, calls = found
        choice = request.tool_choice
        if isinstance(choice, NamedToolChoice) and any(name != choice.function.name for name, _ in calls):
            return None
        call.facts.warn(f"{call.target} rejected its own tool call, which is valid and was rescued from its text")
        call.facts.body = dict(failure.body) if isinstance(failure.body, Mapping) else None
        return {
            "content": content or None,
            "tool_calls": [{"function": {"name": name, "arguments": arguments}} for name, arguments in calls],
        }


class TogetherCodec(CompatibleCodec):
    """Together. `logprobs` is a number there, and its log probabilities have another shape."""

    def adapt(self, body: dict[str, Any], call: ProviderCall) -> None:
        super().adapt(body, call)
        body.pop("top_logprobs", None)
        if body.pop("logprobs", None):
            body["logprobs"] = max(call.request.top_logprobs or 0, 1)

    def logprobs_of(self, choice: Mapping[str, Any], call: ProviderCall) -> object:
        """Together sends parallel lists: tokens, their logarithms, and mappings of candidates."""
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
            top = [{"token": name, "logprob": value} for name, value in candidates[:wanted]]
            content.append({"token": token, "logprob": logprob, "top_logprobs": top})
        return {"content": content}
