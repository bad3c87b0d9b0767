"""The short way to an answer that is in memory: without a plan, a lease or a record, since nothing is asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json

from llama_client.cache.answers import identity_of
from llama_client.cache.key import is_whole, key_of, place_of
from llama_client.costs.ledger import hit_row
from llama_client.routing.accumulator import Accumulator
from llama_client.types.completion import (
    Attempt,
    ChatCompletion,
    Choice,
    Cost,
    Delta,
    Message,
    Timing,
    Usage,
    unchecked,
)

if TYPE_CHECKING:
    from llama_client.cache.answers import AnswerCache
    from llama_client.cache.stored import Stored
    from llama_client.clock import Clock
    from llama_client.costs.accounting import Accounting
    from llama_client.routing.targets import Target, TargetList
    from llama_client.types.completion import ChatCompletionChunk
    from llama_client.types.request import ChatRequest

# As `CallRecord` logs attempts.
_log = logging.getLogger("llama_client.calls")
_ZERO = Decimal(0)
# The fields of a delta; others are those that a provider adds.
_PLAIN, _COUNTS = Delta.model_fields.keys(), Usage.model_fields.keys()


class Shortcut(NamedTuple):
    """What a client's calls have in common here."""

    cache: AnswerCache
    accounting: Accounting
    clock: Clock
    namespace: str
    namespace_tags: Sequence[str]

    def answer(
        self, request: ChatRequest, choices: Sequence[TargetList], tags: Mapping[str, str]
    ) -> ChatCompletion | None:
        """The answer of the first target; None: it is not in memory, or the call needs the long way."""
        choice = choices[0]
        if choice.policy != "ordered" or choice.max_price_usd is not None:
            return None
        target = choice.targets[0]
        started_at = self.clock.monotonic()
        identity = identity_of(target.provider, target.model)
        if identity is None or target.params or not is_whole(request):
            return None
        values = tuple([tags.get(name) for name in self.namespace_tags]) if self.namespace_tags else ()
        stored = self.cache.get(key_of(request, place_of(identity, self.namespace, values)), now := self.clock.wall())
        if stored is None:
            return None
        attempt = self._attempt(target, stored, started_at)
        request_id = self.accounting.request_ids.new(now)
        ledger = self.accounting.ledger
        if ledger is not None:
            row = hit_row(now, request_id, choice.route, target.name, tags, attempt.latency_s or 0.0, stored.usd)
            if not ledger.put(row):
                ledger.count_unrecorded()
        if _log.isEnabledFor(logging.DEBUG):
            shown = {"request_id": request_id, "target": target.name, "outcome": "cached"}
            _log.debug("%s %s %s", *shown.values(), extra={**shown, "tags": tags})
        return _completion(stored, target, request_id, attempt)

    def _attempt(self, target: Target, stored: Stored, started_at: float) -> Attempt:
        took_s = self.clock.monotonic() - started_at
        values = {
            "target": target.name,
            "outcome": "cached",
            "sent": False,
            "error": None,
            "http_status": None,
            "reason": None,
            "provider_request_id": None,
            "latency_s": took_s,
            "ttft_s": took_s,
            "usage": None,
            "estimated_usage": None,
            "cost": _nothing(),
            "saved_usd": stored.usd,
            "rate_limit": None,
            "waited_s": None,
        }
        return unchecked(Attempt, values)


def _nothing() -> Cost:
    values = {
        "usd": _ZERO,
        "status": "exact",
        "input_usd": _ZERO,
        "cached_usd": _ZERO,
        "output_usd": _ZERO,
        "source": "cache",
        "effective_from": None,
    }
    return unchecked(Cost, values)


def _completion(stored: Stored, target: Target, request_id: str, attempt: Attempt) -> ChatCompletion:
    # The chunk was checked when it was stored: for a plain text it is read without pydantic, in half of the time.
    fields: dict[str, Any] = from_json(stored.chunk)
    choices = _plain_choices(fields["choices"], target.name)
    if choices is None:
        choices = _choices(stored.as_chunk(request_id, target.name, target.provider_name), target.name)
    took_s = attempt.latency_s
    timing = {"total_s": took_s, "ttft_s": took_s, "tokens_per_s": None, "load_s": None, "queue_s": None}
    values: dict[str, Any] = {
        "id": fields["id"],
        "object": "chat.completion",
        "created": fields["created"],
        "model": fields["model"],
        "choices": choices,
        "usage": _usage(fields.get("usage")),
        "system_fingerprint": fields.get("system_fingerprint"),
        "service_tier": fields.get("service_tier"),
        "target": target.name,
        "provider": target.provider_name,
        "request_id": request_id,
        "cost": attempt.cost,
        "attempts": [attempt],
        "timing": unchecked(Timing, timing),
        "sources": [source.model_copy() for source in stored.sources] if stored.sources else [],
        "warnings": list(stored.warnings),
    }
    return unchecked(ChatCompletion, values, {"_raw": stored.body, "_raw_chunks": stored.bodies})


def _usage(fields: dict[str, Any] | None) -> Usage:
    if fields is None:
        return Usage()
    if fields.keys() == _COUNTS and not (fields["prompt_tokens_details"] or fields["completion_tokens_details"]):
        return unchecked(Usage, fields)
    return Usage.model_validate(fields)


def _plain_choices(fields: list[dict[str, Any]], made_by: str) -> list[Choice] | None:
    """Of an answer of text alone; None: there is more."""
    choices = []
    for choice in fields:
        delta = choice["delta"]
        if choice.get("logprobs") is not None or delta.keys() != _PLAIN or delta["tool_calls"] or delta["refusal"]:
            return None
        message = {
            "role": "assistant",
            "content": delta["content"],
            "tool_calls": None,
            "reasoning": delta["reasoning"],
            "refusal": None,
            "parsed": None,
        }
        values = {
            "index": choice["index"],
            "message": unchecked(Message, message, {"_made_by": made_by}, {}),
            "finish_reason": choice.get("finish_reason"),
            "logprobs": None,
        }
        choices.append(unchecked(Choice, values))
    return choices


def _choices(chunk: ChatCompletionChunk, made_by: str) -> list[Choice]:
    answer = Accumulator(None, made_by)
    answer.add(chunk)
    return answer.choices()
