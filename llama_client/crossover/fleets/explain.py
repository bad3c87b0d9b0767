"""Why a fleet is as it is, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from llama_client.crossover.fleets.mix import Mix, Mixer
from llama_client.crossover.fleets.supply import TITLES
from llama_client.crossover.format import counted, share, usd
from llama_client.crossover.scenario import FleetKind


# A difference of less than a cent is none.
_EQUAL_USD = 0.005


def explained(mix: Mix, mixer: Mixer) -> Iterator[str]:
    yield from _commitment(mix, mixer)
    yield from _following(mix, mixer)
    hour = next((each.usd_per_hour for each in mixer.supplies.machines if each.kind == "on_demand"), None)
    if mix.api is not None and hour is not None:
        per_hour = mix.api.usd_per_token * mixer.capacity
        full = f"{mix.api.price.name} asks {usd(per_hour)} for what a replica serves in a full hour"
        if hour < per_hour:
            yield (
                f"{full}, and an hour on demand costs {usd(hour)}: it pays off from a load of {share(hour / per_hour)} of a "
                "replica on, and what is below goes to the API where that is cheaper than all that comes with a start."
            )
        else:
            yield f"{full}, less than an hour on demand ({usd(hour)}): no load makes up for one."


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
    count = mix.always_on
    sentence = (
        f"{counted(count, 'replica')} of the {mix.levels.tops[-1]:,} that the busiest hour needs always run, "
        f"{'all' if count > 1 else 'it is'} {TITLES[supply.kind]}"
        if len({each.kind for _, each in steady}) == 1
        else f"{counted(count, 'replica')} of the {mix.levels.tops[-1]:,} that the busiest hour needs always run"
    )
    on_demand = next((each for each in mixer.supplies.machines if each.kind == "on_demand"), None)
    if on_demand is None or on_demand.scaling is None or on_demand.usd_per_hour <= 0:
        yield f"{sentence}."
        return
    ratio = supply.usd_per_hour / on_demand.usd_per_hour
    hours = len(mix.levels.loads)
    billed = mix.levels.following(on_demand.scaling).billed_hours
    text = (
        f"{sentence}: an hour of one costs {share(ratio)} of an hour on demand, so the one that pays off last is that "
        f"which would run on demand for {share(ratio)} of the time; the last of these would run for "
        f"{share(billed[last] / hours)}"
    )
    if last + 1 < len(billed):
        text += f", the next one for {share(billed[last + 1] / hours)}"
    yield f"{text}."


def _following(mix: Mix, mixer: Mixer) -> Iterator[str]:
    for kind in ("on_demand", "serverless"):
        blocks = [block for block, option in enumerate(mix.chosen) if option.kind == kind]
        paid = [block for block in blocks if mix.chosen[block].paid_hours[block] > 0]
        if not paid:
            continue
        count = sum(mix.levels.counts[block] for block in paid)
        hours = len(mix.levels.loads)
        first, last = (mix.chosen[block].paid_hours[block] / hours for block in (paid[0], paid[-1]))
        often = (
            f"{share(first)} of the time" if len(paid) == 1 else f"between {share(first)} and {share(last)} of the time"
        )
        yield f"{counted(count, 'replica')} {TITLES[kind]} {'follows' if count == 1 else 'follow'} the load and {'is' if count == 1 else 'are'} paid for {often}."


def reason(kind: FleetKind, pure: Mix, more: float, mixer: Mixer) -> str:
    """Why a fleet of one kind lost."""
    if more <= _EQUAL_USD:
        return "costs the same"
    text = f"costs {usd(more)} a month more"
    levels = pure.levels
    if kind == "api":
        return f"{text}: a price by the token knows no idle hour, but full hours of machines are cheaper"
    busy = sum(count * tokens for count, tokens in zip(levels.counts, levels.tokens, strict=True))
    room = sum(
        count * option.paid_hours[block] * mixer.capacity
        for block, (count, option) in enumerate(zip(levels.counts, pure.chosen, strict=True))
    )
    if room > 0:
        text += f": {share(min(1.0, busy / room))} of what is paid for would be in use"
    return text
