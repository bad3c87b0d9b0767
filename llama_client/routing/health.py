"""What a client learns of its targets: failures, latency, rate limits. No I/O."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_client.clock import Clock
from llama_client.errors import APITimeoutError, LlamaClientError, ProviderError, RateLimitError
from llama_client.process import at_fork
from llama_client.routing.circuit_breaker import CircuitBreaker, HalfOpenTrial
from llama_client.routing.concurrency import ConcurrencyLimit
from llama_client.types.completion import TargetHealth, Usage
from llama_client.waiting import Event

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.routing.request_size import RequestSize

_KINDS = ("requests", "tokens")
# The windows of providers' rate limits, in seconds.
_WINDOWS_S = (1.0, 60.0, 3600.0, 86_400.0)
# How closely a window that is computed has to be one of them.
_SAME_WINDOW = 0.25
# A longer `Retry-After` (until tomorrow, or for ever) counts as this.
_LONGEST_S = 3600.0
# A measurement this old counts half: the speed of providers changes within minutes.
_HALF_LIFE_S = 300.0
# With less than this much of one measurement left, the mean is unknown.
_LEAST_WEIGHT = 0.05
# How long a target's refusal of a feature is believed: a server may be started anew, with the feature.
_REFUSAL_S = 300.0
# A request has few features; values may be made up.
_MAX_REFUSALS = 32
# Programs may make up model ids: of more targets than this, the least recently used are forgotten.
_MAX_TARGETS = 1024

_log = logging.getLogger("llama_client.routing")
# Without a handler Python would print warnings to standard error; that is the program's to decide.
_log.addHandler(logging.NullHandler())


@dataclass(slots=True, eq=False)
class RateLimits:
    """The requests and tokens that a target has left, as its headers say, and until when it is blocked."""

    blocked_until: float = 0.0
    are_known: bool = False
    _left: dict[str, float] = field(default_factory=dict)
    _resets_at: dict[str, float] = field(default_factory=dict)
    # As the headers had it: what is permitted, what was left of it, and until when it is all there again.
    _told: dict[str, tuple[float | None, float, float]] = field(default_factory=dict)

    def block(self, seconds: float, now: float) -> None:
        self.blocked_until = max(self.blocked_until, now + min(seconds, _LONGEST_S))

    def blocked_s(self, now: float) -> float:
        return max(self.blocked_until - now, 0.0)

    def note(self, rate_limit: Mapping[str, Any], now: float) -> None:
        """Takes in `AttemptFacts.rate_limit`."""
        for kind in _KINDS:
            limit = rate_limit.get(kind) or {}
            left, reset_s = limit.get("remaining"), limit.get("reset_s")
            # A limit without a reset would never end.
            if left is not None and reset_s is not None:
                self._resets_at[kind] = now + reset_s
                self._left[kind] = left
                self._told[kind] = limit.get("limit"), left, reset_s
                self.are_known = True

    def charge(self, size: RequestSize) -> None:
        """Takes a request that is sent off what is left, until the next headers say more."""
        if "requests" in self._left:
            self._left["requests"] -= 1
        if "tokens" in self._left:
            self._left["tokens"] -= size.reserved_tokens

    def is_low(self, now: float, size: RequestSize) -> bool:
        return self._lacks("requests", 1.0, now) or (
            "tokens" in self._left and self._lacks("tokens", size.reserved_tokens, now)
        )

    def left(self, kind: str, now: float) -> int | None:
        """None: unknown, or reset since."""
        if kind not in self._left or self._resets_at[kind] <= now:
            return None
        return max(int(self._left[kind]), 0)

    def permitted_per_s(self, kind: str) -> float | None:
        """How many requests or tokens a second are permitted in the long run; None: unknown.

        Some providers fill a limit continuously, and tell when all of it is there again; others begin a new window at
        that time. Which one it is shows in the window that the first would mean.
        """
        limit, left, reset_s = self._told.get(kind, (None, 0.0, 0.0))
        if not limit or reset_s > _WINDOWS_S[-1]:
            return None
        if left < limit and reset_s > 0:
            window_s = reset_s * limit / (limit - left)
            filled = next((each for each in _WINDOWS_S if abs(window_s / each - 1) <= _SAME_WINDOW), None)
            if filled is not None:
                return limit / filled
        return limit / next(each for each in _WINDOWS_S if reset_s <= each)

    def _lacks(self, kind: str, needed: float, now: float) -> bool:
        return kind in self._left and self._left[kind] < needed and self._resets_at[kind] > now


@dataclass(slots=True, eq=False)
class DecayedMean:
    _mean: float = 0.0
    _weight: float = 0.0
    _at: float = 0.0

    def add(self, value: float, now: float) -> None:
        before = self._weight
        self._weight = 1.0 + (before * 0.5 ** ((now - self._at) / _HALF_LIFE_S) if before else 0.0)
        self._at = now
        self._mean += (value - self._mean) / self._weight

    def value(self, now: float) -> float | None:
        """None: nothing was measured, or too long ago."""
        weight = self._weight
        return self._mean if weight and weight * 0.5 ** ((now - self._at) / _HALF_LIFE_S) >= _LEAST_WEIGHT else None


@dataclass(slots=True, eq=False)
class LatencyStats:
    """A target's times: of streams to the first token and per token; of whole answers per token."""

    ttft_s: DecayedMean = field(default_factory=DecayedMean)
    tokens_per_s: DecayedMean = field(default_factory=DecayedMean)
    latency_s: DecayedMean = field(default_factory=DecayedMean)
    whole_tokens_per_s: DecayedMean = field(default_factory=DecayedMean)

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
        """The expected duration of an answer of that many tokens; None: unknown."""
        ttft, rate, whole = self.ttft_s.value(now), self.tokens_per_s.value(now), self.whole_tokens_per_s.value(now)
        as_stream = None if ttft is None else ttft + (tokens / rate if rate else 0.0)
        # The rate of whole answers includes the time to the first token.
        as_whole = tokens / whole if whole else None
        first, second = (as_stream, as_whole) if streams else (as_whole, as_stream)
        if first is not None:
            return first
        return second if second is not None else self.latency_s.value(now)


# A parameter, and its value where only that is refused.
Feature = tuple[str, str | None]


@dataclass(slots=True, eq=False)
class Refusals:
    """The features that a target has refused lately, so that it is not asked for them again and again."""

    # Until when each is remembered, and what the target said.
    by_feature: dict[Feature, tuple[float, str]] = field(default_factory=dict)

    def add(self, feature: Feature, why: str, now: float) -> None:
        if len(self.by_feature) < _MAX_REFUSALS or feature in self.by_feature:
            self.by_feature[feature] = (now + _REFUSAL_S, why)

    def current(self, now: float) -> list[tuple[Feature, str]]:
        """Each feature, and what the target said."""
        for feature, (until, _) in list(self.by_feature.items()):
            if until <= now:
                # Another thread may have removed it.
                self.by_feature.pop(feature, None)
        return [(feature, why) for feature, (_, why) in list(self.by_feature.items())]


class Result(NamedTuple):
    error: LlamaClientError | None
    latency_s: float
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    usage: Usage | None = None
    rate_limit: Mapping[str, Any] | None = None
    was_loading: bool = False


@dataclass(slots=True, eq=False)
class Lease:
    """Permission for one attempt. It knows what it takes before it takes it, so that an interrupt cannot lose it."""

    health: Health
    # Set for the one attempt that tests an open circuit.
    trial: HalfOpenTrial | None = None
    # Set where the provider has a `max_concurrency`.
    slot: Event | None = None
    _has_taught: bool = False
    _is_released: bool = False

    def enter(self, concurrency: ConcurrencyLimit) -> Event:
        """Takes a slot, or a place in the queue for one."""
        self.slot = slot = Event()
        concurrency.enter(slot)
        return slot

    def start(self, size: RequestSize) -> None:
        health = self.health
        with health.lock:
            health.running.add(self)
            if health.limits.are_known:
                health.limits.charge(size)

    def has_content(self) -> None:
        """The target responds: calls that wait for a half-open trial need not wait for its end."""
        health = self.health
        if self.trial is not None or health.breaker.failures_in_row:
            with health.lock:
                was_open = health.breaker.opened_at is not None
                health.breaker.succeeded()
                health.limits.blocked_until = 0.0
            if was_open:
                health.log_circuit()
            if self.trial is not None:
                health.breaker.end_trial(self.trial, None)

    def release(self, result: Result | None) -> None:
        """None: the attempt was cancelled or never made, so nothing was learned. Again does what is left of it."""
        if self._is_released:
            return
        health, failure = self.health, None
        if self.slot is not None and health.concurrency is not None:
            health.concurrency.leave(self.slot)
        with health.lock:
            was_open = health.breaker.opened_at is not None
            health.running.discard(self)
            if result is not None and not self._has_taught:
                self._has_taught = True
                failure = health.learn(result, health.clock.monotonic())
            is_open = health.breaker.opened_at is not None
        if self.trial is not None:
            health.breaker.end_trial(self.trial, failure)
        self._is_released = True
        if was_open != is_open:
            health.log_circuit()


@dataclass(slots=True, eq=False)
class Health:
    name: str
    breaker: CircuitBreaker
    concurrency: ConcurrencyLimit | None
    # Of all targets.
    output_tokens: DecayedMean
    clock: Clock
    limits: RateLimits = field(default_factory=RateLimits)
    latency: LatencyStats = field(default_factory=LatencyStats)
    # The share of its prompts that comes from the provider's cache.
    cached_share: DecayedMean = field(default_factory=DecayedMean)
    # Sets of parameters that it is known to support, whatever their values.
    supported: set[frozenset[str]] = field(default_factory=set)
    refusals: Refusals = field(default_factory=Refusals)
    # Of its longest answer beyond `max_tokens`, which then bounds nothing; 0: it keeps that limit.
    overrun_tokens: int = 0
    # The leases of the attempts in flight.
    running: set[Lease] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    # Its class. The error itself refers by its traceback to the frames of the call, and to what these hold.
    _last_error: str | None = None

    @property
    def usual_output_tokens(self) -> float | None:
        return self.output_tokens.value(self.clock.monotonic())

    def grants(self, lease: Lease, now: float) -> bool:
        """False: rate limited, circuit open, or a half-open trial is in flight."""
        with self.lock:
            if self.limits.blocked_until > now:
                return False
            if self.breaker.opened_at is None:
                return True
            return self.breaker.half_open_in_s(now) <= 0 and self._grants_trial(lease)

    def grants_trial(self, lease: Lease) -> bool:
        """For a half-open trial, even if rate limited or before the cooldown; False: one is in flight."""
        with self.lock:
            return self._grants_trial(lease)

    def _grants_trial(self, lease: Lease) -> bool:
        trial = lease.trial = HalfOpenTrial()
        if not self.breaker.start_trial(trial):
            lease.trial = None
        return lease.trial is not None

    def is_healthy(self, now: float) -> bool:
        return self.breaker.opened_at is None and self.limits.blocked_until <= now

    def why_unavailable(self, now: float) -> str:
        blocked_s = self.limits.blocked_s(now)
        if blocked_s:
            return f"rate limited for another {blocked_s:.3g} s"
        opened = f"circuit open after {self.breaker.failures_in_row} consecutive failures"
        if self.breaker.state(now) == "half-open":
            return f"{opened}; another call makes the half-open trial"
        return f"{opened}; half-open in {self.breaker.half_open_in_s(now):.3g} s"

    def snapshot(self) -> TargetHealth:
        now = self.clock.monotonic()
        state = self.breaker.state(now)
        return TargetHealth(
            target=self.name,
            breaker=state,
            failures_in_row=self.breaker.failures_in_row,
            probe_in_s=None if state == "closed" else self.breaker.half_open_in_s(now),
            last_error=self._last_error,
            ttft_s=self.latency.ttft_s.value(now),
            tokens_per_s=self.latency.tokens_per_s.value(now),
            latency_s=self.latency.latency_s.value(now),
            remaining_requests=self.limits.left("requests", now),
            remaining_tokens=self.limits.left("tokens", now),
            blocked_s=self.limits.blocked_s(now) or None,
            in_flight=len(self.running),
            queued=self.concurrency.queued if self.concurrency is not None else 0,
        )

    def learn(self, result: Result, now: float) -> LlamaClientError | None:
        """Returns the attempt's error if the calls that wait for it would get the same."""
        if result.rate_limit is not None:
            self.limits.note(result.rate_limit, now)
        error = result.error
        if error is None:
            self._learn_from_answer(result, now)
            return None
        if not isinstance(error, ProviderError) or (result.was_loading and isinstance(error, APITimeoutError)):
            return None
        if error.retry_after_s:
            self.limits.block(error.retry_after_s, now)
        if not error.blames_target:
            # It responds: it refused this request, or all requests for now.
            self.breaker.succeeded()
            return error if isinstance(error, RateLimitError) else None
        self._last_error = type(error).__name__
        self.breaker.failed(now)
        return error

    def _learn_from_answer(self, result: Result, now: float) -> None:
        if self.breaker.failures_in_row or self.breaker.opened_at is not None:
            self.breaker.succeeded()
        self.limits.blocked_until = 0.0
        usage = result.usage
        tokens = usage.completion_tokens if usage is not None else None
        self.latency.note(
            now, latency_s=result.latency_s, ttft_s=result.ttft_s, tokens=tokens, tokens_per_s=result.tokens_per_s
        )
        if tokens is not None:
            self.output_tokens.add(tokens, now)
        cached = usage.cached_tokens if usage is not None and usage.prompt_tokens_details is not None else None
        if cached is not None and usage is not None and usage.prompt_tokens:
            self.cached_share.add(cached / usage.prompt_tokens, now)

    def log_circuit(self) -> None:
        """Logs that the circuit has opened or closed; without the lock, as a program's own handlers may do anything."""
        extra = {"target": self.name}
        if self.breaker.opened_at is None:
            _log.info("%s: circuit closed", self.name, extra=extra)
        else:
            text, failures = "%s: circuit opened after %d consecutive failures (%s)", self.breaker.failures_in_row
            _log.warning(text, self.name, failures, self._last_error, extra=extra)


class HealthRegistry:
    def __init__(self, config: Config, clock: Clock) -> None:
        self._rules = config.routing
        self._clock = clock
        tables = config.providers.items()
        self._limits = {name: limit for name, table in tables if (limit := getattr(table, "max_concurrency", None))}
        # Over all targets: routing compares them by how long each would take for the same answer.
        self.output_tokens = DecayedMean()
        self._reset()
        # The parent's attempts in flight never end in the child.
        at_fork("after_in_child", self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Health] = OrderedDict()
        self._concurrency = {name: ConcurrencyLimit(limit) for name, limit in self._limits.items()}

    def of(self, name: str, provider: str) -> Health:
        with self._lock:
            health = self._known.get(name)
            if health is None:
                breaker = CircuitBreaker(self._rules.breaker_failures, self._rules.breaker_cooldown_s)
                health = Health(name, breaker, self._concurrency.get(provider), self.output_tokens, self._clock)
                self._known[name] = health
                if len(self._known) > _MAX_TARGETS:
                    self._known.popitem(last=False)
            else:
                self._known.move_to_end(name)
            return health

    def close(self) -> None:
        """Wakes every call that waits for a slot."""
        for limit in self._concurrency.values():
            limit.close()

    def snapshot(self) -> dict[str, TargetHealth]:
        with self._lock:
            known = list(self._known.values())
        return {health.name: health.snapshot() for health in known}
