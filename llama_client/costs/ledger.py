"""The ledger: each attempt as a row, written by one thread off the call's path."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from llama_client.costs.money import to_pico
from llama_client.costs.process_safety import ForkGate, before_the_end

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy.engine import Connection

    from llama_client.costs.bills import Tokens
    from llama_client.costs.database import Storage
    from llama_client.types.completion import Attempt


# What `counts` of a row holds, so that a report only has to add: whether it is the first row of its call, the first of
# it that asked its provider, and its target; the same for rows whose cost is unknown; and whether the attempt failed.
CALL, PROVIDER, TARGET, UNPRICED_CALL, UNPRICED_PROVIDER, UNPRICED_TARGET, ERROR = (1 << bit for bit in range(7))
COLUMNS = (
    "at_us", "request_id", "number", "label_id", "outcome", "error", "http_status", "input_tokens", "output_tokens",
    "cached_tokens", "reasoning_tokens", "tokens_are_estimated", "usd_pico", "input_usd_pico", "cached_usd_pico",
    "output_usd_pico", "cost_status", "cost_source", "price_effective_from", "latency_us", "ttft_us", "counts",
)  # fmt: skip
_NO_TOKENS = (None, None, None, None, 0)
_NO_MONEY = (None,) * 7
Words = tuple[str | None, str, str, tuple[tuple[str, str], ...]]
# A database's whole numbers have 64 bits; no honest count has so many.
_MAX = 2**62


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt."""

    at: float
    request_id: str
    number: int
    route: str | None
    provider: str
    model: str
    tags: Mapping[str, str]
    attempt: Attempt
    tokens: Tokens | None
    counts: int

    def label(self) -> tuple[int, dict[str, Any]]:
        """The row's words as a row of their own, and its id."""
        words = (
            None if self.route is None else _storable(self.route),
            _storable(self.provider),
            _storable(f"{self.provider}/{self.model}"),
            _storable(self.model),
            _storable(json.dumps(self.tags, sort_keys=True, ensure_ascii=False)),
        )
        digest = blake2b(json.dumps(words).encode(), digest_size=8).digest()
        identity = int.from_bytes(digest, "big", signed=True)
        return identity, dict(
            zip(("id", "route", "provider", "target", "model", "tags"), (identity, *words), strict=True)
        )

    @property
    def words(self) -> Words:
        """What its label hangs on, to be looked up by."""
        return self.route, self.provider, self.model, tuple(self.tags.items())

    def values(self, label_id: int) -> tuple[Any, ...]:
        """The row as the database takes it, in the order of `COLUMNS`."""
        attempt, tokens, cost = self.attempt, self.tokens, self.attempt.cost
        money: tuple[Any, ...] = _NO_MONEY
        if cost is not None:
            begun = None if cost.effective_from is None else cost.effective_from.isoformat()
            amounts = (cost.usd, cost.input_usd, cost.cached_usd, cost.output_usd)
            money = (*(_pico(usd) for usd in amounts), cost.status, cost.source, begun)
        counts: tuple[Any, ...] = _NO_TOKENS
        if tokens is not None:
            counts = (
                _bounded(tokens.input_tokens),
                _bounded(tokens.output_tokens),
                _bounded(tokens.cached_tokens),
                _bounded(tokens.reasoning_tokens),
                int(tokens.are_estimated),
            )
        return (
            round(self.at * 1e6),
            self.request_id,
            self.number,
            label_id,
            attempt.outcome,
            attempt.error,
            attempt.http_status,
            *counts,
            *money,
            _microseconds(attempt.latency_s),
            _microseconds(attempt.ttft_s),
            self.counts,
        )


def _storable(text: str) -> str:
    """Text that every database takes: PostgreSQL has no NUL, and UTF-8 no halves of characters."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _bounded(number: int | None) -> int | None:
    return number if number is None or -_MAX <= number <= _MAX else min(max(number, -_MAX), _MAX)


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else _bounded(round(seconds * 1e6))


def _pico(usd: Decimal | None) -> int | None:
    return None if usd is None else _bounded(to_pico(usd))


_log = logging.getLogger("llama_client.ledger")
# Where nobody has set up logging, Python would print warnings to standard error; that is the program's to decide.
_log.addHandler(logging.NullHandler())

# Rows that wait for the database; about 1 kB each.
MAX_QUEUED = 20_000
# What one transaction writes, so that others get their turn.
_MAX_BATCH = 5_000
# Sets of words whose row is known to be there.
_MAX_LABELS = 4_096
# How long closing waits for the last rows.
CLOSING_S = 5.0
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 30.0
# The database is let go of when no row has come for so long.
_IDLE_S = 1.0
_DAY_S, _LABELS_S = 86_400.0, 3_600.0
_DELETED_AT_ONCE = 5_000


class Ledger:
    """Takes rows without any I/O. Its writer starts with the first row, and anew in a forked process."""

    def __init__(
        self,
        open_storage: Callable[[], Storage],
        name: str,
        *,
        flush_interval_s: float,
        retention_days: int,
        wall: Callable[[], float],
    ) -> None:
        self._make = partial(_Writer, open_storage, name, flush_interval_s, retention_days, wall)
        # Whether its writer was started.
        self.is_open = False
        self._is_closed = False
        self._writer = self._make()
        self._signal = weakref.finalize(self, _end, [self._writer])
        self._signal.atexit = False

    def put(self, row: Row) -> bool:
        """Hands over a row; False where it did not fit."""
        if not self._is_closed:
            return (self._writer if self._writer.pid == os.getpid() else self._mine()).put(row)
        # Of a stream that was still open: it ends when it is read on, or dropped.
        writer = self._make()
        is_kept = writer.put(row)
        writer.leave()
        return is_kept

    def count_unrecorded(self) -> None:
        """Counts a call of which a row did not fit."""
        self._mine().count()

    @property
    def unrecorded_calls(self) -> int:
        """Calls of this process that are not recorded, and not counted in the database either."""
        return self._mine().unrecorded

    def open(self) -> None:
        """Starts the writer, so that the database is open when the first row comes."""
        self._mine().start()
        self.is_open = True

    def flush(self, within_s: float = CLOSING_S) -> bool:
        """Waits until everything that was put so far is on disk; tells whether it is."""
        return self._mine().flush(within_s)

    def close(self) -> None:
        """Writes what is left, and ends the writer. What comes later is still written, by one of its own."""
        self._is_closed = True
        self._mine().close(CLOSING_S)

    def _mine(self) -> _Writer:
        if self._writer.pid != os.getpid():
            # The parent writes what it was given; its thread and its locks are not here.
            self._writer = self._make()
            self._signal.detach()
            self._signal = weakref.finalize(self, _end, [self._writer])
            self._signal.atexit = False
        return self._writer


def _end(writers: list[_Writer]) -> None:
    """The ledger was dropped: its writer writes what it has, and ends."""
    for writer in writers:
        writer.leave()


class _Writer:
    """The thread, and what it has to write."""

    def __init__(
        self,
        open_storage: Callable[[], Storage],
        name: str,
        flush_interval_s: float,
        retention_days: int,
        wall: Callable[[], float],
    ) -> None:
        self.pid = os.getpid()
        self.unrecorded = 0
        self._open_storage = open_storage
        self._name = name
        # The wait, and as long again for writing.
        self._pause_s = flush_interval_s / 2
        self._retention_s = retention_days * _DAY_S
        self._wall = wall
        self._storage: Storage | None = None
        self._connection: Connection | None = None
        self._opened = contextlib.ExitStack()
        self._gate = ForkGate(self._let_go)
        self._queue: deque[Row] = deque()
        # Rows may be put by the garbage collector, which ends a dropped stream in whichever thread it runs, so also in
        # one that is in the middle of this: a `SimpleQueue` takes that, where an `Event` would wait for itself. True:
        # at once; False: a row has come.
        self._signals: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._is_awake = False
        self._first_at = 0.0
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._is_leaving = False
        self._done = 0
        self._progress = threading.Condition()
        self._labels: OrderedDict[Words, int] = OrderedDict()
        self._has_warned = False
        self._cleaned_at: float | None = None
        self._has_old = False
        self._labels_at: float | None = None

    def put(self, row: Row) -> bool:
        if len(self._queue) >= MAX_QUEUED or self._is_leaving:
            return False
        self._queue.append(row)
        if self._thread is None:
            self.start()
        if not self._is_awake:
            self._is_awake = True
            self._first_at = time.monotonic()
            self._signals.put(False)
        return True

    def count(self) -> None:
        with self._progress:
            self.unrecorded += 1

    def flush(self, within_s: float) -> bool:
        if self._thread is None:
            return True
        with self._progress:
            wanted = self._done + len(self._queue)
            self._signals.put(True)
            self._progress.wait_for(lambda: self._done >= wanted or not self._is_alive(), within_s)
            return self._done >= wanted

    def close(self, within_s: float) -> None:
        self.leave()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(within_s)
            if self._thread.is_alive():
                _log.warning("the ledger %s: %d rows could not be written in time", self._name, len(self._queue))
        atexit.unregister(self._at_exit)

    def leave(self) -> None:
        """Asks the thread to write what it has, and to end."""
        self._is_leaving = True
        self._signals.put(True)

    def _is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread, unless it runs."""
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="llama-client-ledger", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, or has no thread left
                return
            self._thread = thread
            before_the_end(self._at_exit)

    def _at_exit(self) -> None:
        if self.pid == os.getpid():
            self.close(CLOSING_S)

    def _run(self) -> None:
        try:
            self._write_until_the_end()
        finally:
            self._let_go_safely()
            atexit.unregister(self._at_exit)

    def _write_until_the_end(self) -> None:
        retry_s = _FIRST_RETRY_S
        # It takes a third of a second to import and to open the database: done before the first row comes, if may be.
        self._signals.put(True)
        while True:
            if not self._next_signal():
                # What came while this was busy has waited already.
                self._wait(self._first_at + self._pause_s - time.monotonic())
            # Who puts a row from here on says so again.
            self._is_awake = False
            try:
                with self._gate:
                    self._write_all()
                retry_s = _FIRST_RETRY_S
            except Exception as error:  # noqa: BLE001 - whatever it is, calls go on; it is said once
                self._warn(error)
                # Whatever has become of it, even that it is gone: it is brought up to date again.
                self._let_go_safely()
                self._storage = None
                self._labels.clear()
                with self._progress:
                    self._progress.notify_all()
                if self._is_leaving:
                    with self._progress:
                        self.unrecorded += len({row.request_id for row in self._queue})
                    return
                self._wait(retry_s)
                retry_s = min(retry_s * 2, _LONGEST_RETRY_S)
                self._signals.put(True)
            if self._is_leaving and not self._queue:
                return

    def _next_signal(self) -> bool:
        """Waits until there is something to do; tells whether at once."""
        try:
            return self._signals.get(timeout=_IDLE_S)
        except queue.Empty:
            self._let_go_safely()
            return self._signals.get()

    def _connected(self) -> tuple[Storage, Connection]:
        if self._storage is None:
            self._storage = self._open_storage()
        if self._connection is None:
            # Not closed after each batch: where nobody else has the file open, SQLite then waits for the disk.
            self._connection = self._opened.enter_context(self._storage.connection())
        return self._storage, self._connection

    def _let_go_safely(self) -> None:
        with self._gate:
            self._let_go()

    def _let_go(self) -> None:
        self._connection = None
        # It may be the connection that is broken.
        with contextlib.suppress(Exception):
            self._opened.close()

    def _wait(self, seconds: float) -> None:
        """Lets time pass, unless somebody is in a hurry."""
        until = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while not self._signals.get(timeout=max(until - time.monotonic(), 0.0)):
                pass

    def _write_all(self) -> None:
        storage, connection = self._connected()
        with storage.told():
            storage.require_same_file()
            self._write_queued(connection)
            if self._clean(connection):
                # More is left, but what has come meanwhile does not wait for it.
                self._signals.put(True)

    def _write_queued(self, connection: Connection) -> None:
        while self._queue or self.unrecorded:
            # They stay in the queue until they are written.
            batch = [self._queue[index] for index in range(min(len(self._queue), _MAX_BATCH))]
            try:
                self._insert(connection, batch)
                self._written(len(batch))
            except _of_a_value() as error:
                # One of them has no form in the database; the others have. What else fails is the database itself.
                self._warn(error)
                self._write_singly(connection, batch)

    def _written(self, rows: int) -> None:
        with self._progress:
            for _ in range(rows):
                self._queue.popleft()
            self._done += rows
            self._progress.notify_all()

    def _write_singly(self, connection: Connection, batch: Sequence[Row]) -> None:
        for row in batch:
            try:
                self._insert(connection, [row])
            except _of_a_value() as error:
                self._warn(error)
                self.count()
            self._written(1)

    def _insert(self, connection: Connection, batch: Sequence[Row]) -> None:
        from llama_client.costs.database import unrecorded

        values: list[tuple[Any, ...]] = []
        new: dict[Words, dict[str, Any]] = {}
        for row in batch:
            words = row.words
            identity = self._labels.get(words)
            if identity is None:
                identity, new[words] = row.label()
            values.append(row.values(identity))
        counted = self.unrecorded
        with connection.begin():
            if new:
                connection.execute(_insert_new_labels(connection), list(new.values()))
            if values:
                # As the driver takes it: a program that makes calls all the time shares its one interpreter with this.
                connection.exec_driver_sql(_insert_statement(connection), values)
            if counted:
                connection.execute(unrecorded.insert(), {"at_us": round(self._wall() * 1e6), "calls": counted})
        with self._progress:
            self.unrecorded -= counted
        self._labels.update({words: label["id"] for words, label in new.items()})
        while len(self._labels) > _MAX_LABELS:
            self._labels.popitem(last=False)

    def _clean(self, connection: Connection) -> bool:
        """Deletes, once a day, what is older than is wanted, a little at a time; tells whether more is left."""
        from sqlalchemy import delete, select

        from llama_client.costs.database import attempts, labels, unrecorded

        now = self._wall()
        if self._labels_at is None or now - self._labels_at > _LABELS_S:
            # Who has used a label within the hour has a row with it, so that nobody deletes it as unused.
            self._labels.clear()
            self._labels_at = now
        if not self._has_old and self._cleaned_at is not None and now - self._cleaned_at < _DAY_S:
            return False
        self._cleaned_at, self._has_old = now, False
        oldest_us = round((now - self._retention_s) * 1e6)
        old = select(attempts.c.id).where(attempts.c.at_us < oldest_us).limit(_DELETED_AT_ONCE)
        with connection.begin():
            deleted = connection.execute(delete(attempts).where(attempts.c.id.in_(old))).rowcount
            if 0 < deleted < _DELETED_AT_ONCE:
                # The last of them: tags may name people, and go with the rows that had them.
                used = select(attempts.c.label_id)
                connection.execute(delete(labels).where(labels.c.id.not_in(used)))
            connection.execute(delete(unrecorded).where(unrecorded.c.at_us < oldest_us))
        self._has_old = deleted >= _DELETED_AT_ONCE
        return self._has_old

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "the ledger cannot be written (%s); calls go on, and up to %d rows are kept meanwhile",
                error,
                MAX_QUEUED,
            )


def _of_a_value() -> tuple[type[Exception], ...]:
    """What is raised for a value that has no form in the database."""
    from sqlalchemy.exc import DataError, IntegrityError

    return DataError, IntegrityError, ValueError, TypeError, ArithmeticError


def _insert_statement(connection: Connection) -> str:
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    # Nothing in it comes from anybody.
    return f"INSERT INTO llama_client_attempts ({', '.join(COLUMNS)}) VALUES ({', '.join([mark] * len(COLUMNS))})"  # noqa: S608


def _insert_new_labels(connection: Connection) -> Any:
    """Inserts words that another process may have inserted before."""
    from llama_client.costs.database import labels

    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert(labels).on_conflict_do_nothing()
    from sqlalchemy.dialects.postgresql import insert as postgresql_insert

    return postgresql_insert(labels).on_conflict_do_nothing()
