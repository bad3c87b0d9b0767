"""What a purchase brings: when it has paid for itself, and what it is worth by then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# After a hundred years nobody asks any more.
MAX_MONTHS = 1_200


@dataclass(frozen=True, slots=True)
class Investment:
    """What buying machines brings against paying an API, at one volume.

    Attributes:
        replicas: Bought.
        price_usd: Of all of them.
        running_usd_per_month: Power, colocation, support and staff at that volume.
        api_usd_per_month: What the API would cost in the first month.
        payback_months: When what was saved has paid for the price; None: never, within a hundred years.
        discounted_payback_months: The same with what is saved later worth less.
        npv_usd: What the purchase is worth today, at the end of its writing off and with what is left sold.
        irr_per_year: The yearly interest at which it is worth nothing; None: there is none.
        cash_usd: What has been saved after each month, less the price; begins with the price alone.
        compared_months: How long an API sells it; None: no end is known.
    """

    replicas: int
    price_usd: float
    running_usd_per_month: float
    api_usd_per_month: float
    payback_months: float | None
    discounted_payback_months: float | None
    npv_usd: float
    irr_per_year: float | None
    cash_usd: tuple[float, ...]
    compared_months: int | None


def payback_months(
    price_usd: float, saved_usd: Callable[[int], float | None], *, monthly_interest: float = 0.0
) -> float | None:
    """When what is saved has paid for a price; within a month, in proportion.

    Args:
        price_usd: What is paid at the start.
        saved_usd: What a month saves, by its number from 1 on; None: nothing can be said from there on.
        monthly_interest: By which what is saved later is worth less.

    Returns:
        Months; None: not within a hundred years, or not while anything can be said.

    Examples:
        >>> payback_months(1000, lambda month: 400)
        2.5
        >>> payback_months(1000, lambda month: -1) is None
        True
    """
    left = price_usd
    for month in range(1, MAX_MONTHS + 1):
        saved = saved_usd(month)
        if saved is None:
            return None
        saved /= (1 + monthly_interest) ** month
        if saved >= left:
            return month - 1 + (left / saved if saved > 0 else 0.0)
        left -= saved
    return None


def net_present_value_usd(flows_usd: list[float], monthly_interest: float) -> float:
    """What payments are worth today.

    Args:
        flows_usd: The first one now, then one a month.
        monthly_interest: What money costs.
    """
    # By Horner's rule: powers of a rate that is far off would be too large for a float.
    worth, kept = 0.0, 1 / (1 + monthly_interest)
    for flow in reversed(flows_usd):
        worth = worth * kept + flow
    return worth


def internal_rate_per_year(flows_usd: list[float]) -> float | None:
    """The yearly interest at which payments are worth nothing.

    Args:
        flows_usd: The first one now, then one a month.

    Returns:
        As a share; None: there is none between losing half and gaining a hundredfold a month, or nothing is paid out.

    Examples:
        >>> round(internal_rate_per_year([-1000] + [0] * 11 + [1100]), 3)
        0.1
    """
    low, high = -0.5, 100.0
    if not net_present_value_usd(flows_usd, low) > 0 > net_present_value_usd(flows_usd, high):
        return None
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if net_present_value_usd(flows_usd, middle) > 0 else (low, middle)
    return float((1 + low) ** 12 - 1)
