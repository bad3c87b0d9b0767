"""Reservations: plain data for reserving money for an attempt, and the reservation that is settled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from llama_client.costs.money import MAX_PICO, to_pico
from llama_client.errors import BudgetExceededError

if TYPE_CHECKING:
    from llama_client.config.tables import BudgetTable
    from llama_client.costs.money import Span


class WorstCase(NamedTuple):
    usd: Decimal
    input_usd: Decimal
    # None: the cost does not depend on the answer's length.
    usd_per_output_token: Decimal | None


class Counter(NamedTuple):
    # A scope, a kind of window and (for tags) a value.
    budget: str
    window_start: int


class Limit(NamedTuple):
    table: BudgetTable
    counter: Counter
    span: Span
    name: str

    @property
    def pico(self) -> int:
        return to_pico(self.table.usd)

    @property
    def blocks(self) -> bool:
        return self.table.on_exceeded != "warn"


class Order(NamedTuple):
    # Makes it idempotent.
    id: str
    pico: int
    limits: Sequence[Limit]

    @property
    def counters(self) -> list[Counter]:
        return list(dict.fromkeys(limit.counter for limit in self.limits))


class OtherWindow(NamedTuple):
    """A window of the same budget that overlaps a limit's own: another program counts in another time zone."""

    limit: Limit
    start: int


class Decision(NamedTuple):
    refused_by: Limit | None = None
    settled_pico: int = 0
    reserved_pico: int = 0
    left_pico: int = 0
    # Budgets that only warn, and are exceeded.
    exceeded: Sequence[Limit] = ()
    other_windows: Sequence[OtherWindow] = ()


@dataclass(frozen=True, slots=True)
class Settlement:
    id: str
    # None: the worst case.
    pico: int | None
    counters: Sequence[Counter]


@dataclass(eq=False)
class Reservation:
    _order: Order
    _settle: Callable[[Settlement], None]
    _is_settled: bool = False

    def settle(self, usd: Decimal | None) -> None:
        """The attempt cost this; None: unknown, so its worst case. The first one counts, also where an interrupt makes
        it two."""
        if not self._is_settled:
            pico = None if usd is None else min(to_pico(usd), MAX_PICO)
            self._settle(Settlement(self._order.id, pico, self._order.counters))
            self._is_settled = True

    def release(self) -> None:
        """The attempt was never made; the order may not even have been placed."""
        self.settle(Decimal(0))

    def forget(self) -> None:
        """Nothing was reserved."""
        self._is_settled = True


class Reserved(NamedTuple):
    warnings: Sequence[str] = ()


class Refused(NamedTuple):
    error: BudgetExceededError
    only_free: bool
