"""The ways to serve a layer of a fleet's load, each in numbers: from the scenario, the policy and the tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from llama_client.crossover.assumptions import Assumption, AssumptionLog
from llama_client.crossover.crossings import Staircase
from llama_client.crossover.economics import MTOK, SECONDS_AN_HOUR, CostInputs, staircase, usd_per_mtok
from llama_client.crossover.evaluation import Crossover
from llama_client.crossover.fleets.levels import LONGEST_START_S, Scaling
from llama_client.crossover.offers import Offers
from llama_client.crossover.precisions import canonical, weight_bytes
from llama_client.crossover.resolve import resolve
from llama_client.crossover.scenario import ApiPrice, FleetKind, FleetPolicy, Purchase, invalid
from llama_client.crossover.tables import Tables, rows
from llama_client.errors import InvalidRequestError

TITLES: dict[FleetKind, str] = {
    "own": "bought",
    "reserved_3_years": "reserved for 3 years",
    "reserved_1_year": "reserved for 1 year",
    "on_demand": "on demand",
    "serverless": "serverless",
    "api": "API",
}
_RESERVED: tuple[FleetKind, ...] = ("reserved_3_years", "reserved_1_year")
_RENTED: tuple[FleetKind, ...] = (*_RESERVED, "on_demand")


@dataclass(frozen=True, slots=True)
class Supply:
    """One way to serve: a replica's price, and that of its tokens."""

    kind: FleetKind
    name: str
    usd_per_hour: float  # of a replica while it is paid for
    usd_per_token: float = 0.0
    scaling: Scaling | None = None  # None: it always runs
    stairs: Staircase | None = None  # of bought ones, which may share computers; the price above is of a full one

    def unfilled_usd_per_month(self, replicas: int, hours: float) -> float:
        """What computers cost that a number of replicas does not fill."""
        if self.stairs is None or not replicas:
            return 0.0
        return self.stairs.step_usd(replicas) - self.stairs.fixed_usd - replicas * self.usd_per_hour * hours

    @property
    def replicas_per_computer(self) -> int:
        return 1 if self.stairs is None else self.stairs.replicas_per_block


@dataclass(frozen=True, slots=True)
class Api:
    """An API's prices of a token of this traffic."""

    price: ApiPrice
    usd_per_token: float
    batch_usd_per_token: float
    fees_usd_per_month: float
    takes_escalated: bool = False  # machines that escalate to it have paid its fees

    def fees_beside(self, *, has_machine: bool) -> float:
        return 0.0 if has_machine and self.takes_escalated else self.fees_usd_per_month


@dataclass(frozen=True, slots=True)
class Supplies:
    machines: tuple[Supply, ...]
    apis: tuple[Api, ...]
    fixed_usd_per_month: dict[bool, float]  # staff and disks, by whether a machine is bought
    start_s: float
    headroom: float
    batch_wait_hours: int
    assumptions: tuple[Assumption, ...]
    left_out: tuple[tuple[FleetKind, str], ...]  # with the reason


def supplies_of(crossover: Crossover, policy: FleetPolicy, tables: Tables) -> Supplies:
    log, machines = AssumptionLog(), list[Supply]()
    left_out: list[tuple[FleetKind, str]] = []
    fixed: dict[bool, float] = {}
    start_s = _start_s(crossover, policy, log)
    headroom = log.figure("headroom", policy.headroom)
    rented, owned = _variants(crossover, policy, tables, log, left_out)
    hours = crossover.plan.hours_per_month
    if owned is not None:
        stairs = replace(staircase(owned), spare=0)
        per_token = stairs.usd_per_daily_token / owned.days_per_month
        usd = stairs.usd_per_full_replica / hours
        machines.append(Supply("own", TITLES["own"], usd, per_token, stairs=stairs))
        fixed[True] = stairs.fixed_usd
    if rented is not None:
        stairs = staircase(rented)
        fixed[False] = stairs.fixed_usd
        per_hour, per_token = stairs.usd_per_replica / hours, stairs.usd_per_daily_token / rented.days_per_month
        if rented.spot_overhead:
            why = "the rent is that of a machine that may be taken away, and such cannot be reserved"
            left_out += [(kind, why) for kind in _RESERVED if kind in policy.kinds]
        else:
            machines += _reserved(per_hour, per_token, policy, log)
        if "on_demand" in policy.kinds:
            idle = log.figure("idle_timeout_s", policy.idle_timeout_s, unit="s")
            scaling = Scaling(start_s, idle, log.figure("billing_s", policy.billing_s, unit="s"))
            machines.append(Supply("on_demand", TITLES["on_demand"], per_hour, per_token, scaling))
    if "serverless" in policy.kinds:
        machines += _serverless(crossover, policy, start_s, log, left_out)
        # Staff is the same; a fleet that can only be bought has no other figure for it.
        fixed.setdefault(False, fixed.get(True, staircase(crossover.plan).fixed_usd))
    if start_s > LONGEST_START_S:
        why = f"a replica takes {start_s / 60:.0f} minutes to start, and cannot follow the hours"
        left_out += [(each.kind, why) for each in machines if each.scaling is not None]
        machines = [each for each in machines if each.scaling is None]
    apis = tuple(_api(price, crossover.plan) for price in crossover.plan.apis) if "api" in policy.kinds else ()
    if "api" in policy.kinds and not apis:
        left_out.append(("api", "none sells the model"))
    wait = int(log.figure("batch_wait_hours", policy.batch_wait_hours, unit="h")) if crossover.plan.batch_share else 0
    return Supplies(tuple(machines), apis, fixed, start_s, headroom, wait, log.all(()), tuple(left_out))


def _start_s(crossover: Crossover, policy: FleetPolicy, log: AssumptionLog) -> float:
    """The seconds until a new replica serves: weights over the network, then into the GPUs, then the engine."""
    found = crossover.resolved
    if policy.start_s is not None or found.model is None or found.precision is None:
        return log.figure("start_s", policy.start_s, unit="s")
    gigabytes = weight_bytes(found.model, canonical(found.precision)) / 1e9
    network = log.figure("network_gb_per_s", policy.network_gb_per_s, unit="GB/s")
    disk = log.figure("disk_gb_per_s", policy.disk_gb_per_s, unit="GB/s")
    engine = log.figure("engine_start_s", policy.engine_start_s, unit="s")
    seconds = gigabytes / network + gigabytes / disk + engine
    source = f"{gigabytes:.0f} GB fetched at {network:g} and loaded at {disk:g} GB/s, and {engine:g} s for the engine"
    return log.add(Assumption("start_s", seconds, "s", source))


def _variants(
    crossover: Crossover,
    policy: FleetPolicy,
    tables: Tables,
    log: AssumptionLog,
    left_out: list[tuple[FleetKind, str]],
) -> tuple[CostInputs | None, CostInputs | None]:
    """The scenario rented, and bought; None: not wanted, or without a price."""
    plan, host = crossover.plan, crossover.scenario.self_host
    if plan.powered_hours_per_month < plan.hours_per_month:
        sentence = "a fleet that follows the hours decides itself when replicas run; leave it out"
        raise invalid("self_host.powered_hours_per_month", sentence)
    rented_kinds = [kind for kind in _RENTED if kind in policy.kinds]
    rate = "total_tokens_per_second" if plan.counts_input else "tokens_per_second"
    known: dict[str, Any] = {"tokens_per_second": None, "total_tokens_per_second": None, rate: plan.tokens_per_second}
    # The rate has what the cache saves.
    found = crossover.resolved
    known |= {"slo_derate": plan.slo_derate, "precision": found.precision, "engine": found.engine}
    known["own_cached_share"] = None

    def other(**changed: Any) -> CostInputs:
        scenario = replace(crossover.scenario, self_host=replace(host, **(known | changed)))
        offers = None if scenario.apis is not None else Offers(plan.apis, (), ())
        resolved = resolve(scenario, tables=tables, today=crossover.today, offers=offers)
        for each in resolved.assumptions:
            before = found.assumption(each.name)
            if before is None or before.value != each.value:
                log.add(each)
        return resolved.plan

    rented, owned = (plan, None) if plan.owned is None else (None, plan)
    if rented_kinds and rented is None:
        try:
            rented = other(purchase=None)
        except InvalidRequestError as refusal:
            left_out += [(kind, _without_field(refusal)) for kind in rented_kinds]
    if "own" in policy.kinds and owned is None:
        try:
            owned = other(purchase=Purchase(), gpu_usd_per_hour=None)
        except InvalidRequestError as refusal:
            left_out.append(("own", _without_field(refusal)))
    return (rented if rented_kinds else None), (owned if "own" in policy.kinds else None)


def _without_field(refusal: InvalidRequestError) -> str:
    return str(refusal).removeprefix(f"{refusal.param}: ")


def _reserved(per_hour: float, per_token: float, policy: FleetPolicy, log: AssumptionLog) -> Iterator[Supply]:
    terms: tuple[tuple[FleetKind, int, float | None], ...] = (
        ("reserved_3_years", 3, policy.reserved_3_years_discount),
        ("reserved_1_year", 1, policy.reserved_1_year_discount),
    )
    for kind, years, given in terms:
        if kind in policy.kinds:
            name = f"{kind}_discount"
            discount = log.given(name, given) if given is not None else log.add(_known_discount(name, years))
            yield Supply(kind, TITLES[kind], per_hour * (1 - discount), per_token)


def _known_discount(name: str, years: int) -> Assumption:
    """The median discount of a term, of rows that are in no doubt where there are such."""
    quotes = [row for row in rows("reserved.toml", "reserved") if row["term_years"] == years]
    quotes = [row for row in quotes if "unverified" not in row] or quotes
    shares = sorted(float(row["discount_share"]) for row in quotes)
    sellers = ", ".join(row["provider"] for row in quotes)
    source = quotes[0]["source"] if len(quotes) == 1 else f"the median of {sellers}"
    days: list[date] = [row["as_of"] for row in quotes if "as_of" in row]
    return Assumption(
        name, statistics.median(shares), "", source, min(days, default=None), low=shares[0], high=shares[-1]
    )


def _serverless(
    crossover: Crossover,
    policy: FleetPolicy,
    start_s: float,
    log: AssumptionLog,
    left_out: list[tuple[FleetKind, str]],
) -> Iterator[Supply]:
    gpu = crossover.resolved.gpu
    quotes = [row for row in rows("serverless.toml", "serverless") if gpu is not None and row["gpu"] == gpu.name]
    best = min(quotes, key=lambda row: float(row["usd_per_gpu_second"]), default=None)
    name, unit = "serverless_usd_per_gpu_second", "USD"
    billing, idle, seller = 1.0, policy.serverless_idle_timeout_s, "a seller"
    if policy.serverless_usd_per_gpu_second is not None:
        price = log.given(name, policy.serverless_usd_per_gpu_second, unit=unit)
    elif best is None:
        left_out.append(
            ("serverless", "no seller with a price for this GPU is known; give serverless_usd_per_gpu_second")
        )
        return
    else:
        usd, billing, seller = float(best["usd_per_gpu_second"]), float(best["billing_s"]), best["provider"]
        source = f"{seller}: {best['source']}; the lowest of {len(quotes)}"
        doubt = best.get("unverified")
        price = log.add(Assumption(name, usd, unit, source, best.get("as_of"), unverified=doubt))
        if idle is None and "idle_s" in best:
            idle = log.add(Assumption("serverless_idle_timeout_s", float(best["idle_s"]), "s", f"{seller}'s default"))
        elif idle is None:
            idle = log.figure("serverless_idle_timeout_s", None, unit="s")
        else:
            log.given("serverless_idle_timeout_s", idle, unit="s")
    if policy.serverless_usd_per_gpu_second is not None:
        idle = log.figure("serverless_idle_timeout_s", idle, unit="s")
    assert idle is not None
    plan = crossover.plan
    escalated = replace(plan, owned=None, gpu_usd_per_hour=0.0)
    per_token = staircase(escalated).usd_per_daily_token / plan.days_per_month
    scaling = Scaling(start_s, idle, billing)
    yield Supply("serverless", f"serverless, {seller}", price * SECONDS_AN_HOUR * plan.n_gpus, per_token, scaling)


def _api(price: ApiPrice, plan: CostInputs) -> Api:
    now, batch = (usd_per_mtok(price, replace(plan, batch_share=share)) / MTOK for share in (0.0, 1.0))
    return Api(price, now, batch, price.fees_usd_per_month, price == plan.escalation)
