"""The life of the process: callbacks around a fork, and before the process exits."""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Literal, get_args

ForkPhase = Literal["before", "after_in_parent", "after_in_child"]

_numbers = itertools.count()
_fork_callbacks: dict[ForkPhase, dict[int, Callable[[], Callable[[], None] | None]]] = {
    phase: {} for phase in get_args(ForkPhase)
}


def at_fork(phase: ForkPhase, callback: Callable[[], None]) -> None:
    """Calls it in that phase of each fork; a bound method as long as its object lives."""
    number, callbacks = next(_numbers), _fork_callbacks[phase]
    if isinstance(callback, MethodType):
        callbacks[number] = weakref.WeakMethod(callback, lambda _: callbacks.pop(number, None))
    else:
        callbacks[number] = lambda: callback


def _run_callbacks(phase: ForkPhase) -> None:
    failure: Exception | None = None
    # A copy: other threads may register meanwhile.
    for reference in [*_fork_callbacks[phase].values()]:
        callback = reference()
        if callback is not None:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - raised below, after the others
                failure = failure or error
    if failure is not None:
        raise failure


if hasattr(os, "register_at_fork"):
    os.register_at_fork(**{phase: partial(_run_callbacks, phase) for phase in _fork_callbacks})


class _ExitCallbacks:
    """What runs before the process exits, in an order that does not depend on when each was added."""

    def __init__(self) -> None:
        self._callbacks: dict[Callable[[], object], bool] = {}
        # The process in which Python and multiprocessing know of this; None: none yet.
        self._pid: int | None = None

    def add(self, callback: Callable[[], object], *, writes: bool) -> None:
        self._callbacks[callback] = writes
        if self._pid == os.getpid():
            return
        # A forked child has inherited the registration with Python.
        atexit.unregister(self._run)
        atexit.register(self._run)
        if "multiprocessing" in sys.modules:
            from multiprocessing import parent_process, util

            if parent_process() is not None:
                # Its processes exit without running `atexit`.
                util.Finalize(None, self._run, exitpriority=0)
        # Only now: an interrupt before it must not lose the registration, and a second one does no harm.
        self._pid = os.getpid()

    def remove(self, callback: Callable[[], object]) -> None:
        self._callbacks.pop(callback, None)

    def _run(self) -> None:
        failure: Exception | None = None
        while self._callbacks:
            # What ends streams comes before what writes their rows. A callback may add another.
            # Other threads may take theirs back meanwhile.
            callback = min([*self._callbacks], key=lambda each: self._callbacks.get(each, True), default=None)
            try:
                if callback is not None and self._callbacks.pop(callback, None) is not None:
                    callback()
            except Exception as error:  # noqa: BLE001 - raised below, after the others
                failure = failure or error
        if failure is not None:
            raise failure


_at_exit = _ExitCallbacks()


def before_exit(callback: Callable[[], object], *, writes: bool = False) -> None:
    """Calls it once before the process exits; those that write what others may still hand to them come last."""
    _at_exit.add(callback, writes=writes)


def not_before_exit(callback: Callable[[], object]) -> None:
    """Takes back `before_exit`."""
    _at_exit.remove(callback)
