"""The budgets' tables: reservations granted and settled in transactions, across processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_client.costs.database import Storage
from llama_client.costs.money import CALENDAR_WINDOWS, MAX_PICO
from llama_client.costs.reservations import Counter, Decision, Limit, Order, OtherWindow, Settlement

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from llama_client.costs.money import Calendar

_BEGIN_COUNTER = "INSERT INTO llama_client_spending VALUES (?, ?, 0, 0) ON CONFLICT DO NOTHING"
_COUNTER = "SELECT settled_pico, reserved_pico FROM llama_client_spending WHERE budget = ? AND window_start = ?"
_SET = "UPDATE llama_client_spending SET settled_pico = ?, reserved_pico = ? WHERE budget = ? AND window_start = ?"
_HOLD = "INSERT INTO llama_client_reservations (id, budget, window_start, pico, owner) VALUES (?, ?, ?, ?, ?)"
_HELD = "SELECT budget, window_start, pico FROM llama_client_reservations WHERE id = ?"
_DROP = "DELETE FROM llama_client_reservations WHERE id = ?"
_OF_OWNER = "SELECT id, budget, window_start FROM llama_client_reservations WHERE owner = ?"
_OF_THE_DEAD = """SELECT id, budget, window_start FROM llama_client_reservations
    WHERE owner NOT IN (SELECT id FROM llama_client_owners WHERE alive_until >= ?)"""
_PRESUME = """INSERT INTO llama_client_presumed (id, budget, window_start, pico, at)
    SELECT id, budget, window_start, pico, ? FROM llama_client_reservations WHERE id = ?"""
_PRESUMED = "SELECT budget, window_start, pico FROM llama_client_presumed WHERE id = ?"
_DROP_PRESUMED = "DELETE FROM llama_client_presumed WHERE id = ?"
_FORGET_PRESUMED = "DELETE FROM llama_client_presumed WHERE at < ?"
_OTHER_WINDOW = """SELECT window_start FROM llama_client_spending
    WHERE budget = ? AND window_start > ? AND window_start < ? AND window_start <> ? LIMIT 1"""
# The clients that share a PostgreSQL database may have clocks that differ; those that share a file have one clock.
_DATABASE_CLOCK = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)"
_SAY_ALIVE = """INSERT INTO llama_client_owners (id, alive_until) VALUES (?, ?)
    ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until"""
_FORGET_DEAD = "DELETE FROM llama_client_owners WHERE alive_until < ?"
_FORGET_OWNER = "DELETE FROM llama_client_owners WHERE id = ?"
_FORGET_WINDOWS = "DELETE FROM llama_client_spending WHERE window_start > 0 AND window_start < ? AND reserved_pico = 0"
# Windows that ended so long ago are forgotten.
_KEPT_S = 400 * 86_400
# How long a client that seemed dead may be away, and its true costs still take the place of the worst cases.
_PRESUMED_S = 30 * 86_400
# Counters that were looked at for windows of other time zones; each is once.
_MAX_CHECKED = 10_000

_State = dict[Counter, list[int]]


class BudgetStore:
    def __init__(self, storage: Storage, connection: Connection, owner: str, calendar: Calendar) -> None:
        self.connection = connection
        self._owner = owner
        self._storage = storage
        self._calendar = calendar
        # SQLite locks the whole database when a transaction begins.
        self._lock = "" if storage.place.is_sqlite else " FOR UPDATE"
        self._is_new = True
        self._checked: set[Counter] = set()

    def apply(
        self, orders: Sequence[Order], settlements: Sequence[Settlement], *, is_retry: bool = False
    ) -> list[Decision]:
        """Settles, then grants what fits, in one transaction. Returns a decision for each order."""
        self._storage.require_same_file()
        with self._storage.place.reading(), self.connection.begin():
            counters = {c for order in orders for c in order.counters} | {c for s in settlements for c in s.counters}
            state = self._locked(counters)
            for settlement in settlements:
                self._settle(settlement, state)
            # Granted before, when the connection broke before the commit was confirmed.
            held = {order.id for order in orders if self._is_granted(order)} if is_retry else set[str]()
            decisions = [Decision() if order.id in held else _decide(order, state) for order in orders]
            for order, decision in zip(orders, decisions, strict=True):
                if decision.refused_by is None and order.id not in held:
                    for counter in order.counters:
                        self._do(_HOLD, order.id, *counter, order.pico, self._owner)
            self._write(state)
            return [self._with_other_windows(*each) for each in zip(orders, decisions, strict=True)]

    def say_alive(self, wall: float, dead_after_s: float) -> None:
        """Renews this owner's sign of life, and settles reservations of dead owners at their worst case."""
        with self._storage.place.reading(), self.connection.begin():
            now = self._now(wall)
            self._do(_SAY_ALIVE, self._owner, now + int(dead_after_s))
            if self._is_new:
                self._do(_FORGET_WINDOWS, now - _KEPT_S)
                self._do(_FORGET_PRESUMED, now - _PRESUMED_S)
                self._is_new = False
            self._presume(_OF_THE_DEAD, now, now)
            self._do(_FORGET_DEAD, now)

    def leave(self, wall: float) -> None:
        """Settles the reservations that this owner still has, at their worst case, and removes it."""
        with self._storage.place.reading(), self.connection.begin():
            self._presume(_OF_OWNER, self._owner, self._now(wall))
            self._do(_FORGET_OWNER, self._owner)

    def _now(self, wall: float) -> int:
        return int(wall) if self._storage.place.is_sqlite else int(self._do(_DATABASE_CLOCK).scalar())

    def _locked(self, counters: set[Counter]) -> _State:
        """What each has settled and reserved. Every client locks in the same order, so that none deadlocks."""
        state: _State = {}
        for counter in sorted(counters):
            row = self._do(_COUNTER + self._lock, *counter).first()
            if row is None:
                self._do(_BEGIN_COUNTER, *counter)
                row = self._do(_COUNTER + self._lock, *counter).one()
            state[counter] = [int(row[0]), int(row[1])]
        return state

    def _is_granted(self, order: Order) -> bool:
        return any(self._do(where, order.id).first() is not None for where in (_HELD, _PRESUMED))

    def _settle(self, settlement: Settlement, state: _State) -> None:
        """Ends a reservation; a second time it does nothing."""
        held = self._do(_HELD, settlement.id).all()
        if held:
            for budget, window_start, pico in held:
                sums = state[Counter(budget, window_start)]
                sums[0] += pico if settlement.pico is None else settlement.pico
                sums[1] -= pico
            self._do(_DROP, settlement.id)
            return
        # This owner seemed dead, or has left: the worst case is settled already.
        presumed = self._do(_PRESUMED, settlement.id).all()
        for budget, window_start, pico in presumed:
            state[Counter(budget, window_start)][0] += 0 if settlement.pico is None else settlement.pico - pico
        if presumed:
            self._do(_DROP_PRESUMED, settlement.id)

    def _presume(self, which: str, of: object, now: int) -> None:
        """Settles reservations at their worst case, until their owner settles them after all."""
        found = self._do(which, of).all()
        if not found:
            return
        state = self._locked({Counter(budget, window_start) for _, budget, window_start in found})
        for identity in {row[0] for row in found}:
            # Read anew: another client may have settled it while this one waited for the lock.
            for budget, window_start, pico in self._do(_HELD, identity).all():
                sums = state[Counter(budget, window_start)]
                sums[0] += pico
                sums[1] -= pico
            self._do(_PRESUME, now, identity)
            self._do(_DROP, identity)
        self._write(state)

    def _with_other_windows(self, order: Order, decision: Decision) -> Decision:
        """Adds the budgets that another time zone has begun anew; each is looked for once."""
        unchecked = [each for each in order.limits if each.counter not in self._checked]
        if not unchecked:
            return decision
        if len(self._checked) > _MAX_CHECKED:
            self._checked.clear()
        self._checked.update(each.counter for each in unchecked)
        found = ((each, self._other_window(each)) for each in unchecked)
        others = [OtherWindow(each, start) for each, start in found if start is not None]
        return decision._replace(other_windows=others) if others else decision

    def _other_window(self, limit: Limit) -> int | None:
        """When a window of the same budget begins that overlaps this one; None: there is none."""
        (budget, start), window = limit.counter, limit.table.window
        if window not in CALENDAR_WINDOWS or limit.span.end is None:
            return None
        before = self._calendar.span(window, start - 1).start
        found = self._do(_OTHER_WINDOW, budget, before, limit.span.end, start).first()
        return None if found is None else int(found[0])

    def _write(self, state: _State) -> None:
        for counter, (settled, reserved) in state.items():
            self._do(_SET, min(settled, MAX_PICO), min(reserved, MAX_PICO), *counter)

    def _do(self, statement: str, *values: object) -> Any:
        if not self._storage.place.is_sqlite:
            statement = statement.replace("?", "%s")
        return self.connection.exec_driver_sql(statement, values)


def _decide(order: Order, state: _State) -> Decision:
    """Whether an order fits every budget that blocks; where it does, it is added to what is reserved."""
    exceeded, refusing, left = [], None, MAX_PICO
    for limit in order.limits:
        settled, reserved = state[limit.counter]
        if limit.blocks:
            left = min(left, limit.pico - settled - reserved)
        # Without a worst case an order fits until the budget is spent.
        if settled + reserved + (order.pico or 1) <= limit.pico:
            continue
        if not limit.blocks:
            exceeded.append(limit)
        elif refusing is None:
            refusing = limit
    if refusing is not None:
        settled, reserved = state[refusing.counter]
        return Decision(refusing, settled, reserved, left)
    for counter in order.counters:
        state[counter][1] += order.pico
    return Decision(exceeded=exceeded)
