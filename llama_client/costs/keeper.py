"""The thread that keeps budgets: it talks to the database, several requests in one transaction."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from llama_client.costs.endings import before_the_end
from llama_client.costs.forks import ForkGate
from llama_client.costs.reservations import Answer, Order, Settlement

if TYPE_CHECKING:
    from llama_client.clock import Clock
    from llama_client.costs.accounts import Accounts
    from llama_client.costs.storage import Storage

# What one transaction does at most.
_MAX_BATCH = 500
# A client says so often that it is alive, and is taken for dead when it has not for so long.
_ALIVE_EACH_S, DEAD_AFTER_S = 10.0, 60.0
_CLOSING_S = 5.0
# Settlements that wait for a database that is away.
_MAX_UNSETTLED = 100_000

_Job = tuple[Order, "Future[Answer]"] | Settlement | Literal["wake"]


class Keeper:
    """The thread, and what it has to do. It starts with the first order.

    Args:
        open_storage: Opens the database, in the thread.
        clock: The time.
    """

    def __init__(self, open_storage: Callable[[], Storage], clock: Clock) -> None:
        self.pid = os.getpid()
        self._open_storage = open_storage
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._owner = f"{self.pid}-{uuid.uuid4().hex}"
        self._accounts: Accounts | None = None
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

    def _opened(self) -> Accounts:
        """The tables; says now and then that this client is alive."""
        if self._accounts is None:
            # Imported here, as it brings SQLAlchemy.
            from llama_client.costs.accounts import Accounts

            self._accounts = Accounts(self._open_storage(), self._owner)
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
