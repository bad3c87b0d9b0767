"""The report of a crossover: all that it says, calculated once, and the same as one JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llama_client.crossover.format import counted, figure, in_words, iso_day, share, tokens, usd
from llama_client.crossover.headline import machine, sentence_of, title_of
from llama_client.crossover.like_for_like import LikeForLike, like_for_like_of
from llama_client.crossover.machine_notes import hardware_document, machine_notes, purchase_of, slow_document, slowness
from llama_client.crossover.offers_report import as_documents, no_longer_sold_by
from llama_client.crossover.sensitivity import BreakEven, Swing, break_evens

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.economics import Hybrid, Investment
    from llama_client.crossover.evaluation import Crossover, Stated

_MAX_INTERVALS_SHOWN = 6
_LIMITS = {
    "memory": "by its memory: more requests at once do not fit",
    "bandwidth": "by the bandwidth of its memory",
    "compute": "by its arithmetic",
    "slo": "by how long a user may wait for a token",
}


@dataclass(frozen=True, slots=True)
class VolumeRow:
    tokens_per_day: float
    what: str  # why the volume is in the table
    replicas: int
    self_host_usd: float
    api_usd: float | None
    hybrid_usd: float | None
    probability: float | None


@dataclass(frozen=True, slots=True)
class CrossoverReport:
    """All that is calculated for a report, once: texts, tables and the JSON document show parts of it."""

    title: str
    sentence: str
    binding: str  # what limits a replica
    volumes: tuple[VolumeRow, ...]
    notes: tuple[str, ...]
    like_for_like: LikeForLike  # no part of the verdict
    break_evens: tuple[BreakEven, ...]
    swings: tuple[Swing, ...]
    stated: tuple[Stated, ...]  # the answer if one drawn figure were stated
    hybrid: Hybrid | None
    investment: Investment | None
    stale: tuple[Assumption, ...]

    @property
    def beside(self) -> tuple[str, ...]:
        """Sentences on quality, other models and electricity."""
        return tuple(self.like_for_like.notes())


def report(crossover: Crossover) -> CrossoverReport:
    stated, mix, investment = crossover.if_stated(), crossover.hybrid(), crossover.investment()
    return CrossoverReport(
        title=title_of(crossover),
        sentence=f"{sentence_of(crossover)} {slowness(crossover.resolved) or ''}".rstrip(),
        binding=_binding(crossover),
        volumes=tuple(_volumes(crossover)),
        notes=tuple(_notes(crossover, stated, mix, investment)),
        like_for_like=like_for_like_of(crossover),
        break_evens=_break_evens(crossover),
        swings=crossover.swings(),
        stated=stated,
        hybrid=mix,
        investment=investment,
        stale=tuple(each for each in crossover.assumptions if each.is_stale(crossover.today)),
    )


def as_document(crossover: Crossover) -> dict[str, Any]:
    text = report(crossover)
    volume, rate, band, saving = crossover.volume, crossover.resolved.rate, crossover.band, crossover.saving()
    api = None if volume is None else crossover.cheapest_api(volume)
    mix, investment = text.hybrid, text.investment
    return {
        "model": crossover.scenario.model,
        "machine": machine(crossover),
        "verdict": crossover.verdict,
        "sentence": text.sentence,
        "volume": volume,
        "intervals": [list(interval) for interval in crossover.intervals],
        "intervals_are_complete": crossover.crossings.is_complete,
        "first_crossing": crossover.first_crossing,
        "permanent_crossing": crossover.permanent_crossing,
        "flips": crossover.crossings.flips,
        "replicas": None if volume is None else crossover.replicas(volume),
        "self_host_usd_per_month": None if volume is None else crossover.self_host_usd_per_month(volume),
        "api_usd_per_month": None if volume is None else crossover.api_usd_per_month(volume),
        "cheapest_api": None if api is None else api.name,
        "replica_tokens_per_day": crossover.replica_tokens_per_day,
        "break_even_utilisation": crossover.break_even_utilisation,
        "probability": crossover.probability,
        "crossing_band": None if crossover.crossing_band is None else asdict(crossover.crossing_band),
        "saving_usd_per_month": None if saving is None else asdict(saving),
        "if_stated": [asdict(each) for each in text.stated],
        "reference_volume": crossover.reference_volume,
        "hybrid": None if mix is None else asdict(mix),
        "investment": None if investment is None else asdict(investment),
        "hardware": hardware_document(crossover.resolved, crossover.reference_volume),
        "too_slow": slow_document(crossover.resolved),
        "binding": text.binding,
        "rung": None if rate is None else rate.rung,
        "is_scaled": None if rate is None else rate.is_scaled,
        "limited_by": None if rate is None else rate.binding,
        "table": [asdict(row) for row in text.volumes],
        "what_would_flip": [asdict(found) for found in text.break_evens],
        "notes": list(text.notes),
        "beside": list(text.beside),
        **text.like_for_like.as_document(),
        "swings": [asdict(swing) for swing in text.swings],
        "band": None if band is None else asdict(band),
        **as_documents(crossover),
        "ended_apis": [
            {"name": api.name, "available_until": str(api.available_until)} for api in crossover.resolved.ended
        ],
        "assumptions": [
            {
                **{key: value for key, value in asdict(each).items() if key not in ("as_of", "quotes")},
                "as_of": iso_day(each.as_of),
                "age_days": each.age_days(crossover.today),
                "is_stale": each.is_stale(crossover.today),
            }
            for each in crossover.assumptions
        ],
    }


def _binding(crossover: Crossover) -> str:
    plan, rate = crossover.plan, crossover.resolved.rate
    idle = "the load is even, so all of it is in use"
    if plan.peak_to_mean > 1:
        used = share(1 / plan.peak_to_mean)
        idle = f"the busiest hour has {figure(plan.peak_to_mean)} x the mean load, so on average {used} of it is in use"
    gives = f"A replica gives {figure(round(plan.tokens_per_second))} tokens/s"
    if rate is None:
        return f"{gives}, as given; {idle}."
    source = f"scaled from what was {rate.rung}" if rate.is_scaled else rate.rung
    if crossover.scenario.self_host.tokens_per_second is not None:
        source = "as you measured"
    limit = "" if rate.binding is None else f", limited {_LIMITS[rate.binding]}"
    left = f"; within the latency limits, {share(plan.slo_derate)} of that is left" if plan.slo_derate < 1 else ""
    if crossover.resolved.is_too_slow:
        left = f"; one request at a time gives {share(plan.slo_derate)} of that"
    return f"{gives} ({source}){limit}{left}; {idle}."


def _volumes(crossover: Crossover) -> Iterator[VolumeRow]:
    band, volume = crossover.crossing_band, crossover.volume
    wanted: dict[float | None, str] = {crossover.replica_tokens_per_day: "one full replica"}
    if band is None or band.low == band.high:
        first, permanent = crossover.first_crossing, crossover.permanent_crossing
        wanted |= {low: "crossing" for low, _ in crossover.intervals[:_MAX_INTERVALS_SHOWN]}
        wanted |= {first: "first crossing"} | {permanent: "for good from here"}
    else:
        wanted |= {band.low: "open from here", band.likely: "as likely as not", band.high: "your own from here"}
    if volume is not None:
        wanted |= {volume / 10: "a tenth of yours", volume * 10: "ten times yours", volume: "yours"}
    for volume in sorted(each for each in wanted if each):
        mix = crossover.hybrid(volume)
        yield VolumeRow(
            tokens_per_day=volume,
            what=wanted[volume],
            replicas=crossover.replicas(volume),
            self_host_usd=crossover.self_host_usd_per_month(volume),
            api_usd=crossover.api_usd_per_month(volume),
            hybrid_usd=None if mix is None else mix.usd_per_month,
            probability=crossover.probability_at(volume),
        )


def _break_evens(crossover: Crossover) -> tuple[BreakEven, ...]:
    # Without a volume only a "never" can turn.
    if not crossover.plan.apis or (crossover.volume is None and crossover.verdict != "never"):
        return ()
    return break_evens(crossover.plan, crossover.volume, crossover.reference_volume)


def _notes(
    crossover: Crossover, stated: Sequence[Stated], mix: Hybrid | None, investment: Investment | None
) -> Iterator[str]:
    found, at = crossover.resolved, tokens(crossover.reference_volume)
    yield from machine_notes(found, crossover.reference_volume)
    yield from crossover.scenario.traffic.notes
    yield from _stated(crossover, stated)
    if found.rate is not None:
        yield from found.rate.skipped
    if mix is not None and mix.saves_usd_per_month > 0.01 * mix.usd_per_month:
        yield (
            f"Cheaper than both at {at} tokens a day: {counted(mix.replicas, 'replica')} of your own for the base of "
            f"the load, {share(mix.api_share)} of the tokens to an API: {usd(mix.usd_per_month)} a month, "
            f"{usd(mix.saves_usd_per_month)} less."
        )
    if investment is not None:
        months = investment.payback_months
        payback = "never pays for itself" if months is None else f"is paid back after {months:.1f} months"
        what = purchase_of(found, crossover.reference_volume)
        yield f"{what} {payback} at {at} tokens a day; its net present value is {usd(investment.npv_usd)}."
    others = ", ".join(api.name for api in crossover.plan.apis if not api.is_same_model)
    if others:
        yield f"{others} is another model: this is no comparison of like with like."
    if gone := no_longer_sold_by(crossover):
        yield f"No longer sold by {', '.join(gone)}."
    if found.unpriced:
        yield f"Also sold, without a known price: {', '.join(found.unpriced)}."
    if not crossover.crossings.is_complete:
        yield "The winner changes more often than is listed; the first and the last change are exact."


def _stated(crossover: Crossover, if_stated: Sequence[Stated]) -> Iterator[str]:
    """What was stated and what varies, and that stating a figure narrows the band."""
    saving = crossover.saving()
    if not if_stated or saving is None:
        return
    of_prices = [each.name for each in crossover.assumptions if each.is_given and not each.name.startswith("api: ")]
    given = ", ".join(in_words(name) for name in of_prices)
    varied = ", ".join(sorted(in_words(each.name) for each in if_stated))
    best = if_stated[0]
    narrows = (
        f"each that you state narrows the band, most of all {in_words(best.name)} (8 in 10 draws then lie "
        f"within {usd(best.saving.high - best.saving.low)} instead of {usd(saving.high - saving.low)} a month)"
    )
    yield f"{f'Stated, and fixed: {given}. ' if given else ''}Assumed, and drawn: {varied}; {narrows}."
