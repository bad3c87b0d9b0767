"""The record of one call: each attempt as it goes on, what came of it, and the whole answer at the end."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.clock import Clock
from llama_client.costs.bills import (
    BYTES_PER_TOKEN,
    Tokens,
    cost_of_time,
    cost_of_tokens,
    counted,
    nothing_charged,
    total,
)
from llama_client.costs.prices import FREE, HourPrice
from llama_client.costs.reservations import Refused, Reserved
from llama_client.costs.rows import (
    CALL,
    ERROR,
    PROVIDER,
    TARGET,
    UNPRICED_CALL,
    UNPRICED_PROVIDER,
    UNPRICED_TARGET,
    Row,
)
from llama_client.errors import (
    APIConnectionError,
    APITimeoutError,
    GenerationFailedError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaClientError,
    LocalOnlyError,
    ProviderError,
    UnsupportedFeatureError,
)
from llama_client.providers.base import AttemptFacts, ProviderCall
from llama_client.routing.fold import Fold
from llama_client.routing.health import Result
from llama_client.routing.plan import Reserve, Skip, Try
from llama_client.types.attempt import Attempt, AttemptOutcome, Timing
from llama_client.types.chunk import ChatCompletionChunk
from llama_client.types.completion import ChatCompletion
from llama_client.types.cost import Cost
from llama_client.types.usage import Usage

if TYPE_CHECKING:
    from llama_client.config.routing import Routing
    from llama_client.costs.accounting import Accounting, MachineUse
    from llama_client.costs.prices import Price
    from llama_client.routing.candidates import Candidate
    from llama_client.routing.purchases import Purchases
    from llama_client.structured import AnswerForm
    from llama_client.telemetry.instrumentation import AttemptSpan, Instrumentation
    from llama_client.types.completion import Choice
    from llama_client.types.request import ChatRequest

_log = logging.getLogger("llama_client.calls")


class Trial:
    """One attempt while it goes on: what the provider says, folded, and when."""

    def __init__(self, step: Try, call: ProviderCall, clock: Clock, form: AnswerForm | None) -> None:
        self.candidate = step.candidate
        self.target = step.candidate.target
        self.permit = step.permit
        self.waited_s = step.waited_s
        self.reservation = step.reservation
        self.machine_use: MachineUse | None = None
        self.span: AttemptSpan | None = None
        self.call = call
        self.choices: list[Choice] | None = None
        self.fold: Fold = Fold(step.candidate.continued.fold if step.candidate.continued is not None else None)
        self.started_at = clock.monotonic()
        self.first_content_at: float | None = None
        self.last_content_at: float | None = None
        self.is_written = False
        # Somebody else has won; what becomes of it now is no failure.
        self.is_abandoned = False
        # Somebody else was asked too, since it had not answered yet.
        self.is_late = False
        self._clock = clock
        self._form = form

    @property
    def facts(self) -> AttemptFacts:
        """What the provider learned beside the chunks."""
        return self.call.facts

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Takes in the next chunk."""
        self.fold.add(chunk)
        if self.fold.has_content and chunk.choices:
            before, self.last_content_at = self.last_content_at, self._clock.monotonic()
            if before is None:
                self.first_content_at = self.last_content_at
            elif self.span is not None:
                self.span.gaps_s.append(self.last_content_at - before)

    @property
    def ttft_s(self) -> float | None:
        """From the start of the attempt to its first content."""
        return self.first_content_at - self.started_at if self.first_content_at is not None else None

    @property
    def tokens_per_s(self) -> float | None:
        """The speed of the answer: as the provider measured it, else of its tokens after the first."""
        if self.facts.tokens_per_s is not None:
            return self.facts.tokens_per_s
        tokens = self.fold.usage.completion_tokens if self.fold.usage else None
        first, last = self.first_content_at, self.last_content_at
        if tokens is None or tokens <= 1 or first is None or last is None or last <= first:
            return None
        return (tokens - 1) / (last - first)

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
    """One call of the user's: its attempts in order, and the answer made from the one that won.

    Args:
        request: The checked request.
        rules: What failover does.
        clock: The time.
        tags: The call's labels.
        accounting: What attempts cost, and where they are written down.
        purchases: Sets money aside for attempts; None: there is no budget.
        form: What the answer is held against.
        telemetry: Makes spans and metrics of attempts; None: it is off.
    """

    def __init__(
        self,
        request: ChatRequest,
        rules: Routing,
        clock: Clock,
        tags: Mapping[str, str],
        accounting: Accounting,
        form: AnswerForm | None = None,
        purchases: Purchases | None = None,
        telemetry: Instrumentation | None = None,
    ) -> None:
        self.request = request
        self.clock = clock
        self.request_id = f"req_{os.urandom(12).hex()}"
        self.attempts: list[Attempt] = []
        self._form = form
        self._rules = rules
        self._accounting = accounting
        self._purchases = purchases
        self._telemetry = telemetry
        self._charged: list[Cost] = []
        self._counted: set[tuple[int, str]] = set()
        self._is_recorded = True
        self._tags = dict(tags)
        # A call is priced by its own day, however long it takes.
        self.at = clock.wall()
        self._started_at = clock.monotonic()
        self._is_stopped = False
        self._facts: AttemptFacts | None = None
        # Of a stream that somebody else went on with.
        self._first_content_at: float | None = None
        # Attempts may run side by side. Re-entrant: the garbage collector may drop a stream at any allocation.
        self._lock = threading.RLock()

    def reserve(self, step: Reserve) -> Reserved | Refused:
        """Sets aside what an attempt can cost, blocking."""
        if self._purchases is None:
            return Reserved(None)
        return self._purchases.reserve(step.candidate, self._tags, self.at, step.timeout_s)

    async def areserve(self, step: Reserve) -> Reserved | Refused:
        """The same on the event loop."""
        if self._purchases is None:
            return Reserved(None)
        return await self._purchases.areserve(step.candidate, self._tags, self.at, step.timeout_s)

    def begin(self, step: Try) -> Trial:
        """Starts an attempt.

        Raises:
            InvalidRequestError: The call was stopped meanwhile.
        """
        if self._is_stopped:
            step.permit.settle(None)
            if step.reservation is not None:
                step.reservation.release()
            raise InvalidRequestError("the stream was closed")
        step.permit.start(step.candidate.size)
        candidate, streams = step.candidate, self.request.stream
        facts = AttemptFacts()
        if candidate.warnings:
            facts.warnings.extend(candidate.warnings)
        broken = candidate.continued
        if broken is not None:
            facts.bodies.extend(broken.facts.bodies)
            if self._first_content_at is None:
                self._first_content_at = broken.first_content_at
        call = ProviderCall(
            request=candidate.request,
            provider=candidate.target.provider_name,
            model=candidate.target.model,
            request_id=self.request_id,
            timeout_s=step.timeout_s,
            facts=facts,
            first_content_s=self._rules.first_content_s if streams else None,
            stall_s=self._rules.stall_s if streams else None,
            is_continuation=broken is not None,
        )
        self._facts = facts
        trial = Trial(step, call, self.clock, self._form)
        trial.machine_use = self._accounting.machines.begin(candidate.target.provider_name, trial.started_at)
        trial.span = self._telemetry.begin(call, candidate.route) if self._telemetry is not None else None
        return trial

    def stop(self) -> None:
        """Ends the attempt that is under way, from another thread or task, and lets no other begin."""
        self._is_stopped = True
        if self._facts is not None:
            self._facts.end()

    def skipped(self, step: Skip) -> None:
        """Writes down a target that is not asked."""
        name, error = step.candidate.target.name, step.error
        if isinstance(error, ProviderError):
            error.provider = error.provider or step.candidate.target.provider_name
            error.target = error.target or name
        attempt = Attempt(
            target=name,
            outcome="skipped",
            sent=False,
            error=type(error).__name__ if error is not None else None,
            reason=step.reason,
        )
        self._add(attempt, step.candidate, self.clock.monotonic(), None)

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
            # How many tokens the two halves of an answer have together, nobody has counted.
            usage=(trial.fold.usage if trial.candidate.continued is None else None) or Usage(),
            target=trial.target.name,
            provider=trial.target.provider_name,
            request_id=self.request_id,
            cost=total(self._charged or [self._cost_so_far(trial)]),
            attempts=list(self.attempts),
            timing=self._timing(trial),
            warnings=list(trial.facts.warnings),
        )

    def _timing(self, trial: Trial) -> Timing:
        facts, first = trial.facts, self._first_content_at or trial.first_content_at
        return Timing(
            total_s=facts.total_s if facts.total_s is not None else self.clock.monotonic() - self._started_at,
            ttft_s=first - self._started_at if first is not None else None,
            tokens_per_s=trial.tokens_per_s,
            load_s=facts.load_s,
            queue_s=facts.queue_s,
        )

    def _write(self, trial: Trial, outcome: AttemptOutcome, error: LlamaClientError | None) -> None:
        with self._lock:
            if trial.is_written:
                return
            trial.is_written = True
        facts = trial.facts
        status = facts.http_status
        latency_s = self.clock.monotonic() - trial.started_at
        trial.permit.settle(self._result(trial, outcome, error, latency_s))
        tokens, cost = self._bill(trial, outcome, error)
        if trial.reservation is not None:
            trial.reservation.settle(_settled(cost, tokens))
        attempt = Attempt(
            target=trial.target.name,
            outcome=outcome,
            sent=facts.sent,
            error=type(error).__name__ if error is not None else None,
            http_status=error.http_status if status is None and isinstance(error, ProviderError) else status,
            reason=str(error) if error is not None else None,
            provider_request_id=facts.provider_request_id,
            latency_s=latency_s,
            ttft_s=trial.ttft_s,
            usage=trial.fold.usage,
            estimated_usage=tokens.as_usage() if tokens is not None and tokens.are_estimated else None,
            cost=cost,
            rate_limit=facts.rate_limit,
            waited_s=trial.waited_s or None,
        )
        number = self._add(attempt, trial.candidate, trial.started_at, tokens)
        if trial.span is not None:
            trial.span.end(attempt, number, trial.fold.first, trial.fold.generated)

    def _bill(
        self, trial: Trial, outcome: AttemptOutcome, error: LlamaClientError | None
    ) -> tuple[Tokens | None, Cost | None]:
        """The tokens that are charged for, and what they cost; None: none are, or it was never sent."""
        use, machine_s = trial.machine_use, 0.0
        if use is not None:
            machine_s = use.machine.end(use.began, self.clock.monotonic())
        if not trial.facts.sent:
            return None, None
        price, is_worked_on = self._price(trial), _was_worked_on(trial, outcome, error)
        tokens = counted(trial.fold.usage, lambda: self._guessed(trial, error)) if is_worked_on else None
        if isinstance(price, HourPrice):
            cost = cost_of_time(price, machine_s, self._reading_share(trial))
        elif tokens is not None:
            cost = cost_of_tokens(price, tokens)
        else:
            return None, nothing_charged("local" if price is FREE else "it was refused")
        self._charged.append(cost)
        if price is not None and not isinstance(price, HourPrice):
            for doubt in (price.origin.doubt, price.origin.warning):
                if doubt is not None:
                    trial.facts.warn(f"cost: {doubt}")
        return tokens, cost

    def _price(self, trial: Trial) -> Price | None:
        target = trial.target
        return self._accounting.prices.price(
            target.provider_name,
            target.model,
            self.at,
            is_free=target.provider.is_free(target.model),
            service_tier=trial.fold.service_tier or trial.call.request.service_tier,
        )

    def _guessed(self, trial: Trial, error: LlamaClientError | None) -> tuple[float, float]:
        """The tokens of an attempt whose tokens nobody has counted: of the prompt, and of what was generated."""
        generated = float(trial.fold.answer_bytes)
        if isinstance(error, GenerationFailedError) and not generated:
            generated = float(len((error.failed_generation or "").encode("utf-8", "replace")))
        size = trial.candidate.size
        if not generated and not self.request.stream:
            # Whoever makes a whole answer has made it, or some of it, without a word.
            return size.input_tokens, size.output_tokens(trial.candidate.health.usual_output_tokens)
        return size.input_tokens, generated / BYTES_PER_TOKEN

    def _reading_share(self, trial: Trial) -> float:
        """Which part of an attempt passed before its first content."""
        took_s = self.clock.monotonic() - trial.started_at
        return trial.ttft_s / took_s if self.request.stream and trial.ttft_s is not None and took_s > 0 else 0.0

    def _cost_so_far(self, trial: Trial) -> Cost:
        """What is known of the cost of an answer that is not whole: nothing, where it costs anything at all."""
        return cost_of_tokens(FREE, Tokens(0, 0)) if self._price(trial) is FREE else Cost()

    def _enter(self, attempt: Attempt, candidate: Candidate, started_at: float, tokens: Tokens | None) -> None:
        """Hands an attempt to the ledger."""
        ledger, target = self._accounting.ledger, candidate.target
        assert ledger is not None
        counts = self._count("", CALL)
        if attempt.outcome != "skipped":
            # Who was not asked has had no call.
            counts |= self._count(target.provider_name, PROVIDER) | self._count(target.name, TARGET)
        if attempt.cost is not None and attempt.cost.usd is None:
            counts |= self._count("", UNPRICED_CALL)
            counts |= self._count(target.provider_name, UNPRICED_PROVIDER) | self._count(target.name, UNPRICED_TARGET)
        if attempt.outcome in ("error", "interrupted"):
            counts |= ERROR
        row = Row(
            self.at + (started_at - self._started_at),
            self.request_id,
            len(self.attempts),
            candidate.route,
            target.provider_name,
            target.model,
            self._tags,
            attempt,
            tokens,
            counts,
        )
        if not ledger.put(row) and self._is_recorded:
            self._is_recorded = False
            ledger.count_unrecorded()

    def _count(self, name: str, what: int) -> int:
        """`what` for the first row of its kind in this call, else 0."""
        if (what, name) in self._counted:
            return 0
        self._counted.add((what, name))
        return what

    def _result(
        self, trial: Trial, outcome: AttemptOutcome, error: LlamaClientError | None, latency_s: float
    ) -> Result | None:
        """What the target's health learns from an attempt; None: nothing."""
        if trial.is_abandoned and trial.is_late and trial.first_content_at is None:
            # Who came later was faster: a target that hangs must not cost each call its lateness.
            error = APITimeoutError(f"no answer within {latency_s:.3g} s, when another target had answered")
        elif outcome in ("cancelled", "skipped"):
            return None
        return Result(
            error=error,
            latency_s=latency_s,
            ttft_s=trial.ttft_s if trial.call.request.stream else None,
            tokens_per_s=trial.tokens_per_s,
            usage=trial.fold.usage,
            rate_limit=trial.facts.rate_limit,
            was_loading=trial.facts.is_loading,
        )

    def _add(self, attempt: Attempt, candidate: Candidate, started_at: float, tokens: Tokens | None) -> int:
        with self._lock:
            self.attempts.append(attempt)
            number = len(self.attempts)
            if self._accounting.ledger is not None:
                self._enter(attempt, candidate, started_at, tokens)
        if _log.isEnabledFor(logging.DEBUG):
            waited = f" after a wait of {attempt.waited_s:.3f} s" if attempt.waited_s else ""
            took = f" in {attempt.latency_s:.3f} s" if attempt.latency_s is not None else ""
            why = f" ({attempt.error or attempt.reason})" if attempt.reason else ""
            _log.debug(
                "%s %s %s%s%s%s",
                self.request_id,
                attempt.target,
                attempt.outcome,
                waited,
                took,
                why,
                extra={
                    "request_id": self.request_id,
                    "target": attempt.target,
                    "outcome": attempt.outcome,
                    "tags": self._tags,
                },
            )
        return number


def _settled(cost: Cost | None, tokens: Tokens | None) -> Decimal | None:
    """What a budget is charged with; None: nobody knows for sure, so the worst case."""
    if cost is None:
        return Decimal(0)
    return None if tokens is not None and tokens.are_estimated else cost.usd


def _was_worked_on(trial: Trial, outcome: AttemptOutcome, error: LlamaClientError | None) -> bool:
    """Whether an attempt that was sent is charged for: all are, but those that were refused."""
    if outcome != "error" or trial.fold.usage is not None or trial.fold.has_content:
        return outcome != "skipped"
    if isinstance(error, GenerationFailedError):
        return True
    status = trial.facts.http_status
    if status is None and isinstance(error, ProviderError):
        status = error.http_status
    # Without a status nobody knows how far it had come. An error in the place of an answer is a refusal; an answer that
    # broke off, or cannot be read, is one that was made.
    return status is None or (status < 400 and isinstance(error, InvalidResponseError | APIConnectionError))
