"""The cheapest fleet for a load by the hour: what is reserved, rented, bought and left to an API, and why."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from llama_client.crossover.evaluation import Crossover
from llama_client.crossover.fleets.batch import Moved, into_idle, left_of_idle, together
from llama_client.crossover.fleets.explain import dearer_by, doubts, explained, reason
from llama_client.crossover.fleets.load import HOURS_A_DAY, HOURS_A_WEEK, HourlyLoad, repeated
from llama_client.crossover.fleets.mix import Mix, Mixer
from llama_client.crossover.fleets.parts import BatchWork, ColdStarts, Considered, FleetPart, FleetPlan, Placement
from llama_client.crossover.fleets.supply import TITLES, Api, supplies_of
from llama_client.crossover.scenario import FleetKind, FleetPolicy, invalid
from llama_client.crossover.tables import Tables

_PLACEMENTS: dict[Placement, str] = {
    "at once": "batch work at once, with the rest",
    "api batch": "batch work to an API at its batch price",
    "idle hours": "batch work into idle hours of replicas that always run, what is left to an API at its batch price",
    "together": "batch work into idle hours of all replicas, and what is due on further ones that it fills",
}


@dataclass(frozen=True, slots=True)
class _Placed:
    """A mix with its batch work placed."""

    placement: Placement
    mix: Mix
    usd_per_month: float
    api: Api | None = None  # of what goes to a batch API
    api_tokens: float = 0.0  # of these, over the whole curve
    api_usd_per_month: float = 0.0
    moved: Moved | None = None


def plan_fleet(
    crossover: Crossover,
    *,
    tokens_per_day: float | None = None,
    hours: HourlyLoad | Iterable[float] | None = None,
    policy: FleetPolicy | None = None,
    tables: Tables | None = None,
) -> FleetPlan:
    """The cheapest mix of replicas that are bought, reserved, on demand or serverless, and of an API, hour by hour.

    Args:
        crossover: The answer for the scenario: its replica, its prices and its traffic.
        tokens_per_day: The mean volume; None: the crossover's reference volume, or that of an `HourlyLoad`.
        hours: The load of each hour, in any unit, scaled to the volume; or a load in tokens. None: the hours of the
            traffic, else a curve with its peak.
        policy: How the fleet follows the load; None: as assumed.
        tables: Rows of GPUs and prices; None: those of the package.

    Returns:
        The plan. Its costs are US dollars a month as float, since a forecast is an estimate.

    Raises:
        InvalidRequestError: A figure is out of its range, or no allowed kind can serve the load.

    Examples:
        An even load is cheapest on reserved replicas:

        >>> from llama_client.crossover import ApiPrice, FleetPolicy, Scenario, SelfHost, Traffic, evaluate, plan_fleet
        >>> crossover = evaluate(Scenario(
        ...     model=None,
        ...     traffic=Traffic(tokens_per_day=240e6, output_share=1, peak_to_mean=1),
        ...     self_host=SelfHost(tokens_per_second=1000, slo_derate=1, max_utilisation=1, gpu_usd_per_hour=2,
        ...                        ops_usd_per_month=0),
        ...     apis=[ApiPrice(input_usd_per_mtok=1, output_usd_per_mtok=1)],
        ... ))
        >>> plan = plan_fleet(crossover, policy=FleetPolicy(reserved_3_years_discount=0.5))
        >>> [(part.kind, part.replicas, round(part.usd_per_month)) for part in plan.parts]
        [('reserved_3_years', 3, 2190)]
    """
    given: object = policy
    if given is not None and not isinstance(given, FleetPolicy):
        raise invalid("policy", f"must be a FleetPolicy, got a value of type {type(given).__name__}")
    policy = policy or FleetPolicy()
    plan = crossover.plan
    load = _load(crossover, tokens_per_day, hours)
    supplies = supplies_of(crossover, policy, tables or Tables.bundled())
    least = policy.min_replicas
    if least is None:
        # One is the scenario's way to say none: a fleet that does not breathe has at least one.
        least = plan.min_replicas if plan.min_replicas > 1 else 0
    mixer = Mixer(
        supplies=supplies,
        capacity=plan.usable_tokens_per_day / HOURS_A_DAY * (1 - supplies.headroom),
        hours_per_month=plan.hours_per_month,
        spare=plan.spare,
        least=least,
        is_late_to_api=policy.cold_requests == "api",
    )
    loads = repeated(load.tokens, HOURS_A_WEEK) if plan.batch_share else list(load.tokens)
    found = _placed(mixer, loads, plan.batch_share, policy.kinds)
    if not found:
        sentence = f"none of {', '.join(policy.kinds)} can serve it: " + "; ".join(
            f"{TITLES[kind]}: {why}" for kind, why in supplies.left_out
        )
        raise invalid("policy.kinds", sentence)
    best = min(found, key=lambda placed: placed.usd_per_month)
    return _plan(best, found, load, loads, mixer, crossover, policy)


def _load(crossover: Crossover, tokens_per_day: float | None, hours: HourlyLoad | Iterable[float] | None) -> HourlyLoad:
    if isinstance(hours, HourlyLoad):
        if tokens_per_day is None:
            return hours
        return HourlyLoad.of(hours.tokens, tokens_per_day=tokens_per_day, source=hours.source)
    volume = crossover.reference_volume if tokens_per_day is None else tokens_per_day
    if hours is not None:
        return HourlyLoad.of(hours, tokens_per_day=volume)
    traffic = crossover.scenario.traffic
    if traffic.hourly_tokens:
        return HourlyLoad.of(traffic.hourly_tokens, tokens_per_day=volume, source=traffic.source)
    return HourlyLoad.with_peak(crossover.plan.peak_to_mean, tokens_per_day=volume)


def _placed(mixer: Mixer, loads: Sequence[float], batch_share: float, kinds: Sequence[FleetKind]) -> list[_Placed]:
    """The cheapest mix for each place of the batch work."""
    now = mixer.best(mixer.levels(loads), kinds=kinds)
    found = [] if now is None else [_Placed("at once", now, now.usd_per_month)]
    if not batch_share:
        return found
    wait, month = mixer.supplies.batch_wait_hours, mixer.hours_per_month / len(loads)
    soon, later = [load * (1 - batch_share) for load in loads], [load * batch_share for load in loads]
    tokens = math.fsum(later)
    alone = mixer.best(mixer.levels(soon), kinds=kinds)
    if alone is None:
        return found
    bases = {alone.always_on, now.always_on if now is not None else 0}
    api = min(
        mixer.supplies.apis,
        key=lambda api: api.batch_usd_per_token * tokens * month + api.fees_usd_per_month,
        default=None,
    )
    if api is not None:

        def batch_usd(count: float, mix: Mix) -> float:
            has_fee = count > 0 and not (mix.api is api and mix.fees_usd_per_month)
            fees = api.fees_beside(has_machine=mix.has_machine) if has_fee else 0.0
            return count * api.batch_usd_per_token * month + fees

        usd = batch_usd(tokens, alone)
        found.append(_Placed("api batch", alone, alone.usd_per_month + usd, api, tokens, usd))
        base = _best_base(mixer, alone, soon, later, api)
        bases = {base}
        mix = mixer.best(alone.levels, kinds=kinds, base=base) if base else None
        if mix is not None:
            moved = into_idle([max(0.0, base * mixer.capacity - load) for load in soon], later, wait)
            left, done = math.fsum(moved.expired), math.fsum(moved.served)
            supply = mix.chosen[0].supply
            energy_usd = 0.0 if supply is None else supply.usd_per_token * done * month
            usd = batch_usd(left, mix)
            found.append(_Placed("idle hours", mix, mix.usd_per_month + usd + energy_usd, api, left, usd, moved))
    for base in sorted(bases):
        moved = together(soon, later, mixer.capacity, base=base, wait_hours=wait)
        on_replicas = [first + second for first, second in zip(soon, moved.served, strict=True)]
        mix = mixer.best(mixer.levels(on_replicas), kinds=kinds)
        if mix is not None:
            found.append(_Placed("together", mix, mix.usd_per_month, moved=moved))
    cheapest: dict[Placement, _Placed] = {}
    for placed in found:
        kept = cheapest.get(placed.placement)
        if kept is None or placed.usd_per_month < kept.usd_per_month:
            cheapest[placed.placement] = placed
    return list(cheapest.values())


def _best_base(mixer: Mixer, alone: Mix, soon: Sequence[float], later: Sequence[float], api: Api) -> int:
    """The number of replicas that always run, with batch work in their idle hours and the rest of it to an API.

    Each further replica takes less batch work than the one before, and saves less above it, so the cost falls, then
    rises: the first replica that does not pay for itself ends the search.
    """
    levels, wait = alone.levels, mixer.supplies.batch_wait_hours
    steady = [each for each in mixer.supplies.machines if each.scaling is None] or list(mixer.supplies.machines)
    if not steady:
        return 0
    hour_usd = min(each.usd_per_hour for each in steady) * len(soon)
    pairs = zip(levels.counts, alone.chosen, strict=True)
    layers = (count * option.usd[block] for block, (count, option) in enumerate(pairs))
    sums = [0.0, *accumulate(layers)]

    def layers_usd(base: int) -> float:
        """The layers below the base, as they are served without it."""
        block = bisect.bisect_left(levels.tops, base)
        if block == len(levels.tops):
            return sums[-1]
        below = levels.tops[block - 1] if block else 0
        return sums[block] + (base - below) * alone.chosen[block].usd[block]

    def usd(base: int) -> float:
        room = base * mixer.capacity
        left = left_of_idle([room - load if load < room else 0.0 for load in soon], later, wait)
        return base * hour_usd - layers_usd(base) + left * api.batch_usd_per_token

    most = math.ceil(max(a + b for a, b in zip(soon, later, strict=True)) / mixer.capacity)
    # Those that pay for themselves without such work do so with it.
    bases = range(alone.always_on, max(alone.always_on, most))
    return alone.always_on + bisect.bisect_left(bases, True, key=lambda base: usd(base) <= usd(base + 1))


def _plan(
    best: _Placed,
    found: Sequence[_Placed],
    load: HourlyLoad,
    loads: Sequence[float],
    mixer: Mixer,
    crossover: Crossover,
    policy: FleetPolicy,
) -> FleetPlan:
    mix, supplies = best.mix, mixer.supplies
    parts = tuple(_parts(best, mixer, math.fsum(loads)))
    cold = _cold_starts(mix, mixer, crossover.plan.tokens_per_request)
    used = {part.kind for part in parts}
    others = tuple(_considered(best, found, mixer, policy.kinds, used))
    batch = None
    if crossover.plan.batch_share:
        tokens = crossover.plan.batch_share * math.fsum(loads)
        batch = BatchWork(
            placement=best.placement,
            title=_PLACEMENTS[best.placement],
            api=None if best.api is None or not best.api_tokens else best.api.price.name,
            api_share=_share(best.api_tokens, tokens),
            moved_share=0.0 if best.moved is None else _share(math.fsum(best.moved.served), tokens),
            longest_wait_hours=0 if best.moved is None else best.moved.longest_wait_hours,
        )
    return FleetPlan(
        hours=len(load.tokens),
        tokens_per_day=load.tokens_per_day,
        peak_to_mean=load.peak_to_mean,
        source=load.source,
        replica_tokens_per_hour=mixer.capacity,
        usd_per_month=best.usd_per_month,
        parts=parts,
        fixed_usd_per_month=mix.fixed_usd_per_month,
        cold_starts=cold,
        batch=batch,
        considered=others,
        explanation=(*explained(mix, mixer), *doubts(supplies.assumptions, used, crossover.today)),
        assumptions=supplies.assumptions,
    )


def _parts(best: _Placed, mixer: Mixer, tokens: float) -> Iterator[FleetPart]:
    mix, month = best.mix, mixer.hours_per_month / len(best.mix.levels.loads)
    replicas: dict[FleetKind, int] = {}
    paid: dict[FleetKind, float] = {}
    served: dict[FleetKind, float] = {}
    usd: dict[FleetKind, float] = {}
    names = {each.kind: each.name for each in mixer.supplies.machines}
    api_tokens = api_usd = 0.0
    for block, (count, option) in enumerate(zip(mix.levels.counts, mix.chosen, strict=True)):
        away = option.api_tokens[block]
        api_tokens += count * away
        away_usd = 0.0 if mix.api is None else mix.api.usd_per_token * away
        api_usd += count * away_usd
        if option.supply is not None and option.paid_hours[block] > 0:
            kind = option.supply.kind
            replicas[kind] = replicas.get(kind, 0) + count
            paid[kind] = paid.get(kind, 0.0) + count * option.paid_hours[block]
            served[kind] = served.get(kind, 0.0) + count * (mix.levels.tokens[block] - away)
            usd[kind] = usd.get(kind, 0.0) + count * (option.usd[block] - away_usd)
    if best.placement == "idle hours" and best.moved is not None:
        done = math.fsum(best.moved.served)
        kind = mix.chosen[0].kind
        served[kind] += done
        supply = mix.chosen[0].supply
        usd[kind] += done * (0.0 if supply is None else supply.usd_per_token)
    usd_of_spare: dict[FleetKind, float] = {}
    if mix.spare is not None:
        kind = mix.spare.kind
        replicas[kind] = replicas.get(kind, 0) + mixer.spare
        paid[kind] = paid.get(kind, 0.0) + mixer.spare * len(mix.levels.loads)
        usd_of_spare[kind] = mix.spare_usd_per_month
    for kind in sorted(replicas, key=list(TITLES).index):
        yield FleetPart(
            kind=kind,
            name=names[kind],
            replicas=replicas[kind],
            replica_hours_per_month=paid[kind] * month,
            usd_per_month=usd.get(kind, 0.0) * month
            + usd_of_spare.get(kind, 0.0)
            + (mix.unfilled_usd_per_month if kind == "own" else 0.0),
            token_share=_share(served.get(kind, 0.0), tokens),
        )
    if api_tokens + best.api_tokens > 0:
        names_of = [
            api.price.name for api, count in ((mix.api, api_tokens), (best.api, best.api_tokens)) if api and count
        ]
        yield FleetPart(
            kind="api",
            name=" and ".join(dict.fromkeys(names_of)),
            replicas=None,
            replica_hours_per_month=None,
            usd_per_month=api_usd * month + mix.fees_usd_per_month + best.api_usd_per_month,
            token_share=_share(api_tokens + best.api_tokens, tokens),
        )


def _share(part: float, whole: float) -> float:
    """A share without what floats leave of a sum."""
    return round(part / whole, 12)


def _cold_starts(mix: Mix, mixer: Mixer, tokens_per_request: float) -> ColdStarts:
    levels = mix.levels
    days = len(levels.loads) / HOURS_A_DAY
    starts, late, away, longest = 0, 0.0, 0.0, 0.0
    for block, (count, option) in enumerate(zip(levels.counts, mix.chosen, strict=True)):
        if option.following is None or levels.tops[block] <= mixer.least:
            continue
        starts += count * option.following.starts[block]
        late += count * option.late_tokens[block]
        away += count * (option.api_tokens[block] - option.following.left_tokens[block])
    if late > 0:
        seen: set[int] = set()
        for option in mix.chosen:
            if option.following is None or option.supply is None or id(option) in seen:
                continue
            seen.add(id(option))
            scaling = option.supply.scaling
            assert scaling is not None
            own = [block for block, each in enumerate(mix.chosen) if each is option]
            floor = levels.tops[own[0] - 1] if own[0] else 0
            for start in option.following.cold_starts:
                warm = max(start.warm, floor)
                if warm < min(start.needed, levels.tops[own[-1]]):
                    share = 1 - warm * mixer.capacity / levels.loads[start.hour]
                    longest = max(longest, scaling.start_s * share)
    return ColdStarts(
        starts_per_day=starts / days,
        start_s=mixer.supplies.start_s,
        waiting_tokens_per_day=late / days,
        waiting_requests_per_day=late / days / tokens_per_request,
        longest_wait_s=longest,
        api_tokens_per_day=away / days,
    )


def _considered(
    best: _Placed,
    found: Sequence[_Placed],
    mixer: Mixer,
    kinds: Sequence[FleetKind],
    used: set[FleetKind],
) -> Iterator[Considered]:
    """Each kind alone, and each other place of the batch work, with what it costs more or why it was left out."""
    levels = next((placed.mix.levels for placed in found if placed.placement == "at once"), best.mix.levels)
    for kind in kinds:
        without = [why for left, why in mixer.supplies.left_out if left == kind]
        if without:
            yield Considered(f"all {TITLES[kind]}", None, without[0])
            continue
        pure = mixer.alone(levels, kind, kinds=kinds)
        if pure is not None:
            more = pure.usd_per_month - best.usd_per_month
            why = "is this plan" if used == {kind} and not more else reason(kind, pure, more, mixer)
            yield Considered(f"all {TITLES[kind]}", pure.usd_per_month, why)
    for placed in found:
        if placed is not best:
            more = placed.usd_per_month - best.usd_per_month
            yield Considered(_PLACEMENTS[placed.placement], placed.usd_per_month, dearer_by(more))
