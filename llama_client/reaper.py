"""A thread that ends what is dropped. A finaliser only tells it: it runs at any allocation, in any thread, also while
that thread holds a lock or is in the middle of an update.

It is also the last resort for what an interrupt cut off: Python raises KeyboardInterrupt between any two steps of the
main thread, in handlers and finalisers too, and never in this thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
import weakref
from collections import deque
from typing import Any, Protocol

from llama_client.process import at_fork, before_exit, not_before_exit

# How long a caller waits for the thread. It only takes so long where the caller is a finaliser itself, and the thread
# waits for a lock that is held below it.
_SETTLE_S = 1.0
# The same before the process exits: a model in memory takes a while to end.
_EXIT_S = 15.0

_log = logging.getLogger("llama_client.reaper")
# Without a handler Python would print warnings to standard error; that is the program's to decide.
_log.addHandler(logging.NullHandler())

# What forked processes inherited, which is their parents' to end. Kept, so that no finaliser ends it there.
_inherited: list[object] = []


class Ending(Protocol):
    """What must be ended, also after the object that a program had of it is gone."""

    def end(self) -> None:
        """Ends it, or what is left of that; nothing where it has ended. It must not refer to that object."""


# To the owner of what is held: it puts itself into the reaper's queue when the owner is gone. That is a method in C,
# as an interrupt could cut off one in Python.
Hold = weakref.ref[Any]


class Reaper:
    """Holds what is open, and ends what was dropped. Its thread starts with the first thing to hold."""

    def __init__(self) -> None:
        self._reset()
        at_fork("after_in_child", self._after_fork_in_child)

    def _reset(self) -> None:
        self.pid = os.getpid()
        # With what wakes the thread, for the same owner.
        self._held: dict[Hold, tuple[Ending, Hold]] = {}
        # Appending and taking are atomic, so that this needs no lock.
        self.dropped: deque[Hold | _Mark] = deque()
        # The only queue with a `put` that may be called within itself.
        self._signals: queue.SimpleQueue[Hold | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._owner: Hold | None = None
        self.is_busy = self._is_late = self._is_leaving = False

    def hold(self, owner: object, ending: Ending) -> Hold:
        """Ends it once the owner is gone, unless it was released before."""
        # The one that was made last is called first.
        waker = weakref.ref(owner, self._signals.put)
        hold = weakref.ref(owner, self.dropped.append)
        self._held[hold] = ending, waker
        if self._thread is None:
            self._start()
        return hold

    def release(self, hold: Hold) -> None:
        """It has ended by itself."""
        self._held.pop(hold, None)
        if self._is_leaving:
            self._signals.put(None)

    def drop(self, dropped: Hold | _Mark) -> None:
        """Queues it for the thread. Takes no lock and does no I/O: for finalisers."""
        self.dropped.append(dropped)
        self._signals.put(None)

    def settle(self, within_s: float = _SETTLE_S) -> bool:
        """Waits until everything that was dropped so far has ended; False: not in time."""
        if not self.dropped and not self.is_busy:
            return True
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            self._end_dropped()
            return True
        mark = _Mark()
        self.drop(mark)
        # After one wait that was too short, callers wait no more until the thread is back: a finaliser may close many
        # streams.
        with contextlib.suppress(queue.Empty):
            mark.reached.get(timeout=0.0 if self._is_late else within_s)
            return True
        self._is_late = True
        return False

    def leave(self) -> None:
        """Lets the thread end once nothing is held."""
        self._is_leaving = True
        self._signals.put(None)

    def leave_with(self, owner: object) -> None:
        """Calls `leave` when the owner is garbage collected; what is held must not refer to it."""
        self._owner = weakref.ref(owner, self._signals.put)

    def close(self) -> None:
        """Ends what was dropped, and the thread once nothing is held."""
        self.settle()
        self.leave()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and not self._held:
            thread.join(_SETTLE_S)

    def _start(self) -> None:
        with self._starting:
            # Before Python 3.12 `Thread.start` waits for ever in an interpreter that is exiting.
            if self._thread is not None or sys.is_finalizing():
                return
            before_exit(self._end_all)
            thread = threading.Thread(target=self._run, name="llama-client-reaper", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except BaseException as error:
                # Interrupted, it may run all the same, and then finds that it is not the one.
                self._thread = None
                not_before_exit(self._end_all)
                if not isinstance(error, RuntimeError):
                    raise
                # No thread is left: callers that settle end what was dropped.

    def _run(self) -> None:
        with self._starting:
            if self._thread is not threading.current_thread():
                return
        try:
            while not self._is_leaving or self._held or self.dropped:
                signal = self._signals.get()
                if signal is not None and signal is self._owner:
                    self._is_leaving = True
                del signal
                self._end_dropped()
        finally:
            with self._starting:
                self._thread = None
                not_before_exit(self._end_all)
            if self._held or self.dropped:
                self._start()

    def _end_dropped(self) -> None:
        self.is_busy = True
        try:
            # Without a thread, several callers may be here.
            with contextlib.suppress(IndexError, ValueError):
                while True:
                    dropped = self.dropped[0]
                    self._end(dropped)
                    # Only now: an interrupt before it must not lose it.
                    self.dropped.remove(dropped)
                    self._is_late = False
        finally:
            self.is_busy = False

    def _end(self, dropped: Hold | _Mark) -> None:
        if isinstance(dropped, _Mark):
            dropped.reached.put(None)
            return
        ending, _ = self._held.get(dropped, (None, None))
        if ending is None:
            return
        try:
            ending.end()
        except Exception as error:  # noqa: BLE001 - a third-party provider may raise anything, and no caller waits
            _log.warning("%s was dropped, and failed to end: %s", type(ending).__name__, type(error).__name__)
        self._held.pop(dropped, None)

    def _end_all(self) -> None:
        """Before the process exits: what is open is ended too, so that it is recorded."""
        self.dropped.extend(list(self._held))
        self.settle(_EXIT_S)

    def _after_fork_in_child(self) -> None:
        owner = self._owner
        _inherited.append((self._held, self.dropped, self._signals, owner))
        self._reset()
        program = None if owner is None else owner()
        if program is not None:
            self.leave_with(program)


class _Mark:
    """Reached once everything before it has ended."""

    def __init__(self) -> None:
        self.reached: queue.SimpleQueue[None] = queue.SimpleQueue()
