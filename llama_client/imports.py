"""Modules that only calls need, imported where no signal's handler runs."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress
from importlib import import_module

from llama_client.waiting import Event, wait_for_event

# A module that waits for what the main thread is just importing waits in vain, which Python itself finds out.
_MOST_S = 10.0


def ready(*names: str) -> None:
    """Imports modules, in a thread where this is the main one, so that the statement which follows finds them whole.

    An interrupt within an import may leave Python's import lock taken for good (seen with CPython 3.11), and half of a
    module to those that wait for it. What cannot be imported is said by the statement.
    """
    if sys.is_finalizing() or threading.current_thread() is not threading.main_thread() or all(map(_is_whole, names)):
        return
    if _is_logging_locked():
        return
    imported = Event()
    try:
        threading.Thread(target=_import, args=(names, imported), name="llama-client-import", daemon=True).start()
    except RuntimeError:  # no more threads are available
        return
    wait_for_event(imported, _MOST_S)


def _is_logging_locked() -> bool:
    """Whether this thread holds the lock that modules need for their loggers, as where a handler of logging is made."""
    is_owned = getattr(getattr(logging, "_lock", None), "_is_owned", None)
    return is_owned is not None and bool(is_owned())


def _is_whole(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec is not None and not getattr(spec, "_initializing", False)


def _import(names: tuple[str, ...], imported: Event) -> None:
    try:
        for name in names:
            # Also what ends a thread: the statement raises it where it belongs.
            with suppress(BaseException):
                import_module(name)
    finally:
        imported.set()
