"""What tokens cost: whose price holds, what an attempt cost, and what a whole call cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.types.cost import Cost, CostStatus

if TYPE_CHECKING:
    from llama_client.catalog.catalog import Offer
    from llama_client.config.routing import PriceRow

# From the best known to the worst.
_STATUSES: tuple[CostStatus, ...] = ("free", "exact", "estimated", "unknown")
_MTOK = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Rate:
    """What a target's tokens cost, in US dollars per million.

    Attributes:
        input_usd_per_mtok: For tokens of the prompt.
        output_usd_per_mtok: For tokens of the answer.
        cached_usd_per_mtok: For tokens of the prompt that come from a cache; None: as the others.
    """

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_usd_per_mtok: Decimal | None = None

    def usd(self, input_tokens: float, output_tokens: float, cached_tokens: float = 0.0) -> Decimal:
        """What a call costs.

        Args:
            input_tokens: Of the prompt, the cached ones included.
            output_tokens: Of the answer.
            cached_tokens: Of the prompt, from a cache.

        Example:
            >>> Rate(Decimal("0.15"), Decimal("0.60"), Decimal("0.075")).usd(1000, 100, 500)
            Decimal('0.0001725')
        """
        cached_rate = self.input_usd_per_mtok if self.cached_usd_per_mtok is None else self.cached_usd_per_mtok
        cached = Decimal(cached_tokens)
        total = (
            (Decimal(input_tokens) - cached) * self.input_usd_per_mtok
            + cached * cached_rate
            + Decimal(output_tokens) * self.output_usd_per_mtok
        )
        return total / _MTOK


_FREE = Rate(Decimal(0), Decimal(0), Decimal(0))


class PriceBook:
    """Which price holds for a target: the user's own, else the list price that the catalogue knows.

    Args:
        rows: The user's own; of several that hold on a day, the last begun.
        offer: What the catalogue knows of a provider's model.
        today: The day, in UTC.
    """

    def __init__(
        self, rows: Sequence[PriceRow], offer: Callable[[str, str], Offer | None], today: Callable[[], date]
    ) -> None:
        self._rows = rows
        self._offer = offer
        self._today = today

    def rate(self, provider: str, model: str, *, is_free: bool) -> Rate | None:
        """What a target's tokens cost today; None: nobody knows, which is not nothing."""
        today, target = self._today(), f"{provider}/{model}"
        own = [row for row in self._rows if row.target == target and row.holds_on(today)]
        if own:
            row = max(own, key=lambda row: row.effective_from or date.min)
            return Rate(row.input_usd_per_mtok, row.output_usd_per_mtok, row.cached_usd_per_mtok)
        if is_free:
            return _FREE
        offer = self._offer(provider, model)
        if offer is None or offer.input_usd_per_mtok is None or offer.output_usd_per_mtok is None:
            return None
        return Rate(offer.input_usd_per_mtok, offer.output_usd_per_mtok, offer.cached_usd_per_mtok)


def price(*, is_free: bool) -> Cost:
    """The cost of one attempt: nothing on this machine, and unknown, never 0, wherever no price is known."""
    if not is_free:
        return Cost()
    zero = Decimal(0)
    return Cost(usd=zero, status="free", input_usd=zero, cached_usd=zero, output_usd=zero, source="local")


def total(costs: Sequence[Cost]) -> Cost:
    """The cost of a call from those of its charged attempts, the one that answered last: the sum, as sure as its worst.

    Example:
        >>> total([Cost(), price(is_free=True)]).status
        'unknown'
    """
    if len(costs) == 1:
        return costs[0]
    if not costs:
        return Cost()
    status: CostStatus = max((cost.status for cost in costs), key=_STATUSES.index)
    last = costs[-1]
    return Cost(
        usd=_sum([cost.usd for cost in costs]),
        status=status,
        input_usd=_sum([cost.input_usd for cost in costs]),
        cached_usd=_sum([cost.cached_usd for cost in costs]),
        output_usd=_sum([cost.output_usd for cost in costs]),
        source=last.source,
        effective_from=last.effective_from,
    )


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None
