"""Servers in a time of their own, which take requests as the limits of a job let them start."""

from __future__ import annotations

import copy
import heapq
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llama_client.bulk.contracts import Limits
from llama_client.bulk.limits.flights import Flight
from llama_client.errors import LlamaClientError, OverloadedError, RateLimitError
from llama_client.testing import completion
from llama_client.types.completion import Attempt, AttemptOutcome, ChatCompletion

TARGET = "a/m"
ANSWER = completion("Hum.")
_REFUSAL_S = 0.02
Taken = tuple[float, LlamaClientError | None]


@dataclass
class Capacity:
    """Works on so many at once; the others wait in order. Times vary as those of answers do."""

    slots: int
    takes_s: float
    spread: float = 0.0
    fails: float = 0.0
    changes_at: float = math.inf
    then: int = 0
    error: Callable[[str], LlamaClientError] = LlamaClientError
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    _free_at: list[float] = field(default_factory=list)

    def take(self, now: float) -> Taken:
        if self.fails and self.chance.random() < self.fails:
            return now + _REFUSAL_S, self.error("fault")
        slots = self.slots if now < self.changes_at else self.then
        while len(self._free_at) > slots:
            heapq.heappop(self._free_at)
        takes_s = self.takes_s * (
            self.chance.lognormvariate(-(self.spread**2) / 2, self.spread) if self.spread else 1.0
        )
        begins = now if len(self._free_at) < slots else max(now, heapq.heappop(self._free_at))
        heapq.heappush(self._free_at, begins + takes_s)
        return begins + takes_s, None


@dataclass
class Bucket:
    """Admits `rate` a second, and up to `burst` at once; each takes `takes_s`."""

    rate: float
    burst: float
    takes_s: float = 0.5
    tells: Callable[[float], float | None] = lambda missing_s: max(1.0, float(-(-missing_s // 1)))
    refused: int = 0
    _tokens: float = 0.0
    _at: float = 0.0

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now: float) -> Taken:
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return now + self.takes_s, None
        self.refused += 1
        error = RateLimitError("slower", target=TARGET, retry_after_s=self.tells((1.0 - self._tokens) / self.rate))
        return now + _REFUSAL_S, error


@dataclass
class Window:
    """Admits so many in each window of so many seconds, and tells when the next one begins."""

    admits: int
    window_s: float
    takes_s: float = 0.5
    refused: int = 0
    _window: int = -1
    _taken: int = 0

    def take(self, now: float) -> Taken:
        window = int(now // self.window_s)
        if window != self._window:
            self._window, self._taken = window, 0
        if self._taken < self.admits:
            self._taken += 1
            return now + self.takes_s, None
        self.refused += 1
        return now + _REFUSAL_S, RateLimitError(target=TARGET, retry_after_s=(window + 1) * self.window_s - now)


@dataclass
class Places:
    """Works on so many at once, and refuses the others."""

    places: int
    takes_s: float
    status: type[RateLimitError] | type[OverloadedError] = OverloadedError
    retry_after_s: float | None = None
    spread: float = 0.3
    refused: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    _ends: list[float] = field(default_factory=list)

    def take(self, now: float) -> Taken:
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        if len(self._ends) >= self.places:
            self.refused += 1
            return now + _REFUSAL_S, self.status("full", target=TARGET, retry_after_s=self.retry_after_s)
        end = now + self.takes_s * self.chance.lognormvariate(-(self.spread**2) / 2, self.spread)
        heapq.heappush(self._ends, end)
        return end, None


Server = Capacity | Bucket | Window | Places


def outcome(target: str, error: LlamaClientError | None, took_s: float) -> ChatCompletion | LlamaClientError:
    """What a client hands back after one attempt."""
    result = copy.copy(ANSWER) if error is None else error
    how: AttemptOutcome = "ok" if error is None else "error"
    name = None if error is None else type(error).__name__
    result.attempts = [Attempt.model_construct(target=target, outcome=how, sent=True, error=name, latency_s=took_s)]
    return result


@dataclass
class Outcome:
    """What came of the rows of one target.

    Attributes:
        answers: When each was answered.
        most_in_flight: The most at once.
        ended_at: When the job ended.
    """

    answers: list[float] = field(default_factory=list)
    most_in_flight: int = 0
    ended_at: float = 0.0

    def rate(self, since: float = 0.0, until: float | None = None) -> float:
        """Answers a second."""
        end = self.ended_at if until is None else until
        return sum(since <= each < end for each in self.answers) / (end - since)


@dataclass
class _Target:
    server: Server
    left: int
    in_flight: int = 0
    outcome: Outcome = field(default_factory=Outcome)


def simulate(limits: Limits, server: Server, *, rows: int = 10**9, seconds: float = 1e9, since: float = 0.0) -> Outcome:
    """Starts what the limits allow until so many rows are answered, or until then; what fails is asked again."""
    return simulate_all(limits, {TARGET: server}, rows=rows, seconds=seconds, since=since)[TARGET]


def simulate_all(
    limits: Limits, servers: Mapping[str, Server], *, rows: int = 10**9, seconds: float = 1e9, since: float = 0.0
) -> dict[str, Outcome]:
    """The same with so many rows for each of several targets."""
    now, number = since, 0
    targets = {name: _Target(server, rows) for name, server in servers.items()}
    ends: list[tuple[float, int, str, Flight, LlamaClientError | None]] = []
    while now < seconds and (ends or any(each.left for each in targets.values())):
        next_at = ends[0][0] if ends else math.inf
        for name, target in targets.items():
            while target.left and (wait_s := limits.wait_s(name, now)) is not None:
                if wait_s > 0:
                    next_at = min(next_at, now + wait_s)
                    break
                flight = limits.started(name, now)
                target.left -= 1
                target.in_flight += 1
                target.outcome.most_in_flight = max(target.outcome.most_in_flight, target.in_flight)
                end, error = target.server.take(now)
                number += 1
                heapq.heappush(ends, (end, number, name, flight, error))
                next_at = min(next_at, end)
        now = next_at
        while ends and ends[0][0] <= now:
            _, _, name, flight, error = heapq.heappop(ends)
            target = targets[name]
            target.in_flight -= 1
            limits.ended(flight, now, outcome(name, error, now - flight.started_at))
            if error is None:
                target.outcome.answers.append(now)
            target.left += error is not None
    for target in targets.values():
        target.outcome.ended_at = now
    return {name: target.outcome for name, target in targets.items()}
