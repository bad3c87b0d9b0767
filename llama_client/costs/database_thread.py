"""A thread with a connection to the database: how it starts, wakes, ends, and survives forks and exits."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from llama_client.process import at_fork, before_exit, not_before_exit

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from llama_client.costs.database import Storage

# How long others wait for what is left.
CLOSING_S = 5.0
# How long closing waits for the thread's end. One whose database refuses ends sooner; to import SQLAlchemy and to
# connect may take many seconds where much else runs.
_ENDING_S = 10.0
# How long a fork waits for a thread that is using the database, which itself may wait for another process, and then
# try again. A child that is forked in the middle of it can use no database.
_FORK_S = 15.0

# Connections that a forked child inherited open: closing one there would release the parent's locks on the file.
_inherited: list[object] = []

T = TypeVar("T")


class DatabaseThread(ABC, Generic[T]):
    """Base of the ledger's and the budgets' threads. A thread starts at its first use, and again after it has ended."""

    name: ClassVar[str]

    def __init__(self, open_storage: Callable[[], Storage]) -> None:
        self._open_storage = open_storage
        self.is_leaving = False
        self.reset()
        at_fork("before", self._before_fork)
        at_fork("after_in_parent", self._after_fork_in_parent)
        at_fork("after_in_child", self._after_fork_in_child)

    def reset(self) -> None:
        """The state at the start, and in a forked child, which has neither the parent's thread nor its work."""
        # Held while the database is used, so that no fork happens meanwhile.
        self.lock = threading.Lock()
        # What to do, or None: wake at once. A finaliser may put something (see `leave`) in any thread at any moment,
        # also within this class: a `SimpleQueue` is re-entrant, an `Event` is not.
        self.signals: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._storage: Storage | None = None
        self._connection: Connection | None = None
        self._opened = contextlib.ExitStack()
        # The thread that forks, and holds the lock for it; several may fork at once.
        self._held_by: int | None = None

    @abstractmethod
    def work(self) -> None:
        """What the thread does, until `is_leaving`."""

    @abstractmethod
    def has_work(self) -> bool:
        """Whether something came after `work` had decided to return."""

    def start(self) -> None:
        """Starts the thread unless it runs. RuntimeError: the interpreter is exiting, or no thread is left."""
        with self._starting:
            if self.thread is not None:
                return
            if sys.is_finalizing():
                # Before Python 3.12 `Thread.start` waits for ever here.
                raise RuntimeError("the interpreter is exiting")
            before_exit(self.close, writes=True)
            self.thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            try:
                self.thread.start()
            except BaseException:
                # Interrupted, it may run all the same, and then finds that it is not the one.
                self.thread = None
                not_before_exit(self.close)
                raise

    def wake(self) -> None:
        self.signals.put(None)

    def leave(self) -> None:
        """Lets the thread do what is left, and end."""
        self.is_leaving = True
        self.wake()

    def leave_with(self, owner: object) -> None:
        """Calls `leave` when the owner is garbage collected; the thread itself must not refer to it."""
        weakref.finalize(owner, self.leave).atexit = False

    def close(self) -> bool:
        """Leaves, and waits for the end; False: the thread did not end in time."""
        thread = self.thread
        self.leave()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_ENDING_S)
        not_before_exit(self.close)
        return thread is None or not thread.is_alive()

    def connected(self) -> tuple[Storage, Connection]:
        """The database, opened at its first use and after it was closed. Hold `lock` meanwhile."""
        if self._storage is None:
            self._storage = self._open_storage()
        if self._connection is None:
            # Kept open between uses: the last connection to an SQLite file waits for the disk when it closes.
            self._connection = self._opened.enter_context(self._storage.connection())
        return self._storage, self._connection

    def disconnect(self, *, reopens_storage: bool = False) -> None:
        """Closes the connection. Hold `lock` meanwhile. After a failure the storage is opened anew as well."""
        self._connection = None
        if reopens_storage:
            self._storage = None
        # The connection itself may be what is broken.
        with contextlib.suppress(Exception):
            self._opened.close()

    def _run(self) -> None:
        with self._starting:
            if self.thread is not threading.current_thread():
                return
        try:
            self.work()
        finally:
            with self.lock:
                self.disconnect()
            with self._starting:
                self.thread = None
                not_before_exit(self.close)
        if self.has_work():
            with contextlib.suppress(RuntimeError):
                self.start()

    def _before_fork(self) -> None:
        if self.lock.acquire(timeout=_FORK_S):
            self._held_by = threading.get_ident()
            self.disconnect()

    def _after_fork_in_parent(self) -> None:
        if self._held_by == threading.get_ident():
            self._held_by = None
            self.lock.release()

    def _after_fork_in_child(self) -> None:
        if self._held_by != threading.get_ident():
            _inherited.append(self._opened)
        not_before_exit(self.close)
        self.reset()
