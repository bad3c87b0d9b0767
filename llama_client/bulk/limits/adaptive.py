"""The limits of a job's requests at each target that it asks; of a route, at all of its targets together. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_client.bulk.limits.climbing import Climb
from llama_client.bulk.limits.flights import Flight
from llama_client.bulk.limits.pacing import Pace
from llama_client.bulk.limits.places import Places
from llama_client.errors import AllTargetsFailedError, LlamaClientError, OverloadedError, ProviderError, RateLimitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llama_client.types.completion import ChatCompletion

# One connection each, and a file descriptor for it: 1,024 are what a process has on many systems.
MOST = 512
# Targets that are not asked now are forgotten beyond these.
_MOST_TARGETS = 1000
# Between so many waits a target has refused, until it is believed that it refuses by the number in flight: a first
# burst that empties a bucket looks the same.
_ERAS = 3
# Where the target says that it can be asked again at once, more refusals than these are a limit's.
_FEW = 0.3
# Each time that this was not so, twice as many are needed.
_MOST_ERAS = 24


class _Target:
    def __init__(self, most: int) -> None:
        self.climb = Climb(most)
        self.pace = Pace()
        self.places = Places()
        self.in_flight = self.started = self.eras = 0
        self.has_places = False
        self.fewest_eras = _ERAS
        self.next_at = 0.0

    def wait_s(self, now: float) -> float | None:
        if self.in_flight >= self.climb.limit:
            return None
        return max(self.pace.wait_s(now), self.next_at - now if self.has_places else 0.0)

    def start(self, target: str, now: float) -> Flight:
        self.started += 1
        flight = Flight(target, now, self.started, self.in_flight)
        self.climb.pass_time(now, self.in_flight)
        self.in_flight += 1
        self.next_at = now + self.climb.spacing_s()
        self.pace.started(flight)
        self.places.started(flight)
        return flight

    def end(self, now: float) -> None:
        self.climb.pass_time(now, self.in_flight)
        self.in_flight -= 1

    def limited(self, flight: Flight, now: float, retry_after_s: float | None) -> None:
        """One was rate limited: by the number in flight, or by how often they come."""
        is_new = self.pace.is_new(flight)
        if is_new:
            self.eras += 1
        flight.era = self.eras
        self.places.refused(flight)
        if is_new:
            self._look(now, self.fewest_eras)
        if not self.has_places:
            self.pace.refused(flight, now, retry_after_s)
        elif is_new and retry_after_s is not None:
            self.pace.pause(now, retry_after_s)
        else:
            self.pace.hold(now + (retry_after_s or 0.0))

    def is_passing(self, refusal: ProviderError) -> bool:
        """Whether it names no time to wait, and is one of few: it may be chance, and holds nothing else back."""
        if not refusal.retry_after_s and not _is_rate_limit(refusal):
            return True
        return refusal.retry_after_s == 0.0 and self.places.refused_share() <= _FEW

    def overloaded(self, flight: Flight) -> None:
        flight.era = self.eras
        self.places.refused(flight)

    def look(self, now: float) -> None:
        """Many were refused for lack of capacity."""
        self._look(now, 1)

    def _look(self, now: float, fewest_eras: int) -> None:
        latest = 4 * self.climb.limit
        found = self.places.found(latest, fewest=1) if self.has_places else self.places.found(fewest_eras=fewest_eras)
        if found is not None:
            if not self.has_places:
                self.pace.forget()
            self.climb.stay_below(found, now)
            self.has_places = True
        elif self.has_places:
            self.has_places = False
            self.fewest_eras = min(self.fewest_eras * 2, _MOST_ERAS)
            self.places.forget()
            self.climb.lift_ceiling()


class AdaptiveLimits:
    """How many requests may be in flight at each target, and when the next may start: see `Climb`, `Pace`, `Places`.

    Args:
        most: The most in flight at one target.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._targets: dict[str, _Target] = {}

    def wait_s(self, target: str, now: float) -> float | None:
        """When one more may start.

        Args:
            target: Where.
            now: The time in seconds.

        Returns:
            0: now; seconds: not before then; None: not before another one has ended.
        """
        return self._found(target).wait_s(now)

    def started(self, target: str, now: float) -> Flight:
        """One has started. What is returned is for `ended` or `abandoned`."""
        return self._found(target).start(target, now)

    def abandoned(self, flight: Flight) -> None:
        """One was cut off, and tells nothing."""
        flight.is_refused = False
        self._found(flight.target).in_flight -= 1

    def ended(self, flight: Flight, now: float, outcome: ChatCompletion | LlamaClientError) -> None:
        """One has ended.

        Args:
            flight: The one.
            now: The time in seconds.
            outcome: What came of it; an answer of any of several targets is one.
        """
        found = self._found(flight.target)
        found.end(now)
        sent = [each for each in outcome.attempts if each.sent]
        refusal = _refusal(outcome)
        flight.is_refused = refusal is not None
        is_overloaded = refusal is not None and not _is_rate_limit(refusal)
        if refusal is None:
            found.pace.admitted()
        elif found.is_passing(refusal):
            found.overloaded(flight)
        else:
            found.limited(flight, now, refusal.retry_after_s)
        if not sent:
            return
        # A limit of one of several targets says nothing of the others.
        if sent[-1].rate_limit is not None and sent[-1].target == flight.target:
            found.pace.hold(now + _empty_s(sent[-1].rate_limit))
        took_s = sum(each.latency_s or 0.0 for each in sent) or now - flight.started_at
        is_answer = not isinstance(outcome, LlamaClientError)
        are_many = found.climb.ended(now, took_s, is_answer=is_answer, is_refusal=is_overloaded)
        if are_many and is_overloaded:
            found.look(now)

    def limit(self, target: str) -> int:
        """How many may be in flight there now."""
        return self._found(target).climb.limit

    def _found(self, target: str) -> _Target:
        found = self._targets.get(target)
        if found is None:
            if len(self._targets) >= _MOST_TARGETS:
                self._targets = {name: each for name, each in self._targets.items() if each.in_flight}
            found = self._targets[target] = _Target(self._most)
        return found


def _refusal(outcome: ChatCompletion | LlamaClientError) -> ProviderError | None:
    """The error, if all targets that were asked have refused."""
    if isinstance(outcome, AllTargetsFailedError):
        return outcome if all(isinstance(each, RateLimitError | OverloadedError) for each in outcome.errors) else None
    return outcome if isinstance(outcome, RateLimitError | OverloadedError) else None


def _is_rate_limit(refusal: ProviderError) -> bool:
    errors = refusal.errors if isinstance(refusal, AllTargetsFailedError) else [refusal]
    return any(isinstance(each, RateLimitError) for each in errors)


def _empty_s(rate_limit: Mapping[str, Mapping[str, float | None]]) -> float:
    """How long nothing remains, as the headers of an answer say.

    Some providers tell when all of a limit is there again, others when the next window begins: the first part of the
    limit may be there after the time until then divided by it. What comes too early is refused once, with the time to
    wait.
    """
    empty_s = 0.0
    for kind in ("requests", "tokens"):
        part = rate_limit.get(kind) or {}
        remaining, reset_s, limit = part.get("remaining"), part.get("reset_s"), part.get("limit")
        if remaining is not None and remaining < 1 and reset_s is not None:
            empty_s = max(empty_s, reset_s / max(limit or 1.0, 1.0))
    return empty_s
