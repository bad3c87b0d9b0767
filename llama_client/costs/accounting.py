"""The books of one client: prices, the time of the user's machines, the ledger and budgets, put together.

The record of a call hands each attempt here once, when it is over; nothing else prices or writes anything.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.costs.bills import MachineTime

if TYPE_CHECKING:
    from llama_client.costs.budgets import Budgets
    from llama_client.costs.ledger import Ledger
    from llama_client.costs.prices import PriceBook


@dataclass(frozen=True, slots=True)
class MachineUse:
    """The time of a machine that an attempt has."""

    machine: MachineTime
    began: float


class Machines:
    """The machines that cost by time: each provider with such a price is one.

    Args:
        names: The providers.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._begin()

    def begin(self, provider: str, now: float) -> MachineUse | None:
        """An attempt begins there; None: nothing is known of such a machine."""
        if provider not in self._names:
            return None
        if self._pid != os.getpid():
            # What the parent has under way will never end here.
            self._begin()
        machine = self._machines[provider]
        return MachineUse(machine, machine.begin(now))

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._machines = {name: MachineTime() for name in self._names}


@dataclass(frozen=True, slots=True)
class Accounting:
    """What a client keeps its accounts with. All of its views share it.

    Attributes:
        prices: Whose price holds.
        machines: The machines that cost by time.
        ledger: Where attempts are written down; None: nowhere.
        budgets: What may be spent; None: there is no limit.
    """

    prices: PriceBook
    machines: Machines
    ledger: Ledger | None
    budgets: Budgets | None

    def close(self) -> None:
        """Settles and writes what is left."""
        if self.budgets is not None:
            self.budgets.close()
        if self.ledger is not None:
            self.ledger.close()

    async def aclose(self) -> None:
        """The same off the event loop."""
        import asyncio

        await asyncio.to_thread(self.close)
