"""Spending of work that no call makes: reserved when it is handed in, settled when it is done, by whichever process.

`routing.billing` does the same for calls. What is set aside here is plain data, to be kept beside the work.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_client.costs.ledger import MAX_QUEUED, LedgerEntries
from llama_client.costs.money import MAX_PICO, to_pico
from llama_client.costs.reservations import Counter, Refused, WorstCase

if TYPE_CHECKING:
    from llama_client.costs.accounting import Accounting
    from llama_client.costs.bills import Tokens
    from llama_client.types.completion import Attempt

# Rows are handed over in lots, so that the ledger's queue never fills.
_LOT = MAX_QUEUED // 4


@dataclass(frozen=True, slots=True)
class Hold:
    """Money that is set aside. The same id settles it, in whichever process.

    Attributes:
        id: Its id in the database of budgets.
        pico: The amount in pico-dollars.
        counters: The budgets and windows that it counts in.
    """

    id: str
    pico: int
    counters: list[tuple[str, int]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Hold:
        return cls(value["id"], value["pico"], [(name, start) for name, start in value["counters"]])


class Spending:
    """The spending of one client that goes through no call. Blocks for milliseconds: not for an event loop.

    Args:
        accounting: The client's.
    """

    def __init__(self, accounting: Accounting) -> None:
        self._budgets = accounting.budgets
        self._ledger = accounting.ledger
        self._put = 0

    def hold(self, provider: str, usd: Decimal | None, tags: Mapping[str, str], at: float) -> Hold:
        """What `reserve` is going to set aside, to be written down first.

        Args:
            provider: The provider's name in the configuration.
            usd: The most that the work can cost; None: unknown.
            tags: Those that budgets may be for.
            at: The moment whose windows it counts in, in Unix time.
        """
        limits = [] if self._budgets is None else self._budgets.limits(provider, tags, at)
        pico = 0 if usd is None else min(to_pico(usd), MAX_PICO)
        return Hold(uuid.uuid4().hex, pico, [(limit.counter.budget, limit.counter.window_start) for limit in limits])

    def reserve(self, hold: Hold, target: str, usd: Decimal | None, tags: Mapping[str, str], at: float) -> None:
        """Sets money aside.

        Args:
            hold: What `hold` gave.
            target: `provider/model`.
            usd: As given to `hold`.
            tags: As given to `hold`.
            at: As given to `hold`.

        Raises:
            BudgetExceededError: A budget does not allow it.
        """
        if self._budgets is None or not hold.counters:
            return
        limits = self._budgets.limits(target.partition("/")[0], tags, at)
        worst = None if usd is None else WorstCase(usd, usd, None)
        outcome = self._budgets.reserve(target, limits, worst, lambda _: None, identity=hold.id).wait()
        if isinstance(outcome, Refused):
            raise outcome.error

    def settle(self, hold: Hold, usd: Decimal | None) -> None:
        """Puts what the work cost in the place of what was set aside; a second time does nothing.

        Args:
            hold: The money.
            usd: The cost; None: unknown, so all that was set aside.
        """
        if self._budgets is not None and hold.counters:
            pico = None if usd is None else min(to_pico(usd), MAX_PICO)
            self._budgets.settle(hold.id, pico, [Counter(*counter) for counter in hold.counters])

    def record(
        self, request_id: str, attempt: Attempt, tokens: Tokens | None, *, tags: Mapping[str, str], at: float
    ) -> None:
        """Writes a row of the ledger; one with the same request id that is there already stays.

        Args:
            request_id: The id of the piece of work.
            attempt: What was done, with its cost.
            tokens: What was charged for; None: nothing.
            tags: Its labels.
            at: Its moment in Unix time.
        """
        if self._ledger is None:
            return
        LedgerEntries(self._ledger, request_id, tags).add(attempt, None, 1, at, tokens)
        self._put += 1
        if self._put % _LOT == 0:
            self._ledger.flush()

    def flush(self) -> None:
        """Waits until all of it is in the database, or cannot be written."""
        if self._ledger is not None:
            self._ledger.flush()
        if self._budgets is not None:
            self._budgets.flush()
