"""Waiting, sync and async: events, the end of a client, and `max_concurrency`. No I/O."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from llama_client.errors import InvalidRequestError, OverloadedError

# A lock's wait cannot be interrupted by Ctrl-C on Windows; so wait in steps.
_POLL_S = 0.25
# A longer queue for one provider means that something is wrong; refusing is better than waiting.
_MAX_WAITING = 10_000


class Event:
    """Set once, perhaps by another thread, for all callers waiting."""

    __slots__ = ("_lock", "_wakes", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._wakes: list[Callable[[], object]] = []
        # Re-entrant, as all locks of routing: the garbage collector may drop a stream, and so come back here, at any
        # allocation.
        self._lock = threading.RLock()

    def set(self) -> None:
        with self._lock:
            self.is_set = True
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()

    def on_set(self, wake: Callable[[], object]) -> None:
        """Calls `wake` when it is set; at once if it is."""
        with self._lock:
            if not self.is_set:
                self._wakes.append(wake)
                return
        wake()

    def remove(self, wake: Callable[[], object]) -> None:
        with self._lock:
            if wake in self._wakes:
                self._wakes.remove(wake)


def wait_for_event(event: Event, seconds: float) -> None:
    """Waits for an event, at most that long, blocking."""
    # Its other end is safe to use anywhere, also in the garbage collector.
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake() -> None:
        woken.put(None)

    event.on_set(wake)
    until = time.monotonic() + seconds
    try:
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                woken.get(timeout=min(left, _POLL_S))
                return
    finally:
        event.remove(wake)


async def await_event(event: Event, seconds: float) -> None:
    """The same on the event loop."""
    import asyncio

    loop = asyncio.get_running_loop()
    ready = asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(ready.set)
        except RuntimeError:  # the loop is closed, and so the wait
            return

    event.on_set(wake)
    try:
        async with asyncio.timeout(seconds):
            await ready.wait()
    except TimeoutError:
        return
    finally:
        event.remove(wake)


class ClosingEvent(Event):
    """Set when the client closes; ends the sleep of every waiting call."""

    __slots__ = ()

    def sleep(self, seconds: float) -> None:
        wait_for_event(self, seconds)
        self._require_open()

    async def asleep(self, seconds: float) -> None:
        """The same on the event loop."""
        await await_event(self, seconds)
        self._require_open()

    def _require_open(self) -> None:
        if self.is_set:
            raise InvalidRequestError("the client was closed")


class ConcurrencyLimit:
    """A provider's `max_concurrency`: that many requests at once, the others queue in order of arrival."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._running: set[Event] = set()
        self._waiting: deque[Event] = deque()
        self._lock = threading.RLock()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter(self) -> Event:
        """Takes a slot, or a place in the queue; the event is set when there is a slot."""
        event = Event()
        with self._lock:
            if len(self._running) < self.limit:
                self._running.add(event)
                event.is_set = True
            elif len(self._waiting) < _MAX_WAITING:
                self._waiting.append(event)
            else:
                raise OverloadedError(f"{_MAX_WAITING} requests are waiting for this provider already")
        return event

    def open(self) -> None:
        """Admits all: the client is closed, and each call finds that out."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
            self._running.update(waiting)
        for event in waiting:
            event.set()

    def leave(self, event: Event) -> None:
        """Gives up a slot, or a place in the queue. Safe to call more than once."""
        with self._lock:
            if event not in self._running:
                if not event.is_set and event in self._waiting:
                    self._waiting.remove(event)
                return
            self._running.remove(event)
            following = self._waiting.popleft() if self._waiting else None
            if following is not None:
                self._running.add(following)
        if following is not None:
            following.set()
