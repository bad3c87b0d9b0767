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
# More callers than this wait for one provider: something is wrong, and a quick refusal is better than a long queue.
_MAX_WAITING = 10_000


class Event:
    """What callers wait for. It comes once, perhaps from another thread, for all of them."""

    __slots__ = ("_lock", "_wakes", "has_come")

    def __init__(self) -> None:
        self.has_come = False
        self._wakes: list[Callable[[], object]] = []
        # Re-entrant, as all locks of routing: the garbage collector may drop a stream, and so come back here, at any
        # allocation.
        self._lock = threading.RLock()

    def come(self) -> None:
        """Ends the wait."""
        with self._lock:
            self.has_come = True
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()

    def call(self, wake: Callable[[], object]) -> None:
        """Calls this when it comes; at once where it has."""
        with self._lock:
            if not self.has_come:
                self._wakes.append(wake)
                return
        wake()

    def forget(self, wake: Callable[[], object]) -> None:
        """Its caller waits no more."""
        with self._lock:
            if wake in self._wakes:
                self._wakes.remove(wake)


def wait_for_event(turn: Event, seconds: float) -> None:
    """Waits for a turn, or that long, blocking."""
    # The one thing to wait on whose other end may be used anywhere, also where the garbage collector happens to run.
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake() -> None:
        woken.put(None)

    turn.call(wake)
    until = time.monotonic() + seconds
    try:
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                woken.get(timeout=min(left, _POLL_S))
                return
    finally:
        turn.forget(wake)


async def await_event(turn: Event, seconds: float) -> None:
    """The same on the event loop."""
    import asyncio

    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(event.set)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    turn.call(wake)
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    finally:
        turn.forget(wake)


class ClosingEvent(Event):
    """The end of a client, which ends the sleep of every call that waits."""

    __slots__ = ()

    def sleep(self, seconds: float) -> None:
        """Lets seconds pass, blocking."""
        wait_for_event(self, seconds)
        self._require_open()

    async def asleep(self, seconds: float) -> None:
        """The same on the event loop."""
        await await_event(self, seconds)
        self._require_open()

    def _require_open(self) -> None:
        if self.has_come:
            raise InvalidRequestError("the client was closed")


class ConcurrencyLimit:
    """A provider's `max_concurrency`: so many requests at once, the others in the order of their arrival."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken: set[Event] = set()
        self._waiting: deque[Event] = deque()
        self._lock = threading.RLock()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self) -> Event:
        """Takes a place, or a place in the queue: the turn comes when there is one."""
        turn = Event()
        with self._lock:
            if len(self._taken) < self.limit:
                self._taken.add(turn)
                turn.has_come = True
            elif len(self._waiting) < _MAX_WAITING:
                self._waiting.append(turn)
            else:
                raise OverloadedError(f"{_MAX_WAITING} requests are waiting for this provider already")
        return turn

    def open(self) -> None:
        """Lets everybody in: the client is closed, and each finds that out by itself."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
            self._taken.update(waiting)
        for turn in waiting:
            turn.come()

    def leave(self, turn: Event) -> None:
        """Gives a place, or one in the queue, to the next. Safe to call more than once."""
        with self._lock:
            if turn not in self._taken:
                if not turn.has_come and turn in self._waiting:
                    self._waiting.remove(turn)
                return
            self._taken.remove(turn)
            following = self._waiting.popleft() if self._waiting else None
            if following is not None:
                self._taken.add(following)
        if following is not None:
            following.come()
