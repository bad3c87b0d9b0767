"""Modules that only calls need, imported where no signal's handler runs."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from importlib import import_module

from llama_client.waiting import POLL_S, Event, wait_for_event


def ready(*names: str) -> None:
    """Imports modules, in a thread where this is the main one, so that the statement which follows finds them whole.

    An interrupt within an import may leave Python's import lock taken for good (seen with CPython 3.11), and half of a
    module to those that wait for it. What cannot be imported is said by the statement.
    """
    if threading.current_thread() is not threading.main_thread() or all(map(_is_whole, names)):
        return
    imported = Event()
    try:
        threading.Thread(target=_import, args=(names, imported), name="llama-client-import").start()
    except RuntimeError:  # no more threads are available
        return
    while not imported.is_set:
        wait_for_event(imported, POLL_S)


def _is_whole(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec is not None and not getattr(spec, "_initializing", False)


def _import(names: tuple[str, ...], imported: Event) -> None:
    for name in names:
        with suppress(Exception):
            import_module(name)
    imported.set()
