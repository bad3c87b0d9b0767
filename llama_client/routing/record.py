"""The record of one call: each attempt as it goes on, what came of it, and the whole answer at the end."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from llama_client.clock import Clock
from llama_client.costs.prices import price, total
from llama_client.errors import (
    GenerationFailedError,
    InvalidResponseError,
    LlamaClientError,
    LocalOnlyError,
    ProviderError,
    UnsupportedFeatureError,
)
from llama_client.providers.base import AttemptFacts, ProviderCall
from llama_client.routing.fold import Fold
from llama_client.routing.targets import Target
from llama_client.types.attempt import Attempt, AttemptOutcome, Timing
from llama_client.types.chunk import ChatCompletionChunk
from llama_client.types.completion import ChatCompletion
from llama_client.types.cost import Cost
from llama_client.types.usage import Usage

if TYPE_CHECKING:
    from llama_client.structured import AnswerForm
    from llama_client.types.completion import Choice
    from llama_client.types.request import ChatRequest

_log = logging.getLogger("llama_client.calls")


class Trial:
    """One attempt while it goes on: what the provider says, folded, and when."""

    def __init__(self, target: Target, call: ProviderCall, clock: Clock, form: AnswerForm | None) -> None:
        self.choices: list[Choice] | None = None
        self._form = form
        self.target = target
        self.call = call
        self.fold = Fold()
        self.started_at = clock.monotonic()
        self.first_content_at: float | None = None
        self.last_content_at: float | None = None
        self._clock = clock

    @property
    def facts(self) -> AttemptFacts:
        """What the provider learned beside the chunks."""
        return self.call.facts

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Takes in the next chunk."""
        self.fold.add(chunk)
        if self.fold.has_content and chunk.choices:
            self.last_content_at = self._clock.monotonic()
            if self.first_content_at is None:
                self.first_content_at = self.last_content_at

    def require_complete(self) -> None:
        """Called at the end of the chunks: an end without a finish reason is an interruption.

        Raises:
            InvalidResponseError: There was none.
            GenerationFailedError: The answer does not have the form that was asked for.
        """
        if not self.fold.is_complete:
            raise InvalidResponseError("the answer ended without a finish reason", http_status=self.facts.http_status)
        if self._form is not None:
            self.choices = self.fold.choices()
            try:
                parsed = self._form.parsed(self.choices)
            except GenerationFailedError as error:
                error.http_status = self.facts.http_status
                raise
            for choice, value in zip(self.choices, parsed, strict=True):
                choice.message.parsed = value


class CallRecord:
    """One call of the user's: its attempts in order, and the answer made from the one that won."""

    def __init__(
        self, request: ChatRequest, clock: Clock, tags: Mapping[str, str], form: AnswerForm | None = None
    ) -> None:
        self._form = form
        self.request = request
        self.clock = clock
        self.request_id = f"req_{os.urandom(12).hex()}"
        self.attempts: list[Attempt] = []
        self._charged: list[Cost] = []
        self._tags = dict(tags)
        self._started_at = clock.monotonic()

    def begin(self, target: Target, timeout_s: float | None) -> Trial:
        """Starts an attempt."""
        call = ProviderCall(
            request=self.request,
            provider=target.provider_name,
            model=target.model,
            request_id=self.request_id,
            timeout_s=timeout_s,
            facts=AttemptFacts(),
        )
        return Trial(target, call, self.clock, self._form)

    def failed(self, trial: Trial, error: LlamaClientError, *, outcome: AttemptOutcome = "error") -> None:
        """Writes down a failed attempt, and completes its error."""
        if isinstance(error, ProviderError):
            error.provider = error.provider or trial.target.provider_name
            error.target = error.target or trial.target.name
            error.request_id = error.request_id or trial.facts.provider_request_id
        if isinstance(error, UnsupportedFeatureError | LocalOnlyError) and not trial.facts.sent:
            outcome = "skipped"
        self._write(trial, outcome, error)

    def cancelled(self, trial: Trial) -> None:
        """Writes down an attempt that the caller stopped."""
        self._write(trial, "cancelled", None)

    def won(self, trial: Trial) -> ChatCompletion:
        """Writes down the attempt that answered, and makes the answer."""
        self._write(trial, "ok", None)
        return self.completion(trial)

    def completion(self, trial: Trial) -> ChatCompletion:
        """The answer as far as it has come."""
        first, bodies = trial.fold.first, trial.facts.bodies
        return ChatCompletion.with_raw(
            trial.facts.body,
            bodies,
            id=first.id if first else self.request_id,
            created=first.created if first else int(self.clock.wall()),
            model=first.model if first else trial.target.model,
            system_fingerprint=first.system_fingerprint if first else None,
            service_tier=trial.fold.service_tier,
            choices=trial.fold.choices() if trial.choices is None else trial.choices,
            usage=trial.fold.usage or Usage(),
            target=trial.target.name,
            provider=trial.target.provider_name,
            request_id=self.request_id,
            cost=total(self._charged or [_price(trial.target)]),
            attempts=list(self.attempts),
            timing=self._timing(trial),
            warnings=list(trial.facts.warnings),
        )

    def _timing(self, trial: Trial) -> Timing:
        tokens = trial.fold.usage.completion_tokens if trial.fold.usage else None
        first, last = trial.first_content_at, trial.last_content_at
        facts = trial.facts
        tokens_per_s = facts.tokens_per_s
        if (
            tokens_per_s is None
            and tokens is not None
            and tokens > 1
            and first is not None
            and last is not None
            and last > first
        ):
            tokens_per_s = (tokens - 1) / (last - first)
        return Timing(
            total_s=facts.total_s if facts.total_s is not None else self.clock.monotonic() - self._started_at,
            ttft_s=first - self._started_at if first is not None else None,
            tokens_per_s=tokens_per_s,
            load_s=facts.load_s,
            queue_s=facts.queue_s,
        )

    def _write(self, trial: Trial, outcome: AttemptOutcome, error: LlamaClientError | None) -> None:
        facts = trial.facts
        status = facts.http_status
        cost = _price(trial.target) if facts.sent else None
        # Whoever refuses a request does not charge for it; who has generated does, whatever became of that.
        generated = trial.fold.usage is not None or isinstance(error, GenerationFailedError)
        if cost is not None and (outcome != "error" or generated):
            self._charged.append(cost)
        attempt = Attempt(
            target=trial.target.name,
            outcome=outcome,
            sent=facts.sent,
            error=type(error).__name__ if error is not None else None,
            http_status=error.http_status if status is None and isinstance(error, ProviderError) else status,
            reason=str(error) if error is not None else None,
            provider_request_id=facts.provider_request_id,
            latency_s=self.clock.monotonic() - trial.started_at,
            ttft_s=trial.first_content_at - trial.started_at if trial.first_content_at is not None else None,
            usage=trial.fold.usage,
            cost=cost,
            rate_limit=facts.rate_limit,
        )
        self.attempts.append(attempt)
        _log.debug(
            "%s %s %s in %.3f s%s",
            self.request_id,
            attempt.target,
            outcome,
            attempt.latency_s,
            f" ({attempt.error})" if attempt.error else "",
            extra={"request_id": self.request_id, "target": attempt.target, "outcome": outcome, "tags": self._tags},
        )


def _price(target: Target) -> Cost:
    return price(is_free=target.provider.is_free(target.model))
