"""Records one call: each attempt, its ledger row, and the final answer."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from llama_client.clock import Clock
from llama_client.costs.ledger import LedgerEntries
from llama_client.errors import (
    APITimeoutError,
    InvalidRequestError,
    LlamaClientError,
    LocalOnlyError,
    ProviderError,
    UnsupportedFeatureError,
)
from llama_client.providers.base import AttemptFacts, ProviderCall
from llama_client.routing.attempt import Hit, RunningAttempt, require_plain, whole_number
from llama_client.routing.billing import Billing
from llama_client.routing.health import Lease, Result
from llama_client.routing.plan import Look, Reserve, Skip, Try, Wait
from llama_client.types.completion import Attempt, AttemptOutcome, ChatCompletion, Timing, Usage, unchecked

if TYPE_CHECKING:
    from llama_client.cache.stored import Stored
    from llama_client.config.tables import RoutingConfig
    from llama_client.costs.accounting import Accounting
    from llama_client.costs.budgets import PendingReservation
    from llama_client.reaper import Ending, Hold
    from llama_client.routing.billing import Reserver
    from llama_client.routing.cached import CachedCall
    from llama_client.routing.candidate import Candidate
    from llama_client.structured import AnswerForm
    from llama_client.telemetry import Instrumentation
    from llama_client.types.request import ChatRequest

_log = logging.getLogger("llama_client.calls")


class OpenedEnding(Protocol):
    """A stream that a caller has."""

    attempt: RunningAttempt

    @property
    def is_being_read(self) -> bool: ...

    def end(self) -> None: ...


class CallRecord:
    def __init__(
        self,
        request: ChatRequest,
        rules: RoutingConfig,
        clock: Clock,
        tags: Mapping[str, str],
        accounting: Accounting,
        form: AnswerForm | None = None,
        reserver: Reserver | None = None,
        telemetry: Instrumentation | None = None,
    ) -> None:
        self.request = request
        self.clock = clock
        self.reaper = accounting.reaper
        self.attempts: list[Attempt] = []
        # What is open, and to be ended whatever happens: the plan, the attempts, and the stream of the winner.
        self.plan: Ending | None = None
        self.stream: OpenedEnding | None = None
        self._running: set[RunningAttempt] = set()
        self._hold: Hold | None = None
        self._pid = self.reaper.pid
        self._numbers = itertools.count(1)
        self._form = form
        self._rules = rules
        self._machines = accounting.machines
        self._reserver = reserver
        self._telemetry = telemetry
        self._tags = tags
        self._at = clock.wall()
        self.request_id = accounting.request_ids.new(self._at)
        self._billing = Billing(accounting.prices, self._at, clock)
        ledger = accounting.ledger
        self._entries = LedgerEntries(ledger, self.request_id, self._tags) if ledger is not None else None
        self._started_at = clock.monotonic()
        self._is_stopped = False
        self._facts: AttemptFacts | None = None
        # Where the cache is on.
        self.cached: CachedCall | None = None
        # Of an interrupted stream that another target continues.
        self._first_content_at: float | None = None
        # Attempts may run side by side.
        self._lock = threading.Lock()

    def cover(self, candidates: Iterable[Candidate]) -> None:
        if self._reserver is not None:
            for candidate in candidates:
                self._reserver.mark(candidate, self._tags, self._at)

    def held(self) -> HeldCall:
        """What ends the call when it is left, or lost. Needed as long as the call is."""
        held = HeldCall()
        held.record = self
        self._hold = self.reaper.hold(held, self)
        return held

    def drop(self) -> bool:
        """Queues the call for the reaper; takes no lock. False: nothing is left to end."""
        hold = self._hold
        if hold is not None and self._pid == self.reaper.pid:
            self.reaper.drop(hold)
        return hold is not None

    def release(self) -> None:
        """Nothing is left to end."""
        # A circle otherwise.
        self.stream = None
        if self.cached is not None:
            self.cached.end()
        if self._hold is not None:
            self.reaper.release(self._hold)
            self._hold = None

    def end(self) -> None:
        """Ends what is left of the call, from any thread. Again does nothing, or what an interrupt has cut off."""
        if self.stream is not None:
            self.stream.end()
        self.end_attempts()
        if self.cached is not None:
            self.cached.end()
        # As above; an event loop closes the generators of a stream once nothing refers to them.
        self.stream = None

    def end_attempts(self) -> None:
        """Ends what is left of a plan. First the attempts, since what they have reserved is settled at their cost."""
        for attempt in list(self._running):
            try:
                attempt.stop()
            finally:
                self.cancelled(attempt)
        if self.plan is not None:
            self.plan.end()

    def reserve(self, step: Reserve) -> PendingReservation:
        """Only for a candidate that a budget covers."""
        assert self._reserver is not None
        return self._reserver.reserve(step, self._tags, self._at)

    def start_attempt(self, step: Try) -> RunningAttempt:
        if self._is_stopped:
            raise InvalidRequestError("the stream was closed")
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
            refused=candidate.refused,
            is_lone=step.is_lone,
            needs_new_connection=candidate.needs_new_connection,
            whole_timeout_s=self.request.timeout or self._rules.deadline_s,
            misfit=candidate.misfit,
        )
        self._facts = facts
        attempt = RunningAttempt(step, call, self.clock, self._form)
        # From here on the attempt is ended, and not the plan, whatever happens.
        self._running.add(attempt)
        attempt.lease.start(candidate.size)
        if call.provider in self._machines.names:
            attempt.machine_use = self._machines.use(call.provider)
            attempt.machine_use.start(attempt.started_at)
        attempt.span = self._telemetry.start_span(call, candidate.route) if self._telemetry is not None else None
        return attempt

    def look(self, step: Look) -> Hit | Wait | None:
        """The answer from the cache, or what to wait for; None: it is not there."""
        return None if self.cached is None else self.cached.look(step)

    def start_hit(self, step: Look, stored: Stored) -> RunningAttempt:
        """An attempt whose answer is from the cache: it holds nothing of its target."""
        candidate, target = step.candidate, step.candidate.target
        facts = AttemptFacts(warnings=list(candidate.warnings))
        call = ProviderCall(candidate.request, target.provider_name, target.model, self.request_id, None, facts)
        unused = Try(candidate, Lease(candidate.health), None, step.waited_s)
        attempt = RunningAttempt(unused, call, self.clock, self._form)
        attempt.stored = stored
        self._running.add(attempt)
        return attempt

    def forget(self, attempt: RunningAttempt) -> None:
        """An answer from the cache that does not do."""
        self._running.discard(attempt)

    def start_span(self, attempt: RunningAttempt) -> None:
        if self._telemetry is not None:
            attempt.span = self._telemetry.start_span(attempt.call, attempt.candidate.route)

    @property
    def left_at(self) -> float | None:
        """Since when nothing is read of the stream, by the monotonic clock; None: it is being read, or none is open."""
        stream = self.stream
        return None if stream is None or stream.is_being_read else stream.attempt.last_content_at

    def stop(self) -> None:
        """Ends the attempt in flight, from any thread or task, and starts no other."""
        self._is_stopped = True
        if self._facts is not None:
            self._facts.cancel()

    def skipped(self, step: Skip) -> None:
        target, error = step.candidate.target, step.error
        if isinstance(error, ProviderError):
            error.provider = error.provider or target.provider_name
            error.target = error.target or target.name
        receipt = Attempt(
            target=target.name,
            outcome="skipped",
            sent=False,
            error=type(error).__name__ if error is not None else None,
            reason=step.reason,
        )
        with self._lock:
            self.attempts.append(receipt)
            number = next(self._numbers)
            if self._entries is not None:
                at = self._at + (self.clock.monotonic() - self._started_at)
                self._entries.add(receipt, step.candidate.route, number, at, None)
        if _log.isEnabledFor(logging.DEBUG):
            self._log(receipt)

    def failed(self, attempt: RunningAttempt, error: LlamaClientError, *, outcome: AttemptOutcome = "error") -> None:
        """Records a failed attempt, and completes its error."""
        if isinstance(error, ProviderError):
            error.provider = error.provider or attempt.target.provider_name
            error.target = error.target or attempt.target.name
            error.request_id = error.request_id or attempt.facts.provider_request_id
        if isinstance(error, UnsupportedFeatureError | LocalOnlyError) and not attempt.facts.sent:
            outcome = "skipped"
        self._write(attempt, outcome, error)

    def cancelled(self, attempt: RunningAttempt) -> None:
        self._write(attempt, "cancelled", None)

    def won(self, attempt: RunningAttempt) -> ChatCompletion:
        self._write(attempt, "ok", None)
        if self.cached is not None and attempt.stored is None:
            self.cached.keep(attempt)
        return self.completion(attempt)

    def completion(self, attempt: RunningAttempt) -> ChatCompletion:
        first, facts = attempt.answer.first, attempt.facts
        if not attempt.is_written:
            require_plain(facts)
        shown_at = self._first_content_at or attempt.first_content_at
        timing = {
            "total_s": facts.total_s if facts.total_s is not None else self.clock.monotonic() - self._started_at,
            "ttft_s": shown_at - self._started_at if shown_at is not None else None,
            "tokens_per_s": attempt.tokens_per_s,
            "load_s": facts.load_s,
            "queue_s": facts.queue_s,
        }
        values = {
            "id": first.id if first else self.request_id,
            "object": "chat.completion",
            "created": first.created if first else int(self.clock.wall()),
            "model": first.model if first else attempt.target.model,
            "choices": attempt.answer.choices() if attempt.choices is None else attempt.choices,
            # The tokens of a continued answer are unknown: each target counted its own part.
            "usage": (attempt.answer.usage if attempt.candidate.continued is None else None) or Usage(),
            "system_fingerprint": first.system_fingerprint if first else None,
            "service_tier": attempt.answer.service_tier,
            "target": attempt.target.name,
            "provider": attempt.target.provider_name,
            "request_id": self.request_id,
            "cost": self._billing.total(attempt),
            "attempts": list(self.attempts),
            "timing": unchecked(Timing, timing),
            "sources": facts.sources,
            "warnings": list(facts.warnings),
        }
        chunks = () if facts.body is not None else tuple(facts.bodies)
        return unchecked(ChatCompletion, values, {"_raw": facts.body, "_raw_chunks": chunks})

    def _write(self, attempt: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None) -> None:
        """Records how an attempt ended, once: as it was told first, also where an interrupt had cut that off."""
        with self._lock:
            if attempt.is_written:
                return
            if attempt.ending is None:
                if attempt.stored is not None and outcome == "ok":
                    outcome = "cached"
                attempt.ending = outcome, error
                attempt.outcome = outcome
            receipt = self._settle(attempt, *attempt.ending)
            attempt.is_written = True
            # A circle otherwise: the error refers to frames that have this attempt.
            attempt.ending = None
        self._running.discard(attempt)
        if _log.isEnabledFor(logging.DEBUG):
            self._log(receipt)

    def _settle(self, attempt: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None) -> Attempt:
        """Gives back what an attempt holds, and writes its row. Each step may be done twice, and counts once."""
        receipt = attempt.receipt
        if receipt is None:
            receipt = attempt.receipt = self._receipt(attempt, outcome, error)
        if attempt.number is None:
            attempt.number = next(self._numbers)
            self.attempts.append(receipt)
        if self._entries is not None:
            at = self._at + (attempt.started_at - self._started_at)
            self._entries.add(receipt, attempt.candidate.route, attempt.number, at, attempt.tokens)
        if attempt.span is not None:
            attempt.span.end(receipt, attempt.number, attempt.answer.first, attempt.answer.generated)
        return receipt

    def _receipt(self, attempt: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None) -> Attempt:
        facts = attempt.facts
        require_plain(facts)
        status = facts.http_status
        latency_s = self.clock.monotonic() - attempt.started_at
        attempt.lease.release(self._result(attempt, outcome, error, latency_s))
        stored = attempt.stored
        tokens, cost = self._billing.bill(attempt, outcome, error)
        attempt.tokens = tokens
        if attempt.reservation is not None:
            usd = Decimal(0) if cost is None else cost.usd
            # An estimate may be too low: the budget is charged with the worst case.
            is_guess = tokens is not None and tokens.are_estimated and cost is not None and cost.status != "exact"
            attempt.reservation.settle(None if is_guess else usd)
        values = {
            "target": attempt.target.name,
            "outcome": outcome,
            "sent": facts.sent,
            "error": type(error).__name__ if error is not None else None,
            "http_status": whole_number(error.http_status)
            if status is None and isinstance(error, ProviderError)
            else status,
            "reason": facts.reason if error is None else f"{error}; {facts.reason}" if facts.reason else str(error),
            "provider_request_id": facts.provider_request_id,
            "latency_s": latency_s,
            "ttft_s": attempt.ttft_s,
            "usage": attempt.answer.usage if stored is None else None,
            "estimated_usage": tokens.as_usage() if tokens is not None and tokens.are_estimated else None,
            "cost": cost,
            "saved_usd": None if stored is None else stored.usd,
            "rate_limit": facts.rate_limit,
            "waited_s": attempt.waited_s or None,
        }
        return unchecked(Attempt, values)

    def _result(
        self, attempt: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None, latency_s: float
    ) -> Result | None:
        """What the target's health learns; None: nothing."""
        if attempt.is_abandoned and attempt.is_late and attempt.first_content_at is None:
            # It lost against a hedge: a target that hangs must not delay each call by `hedge_after_s`.
            error = APITimeoutError(f"no answer within {latency_s:.3g} s, when another target had answered")
        elif outcome in ("cancelled", "skipped", "cached") or attempt.facts.is_unanswered:
            return None
        return Result(
            error=error,
            latency_s=latency_s,
            ttft_s=attempt.ttft_s if attempt.call.request.stream else None,
            tokens_per_s=attempt.tokens_per_s,
            usage=attempt.answer.usage,
            rate_limit=attempt.facts.rate_limit,
            was_loading=attempt.facts.is_loading,
        )

    def _log(self, receipt: Attempt) -> None:
        waited = f" after a wait of {receipt.waited_s:.3f} s" if receipt.waited_s else ""
        took = f" in {receipt.latency_s:.3f} s" if receipt.latency_s is not None else ""
        why = f" ({receipt.error or receipt.reason})" if receipt.reason else ""
        shown = {"request_id": self.request_id, "target": receipt.target, "outcome": receipt.outcome}
        extra = {**shown, "tags": self._tags}
        _log.debug("%s %s %s%s%s%s", *shown.values(), waited, took, why, extra=extra)


class HeldCall:
    """A call that runs, or whose stream is open: what is left of it ends with the block, or else with this object."""

    __slots__ = ("__weakref__", "record")

    record: CallRecord

    def __enter__(self) -> HeldCall:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Where a coroutine is collected, which is a finaliser, this object is too, and the reaper does the rest.
        record = self.record
        if kind is not GeneratorExit and (kind is not None or record.stream is None):
            if kind is not None:
                record.end()
            record.release()
