"""OpenTelemetry: the span and metrics of each attempt, under the names of its conventions for generative AI."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic_core import from_json

from llama_client.errors import MissingExtraError
from llama_client.hosts import name_in
from llama_client.imports import ready
from llama_client.types.completion import Usage
from llama_client.types.messages import ImagePart, TextPart
from llama_client.types.request import FunctionSpec
from llama_client.types.server_fields import REASONING_NAMES
from llama_client.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import Span

    from llama_client.providers.base import ProviderCall
    from llama_client.types.completion import Attempt, ChatCompletionChunk, Choice, ToolCall
    from llama_client.types.messages import AssistantToolCall, Content, RequestMessage
    from llama_client.types.request import AnyTool, ChatRequest

T = TypeVar("T")
Value = str | bool | int | float | Sequence[str]
# The attributes of a span or a metric.
Attributes = dict[str, Value]

_SCOPE = "llama_client"
_OPERATION = "chat"
_SERVER_ADDRESS = "server.address"
_COST_STATUS = "llama_client.cost.status"
_PORTS = {"http": 80, "https": 443}
_SAME_NAMES = ("max_tokens", "temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")
_PARAMETERS = {name: f"gen_ai.request.{name}" for name in _SAME_NAMES} | {"n": "gen_ai.request.choice.count"}
# The conventions' finish reasons within an output message.
_FINISH_REASONS = {"tool_calls": "tool_call", "function_call": "tool_call"}
# The buckets of histograms.
_SECONDS = tuple(round(0.01 * 2**power, 2) for power in range(14))
_COUNTS = tuple(4**power for power in range(14))


def server_attributes(name: str, kind: str, url: str | None) -> Attributes:
    parts, host = urlsplit(url or ""), name_in(url or "")
    own = "openai" if host == "api.openai.com" else name
    attributes: Attributes = {"gen_ai.provider.name": own if kind == "openai" else kind}
    if host:
        attributes |= {_SERVER_ADDRESS: host, "server.port": parts.port or _PORTS.get(parts.scheme, 443)}
    return attributes


def _known(values: Mapping[str, Value | None]) -> Attributes:
    return {name: value for name, value in values.items() if value is not None}


def _call_attributes(call: ProviderCall, route: str | None) -> Attributes:
    request, form = call.request, call.request.response_format
    attributes = {
        "llama_client.request_id": call.request_id,
        "llama_client.route": route,
        "gen_ai.request.stop_sequences": request.stops or None,
        "gen_ai.request.stream": request.stream or None,
        "gen_ai.output.type": None if form is None else "text" if form.type == "text" else "json",
    }
    return _known(attributes | {name: getattr(request, parameter) for parameter, name in _PARAMETERS.items()})


def _attempt_attributes(attempt: Attempt, number: int, *, streams: bool) -> Attributes:
    usage, cost = attempt.usage or Usage(), attempt.cost
    return _known(
        {
            "llama_client.attempt.number": number,
            "llama_client.attempt.outcome": attempt.outcome,
            "gen_ai.response.time_to_first_chunk": attempt.ttft_s if streams else None,
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            _COST_STATUS: None if cost is None else cost.status,
            "llama_client.cache.saved_usd": None if attempt.saved_usd is None else float(attempt.saved_usd),
            "llama_client.cost.usd": None if cost is None or cost.usd is None else float(cost.usd),
        }
    )


def _content_attributes(request: ChatRequest, choices: Sequence[Choice]) -> Attributes:
    """The messages of the request and the answer, as JSON, since attributes cannot be nested."""
    messages = list(request.messages)
    instructions: list[dict[str, Any]] = []
    while messages and messages[0].role in ("system", "developer"):
        instructions += _parts(messages.pop(0).content)
    tools = [_tool(tool) for tool in request.tools or ()]
    content = {
        "gen_ai.system_instructions": instructions,
        "gen_ai.input.messages": [_input_message(message) for message in messages],
        "gen_ai.output.messages": [_output_message(choice) for choice in choices],
        "gen_ai.tool.definitions": tools,
    }
    return {name: json.dumps(value) for name, value in content.items() if value}


def _tool(tool: AnyTool) -> dict[str, Any]:
    function = getattr(tool, "function", None)
    if not isinstance(function, FunctionSpec):
        return {"type": tool.type}
    return {"type": tool.type} | function.model_dump(include={"name", "description", "parameters"}, exclude_none=True)


def _input_message(message: RequestMessage) -> dict[str, Any]:
    parts = _reasoning(message.__pydantic_extra__ or {}) + _parts(message.content)
    if message.role == "tool":
        text = "".join(part.get("content", "") for part in parts)
        parts = [{"type": "tool_call_response", "id": message.tool_call_id, "response": text}]
    elif message.role == "assistant":
        parts += _calls(message.tool_calls or ())
    return {"role": message.role, "parts": parts} | ({} if message.name is None else {"name": message.name})


def _output_message(choice: Choice) -> dict[str, Any]:
    message = choice.message
    texts = (("reasoning", message.reasoning), ("text", message.content), ("refusal", message.refusal))
    parts = [{"type": kind, "content": text} for kind, text in texts if text]
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
        if isinstance(part, TextPart):
            parts.append({"type": "text", "content": part.text})
        elif not isinstance(part, ImagePart):
            # Its content may be megabytes.
            parts.append({"type": part.type})
        elif part.image_url.url.startswith("data:"):
            # Without its bytes: exporters drop batches of more than a few megabytes.
            kind = part.image_url.url.removeprefix("data:").partition(";")[0]
            parts.append({"type": "blob", "modality": "image", "mime_type": kind})
        else:
            parts.append({"type": "uri", "modality": "image", "uri": part.image_url.url})
    return parts


def _reasoning(extra: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = next((extra[name] for name in REASONING_NAMES if isinstance(extra.get(name), str)), None)
    return [{"type": "reasoning", "content": text}] if text else []


def _calls(calls: Sequence[ToolCall | AssistantToolCall]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for call in calls:
        function = call.function
        called = {"name": function.name, "arguments": _parsed(function.arguments)} if function is not None else {}
        told.append({"type": "tool_call", "id": call.id, **called})
    return told


def _parsed(arguments: str) -> Any:
    """The arguments of a tool call, as text if they are not JSON."""
    try:
        return from_json(arguments, allow_inf_nan=False)
    except ValueError:
        return arguments


_log = logging.getLogger("llama_client.telemetry")
# Without it, Python prints warnings to standard error if the program configures no handler.
_log.addHandler(logging.NullHandler())


class Instrumentation:
    """Creates one client's spans and metrics; shared by all of its views."""

    def __init__(self, *, content: bool, kind: Callable[[str], str], url: Callable[[str], str | None]) -> None:
        ready("opentelemetry.metrics", "opentelemetry.trace")
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise MissingExtraError(
                'telemetry.enabled is true, which needs opentelemetry-api: pip install "llama-client[otel]"',
                extra="otel",
            ) from error
        self.content = content
        self._kind, self._url = kind, url
        self._servers: dict[str, Attributes] = {}
        self._has_warned = False
        self._trace, self.failed = trace, trace.StatusCode.ERROR
        self._tracer = trace.get_tracer(_SCOPE, __version__)
        meter = metrics.get_meter(_SCOPE, __version__)

        def histogram(name: str, unit: str, description: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
            name = f"gen_ai.client.{name}"
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)

        self._tokens = histogram("token.usage", "{token}", "Tokens, as providers reported them.", _COUNTS)
        self._duration = histogram("operation.duration", "s", "Duration of attempts.")
        self._first_chunk = histogram(
            "operation.time_to_first_chunk", "s", "From the start of a stream to its first content."
        )
        self._next_chunk = histogram("operation.time_per_output_chunk", "s", "From one chunk of a stream to the next.")
        self._saved = meter.create_counter(
            "llama_client.cache.saved",
            "{USD}",
            "What answers from the cache had cost when they were made, where known.",
        )
        self._cost = meter.create_counter("llama_client.cost", "{USD}", "Cost of attempts, where known.")

    def start_span(self, call: ProviderCall, route: str | None) -> AttemptSpan | None:
        """Starts the span of an attempt, as a child of the caller's own; None: OpenTelemetry raised an error."""
        return self.safely(lambda: self._begin(call, route))

    def _begin(self, call: ProviderCall, route: str | None) -> AttemptSpan:
        name = call.provider
        server = self._servers.get(name)
        if server is None:
            server = self._servers[name] = server_attributes(name, self._kind(name), self._url(name))
        labels = {"gen_ai.operation.name": _OPERATION, "gen_ai.request.model": call.model} | server
        kinds = self._trace.SpanKind
        span = self._tracer.start_span(
            f"{_OPERATION} {call.model}",
            kind=kinds.CLIENT if _SERVER_ADDRESS in server else kinds.INTERNAL,
            attributes=labels | _call_attributes(call, route),
        )
        return AttemptSpan(self, span, call.request, labels)

    def measure(self, span: Span, attempt: Attempt, labels: Attributes, gaps_s: Sequence[float] | None) -> None:
        # Links a metric's exemplars to the attempt's span, not to the caller's.
        context = self._trace.set_span_in_context(span)
        if attempt.outcome == "cached":
            # No time or token of the target's.
            if attempt.saved_usd is not None:
                self._saved.add(float(attempt.saved_usd), labels, context)
            return
        if attempt.latency_s is not None:
            self._duration.record(attempt.latency_s, labels, context)
        if gaps_s is not None and attempt.ttft_s is not None:
            self._first_chunk.record(attempt.ttft_s, labels, context)
            for gap_s in gaps_s:
                self._next_chunk.record(gap_s, labels, context)
        usage, cost = attempt.usage or Usage(), attempt.cost
        for token_type, count in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
            if count is not None:
                self._tokens.record(count, labels | {"gen_ai.token.type": token_type}, context)
        if cost is not None and cost.usd is not None:
            self._cost.add(float(cost.usd), labels | {_COST_STATUS: cost.status}, context)

    def safely(self, act: Callable[[], T]) -> T | None:
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - the program's exporters may raise anything; no call fails because of that
            if not self._has_warned:
                self._has_warned = True
                # Without its message, which may quote the content.
                _log.warning("telemetry is incomplete: OpenTelemetry raised %s", type(error).__name__)
            return None


@dataclass(slots=True)
class AttemptSpan:
    _instrumentation: Instrumentation
    _span: Span
    _request: ChatRequest
    _labels: Attributes
    gaps_s: list[float] = field(default_factory=list)

    def end(
        self,
        attempt: Attempt,
        number: int,
        first: ChatCompletionChunk | None,
        generated: Callable[[], Sequence[Choice]],
    ) -> None:
        instrumentation, streams = self._instrumentation, self._request.stream
        model = None if first is None else first.model
        labels = self._labels | _known({"gen_ai.response.model": model, "error.type": attempt.error})

        def end_span() -> None:
            try:
                if self._span.is_recording():
                    if attempt.error is not None:
                        # Without the error's message, which may quote the content.
                        self._span.set_status(instrumentation.failed)
                    self._span.set_attributes(labels | _attempt_attributes(attempt, number, streams=streams))
                    # Last: a hedged attempt that lost and cannot be stopped may still be adding chunks.
                    self._span.set_attributes(self._answer(first, generated() if first is not None else ()))
            finally:
                self._span.end()

        instrumentation.safely(end_span)
        gaps_s = self.gaps_s if streams else None
        instrumentation.safely(lambda: instrumentation.measure(self._span, attempt, labels, gaps_s))

    def _answer(self, first: ChatCompletionChunk | None, choices: Sequence[Choice]) -> Attributes:
        # The conventions' finish reason of an interrupted answer is `error`.
        reasons = [choice.finish_reason or "error" for choice in choices] or None
        identity = None if first is None else first.id
        attributes = _known({"gen_ai.response.id": identity, "gen_ai.response.finish_reasons": reasons})
        return attributes | _content_attributes(self._request, choices) if self._instrumentation.content else attributes
