"""The engines loaded by this process: one for each model file and options, closed with its last lease."""

from __future__ import annotations

import os
import threading

from llama_client import process
from llama_client.providers.gguf.engine import Engine, EngineOptions


class _Entry:
    def __init__(self) -> None:
        self.users: set[EngineLease] = set()
        self.loading = threading.Lock()
        self.engine: Engine | None = None


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entries: dict[EngineOptions, _Entry] = {}
        self.has_loaded = False


_registry = _Registry()
# A fork copies engines without their threads: in the child they can be neither used nor freed, so they are kept.
# Engines that the child loads are kept too: the library aborts a forked process that destroys one.
_inherited: list[_Registry] = []
_kept: list[Engine] = []


class EngineLease:
    """The right to use an engine until `release`."""

    def __init__(self, options: EngineOptions, entry: _Entry) -> None:
        self._options = options
        self._entry = entry
        self._process = os.getpid()
        self._engine: Engine | None = None
        self._is_released = False

    @property
    def engine(self) -> Engine:
        assert self._engine is not None
        return self._engine

    def load(self) -> None:
        entry = self._entry
        with entry.loading:
            if entry.engine is None:
                entry.engine = Engine(self._options)
                _registry.has_loaded = True
            self._engine = entry.engine

    @property
    def is_usable(self) -> bool:
        """False in a process forked from the one that loaded the engine."""
        return self._process == os.getpid()

    def release(self) -> None:
        """Returns the engine; the last lease closes it. Further calls do nothing."""
        if self._is_released or not self.is_usable:
            return
        if self._engine is not None:
            self._engine.abort(self)
        _give_back(self._options, self._entry, self)
        # Only now: an interrupt may have cut off an earlier call.
        self._is_released = True


def lease(options: EngineOptions) -> EngineLease:
    """The engine for these options, loaded if it is not; blocks while it loads."""
    with _registry.lock:
        entry = _registry.entries.setdefault(options, _Entry())
        taken = EngineLease(options, entry)
        entry.users.add(taken)
    try:
        taken.load()
    except BaseException:
        taken.release()
        raise
    return taken


def _give_back(options: EngineOptions, entry: _Entry, taken: EngineLease) -> None:
    with _registry.lock:
        entry.users.discard(taken)
        if entry.users:
            return
        if _registry.entries.get(options) is entry:
            del _registry.entries[options]
    if entry.engine is None:
        return
    if any(registry.has_loaded for registry in _inherited):
        _kept.append(entry.engine)
    else:
        entry.engine.close()


def _start_afresh() -> None:
    global _registry
    _inherited.append(_registry)
    _registry = _Registry()


process.at_fork("after_in_child", _start_afresh)
