"""What a client learns of its targets: failures, latency, rate limits. No I/O."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_client.clock import Clock
from llama_client.errors import LlamaClientError, ProviderError, RateLimitError
from llama_client.routing.circuit_breaker import CircuitBreaker, HalfOpenTrial
from llama_client.routing.concurrency import ConcurrencyLimit, Event
from llama_client.types.completion import TargetHealth, Usage

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.routing.request_size import RequestSize


_KINDS = ("requests", "tokens")
# Whoever asks for more (until tomorrow, or for ever) is asked again after that.
_LONGEST_S = 3600.0


class RateLimits:
    """What is left of a target's requests and tokens, where any headers told, and until when it is left alone."""

    __slots__ = ("_left", "_resets_at", "are_known", "blocked_until")

    def __init__(self) -> None:
        self.blocked_until = 0.0
        self.are_known = False
        self._left: dict[str, float] = {}
        self._resets_at: dict[str, float] = {}

    def block(self, seconds: float, now: float) -> None:
        """The target asked to be left alone for so long."""
        self.blocked_until = max(self.blocked_until, now + min(seconds, _LONGEST_S))

    def blocked_s(self, now: float) -> float:
        """For how much longer it wants to be left alone."""
        return max(self.blocked_until - now, 0.0)

    def note(self, told: Mapping[str, Any], now: float) -> None:
        """Takes in what the headers of an answer say: `AttemptFacts.rate_limit`."""
        for kind in _KINDS:
            limit = told.get(kind) or {}
            left, reset_s = limit.get("remaining"), limit.get("reset_s")
            # Without an end nobody could tell when to come back.
            if left is not None and reset_s is not None:
                self._resets_at[kind] = now + reset_s
                self._left[kind] = left
                self.are_known = True

    def starts(self, size: RequestSize) -> None:
        """A request sets out: until an answer's headers tell more, what it needs is taken off what is left."""
        if "requests" in self._left:
            self._left["requests"] -= 1
        if "tokens" in self._left:
            self._left["tokens"] -= size.reserved_tokens

    def is_low(self, now: float, size: RequestSize) -> bool:
        """Whether the request would be refused, as far as the headers told."""
        return self._lacks("requests", 1.0, now) or (
            "tokens" in self._left and self._lacks("tokens", size.reserved_tokens, now)
        )

    def left(self, kind: str, now: float) -> int | None:
        """What is left of the requests or tokens; None: unknown, or the limit has begun anew."""
        if kind not in self._left or self._resets_at[kind] <= now:
            return None
        return max(int(self._left[kind]), 0)

    def _lacks(self, kind: str, needed: float, now: float) -> bool:
        return kind in self._left and self._left[kind] < needed and self._resets_at[kind] > now


# Half of what was measured this long ago counts no more: providers change within minutes.
_HALF_LIFE_S = 300.0
# With less than this much of one measurement left, nothing is known any more.
_LEAST_WEIGHT = 0.05


class DecayedMean:
    """A mean in which a measurement counts the less the older it is: half as much after each half-life."""

    __slots__ = ("_at", "_mean", "_weight")

    def __init__(self) -> None:
        self._mean = 0.0
        self._weight = 0.0
        self._at = 0.0

    def add(self, value: float, now: float) -> None:
        """Takes in a measurement."""
        before = self._weight
        self._weight = 1.0 + (before * 0.5 ** ((now - self._at) / _HALF_LIFE_S) if before else 0.0)
        self._at = now
        self._mean += (value - self._mean) / self._weight

    def value(self, now: float) -> float | None:
        """The mean; None where nothing was measured, or too long ago."""
        weight = self._weight
        return self._mean if weight and weight * 0.5 ** ((now - self._at) / _HALF_LIFE_S) >= _LEAST_WEIGHT else None


class LatencyStats:
    """A target's times: to the first token and per token, from streams; of whole answers, by their tokens."""

    __slots__ = ("latency_s", "tokens_per_s", "ttft_s", "whole_tokens_per_s")

    def __init__(self) -> None:
        self.ttft_s = DecayedMean()
        self.tokens_per_s = DecayedMean()
        self.latency_s = DecayedMean()
        self.whole_tokens_per_s = DecayedMean()

    def note(
        self, now: float, *, latency_s: float, ttft_s: float | None, tokens: int | None, tokens_per_s: float | None
    ) -> None:
        """Takes in an answer."""
        self.latency_s.add(latency_s, now)
        if ttft_s is not None:
            self.ttft_s.add(ttft_s, now)
        elif tokens and latency_s > 0:
            self.whole_tokens_per_s.add(tokens / latency_s, now)
        if tokens_per_s is not None:
            self.tokens_per_s.add(tokens_per_s, now)

    def expected_s(self, now: float, *, tokens: float, streams: bool) -> float | None:
        """How long an answer of that many tokens will take; None: nobody knows.

        A stream's is the time to the first token and the tokens at their pace; a whole answer's the tokens at the pace
        of whole answers, which has the wait for the first token in it.
        """
        ttft, pace = self.ttft_s.value(now), self.tokens_per_s.value(now)
        as_stream = None if ttft is None else ttft + (tokens / pace if pace else 0.0)
        whole = self.whole_tokens_per_s.value(now)
        as_whole = tokens / whole if whole else None
        first, second = (as_stream, as_whole) if streams else (as_whole, as_stream)
        if first is not None:
            return first
        return second if second is not None else self.latency_s.value(now)


_log = logging.getLogger("llama_client.routing")
# Where nobody has set up logging, Python would print warnings to standard error; that is the program's to decide.
_log.addHandler(logging.NullHandler())

# Programs may make up model ids; what is known of those that were not asked for longest is forgotten.
_MAX_TARGETS = 1024


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended."""

    error: LlamaClientError | None
    latency_s: float
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    usage: Usage | None = None
    rate_limit: Mapping[str, Any] | None = None
    was_loading: bool = False


@dataclass(slots=True, eq=False)
class Lease:
    """Permission for one attempt; settle it exactly once."""

    health: Health
    # Set for the one attempt that tests a target whose circuit was open.
    probe: HalfOpenTrial | None = None
    # Its place at the provider, where `max_concurrency` limits these.
    place: Event | None = None
    has_started: bool = False
    _is_settled: bool = False

    def settle(self, result: Result | None) -> None:
        """The attempt is over; None: it was stopped, or never made, so nothing was learned."""
        if not self._is_settled:
            self._is_settled = True
            self.health.settled(self, result)

    def start(self, size: RequestSize) -> None:
        """The attempt begins."""
        self.has_started = True
        self.health.started(size)

    def has_content(self) -> None:
        """The target has begun to answer: calls that wait for a half-open trial need not wait for its end."""
        if self.probe is not None or self.health.breaker.failures_in_row:
            self.health.recovered(self.probe)


class Health:
    """What is known of one target."""

    def __init__(
        self,
        name: str,
        breaker: CircuitBreaker,
        places: ConcurrencyLimit | None,
        output_tokens: DecayedMean,
        clock: Clock,
    ) -> None:
        self.name = name
        self.breaker = breaker
        self.places = places
        self.limits = RateLimits()
        self.pace = LatencyStats()
        # Which share of its prompts comes from the provider's cache.
        self.cached_share = DecayedMean()
        # Sets of parameters that it is known to honour, whatever they hold.
        self.honours: set[frozenset[str]] = set()
        self._output_tokens = output_tokens
        self._clock = clock
        self._lock = threading.RLock()
        self._last_error: LlamaClientError | None = None
        self._in_flight = 0

    @property
    def usual_output_tokens(self) -> float | None:
        """The length of answers of late, whoever gave them; None: there were none."""
        return self._output_tokens.value(self._clock.monotonic())

    def permit(self, now: float) -> Lease | None:
        """Leave to ask it; None: it is left alone, or is being tried by another call."""
        with self._lock:
            if self.limits.blocked_until > now:
                return None
            if self.breaker.opened_at is None:
                return Lease(self)
            return None if self.breaker.opens_in_s(now) > 0 else self._as_probe()

    def permit_all_the_same(self) -> Lease | None:
        """Leave to ask it where nobody better is left; None: another call is trying it."""
        with self._lock:
            return self._as_probe()

    def is_well(self, now: float) -> bool:
        """Whether it would be asked as usual."""
        return self.breaker.opened_at is None and self.limits.blocked_until <= now

    def why_left_alone(self, now: float) -> str:
        """In words."""
        blocked = self.limits.blocked_s(now)
        if blocked:
            return f"it asked to be left alone for {blocked:.3g} s more"
        failed = f"it failed {self.breaker.failures_in_row} times in a row"
        if self.breaker.state(now) == "half-open":
            return f"{failed}, and another call is trying it"
        return f"{failed}, and is tried again in {self.breaker.opens_in_s(now):.3g} s"

    def started(self, size: RequestSize) -> None:
        """An attempt begins. Called by its permit."""
        with self._lock:
            self._in_flight += 1
            if self.limits.are_known:
                self.limits.starts(size)

    def settled(self, permit: Lease, result: Result | None) -> None:
        """An attempt is over. Called by its permit."""
        if permit.place is not None and self.places is not None:
            self.places.leave(permit.place)
        failure = None
        with self._lock:
            self._in_flight -= permit.has_started
            if result is not None:
                failure = self._learn(result, self._clock.monotonic())
        if permit.probe is not None:
            self.breaker.end(permit.probe, failure)

    def recovered(self, probe: HalfOpenTrial | None) -> None:
        """It has answered, or begun to. Called by a permit."""
        with self._lock:
            self._close()
            self.limits.blocked_until = 0.0
        if probe is not None:
            self.breaker.end(probe, None)

    def shown(self) -> TargetHealth:
        """For people."""
        now = self._clock.monotonic()
        state = self.breaker.state(now)
        return TargetHealth(
            target=self.name,
            breaker=state,
            failures_in_row=self.breaker.failures_in_row,
            probe_in_s=None if state == "closed" else self.breaker.opens_in_s(now),
            last_error=type(self._last_error).__name__ if self._last_error is not None else None,
            ttft_s=self.pace.ttft_s.value(now),
            tokens_per_s=self.pace.tokens_per_s.value(now),
            latency_s=self.pace.latency_s.value(now),
            remaining_requests=self.limits.left("requests", now),
            remaining_tokens=self.limits.left("tokens", now),
            blocked_s=self.limits.blocked_s(now) or None,
            in_flight=self._in_flight,
            queued=self.places.waiting if self.places is not None else 0,
        )

    def _as_probe(self) -> Lease | None:
        probe = self.breaker.try_it()
        return None if probe is None else Lease(self, probe)

    def _learn(self, result: Result, now: float) -> LlamaClientError | None:
        """Takes in how an attempt ended; returns its error where the next call would hear the same."""
        if result.rate_limit is not None:
            self.limits.note(result.rate_limit, now)
        error = result.error
        if error is None:
            self._answered(result, now)
            return None
        if not isinstance(error, ProviderError) or result.was_loading:
            return None
        if error.retry_after_s:
            self.limits.block(error.retry_after_s, now)
        if not error.blames_target:
            # It is there, and said no: to this request, or for now.
            self._close()
            return error if isinstance(error, RateLimitError) else None
        self._last_error = error
        if self.breaker.failed(now):
            _log.warning(
                "%s is left alone after %d failures in a row (%s)",
                self.name,
                self.breaker.failures_in_row,
                type(error).__name__,
                extra={"target": self.name},
            )
        return error

    def _answered(self, result: Result, now: float) -> None:
        if self.breaker.failures_in_row or self.breaker.opened_at is not None:
            self._close()
        self.limits.blocked_until = 0.0
        usage = result.usage
        tokens = usage.completion_tokens if usage is not None else None
        self.pace.note(
            now, latency_s=result.latency_s, ttft_s=result.ttft_s, tokens=tokens, tokens_per_s=result.tokens_per_s
        )
        if tokens is not None:
            self._output_tokens.add(tokens, now)
        cached = usage.cached_tokens if usage is not None and usage.prompt_tokens_details is not None else None
        if cached is not None and usage is not None and usage.prompt_tokens:
            self.cached_share.add(cached / usage.prompt_tokens, now)

    def _close(self) -> None:
        if self.breaker.opened_at is not None:
            _log.info("%s answers again", self.name, extra={"target": self.name})
        self.breaker.succeeded()


class HealthBook:
    """The health of all targets of one client."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._rules = config.routing
        self._clock = clock
        self._limits = {
            name: limit
            for name, table in config.providers.items()
            if (limit := getattr(table, "max_concurrency", None)) is not None
        }
        # The length of answers, whoever gives them: routing compares targets by what the same answer would take.
        self.output_tokens = DecayedMean()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._known: OrderedDict[str, Health] = OrderedDict()
        self._places = {name: ConcurrencyLimit(limit) for name, limit in self._limits.items()}

    def of(self, name: str, provider: str) -> Health:
        """What is known of a target."""
        if self._pid != os.getpid():
            # What the parent has under way will never end here.
            self._begin()
        with self._lock:
            health = self._known.get(name)
            if health is None:
                breaker = CircuitBreaker(self._rules.breaker_failures, self._rules.breaker_cooldown_s)
                health = Health(name, breaker, self._places.get(provider), self.output_tokens, self._clock)
                self._known[name] = health
                if len(self._known) > _MAX_TARGETS:
                    self._known.popitem(last=False)
            else:
                self._known.move_to_end(name)
            return health

    def close(self) -> None:
        """Lets go of every call that waits for a place."""
        for places in self._places.values():
            places.open()

    def shown(self) -> dict[str, TargetHealth]:
        """All of them, by name."""
        with self._lock:
            known = list(self._known.values())
        return {health.name: health.shown() for health in known}
