"""The verdict in words: its sentence, the volumes at which either side is cheaper, the names of model and machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llama_client.crossover.assumptions import STALE_AFTER_DAYS
from llama_client.crossover.draws import OPEN_FROM, OPEN_TO
from llama_client.crossover.economics import MTOK, staircase, usd_per_mtok
from llama_client.crossover.format import counted, share, tokens, usd
from llama_client.crossover.offers_report import absence

if TYPE_CHECKING:
    from llama_client.crossover.evaluation import Crossover
    from llama_client.crossover.scenario import ApiPrice

# A share of draws that rounds to none or all is not said.
_CERTAIN = 0.0005
# Within half a percent of a threshold, whole percents would not show on which side a share is.
_BESIDE = 0.005
# What a headline calls the rows that an answer rests on. Of these, prices get old.
_PRICES = {"gpu_usd_per_hour": "the rent", "usd_per_gpu": "the price of the GPU"}
_ROWS = {
    **_PRICES,
    "tokens_per_second": "the speed",
    "gpu": "the data sheet of the GPU",
    "model": "the dimensions of the model",
}


def title_of(crossover: Crossover) -> str:
    """The subject, as in `llama-3.3-70b on 2 x H100 SXM, fp8`."""
    return f"{name_of(crossover, unnamed='A model')} on {machine(crossover)}"


def machine(crossover: Crossover) -> str:
    """One replica, as in `2 x H100 SXM, fp8`."""
    found, plan = crossover.resolved, crossover.plan
    title = found.gpu.title if found.gpu is not None else (crossover.scenario.self_host.gpu or "GPU of your own")
    return f"{plan.n_gpus} x {title}" + (f", {found.precision}" if found.precision else "")


def name_of(crossover: Crossover, *, unnamed: str = "the model") -> str:
    """The model, as a report names it."""
    return crossover.resolved.model.name if crossover.resolved.model else (crossover.scenario.model or unnamed)


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


def sentence_of(crossover: Crossover) -> str:
    """The verdict, and which of the figures that it rests on are in doubt."""
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
    rows = in_doubt(unverified, stale)
    doubts = [f"That rests on {rows}."] if rows else []
    if cheapest is not None and not cheapest.is_same_model:
        doubts.append(f"That compares with another model, {cheapest.model or cheapest.name}: no like for like.")
    return " ".join(doubts)


def in_doubt(unverified: Sequence[str], stale: Sequence[str]) -> str | None:
    """What an answer rests on that is unverified or old, by name; None: nothing."""
    parts = [f"unverified: {_listed(unverified)}"] if unverified else []
    parts += [f"older than {STALE_AFTER_DAYS} days: {_listed(stale)}"] if stale else []
    return f"figures in doubt ({'; '.join(parts)})" if parts else None


def _listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    return " and ".join(filter(None, (", ".join(unique[:-1]), unique[-1])))


def _usd_per_full_mtok(crossover: Crossover) -> float:
    """A full replica's cost of a million tokens, without staff."""
    return staircase(crossover.plan).usd_per_full_daily_token / crossover.plan.days_per_month * MTOK
