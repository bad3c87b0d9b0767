"""What answers, reports and states hold, as a user's type checker sees it: never run."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, assert_type

from llama_client import (
    Attempt,
    BudgetState,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    Cost,
    CostEstimate,
    CostGroup,
    CostReport,
    DayCosts,
    Message,
    ModelInfo,
    ProviderInfo,
    Source,
    TargetHealth,
    Timing,
    TokenCount,
    ToolCall,
    TrafficReport,
    Usage,
)


def seen(*_: object) -> None:
    """Takes what has a type that no user has to name."""


def of_attempt(it: Attempt) -> None:
    assert_type(it.target, str)
    assert_type(it.outcome, Literal["ok", "cached", "error", "interrupted", "cancelled", "skipped"])
    assert_type(it.sent, bool)
    assert_type(it.error, str | None)
    assert_type(it.http_status, int | None)
    assert_type(it.reason, str | None)
    assert_type(it.provider_request_id, str | None)
    assert_type(it.latency_s, float | None)
    assert_type(it.ttft_s, float | None)
    assert_type(it.usage, Usage | None)
    assert_type(it.estimated_usage, Usage | None)
    assert_type(it.cost, Cost | None)
    assert_type(it.rate_limit, dict[str, Any] | None)
    assert_type(it.waited_s, float | None)


def of_budget_state(it: BudgetState) -> None:
    assert_type(it.budget, str)
    assert_type(it.usd, Decimal)
    assert_type(it.spent_usd, Decimal)
    assert_type(it.reserved_usd, Decimal)
    assert_type(it.resets_at, datetime | None)
    assert_type(it.on_exceeded, Literal["block", "local", "warn"])


def of_chat_completion(it: ChatCompletion) -> None:
    assert_type(it.id, str)
    assert_type(it.object, Literal["chat.completion"])
    assert_type(it.created, int)
    assert_type(it.model, str)
    assert_type(it.choices, list[Choice])
    assert_type(it.usage, Usage)
    assert_type(it.system_fingerprint, str | None)
    assert_type(it.service_tier, str | None)
    assert_type(it.target, str)
    assert_type(it.provider, str)
    assert_type(it.request_id, str)
    assert_type(it.cost, Cost)
    assert_type(it.attempts, list[Attempt])
    assert_type(it.timing, Timing)
    assert_type(it.sources, list[Source])
    assert_type(it.warnings, list[str])
    assert_type(it.raw, dict[str, Any])
    assert_type(it.text, str)


def of_chat_completion_chunk(it: ChatCompletionChunk) -> None:
    assert_type(it.id, str)
    assert_type(it.object, Literal["chat.completion.chunk"])
    assert_type(it.created, int)
    assert_type(it.model, str)
    seen(it.choices)
    assert_type(it.usage, Usage | None)
    assert_type(it.system_fingerprint, str | None)
    assert_type(it.service_tier, str | None)
    assert_type(it.target, str)
    assert_type(it.provider, str)
    assert_type(it.request_id, str)
    assert_type(it.has_content, bool)
    assert_type(it.text, str)


def of_choice(it: Choice) -> None:
    assert_type(it.index, int)
    assert_type(it.message, Message)
    assert_type(it.finish_reason, str | None)
    seen(it.logprobs)


def of_cost(it: Cost) -> None:
    assert_type(it.usd, Decimal | None)
    assert_type(it.status, Literal["exact", "estimated", "free", "unknown"])
    assert_type(it.input_usd, Decimal | None)
    assert_type(it.cached_usd, Decimal | None)
    assert_type(it.output_usd, Decimal | None)
    assert_type(it.source, str | None)
    assert_type(it.effective_from, date | None)


def of_cost_estimate(it: CostEstimate) -> None:
    assert_type(it.target, str)
    assert_type(it.usd, Decimal | None)
    assert_type(it.most_usd, Decimal | None)
    assert_type(it.status, Literal["free", "estimated", "unknown"])
    assert_type(it.input_tokens, int)
    assert_type(it.output_tokens, int)
    assert_type(it.source, str | None)


def of_cost_group(it: CostGroup) -> None:
    assert_type(it.key, str)
    assert_type(it.calls, int)
    assert_type(it.input_tokens, int)
    assert_type(it.output_tokens, int)
    assert_type(it.usd, Decimal)
    assert_type(it.unpriced_calls, int)
    assert_type(it.errors, int)


def of_cost_report(it: CostReport) -> None:
    assert_type(it.total_usd, Decimal)
    assert_type(it.calls, int)
    assert_type(it.unpriced_calls, int)
    assert_type(it.unrecorded_calls, int)
    assert_type(it.since, datetime | None)
    assert_type(it.groups, list[CostGroup])


def of_day_costs(it: DayCosts) -> None:
    assert_type(it.day, date)
    assert_type(it.groups, list[CostGroup])


def of_message(it: Message) -> None:
    assert_type(it.role, Literal["assistant"])
    assert_type(it.content, str | None)
    assert_type(it.tool_calls, list[ToolCall] | None)
    assert_type(it.reasoning, str | None)
    assert_type(it.refusal, str | None)
    seen(it.parsed)


def of_model_info(it: ModelInfo) -> None:
    assert_type(it.target, str)
    assert_type(it.name, str | None)
    assert_type(it.is_served, bool | None)
    assert_type(it.is_loaded, bool | None)
    assert_type(it.is_chat, bool | None)
    assert_type(it.context_tokens, int | None)
    assert_type(it.max_output_tokens, int | None)
    assert_type(it.abilities, list[str] | None)
    assert_type(it.input_usd_per_mtok, Decimal | None)
    assert_type(it.output_usd_per_mtok, Decimal | None)
    assert_type(it.cached_usd_per_mtok, Decimal | None)
    assert_type(it.size_bytes, int | None)
    assert_type(it.deprecated_on, date | None)
    assert_type(it.replacement, str | None)
    assert_type(it.checked_on, date | None)


def of_provider_info(it: ProviderInfo) -> None:
    assert_type(it.provider, str)
    assert_type(it.kind, str)
    assert_type(it.is_configured, bool)
    assert_type(it.is_reachable, bool)
    assert_type(it.error, str | None)
    assert_type(it.models, list[ModelInfo])


def of_source(it: Source) -> None:
    assert_type(it.kind, Literal["citation", "search_result", "tool"])
    assert_type(it.choice, int | None)
    assert_type(it.url, str | None)
    assert_type(it.title, str | None)
    assert_type(it.text, str | None)
    assert_type(it.name, str | None)
    assert_type(it.arguments, str | None)
    assert_type(it.start_index, int | None)
    assert_type(it.end_index, int | None)


def of_target_health(it: TargetHealth) -> None:
    assert_type(it.target, str)
    assert_type(it.breaker, Literal["closed", "open", "half-open"])
    assert_type(it.failures_in_row, int)
    assert_type(it.probe_in_s, float | None)
    assert_type(it.last_error, str | None)
    assert_type(it.ttft_s, float | None)
    assert_type(it.tokens_per_s, float | None)
    assert_type(it.latency_s, float | None)
    assert_type(it.remaining_requests, int | None)
    assert_type(it.remaining_tokens, int | None)
    assert_type(it.blocked_s, float | None)
    assert_type(it.in_flight, int)
    assert_type(it.queued, int)


def of_timing(it: Timing) -> None:
    assert_type(it.total_s, float | None)
    assert_type(it.ttft_s, float | None)
    assert_type(it.tokens_per_s, float | None)
    assert_type(it.load_s, float | None)
    assert_type(it.queue_s, float | None)


def of_token_count(it: TokenCount) -> None:
    assert_type(it.tokens, int)
    assert_type(it.most_tokens, int)
    assert_type(it.status, Literal["exact", "estimated"])


def of_tool_call(it: ToolCall) -> None:
    assert_type(it.id, str)
    assert_type(it.type, Literal["function"])
    seen(it.function)


def of_traffic_report(it: TrafficReport) -> None:
    assert_type(it.calls, int)
    assert_type(it.since, datetime | None)
    assert_type(it.first_call_at, datetime | None)
    assert_type(it.last_call_at, datetime | None)
    assert_type(it.days, float | None)
    assert_type(it.tokens_per_day, float | None)
    assert_type(it.input_tokens, int)
    assert_type(it.output_tokens, int)
    assert_type(it.cached_tokens, int | None)
    assert_type(it.input_share, float | None)
    assert_type(it.output_share, float | None)
    assert_type(it.cached_share, float | None)
    assert_type(it.mean_input_tokens, float | None)
    assert_type(it.mean_output_tokens, float | None)
    assert_type(it.peak_to_mean, float | None)
    assert_type(it.hourly_tokens, tuple[int, ...])
    assert_type(it.hourly_output_tokens, tuple[int, ...])
    seen(it.targets)
    assert_type(it.estimated_calls, int)
    assert_type(it.older_calls, int)
    assert_type(it.unrecorded_calls, int)


def of_usage(it: Usage) -> None:
    assert_type(it.prompt_tokens, int | None)
    assert_type(it.completion_tokens, int | None)
    assert_type(it.total_tokens, int | None)
    seen(it.prompt_tokens_details)
    seen(it.completion_tokens_details)
    assert_type(it.cached_tokens, int | None)
    assert_type(it.cache_write_tokens, int | None)
    assert_type(it.reasoning_tokens, int | None)
