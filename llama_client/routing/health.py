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
# A longer wait (until tomorrow, or for ever) is cut to this.
_LONGEST_S = 3600.0


class RateLimits:
    """Requests and tokens left, as far as headers say, and the end of a rate limit."""

    __slots__ = ("_left", "_resets_at", "are_known", "blocked_until")

    def __init__(self) -> None:
        self.blocked_until = 0.0
        self.are_known = False
        self._left: dict[str, float] = {}
        self._resets_at: dict[str, float] = {}

    def block(self, seconds: float, now: float) -> None:
        self.blocked_until = max(self.blocked_until, now + min(seconds, _LONGEST_S))

    def blocked_s(self, now: float) -> float:
        return max(self.blocked_until - now, 0.0)

    def note(self, told: Mapping[str, Any], now: float) -> None:
        """Takes `AttemptFacts.rate_limit`."""
        for kind in _KINDS:
            limit = told.get(kind) or {}
            left, reset_s = limit.get("remaining"), limit.get("reset_s")
            # Useless without the time of its reset.
            if left is not None and reset_s is not None:
                self._resets_at[kind] = now + reset_s
                self._left[kind] = left
                self.are_known = True

    def starts(self, size: RequestSize) -> None:
        """Subtracts a request from what is left, until headers say more."""
        if "requests" in self._left:
            self._left["requests"] -= 1
        if "tokens" in self._left:
            self._left["tokens"] -= size.reserved_tokens

    def is_low(self, now: float, size: RequestSize) -> bool:
        """Whether the request would be rate limited, by the last headers."""
        return self._lacks("requests", 1.0, now) or (
            "tokens" in self._left and self._lacks("tokens", size.reserved_tokens, now)
        )

    def left(self, kind: str, now: float) -> int | None:
        """Requests or tokens left; None: unknown, or reset since."""
        if kind not in self._left or self._resets_at[kind] <= now:
            return None
        return max(int(self._left[kind]), 0)

    def _lacks(self, kind: str, needed: float, now: float) -> bool:
        return kind in self._left and self._left[kind] < needed and self._resets_at[kind] > now


# Half-life of a measurement: providers change within minutes.
_HALF_LIFE_S = 300.0
# Below this weight of one measurement, the mean is unknown.
_LEAST_WEIGHT = 0.05


class DecayedMean:
    """A mean of exponentially decaying measurements."""

    __slots__ = ("_at", "_mean", "_weight")

    def __init__(self) -> None:
        self._mean = 0.0
        self._weight = 0.0
        self._at = 0.0

    def add(self, value: float, now: float) -> None:
        before = self._weight
        self._weight = 1.0 + (before * 0.5 ** ((now - self._at) / _HALF_LIFE_S) if before else 0.0)
        self._at = now
        self._mean += (value - self._mean) / self._weight

    def value(self, now: float) -> float | None:
        """The mean; None: unknown."""
        weight = self._weight
        return self._mean if weight and weight * 0.5 ** ((now - self._at) / _HALF_LIFE_S) >= _LEAST_WEIGHT else None


class LatencyStats:
    """A target's latency: first token and token rate of streams; time and token rate of whole answers."""

    __slots__ = ("latency_s", "tokens_per_s", "ttft_s", "whole_tokens_per_s")

    def __init__(self) -> None:
        self.ttft_s = DecayedMean()
        self.tokens_per_s = DecayedMean()
        self.latency_s = DecayedMean()
        self.whole_tokens_per_s = DecayedMean()

    def note(
        self, now: float, *, latency_s: float, ttft_s: float | None, tokens: int | None, tokens_per_s: float | None
    ) -> None:
        self.latency_s.add(latency_s, now)
        if ttft_s is not None:
            self.ttft_s.add(ttft_s, now)
        elif tokens and latency_s > 0:
            self.whole_tokens_per_s.add(tokens / latency_s, now)
        if tokens_per_s is not None:
            self.tokens_per_s.add(tokens_per_s, now)

    def expected_s(self, now: float, *, tokens: float, streams: bool) -> float | None:
        """Seconds for an answer of that many tokens; None: unknown.

        A stream takes the time to the first token plus the tokens at their rate; the rate of whole answers includes
        the time to the first token.
        """
        ttft, latency = self.ttft_s.value(now), self.tokens_per_s.value(now)
        as_stream = None if ttft is None else ttft + (tokens / latency if latency else 0.0)
        whole = self.whole_tokens_per_s.value(now)
        as_whole = tokens / whole if whole else None
        first, second = (as_stream, as_whole) if streams else (as_whole, as_stream)
        if first is not None:
            return first
        return second if second is not None else self.latency_s.value(now)


_log = logging.getLogger("llama_client.routing")
# Without a handler Python prints warnings to standard error; that is the program's decision.
_log.addHandler(logging.NullHandler())

# Programs may invent model ids; the least recently used targets are dropped.
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
    """Permission for one attempt; release it exactly once."""

    health: Health
    # Set for the one attempt that tests a target whose circuit was open.
    trial: HalfOpenTrial | None = None
    # Held where `max_concurrency` limits the provider.
    slot: Event | None = None
    has_started: bool = False
    _is_settled: bool = False

    def settle(self, result: Result | None) -> None:
        """Ends the attempt; None: it was cancelled or never made, so nothing is learned."""
        if not self._is_settled:
            self._is_settled = True
            self.health.settled(self, result)

    def start(self, size: RequestSize) -> None:
        self.has_started = True
        self.health.started(size)

    def has_content(self) -> None:
        """The target answers: calls that wait for its half-open trial go on."""
        if self.trial is not None or self.health.breaker.failures_in_row:
            self.health.recovered(self.trial)


class Health:
    """The state of one target."""

    def __init__(
        self,
        name: str,
        breaker: CircuitBreaker,
        concurrency: ConcurrencyLimit | None,
        output_tokens: DecayedMean,
        clock: Clock,
    ) -> None:
        self.name = name
        self.breaker = breaker
        self.concurrency = concurrency
        self.limits = RateLimits()
        self.latency = LatencyStats()
        # The share of prompt tokens from the provider's cache.
        self.cached_share = DecayedMean()
        # Sets of parameters known to be supported, whatever their values.
        self.honours: set[frozenset[str]] = set()
        self._output_tokens = output_tokens
        self._clock = clock
        self._lock = threading.RLock()
        self._last_error: LlamaClientError | None = None
        self._in_flight = 0

    @property
    def usual_output_tokens(self) -> float | None:
        """The recent length of answers, of all targets; None: unknown."""
        return self._output_tokens.value(self._clock.monotonic())

    def lease(self, now: float) -> Lease | None:
        """A lease; None: rate limited, circuit open, or in trial by another call."""
        with self._lock:
            if self.limits.blocked_until > now:
                return None
            if self.breaker.opened_at is None:
                return Lease(self)
            return None if self.breaker.half_opens_in_s(now) > 0 else self._trial_lease()

    def lease_trial(self) -> Lease | None:
        """A lease without a healthy alternative; None: another call makes the trial."""
        with self._lock:
            return self._trial_lease()

    def is_healthy(self, now: float) -> bool:
        return self.breaker.opened_at is None and self.limits.blocked_until <= now

    def why_skipped(self, now: float) -> str:
        blocked = self.limits.blocked_s(now)
        if blocked:
            return f"rate limited for another {blocked:.3g} s"
        failed = f"circuit open after {self.breaker.failures_in_row} consecutive failures"
        if self.breaker.state(now) == "half-open":
            return f"{failed}; another call makes the half-open trial"
        return f"{failed}; half-open in {self.breaker.half_opens_in_s(now):.3g} s"

    def started(self, size: RequestSize) -> None:
        with self._lock:
            self._in_flight += 1
            if self.limits.are_known:
                self.limits.starts(size)

    def settled(self, lease: Lease, result: Result | None) -> None:
        if lease.slot is not None and self.concurrency is not None:
            self.concurrency.leave(lease.slot)
        failure = None
        with self._lock:
            self._in_flight -= lease.has_started
            if result is not None:
                failure = self._learn(result, self._clock.monotonic())
        if lease.trial is not None:
            self.breaker.end_trial(lease.trial, failure)

    def recovered(self, trial: HalfOpenTrial | None) -> None:
        with self._lock:
            self._close()
            self.limits.blocked_until = 0.0
        if trial is not None:
            self.breaker.end_trial(trial, None)

    def shown(self) -> TargetHealth:
        now = self._clock.monotonic()
        state = self.breaker.state(now)
        return TargetHealth(
            target=self.name,
            breaker=state,
            failures_in_row=self.breaker.failures_in_row,
            probe_in_s=None if state == "closed" else self.breaker.half_opens_in_s(now),
            last_error=type(self._last_error).__name__ if self._last_error is not None else None,
            ttft_s=self.latency.ttft_s.value(now),
            tokens_per_s=self.latency.tokens_per_s.value(now),
            latency_s=self.latency.latency_s.value(now),
            remaining_requests=self.limits.left("requests", now),
            remaining_tokens=self.limits.left("tokens", now),
            blocked_s=self.limits.blocked_s(now) or None,
            in_flight=self._in_flight,
            queued=self.concurrency.waiting if self.concurrency is not None else 0,
        )

    def _trial_lease(self) -> Lease | None:
        trial = self.breaker.admit()
        return None if trial is None else Lease(self, trial)

    def _learn(self, result: Result, now: float) -> LlamaClientError | None:
        """Learns from an attempt; returns its error if the next call would fail alike."""
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
            # The target works: it refused this request, or for now.
            self._close()
            return error if isinstance(error, RateLimitError) else None
        self._last_error = error
        if self.breaker.failed(now):
            _log.warning(
                "%s: circuit opened after %d consecutive failures (%s)",
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
        self.latency.note(
            now, latency_s=result.latency_s, ttft_s=result.ttft_s, tokens=tokens, tokens_per_s=result.tokens_per_s
        )
        if tokens is not None:
            self._output_tokens.add(tokens, now)
        cached = usage.cached_tokens if usage is not None and usage.prompt_tokens_details is not None else None
        if cached is not None and usage is not None and usage.prompt_tokens:
            self.cached_share.add(cached / usage.prompt_tokens, now)

    def _close(self) -> None:
        if self.breaker.opened_at is not None:
            _log.info("%s: circuit closed", self.name, extra={"target": self.name})
        self.breaker.succeeded()


class HealthRegistry:
    """The state of all targets of one client."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._rules = config.routing
        self._clock = clock
        self._limits = {
            name: limit
            for name, table in config.providers.items()
            if (limit := getattr(table, "max_concurrency", None)) is not None
        }
        # Of all targets: routing compares them by the same answer.
        self.output_tokens = DecayedMean()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._known: OrderedDict[str, Health] = OrderedDict()
        self._places = {name: ConcurrencyLimit(limit) for name, limit in self._limits.items()}

    def of(self, name: str, provider: str) -> Health:
        if self._pid != os.getpid():
            # The parent's attempts never end here.
            self._reset()
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
        """Releases every call that waits for a slot."""
        for concurrency in self._places.values():
            concurrency.open()

    def shown(self) -> dict[str, TargetHealth]:
        with self._lock:
            known = list(self._known.values())
        return {health.name: health.shown() for health in known}
