"""Budgets: reserve the worst case before an attempt, settle its cost after; and the thread that does so.

Attempts in flight count too, across threads and processes. An event loop waits for the database only by awaiting.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import os
import queue
import threading
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from llama_client.costs.money import MAX_PICO, exactly, from_pico, shown, to_pico
from llama_client.costs.process_safety import ForkGate, before_the_end
from llama_client.costs.reservations import (
    Answer,
    Counter,
    Limit,
    Order,
    Refused,
    Reservation,
    ReservationRequest,
    Reserved,
    Settlement,
    WorstCase,
)
from llama_client.errors import BudgetExceededError

if TYPE_CHECKING:
    from llama_client.clock import Clock
    from llama_client.config.tables import BudgetTable
    from llama_client.costs.budget_store import BudgetStore
    from llama_client.costs.database import Storage
    from llama_client.costs.money import Calendar


# What one transaction does at most.
_MAX_BATCH = 500
# A client says so often that it is alive, and is taken for dead when it has not for so long.
_ALIVE_EACH_S, DEAD_AFTER_S = 10.0, 60.0
_CLOSING_S = 5.0
# Settlements that wait for a database that is away.
_MAX_UNSETTLED = 100_000

_Job = tuple[Order, "Future[Answer]"] | Settlement | Literal["wake"]


class BudgetWorker:
    """The thread, and what it has to do. It starts with the first order."""

    def __init__(self, open_storage: Callable[[], Storage], clock: Clock) -> None:
        self.pid = os.getpid()
        self._open_storage = open_storage
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._owner = f"{self.pid}-{uuid.uuid4().hex}"
        self._accounts: BudgetStore | None = None
        self._gate = ForkGate(self._let_go)
        self._said_alive_at: float | None = None

    def order(self, order: Order) -> Future[Answer]:
        """Asks for money to be set aside."""
        future: Future[Answer] = Future()
        try:
            self._start()
        except RuntimeError as error:  # the interpreter is ending, or has no thread left
            future.set_exception(error)
        else:
            self._jobs.put((order, future))
        return future

    def settle(self, settlement: Settlement) -> None:
        """Ends a reservation, some time soon."""
        self._jobs.put(settlement)

    def close(self) -> None:
        """Does what is left, and ends."""
        self.leave()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING_S)
        atexit.unregister(self._at_exit)

    def leave(self) -> None:
        """Asks the thread to do what is left, and to end."""
        self._is_closing = True
        self._jobs.put("wake")

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="llama-client-budgets", daemon=True)
            thread.start()
            self._thread = thread
            before_the_end(self._at_exit)

    def _at_exit(self) -> None:
        if self.pid == os.getpid():
            self.close()

    def _run(self) -> None:
        unsettled: list[Settlement] = []
        try:
            while True:
                jobs = self._next_jobs()
                orders = [job for job in jobs if isinstance(job, tuple) and job[1].set_running_or_notify_cancel()]
                unsettled += [job for job in jobs if isinstance(job, Settlement)]
                is_last = self._is_closing and self._jobs.empty()
                try:
                    with self._gate:
                        # A connection that was cut says so only when it is used: the second try has a new one.
                        answers = self._tried(orders, unsettled, 2 if self._accounts is not None else 1)
                    unsettled = []
                    for (_, future), answer in zip(orders, answers, strict=True):
                        future.set_result(answer)
                    if is_last:
                        with self._gate:
                            if self._accounts is not None:
                                self._accounts.leave()
                except Exception as error:  # noqa: BLE001 - each who waits is told
                    for _, future in orders:
                        if not future.done():
                            future.set_exception(error)
                    # What is not settled here is settled at its worst case, once this client is gone.
                    del unsettled[:-_MAX_UNSETTLED]
                if is_last:
                    return
        finally:
            with self._gate:
                self._let_go()
            atexit.unregister(self._at_exit)

    def _tried(
        self, orders: Sequence[tuple[Order, Future[Answer]]], settlements: Sequence[Settlement], tries: int
    ) -> list[Answer]:
        try:
            accounts = self._opened()
            return accounts.apply([order for order, _ in orders], settlements) if orders or settlements else []
        except Exception:
            self._let_go()
            if tries == 1:
                raise
        return self._tried(orders, settlements, tries - 1)

    def _opened(self) -> BudgetStore:
        """The tables; says now and then that this client is alive."""
        if self._accounts is None:
            # Imported here, as it brings SQLAlchemy.
            from llama_client.costs.budget_store import BudgetStore

            self._accounts = BudgetStore(self._open_storage(), self._owner)
            self._said_alive_at = None
        now = self._clock.monotonic()
        if self._said_alive_at is None or now - self._said_alive_at >= _ALIVE_EACH_S:
            self._accounts.say_alive(self._clock.wall(), DEAD_AFTER_S)
            self._said_alive_at = now
        return self._accounts

    def _let_go(self) -> None:
        accounts, self._accounts = self._accounts, None
        if accounts is not None:
            # It may be the connection that is broken.
            with contextlib.suppress(Exception):
                accounts.close()

    def _next_jobs(self) -> list[Any]:
        """What has come in meanwhile; waits for it, and no longer than until it has to be said that this is alive."""
        jobs: list[Any] = []
        with contextlib.suppress(queue.Empty):
            jobs.append(self._jobs.get(timeout=_ALIVE_EACH_S))
            while len(jobs) < _MAX_BATCH:
                jobs.append(self._jobs.get_nowait())
        return jobs


_log = logging.getLogger("llama_client.ledger")

# How long an attempt waits for the database; SQLite itself waits five seconds for another process.
_PATIENCE_S = 10.0
# Warnings that were logged; each is once a window.
_MAX_WARNED = 500


class Budgets:
    """The budgets of one client."""

    def __init__(
        self,
        tables: Sequence[BudgetTable],
        open_storage: Callable[[], Storage],
        calendar: Calendar,
        clock: Clock,
    ) -> None:
        self._tables = tables
        self._open_storage = open_storage
        self._calendar = calendar
        self._clock = clock
        self._keeper = self._new_keeper()
        self._has_warned: set[tuple[str, int]] = set()

    def limits(self, provider: str, tags: Mapping[str, str], at: float) -> list[Limit]:
        """The budgets that cover a call to a provider."""
        found = []
        for table in self._tables:
            kind, _, name = table.scope.partition(":")
            value: str | None = None
            match kind:
                case "tag":
                    if name not in tags:
                        continue
                    value = tags[name]
                case "provider":
                    if name != provider:
                        continue
            span = self._calendar.span(table.window, at)
            key = json.dumps([table.scope, table.window, *([] if value is None else [value])], ensure_ascii=True)
            found.append(Limit(table, Counter(key, span.start), span, table.name_for(value)))
        return found

    def reserve(self, purchase: ReservationRequest) -> Reserved | Refused:
        """Sets the worst case of an attempt aside, blocking."""
        prepared = self._prepared(purchase)
        if not isinstance(prepared, Order):
            return prepared
        future = self._mine().order(prepared)
        try:
            answer: Answer | BaseException = future.result(_PATIENCE_S)
        except Exception as error:  # noqa: BLE001 - whatever the database does, the budget decides
            self._let_go(future, prepared)
            answer = error
        except BaseException:
            self._let_go(future, prepared)
            raise
        return self._judged(purchase, prepared, answer)

    async def areserve(self, purchase: ReservationRequest) -> Reserved | Refused:
        """The same on the event loop."""
        prepared = self._prepared(purchase)
        if not isinstance(prepared, Order):
            return prepared
        future = self._mine().order(prepared)
        try:
            # Not `wait_for`: Python 3.11's forgets a cancellation that comes as the answer does.
            async with asyncio.timeout(_PATIENCE_S):
                answer: Answer | BaseException = await asyncio.wrap_future(future)
        except Exception as error:  # noqa: BLE001 - as above
            self._let_go(future, prepared)
            answer = error
        except BaseException:
            self._let_go(future, prepared)
            raise
        return self._judged(purchase, prepared, answer)

    def close(self) -> None:
        """Settles what is left."""
        self._mine().close()

    def _mine(self) -> BudgetWorker:
        if self._keeper.pid != os.getpid():
            # What the parent has set aside is the parent's to settle.
            self._when_dropped.detach()
            self._keeper = self._new_keeper()
        return self._keeper

    def _new_keeper(self) -> BudgetWorker:
        keeper = BudgetWorker(self._open_storage, self._clock)
        self._when_dropped = weakref.finalize(self, keeper.leave)
        self._when_dropped.atexit = False
        return keeper

    def _prepared(self, purchase: ReservationRequest) -> Order | Reserved | Refused:
        limits = self.limits(purchase.provider, purchase.tags, purchase.at)
        if not limits:
            return Reserved(None)
        if purchase.worst is None:
            for limit in limits:
                if limit.table.on_unpriced == "refuse" and limit.table.on_exceeded != "warn":
                    return self._unpriced(purchase, limit)
        pico = min(to_pico(purchase.worst.usd), MAX_PICO) if purchase.worst is not None else 0
        return Order(uuid.uuid4().hex, pico, limits)

    def _judged(self, purchase: ReservationRequest, order: Order, answer: Answer | BaseException) -> Reserved | Refused:
        if isinstance(answer, BaseException):
            blocking = next((limit for limit in order.limits if limit.table.on_exceeded != "warn"), None)
            why = f"its budget cannot be kept: {str(answer) or type(answer).__name__}"
            if blocking is None:
                return Reserved(None, [why])
            error = BudgetExceededError(f"{purchase.target} is not asked, as {why}", budget=blocking.name)
            error.__cause__ = answer
            return Refused(error, blocking.table.on_exceeded == "local")
        if answer.refused_by is not None:
            return self._exceeded(purchase, answer.refused_by, answer)
        warnings = [self._warning(limit) for limit in answer.passed]
        return Reserved(Reservation(order, self._mine().settle), warnings)

    def _warning(self, limit: Limit) -> str:
        said = f"the budget of {shown(limit.table.usd)} for {limit.name} is passed"
        key = (limit.name, limit.counter.window_start)
        if key not in self._has_warned:
            if len(self._has_warned) > _MAX_WARNED:
                self._has_warned.clear()
            self._has_warned.add(key)
            _log.warning("%s", said)
        return said

    @staticmethod
    @exactly
    def _exceeded(purchase: ReservationRequest, limit: Limit, answer: Answer) -> Refused:
        worst = purchase.worst or WorstCase(Decimal(0), Decimal(0), None)
        fits = None
        if worst.usd_per_output_token:
            fits = max(int((from_pico(answer.left_pico) - worst.input_usd) / worst.usd_per_output_token), 0)
        spent, reserved = from_pico(answer.settled_pico), from_pico(answer.reserved_pico)
        length = f"; an answer of {fits} tokens would fit (max_tokens)" if fits else ""
        error = BudgetExceededError(
            f"{purchase.target} may cost {shown(worst.usd)}, and of {shown(limit.table.usd)} for {limit.name} "
            f"{shown(spent)} are spent and {shown(reserved)} set aside{length}",
            budget=limit.name,
            spent_usd=spent,
            reserved_usd=reserved,
            needed_usd=worst.usd,
            resets_at=_moment(limit.span.end),
            max_tokens_that_fit=fits,
        )
        return Refused(error, limit.table.on_exceeded == "local")

    @staticmethod
    def _unpriced(purchase: ReservationRequest, limit: Limit) -> Refused:
        error = BudgetExceededError(
            f"nobody knows what {purchase.target} may cost, which the budget for {limit.name} does not allow: give it "
            "a price in [[prices]] and a max_tokens, or set on_unpriced = 'allow'",
            budget=limit.name,
            resets_at=_moment(limit.span.end),
        )
        return Refused(error, limit.table.on_exceeded == "local")

    def _let_go(self, future: Future[Answer], order: Order) -> None:
        """Nobody waits for the answer any more; where it is granted all the same, that is undone."""
        keeper = self._mine()

        def undo(done: Future[Answer]) -> None:
            if not done.cancelled() and done.exception() is None and done.result().refused_by is None:
                Reservation(order, keeper.settle).release()

        future.cancel()
        future.add_done_callback(undo)


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)
