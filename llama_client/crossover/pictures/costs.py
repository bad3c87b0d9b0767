"""Costs over volume: a month's in dollars, and what a million tokens costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llama_client.crossover.amounts import tokens
from llama_client.crossover.pictures.curves import Api, Curves, shades, verdict_line
from llama_client.crossover.pictures.numbers import cut, usd
from llama_client.crossover.pictures.style import (
    API_LOOKS,
    DEARER,
    INK,
    LOST,
    MIX,
    OTHER_APIS,
    OWN,
    WINS,
    WON,
    Look,
    dot,
    quieten,
    scale_tokens,
    scale_usd,
    write_above,
    write_legend,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COST_HEADING = "Cost of a month by volume"
PRICE_HEADING = "Cost of a million tokens by volume"
# Above this many times what is cheapest, a curve leaves the picture.
_DEAREST_TIMES = 100
# As in `$0.135/M`; a longer one leaves less room for the name.
_USUAL_PRICE = 8
_BAND_OPACITY, _WINS_OPACITY, _DEARER_OPACITY = 0.22, 0.2, 0.14


def draw_costs(axes: Axes, found: Curves, look: Look) -> None:
    """A month's cost against volume: APIs as lines, machines as a staircase, and where these are cheaper."""
    quieten(axes)
    handles = [*_draw_wins(axes, found), *_draw_band(axes, found)]
    handles = [*_draw_apis(axes, found, look), *_draw_stairs(axes, found), *handles]
    mix = found.mix_usd() if found.apis else []
    if any(not math.isnan(cost) for cost in mix):
        label = "the cheapest mix: own machines, peaks to an API"
        handles += axes.plot(found.volumes, mix, color=MIX, linewidth=1.1, dashes=(4, 2), label=label, zorder=4)
    handles += _draw_places(axes, found)
    band = found.crossover.band
    costs = [found.stairs.usd(found.low), found.stairs.usd(found.high), *(mix or [])]
    costs += [found.api_usd(found.low), found.api_usd(found.high)] if found.apis else []
    costs += [band.low_usd_per_month[0], band.high_usd_per_month[-1]] if band else []
    seen = [cost for cost in costs if cost > 0]  # NaN is not
    scale_tokens(axes, look, found.low, found.high)
    scale_usd(axes, look, min(seen, default=1.0) / 1.6, max(seen, default=1.0) * 1.6)
    verdict, speaks_for_own = verdict_line(found)
    colour = INK if speaks_for_own is None else WON if speaks_for_own else LOST
    write_above(axes, look, heading=COST_HEADING, unit="US dollars a month", note=verdict, colour=colour)
    write_legend(axes, look, handles)


def draw_prices(axes: Axes, found: Curves, look: Look) -> None:
    """The same for a million tokens: a sawtooth that falls to what a full machine costs, and the APIs' floors."""
    quieten(axes)
    handles = _draw_apis(axes, found, look, per_mtok=True)
    own = [found.per_mtok(found.stairs.usd(volume), volume) for volume in found.steps]
    handles += axes.plot(found.steps, own, color=OWN, linewidth=1.6, label="self-hosting", zorder=5)
    band = found.crossover.band
    if band is not None:
        low, high = (
            [found.per_mtok(cost, volume) for cost, volume in zip(costs, band.tokens_per_day, strict=True)]
            for costs in (band.low_usd_per_month, band.high_usd_per_month)
        )
        axes.fill_between(band.tokens_per_day, low, high, color=OWN, alpha=_BAND_OPACITY, linewidth=0)
    handles += _draw_volume(axes, found)
    prices = [*(found.per_mtok(found.api_usd(volume), volume) for volume in found.volumes), *own]
    seen = [price for price in prices if 0 < price < math.inf]
    least = min(seen, default=1.0)
    scale_tokens(axes, look, found.low, found.high)
    scale_usd(axes, look, least / 1.8, min(max(seen, default=1.0), least * _DEAREST_TIMES))
    write_above(axes, look, heading=PRICE_HEADING, unit="US dollars per million tokens")
    write_legend(axes, look, handles)


def _draw_apis(axes: Axes, found: Curves, look: Look, *, per_mtok: bool = False) -> list[Artist]:
    """The cheapest APIs in colours with their prices; the others in grey, together."""

    def draw(api: Api, label: str, **lines: Any) -> list[Artist]:
        costs = [api.line.usd(volume) for volume in found.volumes]
        if per_mtok:
            costs = [found.per_mtok(cost, volume) for cost, volume in zip(costs, found.volumes, strict=True)]
        # Nothing has no place on an axis of orders of magnitude.
        return list(axes.plot(found.volumes, [cost or math.nan for cost in costs], label=label, **lines))

    handles: list[Artist] = []
    for api, (colour, dashes, width) in zip(found.apis, API_LOOKS, strict=False):
        name = cut(api.name, look.name_length - max(0, len(api.price) - _USUAL_PRICE))
        handles += draw(api, f"{name}: {api.price}", color=colour, linestyle=dashes, linewidth=width, zorder=3)
    others = found.apis[len(API_LOOKS) :]
    for number, api in enumerate(others):
        dearest = max(each.usd_per_mtok for each in others)
        label = f"{len(others)} dearer API{'s' if len(others) > 1 else ''}, up to {usd(dearest)}/M"
        lines = draw(api, label, color=OTHER_APIS, linewidth=0.8, zorder=2)
        handles += lines if number == 0 else []
    return handles


def _draw_stairs(axes: Axes, found: Curves) -> list[Artist]:
    costs = [found.stairs.usd(volume) or math.nan for volume in found.steps]
    handles: list[Artist] = list(
        axes.plot(found.steps, costs, color=OWN, linewidth=2, label="self-hosting, machine by machine", zorder=5)
    )
    if found.crossover.verdict == "never":
        api = [found.api_usd(volume) for volume in found.steps]
        label = "what it costs more, at any volume"
        handles.append(
            axes.fill_between(found.steps, api, costs, color=DEARER, alpha=_DEARER_OPACITY, linewidth=0, label=label)
        )
    return handles


def _draw_wins(axes: Axes, found: Curves) -> list[Artist]:
    """Where one's own are cheaper, from top to bottom; the fainter, the less of that stretch it is."""
    from matplotlib.patches import Rectangle

    for start, end, part in shades(found.crossover, found.low, found.high):
        axes.axvspan(start, end, color=WINS, alpha=round(_WINS_OPACITY * part, 3), linewidth=0, zorder=0)
    if not found.crossover.intervals:
        return []
    return [Rectangle((0, 0), 1, 1, color=WINS, alpha=_WINS_OPACITY, linewidth=0, label="self-hosting is cheaper")]


def _draw_band(axes: Axes, found: Curves) -> list[Artist]:
    band = found.crossover.band
    if band is None or not band.varied:
        return []
    low, high = band.low_usd_per_month, band.high_usd_per_month
    label = "where 8 in 10 draws of its cost lie"
    return [
        axes.fill_between(
            band.tokens_per_day, low, high, color=OWN, alpha=_BAND_OPACITY, linewidth=0, label=label, zorder=1
        )
    ]


def _draw_places(axes: Axes, found: Curves) -> list[Artist]:
    """The scenario's own volume, and where the winner changes first and last."""
    crossover = found.crossover
    first, permanent = crossover.first_crossing, crossover.permanent_crossing
    places = [(first, "o", "cheaper for good" if first == permanent else "first cheaper"), (permanent, "D", "for good")]
    handles = _draw_volume(axes, found)
    for place, marker, word in places if first != permanent else places[:1]:
        if place:
            label = f"{word} from {tokens(place)} tokens a day"
            look = {**dot(WON), "marker": marker}
            handles += axes.plot([place], [found.stairs.usd(place)], label=label, **look)
    return handles


def _draw_volume(axes: Axes, found: Curves) -> list[Artist]:
    volume = found.crossover.volume
    if volume is None:
        return []
    label = f"your volume: {tokens(volume)} tokens a day"
    return [axes.axvline(volume, color=INK, linewidth=1.1, linestyle=(0, (1, 1.5)), label=label, zorder=2)]
