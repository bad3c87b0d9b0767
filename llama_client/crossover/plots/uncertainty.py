"""Panels of uncertainty: sensitivities, probability, peaks."""

from __future__ import annotations

import bisect
from itertools import groupby
from typing import TYPE_CHECKING

from llama_client.crossover.draws import OPEN_FROM, OPEN_TO
from llama_client.crossover.format import in_words, share, short_usd, tokens
from llama_client.crossover.plots import style
from llama_client.crossover.plots.costs import Curves, ratios

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from llama_client.crossover.sensitivity import Swing


SWING_HEADING = "What each figure changes on its own"
LIKELY_HEADING = "How likely self-hosting is cheaper"
PEAK_HEADING = "The winner by volume and peak"
# More bars would be too small to matter.
_MAX_SWINGS = 9
_AT_LEAST, _AT_MOST = "#0f6cbd", "#e08a00"
_SHARES = frozenset({"slo_derate", "max_utilisation", "residual_share"})
_PEAKS = 24
_LEVELS = (0.5, 0.8, 1.0, 1.25, 2.0)
_LEVEL_NAMES = ("under 0.5", "0.5 to 0.8", "0.8 to 1", "1 to 1.25", "1.25 to 2", "over 2")


def widest_swings(found: Curves) -> list[Swing]:
    """The figures that change anything, widest first."""
    return [swing for swing in found.crossover.swings() if swing.width > 0][:_MAX_SWINGS]


def draw_swings(axes: Axes, found: Curves, look: style.PanelStyle) -> None:
    """A bar for each figure: the cost of a million tokens at its lower and its upper bound."""
    swings, volume = widest_swings(found), found.crossover.reference_volume
    now = found.per_mtok(found.stairs.usd(volume), volume)
    style.quieten(axes, grid="x")
    for place, swing in enumerate(swings):
        for end, colour in ((swing.usd_per_mtok_at_low, _AT_LEAST), (swing.usd_per_mtok_at_high, _AT_MOST)):
            axes.barh(place, end - now, left=now, height=0.36, color=colour, linewidth=0, zorder=3)
        # Above its bar: beside it, names would leave no room for bars on a phone.
        name = axes.text(0, place - 0.22, _swing_label(swing), transform=axes.get_yaxis_transform(), va="bottom")
        name.set(color=style.INK, fontsize=8.5, zorder=6)
        name.set_bbox({"facecolor": style.PAPER, "edgecolor": "none", "pad": 1.2})
    axes.set_yticks([])
    axes.set_ylim(max(len(swings), 3) - 0.65, -0.65)
    handles: list[Artist] = [
        style.patch(_AT_LEAST, "at its least"),
        style.patch(_AT_MOST, "at its most"),
        axes.axvline(now, color=style.INK, linewidth=1.1, label=f"as it is: {short_usd(now)}", zorder=4),
    ]
    ends = [now, *(end for swing in swings for end in (swing.usd_per_mtok_at_low, swing.usd_per_mtok_at_high))]
    if found.apis:
        api, colour = found.per_mtok(found.api_usd(volume), volume), style.API_LOOKS[0][0]
        label = f"the cheapest API: {short_usd(api)}"
        handles.append(axes.axvline(api, color=colour, linewidth=2, linestyle=(0, (4, 1.5)), label=label, zorder=2))
        ends.append(api)
    margin = (max(ends) - min(ends)) * 0.06 or now * 0.1 or 1.0
    axes.set_xlim(min(ends) - margin, max(ends) + margin)
    style.mark_usd(axes.xaxis, nbins=4)
    axes.set_xlabel("US dollars per million tokens", fontsize=8.5, color=style.MUTED)
    unit = f"self-hosting, at {tokens(volume)} tokens a day"
    style.label(axes, look, handles, heading=SWING_HEADING, unit=unit, columns=2)


def draw_likelihood(axes: Axes, found: Curves, look: style.PanelStyle) -> None:
    """The share of draws in which self-hosting is cheaper, by volume."""
    crossover, band = found.crossover, found.crossover.band
    assert band is not None
    style.quieten(axes)
    shares = [part * 100 for part in band.probability]
    axes.axhspan(OPEN_FROM * 100, OPEN_TO * 100, color=style.GRID, alpha=0.5, linewidth=0, zorder=0)
    axes.fill_between(band.tokens_per_day, shares, color=style.OWN, alpha=0.15, linewidth=0, zorder=1)
    handles: list[Artist] = list(
        axes.plot(band.tokens_per_day, shares, color=style.OWN, linewidth=2, label="cheaper in so many draws", zorder=3)
    )
    likely = crossover.probability
    if crossover.volume is not None and likely is not None:
        label = f"your volume, {tokens(crossover.volume)} tokens a day: {share(likely)}"
        style.mark_volume(axes, crossover.volume)
        handles += axes.plot([crossover.volume], [likely * 100], label=label, **style.dot(style.INK))
    style.scale_tokens(axes, look, found.low, found.high)
    axes.set_ylim(-2, 102)
    axes.set_yticks([0, 20, 50, 80, 100], ["0%", "20%", "50%", "80%", "100%"])
    unit = f"of {band.draws:,} draws; open between 20% and 80%"
    style.label(axes, look, handles, heading=LIKELY_HEADING, unit=unit)


def draw_peaks(axes: Axes, found: Curves, look: style.PanelStyle) -> None:
    """The ratio of self-hosting's cost to the cheapest API's, by volume and peak."""
    own = found.crossover.plan.peak_to_mean
    top = max(5.0, own * 1.25)
    height = (top - 1) / (_PEAKS - 1)
    peaks = [1 + height * place for place in range(_PEAKS)]
    style.quieten(axes, grid="y")
    axes.grid(visible=False)
    step = (found.high / found.low) ** (0.5 / (len(found.volumes) - 1))
    for peak, row in zip(peaks, ratios(found, peaks), strict=True):
        for level, bars in _runs(found.volumes, row, step).items():
            colour = style.LEVEL_COLOURS[level]
            # It reaches under the next row, so that no seam shows between them.
            axes.broken_barh(bars, (peak - height / 2, height * 1.5), facecolor=colour, edgecolor=colour, linewidth=0.4)
    handles = [style.patch(colour, name) for colour, name in zip(style.LEVEL_COLOURS, _LEVEL_NAMES, strict=True)]
    handles += axes.plot([found.crossover.reference_volume], [own], label="this scenario", **style.dot(style.INK))
    style.scale_tokens(axes, look, found.low, found.high)
    axes.set_ylim(1, top)
    unit = "peak to mean; self-hosting's cost in times the cheapest API's"
    style.label(axes, look, handles, heading=PEAK_HEADING, unit=unit, columns=3)


def _swing_label(swing: Swing) -> str:
    def bound(value: float) -> str:
        if "usd" in swing.name:
            return short_usd(value)
        return share(value) if swing.name in _SHARES else tokens(value) if value >= 1000 else f"{value:.3g}"

    return f"{in_words(swing.name)}: {bound(swing.low)} to {bound(swing.high)}"


def _runs(volumes: tuple[float, ...], row: list[float], step: float) -> dict[int, list[tuple[float, float]]]:
    """Runs of neighbours of one level, each as its start and its width."""
    found: dict[int, list[tuple[float, float]]] = {}
    for level, run in groupby(range(len(row)), key=lambda place: bisect.bisect(_LEVELS, row[place])):
        places = list(run)
        low, high = max(volumes[places[0]] / step, volumes[0]), min(volumes[places[-1]] * step, volumes[-1])
        found.setdefault(level, []).append((low, high - low))
    return found
