"""How long to wait before a target is asked again where it does not say so itself."""

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
    """Exponential, with full jitter: at random between nothing and a limit that doubles with each try.

    That spreads callers who failed together best; see "Exponential Backoff And Jitter" in the AWS Architecture Blog.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform

    @cached_property
    def _limit(self) -> wait_exponential:
        # Imported where somebody waits: it takes a thirtieth of a second.
        from tenacity.wait import wait_exponential

        return wait_exponential(multiplier=_FIRST_S, max=_LAST_S)

    def wait_s(self, tries: int) -> float:
        """Seconds to wait after that many tries."""
        from tenacity import RetryCallState

        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = tries
        return self._uniform(0.0, self._limit(state))


T = TypeVar("T")
# Jitter may come out as nothing; whoever has failed still lets the others go first.
_LEAST_WAIT_S = 0.01


@dataclass(frozen=True, slots=True)
class Try:
    """Ask this candidate, and give it this many seconds (None: no limit)."""

    candidate: Candidate
    permit: Lease
    timeout_s: float | None
    waited_s: float = 0.0
    late_after_s: float | None = None
    reservation: Reservation | None = None


@dataclass(frozen=True, slots=True)
class AwaitRunning:
    """Wait for what is under way."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so many seconds, or until the turn comes."""

    seconds: float
    turn: Event | None = None


@dataclass(frozen=True, slots=True)
class Reserve:
    """Set aside what asking this candidate may cost, and say whether there is as much: `Reserved` or `Refused`."""

    candidate: Candidate
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Skip:
    """Write down that this candidate is not asked, and why."""

    candidate: Candidate
    reason: str
    error: LlamaClientError | None = None


@dataclass(frozen=True, slots=True)
class Won(Generic[T]):
    """The candidate answered."""

    value: T


@dataclass(frozen=True, slots=True)
class Lost:
    """The candidate failed, or `local_only` forbids it."""

    candidate: Candidate
    error: ProviderError | LocalOnlyError


@dataclass(frozen=True, slots=True)
class Late:
    """The candidate that was tried last has not answered yet."""


Step = Try | AwaitRunning | Wait | Skip | Reserve
Outcome = Won[T] | Lost | Late | Reserved | Refused | None
R = TypeVar("R")
Part = Generator[Step, Outcome[T], R]
Steps = Generator[Step, Outcome[T], T]


class Plan(Generic[T]):
    """One call's plan."""

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
                    self._take_in(candidate, error)

    def _next_try(self) -> Part[T, Try | None]:
        """Who is asked next; None: nobody is left, or nobody is ready to be asked beside the one who is."""
        while self._left_s() > 0:
            chosen = yield from self._choose()
            if chosen is not None:
                step = yield from self._placed(*chosen)
                if step is not None:
                    self._running.append(step.candidate)
                    return step
                if self._running:
                    return None
            elif self._running or not (yield from self._wait()):
                return None
        return None

    def _choose(self) -> Part[T, tuple[Candidate, Lease] | None]:
        """The first who is ready and well; else, where nobody well is left to wait for, the first who is not."""
        now = self._clock.monotonic()
        passed: list[Candidate] = []
        for candidate in self._candidates:
            if candidate in self._running or candidate.ready_at > now:
                continue
            if not candidate.is_fit(may_drop=self._rules.drop_unsupported):
                yield from self._tell_unfit(candidate)
                continue
            permit = candidate.health.permit(now)
            if permit is not None:
                try:
                    if passed:
                        yield from self._tell_of(passed, now)
                except BaseException:
                    permit.settle(None)
                    raise
                return candidate, permit
            passed.append(candidate)
        if self._running or self._has_somebody_well():
            return None
        for candidate in passed:
            blocked_s = candidate.health.limits.blocked_s(now)
            # Who asked to be left alone for no longer than there is time is waited for; who said so to this call too.
            if blocked_s and (candidate.tries or blocked_s < self._left_s()):
                continue
            permit = candidate.health.permit_all_the_same()
            if permit is not None:
                return candidate, permit
        return None

    @staticmethod
    def _tell_unfit(candidate: Candidate) -> Part[T, None]:
        """Writes down, once a call, who cannot honour the request."""
        if not candidate.tries and not candidate.is_told:
            candidate.is_told = True
            yield Skip(candidate, str(candidate.error), candidate.error)

    @staticmethod
    def _tell_of(passed: Sequence[Candidate], now: float) -> Part[T, None]:
        """Writes down, once a call, who was passed over for somebody else."""
        for candidate in passed:
            if not candidate.is_told:
                candidate.is_told = True
                yield Skip(candidate, candidate.health.why_left_alone(now))

    def _placed(self, candidate: Candidate, permit: Lease) -> Part[T, Try | None]:
        """The try, once its provider has a place for it; None: it had none in time."""
        places = candidate.health.places
        reservation: Reservation | None = None
        is_handed_over = False
        try:
            if places is not None:
                permit.place = places.enter()
                if not permit.place.has_come:
                    if self._running:
                        return None
                    yield from self._pause(Wait(self._share_s(candidate), permit.place))
                if not permit.place.has_come:
                    raise OverloadedError(f"{candidate.target.provider_name} had no place within the time")
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
            return Try(candidate, permit, timeout_s, waited_s, late_after_s, reservation)
        except OverloadedError as error:
            error.provider, error.target = candidate.target.provider_name, candidate.target.name
            yield Skip(candidate, str(error), error)
            # What it failed with when it was asked tells more.
            candidate.refuse(candidate.error or error)
            candidate.is_told = True
            return None
        finally:
            if not is_handed_over:
                permit.settle(None)
                if reservation is not None:
                    reservation.release()

    def _refuse(self, candidate: Candidate, refused: Refused) -> Part[T, None]:
        """A budget has no room for it; where that budget says so, nobody else may be asked who costs anything."""
        yield Skip(candidate, str(refused.error), refused.error)
        candidate.refuse(candidate.error or refused.error)
        candidate.is_told = True
        for other in self._candidates if refused.only_free else ():
            if not (other.is_free or other.is_out or other in self._running):
                other.refuse(other.error or refused.error)
                if not other.is_told:
                    other.is_told = True
                    yield Skip(other, f"it is not free: {refused.error}", refused.error)

    def _take_in(self, candidate: Candidate, error: ProviderError | LocalOnlyError) -> None:
        """What a failure means for its candidate; one that nobody else could mend is raised."""
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
            # Nothing is overloaded, and the model may well do better the next time.
            return 0.0
        return error.retry_after_s or max(self._backoff.wait_s(candidate.tries), _LEAST_WAIT_S)

    def _wait(self) -> Part[T, bool]:
        """Waits until somebody may be asked; False: nobody will be in time."""
        now, left = self._clock.monotonic(), self._left_s()
        soonest, probed, probe = math.inf, None, None
        for candidate in self._candidates:
            if candidate.is_out:
                continue
            blocked_s = candidate.health.limits.blocked_s(now)
            wait_s = max(candidate.ready_at - now, blocked_s)
            if 0 < wait_s < left:
                soonest = min(soonest, wait_s)
            elif probe is None and candidate.ready_at <= now and not (blocked_s and candidate.tries):
                if self._has_somebody_well():
                    continue
                probed, probe = candidate, candidate.health.breaker.probe
                if probe is None:
                    # Its trial has ended meanwhile, so that this call may ask it.
                    return True
        if probe is None and soonest >= left:
            return False
        yield from self._pause(Wait(min(soonest, left), probe))
        if probed is not None and probe is not None and probe.has_come and probe.error is not None:
            yield from self._share_failure(probed, probe.error)
        return True

    def _share_failure(self, candidate: Candidate, error: LlamaClientError) -> Part[T, None]:
        """Another call has tried it in the place of all who waited: it is a try of each of them."""
        own = copy.copy(error)
        own.attempts = []
        yield Skip(candidate, f"another call, which this one waited for, failed: {error}", own)
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

    def _has_somebody_well(self) -> bool:
        """Whether somebody who is not left alone is worth waiting for, so that nobody is asked who is."""
        now, left = self._clock.monotonic(), self._left_s()
        return any(
            not candidate.is_out and candidate.health.is_well(now) and candidate.ready_at - now < left
            for candidate in self._candidates
        )

    def _left_s(self) -> float:
        at = self._deadline.at
        return math.inf if at is None else at - self._clock.monotonic()

    def _share_s(self, candidate: Candidate) -> float:
        """What a try may take: where it hangs, somebody else must still have time to answer."""
        left = self._left_s()
        return left / 2 if self._has_others(candidate) else left

    def _has_others(self, candidate: Candidate) -> bool:
        """Whether anybody else could be asked now."""
        now = self._clock.monotonic()
        for other in self._candidates:
            if other is candidate or other.is_out or other.ready_at > now or other in self._running:
                continue
            if other.health.is_well(now) and other.is_fit(may_drop=self._rules.drop_unsupported):
                return True
        return False

    def _failure(self) -> LlamaClientError:
        """Why there is no answer: the error of the one that was asked, or everybody's."""
        unasked = next((c for c in self._candidates if c.error is None), None)
        if unasked is not None:
            timeout = self._deadline.passed()
            timeout.provider, timeout.target = unasked.target.provider_name, unasked.target.name
            unasked.error = timeout
        failed = [c for c in self._candidates if c.error is not None]
        tried = [c for c in failed if c.tries or c is unasked]
        if len(tried) == 1 or not tried:
            # That no target can honour a parameter, or none is local, is the request's failure, not theirs.
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
