"""A thread that ends what is dropped. A finaliser only tells it: it runs at any allocation, in any thread, also while
that thread holds a lock or is in the middle of an update."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import sys
import threading
import weakref
from collections import deque
from typing import Protocol

from llama_client.process import at_fork, before_exit

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
        """Ends it; nothing where it has ended. It must not refer to that object."""


class _Mark:
    """Reached once everything before it has ended."""

    def __init__(self) -> None:
        self.reached: queue.SimpleQueue[None] = queue.SimpleQueue()

    def end(self) -> None:
        self.reached.put(None)


class Reaper:
    """Holds what is open, and ends what was dropped. Its thread starts with the first thing to hold."""

    def __init__(self) -> None:
        self._reset()
        at_fork("after_in_child", self._after_fork_in_child)

    def _reset(self) -> None:
        self.pid = os.getpid()
        self._held: set[Ending] = set()
        # Appending and taking are atomic, so that this needs no lock.
        self.dropped: deque[Ending] = deque()
        # The only queue with a `put` that may be called within itself.
        self._signals: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self.is_busy = self._is_late = self._is_leaving = False

    def hold(self, ending: Ending) -> None:
        self._held.add(ending)
        if self._thread is None:
            self._start()

    def release(self, ending: Ending) -> None:
        """It has ended by itself."""
        self._held.discard(ending)
        if self._is_leaving:
            self._signals.put(None)

    def drop(self, ending: Ending) -> None:
        """Queues it for the thread. Takes no lock and does no I/O: for finalisers."""
        self.dropped.append(ending)
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
        """Lets the thread end once nothing is held. Takes no lock: for finalisers."""
        self._is_leaving = True
        self._signals.put(None)

    def leave_with(self, owner: object) -> None:
        """Calls `leave` when the owner is garbage collected; what is held must not refer to it."""
        weakref.finalize(owner, self.leave).atexit = False

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
            thread = threading.Thread(target=self._run, name="llama-client-reaper", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except BaseException as error:
                self._thread = None
                if not isinstance(error, RuntimeError):
                    raise
                # No thread is left: callers that settle end what was dropped.
                return
            before_exit(self._end_all)

    def _run(self) -> None:
        try:
            while not self._is_leaving or self._held or self.dropped:
                self._signals.get()
                self._end_dropped()
        finally:
            with self._starting:
                self._thread = None
                atexit.unregister(self._end_all)
            if self._held or self.dropped:
                self._start()

    def _end_dropped(self) -> None:
        self.is_busy = True
        try:
            # Without a thread, several callers may be here.
            with contextlib.suppress(IndexError):
                while True:
                    self._end(self.dropped.popleft())
                    self._is_late = False
        finally:
            self.is_busy = False

    def _end(self, ending: Ending) -> None:
        try:
            ending.end()
        except Exception as error:  # noqa: BLE001 - a third-party provider may raise anything, and no caller waits
            _log.warning("%s was dropped, and failed to end: %s", type(ending).__name__, type(error).__name__)
        finally:
            self._held.discard(ending)

    def _end_all(self) -> None:
        """Before the process exits: what is open is ended too, so that it is recorded."""
        self.dropped.extend([*self._held])
        self.settle(_EXIT_S)

    def _after_fork_in_child(self) -> None:
        _inherited.append((self._held, self.dropped))
        self._reset()
