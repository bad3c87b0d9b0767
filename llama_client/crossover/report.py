"""The report: verdict, limits, tables, and the same as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llama_client.crossover.economics import staircase, usd_per_mtok
from llama_client.crossover.flips import Flip, flips
from llama_client.crossover.format import figure, share, tokens, usd

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.evaluation import Crossover


# As many intervals as a table shows.
_MAX_INTERVALS_SHOWN = 6
# A chance below this goes without saying.
_WORTH_SAYING = 0.1


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """One volume of the table."""

    tokens_per_day: float
    what: str
    replicas: int
    self_host_usd: float
    api_usd: float | None
    hybrid_usd: float | None
    probability: float | None


@dataclass(frozen=True, slots=True)
class CrossoverReport:
    """A crossover as people read it."""

    title: str
    sentence: str
    binding: str
    volumes: tuple[VolumeRow, ...]
    notes: tuple[str, ...]
    flips: tuple[Flip, ...]
    stale: tuple[Assumption, ...]


def report(crossover: Crossover) -> CrossoverReport:
    """Puts a crossover into words and tables."""
    return CrossoverReport(
        title=title_of(crossover),
        sentence=_sentence(crossover),
        binding=_binding(crossover),
        volumes=_volumes(crossover),
        notes=tuple(_notes(crossover)),
        flips=flips(crossover),
        stale=tuple(each for each in crossover.assumptions if each.is_stale(crossover.today)),
    )


def title_of(crossover: Crossover) -> str:
    """What is compared, as in `llama-3.3-70b on 2 x H100 SXM, fp8`."""
    return f"{_model(crossover)} on {machine(crossover)}"


def machine(crossover: Crossover) -> str:
    """One replica in words, as in `2 x H100 SXM, fp8`."""
    found, plan = crossover.resolved, crossover.plan
    title = found.gpu.title if found.gpu is not None else (crossover.scenario.self_host.gpu or "GPU of your own")
    return f"{plan.n_gpus} x {title}" + (f", {found.precision}" if found.precision else "")


def sentence_of(flip: Flip) -> str:
    """What would change the answer, in words.

    Examples:
        >>> sentence_of(Flip("gpu_usd_per_hour", 3.99, 2.31, "USD"))
        'a GPU for $2.31 an hour (now $3.99)'
    """
    match flip.name:
        case "gpu_usd_per_hour":
            return f"a GPU for {usd(flip.at)} an hour (now {usd(flip.now)})"
        case "api price":
            return f"an API price of {usd(flip.at)} per million tokens (now {usd(flip.now)})"
        case "ops_usd_per_month":
            return f"staff for {usd(flip.at)} a month (now {usd(flip.now)})"
        case "tokens_per_second":
            return f"{figure(round(flip.at))} tokens/s from a replica (now {figure(round(flip.now))})"
        case _:
            return f"{flip.name.replace('_', ' ')} of {figure(flip.at)} (now {figure(flip.now)})"


def as_document(crossover: Crossover) -> dict[str, Any]:
    """All of it as one JSON document."""
    told = report(crossover)
    volume, rate, band = crossover.volume, crossover.resolved.rate, crossover.band
    api = None if volume is None else crossover.cheapest_api(volume)
    mix, bought = crossover.hybrid(), crossover.investment()
    return {
        "model": crossover.scenario.model,
        "machine": machine(crossover),
        "verdict": crossover.verdict,
        "sentence": told.sentence,
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
        "investment": None if bought is None else asdict(bought),
        "binding": told.binding,
        "rung": None if rate is None else rate.rung,
        "is_scaled": None if rate is None else rate.is_scaled,
        "limited_by": None if rate is None else rate.binding,
        "table": [asdict(row) for row in told.volumes],
        "what_would_flip": [asdict(flip) for flip in told.flips],
        "notes": list(told.notes),
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
    model, what, volume = _model(crossover), machine(crossover), crossover.volume
    at = crossover.reference_volume
    own, api = crossover.self_host_usd_per_month(at), crossover.api_usd_per_month(at)
    if crossover.verdict == "no-api":
        costs = f"your own, {what}, would cost {usd(own)} a month at {tokens(at)} tokens a day"
        return f"No API sells {model} today, so there is nothing to compare with; {costs}."
    cheapest = crossover.cheapest_api(at)
    assert cheapest is not None
    assert api is not None
    if crossover.verdict == "never":
        of_ours = _usd_per_full_mtok(crossover)
        price = min(usd_per_mtok(each, crossover.plan) for each in crossover.plan.apis)
        return (
            f"Never: a full replica of {what} costs {usd(of_ours)} per million tokens, and {cheapest.provider} sells "
            f"them for {usd(price)}; no volume changes that.{_doubt(crossover)}"
        )
    edges = _edges(crossover)
    if volume is None:
        return f"It depends on the volume: your own, {what}, is cheaper {edges}."
    count = crossover.replicas(at)
    costs = f"{count} replica{'' if count == 1 else 's'} of {what}: {usd(own)} a month; {cheapest.provider}: {usd(api)}"
    if crossover.verdict == "depends":
        likely = share(crossover.probability or 0.0)
        return (
            f"Too close to call at {tokens(at)} tokens a day: your own is cheaper in {likely} of all cases ({costs})."
        )
    if crossover.verdict == "self-host":
        return f"Your own machine is cheaper at {tokens(at)} tokens a day: {costs}."
    return f"An API is cheaper at {tokens(at)} tokens a day: {costs}. Your own is cheaper {edges}."


def _doubt(crossover: Crossover) -> str:
    """What is to be said beside a "never" that not all draws share."""
    likely = crossover.probability
    if likely is None or likely < _WORTH_SAYING:
        return ""
    return f" But that hangs on figures that are uncertain: in {share(likely)} of all cases your own is cheaper."


def _edges(crossover: Crossover) -> str:
    first, forever = crossover.first_crossing, crossover.permanent_crossing
    assert first is not None
    if forever is None:
        last = crossover.intervals[-1][1]
        assert last is not None
        return f"between {tokens(first)} and {tokens(last)} tokens a day at times, and never for good"
    if first == forever:
        return f"from {tokens(first)} tokens a day on"
    return f"from {tokens(first)} tokens a day on at times, and from {tokens(forever)} on for good"


def _usd_per_full_mtok(crossover: Crossover) -> float:
    """A full replica's cost of a million tokens, staff apart."""
    stairs, days = staircase(crossover.plan), crossover.plan.days_per_month
    per_daily_token = stairs.usd_per_replica / stairs.tokens_per_day_per_replica + stairs.usd_per_daily_token
    return per_daily_token / days * 1e6


def _binding(crossover: Crossover) -> str:
    plan, rate = crossover.plan, crossover.resolved.rate
    idle = "the load is even, so nothing of it stands idle"
    if plan.peak_to_mean > 1:
        used = share(1 / plan.peak_to_mean)
        idle = f"the busiest hour has {figure(plan.peak_to_mean)} x the mean load, so on average {used} of it is in use"
    if rate is None:
        return f"A replica gives {figure(round(plan.tokens_per_second))} tokens/s, as you say; {idle}."
    limits = {
        "memory": "by its memory: more requests at once do not fit",
        "bandwidth": "by the bandwidth of its memory",
        "compute": "by its arithmetic",
        "slo": "by how long a user may wait for a token",
    }
    quick = (
        f"; with answers as quick as they must be, {share(plan.slo_derate)} of that is left"
        if plan.slo_derate < 1
        else ""
    )
    said: str = rate.rung
    if crossover.scenario.self_host.tokens_per_second is not None:
        said = "as you measured"
    elif rate.is_scaled:
        said = f"scaled from what was {rate.rung}"
    by = "" if rate.binding is None else f", limited {limits[rate.binding]}"
    return f"A replica gives {figure(round(plan.tokens_per_second))} tokens/s ({said}){by}{quick}; {idle}."


def _volumes(crossover: Crossover) -> tuple[VolumeRow, ...]:
    wanted: dict[float, str] = {crossover.replica_tokens_per_day: "one full replica"}
    for low, _ in crossover.intervals[:_MAX_INTERVALS_SHOWN]:
        wanted[low] = "crossing"
    if crossover.first_crossing is not None:
        wanted[crossover.first_crossing] = "first crossing"
    if crossover.permanent_crossing is not None:
        wanted[crossover.permanent_crossing] = "for good from here"
    if crossover.volume is not None:
        wanted[crossover.volume / 10] = "a tenth of yours"
        wanted[crossover.volume * 10] = "ten times yours"
        wanted[crossover.volume] = "yours"
    rows = []
    for volume in sorted(each for each in wanted if each > 0):
        mix = crossover.hybrid(volume)
        rows.append(
            VolumeRow(
                tokens_per_day=volume,
                what=wanted[volume],
                replicas=crossover.replicas(volume),
                self_host_usd=crossover.self_host_usd_per_month(volume),
                api_usd=crossover.api_usd_per_month(volume),
                hybrid_usd=None if mix is None else mix.usd_per_month,
                probability=_probability(crossover, volume),
            )
        )
    return tuple(rows)


def _probability(crossover: Crossover, volume: float) -> float | None:
    """The drawn one of the nearest volume of the band; None: nothing was drawn, or that is too far away."""
    band = crossover.band
    if band is None or not crossover.plan.apis:
        return None
    if volume == crossover.volume:
        return band.at_volume
    near = min(range(len(band.tokens_per_day)), key=lambda place: abs(band.tokens_per_day[place] / volume - 1))
    return band.probability[near] if abs(band.tokens_per_day[near] / volume - 1) < 0.2 else None


def _notes(crossover: Crossover) -> list[str]:
    rate = crossover.resolved.rate
    notes = [*crossover.scenario.traffic.notes, *(() if rate is None else rate.skipped)]
    mix, at = crossover.hybrid(), tokens(crossover.reference_volume)
    if mix is not None and mix.saves_usd_per_month > 0.01 * mix.usd_per_month:
        base = f"{mix.replicas} replica{'' if mix.replicas == 1 else 's'}"
        notes.append(
            f"Cheaper than both at {at} tokens a day: {base} of your own for the base of the load, "
            f"{share(mix.api_share)} of the tokens to an API: {usd(mix.usd_per_month)} a month, "
            f"{usd(mix.saves_usd_per_month)} less."
        )
    bought = crossover.investment()
    if bought is not None:
        back = (
            "never pays for itself"
            if bought.payback_months is None
            else f"is paid back after {bought.payback_months:.1f} months"
        )
        notes.append(
            f"The purchase of {usd(bought.price_usd)} {back} at {at} tokens a day; its net present value is "
            f"{usd(bought.npv_usd)}."
        )
    others = [api for api in crossover.plan.apis if not api.is_same_model]
    if others:
        notes.append(
            f"{', '.join(api.name for api in others)} is another model: this is no comparison of like with like."
        )
    if crossover.resolved.ended:
        gone = ", ".join(f"{api.provider} ({api.available_until})" for api in crossover.resolved.ended)
        notes.append(f"No longer sold by {gone}.")
    if crossover.resolved.unpriced:
        notes.append(f"Also sold, for a price that is not known here: {', '.join(crossover.resolved.unpriced)}.")
    if not crossover.crossings.is_complete:
        notes.append("The winner changes more often than is listed; the first and the last change are exact.")
    return notes


_MAX_MACHINES = 5


@dataclass(frozen=True, slots=True)
class Table:
    """A table, all of it text."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


def volumes_table(told: CrossoverReport) -> Table:
    """What both sides cost a month at the volumes that matter."""
    drawn = any(row.probability is not None for row in told.volumes)
    rows = []
    for row in told.volumes:
        likely = "" if row.probability is None else share(row.probability)
        cells = [
            tokens(row.tokens_per_day),
            row.what,
            f"{row.replicas:,}",
            *map(_money, (row.self_host_usd, row.api_usd, row.hybrid_usd)),
        ]
        rows.append([*cells, *([likely] if drawn else [])])
    columns = ["tokens/day", "", "replicas", "own", "API", "mix", *(["own wins"] if drawn else [])]
    return Table("What a month costs", columns, rows)


def machines_table(others: Sequence[Crossover]) -> Table | None:
    """Other machines for the same; None: only one was asked for."""
    if not others:
        return None
    rows = [
        [
            machine(each),
            figure(round(each.plan.tokens_per_second)),
            usd(each.plan.gpu_usd_per_hour),
            "never" if each.first_crossing is None else f"{tokens(each.first_crossing)} a day",
        ]
        for each in others[:_MAX_MACHINES]
    ]
    return Table("Other machines, next cheapest first", ["replica", "tokens/s", "a GPU-hour", "cheaper from"], rows)


def swings_table(crossover: Crossover) -> Table | None:
    """What each uncertain figure changes on its own; None: all are given."""
    found = crossover.swings()
    if not found:
        return None
    rows = []
    for swing in found:
        bounds = [figure(swing.low), figure(swing.high)]
        rows.append([_words(swing.name), *bounds, usd(swing.usd_per_mtok_at_low), usd(swing.usd_per_mtok_at_high)])
    at = tokens(crossover.reference_volume)
    heading = f"What matters at {at} tokens a day, and what a million of your own costs then"
    return Table(heading, ["figure", "from", "to", "own costs", "to"], rows)


def assumptions_table(crossover: Crossover) -> Table:
    """What all of it rests on, with sources and ages."""
    rows = [
        [_words(each.name), f"{figure(each.value)} {each.unit}".strip(), _source(each, crossover)]
        for each in crossover.assumptions
    ]
    return Table("What it rests on", ["figure", "value", "source"], rows)


def _money(amount: float | None) -> str:
    return "-" if amount is None else usd(amount)


def _words(name: str) -> str:
    return name if name.startswith("api: ") else name.replace("_", " ")


def _source(each: Assumption, crossover: Crossover) -> str:
    parts = [each.source]
    if each.rung:
        parts.append(each.rung)
    if each.as_of is not None:
        stale = ", older than 60 days" if each.is_stale(crossover.today) else ""
        parts.append(f"{each.as_of}{stale}")
    if each.unverified:
        parts.append(f"unverified: {each.unverified}")
    return "; ".join(parts)
