"""What an attempt cost, and what a whole call cost."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from llama_client.types.cost import Cost, CostStatus

# From the best known to the worst.
_STATUSES: tuple[CostStatus, ...] = ("free", "exact", "estimated", "unknown")


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
