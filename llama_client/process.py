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


def before_exit(callback: Callable[[], object]) -> None:
    """Registers it with Python, and with multiprocessing, whose processes exit without running `atexit`."""
    # `atexit.unregister` removes only this registration; under multiprocessing the callback may run all the same.
    atexit.register(callback)
    if "multiprocessing" in sys.modules:
        from multiprocessing import parent_process, util

        if parent_process() is not None:
            util.Finalize(None, callback, exitpriority=0)
