"""Budgets: reserve the worst case before an attempt, settle its cost after; and the thread that does so."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.costs.database_thread import CLOSING_S, DatabaseThread
from llama_client.costs.money import MAX_PICO, exactly, from_pico, shown, to_pico, windows_differ
from llama_client.costs.reservations import (
    Counter,
    Decision,
    Limit,
    Order,
    OtherWindow,
    Refused,
    Reservation,
    Reserved,
    Settlement,
    WorstCase,
)
from llama_client.errors import BudgetExceededError
from llama_client.waiting import Event, await_event, wait_for_event

if TYPE_CHECKING:
    from llama_client.clock import Clock
    from llama_client.config.tables import BudgetTable
    from llama_client.costs.budget_store import BudgetStore
    from llama_client.costs.database import Storage
    from llama_client.costs.money import Calendar

# Orders and settlements of one transaction.
_MAX_BATCH = 500
# How often a client renews its sign of life, and after how long without one it is taken for dead.
_ALIVE_EACH_S, DEAD_AFTER_S = 10.0, 60.0
# Settlements that wait for a database that cannot be written.
_MAX_UNSETTLED = 100_000


class _OrderOutcome(Event):
    """The decision about one order, or why there is none."""

    __slots__ = ("outcome",)

    def __init__(self) -> None:
        super().__init__()
        self.outcome: Decision | Exception | None = None

    def give(self, outcome: Decision | Exception) -> None:
        self.outcome = outcome
        self.set()


_PlacedOrder = tuple[Order, _OrderOutcome]


class BudgetWorker(DatabaseThread["_PlacedOrder | Settlement"]):
    name = "llama-client-budgets"

    def __init__(self, open_storage: Callable[[], Storage], calendar: Calendar, clock: Clock) -> None:
        self._calendar = calendar
        self._clock = clock
        super().__init__(open_storage)

    def reset(self) -> None:
        super().reset()
        self._owner = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._store: BudgetStore | None = None
        self._said_alive_at = 0.0

    def order(self, order: Order) -> _OrderOutcome:
        answer = _OrderOutcome()
        self.signals.put((order, answer))
        try:
            self.start()
        except RuntimeError as error:  # the interpreter is exiting, or no thread is left
            answer.give(error)
        return answer

    def flush(self) -> None:
        """Waits until what was settled so far is in the database, or cannot be written."""
        if self.thread is None and not self.has_work():
            return
        # Jobs are done in turn: an order of nothing is decided after the settlements that came before it.
        wait_for_event(self.order(Order(uuid.uuid4().hex, 0, ())), CLOSING_S)

    def settler(self) -> Callable[[Settlement], None]:
        """What a reservation made now is settled by, also after `close`: a stream may end later."""
        signals = self.signals

        def settle(settlement: Settlement) -> None:
            signals.put(settlement)
            # In a forked child, which has other signals, the parent's reservations are left to the parent.
            if self.thread is None and self.signals is signals:
                with contextlib.suppress(RuntimeError):
                    self.start()

        return settle

    def settle(self, settlement: Settlement) -> None:
        self.signals.put(settlement)
        with contextlib.suppress(RuntimeError):
            self.start()

    def has_work(self) -> bool:
        return not self.signals.empty()

    def work(self) -> None:
        unsettled: list[Settlement] = []
        while True:
            jobs = self._next_jobs()
            unsettled += [job for job in jobs if isinstance(job, Settlement)]
            # An order that was given up while it waited is settled in the same batch, or in a later one.
            settled = {settlement.id for settlement in unsettled}
            orders = [job for job in jobs if isinstance(job, tuple) and job[0].id not in settled]
            is_last = self.is_leaving and self.signals.empty()
            try:
                with self.lock:
                    decisions = self._apply([order for order, _ in orders], unsettled)
                    unsettled = []
                    for (_, answer), decision in zip(orders, decisions, strict=True):
                        answer.give(decision)
                    if is_last and self._store is not None:
                        self._connected_store().leave(self._clock.wall())
            except Exception as error:  # noqa: BLE001 - handed to each caller that waits
                for order, answer in orders:
                    if not answer.is_set:
                        answer.give(error)
                        # It may have been granted all the same.
                        unsettled.append(Settlement(order.id, 0, order.counters))
                # What is not settled here is settled at its worst case, once this client is gone.
                del unsettled[:-_MAX_UNSETTLED]
            if is_last:
                return

    def _next_jobs(self) -> list[_PlacedOrder | Settlement | None]:
        jobs = []
        with contextlib.suppress(queue.Empty):
            jobs.append(self.signals.get(timeout=_ALIVE_EACH_S))
            while len(jobs) < _MAX_BATCH:
                jobs.append(self.signals.get_nowait())
        return jobs

    def _apply(self, orders: Sequence[Order], settlements: Sequence[Settlement]) -> list[Decision]:
        # A connection that was cut reports it only when used: then one more try on a new one.
        for is_retry, is_last_try in ((False, self._connection is None), (True, True)):
            try:
                store = self._connected_store()
                return store.apply(orders, settlements, is_retry=is_retry) if orders or settlements else []
            except Exception:
                self.disconnect(reopens_storage=True)
                if is_last_try:
                    raise
        raise AssertionError("unreachable")

    def _connected_store(self) -> BudgetStore:
        storage, connection = self.connected()
        now = self._clock.monotonic()
        is_new = self._store is None or self._store.connection is not connection
        if self._store is None or is_new:
            # Imported here, as it brings SQLAlchemy.
            from llama_client.costs.budget_store import BudgetStore

            self._store = BudgetStore(storage, connection, self._owner, self._calendar)
        if is_new or now - self._said_alive_at >= _ALIVE_EACH_S:
            self._store.say_alive(self._clock.wall(), DEAD_AFTER_S)
            self._said_alive_at = now
        return self._store


_log = logging.getLogger("llama_client.ledger")

# How long an attempt waits for the database; SQLite itself waits five seconds for another process.
_DECISION_S = 10.0
# Warnings that were logged; each is logged once a window.
_MAX_WARNED = 500


@dataclass(eq=False)
class PendingReservation:
    """A reservation that is being made. `wait` for it, or `await wait_async()`, once."""

    _answer: _OrderOutcome | Refused
    _judge: Callable[[Decision | Exception], Reserved | Refused]
    _release: Callable[[], None]

    def wait(self) -> Reserved | Refused:
        if isinstance(self._answer, Refused):
            return self._answer
        wait_for_event(self._answer, _DECISION_S)
        return self._judged(self._answer.outcome)

    async def wait_async(self) -> Reserved | Refused:
        if isinstance(self._answer, Refused):
            return self._answer
        await await_event(self._answer, _DECISION_S)
        return self._judged(self._answer.outcome)

    def _judged(self, outcome: Decision | Exception | None) -> Reserved | Refused:
        if not isinstance(outcome, Decision):
            # It may be granted all the same.
            self._release()
        return self._judge(TimeoutError() if outcome is None else outcome)


class Budgets:
    def __init__(
        self, tables: Sequence[BudgetTable], open_storage: Callable[[], Storage], calendar: Calendar, clock: Clock
    ) -> None:
        self._tables = tables
        self._calendar = calendar
        self._worker = BudgetWorker(open_storage, calendar, clock)
        self._worker.leave_with(self)
        self._has_warned: set[tuple[str, int | None]] = set()

    def limits(self, provider: str, tags: Mapping[str, str], at: float) -> list[Limit]:
        found = []
        for table in self._tables:
            kind, _, name = table.scope.partition(":")
            value = tags.get(name) if kind == "tag" else None
            if (kind == "tag" and value is None) or (kind == "provider" and name != provider):
                continue
            span = self._calendar.span(table.window, at)
            key = json.dumps([table.scope, table.window, *([] if value is None else [value])], ensure_ascii=True)
            found.append(Limit(table, Counter(key, span.start), span, table.name_for(value)))
        return found

    def reserve(
        self,
        target: str,
        limits: Sequence[Limit],
        worst: WorstCase | None,
        keep: Callable[[Reservation], None],
        *,
        identity: str | None = None,
    ) -> PendingReservation:
        """Reserves the worst case of an attempt; None: it is unpriced. `keep` gets the reservation to settle.

        `identity`: the id under which `settle` finds it, in whichever process; None: only `keep` does.
        """
        pico = 0 if worst is None else min(to_pico(worst.usd), MAX_PICO)
        order = Order(identity or uuid.uuid4().hex, pico, limits)
        reservation = Reservation(order, self._worker.settler())

        def judge(outcome: Decision | Exception) -> Reserved | Refused:
            if isinstance(outcome, Exception):
                return _failed(target, limits, outcome)
            for other in outcome.other_windows:
                self._warn_of(other)
            if outcome.refused_by is not None:
                reservation.forget()
                return _exceeded(target, worst, outcome.refused_by, outcome)
            return Reserved([self._warning(limit) for limit in outcome.exceeded])

        refusing = next((each for each in limits if each.blocks and each.table.on_unpriced == "refuse"), None)
        if worst is None and refusing is not None:
            return PendingReservation(_unpriced(target, refusing), judge, reservation.release)
        keep(reservation)
        return PendingReservation(self._worker.order(order), judge, reservation.release)

    def settle(self, identity: str, pico: int | None, counters: Sequence[Counter]) -> None:
        """Ends a reservation that this process, or one before it, has made; a second time it does nothing."""
        self._worker.settle(Settlement(identity, pico, counters))

    def flush(self) -> None:
        self._worker.flush()

    def close(self) -> None:
        self._worker.close()

    def _warning(self, limit: Limit) -> str:
        text = f"budget {limit.name}: {shown(limit.table.usd)} exceeded"
        if self._is_first((limit.name, limit.counter.window_start)):
            _log.warning("%s", text)
        return text

    def _warn_of(self, other: OtherWindow) -> None:
        table = other.limit.table
        if self._is_first((f"{table.scope} {table.window}", None)):
            differ = windows_differ(other.start, self._calendar)
            _log.warning("budget %s: %s; set the same timezone everywhere", table.name_for(None), differ)

    def _is_first(self, warning: tuple[str, int | None]) -> bool:
        if warning in self._has_warned:
            return False
        if len(self._has_warned) > _MAX_WARNED:
            self._has_warned.clear()
        self._has_warned.add(warning)
        return True


def _failed(target: str, limits: Sequence[Limit], error: Exception) -> Reserved | Refused:
    why = f"cannot be enforced: {str(error) or type(error).__name__}"
    blocking = next((limit for limit in limits if limit.blocks), None)
    if blocking is None:
        return Reserved([f"budget {limits[0].name} {why}"])
    refusal = BudgetExceededError(f"{target} refused: budget {blocking.name} {why}", budget=blocking.name)
    refusal.__cause__ = error
    return _refused(refusal, blocking)


def _unpriced(target: str, limit: Limit) -> Refused:
    error = BudgetExceededError(
        f"the cost of {target} has no known upper bound; budget {limit.name} refuses unpriced targets: add its "
        "price to [[prices]] and pass max_tokens (for a file or a video also add the model's context_tokens to "
        "[[models]]), or set on_unpriced = 'allow'",
        budget=limit.name,
        resets_at=limit.span.ends_at,
    )
    return _refused(error, limit)


@exactly
def _exceeded(target: str, worst: WorstCase | None, limit: Limit, decision: Decision) -> Refused:
    worst = worst or WorstCase(Decimal(0), Decimal(0), None)
    fits = None
    if worst.usd_per_output_token:
        fits = max(int((from_pico(decision.left_pico) - worst.input_usd) / worst.usd_per_output_token), 0)
    spent, reserved = from_pico(decision.settled_pico), from_pico(decision.reserved_pico)
    remedy = f"; max_tokens = {fits} would fit" if fits else ""
    error = BudgetExceededError(
        f"{target} may cost {shown(worst.usd)}; budget {limit.name} has {shown(limit.table.usd)}, of which "
        f"{shown(spent)} is spent and {shown(reserved)} reserved{remedy}",
        budget=limit.name,
        spent_usd=spent,
        reserved_usd=reserved,
        needed_usd=worst.usd,
        resets_at=limit.span.ends_at,
        max_tokens_that_fit=fits,
    )
    return _refused(error, limit)


def _refused(error: BudgetExceededError, limit: Limit) -> Refused:
    return Refused(error, only_free=limit.table.on_exceeded == "local")
