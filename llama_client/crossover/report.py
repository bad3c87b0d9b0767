"""The report of a crossover: verdict, limits and tables as text, and the same as one JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llama_client.crossover.draws import OPEN_FROM, OPEN_TO
from llama_client.crossover.economics import staircase, usd_per_mtok
from llama_client.crossover.format import counted, figure, in_words, share, tokens, usd
from llama_client.crossover.like_for_like import like_for_like_document, like_for_like_notes
from llama_client.crossover.machine_notes import hardware_document, machine_notes, purchase_of, slow_document, slowness
from llama_client.crossover.offers_report import (
    SOLD_OTHERWISE,
    absence,
    apart_rows,
    as_documents,
    dearer_row,
    no_longer_sold_by,
    shown_assumptions,
)
from llama_client.crossover.sensitivity import BreakEven, break_evens

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.evaluation import Crossover
    from llama_client.crossover.scenario import ApiPrice

_MAX_INTERVALS_SHOWN = 6
_MAX_MACHINES_SHOWN = 5
# A share of draws that rounds to none or all is not said.
_CERTAIN = 0.0005
# Within half a percent of a threshold, whole percents would not show on which side a share is.
_BESIDE = 0.005
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
# What a headline calls the rows that an answer rests on. Of these, prices get old.
_PRICES = {"gpu_usd_per_hour": "the rent", "usd_per_gpu": "the price of the GPU"}
_ROWS = {
    **_PRICES,
    "tokens_per_second": "the speed",
    "gpu": "the data sheet of the GPU",
    "model": "the dimensions of the model",
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
    beside: tuple[str, ...]  # no part of the verdict: quality, other models, electricity
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
        sentence=f"{_sentence(crossover)} {slowness(crossover.resolved) or ''}".rstrip(),
        binding=_binding(crossover),
        volumes=tuple(_volumes(crossover)),
        notes=tuple(_notes(crossover)),
        beside=tuple(like_for_like_notes(crossover)),
        break_evens=_break_evens(crossover),
        stale=tuple(each for each in crossover.assumptions if each.is_stale(crossover.today)),
    )


def title_of(crossover: Crossover) -> str:
    """The subject, as in `llama-3.3-70b on 2 x H100 SXM, fp8`."""
    return f"{name_of(crossover, unnamed='A model')} on {machine(crossover)}"


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
    template = _BREAK_EVENS.get(found.name, f"{in_words(found.name)} of {{}}")
    return f"{template.format(at)} (now {now})"


def as_document(crossover: Crossover) -> dict[str, Any]:
    text = report(crossover)
    volume, rate, band, saving = crossover.volume, crossover.resolved.rate, crossover.band, crossover.saving()
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
        "crossing_band": None if crossover.crossing_band is None else asdict(crossover.crossing_band),
        "saving_usd_per_month": None if saving is None else asdict(saving),
        "if_stated": [asdict(each) for each in crossover.if_stated()],
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
        **like_for_like_document(crossover),
        "swings": [asdict(swing) for swing in crossover.swings()],
        "band": None if band is None else asdict(band),
        **as_documents(crossover),
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


def name_of(crossover: Crossover, *, unnamed: str = "the model") -> str:
    """The model, as a report names it."""
    return crossover.resolved.model.name if crossover.resolved.model else (crossover.scenario.model or unnamed)


def crossing_in_words(crossover: Crossover) -> str:
    """The volumes from which on either is cheaper: as a band where figures were drawn."""
    band = crossover.crossing_band
    if band is None or band.low == band.high:
        return f"your own is cheaper {where_cheaper(crossover)}"
    assert band.low is not None
    parts = [f"an API is cheaper up to {tokens(band.low)} tokens a day"] if band.low else []
    between = "between them" if band.low else "below that"
    if band.high is not None:
        parts.append(f"your own from {tokens(band.high)} on")
    else:
        between = "above that" if band.low else "at every volume"
    likely = "" if band.likely is None or band.likely == 0 else f", most likely from {tokens(band.likely)}"
    highest = share(band.highest_probability)
    if band.high is None and band.highest_probability > OPEN_TO:
        # Against a fee it wins at some volumes, and an API at larger ones.
        found = f"your own wins in up to {highest} of the draws, but from no volume on for good"
        between = "above that " if band.low else ""
        return f"{', '.join(parts)}{'; ' if parts else ''}{between}{found} (as assumed: {where_cheaper(crossover)})"
    most = "" if band.high is not None else f" (your own wins in at most {highest} of the draws)"
    return f"{', '.join(parts)}{'; ' if parts else ''}{between} it is open{likely}{most}"


def _sentence(crossover: Crossover) -> str:
    return " ".join(filter(None, (_verdict_sentence(crossover), _doubts(crossover))))


def _verdict_sentence(crossover: Crossover) -> str:
    what, at = machine(crossover), crossover.reference_volume
    own, api = crossover.self_host_usd_per_month(at), crossover.api_usd_per_month(at)
    cheapest = crossover.cheapest_api(at)
    if cheapest is None or api is None:
        costs = f"your own, {what}, would cost {usd(own)} a month at {tokens(at)} tokens a day"
        return f"{absence(crossover, name_of(crossover))}, so there is nothing to compare with; {costs}."
    if crossover.verdict == "never":
        return _never(crossover, what, cheapest)
    replicas = counted(crossover.replicas(at), "replica")
    costs = f"{replicas} of {what}: {usd(own)} a month; {cheapest.provider}: {usd(api)}"
    drawn = crossover.saving()
    if drawn is not None and (drawn.median > 0) != (own < api):
        # The draws decide, and the two would contradict each other without a word.
        costs = f"at the assumed values the other way: {costs}"
    likely, saving = crossover.probability, _saving_in_words(crossover)
    match crossover.verdict:
        case _ if crossover.volume is None:
            return f"It depends on the volume, for {what}: {crossing_in_words(crossover)}."
        case "self-host":
            cases = _in_draws(likely)
            return f"Your own machine is cheaper at {tokens(at)} tokens a day{cases}{saving} ({costs})."
        case "api":
            cases = _in_draws(None if likely is None else 1 - likely)
            where = crossing_in_words(crossover)
            where = f"{where[0].upper()}{where[1:]}"
            return f"An API is cheaper at {tokens(at)} tokens a day{cases}{saving} ({costs}). {where}."
        case _:
            cases = f"your own is cheaper in {_likely(likely or 0.0)} of the draws"
            return f"Too close to call at {tokens(at)} tokens a day: {cases}{saving} ({costs})."


def _never(crossover: Crossover, what: str, api: ApiPrice) -> str:
    provider, price = api.provider, usd(usd_per_mtok(api, crossover.plan))
    if api.fees_usd_per_month:
        price += f" and {usd(api.fees_usd_per_month)} a month"
    band, full = crossover.crossing_band, crossover.full_usd_per_mtok
    costs = usd(_usd_per_full_mtok(crossover))
    if band is None or full is None or full.low == full.high:
        return (
            f"Never: a full replica of {what} costs {costs} per million tokens, and {provider} sells them for {price}; "
            "no volume changes that."
        )
    cases = f"more than {share(band.highest_probability)} of the draws"
    if band.highest_probability < _CERTAIN:
        cases = "any draw"
    return (
        f"Never: at no volume is your own cheaper in {cases}. A full replica of {what} costs {usd(full.median)} per "
        f"million tokens, in 8 of 10 draws {usd(full.low)} to {usd(full.high)}, and {provider} sells them for {price}."
    )


def _in_draws(probability: float | None) -> str:
    """How many draws say so; nothing where all do."""
    return "" if probability is None or probability > 1 - _CERTAIN else f" in {_likely(probability)} of the draws"


def _likely(probability: float) -> str:
    """The share of draws, with a digit more beside what turns the verdict."""
    is_beside = min(abs(probability - OPEN_FROM), abs(probability - OPEN_TO)) < _BESIDE
    return f"{probability * 100:.1f}%" if is_beside else share(probability)


def _saving_in_words(crossover: Crossover) -> str:
    """The difference a month over the draws: at the median, and within which bounds 8 of 10 lie."""
    saving = crossover.saving()
    if saving is None:
        return ""
    median = f"{usd(abs(saving.median))} a month"
    if saving.low == saving.high:
        return f", by {median}"
    side = "cheaper" if saving.median >= 0 else "dearer"
    least, most = sorted((saving.low, saving.high), key=abs)
    if saving.low < 0 < saving.high:
        within = f"from {usd(-saving.low)} dearer to {usd(saving.high)} cheaper in 8 of 10"
    else:
        within = f"{usd(abs(least))} to {usd(abs(most))} in 8 of 10"
    if crossover.verdict == "depends":
        return f", by the median {median} {side}, {within}"
    return f", by {median} at the median; {'your own is ' if saving.low < 0 < saving.high else ''}{within}"


def _doubts(crossover: Crossover) -> str:
    """The rows that the answer rests on and that are unverified, or old."""
    at = crossover.reference_volume
    cheapest = crossover.cheapest_api(at)
    unverified, stale = [], []
    for each in crossover.assumptions:
        name = _ROWS.get(each.name)
        if cheapest is not None and each.name == f"api: {cheapest.name}":
            name = f"the price of {cheapest.provider}"
        if name is None or each.is_given:
            continue
        if each.unverified:
            unverified.append(name)
        if each.is_stale(crossover.today) and (each.name in _PRICES or each.name not in _ROWS):
            stale.append(name)
    parts = [f"unverified: {_listed(unverified)}"] if unverified else []
    parts += [f"older than 60 days: {_listed(stale)}"] if stale else []
    doubts = [f"That rests on figures in doubt ({'; '.join(parts)})."] if parts else []
    if cheapest is not None and not cheapest.is_same_model:
        doubts.append(f"That compares with another model, {cheapest.model or cheapest.name}: no like for like.")
    return " ".join(doubts)


def _listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    return " and ".join(filter(None, (", ".join(unique[:-1]), unique[-1])))


def _usd_per_full_mtok(crossover: Crossover) -> float:
    """A full replica's cost of a million tokens, without staff."""
    stairs, days = staircase(crossover.plan), crossover.plan.days_per_month
    per_daily_token = stairs.usd_per_full_replica / stairs.tokens_per_day_per_replica + stairs.usd_per_daily_token
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


def _notes(crossover: Crossover) -> Iterator[str]:
    found, at = crossover.resolved, tokens(crossover.reference_volume)
    yield from machine_notes(found, crossover.reference_volume)
    yield from crossover.scenario.traffic.notes
    yield from _stated(crossover)
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


def _stated(crossover: Crossover) -> Iterator[str]:
    """What was stated and what varies, and that stating a figure narrows the band."""
    if_stated, saving = crossover.if_stated(), crossover.saving()
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


def tables(text: CrossoverReport, crossover: Crossover, others: Sequence[Crossover] = ()) -> list[Table]:
    rests_on = [_row(each, crossover) for each in shown_assumptions(crossover)] + dearer_row(crossover)
    found = [
        _volumes_table(text),
        _machines_table(others),
        Table(*SOLD_OTHERWISE, apart_rows(crossover)),
        Table(
            "Where both would cost the same",
            ["each figure on its own"],
            [[sentence_of(each)] for each in text.break_evens],
        ),
        _swings_table(crossover),
        Table("Beside the answer", ["no part of it"], [[note] for note in text.beside]),
        Table("What it rests on", ["figure", "value", "source", "age"], rests_on),
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
            usd(each.plan.gpu_usd_per_hour if each.plan.owned is None else each.plan.owned.usd_per_gpu),
            _cheaper_from(each),
        ]
        for each in others[:_MAX_MACHINES_SHOWN]
    ]
    price = "a GPU" if others and others[0].plan.owned is not None else "a GPU-hour"
    return Table(
        "Other machines, next cheapest first", ["replica", "tokens/s", price, "cheaper from, as assumed"], rows
    )


def _cheaper_from(crossover: Crossover) -> str:
    if not crossover.plan.apis:
        return "-"
    first = crossover.first_crossing
    return "never" if first is None else f"{tokens(first)} a day" if first else "the first token"


def _swings_table(crossover: Crossover) -> Table:
    at = tokens(crossover.reference_volume)
    stated = {each.name: share(each.probability) for each in crossover.if_stated()}
    rows = [
        [
            in_words(swing.name),
            *(figure(bound) for bound in (swing.low, swing.high)),
            *(usd(cost) for cost in (swing.usd_per_mtok_at_low, swing.usd_per_mtok_at_high)),
            *([stated.get(swing.name, "not drawn")] if stated else []),
        ]
        for swing in crossover.swings()
    ]
    heading = f"What is assumed, and what a million of your own costs then at {at} tokens a day"
    columns = ["figure", "from", "to", "own costs", "to", *(["own wins if stated"] if stated else [])]
    return Table(heading, columns, rows)


def _row(each: Assumption, crossover: Crossover) -> list[str]:
    name = each.name if each.name.startswith("api: ") else in_words(each.name)
    sources = [each.source, each.rung or "", f"unverified: {each.unverified}" if each.unverified else ""]
    return [name, f"{figure(each.value)} {each.unit}".strip(), "; ".join(filter(None, sources)), _age(each, crossover)]


def _age(each: Assumption, crossover: Crossover) -> str:
    if each.is_given:
        return "stated"
    days = each.age_days(crossover.today)
    if days is None:
        return "assumed" if each.is_judgement else "undated"
    if days < 0:
        return f"{counted(-days, 'day')} later"
    return f"{counted(days, 'day')}{', old' if each.is_stale(crossover.today) else ''}"
