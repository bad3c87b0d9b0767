"""Records one call: each attempt, its ledger row, and the final answer."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from llama_client.clock import Clock
from llama_client.costs.bills import (
    Tokens,
)
from llama_client.costs.ledger import (
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
    APITimeoutError,
    InvalidRequestError,
    LlamaClientError,
    LocalOnlyError,
    ProviderError,
    UnsupportedFeatureError,
)
from llama_client.providers.base import AttemptFacts, ProviderCall
from llama_client.routing.attempt import RunningAttempt
from llama_client.routing.billing import Billing
from llama_client.routing.health import Result
from llama_client.routing.plan import Reserve, Skip, Try
from llama_client.types.completion import Attempt, AttemptOutcome, ChatCompletion, Timing, Usage

if TYPE_CHECKING:
    from llama_client.config.tables import RoutingConfig
    from llama_client.costs.accounting import Accounting
    from llama_client.costs.bills import Tokens
    from llama_client.costs.budgets import PendingReservation
    from llama_client.costs.ledger import Ledger
    from llama_client.routing.billing import Reservations
    from llama_client.routing.candidate import Candidate
    from llama_client.structured import AnswerForm
    from llama_client.telemetry import Instrumentation
    from llama_client.types.completion import Attempt
    from llama_client.types.request import ChatRequest


class LedgerEntries:
    """Hands a call's attempts to the ledger, each once."""

    def __init__(self, ledger: Ledger, request_id: str, tags: Mapping[str, str]) -> None:
        self._ledger = ledger
        self._request_id = request_id
        self._tags = tags
        self._counted: set[tuple[str, int]] = set()
        self._is_recorded = True

    def add(self, attempt: Attempt, candidate: Candidate, number: int, at: float, tokens: Tokens | None) -> None:
        """Hands one over."""
        target = candidate.target
        counts = ERROR if attempt.outcome in ("error", "interrupted") else 0
        firsts = [("", CALL)]
        if attempt.outcome != "skipped":
            # Who was not asked has had no call.
            firsts += [(target.provider_name, PROVIDER), (target.name, TARGET)]
        if attempt.cost is not None and attempt.cost.usd is None:
            firsts += [("", UNPRICED_CALL), (target.provider_name, UNPRICED_PROVIDER), (target.name, UNPRICED_TARGET)]
        for first in firsts:
            # Only the first row of its kind in this call says so.
            if first not in self._counted:
                self._counted.add(first)
                counts |= first[1]
        row = Row(
            at,
            self._request_id,
            number,
            candidate.route,
            target.provider_name,
            target.model,
            self._tags,
            attempt,
            tokens,
            counts,
        )
        if not self._ledger.put(row) and self._is_recorded:
            self._is_recorded = False
            self._ledger.count_unrecorded()


_log = logging.getLogger("llama_client.calls")


class CallRecord:
    """One call of the user's: its attempts in order, and the answer made from the one that won."""

    def __init__(
        self,
        request: ChatRequest,
        rules: RoutingConfig,
        clock: Clock,
        tags: Mapping[str, str],
        accounting: Accounting,
        form: AnswerForm | None = None,
        purchases: Reservations | None = None,
        telemetry: Instrumentation | None = None,
    ) -> None:
        self.request = request
        self.clock = clock
        self.request_id = f"req_{os.urandom(12).hex()}"
        self.attempts: list[Attempt] = []
        self._form = form
        self._rules = rules
        self._machines = accounting.machines
        self._purchases = purchases
        self._telemetry = telemetry
        self._tags = dict(tags)
        self._at = clock.wall()
        self._billing = Billing(accounting.prices, self._at, clock)
        ledger = accounting.ledger
        self._entries = LedgerEntries(ledger, self.request_id, self._tags) if ledger is not None else None
        self._started_at = clock.monotonic()
        self._is_stopped = False
        self._facts: AttemptFacts | None = None
        # Of a stream that somebody else went on with.
        self._first_content_at: float | None = None
        # Attempts may run side by side. Re-entrant: the garbage collector may drop a stream at any allocation.
        self._lock = threading.RLock()

    def cover(self, candidates: Iterable[Candidate]) -> None:
        """Finds out in whose asking a budget has a say."""
        if self._purchases is not None:
            for candidate in candidates:
                candidate.is_free = self._purchases.is_free(candidate, self._at)
                is_covered = not candidate.is_free and self._purchases.is_covered(candidate, self._tags, self._at)
                candidate.is_budgeted = is_covered

    def reserve(self, step: Reserve) -> PendingReservation:
        """Reserves what an attempt can cost; only a candidate that a budget covers comes here."""
        assert self._purchases is not None
        return self._purchases.reserve(step.candidate, self._tags, self._at, step.timeout_s)

    def begin(self, step: Try) -> RunningAttempt:
        """Starts an attempt."""
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
            facts.bodies.extend(broken.bodies)
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
        trial = RunningAttempt(step, call, self.clock, self._form)
        if call.provider in self._machines.names:
            trial.machine_use = self._machines.begin(call.provider, trial.started_at)
        trial.span = self._telemetry.begin(call, candidate.route) if self._telemetry is not None else None
        return trial

    def stop(self) -> None:
        """Ends the attempt that is under way, from another thread or task, and lets no other begin."""
        self._is_stopped = True
        if self._facts is not None:
            self._facts.cancel()

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

    def failed(self, trial: RunningAttempt, error: LlamaClientError, *, outcome: AttemptOutcome = "error") -> None:
        """Writes down a failed attempt, and completes its error."""
        if isinstance(error, ProviderError):
            error.provider = error.provider or trial.target.provider_name
            error.target = error.target or trial.target.name
            error.request_id = error.request_id or trial.facts.provider_request_id
        if isinstance(error, UnsupportedFeatureError | LocalOnlyError) and not trial.facts.sent:
            outcome = "skipped"
        self._write(trial, outcome, error)

    def cancelled(self, trial: RunningAttempt) -> None:
        """Writes down an attempt that the caller stopped."""
        self._write(trial, "cancelled", None)

    def won(self, trial: RunningAttempt) -> ChatCompletion:
        """Writes down the attempt that answered, and makes the answer."""
        self._write(trial, "ok", None)
        return self.completion(trial)

    def completion(self, trial: RunningAttempt) -> ChatCompletion:
        """The answer as far as it has come."""
        first, facts = trial.fold.first, trial.facts
        shown_at = self._first_content_at or trial.first_content_at
        completion = ChatCompletion(
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
            cost=self._billing.total(trial),
            attempts=list(self.attempts),
            timing=Timing(
                total_s=facts.total_s if facts.total_s is not None else self.clock.monotonic() - self._started_at,
                ttft_s=shown_at - self._started_at if shown_at is not None else None,
                tokens_per_s=trial.tokens_per_s,
                load_s=facts.load_s,
                queue_s=facts.queue_s,
            ),
            warnings=list(facts.warnings),
        )
        if facts.body is not None:
            completion._raw = facts.body
        else:
            completion._raw_chunks = tuple(facts.bodies)
        return completion

    def _write(self, trial: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None) -> None:
        with self._lock:
            if trial.is_written:
                return
            trial.is_written = True
        facts = trial.facts
        status = facts.http_status
        latency_s = self.clock.monotonic() - trial.started_at
        trial.permit.settle(self._result(trial, outcome, error, latency_s))
        tokens, cost = self._billing.bill(trial, outcome, error)
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

    def _result(
        self, trial: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None, latency_s: float
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
            if self._entries is not None:
                self._entries.add(attempt, candidate, number, self._at + (started_at - self._started_at), tokens)
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
