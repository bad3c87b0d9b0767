"""Why a fleet is as it is, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from datetime import date

from llama_client.crossover.assumptions import Assumption
from llama_client.crossover.fleets.mix import Mix, Mixer
from llama_client.crossover.fleets.supply import TITLES
from llama_client.crossover.format import counted, in_words, share, usd
from llama_client.crossover.headline import in_doubt
from llama_client.crossover.scenario import FleetKind

# The prices that a part of a fleet has beside those of the crossover.
_PRICES: dict[str, tuple[FleetKind, ...]] = {
    "usd_per_gpu": ("own",),
    "computer_usd": ("own",),
    "colocation_usd_per_kw": ("own",),
    "reserved_3_years_discount": ("reserved_3_years",),
    "reserved_1_year_discount": ("reserved_1_year",),
    "gpu_usd_per_hour": ("reserved_3_years", "reserved_1_year", "on_demand"),
    "serverless_usd_per_gpu_second": ("serverless",),
}
# A difference of less than a cent is none.
_EQUAL_USD = 0.005


def explained(mix: Mix, mixer: Mixer) -> Iterator[str]:
    yield from _commitment(mix, mixer)
    yield from _following(mix)
    yield from _left_to_api(mix, mixer)


def _commitment(mix: Mix, mixer: Mixer) -> Iterator[str]:
    """The marginal replica: the last one that is bought or reserved, and the first one that is not."""
    steady = [
        (block, option.supply)
        for block, option in enumerate(mix.chosen)
        if option.supply is not None and option.supply.scaling is None
    ]
    if not steady:
        return
    last, supply = steady[-1]
    count, most = mix.always_on, mix.levels.tops[-1]
    kinds = " or ".join(dict.fromkeys(TITLES[each.kind] for _, each in steady))
    text = f"{count:,} of the {most:,} replicas" if count < most else counted(count, "replica")
    text += f" that the busiest hour needs always {'run' if most > 1 else 'runs'}, {kinds}"
    on_demand = next((each for each in mixer.supplies.machines if each.kind == "on_demand"), None)
    if on_demand is None or on_demand.scaling is None:
        yield f"{text}."
        return
    ratio, hours = supply.usd_per_hour / on_demand.usd_per_hour, len(mix.levels.loads)
    runs = [each / hours for each in mix.levels.following(on_demand.scaling).billed_hours]
    steady_usd = mix.chosen[last].usd[last] * mixer.hours_per_month / hours
    flexible_usd = mixer.flexible_usd_per_month(mix, last)
    assert flexible_usd is not None
    text += (
        f": an hour of one costs {share(ratio)} of an hour on demand, so it pays off where one on demand would run for "
        f"about {share(ratio)} of the time or more. The last of these would run for {share(runs[last])}, and cost "
        f"{usd(flexible_usd)} a month instead of {usd(steady_usd)}"
    )
    if flexible_usd < steady_usd - _EQUAL_USD:
        text += ", but work that may wait fills it"
    if last + 1 < len(runs):
        next_usd = mixer.flexible_usd_per_month(mix, last + 1)
        assert next_usd is not None
        text += f"; the next one runs for {share(runs[last + 1])} at most, for {usd(next_usd)}"
    yield f"{text}."


def _following(mix: Mix) -> Iterator[str]:
    hours = len(mix.levels.loads)
    for kind in ("on_demand", "serverless"):
        paid = [
            (count, option.paid_hours[block] / hours)
            for block, (count, option) in enumerate(zip(mix.levels.counts, mix.chosen, strict=True))
            if option.kind == kind and option.paid_hours[block] > 0
        ]
        if not paid:
            continue
        count = sum(each for each, _ in paid)
        often, seldom = max(part for _, part in paid), min(part for _, part in paid)
        time = share(often) if share(often) == share(seldom) else f"{share(seldom)} to {share(often)}"
        verb, be = ("follows", "is") if count == 1 else ("follow", "are")
        yield f"{counted(count, 'replica')} {TITLES[kind]} {verb} the load and {be} paid for {time} of the time."


def _left_to_api(mix: Mix, mixer: Mixer) -> Iterator[str]:
    """From which load on an hour of a replica is cheaper than the API."""
    followers = [each for each in mixer.supplies.machines if each.scaling is not None]
    if mix.api is None or not followers:
        return
    used = {option.kind for option in mix.chosen}
    supply = min(followers, key=lambda each: (each.kind not in used, each.usd_per_hour))
    hour, api_hour = supply.usd_per_hour, (mix.api.usd_per_token - supply.usd_per_token) * mixer.capacity
    name = mix.api.price.name
    full = f"{name[:1].upper()}{name[1:]} asks {usd(max(0.0, api_hour))} for what a replica serves in a full hour"
    if hour < api_hour:
        yield (
            f"{full}, an hour {TITLES[supply.kind]} costs {usd(hour)}: it pays off from {share(hour / api_hour)} of a "
            "replica's load on, and less may go to the API."
        )
    else:
        yield f"{full}, less than an hour {TITLES[supply.kind]} ({usd(hour)}): no load makes up for one."


def doubts(assumptions: Iterable[Assumption], used: Set[FleetKind], today: date) -> Iterator[str]:
    """The prices of the fleet's parts that are unverified or old; those of the crossover stand in its own headline."""
    prices = [each for each in assumptions if not each.is_given and not used.isdisjoint(_PRICES.get(each.name, ()))]
    unverified = [in_words(each.name) for each in prices if each.unverified]
    rows = in_doubt(unverified, [in_words(each.name) for each in prices if each.is_stale(today)])
    if rows:
        yield f"The fleet rests on {rows}."


def dearer_by(more: float) -> str:
    """What another fleet costs more, in US dollars a month."""
    return "costs the same" if more <= _EQUAL_USD else f"costs {usd(more)} a month more"


def reason(kind: FleetKind, pure: Mix, more: float, mixer: Mixer) -> str:
    """Why a fleet of one kind lost."""
    text = dearer_by(more)
    if more <= _EQUAL_USD:
        return text
    if kind == "api":
        return f"{text}: it has no idle hours, but full ones of machines are cheaper"
    levels = pure.levels
    room = sum(
        count * option.paid_hours[block] * mixer.capacity
        for block, (count, option) in enumerate(zip(levels.counts, pure.chosen, strict=True))
    )
    busy = sum(count * tokens for count, tokens in zip(levels.counts, levels.tokens, strict=True))
    return f"{text}: {share(min(1.0, busy / room))} of what is paid for would be in use" if room > 0 else text
