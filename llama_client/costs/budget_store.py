"""The budgets' tables, changed in transactions, across processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from llama_client.costs.database import Storage
from llama_client.costs.money import MAX_PICO
from llama_client.costs.reservations import Answer, Counter, Order, Settlement

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


_BEGIN_COUNTER = "INSERT INTO llama_client_spending VALUES (?, ?, 0, 0) ON CONFLICT DO NOTHING"
_COUNTER = "SELECT settled_pico, reserved_pico FROM llama_client_spending WHERE budget = ? AND window_start = ?"
_SET = "UPDATE llama_client_spending SET settled_pico = ?, reserved_pico = ? WHERE budget = ? AND window_start = ?"
_HOLD = "INSERT INTO llama_client_reservations (id, budget, window_start, pico, owner) VALUES (?, ?, ?, ?, ?)"
_HELD = "SELECT budget, window_start, pico FROM llama_client_reservations WHERE id = ?"
_DROP = "DELETE FROM llama_client_reservations WHERE id = ?"
_OF_OWNER = "SELECT id, budget, window_start FROM llama_client_reservations WHERE owner = ?"
_OF_THE_DEAD = """SELECT id, budget, window_start FROM llama_client_reservations
    WHERE owner NOT IN (SELECT id FROM llama_client_owners WHERE alive_until >= ?)"""
_SAY_ALIVE = """INSERT INTO llama_client_owners (id, alive_until) VALUES (?, ?)
    ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until"""
_FORGET_DEAD = "DELETE FROM llama_client_owners WHERE alive_until < ?"
_FORGET_OWNER = "DELETE FROM llama_client_owners WHERE id = ?"
_FORGET_WINDOWS = "DELETE FROM llama_client_spending WHERE window_start > 0 AND window_start < ? AND reserved_pico = 0"
# Windows that ended so long ago are forgotten.
_KEPT_S = 400 * 86_400

_State = dict[Counter, list[int]]


class BudgetStore:
    """A connection to them, for one thread."""

    def __init__(self, storage: Storage, owner: str) -> None:
        self._owner = owner
        self._storage = storage
        self._opened: AbstractContextManager[Connection] = storage.connection()
        self._connection = self._opened.__enter__()
        # SQLite locks the whole database when a transaction begins.
        self._lock = "" if storage.is_sqlite else " FOR UPDATE"
        self._is_new = True

    def apply(self, orders: Sequence[Order], settlements: Sequence[Settlement]) -> list[Answer]:
        """Settles, then grants what fits, in one transaction; each order's answer.

        An order that was granted before, in a transaction of which nobody heard, is not granted twice.
        """
        self._storage.require_same_file()
        with self._storage.told(), self._connection.begin():
            counters = {c for order in orders for c in order.counters} | {c for s in settlements for c in s.counters}
            state = self._locked(counters)
            for settlement in settlements:
                self._settle(settlement, state)
            held = {order.id for order in orders if self._do(_HELD, order.id).first() is not None}
            answers = [Answer() if order.id in held else _answer(order, state) for order in orders]
            for order, answer in zip(orders, answers, strict=True):
                if answer.refused_by is None and order.id not in held:
                    for counter in order.counters:
                        self._do(_HOLD, order.id, counter.budget, counter.window_start, order.pico, self._owner)
            self._write(state)
        return answers

    def say_alive(self, now: float, dead_after_s: float) -> None:
        """Tells the others that this owner lives, and settles what the dead have left, at its worst case."""
        with self._storage.told(), self._connection.begin():
            self._do(_SAY_ALIVE, self._owner, int(now + dead_after_s))
            if self._is_new:
                self._do(_FORGET_WINDOWS, int(now) - _KEPT_S)
                self._is_new = False
            self._settle_all(_OF_THE_DEAD, int(now))
            self._do(_FORGET_DEAD, int(now))

    def leave(self) -> None:
        """This owner ends: what it has not settled, nobody will."""
        with self._storage.told(), self._connection.begin():
            self._settle_all(_OF_OWNER, self._owner)
            self._do(_FORGET_OWNER, self._owner)

    def close(self) -> None:
        """Closes the connection."""
        self._opened.__exit__(None, None, None)

    def _locked(self, counters: set[Counter]) -> _State:
        """What each has settled and set aside, locked in the same order by all, so that nobody waits in a circle."""
        state: _State = {}
        for counter in sorted(counters, key=lambda each: (each.budget, each.window_start)):
            key = (counter.budget, counter.window_start)
            row = self._do(_COUNTER + self._lock, *key).first()
            if row is None:
                self._do(_BEGIN_COUNTER, *key)
                row = self._do(_COUNTER + self._lock, *key).one()
            state[counter] = [int(row[0]), int(row[1])]
        return state

    def _settle(self, settlement: Settlement, state: _State) -> None:
        """Ends a reservation, unless somebody who took this owner for dead has done so."""
        for budget, window_start, pico in self._do(_HELD, settlement.id).all():
            sums = state[Counter(budget, window_start)]
            sums[0] += pico if settlement.pico is None else settlement.pico
            sums[1] -= pico
        self._do(_DROP, settlement.id)

    def _settle_all(self, which: str, of: object) -> None:
        """Settles reservations at their worst case."""
        found = self._do(which, of).all()
        if found:
            state = self._locked({Counter(budget, window_start) for _, budget, window_start in found})
            for identity in {row[0] for row in found}:
                # Looked up anew: another may have settled it while this one waited for the lock.
                self._settle(Settlement(identity, None, list(state)), state)
            self._write(state)

    def _write(self, state: _State) -> None:
        for counter, (settled, reserved) in state.items():
            self._do(_SET, min(settled, MAX_PICO), min(reserved, MAX_PICO), counter.budget, counter.window_start)

    def _do(self, statement: str, *values: object) -> Any:
        if not self._storage.is_sqlite:
            statement = statement.replace("?", "%s")
        return self._connection.exec_driver_sql(statement, values)


def _answer(order: Order, state: _State) -> Answer:
    """Whether an order fits; where it does, it is added to what is set aside."""
    passed, refusing, left = [], None, MAX_PICO
    for limit in order.limits:
        settled, reserved = state[limit.counter]
        if limit.table.on_exceeded != "warn":
            left = min(left, limit.pico - settled - reserved)
        # What has no worst case is let in until the budget is spent.
        fits = settled + reserved + order.pico <= limit.pico if order.pico else settled + reserved < limit.pico
        if fits:
            continue
        if limit.table.on_exceeded == "warn":
            passed.append(limit)
        elif refusing is None:
            refusing = limit
    if refusing is not None:
        settled, reserved = state[refusing.counter]
        return Answer(refusing, settled, reserved, left)
    for counter in order.counters:
        state[counter][1] += order.pico
    return Answer(passed=passed)
