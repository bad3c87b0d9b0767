"""The life of the process: callbacks around a fork, and before the process exits."""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any, Generic, Literal, Self, TypeVar, get_args, overload

ForkPhase = Literal["before", "after_in_parent", "after_in_child"]

T = TypeVar("T")

_numbers = itertools.count()
_fork_callbacks: dict[ForkPhase, dict[int, Callable[[], Callable[[], None] | None]]] = {
    phase: {} for phase in get_args(ForkPhase)
}


# How long a fork waits for what must not be forked in the middle of, and for another fork.
_FORK_S = 15.0


class _ForkLock:
    """Held by each fork, from its first callback to its last, and by what no child may find half done."""

    def __init__(self) -> None:
        self.after_in_child()

    def after_in_child(self) -> None:
        self._lock = threading.RLock()
        # The thread that forks.
        self._held_by: int | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            yield

    def before(self) -> None:
        if self._lock.acquire(timeout=_FORK_S):
            self._held_by = threading.get_ident()

    def after_in_parent(self) -> None:
        if self._held_by == threading.get_ident():
            self._held_by = None
            self._lock.release()


_fork_lock = _ForkLock()
# For what leaves a lock taken, or other things half done, in a child that is forked meanwhile.
between_forks = _fork_lock.held


def at_fork(phase: ForkPhase, callback: Callable[[], None]) -> None:
    """Calls it in that phase of each fork; a bound method as long as its object lives."""
    number, callbacks = next(_numbers), _fork_callbacks[phase]
    # A fork that has called what came before would miss it: in the child its object would be unprepared.
    with between_forks():
        if isinstance(callback, MethodType):
            # Not a `WeakMethod`: at the end of the interpreter its own callback finds itself gone, and Python says so.
            owner, function = weakref.ref(callback.__self__, lambda _: callbacks.pop(number, None)), callback.__func__
            callbacks[number] = lambda: None if (alive := owner()) is None else partial(function, alive)
        else:
            callbacks[number] = lambda: callback


class computed_once(Generic[T]):  # noqa: N801 - used as a decorator
    """An attribute that is computed at its first use, without a lock: `functools.cached_property` takes one in Python
    3.11, for which a child that is forked meanwhile would wait for ever."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type[object]) -> Self: ...
    @overload
    def __get__(self, owner: object, kind: type[object]) -> T: ...
    def __get__(self, owner: object, kind: type[object]) -> Self | T:
        if owner is None:
            return self
        # Where threads compute it at once, all get the same.
        value: T = vars(owner).setdefault(self._compute.__name__, self._compute(owner))
        return value


def _run_callbacks(phase: ForkPhase) -> None:
    failure: Exception | None = None
    if phase == "before":
        _fork_lock.before()
    elif phase == "after_in_child":
        _fork_lock.after_in_child()
    try:
        # A copy: objects may be collected meanwhile.
        for reference in [*_fork_callbacks[phase].values()]:
            callback = reference()
            if callback is not None:
                try:
                    callback()
                except Exception as error:  # noqa: BLE001 - raised below, after the others
                    failure = failure or error
    finally:
        if phase == "after_in_parent":
            _fork_lock.after_in_parent()
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
