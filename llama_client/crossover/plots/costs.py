"""Panels of costs over volume and of the savings of a purchase, and the points that they draw."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llama_client.crossover.crossings import Interval, Line, Staircase
from llama_client.crossover.economics import MTOK, line, staircase
from llama_client.crossover.format import counted, cut, share, short_usd, times, tokens
from llama_client.crossover.headline import crossing_in_words, name_of
from llama_client.crossover.offers_report import absence
from llama_client.crossover.plots import style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from llama_client.crossover.draws import CrossingBand
    from llama_client.crossover.economics import Investment
    from llama_client.crossover.evaluation import Crossover


# Steps drawn one by one; further ones are so flat that they look like a slope.
_STEPS = 120
# The largest volume of a scenario.
_MOST_TOKENS = 1e18
# Cells of an axis: intervals and gaps that are narrower are drawn as a shade.
_CELLS = 300
# A mix that saves less than this share would coincide with another line.
_WORTH_A_LINE = 0.98


@dataclass(frozen=True, slots=True)
class Api:
    """An API as a line."""

    name: str
    line: Line
    usd_per_mtok: float  # monthly fees apart

    @property
    def price(self) -> str:
        fees = f"{short_usd(self.line.fixed_usd)} a month" if self.line.fixed_usd else ""
        by_token = f"{short_usd(self.usd_per_mtok)}/M" if self.usd_per_mtok else ""
        return " and ".join(part for part in (by_token, fees) if part) or "free"


@dataclass(frozen=True, slots=True)
class Curves:
    crossover: Crossover
    stairs: Staircase
    apis: tuple[Api, ...]  # cheapest at the reference volume first
    volumes: tuple[float, ...]  # tokens a day, evenly over orders of magnitude
    steps: tuple[float, ...]  # the volumes at which the staircase is drawn: both ends of each step
    investment: Investment | None  # at the reference volume; None: the machines are rented, or no API sells the model

    @property
    def low(self) -> float:
        return self.volumes[0]

    @property
    def high(self) -> float:
        return self.volumes[-1]

    def api_usd(self, volume: float) -> float:
        """The cheapest API's cost a month; infinite where there is none."""
        return min((api.line.usd(volume) for api in self.apis), default=math.inf)

    def per_mtok(self, usd_per_month: float, volume: float) -> float:
        return usd_per_month / (volume * self.crossover.plan.days_per_month) * MTOK

    def all_per_mtok(self, costs: Sequence[float], volumes: Sequence[float]) -> list[float]:
        return [self.per_mtok(cost, volume) for cost, volume in zip(costs, volumes, strict=True)]

    def mix_usd(self) -> list[float]:
        """The cheapest mix's cost at each volume; NaN before the first and after the last that is worth a line."""
        mixes = [self.crossover.hybrid(volume) if volume < _MOST_TOKENS else None for volume in self.volumes]
        worth = [
            place
            for place, (mix, volume) in enumerate(zip(mixes, self.volumes, strict=True))
            if mix is not None
            and mix.replicas > 0
            and mix.usd_per_month < _WORTH_A_LINE * min(self.stairs.usd(volume), self.api_usd(volume))
        ]
        within = range(worth[0], worth[-1] + 1) if worth else range(0)
        return [mix.usd_per_month if mix and place in within else math.nan for place, mix in enumerate(mixes)]

    def least_ratio(self) -> float:
        """The least ratio of self-hosting's cost to the cheapest API's at any volume."""
        ends = [*self.steps, self.stairs.edge(10**6) if self.stairs.edge(10**6) < math.inf else self.high]
        return min(_ratio(self.stairs.usd(volume), self.api_usd(volume)) for volume in ends)


def curves(crossover: Crossover) -> Curves:
    plan, reference = crossover.plan, crossover.reference_volume
    lines = [(api.name, line(api, plan)) for api in plan.apis]
    apis = [Api(name, each, each.usd_per_daily_token / plan.days_per_month * MTOK) for name, each in lines]
    volumes = crossover.volumes()
    stairs = staircase(plan)
    return Curves(
        crossover,
        stairs,
        tuple(sorted(apis, key=lambda api: (api.line.usd(reference), api.name))),
        volumes,
        _steps(stairs, volumes),
        crossover.investment(),
    )


def ratios(found: Curves, peaks: Sequence[float]) -> list[list[float]]:
    """The ratio of self-hosting's cost to the cheapest API's, for each peak to mean and volume."""
    fleets = [staircase(replace(found.crossover.plan, peak_to_mean=peak)) for peak in peaks]
    return [[_ratio(stairs.usd(volume), found.api_usd(volume)) for volume in found.volumes] for stairs in fleets]


def shades(crossover: Crossover, low: float, high: float) -> list[tuple[float, float, float]]:
    """The ranges between two volumes where self-hosting is cheaper, as `(from, to, share of the range)`."""
    width = math.log(high / low) / _CELLS
    known = list(crossover.intervals)
    if crossover.crossings.is_complete or len(known) < 2:
        return _shaded(known, low, high, width)
    # The gap that is not listed counts as half.
    left_out = (known[-2][1] or high, known[-1][0])
    start, end = max(left_out[0], low), min(left_out[1], high)
    return [*_shaded(known, low, high, width), *([(start, end, 0.5)] if start < end else [])]


def _verdict(found: Curves) -> tuple[str, str]:
    crossover = found.crossover
    draws = "" if crossover.probability is None else f"in {share(crossover.probability)} of the draws"
    at = "" if crossover.volume is None else f" at {tokens(crossover.volume)} tokens a day"
    match crossover.verdict:
        case "no-api":
            return f"{absence(crossover, name_of(crossover))}: there is nothing to compare with", style.INK
        case "never" if crossover.crossing_band is not None and crossover.crossing_band.highest_probability > 0:
            most = share(crossover.crossing_band.highest_probability)
            return f"Never: at no volume is self-hosting cheaper in more than {most} of the draws", style.LOST
        case "never" if math.isinf(found.least_ratio()):
            return "Never: the API is free, at any volume", style.LOST
        case "never":
            least = times(found.least_ratio())
            return f"Never: self-hosting costs at least {least} times the cheapest API, at any volume", style.LOST
        case "self-host":
            return f"Self-hosting is cheaper{at}{draws and f' ({draws})'}", style.WON
        case "api":
            return f"The API is cheaper{at}{draws and f' (self-hosting {draws})'}", style.LOST
        case _ if at and draws:
            return f"Too close to call{at}: self-hosting is cheaper {draws}", style.INK
        case _:
            return f"It depends: {crossing_in_words(crossover)}", style.INK


def _ratio(own: float, api: float) -> float:
    if api > 0:
        return own / api
    return math.inf if own > 0 else 1.0


def _steps(stairs: Staircase, volumes: Sequence[float]) -> tuple[float, ...]:
    """The volumes and both ends of the first steps; beyond these, what fills a machine."""
    low, high = volumes[0], volumes[-1]
    needed, found = stairs.needed(low), set[float]()
    for step in range(needed, needed + _STEPS):
        edge = min(stairs.edge(step), high)
        if edge < high:
            # The next float above the edge takes a further machine.
            found |= {edge, math.nextafter(edge, math.inf)}
    drawn = bisect.bisect(volumes, edge)
    rest = {stairs.edge(stairs.needed(volume)) for volume in volumes[drawn:]}
    return tuple(sorted({*found, *volumes[:drawn], *(edge for edge in rest if edge < high), high}))


def _shaded(intervals: Sequence[Interval], low: float, high: float, width: float) -> list[tuple[float, float, float]]:
    """Intervals wide enough to be seen; of narrower ones, perhaps thousands, the share of each cell that they fill."""

    def edge(cell: int) -> float:
        return low * math.exp(cell * width)

    wide, filled = [], defaultdict[int, float](float)
    for start, end in intervals:
        start, end = max(start, low), high if end is None else min(end, high)
        if start < end and math.log(end / start) >= 2 * width:
            wide.append((start, end, 1.0))
        elif start < end:
            first = math.floor(math.log(start / low) / width + 1e-9)
            for cell in range(first, first + 3):  # it touches no more
                filled[cell] += max(0.0, min(end, edge(cell + 1)) - max(start, edge(cell)))
    cells = [(edge(cell), edge(cell + 1), part) for cell, part in filled.items() if part > 0]
    return sorted([*wide, *((start, end, min(1.0, part / (end - start))) for start, end, part in cells)])


COST_HEADING = "Cost of a month by volume"
PRICE_HEADING = "Cost of a million tokens by volume"
# A curve above this many times the cheapest price leaves the panel.
_DEAREST_TIMES = 100
# As in `$0.135/M`; a longer one leaves less room for the name.
_USUAL_PRICE = 8
_BAND_OPACITY, _WINS_OPACITY, _DEARER_OPACITY = 0.22, 0.2, 0.14


def draw_costs(axes: Axes, found: Curves, look: style.PanelStyle) -> None:
    """A month's cost by volume: APIs as lines, machines as a staircase, and where these are cheaper."""
    style.quieten(axes)
    handles = [*_draw_wins(axes, found), *_draw_band(axes, found)]
    handles = [*_draw_apis(axes, found, look), *_draw_stairs(axes, found), *handles]
    mix = found.mix_usd() if found.apis else []
    if any(not math.isnan(cost) for cost in mix):
        label = "the cheapest mix: own machines, peaks to an API"
        handles += axes.plot(found.volumes, mix, color=style.MIX, linewidth=1.1, dashes=(4, 2), label=label, zorder=4)
    handles += _draw_places(axes, found)
    band = found.crossover.band
    costs = [found.stairs.usd(found.low), found.stairs.usd(found.high), *(mix or [])]
    costs += [found.api_usd(found.low), found.api_usd(found.high)] if found.apis else []
    costs += [band.low_usd_per_month[0], band.high_usd_per_month[-1]] if band else []
    seen = [cost for cost in costs if cost > 0]  # NaN is not
    style.scale_tokens(axes, look, found.low, found.high)
    style.scale_usd(axes, look, min(seen, default=1.0) / 1.6, max(seen, default=1.0) * 1.6)
    verdict, colour = _verdict(found)
    style.label(axes, look, handles, heading=COST_HEADING, unit="US dollars a month", note=verdict, colour=colour)


def draw_prices(axes: Axes, found: Curves, look: style.PanelStyle) -> None:
    """The cost of a million tokens by volume: a sawtooth that falls to that of a full machine, and the APIs' floors."""
    style.quieten(axes)
    handles = _draw_apis(axes, found, look, per_mtok=True)
    own = [found.per_mtok(found.stairs.usd(volume), volume) for volume in found.steps]
    handles += axes.plot(found.steps, own, color=style.OWN, linewidth=1.6, label="self-hosting", zorder=5)
    band = found.crossover.band
    if band is not None:
        volumes = band.tokens_per_day
        low, high = (found.all_per_mtok(each, volumes) for each in (band.low_usd_per_month, band.high_usd_per_month))
        axes.fill_between(volumes, low, high, color=style.OWN, alpha=_BAND_OPACITY, linewidth=0)
    handles += _draw_volume(axes, found)
    prices = [*(found.per_mtok(found.api_usd(volume), volume) for volume in found.volumes), *own]
    seen = [price for price in prices if 0 < price < math.inf]
    least = min(seen, default=1.0)
    style.scale_tokens(axes, look, found.low, found.high)
    style.scale_usd(axes, look, least / 1.8, min(max(seen, default=1.0), least * _DEAREST_TIMES))
    style.label(axes, look, handles, heading=PRICE_HEADING, unit="US dollars per million tokens")


def _draw_apis(axes: Axes, found: Curves, look: style.PanelStyle, *, per_mtok: bool = False) -> list[Artist]:
    """The cheapest APIs in colours with their prices; the others in grey, with one entry in the legend."""

    def draw(api: Api, label: str, **lines: Any) -> list[Artist]:
        costs = [api.line.usd(volume) for volume in found.volumes]
        if per_mtok:
            costs = found.all_per_mtok(costs, found.volumes)
        # A logarithmic axis has no 0.
        return list(axes.plot(found.volumes, [cost or math.nan for cost in costs], label=label, **lines))

    handles: list[Artist] = []
    for api, (colour, dashes, width) in zip(found.apis, style.API_LOOKS, strict=False):
        name = cut(api.name, look.name_length - max(0, len(api.price) - _USUAL_PRICE))
        handles += draw(api, f"{name}: {api.price}", color=colour, linestyle=dashes, linewidth=width, zorder=3)
    if others := found.apis[len(style.API_LOOKS) :]:
        dearest = max(each.usd_per_mtok for each in others)
        label = f"{counted(len(others), 'dearer API')}, up to {short_usd(dearest)}/M"
        handles += [draw(api, label, color=style.OTHER_APIS, linewidth=0.8, zorder=2)[0] for api in others][:1]
    return handles


def _draw_stairs(axes: Axes, found: Curves) -> list[Artist]:
    costs = [found.stairs.usd(volume) or math.nan for volume in found.steps]
    handles: list[Artist] = list(
        axes.plot(found.steps, costs, color=style.OWN, linewidth=2, label="self-hosting, machine by machine", zorder=5)
    )
    if found.crossover.verdict == "never":
        api = [found.api_usd(volume) for volume in found.steps]
        area = axes.fill_between(found.steps, api, costs, label="what it costs more, at any volume")
        area.set(color=style.DEARER, alpha=_DEARER_OPACITY, linewidth=0)
        handles.append(area)
    return handles


def _draw_wins(axes: Axes, found: Curves) -> list[Artist]:
    """The ranges where self-hosting is cheaper, from top to bottom; the smaller their share, the fainter."""
    band = found.crossover.crossing_band
    if band is not None and band.low != band.high:
        return _draw_zones(axes, found, band)
    for start, end, part in shades(found.crossover, found.low, found.high):
        axes.axvspan(start, end, color=style.WINS, alpha=round(_WINS_OPACITY * part, 3), linewidth=0, zorder=0)
    is_any = bool(found.crossover.intervals)
    return [style.patch(style.WINS, "self-hosting is cheaper", alpha=_WINS_OPACITY)] if is_any else []


def _draw_zones(axes: Axes, found: Curves, band: CrossingBand) -> list[Artist]:
    """Where the draws leave it open, and where self-hosting is cheaper in more than 80% of them."""
    assert band.low is not None
    handles: list[Artist] = []
    sure = found.high if band.high is None else band.high
    for start, end, part, word in ((band.low, sure, 0.5, "open"), (sure, found.high, 1.0, "self-hosting is cheaper")):
        if max(start, found.low) < min(end, found.high):
            opacity = _WINS_OPACITY * part
            axes.axvspan(max(start, found.low), end, color=style.WINS, alpha=opacity, linewidth=0, zorder=0)
            begins = f" from {tokens(start)} tokens a day" if start else ""
            handles.append(style.patch(style.WINS, f"{word}{begins}", alpha=opacity))
    return handles


def _draw_band(axes: Axes, found: Curves) -> list[Artist]:
    band = found.crossover.band
    if band is None or not band.varied:
        return []
    area = axes.fill_between(band.tokens_per_day, band.low_usd_per_month, band.high_usd_per_month)
    area.set(color=style.OWN, alpha=_BAND_OPACITY, linewidth=0, zorder=1, label="where 8 in 10 draws of its cost lie")
    return [area]


def _draw_places(axes: Axes, found: Curves) -> list[Artist]:
    """The scenario's own volume, and the first and the last change of the winner."""
    crossover, band = found.crossover, found.crossover.crossing_band
    if band is not None and band.low != band.high:
        handles = _draw_volume(axes, found)
        if band.likely:
            label = f"as likely as not at {tokens(band.likely)} tokens a day"
            handles += axes.plot(
                [band.likely], [found.stairs.usd(band.likely)], label=label, **style.dot(style.WON, "o")
            )
        return handles
    first, permanent = crossover.first_crossing, crossover.permanent_crossing
    places = [(first, "o", "cheaper for good" if first == permanent else "first cheaper"), (permanent, "D", "for good")]
    handles = _draw_volume(axes, found)
    for place, marker, word in places if first != permanent else places[:1]:
        if place:
            label = f"{word} from {tokens(place)} tokens a day"
            handles += axes.plot([place], [found.stairs.usd(place)], label=label, **style.dot(style.WON, marker))
    return handles


def _draw_volume(axes: Axes, found: Curves) -> list[Artist]:
    volume = found.crossover.volume
    if volume is None:
        return []
    return [style.mark_volume(axes, volume, label=f"your volume: {tokens(volume)} tokens a day")]


CASH_HEADING = "What the purchase has brought"


def payback_words(bought: Investment) -> str:
    shown = len(bought.cash_usd) - 1
    if bought.payback_months is None:
        ends = "" if bought.compared_months is None else f", since no API is known to sell it after {shown} months"
        return f"It never pays for itself{ends}"
    late = f", after the {shown} that are shown" if bought.payback_months > shown else ""
    return f"It has paid for itself in month {_month(bought.payback_months)}{late}"


def draw_cash(axes: Axes, found: Curves, look: style.PanelStyle) -> None:
    """The balance after each month, and the month in which it turns positive."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    bought = found.investment
    assert bought is not None
    cash, paid = list(bought.cash_usd), bought.payback_months
    months = list(range(len(cash)))
    style.quieten(axes)
    for sign, colour, opacity in ((1, style.WINS, _WINS_OPACITY), (-1, style.DEARER, _DEARER_OPACITY)):
        where = [sign * each >= 0 for each in cash]
        axes.fill_between(months, cash, where=where, interpolate=True, color=colour, alpha=opacity, linewidth=0)
    axes.axhline(0, color=style.INK, linewidth=1)
    handles: list[Artist] = [
        *axes.plot(months, cash, color=style.OWN, linewidth=2, label="saved so far, less the price")
    ]
    if paid is not None and paid <= months[-1]:
        handles += axes.plot([paid], [0], label=f"paid for in month {_month(paid)}", **style.dot(style.WON))
    remarks = [f"{counted(bought.replicas, 'replica')} for {short_usd(bought.price_usd)}"]
    if bought.discounted_payback_months is not None:
        remarks.append(f"paid for with interest in month {_month(bought.discounted_payback_months)}")
    remarks.append(f"worth today, what is left sold in the end: {short_usd(bought.npv_usd)}")
    handles += [Line2D([], [], linestyle="none", label=remark) for remark in remarks]
    axes.set_xlim(0, max(months[-1], 1))
    low, high = min(0.0, *cash), max(0.0, *cash)
    margin = (high - low) * 0.08 or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=look.marks, integer=True))
    style.mark_usd(axes.yaxis, nbins=6)
    axes.set_xlabel("months after the purchase", fontsize=8.5, color=style.MUTED)
    colour = style.LOST if paid is None or bought.npv_usd < 0 else style.WON
    unit = f"US dollars, at {tokens(found.crossover.reference_volume)} tokens a day"
    style.label(axes, look, handles, heading=CASH_HEADING, unit=unit, note=payback_words(bought), colour=colour)


def _month(months: float) -> str:
    return f"{months:.1f}" if months < 100 else f"{months:.0f}"
