"""What is said when money is set aside for an attempt: plain data, and the reservation that is settled once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.costs.money import MAX_PICO, to_pico
from llama_client.errors import BudgetExceededError

if TYPE_CHECKING:
    from llama_client.config.accounting import BudgetTable
    from llama_client.costs.windows import Span


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The most that an attempt can cost.

    Attributes:
        usd: All of it.
        input_usd: The prompt.
        usd_per_output_token: One more token of the answer (of each answer, where several are wanted); None: it is paid
            by time.
    """

    usd: Decimal
    input_usd: Decimal
    usd_per_output_token: Decimal | None


@dataclass(frozen=True, slots=True)
class Purchase:
    """An attempt that will cost something.

    Attributes:
        target: `provider/model`.
        provider: The provider's name.
        tags: The call's labels.
        at: The moment, in seconds since the Unix epoch.
        worst: The most that it can cost; None: nobody knows.
    """

    target: str
    provider: str
    tags: Mapping[str, str]
    at: float
    worst: WorstCase | None


@dataclass(frozen=True, slots=True)
class Counter:
    """What is counted together: a scope, a kind of window and (for tags) a value, in one window.

    Attributes:
        budget: The three of them.
        window_start: When the window began, in seconds since the Unix epoch.
    """

    budget: str
    window_start: int


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget of the configuration, for one purchase."""

    table: BudgetTable
    counter: Counter
    span: Span
    name: str

    @property
    def pico(self) -> int:
        """How much, in pico-dollars."""
        return to_pico(self.table.usd)


@dataclass(frozen=True, slots=True)
class Order:
    """A reservation as it is asked for.

    Attributes:
        id: Its own.
        pico: How much, in pico-dollars.
        limits: What it must fit into.
    """

    id: str
    pico: int
    limits: Sequence[Limit]

    @property
    def counters(self) -> list[Counter]:
        """Each of them once."""
        return list(dict.fromkeys(limit.counter for limit in self.limits))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an order.

    Attributes:
        refused_by: The budget that it does not fit into; None: it was granted.
        settled_pico: What that budget has settled.
        reserved_pico: What is set aside in it.
        left_pico: What is left in the tightest of the budgets that refuse.
        passed: Budgets that only warn, and that it passes.
    """

    refused_by: Limit | None = None
    settled_pico: int = 0
    reserved_pico: int = 0
    left_pico: int = 0
    passed: Sequence[Limit] = ()


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a reservation.

    Attributes:
        id: Which.
        pico: What it came to; None: nobody knows, so its worst case.
        counters: Where it stands.
    """

    id: str
    pico: int | None
    counters: Sequence[Counter]


class Reservation:
    """Money that is set aside for one attempt, until it is settled; once."""

    def __init__(self, order: Order, settle: Callable[[Settlement], None]) -> None:
        self._order = order
        self._settle = settle
        self._is_settled = False

    def settle(self, usd: Decimal | None) -> None:
        """The attempt is over.

        Args:
            usd: What it cost; None: nobody knows, so that its worst case counts as spent.
        """
        if not self._is_settled:
            self._is_settled = True
            pico = None if usd is None else min(to_pico(usd), MAX_PICO)
            self._settle(Settlement(self._order.id, pico, self._order.counters))

    def release(self) -> None:
        """It was never made."""
        self.settle(Decimal(0))


@dataclass(frozen=True, slots=True)
class Reserved:
    """The attempt may be made.

    Attributes:
        reservation: To be settled when it is over; None: no budget covers it.
        warnings: What a careful user would want to know.
    """

    reservation: Reservation | None
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not.

    Attributes:
        error: Why.
        only_free: Whether nobody else may be asked who costs anything.
    """

    error: BudgetExceededError
    only_free: bool
