"""The plan of one call: a generator that yields a step, is sent its outcome, and returns the winner's value or raises.

The first target that is ready and healthy is tried. After a failure that may pass, a target is ready again after a
wait; meanwhile the others are tried. A target whose circuit is open, or that is rate limited, is skipped as long as a
healthy one is left; else one call at a time makes a half-open trial, and all waiting calls share the outcome.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from llama_client.clock import Deadline
from llama_client.costs.reservations import Refused, Reservation, Reserved
from llama_client.errors import (
    AllTargetsFailedError,
    ConfigError,
    GenerationFailedError,
    LlamaClientError,
    LocalOnlyError,
    OverloadedError,
    ProviderError,
    UnsupportedFeatureError,
)
from llama_client.routing.candidate import Candidate
from llama_client.routing.health import Lease
from llama_client.waiting import Event

if TYPE_CHECKING:
    from llama_client.config.tables import RoutingConfig

# The limit of a wait doubles from the first of these, so often.
_FIRST_S = 0.5
_DOUBLINGS = 4
# Jitter may come out as 0; a target that has failed still lets the others go first.
_LEAST_WAIT_S = 0.01


class Backoff(NamedTuple):
    """Exponential with full jitter: see "Exponential Backoff And Jitter" in the AWS Architecture Blog."""

    uniform: Callable[[float, float], float]

    def wait_s(self, tries: int) -> float:
        return self.uniform(0.0, _FIRST_S * 2 ** min(tries - 1, _DOUBLINGS))


T = TypeVar("T")
R = TypeVar("R")


class Try(NamedTuple):
    candidate: Candidate
    lease: Lease
    # None: no limit.
    timeout_s: float | None
    waited_s: float = 0.0
    late_after_s: float | None = None
    reservation: Reservation | None = None
    # Whether no other candidate could answer.
    is_lone: bool = False


@dataclass(frozen=True, slots=True)
class AwaitRunning:
    """Wait for the attempts in flight."""


class Wait(NamedTuple):
    seconds: float
    # Ends it early.
    event: Event | None = None


class Reserve(NamedTuple):
    candidate: Candidate
    timeout_s: float
    # To be given the reservation before it is asked for, so that no interrupt can lose it.
    keep: Callable[[Reservation], None]


class Look(NamedTuple):
    """Look into the cache for the answer of a candidate."""

    candidate: Candidate
    waited_s: float
    # Whether a call that is being made for others may be waited for.
    may_wait: bool


class Skip(NamedTuple):
    candidate: Candidate
    reason: str
    error: LlamaClientError | None = None


@dataclass(frozen=True, slots=True)
class Won(Generic[T]):
    value: T


class Lost(NamedTuple):
    candidate: Candidate
    error: ProviderError | LocalOnlyError | ConfigError
    # See `AttemptFacts.is_unanswered`.
    is_unanswered: bool = False


@dataclass(frozen=True, slots=True)
class Late:
    """The last attempt has no answer within `late_after_s`."""


Step = Try | AwaitRunning | Wait | Skip | Reserve | Look
Outcome = Won[T] | Lost | Late | Reserved | Refused | Wait | None
Part = Generator[Step, Outcome[T], R]


@dataclass(slots=True, eq=False)
class Plan(Generic[T]):
    _candidates: Sequence[Candidate]
    _rules: RoutingConfig
    _deadline: Deadline
    _backoff: Backoff
    _retries_failures: bool = True
    # Whether the cache is on.
    _looks_up: bool = False
    _running: list[Candidate] = field(default_factory=list)
    _waited_s: float = 0.0
    # Of the attempt that is being prepared, until the plan goes on. The generators have no `finally` for these: where
    # one is collected, that would run in a finaliser, and these take locks.
    _lease: Lease | None = None
    _reservation: Reservation | None = None

    def steps(self) -> Part[T, T]:
        may_hedge = False
        while True:
            step: Try | Won[T] | None = None
            if not self._running or may_hedge:
                may_hedge = False
                step = yield from self._next_try()
            if step is None and not self._running:
                raise self._failure()
            outcome = step if isinstance(step, Won) else (yield step or AwaitRunning())
            # The attempt has both.
            self._lease = self._reservation = None
            match outcome:
                case Won(value):
                    self._forget_errors()
                    return value
                case Late():
                    may_hedge = True
                case Lost(candidate, error, is_unanswered):
                    self._running.remove(candidate)
                    try:
                        if is_unanswered and not candidate.needs_new_connection:
                            # Made again at once, and not counted.
                            candidate.needs_new_connection, candidate.error = True, error
                        else:
                            self._lost(candidate, error)
                    finally:
                        # A circle otherwise: the error refers to this frame by its traceback.
                        del error, outcome

    def _forget_errors(self) -> None:
        """A stream refers to its candidates. By its traceback an error would refer to the caller's frame, which has the
        stream: one that is dropped there would never be found to be garbage, and stay open for ever."""
        for candidate in self._candidates:
            candidate.error = None

    def end(self) -> None:
        """Releases what was set aside for an attempt that is not made; for the caller, when the steps have ended."""
        if self._lease is not None:
            self._lease.release(None)
            self._lease = None
        if self._reservation is not None:
            self._reservation.release()
            self._reservation = None

    def _keep(self, reservation: Reservation) -> None:
        self._reservation = reservation

    def _next_try(self) -> Part[T, Try | Won[T] | None]:
        """None: no candidate is left, or none is ready beside the attempt in flight."""
        while self._left_s() > 0:
            chosen = yield from self._choose()
            if isinstance(chosen, Won):
                return chosen
            if chosen is not None:
                step = yield from self._prepare(*chosen)
                if step is not None:
                    self._running.append(step.candidate)
                    return step
                self.end()
                if self._running:
                    return None
            elif self._running or not (yield from self._wait()):
                return None
        return None

    def _choose(self) -> Part[T, tuple[Candidate, Lease] | Won[T] | None]:
        """The first candidate that is ready and healthy; if none is or will be in time, the first unhealthy one.

        One whose answer is in the cache need be neither.
        """
        now = self._deadline.clock.monotonic()
        unhealthy: list[Candidate] = []
        for candidate in self._candidates:
            if candidate in self._running or candidate.ready_at > now:
                continue
            if not candidate.is_supported(may_drop=self._rules.drop_unsupported):
                if not candidate.tries:
                    yield from self._skip(candidate, str(candidate.error), candidate.error)
                continue
            if self._looks_up and not candidate.is_looked_up:
                found = yield from self._look_up(candidate)
                if found is not None:
                    return found
                now = self._deadline.clock.monotonic()
            lease = self._lease = Lease(candidate.health)
            if candidate.health.grants(lease, now):
                for each in unhealthy:
                    yield from self._skip(each, each.health.why_unavailable(now))
                return candidate, lease
            unhealthy.append(candidate)
        if self._running or self._has_healthy():
            return None
        for candidate in unhealthy:
            blocked_s = candidate.health.limits.blocked_s(now)
            # A rate limit is waited for if it ends before the deadline, or was this call's own.
            if blocked_s and (candidate.tries or blocked_s < self._left_s()):
                continue
            lease = self._lease = Lease(candidate.health)
            if candidate.health.grants_trial(lease):
                return candidate, lease
        return None

    def _look_up(self, candidate: Candidate) -> Part[T, Won[T] | None]:
        """The answer of a candidate, where it is in the cache, or comes into it while another call asks."""
        while True:
            outcome = yield Look(candidate, self._waited_s, not self._running)
            if isinstance(outcome, Wait):
                yield from self._pause(Wait(min(outcome.seconds, self._left_s()), outcome.event))
                continue
            candidate.is_looked_up = True
            return outcome if isinstance(outcome, Won) else None

    @staticmethod
    def _skip(candidate: Candidate, reason: str, error: LlamaClientError | None = None) -> Part[T, None]:
        if not candidate.is_reported:
            candidate.is_reported = True
            yield Skip(candidate, reason, error)

    def _prepare(self, candidate: Candidate, lease: Lease) -> Part[T, Try | None]:
        """Gets a slot and a reservation for an attempt; None: not in time, or refused by a budget."""
        concurrency = candidate.health.concurrency
        try:
            if concurrency is not None:
                slot = lease.enter(concurrency)
                if not slot.is_set:
                    if self._running:
                        return None
                    yield from self._pause(Wait(self._share_s(candidate), slot))
                if not slot.is_set:
                    provider = candidate.target.provider_name
                    raise OverloadedError(f"{provider} has reached max_concurrency; no request ended in time")
            if candidate.is_budgeted:
                answer = yield Reserve(candidate, self._share_s(candidate), self._keep)
                if isinstance(answer, Refused):
                    yield from self._refuse(candidate, answer)
                    return None
                if isinstance(answer, Reserved):
                    candidate.warnings += [text for text in answer.warnings if text not in candidate.warnings]
            has_alternative = self._has_alternative(candidate)
            late_after_s = None
            if self._rules.hedge_after_s is not None and not self._running and has_alternative:
                late_after_s = self._rules.hedge_after_s
            left_s = self._left_s()
            share_s = left_s / 2 if has_alternative else left_s
            waited_s, self._waited_s = self._waited_s, 0.0
            timeout_s = share_s if share_s < math.inf else None
            is_lone = not (has_alternative or self._running or self._has_other(candidate))
            return Try(candidate, lease, timeout_s, waited_s, late_after_s, self._reservation, is_lone)
        except OverloadedError as error:
            error.provider, error.target = candidate.target.provider_name, candidate.target.name
            yield from self._exclude(candidate, error)
            return None

    @staticmethod
    def _exclude(candidate: Candidate, error: LlamaClientError) -> Part[T, None]:
        yield Skip(candidate, str(error), error)
        # The error of its last attempt says more.
        candidate.exclude(candidate.error or error)
        candidate.is_reported = True

    def _refuse(self, candidate: Candidate, refused: Refused) -> Part[T, None]:
        """A budget refuses the attempt; one with `on_exceeded = "local"` refuses all other priced targets too."""
        yield from self._exclude(candidate, refused.error)
        for other in self._candidates if refused.only_free else ():
            if not (other.is_free or other.is_excluded or other in self._running):
                other.exclude(other.error or refused.error)
                yield from self._skip(other, f"not free: {refused.error}", refused.error)

    def _lost(self, candidate: Candidate, error: ProviderError | LocalOnlyError | ConfigError) -> None:
        """Raises an error that no other target could avoid."""
        candidate.tries += 1
        candidate.error = error
        if isinstance(error, ProviderError):
            if not error.failover:
                try:
                    raise error
                finally:
                    # As above: neither by the frame nor by what it refers to.
                    candidate.error = None
                    del error
            if isinstance(error, GenerationFailedError) and candidate.request.schema_in_words:
                text = error.failed_generation
                candidate.misfit = (text, str(error)) if isinstance(text, str) and text else None
            if isinstance(error, UnsupportedFeatureError):
                candidate.remember(error)
                may_drop = self._rules.drop_unsupported
                if candidate.goes_without(error) or (may_drop and candidate.drop_parameter(error)):
                    candidate.tries -= 1
                    return
        self._retry_or_exclude(candidate, error)

    def _retry_or_exclude(self, candidate: Candidate, error: LlamaClientError) -> None:
        is_retryable = isinstance(error, ProviderError) and error.retryable and candidate.tries <= self._rules.retries
        # What is said of an answer that does not fit helps the next one of this call, and no other call.
        if not is_retryable or not (self._retries_failures or isinstance(error, GenerationFailedError)):
            candidate.is_excluded = True
            return
        wait_s = 0.0
        # After a failed generation nothing is overloaded, and the next may well succeed.
        if not isinstance(error, GenerationFailedError):
            assert isinstance(error, ProviderError)
            wait_s = error.retry_after_s or max(self._backoff.wait_s(candidate.tries), _LEAST_WAIT_S)
        candidate.ready_at = self._deadline.clock.monotonic() + wait_s

    def _wait(self) -> Part[T, bool]:
        """Waits until a candidate is ready; False: none will be in time."""
        now, left = self._deadline.clock.monotonic(), self._left_s()
        soonest, tested, trial = math.inf, None, None
        for candidate in self._candidates:
            if candidate.is_excluded:
                continue
            blocked_s = candidate.health.limits.blocked_s(now)
            wait_s = max(candidate.ready_at - now, blocked_s)
            if 0 < wait_s < left:
                soonest = min(soonest, wait_s)
            elif trial is None and candidate.ready_at <= now and not (blocked_s and candidate.tries):
                if candidate.health.is_healthy(now):
                    # Another call has closed its circuit since this one looked.
                    return True
                if self._has_healthy():
                    continue
                tested, trial = candidate, candidate.health.breaker.trial
                if trial is None:
                    # The half-open trial has ended meanwhile: this call may make the next.
                    return True
        if trial is None and soonest >= left:
            return False
        yield from self._pause(Wait(min(soonest, left), trial))
        if tested is not None and trial is not None and trial.is_set and trial.error is not None:
            yield from self._share_failure(tested, trial.error)
        return True

    def _share_failure(self, candidate: Candidate, error: LlamaClientError) -> Part[T, None]:
        """A half-open trial by another call counts as a try of each call that waited for it."""
        own = copy.copy(error)
        own.attempts = []
        yield Skip(candidate, f"the half-open trial by another call failed: {error}", own)
        candidate.tries += 1
        candidate.error = own
        self._retry_or_exclude(candidate, own)

    def _pause(self, wait: Wait) -> Part[T, None]:
        started = self._deadline.clock.monotonic()
        yield wait
        self._waited_s += self._deadline.clock.monotonic() - started

    def _has_healthy(self) -> bool:
        """Whether a healthy candidate is or will be ready in time, so that no unhealthy one need be tried."""
        now, left = self._deadline.clock.monotonic(), self._left_s()
        return any(
            not candidate.is_excluded and candidate.health.is_healthy(now) and candidate.ready_at - now < left
            for candidate in self._candidates
        )

    def _left_s(self) -> float:
        at = self._deadline.at
        return math.inf if at is None else at - self._deadline.clock.monotonic()

    def _share_s(self, candidate: Candidate) -> float:
        """What is left for an attempt: half of it if another target could still answer after a timeout."""
        left = self._left_s()
        return left / 2 if self._has_alternative(candidate) else left

    def _has_alternative(self, candidate: Candidate) -> bool:
        now = self._deadline.clock.monotonic()
        for other in self._candidates:
            if other is candidate or other.is_excluded or other.ready_at > now or other in self._running:
                continue
            if other.health.is_healthy(now) and other.is_supported(may_drop=self._rules.drop_unsupported):
                return True
        return False

    def _has_other(self, candidate: Candidate) -> bool:
        """Whether another candidate is or may soon be ready."""
        now = self._deadline.clock.monotonic()
        for other in self._candidates:
            if other is not candidate and not other.is_excluded and other.health.is_healthy(now):
                return True
        return False

    def _failure(self) -> LlamaClientError:
        """The error of the only target that was tried, or of all."""
        untried = next((c for c in self._candidates if c.error is None), None)
        if untried is not None:
            timeout = self._deadline.passed()
            timeout.provider, timeout.target = untried.target.provider_name, untried.target.name
            untried.error = timeout
        failed = [(c, c.error) for c in self._candidates if c.error is not None]
        tried = [error for c, error in failed if c.tries or c is untried]
        if len(tried) <= 1:
            # That no target supports a parameter, or none is local, is the failure of the request, not of the targets.
            return tried[0] if tried else failed[-1][1]
        errors = [error for _, error in failed]
        reasons = "; ".join(f"{c.target.name}: {type(error).__name__}: {error}" for c, error in failed)
        failure = AllTargetsFailedError(f"every target failed: {reasons}", errors=errors)
        waits = [e.retry_after_s for e in errors if isinstance(e, ProviderError) and e.retry_after_s is not None]
        failure.retry_after_s = min(waits, default=None)
        last = failed[-1][0].target
        failure.provider, failure.target = last.provider_name, last.name
        failure.__cause__ = errors[-1]
        return failure
