"""The ledger: each attempt as a row, written by one thread off the call's path."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_client.costs.database_thread import CLOSING_S, DatabaseThread
from llama_client.costs.money import to_pico
from llama_client.process import at_fork
from llama_client.waiting import Event, wait_for_event

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

    from llama_client.costs.bills import Tokens
    from llama_client.costs.database import Storage
    from llama_client.types.completion import Attempt

# Bits of a row's `counts`, so that a report only has to add: the row is the first of its call, the first of the call
# for its provider, and for its target; the same among rows of unknown cost; the attempt failed; its answer is from the
# cache.
CALL, PROVIDER, TARGET, UNPRICED_CALL, UNPRICED_PROVIDER, UNPRICED_TARGET, ERROR, CACHED = (
    1 << bit for bit in range(8)
)
# What determines a label, hashable.
LabelKey = tuple[str | None, str, str, tuple[tuple[str, str], ...]]
# Integers of the databases have 64 bits; no plausible count exceeds this.
_MAX = 2**62


class RequestIds:
    """The ids of calls: when each began, so that the ledger's index of them grows at its end, and random digits."""

    _RANDOM_BYTES, _AT_ONCE = 8, 64

    def __init__(self) -> None:
        self._forget()
        # A child must not give out the same.
        at_fork("after_in_child", self._forget)

    def _forget(self) -> None:
        self._left: deque[str] = deque()

    def new(self, at: float) -> str:
        # Many at once: each system call hands the interpreter over to other threads, which takes longer than the call.
        while not self._left:
            drawn = os.urandom(self._RANDOM_BYTES * self._AT_ONCE)
            self._left.extend(drawn.hex("-", self._RANDOM_BYTES).split("-"))
        try:
            return f"req_{int(at) & 0xFFFFFFFF:08x}{self._left.pop()}"
        except IndexError:
            # Other threads took the last ones.
            return self.new(at)


class Row(NamedTuple):
    """Atoms only: thousands of rows may wait, and the garbage collector need not look at any."""

    label: LabelKey
    request_id: str
    # In the order of the columns of `attempts`, without the ids of the row and of the label.
    values: tuple[Any, ...]


def _label(key: LabelKey) -> tuple[Any, ...]:
    """A label in the order of the columns of `labels`; its id is a hash of the rest."""
    route, provider, model, tags = key
    words = (
        None if route is None else _storable(route),
        _storable(provider),
        _storable(f"{provider}/{model}"),
        _storable(model),
        _storable(json.dumps(dict(tags), sort_keys=True, ensure_ascii=False)),
    )
    digest = blake2b(json.dumps(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True), *words


def hit_row(
    at: float,
    request_id: str,
    route: str | None,
    target: str,
    tags: Mapping[str, str],
    took_s: float,
    usd: Decimal | None,
) -> Row:
    """What `LedgerEntries` hands over for the only attempt of a call that the cache answers, in a quarter of the time.

    Args:
        at: Unix time.
        request_id: The call's.
        route: Its route.
        target: Its target.
        tags: Its labels.
        took_s: How long it took.
        usd: What the answer had cost; None: unknown.
    """
    provider, _, model = target.partition("/")
    took_us = min(round(took_s * 1e6), _MAX)
    saved = None if usd is None else min(to_pico(usd), _MAX)
    first = (round(at * 1e6), request_id, 1, "cached", None, None)
    values = (*first, *_NO_TOKENS, 0, 0, 0, 0, "exact", "cache", None, took_us, took_us, _OF_A_HIT, saved)
    return Row((route, provider, model, tuple(tags.items())), request_id, values)


_NO_TOKENS = (None, None, None, None, 0)
_OF_A_HIT = CACHED | CALL | PROVIDER | TARGET


def _values(
    at: float, request_id: str, number: int, attempt: Attempt, tokens: Tokens | None, counts: int
) -> tuple[Any, ...]:
    cost, latency_s, ttft_s = attempt.cost, attempt.latency_s, attempt.ttft_s
    amounts: Sequence[Decimal | None] = (None,) * 4
    basis: tuple[str | None, ...] = (None,) * 3
    if cost is not None:
        amounts = (cost.usd, cost.input_usd, cost.cached_usd, cost.output_usd)
        basis = (cost.status, cost.source, None if cost.effective_from is None else cost.effective_from.isoformat())
    # Most calls have no cached tokens to pay for.
    pico = [None if usd is None else to_pico(usd) if usd else 0 for usd in amounts]
    counted = _NO_TOKENS if tokens is None else (*tokens[:4], int(tokens.are_estimated))
    numbers = _bounded((*counted, *pico))
    times_us = _bounded(
        (
            None if latency_s is None else round(latency_s * 1e6),
            None if ttft_s is None else round(ttft_s * 1e6),
        )
    )
    first = (round(at * 1e6), request_id, number, attempt.outcome, attempt.error, attempt.http_status)
    saved = None if attempt.saved_usd is None else _bounded((to_pico(attempt.saved_usd),))[0]
    return (*first, *numbers, *basis, *times_us, counts, saved)


def _storable(text: str) -> str:
    """Text that every database takes: PostgreSQL refuses NUL, and UTF-8 has no lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _bounded(numbers: tuple[int | None, ...]) -> tuple[int | None, ...]:
    for number in numbers:
        if number is not None and not -_MAX <= number <= _MAX:
            return tuple(None if each is None else min(max(each, -_MAX), _MAX) for each in numbers)
    return numbers


_log = logging.getLogger("llama_client.ledger")
# Without a handler Python prints warnings to standard error; whether to is the program's decision.
_log.addHandler(logging.NullHandler())

# Rows that wait for the database; about 1 kB each.
MAX_QUEUED = 20_000
# Rows of one transaction, so that other processes get their turn.
_MAX_BATCH = 5_000
# Values of one statement: SQLite before 3.32 takes no more.
_MAX_VALUES = 999
# Labels that are known to be in the database.
_MAX_LABELS = 4_096
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 30.0
# Without a new row for so long, the connection is closed.
_IDLE_S = 1.0
_DAY_S, _LABELS_S = 86_400.0, 3_600.0
_DELETED_AT_ONCE = 5_000


class Ledger(DatabaseThread[float]):
    """Takes rows without any I/O, and writes them in its thread. A signal is the monotonic time when a row came."""

    name = "llama-client-ledger"

    def __init__(
        self,
        open_storage: Callable[[], Storage],
        place_name: str,
        *,
        flush_interval_s: float,
        retention_days: int,
        wall: Callable[[], float],
    ) -> None:
        self._place_name = place_name
        # Half of the interval for waiting, and half for writing.
        self._pause_s = flush_interval_s / 2
        self._retention_s = retention_days * _DAY_S
        self._wall = wall
        super().__init__(open_storage)

    def reset(self) -> None:
        super().reset()
        # Calls that are not recorded, and not yet counted in the database either.
        self.unrecorded_calls = 0
        # Those of them that are being counted in the database, and the key of their row there.
        self._counted: tuple[int, str] | None = None
        self._queue: deque[Row] = deque()
        self._is_awake = False
        self._done = 0
        # Happens with the next rows that are written, or cannot be.
        self._progress = Event()
        self._counting = threading.Lock()
        self._labels: OrderedDict[LabelKey, int] = OrderedDict()
        self._labels_at: float | None = None
        self._has_warned = False
        self._cleaned_at: float | None = None
        self._has_old = False

    def put(self, row: Row) -> bool:
        """Hands over a row, also after `close`: a stream may end later. False: the queue is full."""
        if len(self._queue) >= MAX_QUEUED:
            return False
        self._queue.append(row)
        if self.thread is None:
            self.open()
        if not self._is_awake:
            now = time.monotonic()
            # With no call in between, where an interrupt could leave a thread that sleeps and seems awake.
            self._is_awake = True
            self.signals.put(now)
        return True

    def count_unrecorded(self, calls: int = 1) -> None:
        with self._counting:
            self.unrecorded_calls += calls

    def open(self) -> None:
        """Starts the thread, so that the database is open when the first row comes."""
        with contextlib.suppress(RuntimeError):
            self.start()

    def flush(self, within_s: float = CLOSING_S) -> bool:
        """Waits until every row put so far is on disk; False: not in time."""
        thread = self.thread
        if thread is None:
            return not self._queue
        with self._counting:
            wanted = self._done + len(self._queue)
        self.wake()
        until = time.monotonic() + within_s
        while True:
            progress, left_s = self._progress, until - time.monotonic()
            if self._done >= wanted or not thread.is_alive() or left_s <= 0:
                return self._done >= wanted
            wait_for_event(progress, left_s)

    def close(self) -> bool:
        has_ended = super().close()
        if not has_ended:
            _log.warning("ledger %s: %d rows could not be written in time", self._place_name, len(self._queue))
        return has_ended

    def has_work(self) -> bool:
        return bool(self._queue)

    def work(self) -> None:
        retry_s = _FIRST_RETRY_S
        # Importing and opening the database takes a third of a second: while the first call waits for its answer, and
        # not while it is prepared.
        self._wait(self._pause_s)
        self.wake()
        while True:
            came_at = self._next_signal()
            if came_at is not None:
                # Time spent writing counts as waiting.
                self._wait(came_at + self._pause_s - time.monotonic())
            # A row that is put from here on sends a signal again.
            self._is_awake = False
            was_connected = self._connection is not None
            try:
                with self.lock:
                    self._write_all()
                retry_s = _FIRST_RETRY_S
            except Exception as error:  # noqa: BLE001 - calls go on whatever it is; logged once
                self.warn(error)
                with self.lock:
                    # Whatever happened to the database, even its deletion: opening it migrates it again.
                    self.disconnect(reopens_storage=True)
                self._labels.clear()
                self._proceed()
                if not self.is_leaving:
                    self._wait(retry_s)
                    retry_s = min(retry_s * 2, _LONGEST_RETRY_S)
                elif not was_connected:
                    self.count_unrecorded(len({row.request_id for row in self._queue}))
                    self._queue.clear()
                    return
                # A connection that was cut reports it only when used: then one more try on a new one.
                self.wake()
            if self.is_leaving and not self._queue:
                return

    def _proceed(self) -> None:
        progress, self._progress = self._progress, Event()
        progress.set()

    def _next_signal(self) -> float | None:
        """Waits for the next signal; None: write at once."""
        try:
            return self.signals.get(timeout=_IDLE_S)
        except queue.Empty:
            with self.lock:
                self.disconnect()
            return self.signals.get()

    def _wait(self, seconds: float) -> None:
        """Lets time pass, until something must be written at once."""
        until = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while self.signals.get(timeout=max(until - time.monotonic(), 0.0)) is not None:
                pass

    def _write_all(self) -> None:
        storage, connection = self.connected()
        with storage.place.errors():
            storage.require_same_file()
            self._write_queued(connection)
            if self._clean(connection):
                # More is left to delete, but rows that came meanwhile do not wait for it.
                self.wake()

    def _write_queued(self, connection: Connection) -> None:
        from sqlalchemy.exc import DataError, IntegrityError

        singly = 0
        while self._queue or self.unrecorded_calls:
            # Rows stay in the queue until they are written.
            batch = [self._queue[index] for index in range(min(len(self._queue), 1 if singly else _MAX_BATCH))]
            try:
                self._insert(connection, batch)
            except (DataError, IntegrityError, ValueError, TypeError, ArithmeticError) as error:
                self.warn(error)
                if not singly:
                    # The database refuses a value of one row; it takes the others. Any other error is its own.
                    singly = len(batch)
                    continue
                self.count_unrecorded()
            with self._counting:
                for _ in batch:
                    self._queue.popleft()
                self._done += len(batch)
            self._proceed()
            singly = max(singly - 1, 0)

    def _insert(self, connection: Connection, batch: Sequence[Row]) -> None:
        from llama_client.costs.database import labels, unrecorded

        values: list[tuple[Any, ...]] = []
        new: dict[LabelKey, tuple[Any, ...]] = {}
        for row in batch:
            label_id = self._labels.get(row.label)
            if label_id is None:
                label = new[row.label] = _label(row.label)
                label_id = label[0]
            values.append((label_id, *row.values))
        if self._counted is None and self.unrecorded_calls:
            self._counted = self.unrecorded_calls, uuid.uuid4().hex
        counted = self._counted
        with connection.begin():
            # Past SQLAlchemy's own inserts: their work per row would hold the interpreter that the calls run in.
            # All of it may be there already, where the answer to an earlier commit was lost.
            if new:
                # Another process may have inserted the same label. In one order, so that none deadlocks.
                in_order = sorted(new.values(), key=itemgetter(0))
                connection.exec_driver_sql(_insert_statement(connection, labels, "id"), in_order)
            _insert_attempts(connection, values)
            if counted is not None:
                statement = _insert_statement(connection, unrecorded, "batch")
                connection.exec_driver_sql(statement, (round(self._wall() * 1e6), *counted))
        if counted is not None:
            self._counted = None
            self.count_unrecorded(-counted[0])
        self._labels.update({key: label[0] for key, label in new.items()})
        while len(self._labels) > _MAX_LABELS:
            self._labels.popitem(last=False)

    def _clean(self, connection: Connection) -> bool:
        """Deletes rows past retention, once a day, some at a time; True: more are left."""
        from sqlalchemy import delete, select

        from llama_client.costs.database import attempts, labels, unrecorded

        now = self._wall()
        if self._labels_at is None or now - self._labels_at > _LABELS_S:
            # A label used within the hour has a row, so that no process deletes it as unused.
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
                # The last of them: tags may name people, and are deleted with their last row.
                used = select(attempts.c.label_id)
                connection.execute(delete(labels).where(labels.c.id.not_in(used)))
            connection.execute(delete(unrecorded).where(unrecorded.c.at_us < oldest_us))
        self._has_old = deleted >= _DELETED_AT_ONCE
        return self._has_old

    def warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            text = "the ledger cannot be written (%s); calls go on, and up to %d rows are kept in memory until it can"
            _log.warning(text, error, MAX_QUEUED)


@dataclass(slots=True, eq=False)
class LedgerEntries:
    """Hands a call's attempts to the ledger, each once."""

    _ledger: Ledger
    _request_id: str
    _tags: Mapping[str, str]
    _counted: set[tuple[str, int]] = field(default_factory=set)
    _is_recorded: bool = True

    def add(self, attempt: Attempt, route: str | None, number: int, at: float, tokens: Tokens | None) -> None:
        target = attempt.target
        provider, _, model = target.partition("/")
        counts = ERROR if attempt.outcome in ("error", "interrupted") else 0
        if attempt.outcome == "cached":
            counts |= CACHED
        firsts = [("", CALL)]
        if attempt.outcome != "skipped":
            # A skipped target has no call.
            firsts += [(provider, PROVIDER), (target, TARGET)]
        if attempt.cost is not None and attempt.cost.usd is None:
            firsts += [("", UNPRICED_CALL), (provider, UNPRICED_PROVIDER), (target, UNPRICED_TARGET)]
        # Each flag is set in one row of the call only, so that reports can sum them.
        firsts = [first for first in firsts if first not in self._counted]
        for _, flag in firsts:
            counts |= flag
        try:
            values = _values(at, self._request_id, number, attempt, tokens, counts)
            label = (route, provider, model, tuple(self._tags.items()))
            is_put = self._ledger.put(Row(label, self._request_id, values))
        except (ValueError, TypeError, ArithmeticError) as error:
            # A value that a third-party provider made up.
            self._ledger.warn(error)
            is_put = False
        # Only now: a row that an interrupt makes put twice is the same both times, and is stored once.
        self._counted.update(firsts)
        if not is_put and self._is_recorded:
            self._is_recorded = False
            self._ledger.count_unrecorded()


def _insert_attempts(connection: Connection, values: list[tuple[Any, ...]]) -> None:
    from llama_client.costs.database import attempts

    insert = partial(_insert_statement, connection, attempts, "request_id", "number", first="label_id")
    # SQLite's module hands the interpreter over with each statement: for single rows more often than calls can bear.
    rows = _MAX_VALUES // len(attempts.columns)
    together = len(values) // rows * rows if connection.dialect.name == "sqlite" else 0
    if together:
        statement = insert(rows=rows)
        for start in range(0, together, rows):
            flat = tuple(chain.from_iterable(values[start : start + rows]))
            connection.exec_driver_sql(statement, flat)
    if values[together:]:
        connection.exec_driver_sql(insert(), values[together:])


def _insert_statement(connection: Connection, table: Table, *key: str, first: str | None = None, rows: int = 1) -> str:
    """Inserts rows, but for those whose key is there. One column may come first."""
    # The database gives out the numbers of rows that have another key.
    names = [column.name for column in table.columns if column.name in key or not column.primary_key]
    names.sort(key=lambda name: name != first)
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    values = ", ".join([f"({', '.join([mark] * len(names))})"] * rows)
    # Names of our own only, no value of anybody's.
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {values} "  # noqa: S608
        f"ON CONFLICT ({', '.join(key)}) DO NOTHING"
    )
