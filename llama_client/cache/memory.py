"""The answers in memory, and the calls that are being made for others: one asks, and equal ones wait for it. No I/O."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from llama_client.cache.stored import Stored
from llama_client.process import at_fork
from llama_client.waiting import Event

# Calls that failed for others before the next one asks for itself, without waiting.
_MOST_FAILED = 2


class Landing(Enum):
    """How a flight ended, for the calls that wait for it."""

    KEPT = "its answer is there"
    # An answer that must not be kept: the others ask for themselves, all at once.
    NOT_KEPT = "not kept"
    FAILED = "failed"
    # That says nothing of the target: the next call takes over.
    LEFT = "left"


class Flight:
    """One call that asks for others too. Known to its call before it counts, so that no interrupt can lose it.

    Attributes:
        landed: It has ended.
        found: The database was asked.
        how: How it ended; None: it has not.
        held_for_s: How long its reader has taken nothing of its stream; 0: it is not a stream, or still comes.
    """

    __slots__ = ("found", "held_for_s", "how", "is_reading", "key", "landed")

    def __init__(self, key: bytes, held_for_s: Callable[[], float]) -> None:
        self.key = key
        self.landed, self.found = Event(), Event()
        self.how: Landing | None = None
        self.held_for_s = held_for_s
        # Whether the database is being asked.
        self.is_reading = False


class Pending(NamedTuple):
    """To be waited for, at most so long; then look again."""

    event: Event
    seconds: float


@dataclass(slots=True, eq=False)
class Looking:
    """One call that looks for a key.

    Attributes:
        flight: Its own, should it be the one that asks.
        until: When it waits no longer, by the monotonic clock.
        awaited: The flight that it waits for.
        failed: The flights that failed while it waited.
        is_alone: It waits for none, and none waits for it.
    """

    flight: Flight
    until: float
    awaited: Flight | None = None
    failed: int = 0
    is_alone: bool = False


# A stream from which nothing is read for so long is not waited for: its reader may be the very thread that waits here.
_HELD_S = 1.0


# Clocks of two machines differ.
_AHEAD_S = 300.0


def is_fresh(at: float, now: float, max_age_s: float) -> bool:
    return -_AHEAD_S <= now - at <= max_age_s


class AnswerMemory:
    """The latest answers, up to a size, and the flights."""

    def __init__(self, most_bytes: int, max_age_s: float) -> None:
        self.most_bytes = most_bytes
        self._max_age_s = max_age_s
        self._reset()
        # The calls of the parent are made there alone.
        at_fork("after_in_child", self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[bytes, Stored] = OrderedDict()
        self._bytes = 0
        self._flights: dict[bytes, Flight] = {}

    def get(self, key: bytes, now: float) -> Stored | None:
        with self._lock:
            stored = self._answers.get(key)
            if stored is None:
                return None
            if not is_fresh(stored.at, now, self._max_age_s):
                self._drop(key)
                return None
            self._answers.move_to_end(key)
            return stored

    def put(self, key: bytes, stored: Stored) -> bool:
        """False: it is too large."""
        with self._lock:
            self._drop(key)
            if stored.size_bytes > self.most_bytes:
                return False
            self._answers[key] = stored
            self._bytes += stored.size_bytes
            while self._bytes > self.most_bytes:
                self._drop(next(iter(self._answers)))
            return True

    def discard(self, key: bytes) -> None:
        with self._lock:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        dropped = self._answers.pop(key, None)
        if dropped is not None:
            self._bytes -= dropped.size_bytes

    def turn(self, looking: Looking, monotonic: float) -> Pending | None:
        """What a call that found nothing is to do: wait for another, or, None, ask: for others too if it leads."""
        flight = looking.flight
        _count_failure(looking)
        if looking.failed >= _MOST_FAILED or looking.until <= monotonic:
            looking.is_alone = True
        if looking.is_alone:
            return None
        with self._lock:
            other = self._flights.setdefault(flight.key, flight)
        if other is flight:
            return None
        held_s = other.held_for_s()
        if held_s >= _HELD_S:
            looking.is_alone = True
            return None
        looking.awaited = other
        return Pending(other.landed, min(looking.until - monotonic, _HELD_S))

    def leads(self, flight: Flight) -> bool:
        return self._flights.get(flight.key) is flight

    def land(self, flight: Flight, how: Landing) -> None:
        """Ends a flight, or what an interrupt has left of that. The first ending counts."""
        if flight.how is None:
            flight.how = how
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
        flight.landed.set()


def _count_failure(looking: Looking) -> None:
    awaited = looking.awaited
    if awaited is None or awaited.how is None:
        return
    looking.awaited = None
    if awaited.how is Landing.FAILED:
        looking.failed += 1
    elif awaited.how is Landing.NOT_KEPT:
        looking.is_alone = True
