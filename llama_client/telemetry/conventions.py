"""What OpenTelemetry's conventions for generative AI call things, and the shapes that they give them.

All their names stand here. They are in development and change (in May 2026 they moved to
open-telemetry/semantic-conventions-genai), so the version of no schema is claimed. What they have no name for, such as
money, has one under `llama_client`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic_core import from_json

if TYPE_CHECKING:
    from llama_client.providers.base import ProviderCall
    from llama_client.types.attempt import Attempt
    from llama_client.types.chunk import ChatCompletionChunk
    from llama_client.types.completion import Choice, ToolCall
    from llama_client.types.messages import AssistantToolCall, Content, RequestMessage
    from llama_client.types.request import ChatRequest

# What a span or a metric says of itself.
Attributes = dict[str, str | bool | int | float | Sequence[str]]

OPERATION = "chat"
SERVER_ADDRESS = "server.address"
_TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - no secret
_COST_STATUS = "llama_client.cost.status"
_OPENAI_HOST = "api.openai.com"
_PORTS = {"http": 80, "https": 443}
_PARAMETERS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}
# The finish reason within an answer's message has words of its own.
_FINISH_REASONS = {"tool_calls": "tool_call", "function_call": "tool_call"}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is made; `buckets` are those of a histogram."""

    name: str
    unit: str
    description: str
    buckets: tuple[float, ...] = ()


_SECONDS = tuple(round(0.01 * 2**power, 2) for power in range(14))
_COUNTS = tuple(4**power for power in range(14))
TOKENS = Metric("gen_ai.client.token.usage", "{token}", "Tokens, as providers reported them.", _COUNTS)
DURATION = Metric("gen_ai.client.operation.duration", "s", "How long attempts took.", _SECONDS)
FIRST_CHUNK = Metric(
    "gen_ai.client.operation.time_to_first_chunk", "s", "From the start of a stream to its first content.", _SECONDS
)
NEXT_CHUNK = Metric(
    "gen_ai.client.operation.time_per_output_chunk", "s", "From one chunk of a stream to the next.", _SECONDS
)
COST = Metric("llama_client.cost", "{USD}", "What attempts cost, where that is known.")


def of_server(name: str, kind: str, url: str | None) -> Attributes:
    """Who a provider is, and where.

    Args:
        name: The provider's name in the configuration.
        kind: Its kind.
        url: Where it is; None: in this process.
    """
    parts = urlsplit(url or "")
    own = "openai" if parts.hostname == _OPENAI_HOST else name
    attributes: Attributes = {"gen_ai.provider.name": own if kind == "openai" else kind}
    if parts.hostname:
        attributes[SERVER_ADDRESS] = parts.hostname
        attributes["server.port"] = parts.port or _PORTS.get(parts.scheme, 443)
    return attributes


def of_target(model: str, server: Attributes) -> Attributes:
    """What the spans and the metrics of one target have in common."""
    return {"gen_ai.operation.name": OPERATION, "gen_ai.request.model": model} | server


def of_end(first: ChatCompletionChunk | None, attempt: Attempt) -> Attributes:
    """What the span and the metrics of an attempt have in common at its end."""
    attributes: Attributes = {}
    if first is not None:
        attributes["gen_ai.response.model"] = first.model
    if attempt.error is not None:
        attributes["error.type"] = attempt.error
    return attributes


def of_call(call: ProviderCall, route: str | None) -> Attributes:
    """What is asked for."""
    request = call.request
    attributes: Attributes = {"llama_client.request_id": call.request_id}
    if route is not None:
        attributes["llama_client.route"] = route
    for parameter, name in _PARAMETERS.items():
        value = getattr(request, parameter)
        if value is not None:
            attributes[name] = value
    if request.stops:
        attributes["gen_ai.request.stop_sequences"] = request.stops
    if request.stream:
        attributes["gen_ai.request.stream"] = True
    if request.response_format is not None:
        attributes["gen_ai.output.type"] = "text" if request.response_format.type == "text" else "json"
    return attributes


def of_attempt(attempt: Attempt, number: int, *, streams: bool) -> Attributes:
    """What became of an attempt.

    Args:
        attempt: The attempt.
        number: Its place among those of its call, from 1.
        streams: Whether a stream was asked for.
    """
    attributes: Attributes = {
        "llama_client.attempt.number": number,
        "llama_client.attempt.outcome": attempt.outcome,
    }
    if streams and attempt.ttft_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = attempt.ttft_s
    usage, cost = attempt.usage, attempt.cost
    if usage is not None:
        counts = {
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        }
        attributes |= {name: count for name, count in counts.items() if count is not None}
    if cost is not None:
        attributes[_COST_STATUS] = cost.status
        if cost.usd is not None:
            attributes["llama_client.cost.usd"] = float(cost.usd)
    return attributes


def of_answer(first: ChatCompletionChunk, choices: Sequence[Choice]) -> Attributes:
    """What came of it. Where an answer broke off, its reason is `error`, as the conventions have it."""
    attributes: Attributes = {"gen_ai.response.id": first.id}
    if choices:
        attributes["gen_ai.response.finish_reasons"] = [choice.finish_reason or "error" for choice in choices]
    return attributes


def reported_tokens(attempt: Attempt) -> list[tuple[int, Attributes]]:
    """The tokens that the provider reported, each with what sort they are."""
    usage = attempt.usage
    counts = (("input", usage.prompt_tokens), ("output", usage.completion_tokens)) if usage is not None else ()
    return [(count, {_TOKEN_TYPE: kind}) for kind, count in counts if count is not None]


def known_cost(attempt: Attempt) -> tuple[float, Attributes] | None:
    """The money, with how sure it is; None: unknown, or nothing was sent."""
    cost = attempt.cost
    return None if cost is None or cost.usd is None else (float(cost.usd), {_COST_STATUS: cost.status})


def of_content(request: ChatRequest, choices: Sequence[Choice]) -> Attributes:
    """What was asked and answered, as JSON, since an attribute holds no tables."""
    messages = list(request.messages)
    instructions: list[dict[str, Any]] = []
    while messages and messages[0].role in ("system", "developer"):
        instructions += _parts(messages.pop(0).content)
    tools = [
        {"type": tool.type} | tool.function.model_dump(include={"name", "description", "parameters"}, exclude_none=True)
        for tool in request.tools or ()
    ]
    tables = {
        "gen_ai.system_instructions": instructions,
        "gen_ai.input.messages": [_asked(message) for message in messages],
        "gen_ai.output.messages": [_answered(choice) for choice in choices],
        "gen_ai.tool.definitions": tools,
    }
    return {name: json.dumps(table) for name, table in tables.items() if table}


def _asked(message: RequestMessage) -> dict[str, Any]:
    parts = _parts(message.content)
    if message.role == "tool":
        text = "".join(part.get("content", "") for part in parts)
        parts = [{"type": "tool_call_response", "id": message.tool_call_id, "response": text}]
    elif message.role == "assistant":
        parts += _calls(message.tool_calls or ())
    return {"role": message.role, "parts": parts} | ({} if message.name is None else {"name": message.name})


def _answered(choice: Choice) -> dict[str, Any]:
    message = choice.message
    said = (("reasoning", message.reasoning), ("text", message.content), ("refusal", message.refusal))
    parts = [{"type": kind, "content": text} for kind, text in said if text]
    reason = choice.finish_reason or "error"
    return {
        "role": message.role,
        "parts": [*parts, *_calls(message.tool_calls or ())],
        "finish_reason": _FINISH_REASONS.get(reason, reason),
    }


def _parts(content: Content | None) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    parts: list[dict[str, Any]] = []
    for part in content:
        if part.type == "text":
            parts.append({"type": "text", "content": part.text})
        elif part.image_url.url.startswith("data:"):
            # Without its bytes: exporters lose all that they send at once where it is more than a few megabytes.
            kind = part.image_url.url.removeprefix("data:").partition(";")[0]
            parts.append({"type": "blob", "modality": "image", "mime_type": kind})
        else:
            parts.append({"type": "uri", "modality": "image", "uri": part.image_url.url})
    return parts


def _calls(calls: Sequence[ToolCall | AssistantToolCall]) -> list[dict[str, Any]]:
    return [
        {"type": "tool_call", "id": call.id, "name": call.function.name, "arguments": _read(call.function.arguments)}
        for call in calls
    ]


def _read(arguments: str) -> Any:
    """The arguments of a tool call; as they are where a model wrote no JSON."""
    try:
        return from_json(arguments, allow_inf_nan=False)
    except ValueError:
        return arguments
