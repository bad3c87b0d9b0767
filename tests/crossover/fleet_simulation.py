"""A fleet simulated event by event: replicas that start, serve, wait and stop, under a load that is a fluid.

It shares nothing with the package: it knows replicas one by one, and finds what happens next among all that may.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

HOUR = 3600.0


@dataclass
class Replica:
    started: float
    ready: float
    idle_since: float | None = None
    is_base: bool = False


@dataclass
class Bill:
    billed_seconds: float = 0.0
    starts: int = 0
    tokens: float = 0.0
    late_tokens: float = 0.0  # beyond what the replicas that are ready serve
    longest_wait_s: float = 0.0


@dataclass
class Simulation:
    """One fleet over a curve that repeats; the second round is what is counted."""

    hours: Sequence[float]
    capacity: float  # tokens an hour of one replica
    start_s: float
    idle_s: float
    billing_s: float
    base: int = 0
    most: int | None = None  # replicas at most; None: as many as are needed
    smallest_share: float = 0.0  # of a replica's capacity, from which on a further one starts
    replicas: list[Replica] = field(default_factory=list)
    bill: Bill = field(default_factory=Bill)

    def run(self) -> Bill:
        end = len(self.hours) * HOUR
        self.replicas = [Replica(0.0, 0.0, is_base=True) for _ in range(self.base)]
        now = 0.0
        self._scale(now)
        while now < 2 * end:
            then = self._next_event(now, 2 * end)
            self._serve(now, then, counts=now >= end)
            now = then
            if now < 2 * end:
                self._stop_idle(now, counts=now >= end)
                self._scale(now, counts=now >= end)
        self._close(2 * end, end)
        return self.bill

    def _load(self, now: float) -> float:
        """Tokens an hour."""
        return self.hours[int(now // HOUR) % len(self.hours)]

    def _next_event(self, now: float, last: float) -> float:
        times = [(now // HOUR + 1) * HOUR, last]
        times += [each.ready for each in self.replicas if each.ready > now]
        times += [each.idle_since + self.idle_s for each in self.replicas if each.idle_since is not None]
        return min(time for time in times if time > now)

    def _serve(self, now: float, then: float, *, counts: bool) -> None:
        if not counts:
            return
        load, ready = self._load(now), sum(each.ready <= now for each in self.replicas)
        hours = (then - now) / HOUR
        self.bill.tokens += load * hours
        self.bill.late_tokens += max(0.0, load - ready * self.capacity) * hours

    def _scale(self, now: float, *, counts: bool = False) -> None:
        load = self._load(now)
        wanted = math.ceil(load / self.capacity - 1e-9)
        if wanted and load / self.capacity - (wanted - 1) < self.smallest_share:
            wanted -= 1
        if self.most is not None:
            wanted = min(wanted, self.most)
        # The newest wait first, so that the oldest stay busy.
        for place, each in enumerate(self.replicas):
            if place < wanted:
                each.idle_since = None
            elif each.idle_since is None and not each.is_base:
                each.idle_since = now
        self._stop_idle(now, counts=counts)
        if counts and wanted > len(self.replicas) and self.start_s:
            self.bill.longest_wait_s = max(self.bill.longest_wait_s, self._wait(load))
        while len(self.replicas) < wanted:
            self.replicas.append(Replica(now, now + self.start_s))
            self.bill.starts += counts

    def _wait(self, load: float) -> float:
        """The longest wait in a queue, second by second: it fills until the new replicas are ready."""
        running = len(self.replicas) * self.capacity
        longest = 0.0
        for second in range(int(self.start_s) + 1):
            arrived = load * second
            by_running = arrived / running if running else math.inf
            longest = max(longest, min(by_running, self.start_s) - second)
        return longest

    def _stop_idle(self, now: float, *, counts: bool) -> None:
        for each in [each for each in self.replicas if each.idle_since is not None]:
            assert each.idle_since is not None
            if now >= each.idle_since + self.idle_s:
                self.replicas.remove(each)
                self._pay(each, now)

    def _pay(self, each: Replica, stop: float) -> None:
        """The bill of a run belongs to the time in which it was run."""
        length = math.ceil((stop - each.started) / self.billing_s - 1e-9) * self.billing_s
        half = len(self.hours) * HOUR
        # Of a run over both rounds, the part in the second one.
        self.bill.billed_seconds += max(0.0, each.started + length - max(each.started, half))

    def _close(self, now: float, half: float) -> None:
        for each in self.replicas:
            self.bill.billed_seconds += now - max(each.started, half)
