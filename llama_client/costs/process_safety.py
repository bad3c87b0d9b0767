"""Fork and exit safety: databases are released before a fork, and threads finish before the process exits."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable


def before_the_end(do: Callable[[], None]) -> None:
    """Registers it with Python, and with multiprocessing, whose processes end without Python's own handlers.

    `atexit.unregister` takes it back; what multiprocessing was given may come all the same.
    """
    atexit.register(do)
    if "multiprocessing" in sys.modules:
        from multiprocessing import parent_process, util

        if parent_process() is not None:
            util.Finalize(None, do, exitpriority=0)


# How long a fork waits for a thread that waits for a database.
_PATIENCE_S = 5.0

_gates: dict[int, weakref.ref[ForkGate]] = {}
# What a child was left with all the same; to close it there would take the parent's locks away.
_inherited: list[ForkGate] = []
_registering = threading.Lock()
_is_registered = False


class ForkGate:
    """Passed by a thread for as long as it works with a database."""

    __slots__ = ("__weakref__", "_is_shut", "_let_go", "_lock")

    def __init__(self, let_go: Callable[[], None]) -> None:
        self._let_go = let_go
        self._lock = threading.Lock()
        self._is_shut = False
        _watch(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def shut(self) -> None:
        """The process is about to fork."""
        self._is_shut = self._lock.acquire(timeout=_PATIENCE_S)
        if self._is_shut:
            self._let_go()

    def reopen(self) -> None:
        """It has forked, and this is the parent."""
        if self._is_shut:
            self._is_shut = False
            self._lock.release()

    def keep(self) -> None:
        """It has forked, and this is the child."""
        if self._is_shut:
            self.reopen()
        else:
            _inherited.append(self)


def _watch(gate: ForkGate) -> None:
    global _is_registered
    key = id(gate)
    _gates[key] = weakref.ref(gate, lambda _: _gates.pop(key, None))
    with _registering:
        if not _is_registered and hasattr(os, "register_at_fork"):
            _is_registered = True
            os.register_at_fork(
                before=lambda: _for_all(ForkGate.shut),
                after_in_parent=lambda: _for_all(ForkGate.reopen),
                after_in_child=lambda: _for_all(ForkGate.keep),
            )


def _for_all(do: Callable[[ForkGate], None]) -> None:
    for reference in [*_gates.values()]:
        gate = reference()
        if gate is not None:
            do(gate)
