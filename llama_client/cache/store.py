"""The thread that reads and writes the database of answers. A broken, locked or full one fails no call."""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from llama_client.cache.stored import DAMAGED, Stored, packed, unpacked
from llama_client.costs.database_thread import CLOSING_S, DatabaseThread
from llama_client.waiting import Event, wait_for_event

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from llama_client.costs.database import Storage

_log = logging.getLogger("llama_client.cache")
# Without a handler Python prints warnings to standard error; whether to is the program's decision.
_log.addHandler(logging.NullHandler())

# Answers that wait for the database; more are kept in memory alone.
_MOST_WAITING_BYTES = 32 << 20
# Of one query, and of one transaction.
_READ_AT_ONCE, _WRITTEN_AT_ONCE = 100, 200
# Without work for so long, the connection is closed.
_IDLE_S = 1.0
# For so long a database that has failed is not asked again.
_PAUSE_S = 30.0
# The size is looked at after this share of it was written, and the age once an hour.
_CLEANED_SHARE, _CLEANED_S = 1 / 64, 3600.0


class _Read(NamedTuple):
    key: bytes
    found: Callable[[bytes, Stored | None], None]


class AnswerStore(DatabaseThread[None]):
    """What a call hands over is a key and where to put the answer; the call waits for an event, and not for this."""

    name = "llama-client-cache"

    def __init__(
        self,
        open_storage: Callable[[], Storage],
        place_name: str,
        *,
        max_age_s: float,
        max_bytes: int,
        wall: Callable[[], float],
    ) -> None:
        self._place_name = place_name
        self._max_age_s, self._max_bytes, self._wall = max_age_s, max_bytes, wall
        # A longer one would take the place of too many others.
        self.most_bytes = max_bytes // 16
        super().__init__(open_storage)

    def reset(self) -> None:
        super().reset()
        self._reads: deque[_Read] = deque()
        self._writes: deque[tuple[bytes, Stored]] = deque()
        self._waiting_bytes = 0
        self._broken_until = 0.0
        self._has_warned = self._has_more = False
        self._written_bytes = 0
        self._cleaned_at: float | None = None
        # Happens once all that was there has been written.
        self._written = Event()

    def read(self, key: bytes, found: Callable[[bytes, Stored | None], None]) -> bool:
        """Looks for an answer; `found` is called in the thread. False: the database is broken, and is not asked."""
        if time.monotonic() < self._broken_until:
            return False
        self._reads.append(_Read(key, found))
        return self._go()

    def known(self, keys: Collection[bytes], within_s: float) -> set[bytes]:
        """Those of the keys whose answers are there, as far as the database tells within that time."""
        found: set[bytes] = set()
        answered, left = Event(), [*keys]

        def told(key: bytes, stored: Stored | None) -> None:
            if stored is not None:
                found.add(key)
            left.remove(key)
            if not left:
                answered.set()

        if all(self.read(key, told) for key in keys) and keys:
            wait_for_event(answered, within_s)
            if not answered.is_set:
                # A job has many rows, and would wait as long for each hundred.
                self._broken_until = time.monotonic() + _PAUSE_S
        # What comes later changes another one.
        return set(found)

    def write(self, key: bytes, stored: Stored) -> None:
        size = stored.size_bytes
        if size > self.most_bytes or self._waiting_bytes + size > _MOST_WAITING_BYTES:
            return
        self._waiting_bytes += size
        self._writes.append((key, stored))
        self._go()

    def _go(self) -> bool:
        try:
            self.start()
        except RuntimeError:
            # The interpreter is exiting, or no thread is left.
            return False
        self.wake()
        return True

    def flush(self, within_s: float = CLOSING_S) -> bool:
        """Waits until every answer so far is on disk; False: not in time."""
        if self._writes and self._go():
            wait_for_event(self._written, within_s)
        return not self._writes

    def has_work(self) -> bool:
        return bool(self._reads or self._writes)

    def work(self) -> None:
        while True:
            try:
                self.signals.get(timeout=0.0 if self._has_more else _IDLE_S)
            except queue.Empty:
                if not self._has_more:
                    with self.lock:
                        self.disconnect()
                    if not (self.is_leaving or self.has_work()):
                        self.signals.get()
            self._work_once()
            if self.is_leaving and not self.has_work():
                return

    def _work_once(self) -> None:
        try:
            with self.lock:
                while self.has_work():
                    self._read_some()
                    self._write_some()
                # One that leaves does not stay for all of it, and the next one goes on.
                self._has_more = self._clean() and not self.is_leaving
        except Exception as error:  # noqa: BLE001 - calls go on whatever it is; logged once
            self._warn(error)
            self._broken_until = time.monotonic() + _PAUSE_S
            with self.lock:
                self.disconnect(reopens_storage=True)
            self._give_up()
        self._has_written()

    def _connected(self) -> Connection:
        from llama_client.cache.tables import require_impatient

        is_new = self._connection is None
        storage, connection = self.connected()
        if is_new:
            require_impatient(connection)
        with storage.place.errors():
            storage.require_same_file()
        return connection

    def _read_some(self) -> None:
        from llama_client.cache.tables import find

        reads = [self._reads[index] for index in range(min(len(self._reads), _READ_AT_ONCE))]
        if not reads:
            return
        connection = self._connected()
        found = find(connection, [read.key for read in reads], round(self._wall() - self._max_age_s))
        for read in reads:
            self._reads.popleft()
            read.found(read.key, self._unpacked(found.get(read.key)))

    def _unpacked(self, value: bytes | None) -> Stored | None:
        if value is None:
            return None
        try:
            # Of repeated text, zlib makes a thousandth.
            return unpacked(value, max(self.most_bytes, len(value)) * 2)
        except DAMAGED as error:
            self._warn(error)
            return None

    def _write_some(self) -> None:
        from llama_client.cache.tables import write

        if not self._writes:
            return
        waiting = [self._writes[index] for index in range(min(len(self._writes), _WRITTEN_AT_ONCE))]
        # Of equal keys the last one counts: no statement may write a row twice.
        rows = {key: (key, round(stored.at), packed(stored)) for key, stored in waiting}
        write(self._connected(), list(rows.values()))
        self._written_bytes += sum(len(value) for _, _, value in rows.values())
        self._forget(len(waiting))

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._waiting_bytes -= self._writes.popleft()[1].size_bytes

    def _clean(self) -> bool:
        """Deletes what is too old or too much, some at a time; True: more is left."""
        from llama_client.cache.tables import clean

        now = time.monotonic()
        is_due = self._cleaned_at is None or now - self._cleaned_at > _CLEANED_S
        if self._connection is None or not (
            is_due or self._has_more or self._written_bytes > self._max_bytes * _CLEANED_SHARE
        ):
            return False
        self._cleaned_at, self._written_bytes = now, 0
        return clean(self._connected(), round(self._wall() - self._max_age_s), self._max_bytes)

    def _give_up(self) -> None:
        """Answers who waits, and lets go of what cannot be written."""
        while self._reads:
            read = self._reads.popleft()
            read.found(read.key, None)
        self._forget(len(self._writes))

    def _has_written(self) -> None:
        written, self._written = self._written, Event()
        written.set()

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            text = "the cache %s cannot be used (%s); calls are made without it, and it is tried again later"
            _log.warning(text, self._place_name, error)
