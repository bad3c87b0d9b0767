"""The limits of a job's requests at each target that it asks. No I/O."""

from __future__ import annotations

from llama_client.bulk.limits.climbing import Climb
from llama_client.bulk.limits.pacing import Pace, Starts
from llama_client.errors import LlamaClientError, OverloadedError, RateLimitError
from llama_client.types.completion import ChatCompletion

# One connection each, and a file descriptor for it: 1,024 are what a process has on many systems.
MOST = 512
# Targets that are not asked now are forgotten beyond these.
_MOST_TARGETS = 1000
_TOO_MANY = 429


class _Target:
    def __init__(self, most: int) -> None:
        self.climb = Climb(most)
        self.starts = Starts()
        self.pace = Pace(self.starts)
        self.in_flight = 0
        # The most in flight of those that were admitted since the last refusal.
        self._top = 0

    def start(self, now: float) -> None:
        self.in_flight += 1
        self.starts.add(now, self.in_flight)
        self.pace.started(now)

    def admitted(self, now: float, took_s: float) -> None:
        self.pace.admitted()
        self._top = max(self._top, self.starts.in_flight(now - took_s))

    def refused(self, now: float, took_s: float, retry_after_s: float | None) -> None:
        """Where fewer in flight were all admitted, it is their number that is refused; else how often they come."""
        in_flight = self.starts.in_flight(now - took_s)
        is_rate = True
        if self.pace.is_new(now, took_s):
            if not is_rate:
                self.climb.lower(max(1, in_flight - 1), now)
            self._top = 0
        self.pace.refused(now, took_s, retry_after_s, is_rate=is_rate)


class AdaptiveLimits:
    """How many requests may be in flight at each target, and when the next may start: see `Climb` and `Pace`.

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
        found = self._found(target)
        return None if found.in_flight >= found.climb.limit else found.pace.wait_s(now)

    def started(self, target: str, now: float) -> None:
        """One has started."""
        self._found(target).start(now)

    def ended(self, target: str, now: float, took_s: float, outcome: ChatCompletion | LlamaClientError | None) -> None:
        """One has ended.

        Args:
            target: Where.
            now: The time in seconds.
            took_s: How long it took.
            outcome: What came of it; None: it was given up.
        """
        found = self._found(target)
        in_flight, found.in_flight = found.in_flight, max(0, found.in_flight - 1)
        if outcome is None:
            return
        refusal = _refusal(target, outcome)
        if refusal is None:
            found.admitted(now, took_s)
        elif isinstance(refusal, RateLimitError) or refusal.retry_after_s is not None:
            found.refused(now, took_s, refusal.retry_after_s)
        is_answer = isinstance(outcome, ChatCompletion)
        is_busy = isinstance(refusal, OverloadedError)
        found.climb.ended(now, took_s, in_flight, is_answer=is_answer and refusal is None, is_refusal=is_busy)

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


def _refusal(target: str, outcome: ChatCompletion | LlamaClientError) -> RateLimitError | OverloadedError | None:
    """What the target itself said, if it refused, also where another one answered then."""
    errors = [outcome, *getattr(outcome, "errors", ())]
    for error in errors:
        if isinstance(error, RateLimitError | OverloadedError) and error.target in (target, None):
            return error
    for attempt in outcome.attempts:
        if attempt.target == target and attempt.outcome == "error" and attempt.error == RateLimitError.__name__:
            return RateLimitError(target=target)
    return None
