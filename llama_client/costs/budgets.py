"""Budgets: the worst case of an attempt is set aside before it is made, and what it cost is settled after.

So calls that are under way count too, however many there are, in however many threads and processes. An event loop
waits for the database only by awaiting.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.costs.keeper import Keeper
from llama_client.costs.money import MAX_PICO, exactly, from_pico, shown, to_pico
from llama_client.costs.reservations import (
    Answer,
    Counter,
    Limit,
    Order,
    Purchase,
    Refused,
    Reservation,
    Reserved,
    WorstCase,
)
from llama_client.errors import BudgetExceededError

if TYPE_CHECKING:
    from llama_client.clock import Clock
    from llama_client.config.accounting import BudgetTable
    from llama_client.costs.storage import Storage
    from llama_client.costs.windows import Calendar

_log = logging.getLogger("llama_client.ledger")

# How long an attempt waits for the database; SQLite itself waits five seconds for another process.
_PATIENCE_S = 10.0
# Warnings that were logged; each is once a window.
_MAX_WARNED = 500


class Budgets:
    """The budgets of one client.

    Args:
        tables: Those of the configuration.
        open_storage: Opens the database, in a thread.
        calendar: The user's days.
        clock: The time.
    """

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

    def reserve(self, purchase: Purchase) -> Reserved | Refused:
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

    async def areserve(self, purchase: Purchase) -> Reserved | Refused:
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

    def _mine(self) -> Keeper:
        if self._keeper.pid != os.getpid():
            # What the parent has set aside is the parent's to settle.
            self._when_dropped.detach()
            self._keeper = self._new_keeper()
        return self._keeper

    def _new_keeper(self) -> Keeper:
        keeper = Keeper(self._open_storage, self._clock)
        self._when_dropped = weakref.finalize(self, keeper.leave)
        self._when_dropped.atexit = False
        return keeper

    def _prepared(self, purchase: Purchase) -> Order | Reserved | Refused:
        limits = self.limits(purchase.provider, purchase.tags, purchase.at)
        if not limits:
            return Reserved(None)
        if purchase.worst is None:
            for limit in limits:
                if limit.table.on_unpriced == "refuse" and limit.table.on_exceeded != "warn":
                    return self._unpriced(purchase, limit)
        pico = min(to_pico(purchase.worst.usd), MAX_PICO) if purchase.worst is not None else 0
        return Order(uuid.uuid4().hex, pico, limits)

    def _judged(self, purchase: Purchase, order: Order, answer: Answer | BaseException) -> Reserved | Refused:
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
    def _exceeded(purchase: Purchase, limit: Limit, answer: Answer) -> Refused:
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
    def _unpriced(purchase: Purchase, limit: Limit) -> Refused:
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
