"""Waiting, sync and async: events, the end of a client, and `max_concurrency`. No I/O."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from llama_client.errors import InvalidRequestError, OverloadedError

# A blocking wait cannot be interrupted by Ctrl-C on Windows; so wait in steps.
_POLL_S = 0.25
# A longer queue for one provider means that something is wrong: fail at once instead.
_MAX_QUEUED = 10_000

T = TypeVar("T")


class Event:
    """Happens once, perhaps in another thread, and wakes every caller that waits for it."""

    __slots__ = ("_callbacks", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        # Without a lock, since a coroutine that waits may be collected, and its finaliser then removes its callback:
        # each operation on a dict is atomic.
        self._callbacks: dict[Callable[[], object], None] = {}

    def set(self) -> None:
        self.is_set = True
        self._call_all()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Calls it when the event happens; at once if it has."""
        self._callbacks[callback] = None
        if self.is_set:
            self._call_all()

    def remove_callback(self, callback: Callable[[], object]) -> None:
        self._callbacks.pop(callback, None)

    def _call_all(self) -> None:
        while self._callbacks:
            try:
                callback, _ = self._callbacks.popitem()
            except KeyError:
                # Another thread has taken the last one, and calls it.
                return
            callback()


def wait_for_event(event: Event, seconds: float) -> None:
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()
    wake = partial(woken.put, None)
    event.add_callback(wake)
    try:
        with contextlib.suppress(queue.Empty):
            get_within(woken, seconds)
    finally:
        event.remove_callback(wake)


def get_within(items: queue.SimpleQueue[T], seconds: float | None) -> T:
    """The next item, at most this long (None: no limit); raises `queue.Empty` after it."""
    until = math.inf if seconds is None else time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            return items.get(timeout=min(left, _POLL_S))
    raise queue.Empty


async def await_event(event: Event, seconds: float) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    happened = asyncio.Event()

    def wake() -> None:
        # The loop may be closed, and then nothing waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(happened.set)

    event.add_callback(wake)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await happened.wait()
    finally:
        event.remove_callback(wake)


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
        self._taken: set[Event] = set()
        self._queue: deque[Event] = deque()
        self._lock = threading.Lock()

    @property
    def queued(self) -> int:
        return len(self._queue)

    def acquire(self) -> Event:
        """A slot, or a place in the queue for one: the event happens once the slot is taken."""
        slot = Event()
        with self._lock:
            if len(self._taken) < self._limit:
                self._taken.add(slot)
                slot.is_set = True
            elif len(self._queue) < _MAX_QUEUED:
                self._queue.append(slot)
            else:
                raise OverloadedError(f"{_MAX_QUEUED} requests are queued for this provider already")
        return slot

    def release(self, slot: Event) -> None:
        """Passes a slot to the next in the queue, or leaves the queue. Safe to call more than once."""
        with self._lock:
            if slot not in self._taken:
                if not slot.is_set and slot in self._queue:
                    self._queue.remove(slot)
                return
            self._taken.remove(slot)
            following = self._queue.popleft() if self._queue else None
            if following is not None:
                self._taken.add(following)
        if following is not None:
            following.set()

    def close(self) -> None:
        """Wakes the whole queue; each call then finds the client closed."""
        with self._lock:
            queued, self._queue = self._queue, deque()
            self._taken.update(queued)
        for slot in queued:
            slot.set()
