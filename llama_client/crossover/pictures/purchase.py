"""What a purchase brings: what has been saved, month by month, less its price."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_client.crossover.amounts import tokens
from llama_client.crossover.pictures.numbers import usd
from llama_client.crossover.pictures.style import (
    DEARER,
    INK,
    LOST,
    MUTED,
    OWN,
    WINS,
    WON,
    Look,
    dot,
    quieten,
    write_above,
    write_legend,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from llama_client.crossover.buying import Investment
    from llama_client.crossover.pictures.curves import Curves

CASH_HEADING = "What the purchase has brought"


def payback_words(bought: Investment) -> str:
    """When it has paid for itself, in words."""
    shown = len(bought.cash_usd) - 1
    if bought.payback_months is None:
        ends = "" if bought.compared_months is None else f", since no API is known to sell it after {shown} months"
        return f"It never pays for itself{ends}"
    late = f", after the {shown} that are shown" if bought.payback_months > shown else ""
    return f"It has paid for itself in month {_month(bought.payback_months)}{late}"


def draw_cash(axes: Axes, found: Curves, look: Look) -> None:
    """What has been saved after each month, less the price, and where that turns to the good."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    bought = found.crossover.investment()
    assert bought is not None
    months = list(range(len(bought.cash_usd)))
    cash = list(bought.cash_usd)
    quieten(axes)
    for sign, colour, opacity in ((1, WINS, 0.2), (-1, DEARER, 0.14)):
        where = [sign * each >= 0 for each in cash]
        axes.fill_between(months, cash, where=where, interpolate=True, color=colour, alpha=opacity, linewidth=0)
    axes.axhline(0, color=INK, linewidth=1)
    handles: list[Artist] = list(axes.plot(months, cash, color=OWN, linewidth=2, label="saved so far, less the price"))
    paid = bought.payback_months
    if paid is not None and paid <= months[-1]:
        handles += axes.plot([paid], [0], label=f"paid for in month {_month(paid)}", **dot(WON))
    replicas = "replica" if bought.replicas == 1 else "replicas"
    handles.append(_words(f"{bought.replicas:,} {replicas} for {usd(bought.price_usd)}"))
    if bought.discounted_payback_months is not None:
        handles.append(_words(f"paid for with interest in month {_month(bought.discounted_payback_months)}"))
    handles.append(_words(f"worth today, what is left sold in the end: {usd(bought.npv_usd)}"))
    axes.set_xlim(0, max(months[-1], 1))
    low, high = min(0.0, *cash), max(0.0, *cash)
    margin = (high - low) * 0.08 or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=look.marks, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: usd(value)))
    axes.set_xlabel("months after the purchase", fontsize=8.5, color=MUTED)
    colour = LOST if paid is None or bought.npv_usd < 0 else WON
    unit = f"US dollars, at {tokens(found.crossover.reference_volume)} tokens a day"
    write_above(axes, look, heading=CASH_HEADING, unit=unit, note=payback_words(bought), colour=colour)
    write_legend(axes, look, handles)


def _words(text: str) -> Artist:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", label=text)


def _month(months: float) -> str:
    return f"{months:.1f}" if months < 100 else f"{months:.0f}"
