"""The money of a job: what is spent, what may still be spent by what is under way, and whether a row may begin."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from decimal import Decimal

from llama_client.costs.money import added


@dataclass(slots=True, eq=False)
class Purse:
    """Holds `max_usd` over all runs of a job. Safe to use from several threads; no I/O.

    Args:
        most_usd: What the job may cost.
        spent_usd: What its earlier runs cost.

    Attributes:
        held_usd: The worst case of what is under way.
    """

    most_usd: Decimal
    spent_usd: Decimal = Decimal(0)
    held_usd: Decimal = Decimal(0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def left_usd(self) -> Decimal:
        """What nothing has a claim on."""
        with self._lock:
            return self._left()

    def take(self, worst_usd: Decimal | None) -> bool:
        """Sets the worst case of one call aside, where it fits; an unknown one never does."""
        with self._lock:
            # What is free may always begin.
            if worst_usd is None or (worst_usd and worst_usd > self._left()):
                return False
            self.held_usd = added(self.held_usd, worst_usd)
            return True

    def take_for_good(self, worst_usd: Decimal) -> None:
        """Sets aside what an earlier step has found to fit, or another process has spent the right to."""
        with self._lock:
            self.held_usd = added(self.held_usd, worst_usd)

    def settle(self, worst_usd: Decimal, usd: Decimal | None) -> None:
        """Puts what a call cost in the place of what was set aside; an unknown cost is the worst one."""
        with self._lock:
            self.held_usd = added(self.held_usd, -worst_usd)
            self.spent_usd = added(self.spent_usd, worst_usd if usd is None else usd)

    def _left(self) -> Decimal:
        return added(self.most_usd, -self.spent_usd, -self.held_usd)
