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
    def __init__(self, ledger: Ledger, request_id: str, tags: Mapping[str, str]) -> None:
        self._ledger = ledger
        self._request_id = request_id
        self._tags = tags
        self._counted: set[tuple[str, int]] = set()
        self._is_recorded = True

    def add(self, attempt: Attempt, candidate: Candidate, number: int, at: float, tokens: Tokens | None) -> None:
        target = candidate.target
        counts = ERROR if attempt.outcome in ("error", "interrupted") else 0
        firsts = [("", CALL)]
        if attempt.outcome != "skipped":
            # A skipped target has had no call.
            firsts += [(target.provider_name, PROVIDER), (target.name, TARGET)]
        if attempt.cost is not None and attempt.cost.usd is None:
            firsts += [("", UNPRICED_CALL), (target.provider_name, UNPRICED_PROVIDER), (target.name, UNPRICED_TARGET)]
        for first in firsts:
            # Marked in the first row of its kind in this call.
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
        # Of a continued stream: the first attempt's.
        self._first_content_at: float | None = None
        # Attempts may run side by side. Re-entrant: the garbage collector may drop a stream at any allocation.
        self._lock = threading.RLock()

    def cover(self, candidates: Iterable[Candidate]) -> None:
        """Marks the candidates that are free or covered by a budget."""
        if self._purchases is not None:
            for candidate in candidates:
                candidate.is_free = self._purchases.is_free(candidate, self._at)
                is_covered = not candidate.is_free and self._purchases.is_covered(candidate, self._tags, self._at)
                candidate.is_budgeted = is_covered

    def reserve(self, step: Reserve) -> PendingReservation:
        """Reserves what an attempt can cost; only a candidate that a budget covers comes here."""
        assert self._purchases is not None
        return self._purchases.reserve(step.candidate, self._tags, self._at, step.timeout_s)

    def start_attempt(self, step: Try) -> RunningAttempt:
        if self._is_stopped:
            step.lease.settle(None)
            if step.reservation is not None:
                step.reservation.release()
            raise InvalidRequestError("the stream was closed")
        step.lease.start(step.candidate.size)
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
        running = RunningAttempt(step, call, self.clock, self._form)
        if call.provider in self._machines.names:
            running.machine_use = self._machines.begin(call.provider, running.started_at)
        running.span = self._telemetry.begin(call, candidate.route) if self._telemetry is not None else None
        return running

    def stop(self) -> None:
        """Cancels the running attempt, from another thread or task, and admits no other."""
        self._is_stopped = True
        if self._facts is not None:
            self._facts.cancel()

    def skipped(self, step: Skip) -> None:
        """Records a skipped target."""
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

    def failed(self, running: RunningAttempt, error: LlamaClientError, *, outcome: AttemptOutcome = "error") -> None:
        """Records a failed attempt and completes its error."""
        if isinstance(error, ProviderError):
            error.provider = error.provider or running.target.provider_name
            error.target = error.target or running.target.name
            error.request_id = error.request_id or running.facts.provider_request_id
        if isinstance(error, UnsupportedFeatureError | LocalOnlyError) and not running.facts.sent:
            outcome = "skipped"
        self._write(running, outcome, error)

    def cancelled(self, running: RunningAttempt) -> None:
        """Records an attempt that the caller cancelled."""
        self._write(running, "cancelled", None)

    def won(self, running: RunningAttempt) -> ChatCompletion:
        """Records the attempt that answered, and builds the answer."""
        self._write(running, "ok", None)
        return self.completion(running)

    def completion(self, running: RunningAttempt) -> ChatCompletion:
        """The answer so far."""
        first, facts = running.fold.first, running.facts
        shown_at = self._first_content_at or running.first_content_at
        completion = ChatCompletion(
            id=first.id if first else self.request_id,
            created=first.created if first else int(self.clock.wall()),
            model=first.model if first else running.target.model,
            system_fingerprint=first.system_fingerprint if first else None,
            service_tier=running.fold.service_tier,
            choices=running.fold.choices() if running.choices is None else running.choices,
            # The tokens of a continued answer as a whole are not reported.
            usage=(running.fold.usage if running.candidate.continued is None else None) or Usage(),
            target=running.target.name,
            provider=running.target.provider_name,
            request_id=self.request_id,
            cost=self._billing.total(running),
            attempts=list(self.attempts),
            timing=Timing(
                total_s=facts.total_s if facts.total_s is not None else self.clock.monotonic() - self._started_at,
                ttft_s=shown_at - self._started_at if shown_at is not None else None,
                tokens_per_s=running.tokens_per_s,
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

    def _write(self, running: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None) -> None:
        with self._lock:
            if running.is_written:
                return
            running.is_written = True
        facts = running.facts
        status = facts.http_status
        latency_s = self.clock.monotonic() - running.started_at
        running.lease.settle(self._result(running, outcome, error, latency_s))
        tokens, cost = self._billing.bill(running, outcome, error)
        attempt = Attempt(
            target=running.target.name,
            outcome=outcome,
            sent=facts.sent,
            error=type(error).__name__ if error is not None else None,
            http_status=error.http_status if status is None and isinstance(error, ProviderError) else status,
            reason=str(error) if error is not None else None,
            provider_request_id=facts.provider_request_id,
            latency_s=latency_s,
            ttft_s=running.ttft_s,
            usage=running.fold.usage,
            estimated_usage=tokens.as_usage() if tokens is not None and tokens.are_estimated else None,
            cost=cost,
            rate_limit=facts.rate_limit,
            waited_s=running.waited_s or None,
        )
        number = self._add(attempt, running.candidate, running.started_at, tokens)
        if running.span is not None:
            running.span.end(attempt, number, running.fold.first, running.fold.generated)

    def _result(
        self, running: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None, latency_s: float
    ) -> Result | None:
        if running.is_abandoned and running.is_late and running.first_content_at is None:
            # A later attempt was faster: a target that hangs must not delay every call.
            error = APITimeoutError(f"no answer within {latency_s:.3g} s, when another target had answered")
        elif outcome in ("cancelled", "skipped"):
            return None
        return Result(
            error=error,
            latency_s=latency_s,
            ttft_s=running.ttft_s if running.call.request.stream else None,
            tokens_per_s=running.tokens_per_s,
            usage=running.fold.usage,
            rate_limit=running.facts.rate_limit,
            was_loading=running.facts.is_loading,
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
