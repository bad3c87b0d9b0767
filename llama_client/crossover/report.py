"""The report of a crossover: verdict, limits and tables as text, and the same as one JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llama_client.crossover.economics import staircase, usd_per_mtok
from llama_client.crossover.format import counted, figure, share, tokens, usd
from llama_client.crossover.like_for_like import like_for_like_document, like_for_like_notes
from llama_client.crossover.sensitivity import BreakEven, break_evens

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.evaluation import Crossover

_MAX_INTERVALS_SHOWN = 6
_MAX_MACHINES_SHOWN = 5
# A "never" mentions the probability of the opposite from here on.
_WORTH_SAYING = 0.1
# The volume of the band at which a probability is taken may differ by this share.
_NEAR = 0.2
_LIMITS = {
    "memory": "by its memory: more requests at once do not fit",
    "bandwidth": "by the bandwidth of its memory",
    "compute": "by its arithmetic",
    "slo": "by how long a user may wait for a token",
}
_BREAK_EVENS = {
    "gpu_usd_per_hour": "a GPU for {} an hour",
    "api price": "an API price of {} per million tokens",
    "ops_usd_per_month": "staff for {} a month",
    "tokens_per_second": "{} tokens/s from a replica",
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
    title: str
    sentence: str
    binding: str  # what limits a replica
    volumes: tuple[VolumeRow, ...]
    notes: tuple[str, ...]
    break_evens: tuple[BreakEven, ...]
    stale: tuple[Assumption, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text; the first cell of a row is its name."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


def report(crossover: Crossover) -> CrossoverReport:
    return CrossoverReport(
        title=title_of(crossover),
        sentence=_sentence(crossover),
        binding=_binding(crossover),
        volumes=tuple(_volumes(crossover)),
        notes=tuple(_notes(crossover)),
        break_evens=_break_evens(crossover),
        stale=tuple(each for each in crossover.assumptions if each.is_stale(crossover.today)),
    )


def title_of(crossover: Crossover) -> str:
    """The subject, as in `llama-3.3-70b on 2 x H100 SXM, fp8`."""
    return f"{_model(crossover)} on {machine(crossover)}"


def machine(crossover: Crossover) -> str:
    """One replica, as in `2 x H100 SXM, fp8`."""
    found, plan = crossover.resolved, crossover.plan
    title = found.gpu.title if found.gpu is not None else (crossover.scenario.self_host.gpu or "GPU of your own")
    return f"{plan.n_gpus} x {title}" + (f", {found.precision}" if found.precision else "")


def where_cheaper(crossover: Crossover) -> str:
    """The volumes at which self-hosting is cheaper, in words."""
    first, permanent, intervals = crossover.first_crossing, crossover.permanent_crossing, crossover.intervals
    if first is None:
        return "nowhere"
    begins = f"from {tokens(first)}" if first else "from the first token"
    if permanent is None:
        last = intervals[-1][1]
        assert last is not None
        several = f" in {len(intervals):,} intervals" if len(intervals) > 1 else ""
        return f"{begins} to {tokens(last)} tokens a day{several}, and never for good"
    if permanent == first:
        return f"{begins} tokens a day on" if first else "at any volume"
    changes = crossover.crossings.flips
    often = "too often to list" if changes is None else f"{changes:,} times"
    return f"{begins} tokens a day, for good from {tokens(permanent)}; the winner changes {often}"


def sentence_of(found: BreakEven) -> str:
    at, now = (usd(value) if found.unit.startswith("USD") else figure(value) for value in (found.at, found.now))
    if found.name == "tokens_per_second":
        at, now = figure(round(found.at)), figure(round(found.now))
    template = _BREAK_EVENS.get(found.name, f"{found.name.replace('_', ' ')} of {{}}")
    return f"{template.format(at)} (now {now})"


def as_document(crossover: Crossover) -> dict[str, Any]:
    text = report(crossover)
    volume, rate, band = crossover.volume, crossover.resolved.rate, crossover.band
    api = None if volume is None else crossover.cheapest_api(volume)
    mix, investment = crossover.hybrid(), crossover.investment()
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
        "reference_volume": crossover.reference_volume,
        "hybrid": None if mix is None else asdict(mix),
        "investment": None if investment is None else asdict(investment),
        "binding": text.binding,
        "rung": None if rate is None else rate.rung,
        "is_scaled": None if rate is None else rate.is_scaled,
        "limited_by": None if rate is None else rate.binding,
        "table": [asdict(row) for row in text.volumes],
        "what_would_flip": [asdict(found) for found in text.break_evens],
        "notes": list(text.notes),
        **like_for_like_document(crossover),
        "swings": [asdict(swing) for swing in crossover.swings()],
        "band": None if band is None else asdict(band),
        "ended_apis": [
            {"name": api.name, "available_until": str(api.available_until)} for api in crossover.resolved.ended
        ],
        "assumptions": [
            {
                **{key: value for key, value in asdict(each).items() if key not in ("as_of", "quotes")},
                "as_of": None if each.as_of is None else each.as_of.isoformat(),
                "age_days": each.age_days(crossover.today),
                "is_stale": each.is_stale(crossover.today),
            }
            for each in crossover.assumptions
        ],
    }


def _model(crossover: Crossover) -> str:
    return crossover.resolved.model.name if crossover.resolved.model else (crossover.scenario.model or "A model")


def _sentence(crossover: Crossover) -> str:
    what, at = machine(crossover), crossover.reference_volume
    own, api = crossover.self_host_usd_per_month(at), crossover.api_usd_per_month(at)
    cheapest, probability = crossover.cheapest_api(at), crossover.probability
    if cheapest is None or api is None:
        costs = f"your own, {what}, would cost {usd(own)} a month at {tokens(at)} tokens a day"
        return f"No API sells {_model(crossover)} today, so there is nothing to compare with; {costs}."
    replicas = counted(crossover.replicas(at), "replica")
    costs = f"{replicas} of {what}: {usd(own)} a month; {cheapest.provider}: {usd(api)}"
    match crossover.verdict:
        case "never":
            price = min(usd_per_mtok(each, crossover.plan) for each in crossover.plan.apis)
            doubt = ""
            if probability is not None and probability >= _WORTH_SAYING:
                cases = f"in {share(probability)} of all cases your own is cheaper"
                doubt = f" But that depends on uncertain figures: {cases}."
            return (
                f"Never: a full replica of {what} costs {usd(_usd_per_full_mtok(crossover))} per million tokens, and "
                f"{cheapest.provider} sells them for {usd(price)}; no volume changes that.{doubt}"
            )
        case _ if crossover.volume is None:
            return f"It depends on the volume: your own, {what}, is cheaper {where_cheaper(crossover)}."
        case "self-host":
            return f"Your own machine is cheaper at {tokens(at)} tokens a day: {costs}."
        case "api":
            where = where_cheaper(crossover)
            return f"An API is cheaper at {tokens(at)} tokens a day: {costs}. Your own is cheaper {where}."
        case _:
            cases = f"your own is cheaper in {share(probability or 0.0)} of all cases"
            return f"Too close to call at {tokens(at)} tokens a day: {cases} ({costs})."


def _usd_per_full_mtok(crossover: Crossover) -> float:
    """A full replica's cost of a million tokens, without staff."""
    stairs, days = staircase(crossover.plan), crossover.plan.days_per_month
    per_daily_token = stairs.usd_per_replica / stairs.tokens_per_day_per_replica + stairs.usd_per_daily_token
    return per_daily_token / days * 1e6


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
    return f"{gives} ({source}){limit}{left}; {idle}."


def _volumes(crossover: Crossover) -> Iterator[VolumeRow]:
    first, permanent, volume = crossover.first_crossing, crossover.permanent_crossing, crossover.volume
    wanted: dict[float | None, str] = {crossover.replica_tokens_per_day: "one full replica"}
    wanted |= {low: "crossing" for low, _ in crossover.intervals[:_MAX_INTERVALS_SHOWN]}
    wanted |= {first: "first crossing"} | {permanent: "for good from here"}
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
            probability=_probability(crossover, volume),
        )


def _probability(crossover: Crossover, volume: float) -> float | None:
    """The drawn probability at the nearest volume of the band; None: nothing was drawn, or that is too far away."""
    band = crossover.band
    if band is None or not crossover.plan.apis:
        return None
    if volume == crossover.volume:
        return band.at_volume
    distance, probability = min(
        (abs(each / volume - 1), found) for each, found in zip(band.tokens_per_day, band.probability, strict=True)
    )
    return probability if distance < _NEAR else None


def _break_evens(crossover: Crossover) -> tuple[BreakEven, ...]:
    # Without a volume only a "never" can turn.
    if not crossover.plan.apis or (crossover.volume is None and crossover.verdict != "never"):
        return ()
    return break_evens(crossover.plan, crossover.volume, crossover.reference_volume)


def _notes(crossover: Crossover) -> Iterator[str]:
    found, at = crossover.resolved, tokens(crossover.reference_volume)
    yield from crossover.scenario.traffic.notes
    if found.rate is not None:
        yield from found.rate.skipped
    mix, investment = crossover.hybrid(), crossover.investment()
    if mix is not None and mix.saves_usd_per_month > 0.01 * mix.usd_per_month:
        yield (
            f"Cheaper than both at {at} tokens a day: {counted(mix.replicas, 'replica')} of your own for the base of "
            f"the load, {share(mix.api_share)} of the tokens to an API: {usd(mix.usd_per_month)} a month, "
            f"{usd(mix.saves_usd_per_month)} less."
        )
    if investment is not None:
        months = investment.payback_months
        payback = "never pays for itself" if months is None else f"is paid back after {months:.1f} months"
        yield (
            f"The purchase of {usd(investment.price_usd)} {payback} at {at} tokens a day; its net present value is "
            f"{usd(investment.npv_usd)}."
        )
    others = ", ".join(api.name for api in crossover.plan.apis if not api.is_same_model)
    if others:
        yield f"{others} is another model: this is no comparison of like with like."
    if found.ended:
        yield f"No longer sold by {', '.join(f'{api.provider} ({api.available_until})' for api in found.ended)}."
    if found.unpriced:
        yield f"Also sold, without a known price: {', '.join(found.unpriced)}."
    yield from like_for_like_notes(crossover)
    if not crossover.crossings.is_complete:
        yield "The winner changes more often than is listed; the first and the last change are exact."


def tables(text: CrossoverReport, crossover: Crossover, others: Sequence[Crossover] = ()) -> list[Table]:
    rests_on = [_row(each, crossover) for each in crossover.assumptions]
    found = [
        _volumes_table(text),
        _machines_table(others),
        Table("What would change the answer", ["each on its own"], [[sentence_of(each)] for each in text.break_evens]),
        _swings_table(crossover),
        Table("What it rests on", ["figure", "value", "source"], rests_on),
    ]
    return [table for table in found if table.rows]


def _volumes_table(text: CrossoverReport) -> Table:
    rows = [
        [
            tokens(row.tokens_per_day),
            row.what,
            f"{row.replicas:,}",
            *("-" if amount is None else usd(amount) for amount in (row.self_host_usd, row.api_usd, row.hybrid_usd)),
            "" if row.probability is None else share(row.probability),
        ]
        for row in text.volumes
    ]
    columns = ["tokens/day", "", "replicas", "own", "API", "mix", "own wins"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table("What a month costs", columns, rows)


def _machines_table(others: Sequence[Crossover]) -> Table:
    rows = [
        [
            machine(each),
            figure(round(each.plan.tokens_per_second)),
            usd(each.plan.gpu_usd_per_hour),
            "never" if each.first_crossing is None else f"{tokens(each.first_crossing)} a day",
        ]
        for each in others[:_MAX_MACHINES_SHOWN]
    ]
    return Table("Other machines, next cheapest first", ["replica", "tokens/s", "a GPU-hour", "cheaper from"], rows)


def _swings_table(crossover: Crossover) -> Table:
    at = tokens(crossover.reference_volume)
    rows = [
        [
            swing.name.replace("_", " "),
            *(figure(bound) for bound in (swing.low, swing.high)),
            *(usd(cost) for cost in (swing.usd_per_mtok_at_low, swing.usd_per_mtok_at_high)),
        ]
        for swing in crossover.swings()
    ]
    heading = f"What matters at {at} tokens a day, and what a million of your own costs then"
    return Table(heading, ["figure", "from", "to", "own costs", "to"], rows)


def _row(each: Assumption, crossover: Crossover) -> list[str]:
    name = each.name if each.name.startswith("api: ") else each.name.replace("_", " ")
    sources = [each.source, each.rung or ""]
    if each.as_of is not None:
        sources.append(f"{each.as_of}{', older than 60 days' if each.is_stale(crossover.today) else ''}")
    if each.unverified:
        sources.append(f"unverified: {each.unverified}")
    return [name, f"{figure(each.value)} {each.unit}".strip(), "; ".join(filter(None, sources))]
