"""The cache of a process: the answers in memory, and the database behind them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

import platformdirs

from llama_client.cache.memory import AnswerMemory, Flight, Looking, Pending
from llama_client.cache.store import AnswerStore
from llama_client.config.environment import CACHE_VARIABLE
from llama_client.config.load import APP_NAME, expanded
from llama_client.costs.accounting import Database
from llama_client.imports import ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llama_client.cache.stored import Stored
    from llama_client.config.schema import Config
    from llama_client.costs.database import Storage
    from llama_client.local_only import ConnectionGuard
    from llama_client.providers.base import Provider

# Of the answers in memory, which take a little more than their bytes.
_MEMORY_BYTES = 64 << 20
# How long a call waits for the database, which is then asked for the next ones again.
_READ_S = 5.0
_DAY_S = 86_400.0


# Programs may make up names of models.
_MOST_IDENTIFIED = 4096


class Named(Protocol):
    """A target."""

    @property
    def name(self) -> str: ...

    @property
    def provider(self) -> Provider: ...

    @property
    def model(self) -> str: ...


def identity_of(provider: Provider, model: str) -> str | None:
    """What answers, beside the request; None: the provider does not tell."""
    try:
        # A package's own may be no subclass of `Provider`.
        identity = getattr(provider, "model_identity", _unknown)(model)
    except Exception:  # noqa: BLE001 - a package's own may raise anything, and then its answers are not kept
        return None
    return identity if isinstance(identity, str) else None


def _unknown(_model: str) -> None:
    return None


class AnswerCache:
    """Shared by the clients of a process that have the same settings, so that their calls find each other."""

    def __init__(self, most_bytes: int, max_age_s: float, store: AnswerStore | None) -> None:
        self.max_age_s = max_age_s
        self.memory = AnswerMemory(min(most_bytes, _MEMORY_BYTES), max_age_s)
        # Names of targets whose files were looked at.
        self.identified: set[str] = set()
        self._store = store
        self._users: set[int] = set()
        if store is not None:
            store.leave_with(self)

    def get(self, key: bytes, now: float) -> Stored | None:
        return self.memory.get(key, now)

    def turn(self, looking: Looking, monotonic: float) -> Pending | None:
        """What a call that found nothing in memory is to do: wait for this, or, None, ask."""
        flight = looking.flight
        pending = self.memory.turn(looking, monotonic)
        if pending is not None or looking.is_alone or self._store is None or flight.found.is_set:
            return pending
        if flight.is_reading:
            # It took too long: the call does without.
            flight.found.set()
            return None
        flight.is_reading = True
        if not self._store.read(flight.key, self._finder(flight)):
            return None
        return Pending(flight.found, min(_READ_S, looking.until - monotonic))

    def _finder(self, flight: Flight) -> Callable[[bytes, Stored | None], None]:
        memory = self.memory

        def found(key: bytes, stored: Stored | None) -> None:
            if stored is not None:
                memory.put(key, stored)
            flight.found.set()

        return found

    def known(self, keys: Iterable[bytes], now: float) -> set[bytes]:
        """Those of the keys whose answers are there. Waits for the database, asked about all at once."""
        wanted = set(keys)
        found = {key for key in wanted if self.memory.get(key, now) is not None}
        if self._store is not None:
            found |= self._store.known(wanted - found, _READ_S)
        return found

    def put(self, key: bytes, stored: Stored) -> bool:
        """False: it is too large for those who wait to find it in memory."""
        if self._store is not None:
            self._store.write(key, stored)
        return self.memory.put(key, stored)

    def identify(self, targets: Iterable[Named]) -> None:
        """Lets targets find out what they are, which some keep."""
        if len(self.identified) > _MOST_IDENTIFIED:
            self.identified.clear()
        for target in targets:
            identity_of(target.provider, target.model)
            self.identified.add(target.name)

    def enter(self, user: object) -> None:
        self._users.add(id(user))

    def close(self, user: object) -> None:
        """Waits until all answers are on disk; with the last client the thread ends, and what is in memory is gone."""
        self._users.discard(id(user))
        if self._store is None:
            return
        if self._users:
            self._store.flush()
            return
        for key, cache in list(_shared.items()):
            if cache is self:
                _shared.pop(key, None)
        self._store.close()


_Key = tuple[object, ...]
# By settings; each goes with the last of its clients.
_shared: WeakValueDictionary[_Key, AnswerCache] = WeakValueDictionary()


def cache_file() -> Path:
    """In the user's cache folder, or in `$LLAMA_CLIENT_CACHE_DIR`."""
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = expanded(chosen) if chosen else platformdirs.user_cache_path(APP_NAME, appauthor=False)
    return folder / "answers.db"


def database_of(config: Config, guard: ConnectionGuard) -> Database:
    """The database that a configuration names for its cache, whether that is on or off."""
    table = config.cache
    return Database(table.url, guard, rule="cache", file=cache_file(), is_used=table.enabled)


def open_cache(config: Config, guard: ConnectionGuard, wall: Callable[[], float]) -> AnswerCache | None:
    """The cache that a configuration names; None: it is off."""
    table = config.cache
    if not table.enabled:
        return None
    database = database_of(config, guard)
    most_bytes, max_age_s = table.max_mib << 20, table.max_age_days * _DAY_S
    if database.is_in_memory:
        return AnswerCache(most_bytes, max_age_s, None)

    def opened() -> AnswerCache:
        store = AnswerStore(
            lambda: _storage(database), database.name, max_age_s=max_age_s, max_bytes=most_bytes, wall=wall
        )
        return AnswerCache(most_bytes, max_age_s, store)

    if guard.local_only:
        # Its connections are those of its own guard.
        return opened()
    key = (table.url.get_secret_value(), database.name, most_bytes, max_age_s)
    return _shared.setdefault(key, opened())


def _storage(database: Database) -> Storage:
    ready("llama_client.cache.tables")
    from llama_client.cache.tables import AnswerStorage

    return AnswerStorage(database.place())
