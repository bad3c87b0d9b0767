"""The end of a client, and `max_concurrency`. No I/O."""

from __future__ import annotations

import threading
from itertools import islice

from llama_client.errors import InvalidRequestError, OverloadedError
from llama_client.waiting import Event, await_event, wait_for_event

# A longer queue for one provider means that something is wrong: fail at once instead.
_MAX_QUEUED = 10_000


class ClosingEvent(Event):
    """The close of a client, which ends the sleep of every waiting call."""

    __slots__ = ()

    def sleep(self, seconds: float) -> None:
        wait_for_event(self, seconds)
        self._require_open()

    async def asleep(self, seconds: float) -> None:
        await await_event(self, seconds)
        self._require_open()

    def _require_open(self) -> None:
        if self.is_set:
            raise InvalidRequestError("the client was closed")


class ConcurrencyLimit:
    """A provider's `max_concurrency`: at most so many attempts in flight, the others queue in order of arrival."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # In order of arrival: the first ones, up to the limit, are taken, and the others wait. One step enters or
        # leaves, so that an interrupt finds a slot either here or not.
        self._slots: dict[Event, None] = {}
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def queued(self) -> int:
        return 0 if self._is_closed else max(len(self._slots) - self._limit, 0)

    def enter(self, slot: Event) -> None:
        """Takes a slot, or a place in the queue for one: the event happens once the slot is taken."""
        with self._lock:
            if len(self._slots) >= self._limit + _MAX_QUEUED:
                raise OverloadedError(f"{_MAX_QUEUED} requests are queued for this provider already")
            self._slots[slot] = None
            slot.is_set = self._is_closed or len(self._slots) <= self._limit

    def leave(self, slot: Event) -> None:
        """Passes a slot to the next in the queue, or leaves the queue. Safe to call more than once."""
        with self._lock:
            # Where an interrupted call has taken it out, it may not have woken the next.
            first = self._limit - 1 if slot in self._slots else 0
            self._slots.pop(slot, None)
            due = [] if len(self._slots) < self._limit else list(islice(self._slots, first, self._limit))
        # Another thread may still wait for the one that was left, and then finds that its call has ended.
        for each in (*due, slot):
            if not each.is_set:
                each.set()

    def close(self) -> None:
        """Wakes the whole queue; each call then finds the client closed."""
        with self._lock:
            self._is_closed = True
            queued = list(self._slots)
        for slot in queued:
            slot.set()
