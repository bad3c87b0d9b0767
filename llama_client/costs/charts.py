"""Costs by day as a chart of characters: with colours, and readable without them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.costs.money import shown
from llama_client.costs.stacks import MAX_LAYERS, Bar, Layer, Stack, Unit, is_unpriced, stack

if TYPE_CHECKING:
    from rich.text import Text

    from llama_client.types.report import DayCosts

# More lines than a month's would not be seen at once.
MAX_BARS = 31
# Longer bars say nothing more.
_MAX_WIDTH, _MIN_BAR_WIDTH = 120, 8
_FILLS, _ASCII_FILLS = "█▓▒░#=+%", "#=+o%*x@"
_REST_FILL = "."
# Names, as a terminal's own theme makes them readable on its background.
_STYLES = ("blue", "yellow", "magenta", "cyan", "red", "green", "bright_blue", "bright_magenta")
_HEADINGS: dict[Unit, str] = {
    "day": "US dollars a day",
    "week": "US dollars a week, each with its Monday",
    "month": "US dollars a month",
    "year": "US dollars a year",
}
_LABELS: dict[Unit, str] = {"day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
assert len(_FILLS) == len(_ASCII_FILLS) == len(_STYLES) == MAX_LAYERS


def terminal_chart(days: Sequence[DayCosts], width: int, *, ascii_only: bool = False) -> list[Text]:
    """Costs by day for a terminal: a bar for each day, its amount, and the key to the bars.

    More than 31 days are put together to weeks, months or years, and more than eight groups to eight.

    Args:
        days: The days that had calls; those between are shown too.
        width: The terminal's, in characters.
        ascii_only: The terminal shows nothing else.

    Returns:
        The lines.

    Example:
        from rich.console import Console

        console = Console()
        for line in terminal_chart(client.costs.by_day(since="7d"), console.width):
            console.print(line)
    """
    from rich.text import Text

    chart = stack(days, MAX_BARS)
    fills = _fills(chart.layers, ascii_only=ascii_only)
    return [Text(_HEADINGS[chart.unit], "bold"), *_bars(chart, fills, width), Text(), *_key(chart.layers, fills)]


def money_column(amounts: Sequence[Decimal]) -> list[str]:
    """Amounts for a column: the points below each other.

    Example:
        >>> money_column([Decimal("12"), Decimal("0.0035")])
        ['$12.00  ', ' $0.0035']
    """
    texts = [shown(usd) for usd in amounts]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    texts = [text + " " * (decimals - len(text.partition(".")[2])) for text in texts]
    width = max((len(text) for text in texts), default=0)
    return [text.rjust(width) for text in texts]


def _fills(layers: Sequence[Layer], *, ascii_only: bool) -> list[Text]:
    from rich.text import Text

    signs = _ASCII_FILLS if ascii_only else _FILLS
    return [
        Text(_REST_FILL) if layer.is_rest else Text(sign, style)
        for layer, sign, style in zip(layers, signs, _STYLES, strict=False)
    ]


def _bars(chart: Stack, fills: Sequence[Text], width: int) -> list[Text]:
    from rich.text import Text

    amounts = money_column([bar.total_usd for bar in chart.bars])
    notes = [f"  {bar.unpriced_calls:,} unpriced" if bar.unpriced_calls else "" for bar in chart.bars]
    labels = [bar.first_day.strftime(_LABELS[chart.unit]) for bar in chart.bars]
    beside = max(
        (len(label + amount + note) for label, amount, note in zip(labels, amounts, notes, strict=True)), default=0
    )
    room = max(min(width, _MAX_WIDTH) - beside - 4, _MIN_BAR_WIDTH)
    longest_usd = max((bar.total_usd for bar in chart.bars), default=Decimal(0))
    lines = []
    for label, bar, amount, note in zip(labels, chart.bars, amounts, notes, strict=True):
        line = Text(f"{label}  ")
        lengths = _lengths(bar, longest_usd, room)
        for fill, length in zip(fills, lengths, strict=True):
            line.append(fill.plain * length, fill.style)
        line.append(f"{' ' * (room - sum(lengths))}  {amount}")
        line.append(note, "bold")
        lines.append(line)
    return lines


def _lengths(bar: Bar, longest_usd: Decimal, room: int) -> list[int]:
    """How many characters each layer has: together as many as the bar, whatever was rounded on the way."""
    lengths: list[int] = []
    usd = Decimal(0)
    for part in bar.usd:
        usd += part
        end = round(usd / longest_usd * room) if longest_usd else 0
        lengths.append(end - sum(lengths))
    if usd and not any(lengths):
        # What cost anything is seen.
        lengths[bar.usd.index(max(bar.usd))] = 1
    return lengths


def _key(layers: Sequence[Layer], fills: Sequence[Text]) -> list[Text]:
    from rich.text import Text

    amounts = money_column([layer.usd for layer in layers])
    lines = []
    for layer, fill, amount in zip(layers, fills, amounts, strict=True):
        known = "-".rjust(len(amount)) if is_unpriced(layer) else amount
        note = f", {layer.unpriced_calls:,} unpriced" if layer.unpriced_calls else ""
        lines.append(Text.assemble((fill.plain * 2, fill.style), f"  {known}  {layer.name}", (note, "bold")))
    return lines
