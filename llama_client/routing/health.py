"""What a client learns of its targets: who fails, how fast each is, what is left of its limits. No I/O.

A `Permit` is leave to ask a target once. It is settled exactly once, however the attempt ends, and that is all that a
target's health learns from.
"""

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
from llama_client.routing.breaker import Breaker, Probe
from llama_client.routing.limits import RateLimits
from llama_client.routing.pace import DecayedMean, Pace
from llama_client.routing.turns import Places, Turn
from llama_client.types.health import TargetHealth
from llama_client.types.usage import Usage

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.routing.sizes import RequestSize

_log = logging.getLogger("llama_client.routing")
# Where nobody has set up logging, Python would print warnings to standard error; that is the program's to decide.
_log.addHandler(logging.NullHandler())

# Programs may make up model ids; what is known of those that were not asked for longest is forgotten.
_MAX_TARGETS = 1024


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended.

    Attributes:
        error: What it failed with; None: it answered.
        latency_s: From its start to its end.
        ttft_s: From there to its first token; None for a whole answer.
        tokens_per_s: The speed after that.
        usage: Its tokens.
        rate_limit: What the headers said.
        was_loading: The model was being loaded, which is no fault.
    """

    error: LlamaClientError | None
    latency_s: float
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    usage: Usage | None = None
    rate_limit: Mapping[str, Any] | None = None
    was_loading: bool = False


class Permit:
    """Leave to ask a target once.

    Attributes:
        probe: Set where this is the one call that tries a target which the others leave alone.
        place: Its place at the provider, where these are counted.
    """

    __slots__ = ("_has_started", "_health", "_is_settled", "place", "probe")

    def __init__(self, health: Health, probe: Probe | None = None) -> None:
        self._health = health
        self._is_settled = False
        self._has_started = False
        self.probe = probe
        self.place: Turn | None = None

    def settle(self, result: Result | None) -> None:
        """The attempt is over; None: it was stopped, or never made, so nothing was learned."""
        if not self._is_settled:
            self._is_settled = True
            self._health.settled(self, result, has_started=self._has_started)

    def start(self, size: RequestSize) -> None:
        """The attempt begins."""
        self._has_started = True
        self._health.started(size)

    def has_content(self) -> None:
        """The target has begun to answer: it is there, and who waits for its trial need not wait for the end."""
        if self.probe is not None or self._health.breaker.failures_in_row:
            self._health.recovered(self.probe)


class Health:
    """What is known of one target.

    Args:
        name: `provider/model`.
        breaker: Its breaker.
        places: Its provider's, where these are counted.
        output_tokens: The length of answers, of all targets.
        clock: The time.
    """

    def __init__(
        self, name: str, breaker: Breaker, places: Places | None, output_tokens: DecayedMean, clock: Clock
    ) -> None:
        self.name = name
        self.breaker = breaker
        self.places = places
        self.limits = RateLimits()
        self.pace = Pace()
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

    def permit(self, now: float) -> Permit | None:
        """Leave to ask it; None: it is left alone, or is being tried by another call."""
        with self._lock:
            if self.limits.blocked_until > now or self.breaker.opens_in_s(now) > 0:
                return None
            if self.breaker.opened_at is None:
                return Permit(self)
            return self._as_probe()

    def permit_all_the_same(self) -> Permit | None:
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
            self.limits.starts(size)

    def settled(self, permit: Permit, result: Result | None, *, has_started: bool) -> None:
        """An attempt is over. Called by its permit."""
        if permit.place is not None and self.places is not None:
            self.places.leave(permit.place)
        failure = None
        with self._lock:
            self._in_flight -= has_started
            if result is not None:
                failure = self._learn(result, self._clock.monotonic())
        if permit.probe is not None:
            self.breaker.end(permit.probe, failure)

    def recovered(self, probe: Probe | None) -> None:
        """It has answered, or begun to. Called by a permit."""
        with self._lock:
            self._close()
            self.limits.unblock()
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

    def _as_probe(self) -> Permit | None:
        probe = self.breaker.try_it()
        return None if probe is None else Permit(self, probe)

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
        self._close()
        self.limits.unblock()
        usage = result.usage
        tokens = usage.completion_tokens if usage is not None else None
        self.pace.note(
            now, latency_s=result.latency_s, ttft_s=result.ttft_s, tokens=tokens, tokens_per_s=result.tokens_per_s
        )
        if tokens is not None:
            self._output_tokens.add(tokens, now)
        if usage is not None and usage.prompt_tokens and usage.cached_tokens is not None:
            self.cached_share.add(usage.cached_tokens / usage.prompt_tokens, now)

    def _close(self) -> None:
        if self.breaker.opened_at is not None:
            _log.info("%s answers again", self.name, extra={"target": self.name})
        self.breaker.succeeded()


class HealthBook:
    """The health of all targets of one client.

    Args:
        config: The configuration, for its rules and for who takes only so many requests at once.
        clock: The time.
    """

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
        self._places = {name: Places(limit) for name, limit in self._limits.items()}

    def of(self, name: str, provider: str) -> Health:
        """What is known of a target.

        Args:
            name: `provider/model`.
            provider: The provider's name.
        """
        if self._pid != os.getpid():
            # What the parent has under way will never end here.
            self._begin()
        with self._lock:
            health = self._known.get(name)
            if health is None:
                breaker = Breaker(self._rules.breaker_failures, self._rules.breaker_cooldown_s)
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
