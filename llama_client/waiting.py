"""Events, and waiting for them, sync and async.

A wait may be interrupted between any two steps, so nothing here has a lock that it could leave taken, as those of
`threading.Condition` and `Future`, which are taken in Python code.
"""

from __future__ import annotations

import contextlib
import math
import queue
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio

# A blocking wait cannot be interrupted by Ctrl-C on Windows; so wait in steps.
POLL_S = 0.25

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
        """Again wakes those that an interrupted call has left."""
        self.is_set = True
        self._call_all()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Calls it when the event happens, at once if it has: perhaps more than once."""
        self._callbacks[callback] = None
        if self.is_set:
            self._call_all()

    def remove_callback(self, callback: Callable[[], object]) -> None:
        self._callbacks.pop(callback, None)

    def _call_all(self) -> None:
        for callback in list(self._callbacks):
            callback()
            # Only now: an interrupt before it must not lose the callback.
            self._callbacks.pop(callback, None)


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
            return items.get(timeout=min(left, POLL_S))
    raise queue.Empty


def awaken(happened: asyncio.Event) -> None:
    """Sets an event of the running loop that one task waits for."""
    from asyncio import InvalidStateError

    # A signal may cancel the task between asyncio's look at it and its waking, so that no task waits any more.
    with contextlib.suppress(InvalidStateError):
        happened.set()


async def await_event(event: Event, seconds: float | None) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    happened = asyncio.Event()
    # Weakly: it has the task, which must be collected where its loop was closed before the event.
    waiting = weakref.ref(happened)

    def wake() -> None:
        waits = waiting()
        # The loop may be closed, and then nothing waits.
        with contextlib.suppress(RuntimeError):
            if waits is not None:
                loop.call_soon_threadsafe(awaken, waits)

    event.add_callback(wake)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await happened.wait()
    finally:
        event.remove_callback(wake)
