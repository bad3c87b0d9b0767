"""The plan of attempts: a generator that decides what is tried next, and does no I/O.

It yields a step, is sent its outcome, and returns the winner's value or raises. The first candidate that is ready and
healthy is tried. After a retryable failure a candidate is ready again after a wait; meanwhile the others are tried. An
open circuit or a rate limit is skipped while another candidate is left; else one call makes the half-open trial, and
all calls waiting for it share its outcome.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

from llama_client.clock import Deadline
from llama_client.costs.reservations import Refused, Reservation, Reserved
from llama_client.errors import (
    AllTargetsFailedError,
    GenerationFailedError,
    LlamaClientError,
    LocalOnlyError,
    OverloadedError,
    ProviderError,
    UnsupportedFeatureError,
)
from llama_client.routing.candidate import Candidate
from llama_client.routing.concurrency import Event
from llama_client.routing.health import Lease

if TYPE_CHECKING:
    from tenacity.wait import wait_exponential

    from llama_client.config.tables import RoutingConfig


# The longest wait doubles from the first to the last of these.
_FIRST_S = 0.5
_LAST_S = 8.0


class Backoff:
    """Exponential backoff with full jitter; see "Exponential Backoff And Jitter" in the AWS Architecture Blog."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform

    @cached_property
    def _limit(self) -> wait_exponential:
        # Imported at the first wait: it takes 30 ms.
        from tenacity.wait import wait_exponential

        return wait_exponential(multiplier=_FIRST_S, max=_LAST_S)

    def wait_s(self, tries: int) -> float:
        """Seconds to wait after that many tries."""
        from tenacity import RetryCallState

        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = tries
        return self._uniform(0.0, self._limit(state))


T = TypeVar("T")
# Jitter may be 0; after a failure the other candidates still go first.
_LEAST_WAIT_S = 0.01


@dataclass(frozen=True, slots=True)
class Try:
    """Make an attempt at this candidate.

    `timeout_s` covers the answer of a call, or a stream until its first content; after `late_after_s` report `Late`.
    Lease and reservation are released by the code that performs the step.
    """

    candidate: Candidate
    lease: Lease
    timeout_s: float | None
    waited_s: float = 0.0
    late_after_s: float | None = None
    reservation: Reservation | None = None


@dataclass(frozen=True, slots=True)
class AwaitRunning:
    """Wait for a running attempt."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait this long, or until the event is set."""

    seconds: float
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Reserve:
    """Reserve the worst case of an attempt; answered by `Reserved` or `Refused`."""

    candidate: Candidate
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Skip:
    """Record that this candidate is skipped, and why."""

    candidate: Candidate
    reason: str
    error: LlamaClientError | None = None


@dataclass(frozen=True, slots=True)
class Won(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempt failed, or `local_only` forbids it."""

    candidate: Candidate
    error: ProviderError | LocalOnlyError


@dataclass(frozen=True, slots=True)
class Late:
    """The last attempt has not answered within `late_after_s`."""


Step = Try | AwaitRunning | Wait | Skip | Reserve
Outcome = Won[T] | Lost | Late | Reserved | Refused | None
R = TypeVar("R")
Part = Generator[Step, Outcome[T], R]
Steps = Generator[Step, Outcome[T], T]


class Plan(Generic[T]):
    """The plan of one call."""

    def __init__(
        self, candidates: Sequence[Candidate], rules: RoutingConfig, deadline: Deadline, backoff: Backoff
    ) -> None:
        self._candidates = candidates
        self._rules = rules
        self._deadline = deadline
        self._clock = deadline.clock
        self._backoff = backoff
        self._running: list[Candidate] = []
        self._waited_s = 0.0

    def steps(self) -> Steps[T]:
        """Tries the candidates until one answers."""
        may_hedge = False
        while True:
            step: Try | None = None
            if not self._running or may_hedge:
                may_hedge = False
                step = yield from self._next_try()
            if step is None and not self._running:
                raise self._failure()
            outcome = yield step or AwaitRunning()
            match outcome:
                case Won(value):
                    return value
                case Late():
                    may_hedge = True
                case Lost(candidate, error):
                    self._running.remove(candidate)
                    self._handle_failure(candidate, error)

    def _next_try(self) -> Part[T, Try | None]:
        """The next attempt; None: no candidate is left, or none is ready beside the running one."""
        while self._left_s() > 0:
            chosen = yield from self._choose()
            if chosen is not None:
                step = yield from self._admitted(*chosen)
                if step is not None:
                    self._running.append(step.candidate)
                    return step
                if self._running:
                    return None
            elif self._running or not (yield from self._wait()):
                return None
        return None

    def _choose(self) -> Part[T, tuple[Candidate, Lease] | None]:
        """The first ready and healthy candidate; without a healthy one to wait for, the first that admits a trial."""
        now = self._clock.monotonic()
        passed: list[Candidate] = []
        for candidate in self._candidates:
            if candidate in self._running or candidate.ready_at > now:
                continue
            if not candidate.is_fit(may_drop=self._rules.drop_unsupported):
                yield from self._skip_unfit(candidate)
                continue
            lease = candidate.health.lease(now)
            if lease is not None:
                try:
                    if passed:
                        yield from self._skip(passed, now)
                except BaseException:
                    lease.settle(None)
                    raise
                return candidate, lease
            passed.append(candidate)
        if self._running or self._has_healthy_candidate():
            return None
        for candidate in passed:
            blocked_s = candidate.health.limits.blocked_s(now)
            # A rate limit that ends in time is waited for; so is one that this call has met.
            if blocked_s and (candidate.tries or blocked_s < self._left_s()):
                continue
            lease = candidate.health.lease_trial()
            if lease is not None:
                return candidate, lease
        return None

    @staticmethod
    def _skip_unfit(candidate: Candidate) -> Part[T, None]:
        if not candidate.tries and not candidate.is_recorded:
            candidate.is_recorded = True
            yield Skip(candidate, str(candidate.error), candidate.error)

    @staticmethod
    def _skip(passed: Sequence[Candidate], now: float) -> Part[T, None]:
        for candidate in passed:
            if not candidate.is_recorded:
                candidate.is_recorded = True
                yield Skip(candidate, candidate.health.why_skipped(now))

    def _admitted(self, candidate: Candidate, lease: Lease) -> Part[T, Try | None]:
        """The attempt, once `max_concurrency` and the budget admit it; None: not in time, or refused."""
        concurrency = candidate.health.concurrency
        reservation: Reservation | None = None
        is_handed_over = False
        try:
            if concurrency is not None:
                lease.slot = concurrency.enter()
                if not lease.slot.is_set:
                    if self._running:
                        return None
                    yield from self._pause(Wait(self._share_s(candidate), lease.slot))
                if not lease.slot.is_set:
                    raise OverloadedError(
                        f"{candidate.target.provider_name} has reached max_concurrency; no request ended in time"
                    )
            if candidate.is_budgeted:
                answer = yield Reserve(candidate, self._share_s(candidate))
                if isinstance(answer, Refused):
                    yield from self._refuse(candidate, answer)
                    return None
                if isinstance(answer, Reserved):
                    reservation = answer.reservation
                    candidate.warnings += [text for text in answer.warnings if text not in candidate.warnings]
            late_after_s = None
            if self._rules.hedge_after_s is not None and not self._running and self._has_others(candidate):
                late_after_s = self._rules.hedge_after_s
            share_s = self._share_s(candidate)
            waited_s, self._waited_s = self._waited_s, 0.0
            is_handed_over = True
            timeout_s = share_s if share_s < math.inf else None
            return Try(candidate, lease, timeout_s, waited_s, late_after_s, reservation)
        except OverloadedError as error:
            error.provider, error.target = candidate.target.provider_name, candidate.target.name
            yield Skip(candidate, str(error), error)
            # An earlier failure of the candidate says more.
            candidate.refuse(candidate.error or error)
            candidate.is_recorded = True
            return None
        finally:
            if not is_handed_over:
                lease.settle(None)
                if reservation is not None:
                    reservation.release()

    def _refuse(self, candidate: Candidate, refused: Refused) -> Part[T, None]:
        """Over budget; where the budget says so, only free candidates stay eligible."""
        yield Skip(candidate, str(refused.error), refused.error)
        candidate.refuse(candidate.error or refused.error)
        candidate.is_recorded = True
        for other in self._candidates if refused.only_free else ():
            if not (other.is_free or other.is_out or other in self._running):
                other.refuse(other.error or refused.error)
                if not other.is_recorded:
                    other.is_recorded = True
                    yield Skip(other, f"it is not free: {refused.error}", refused.error)

    def _handle_failure(self, candidate: Candidate, error: ProviderError | LocalOnlyError) -> None:
        """Decides on retry and fallback; raises an error that no other candidate could avoid."""
        candidate.tries += 1
        candidate.error = error
        if isinstance(error, LocalOnlyError):
            candidate.is_out = True
        elif not error.failover:
            raise error
        elif isinstance(error, UnsupportedFeatureError) and self._rules.drop_unsupported and candidate.drops(error):
            candidate.tries -= 1
        elif not error.retryable or candidate.tries > self._rules.retries:
            candidate.is_out = True
        else:
            candidate.ready_at = self._clock.monotonic() + self._wait_after(candidate, error)

    def _wait_after(self, candidate: Candidate, error: ProviderError) -> float:
        if isinstance(error, GenerationFailedError):
            # The target is not overloaded: another try may succeed at once.
            return 0.0
        return error.retry_after_s or max(self._backoff.wait_s(candidate.tries), _LEAST_WAIT_S)

    def _wait(self) -> Part[T, bool]:
        """Waits until a candidate may be tried; False: none will be in time."""
        now, left = self._clock.monotonic(), self._left_s()
        soonest, tested, trial = math.inf, None, None
        for candidate in self._candidates:
            if candidate.is_out:
                continue
            blocked_s = candidate.health.limits.blocked_s(now)
            wait_s = max(candidate.ready_at - now, blocked_s)
            if 0 < wait_s < left:
                soonest = min(soonest, wait_s)
            elif trial is None and candidate.ready_at <= now and not (blocked_s and candidate.tries):
                if self._has_healthy_candidate():
                    continue
                tested, trial = candidate, candidate.health.breaker.trial
                if trial is None:
                    # The trial has ended meanwhile: this call may try the target.
                    return True
        if trial is None and soonest >= left:
            return False
        yield from self._pause(Wait(min(soonest, left), trial))
        if tested is not None and trial is not None and trial.is_set and trial.error is not None:
            yield from self._share_failure(tested, trial.error)
        return True

    def _share_failure(self, candidate: Candidate, error: LlamaClientError) -> Part[T, None]:
        """Another call made the trial for all waiting calls: it counts as a try of each."""
        own = copy.copy(error)
        own.attempts = []
        yield Skip(candidate, f"the half-open trial of another call failed: {error}", own)
        candidate.tries += 1
        candidate.error = own
        if isinstance(own, ProviderError) and own.retryable and candidate.tries <= self._rules.retries:
            candidate.ready_at = self._clock.monotonic() + self._wait_after(candidate, own)
        else:
            candidate.is_out = True

    def _pause(self, wait: Wait) -> Part[T, None]:
        started = self._clock.monotonic()
        yield wait
        self._waited_s += self._clock.monotonic() - started

    def _has_healthy_candidate(self) -> bool:
        now, left = self._clock.monotonic(), self._left_s()
        return any(
            not candidate.is_out and candidate.health.is_healthy(now) and candidate.ready_at - now < left
            for candidate in self._candidates
        )

    def _left_s(self) -> float:
        at = self._deadline.at
        return math.inf if at is None else at - self._clock.monotonic()

    def _share_s(self, candidate: Candidate) -> float:
        """The time for one attempt: half of what is left while another candidate could still answer."""
        left = self._left_s()
        return left / 2 if self._has_others(candidate) else left

    def _has_others(self, candidate: Candidate) -> bool:
        now = self._clock.monotonic()
        for other in self._candidates:
            if other is candidate or other.is_out or other.ready_at > now or other in self._running:
                continue
            if other.health.is_healthy(now) and other.is_fit(may_drop=self._rules.drop_unsupported):
                return True
        return False

    def _failure(self) -> LlamaClientError:
        """The error of the only target tried, or that of all."""
        unasked = next((c for c in self._candidates if c.error is None), None)
        if unasked is not None:
            timeout = self._deadline.passed()
            timeout.provider, timeout.target = unasked.target.provider_name, unasked.target.name
            unasked.error = timeout
        failed = [c for c in self._candidates if c.error is not None]
        tried = [c for c in failed if c.tries or c is unasked]
        if len(tried) == 1 or not tried:
            # An unsupported parameter, or no local target, is the request's failure, not the targets'.
            error = (tried or failed)[-1].error
            assert error is not None
            return error
        errors = [c.error for c in failed if c.error is not None]
        reasons = "; ".join(f"{c.target.name}: {type(c.error).__name__}: {c.error}" for c in failed)
        failure = AllTargetsFailedError(f"every target failed: {reasons}", errors=errors)
        waits = [e.retry_after_s for e in errors if isinstance(e, ProviderError) and e.retry_after_s is not None]
        failure.retry_after_s = min(waits, default=None)
        failure.provider, failure.target = failed[-1].target.provider_name, failed[-1].target.name
        failure.__cause__ = errors[-1]
        return failure
