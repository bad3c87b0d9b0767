"""Fleets by the hour: hand-computed ones, what holds for all, a simulation of replicas one by one, and bad input."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from llama_client.crossover import (
    ApiPrice,
    Crossover,
    FleetPlan,
    FleetPolicy,
    HourlyLoad,
    Purchase,
    Scenario,
    SelfHost,
    Tables,
    Traffic,
    evaluate,
    plan_fleet,
)
from llama_client.crossover.fleets.batch import into_idle, left_of_idle
from llama_client.crossover.fleets.load import MAX_HOURS, read_hours
from llama_client.crossover.fleets.report import as_document, notes, tables
from llama_client.crossover.scenario import FleetKind
from llama_client.crossover.tables import rows
from llama_client.errors import InvalidRequestError
from tests.crossover.fleet_simulation import Simulation

# A replica serves 1,000 tokens a second, 3.6 M an hour, and costs $2 an hour; a month has 730 hours.
REPLICA, RENT, MONTH = 3.6e6, 2.0, 730
INSTANT: dict[str, Any] = {"start_s": 0, "idle_timeout_s": 0}
RENTED: tuple[FleetKind, ...] = ("reserved_3_years", "reserved_1_year", "on_demand")


def asked(
    *apis: ApiPrice, traffic: dict[str, Any] | None = None, purchase: Purchase | None = None, **host: Any
) -> Crossover:
    machine: dict[str, Any] = {
        "tokens_per_second": 1000,
        "slo_derate": 1,
        "max_utilisation": 1,
        "gpu_usd_per_hour": None if purchase else RENT,
        "ops_usd_per_month": 0,
    }
    return evaluate(
        Scenario(
            model=None,
            traffic=Traffic(**({"output_share": 1.0, "peak_to_mean": 1, "tokens_per_request": 1000} | (traffic or {}))),
            self_host=SelfHost(purchase=purchase, **(machine | host)),
            apis=apis,
        )
    )


def price(usd_per_hour: float, **more: Any) -> ApiPrice:
    """An API that asks so much for what a replica serves in a full hour."""
    per_mtok = usd_per_hour / (REPLICA / 1e6)
    return ApiPrice(input_usd_per_mtok=per_mtok, output_usd_per_mtok=per_mtok, **more)


def planned(replicas: Sequence[float], *apis: ApiPrice, crossover: Crossover | None = None, **policy: Any) -> FleetPlan:
    """The plan for hours that need so many replicas."""
    load = HourlyLoad.of([each * REPLICA for each in replicas])
    return plan_fleet(crossover or asked(*apis), hours=load, policy=FleetPolicy(**policy))


def mix(plan: FleetPlan) -> dict[str, int | None]:
    return {part.kind: part.replicas for part in plan.parts}


def usd(plan: FleetPlan, name: str) -> float | None:
    return next(each.usd_per_month for each in plan.considered if each.name == name)


# Hand-computed


def test_an_even_load_is_cheapest_reserved_for_the_longest_term() -> None:
    plan = planned([2.5] * 24, price(10), reserved_1_year_discount=0.3, reserved_3_years_discount=0.5)
    assert mix(plan) == {"reserved_3_years": 3}
    assert plan.usd_per_month == pytest.approx(3 * RENT * 0.5 * MONTH)
    assert usd(plan, "all reserved for 1 year") == pytest.approx(3 * RENT * 0.7 * MONTH)
    assert usd(plan, "all on demand") == pytest.approx(3 * RENT * MONTH)
    assert usd(plan, "all API") == pytest.approx(2.5 * 10 * MONTH)
    assert plan.cold_starts.starts_per_day == 0


def test_a_load_that_is_on_for_a_third_of_the_day_is_cheapest_on_demand() -> None:
    plan = planned([0] * 8 + [3] * 8 + [0] * 8, price(10), idle_timeout_s=900, start_s=360, cold_requests="wait")
    assert mix(plan) == {"on_demand": 3}
    # Eight hours of work and a quarter of an hour until they stop.
    assert plan.usd_per_month == pytest.approx(3 * 8.25 * RENT * MONTH / 24)
    cold = plan.cold_starts
    assert (cold.starts_per_day, cold.longest_wait_s) == (3, 360)
    assert cold.waiting_tokens_per_day == pytest.approx(3 * REPLICA * 0.1)
    assert cold.waiting_requests_per_day == pytest.approx(3 * REPLICA * 0.1 / 1000)
    assert cold.api_tokens_per_day == 0


def test_rare_bursts_scale_from_zero_or_go_to_an_api() -> None:
    week = [0.0] * 167 + [0.5]
    alone = planned(week, idle_timeout_s=600, start_s=180)
    assert mix(alone) == {"on_demand": 1}
    assert alone.usd_per_month == pytest.approx((1 + 1 / 6) * RENT * MONTH / 168)
    assert alone.cold_starts.starts_per_day == pytest.approx(1 / 7)
    cheap = planned(week, price(3), idle_timeout_s=600, start_s=180)
    assert mix(cheap) == {"api": None}
    assert cheap.usd_per_month == pytest.approx(0.5 * 3 * MONTH / 168)
    assert not cheap.cold_starts.starts_per_day


@pytest.mark.parametrize("ratio", [0.27, 0.52, 0.77])
def test_as_many_are_reserved_as_would_run_for_longer_than_the_ratio_of_the_prices(ratio: float) -> None:
    # Replica k of 24 works in 25 - k of the 24 hours.
    plan = planned(
        [float(each) for each in range(1, 25)],
        kinds=("reserved_1_year", "on_demand"),
        reserved_1_year_discount=1 - ratio,
        **INSTANT,
    )
    reserved = sum((25 - k) / 24 > ratio for k in range(1, 25))
    assert mix(plan) == {"reserved_1_year": reserved, "on_demand": 24 - reserved}
    hours = reserved * 24 * ratio + sum(25 - k for k in range(reserved + 1, 25))
    assert plan.usd_per_month == pytest.approx(hours * RENT * MONTH / 24)
    first = plan.explanation[0]
    assert f"{reserved} of the 24 replicas" in first
    assert f"costs {ratio:.0%} of an hour on demand" in first
    last, following = ((25 - k) / 24 for k in (reserved, reserved + 1))
    assert f"The last of these would run for {last:.0%}" in first
    assert f"the next one runs for {following:.0%}" in first


def test_a_bought_machine_takes_the_base_where_its_hour_is_cheapest() -> None:
    # No interest, no residual value: $1 an hour.
    bought = Purchase(usd_per_gpu=36 * MONTH, months=36, residual_share=0, yearly_interest=0, idle_w=0, load_w=0)
    crossover = asked(price(10), purchase=bought)
    plan = planned([2, 1] * 12, crossover=crossover, kinds=("own", "api"))
    assert mix(plan) == {"own": 2}
    assert plan.usd_per_month == pytest.approx(2 * MONTH)
    assert usd(plan, "all API") == pytest.approx(15 * MONTH)


@pytest.mark.parametrize("spare", [0, 1])
def test_computers_are_filled_with_the_spare_ones_counted(spare: int) -> None:
    # A replica at 0.20 an hour in a computer for four at 3.20: 1.00 where it is full, and hardly less than the API.
    bought = Purchase(
        usd_per_gpu=0.2 * 36 * MONTH,
        computer_usd=3.2 * 36 * MONTH,
        gpus_per_computer=4,
        months=36,
        residual_share=0,
        yearly_interest=0,
        idle_w=0,
        load_w=0,
    )
    crossover = asked(price(2), purchase=bought, spare=spare)
    always = 4 - spare
    plan = planned([always + 2.0] * 13 + [float(always)] * 11, crossover=crossover, kinds=("own", "api"))
    assert mix(plan) == {"own": 4, "api": None}
    assert plan.usd_per_month == pytest.approx((4.0 + 2 * 2 * 13 / 24) * MONTH)


def test_the_power_of_a_bought_machine_follows_its_tokens() -> None:
    bought = Purchase(
        usd_per_gpu=36 * MONTH,
        months=36,
        residual_share=0,
        yearly_interest=0,
        idle_w=0,
        load_w=1000,
        node_factor=1,
        pue=1,
        usd_per_kwh=0.5,
    )
    plan = planned([0.5] * 24, crossover=asked(purchase=bought), kinds=("own",))
    assert plan.usd_per_month == pytest.approx((1 + 0.5 * 0.5) * MONTH)


def test_an_hour_with_little_load_goes_to_the_api_and_one_with_more_to_a_replica() -> None:
    # An hour on demand pays off from a half of a replica's load on.
    plan = planned([1.25, 1.75] * 12, price(4), kinds=("on_demand", "api"), **INSTANT)
    assert mix(plan) == {"on_demand": 2, "api": None}
    assert plan.usd_per_month == pytest.approx((RENT + 0.25 * 4 + 2 * RENT) / 2 * MONTH)
    api = plan.part("api")
    assert api is not None
    assert api.token_share == pytest.approx(0.25 / 3)


def test_what_comes_while_a_replica_starts_goes_to_the_api_at_its_price() -> None:
    half = [0.0] * 12 + [1.0] * 12
    plan = planned(half, price(20), kinds=("on_demand", "api"), start_s=900, idle_timeout_s=0)
    assert plan.cold_starts.api_tokens_per_day == pytest.approx(REPLICA / 4)
    assert plan.cold_starts.waiting_tokens_per_day == plan.cold_starts.longest_wait_s == 0
    assert plan.usd_per_month == pytest.approx((12 * RENT + 20 / 4) * MONTH / 24)


def test_short_gaps_are_waited_through_and_longer_ones_start_anew() -> None:
    day = [1.0, 0.0, 1.0, *[0.0] * 21]
    waits = planned(day, kinds=("on_demand",), idle_timeout_s=3600, start_s=60)
    assert waits.usd_per_month == pytest.approx(4 * RENT * MONTH / 24)
    assert waits.cold_starts.starts_per_day == 1
    stops = planned(day, kinds=("on_demand",), idle_timeout_s=1800, start_s=60)
    assert stops.usd_per_month == pytest.approx(3 * RENT * MONTH / 24)
    assert stops.cold_starts.starts_per_day == 2


def test_a_run_is_billed_in_whole_units() -> None:
    day = [1.0] * 5 + [0.0] * 19
    plan = planned(day, kinds=("on_demand",), idle_timeout_s=300, start_s=0, billing_s=3600)
    assert plan.usd_per_month == pytest.approx(6 * RENT * MONTH / 24)


def test_serverless_has_its_own_price_timeout_and_start() -> None:
    day = [1.0] * 4 + [0.0] * 20
    plan = planned(
        day,
        kinds=("serverless", "on_demand"),
        serverless_usd_per_gpu_second=1.9 / 3600,
        serverless_idle_timeout_s=36,
        idle_timeout_s=1800,
        start_s=60,
    )
    assert mix(plan) == {"serverless": 1}
    assert plan.usd_per_month == pytest.approx(4.01 * 1.9 * MONTH / 24)
    assert usd(plan, "all on demand") == pytest.approx(4.5 * RENT * MONTH / 24)


def test_least_and_spare_replicas_always_run_and_headroom_takes_more() -> None:
    day = [1.0] * 12 + [0.0] * 12
    least = planned(day, kinds=("on_demand",), min_replicas=2, **INSTANT)
    assert least.usd_per_month == pytest.approx(2 * RENT * MONTH)
    assert least.cold_starts.starts_per_day == 0
    spare = planned(day, crossover=asked(spare=1), kinds=("on_demand",), **INSTANT)
    assert spare.usd_per_month == pytest.approx(1.5 * RENT * MONTH)
    scenario = planned(day, crossover=asked(min_replicas=2), kinds=("on_demand",), **INSTANT)
    assert scenario.usd_per_month == least.usd_per_month
    room = planned(day, kinds=("on_demand",), headroom=0.2, **INSTANT)
    assert mix(room) == {"on_demand": 2}


def test_staff_is_paid_once_and_only_beside_machines() -> None:
    staffed = asked(price(2.5), ops_usd_per_month=1000)
    assert mix(planned([1] * 24, crossover=staffed, kinds=("on_demand", "api"))) == {"api": None}
    many = planned([10] * 24, crossover=staffed, kinds=("on_demand", "api"))
    assert mix(many) == {"on_demand": 10}
    assert many.usd_per_month == pytest.approx(10 * RENT * MONTH + 1000)
    assert many.fixed_usd_per_month == 1000


def test_an_api_with_a_fee_is_taken_where_it_saves_more_than_the_fee() -> None:
    plain, paid = price(2), price(1, fees_usd_per_month=MONTH)
    low, high = (planned([each] * 24, plain, paid, kinds=("api",)) for each in (0.5, 2.0))
    assert low.usd_per_month == pytest.approx(MONTH)
    assert high.usd_per_month == pytest.approx(3 * MONTH)


def test_a_load_that_fills_replicas_exactly_takes_no_further_one() -> None:
    crossover = asked(tokens_per_second=1234.567)
    for count in range(1, 60):
        hour = count * (crossover.plan.usable_tokens_per_day / 24)
        plan = plan_fleet(crossover, hours=HourlyLoad.of([hour]), policy=FleetPolicy(kinds=("on_demand",)))
        assert mix(plan) == {"on_demand": count}


# Work that may wait

BATCH: dict[str, Any] = {"batch_share": 0.5}


def test_work_that_may_wait_fills_the_idle_hours_of_reserved_machines() -> None:
    # Half of two replicas by day may wait for the night: one replica is enough.
    plan = planned([2.0] * 12 + [0.0] * 12, crossover=asked(traffic=BATCH), kinds=("reserved_1_year",))
    assert mix(plan) == {"reserved_1_year": 1}
    assert plan.batch is not None
    assert plan.batch.moved_share == pytest.approx(1)
    assert plan.batch.longest_wait_hours == 12
    assert "idle hours" in plan.batch.title


def test_work_goes_to_the_batch_price_where_that_is_cheaper() -> None:
    day = [2.0] * 12 + [0.0] * 12
    crossover = asked(price(3, batch_discount=0.9), traffic=BATCH)
    plan = planned(day, crossover=crossover, kinds=("reserved_1_year", "api"), reserved_1_year_discount=0)
    assert plan.batch is not None
    assert (plan.batch.placement, plan.batch.api_share) == ("api batch", 1)
    # A replica on demand for 12 of 24 hours is cheaper from the API than a reserved one: 12 x $3 to 24 x $2.
    assert plan.usd_per_month == pytest.approx((12 * 3 + 12 * 0.3) * MONTH / 24)


def test_work_that_may_wait_is_gathered_for_few_full_hours() -> None:
    plan = planned([0.25] * 24, crossover=asked(traffic={"batch_share": 1.0}), kinds=("on_demand",), **INSTANT)
    assert plan.usd_per_month == pytest.approx(0.25 * RENT * MONTH, rel=0.03)
    assert plan.batch is not None
    assert plan.batch.longest_wait_hours <= 24


@pytest.mark.parametrize("hours", [0, 3, 12])
@pytest.mark.parametrize("kinds", [("on_demand",), ("reserved_1_year", "api")], ids=["on-demand", "reserved-and-api"])
def test_work_waits_no_longer_than_it_may(hours: int, kinds: tuple[FleetKind, ...]) -> None:
    crossover = asked(price(10, batch_discount=0.5), traffic=BATCH)
    plan = planned([2.0] * 12 + [0.0] * 12, crossover=crossover, kinds=kinds, batch_wait_hours=hours)
    assert plan.batch is not None
    assert plan.batch.longest_wait_hours <= hours
    assert sum(part.token_share for part in plan.parts) == pytest.approx(1)


@pytest.mark.parametrize("wait", [0, 1, 5, 24, 168])
def test_what_idle_hours_leave_of_a_long_curve_is_what_moving_it_leaves(wait: int) -> None:
    draw = random.Random(wait)
    for hours in (1_999, 2_001):
        idle = [max(0.0, draw.gauss(0.5, 1)) for _ in range(hours)]
        arriving = [draw.random() * draw.choice((0, 1, 2)) for _ in range(hours)]
        # Nothing waits at the end, so that the curve begins as it ends.
        arriving[-170:] = [0.0] * 170
        left = left_of_idle(idle, arriving, wait)
        assert left == pytest.approx(math.fsum(into_idle(idle, arriving, wait).expired))


def test_what_does_not_fit_into_idle_hours_in_time_goes_to_the_batch_price() -> None:
    # One reserved replica serves the day; of twelve hours of work, the last three can still wait for the night.
    plan = planned(
        [2.0] * 12 + [0.0] * 12,
        crossover=asked(price(2, batch_discount=0.5), traffic=BATCH),
        kinds=("reserved_1_year", "api"),
        reserved_1_year_discount=0.6,
        batch_wait_hours=3,
    )
    assert plan.batch is not None
    assert plan.batch.placement == "idle hours"
    assert plan.batch.moved_share == pytest.approx(3 / 12)
    assert plan.usd_per_month == pytest.approx((24 * RENT * 0.4 + 9 * 2 * 0.5) * MONTH / 24)


def test_all_of_an_api_is_the_price_of_the_crossover_with_its_batch_share() -> None:
    crossover = asked(price(3, batch_discount=0.5), traffic=BATCH | {"tokens_per_day": 1e8})
    plan = plan_fleet(crossover, policy=FleetPolicy(kinds=("api",)))
    assert plan.usd_per_month == pytest.approx(crossover.api_usd_per_month(1e8))


# What holds for all loads

SEEDS = range(12)


def curve(seed: int, hours: int = 0) -> list[float]:
    """Replicas of each hour: waves, noise and bursts."""
    draw = random.Random(seed)
    hours = hours or draw.choice((24, 48, 72))
    size, noise, bursts = draw.uniform(0.3, 7), draw.random(), draw.random() * 0.1
    phase = draw.random() * 24
    loads = []
    for hour in range(hours):
        wave = 1 + math.sin((hour - phase) / 24 * 2 * math.pi)
        load = size * max(0.0, wave * (1 - noise) + 2 * noise * draw.random() - 0.4)
        loads.append(load * draw.uniform(2, 4) if draw.random() < bursts else load)
    return loads if any(loads) else [1.0, *loads[1:]]


@pytest.mark.parametrize("seed", range(40))
def test_the_mix_is_never_dearer_than_one_kind_alone_and_all_tokens_are_served(seed: int) -> None:
    draw = random.Random(seed)
    crossover = asked(
        price(draw.uniform(1.5, 12), batch_discount=0.5, fees_usd_per_month=draw.choice((0, 500, 20_000))),
        traffic={"batch_share": draw.choice((0.0, 0.4, 1.0))},
        ops_usd_per_month=draw.choice((0, 800)),
        spare=draw.choice((0, 0, 2)),
    )
    policy: dict[str, Any] = {
        "serverless_usd_per_gpu_second": draw.uniform(0.5, 2.5) / 3600,
        "min_replicas": draw.choice((0, 1)),
        "cold_requests": draw.choice(("api", "wait")),
        "batch_wait_hours": draw.choice((0, 6, 48)),
    }
    plan = planned(curve(seed), crossover=crossover, **policy)
    alone = [each.usd_per_month for each in plan.considered if each.usd_per_month is not None]
    assert len(alone) >= 5
    assert plan.usd_per_month <= min(alone) + 1e-6
    assert sum(part.token_share for part in plan.parts) == pytest.approx(1)
    parts = sum(part.usd_per_month for part in plan.parts) + plan.fixed_usd_per_month
    assert parts == pytest.approx(plan.usd_per_month)
    assert planned(curve(seed), crossover=crossover, **policy) == plan


@pytest.mark.parametrize("seed", SEEDS)
def test_more_load_never_costs_less(seed: int) -> None:
    crossover = asked(price(6), ops_usd_per_month=300)
    costs = [
        planned([each * scale for each in curve(seed)], crossover=crossover, cold_requests="wait").usd_per_month
        for scale in (0.1, 0.5, 0.9, 1, 1.1, 1.5, 2.5, 20)
    ]
    assert costs == sorted(costs)


@pytest.mark.parametrize("seed", SEEDS)
def test_replicas_that_start_and_stop_at_once_cost_what_each_hour_needs(seed: int) -> None:
    replicas = curve(seed)
    plan = planned(replicas, kinds=("on_demand",), **INSTANT)
    needed = [math.ceil(each - 1e-9) for each in replicas]
    assert plan.usd_per_month == pytest.approx(sum(needed) * RENT * MONTH / len(replicas))
    assert mix(plan) == {"on_demand": max(needed)}


def test_the_hours_of_a_curve_may_be_repeated_without_a_change() -> None:
    once = curve(3, 24)
    first, second = (planned(once * count, price(6), idle_timeout_s=5000, start_s=200) for count in (1, 5))
    assert first.usd_per_month == pytest.approx(second.usd_per_month)
    assert first.cold_starts.starts_per_day == pytest.approx(second.cold_starts.starts_per_day)


def test_a_year_of_a_large_fleet_is_planned() -> None:
    hours = [each * 400 for each in curve(5, 8760)]
    plan = planned(hours, price(8))
    assert plan.hours == 8760
    assert {"reserved_3_years", "on_demand"} <= set(mix(plan))
    assert sum(part.token_share for part in plan.parts) == pytest.approx(1)


# The simulation


@pytest.mark.parametrize("group", range(20))
def test_a_simulation_of_single_replicas_agrees(group: int) -> None:
    """200 curves: dollars, starts, tokens beyond what is ready, and the longest wait."""
    for seed in range(group * 10, group * 10 + 10):
        draw = random.Random(seed)
        replicas = curve(seed)
        start, idle = draw.uniform(5, 1500), draw.choice((0.0, draw.uniform(0, 900), draw.uniform(0, 3 * 3600)))
        base, billing = draw.choice((0, 0, 1, 3)), draw.choice((1.0, 60.0, 3600.0))
        found = Simulation(replicas, 1.0, start, idle, billing, base).run()
        plan = planned(
            replicas,
            kinds=("on_demand",),
            start_s=start,
            idle_timeout_s=idle,
            billing_s=billing,
            min_replicas=base,
            cold_requests="wait",
        )
        days, cold = len(replicas) / 24, plan.cold_starts
        hours = plan.usd_per_month / RENT * len(replicas) / MONTH
        assert hours == pytest.approx(found.billed_seconds / 3600, rel=0.02), seed
        assert cold.starts_per_day * days == pytest.approx(found.starts), seed
        assert cold.waiting_tokens_per_day * days / REPLICA == pytest.approx(found.late_tokens, rel=0.02, abs=1e-6), (
            seed
        )
        assert cold.longest_wait_s == pytest.approx(found.longest_wait_s, rel=0.02, abs=1), seed


@pytest.mark.parametrize("seed", range(8))
def test_no_simulated_fleet_is_cheaper_than_the_plan(seed: int) -> None:
    """Any number of reserved replicas, any number on demand above them, the API for what is left."""
    draw = random.Random(seed)
    loads = curve(seed, 48)
    replicas = [4 * each / max(loads) for each in loads]
    start, idle, api_usd, discount = draw.uniform(0, 900), draw.uniform(0, 1800), draw.uniform(2.5, 9), 0.4
    plan = planned(
        replicas,
        price(api_usd),
        kinds=("reserved_1_year", "on_demand", "api"),
        reserved_1_year_discount=discount,
        start_s=start,
        idle_timeout_s=idle,
    )
    costs = []
    for base in range(5):
        for most in range(base, 5):
            for share in (0.0, RENT / api_usd):
                found = Simulation(replicas, 1.0, start, idle, 1.0, base, most, share).run()
                on_demand = found.billed_seconds / 3600 - base * 48
                costs.append(base * 48 * RENT * (1 - discount) + on_demand * RENT + found.late_tokens * api_usd)
    best = min(costs) * MONTH / 48
    assert plan.usd_per_month <= best * (1 + 1e-4)
    # Single layers may start from another share of their load, which saves little more.
    assert plan.usd_per_month >= best * 0.98


# Where the figures come from


def test_a_start_takes_what_its_weights_take_over_network_and_disk() -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", gpu_usd_per_hour=2.69)
    crossover = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[]))
    policy = FleetPolicy(kinds=("on_demand",), network_gb_per_s=2, disk_gb_per_s=4, engine_start_s=10)
    plan = plan_fleet(crossover, tokens_per_day=1e8, policy=policy)
    # 70.6 billion weights of 8 bits, the embeddings and the head of 16.
    assert plan.cold_starts.start_s == pytest.approx(72.7 / 2 + 72.7 / 4 + 10, rel=0.01)
    slow = plan_fleet(crossover, tokens_per_day=1e8, policy=FleetPolicy(network_gb_per_s=0.01, kinds=RENTED))
    assert slow.part("on_demand") is None
    assert any("minutes to start" in each.why for each in slow.considered)


def test_serverless_prices_are_looked_up_and_named() -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", gpu_usd_per_hour=2.69)
    crossover = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[]))
    plan = plan_fleet(crossover, tokens_per_day=1e8, policy=FleetPolicy(kinds=("serverless",)))
    part = plan.part("serverless")
    assert part is not None
    lowest = min(
        float(row["usd_per_gpu_second"]) for row in rows("serverless.toml", "serverless") if row["gpu"] == "h100_sxm"
    )
    assert part.replica_hours_per_month is not None
    assert part.usd_per_month == pytest.approx(part.replica_hours_per_month * lowest * 3600 * 2)
    assumed = {each.name: each for each in plan.assumptions}
    assert assumed["serverless_usd_per_gpu_second"].as_of is not None


@pytest.mark.parametrize(
    ("kind", "policy", "doubt"),
    [
        ("serverless", {}, "older than 60 days: price of a serverless GPU"),
        ("serverless", {"serverless_usd_per_gpu_second": 0.001}, None),
        ("reserved_3_years", {}, "older than 60 days: reserved 3 years discount"),
        ("reserved_3_years", {"reserved_3_years_discount": 0.5}, None),
        ("own", {}, "unverified: price of a GPU, price of a computer"),
        ("on_demand", {}, None),
    ],
)
def test_prices_in_doubt_are_named_where_the_fleet_has_their_kind(
    kind: FleetKind, policy: dict[str, Any], doubt: str | None
) -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", gpu_usd_per_hour=2.69)
    crossover = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[]), today=date(2027, 3, 1))
    plan = plan_fleet(crossover, tokens_per_day=1e8, policy=FleetPolicy(kinds=(kind,), **policy))
    found = [each for each in plan.explanation if "in doubt" in each]
    assert len(found) == (doubt is not None)
    assert doubt is None or doubt in found[0]


def test_a_sentence_begins_with_a_capital() -> None:
    plan = planned([3.0, 0.1] * 12, price(3))
    assert [each for each in plan.explanation if each[0].islower()] == []


def test_the_rows_have_sources_and_known_gpus() -> None:
    for row in rows("serverless.toml", "serverless"):
        assert Tables.bundled().gpu(row["gpu"]).name == row["gpu"]
        assert row["source"]
        assert isinstance(row["as_of"], date)
        assert float(row["usd_per_gpu_second"]) > 0
    terms = {row["term_years"] for row in rows("reserved.toml", "reserved") if row["source"]}
    assert terms == {1, 3}
    assert {row["provider"] for row in rows("serverless.toml", "serverless")} >= {
        "RunPod serverless",
        "Modal",
        "Baseten",
    }


def test_a_rented_scenario_weighs_a_purchase_with_its_known_price() -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", gpu_usd_per_hour=20)
    crossover = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[]))
    plan = plan_fleet(crossover, tokens_per_day=1e9)
    assert plan.part("own") is not None
    assumed = {each.name: each.value for each in plan.assumptions}
    assert {"usd_per_gpu", "months"} <= set(assumed)
    assert assumed["ops_usd_per_month"] == plan.fixed_usd_per_month == 1500


@pytest.mark.parametrize("volume", [1e8, 1e9, 5e9])
def test_all_bought_costs_what_the_crossover_says(volume: float) -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", purchase=Purchase(), spare=1)
    crossover = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[]))
    plan = plan_fleet(crossover, tokens_per_day=volume, policy=FleetPolicy(kinds=("own",)))
    assert mix(plan) == {"own": crossover.replicas(volume)}
    assert plan.usd_per_month == pytest.approx(crossover.self_host_usd_per_month(volume))


@pytest.mark.parametrize("purchase", [None, Purchase()], ids=["rented", "bought"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_prefix_cache_leaves_out_no_kind(purchase: Purchase | None, share: float) -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", purchase=purchase, own_cached_share=share)
    crossover = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[price(100)]))
    plan = plan_fleet(crossover, tokens_per_day=1e10)
    assert [each.why for each in plan.considered if each.usd_per_month is None] == []
    assert plan.replica_tokens_per_hour == pytest.approx(crossover.plan.usable_tokens_per_day / 24)


@pytest.mark.parametrize("batch_share", [0.0, 0.3])
def test_fees_of_the_api_that_machines_escalate_to_are_paid_once(batch_share: float) -> None:
    traffic = {"tokens_per_day": 300e6, "peak_to_mean": 2.5, "batch_share": batch_share}
    free, with_fees = (
        asked(price(6, fees_usd_per_month=fees, batch_discount=0.5), traffic=traffic, escalated_share=0.1)
        for fees in (0, 50)
    )
    plans = [plan_fleet(each) for each in (free, with_fees)]
    assert all(plan.part("api") and len(plan.parts) > 1 for plan in plans)
    assert plans[1].usd_per_month - plans[0].usd_per_month == pytest.approx(50)
    mixes = [each.hybrid() for each in (free, with_fees)]
    assert mixes[0] is not None
    assert mixes[1] is not None
    assert 0 < mixes[0].api_share < 1
    assert mixes[1].usd_per_month - mixes[0].usd_per_month == pytest.approx(50)


def test_fees_of_a_batch_api_that_machines_escalate_to_are_paid_once() -> None:
    traffic = {"tokens_per_day": 240e6, "batch_share": 0.3}
    plans = [
        planned(
            [10.0] * 24,
            crossover=asked(
                price(20, fees_usd_per_month=fees, batch_discount=0.97), traffic=traffic, escalated_share=0.1
            ),
        )
        for fees in (0, 50)
    ]
    assert [plan.batch.placement for plan in plans if plan.batch is not None] == ["api batch", "api batch"]
    assert plans[1].usd_per_month - plans[0].usd_per_month == pytest.approx(50)


def test_what_has_no_price_is_left_out_with_the_reason() -> None:
    plan = planned([1.0] * 24, crossover=asked(price(1), purchase=Purchase(usd_per_gpu=1e5, idle_w=0, load_w=0)))
    why = {each.name: (each.usd_per_month, each.why) for each in plan.considered}
    for name in ("all reserved for 3 years", "all reserved for 1 year", "all on demand"):
        assert why[name] == (None, "is required where the GPU is not one of the tables")
    assert why["all serverless"][1].startswith("no seller with a price for this GPU is known")
    assert why["all API"] == (plan.usd_per_month, "is this plan")
    assert plan.parts[0].token_share == 1


def test_a_bought_scenario_weighs_renting() -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", purchase=Purchase(usd_per_gpu=1e6))
    crossover = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[]))
    plan = plan_fleet(crossover, tokens_per_day=1e9)
    assert plan.part("own") is None
    assert plan.part("reserved_3_years") is not None


def test_hours_come_from_the_traffic_else_from_its_peak() -> None:
    day = [3.0] * 6 + [1.0] * 18
    measured = plan_fleet(asked(traffic={"hourly_tokens": tuple(day), "peak_to_mean": 2, "tokens_per_day": 1e8}))
    assert (measured.hours, measured.peak_to_mean) == (24, 2)
    assert measured.tokens_per_day == pytest.approx(1e8)
    assumed = plan_fleet(asked(traffic={"peak_to_mean": 4, "tokens_per_day": 1e8}))
    assert assumed.peak_to_mean == pytest.approx(4)
    assert assumed.tokens_per_day == pytest.approx(1e8)


@pytest.mark.parametrize("peak", [1, 1.3, 2.5, 12, 50, 900, 10_000])
def test_a_curve_has_the_peak_that_is_asked_for(peak: float) -> None:
    load = HourlyLoad.with_peak(peak, tokens_per_day=2.4e7)
    assert load.peak_to_mean == pytest.approx(peak)
    assert load.tokens_per_day == pytest.approx(2.4e7)


# How it is told


def test_a_plan_is_told_in_tables_sentences_and_json() -> None:
    crossover = asked(price(8, batch_discount=0.5), traffic={"batch_share": 0.2}, ops_usd_per_month=100)
    plan = planned([each * 5 for each in curve(2, 48)], crossover=crossover)
    first, considered, rests = tables(plan)
    assert [row[0] for row in first.rows][-2:] == ["staff and disks", "all"]
    assert len(considered.rows) == len(plan.considered)
    assert {row[0] for row in rests.rows} >= {"start s", "idle timeout s", "batch wait hours"}
    told = " ".join(notes(plan))
    assert "always run" in told
    assert "starts a day" in told
    assert "What may wait" in told
    document = as_document(plan)
    assert document["usd_per_month"] == plan.usd_per_month
    assert document["notes"] == list(notes(plan))


def test_waits_are_told_in_seconds() -> None:
    plan = planned([0.0] * 12 + [1.0] * 12, kinds=("on_demand",), start_s=120, idle_timeout_s=60)
    assert any("120 s at the longest" in note for note in notes(plan))


# Bad input

WRONG: list[tuple[str, Callable[[], object], str, str]] = [
    ("no-hours", lambda: HourlyLoad.of([]), "hours", "must have an hour with a load"),
    ("no-load", lambda: HourlyLoad.of([0, 0]), "hours", "must have an hour with a load"),
    ("negative", lambda: HourlyLoad.of([1, -1]), "hours[1]", "from 0 to 1e24, got -1"),
    ("not-a-number", lambda: HourlyLoad.of([1, math.nan]), "hours[1]", "from 0 to 1e24, got nan"),
    ("infinite", lambda: HourlyLoad.of([math.inf]), "hours[0]", "from 0 to 1e24, got inf"),
    ("huge", lambda: HourlyLoad.of([10**400]), "hours[0]", "from 0 to 1e24, got a longer number"),
    ("a-bool", lambda: HourlyLoad.of([True]), "hours[0]", "from 0 to 1e24, got True"),
    ("a-text", lambda: HourlyLoad.of("12"), "hours", "must be a list of numbers, got a value of type str"),  # type: ignore[arg-type]
    ("a-word", lambda: HourlyLoad.of(["a"]), "hours[0]", "got a value of type str"),  # type: ignore[list-item]
    ("a-number", lambda: HourlyLoad.of(3), "hours", "got a value of type int"),  # type: ignore[arg-type]
    ("too-many", lambda: HourlyLoad.of([1.0] * (MAX_HOURS + 1)), "hours", "at most 87,600 hours"),
    ("no-volume", lambda: HourlyLoad.of([1], tokens_per_day=0), "tokens_per_day", "above 0, got 0"),
    ("low-peak", lambda: HourlyLoad.with_peak(0.5, tokens_per_day=1), "peak_to_mean", "at least 1"),
    ("kinds", lambda: FleetPolicy(kinds=("spot",)), "policy.kinds", "must be of own, "),  # type: ignore[arg-type]
    ("no-kinds", lambda: FleetPolicy(kinds=()), "policy.kinds", "must be a list of own, "),
    ("kinds-text", lambda: FleetPolicy(kinds="api"), "policy.kinds", "must be a list of own, "),  # type: ignore[arg-type]
    ("cold", lambda: FleetPolicy(cold_requests="drop"), "policy.cold_requests", "'api' or 'wait'"),  # type: ignore[arg-type]
    ("network", lambda: FleetPolicy(network_gb_per_s=0), "policy.network_gb_per_s", "above 0"),
    ("wait", lambda: FleetPolicy(batch_wait_hours=169), "policy.batch_wait_hours", "from 0 to 168"),
    ("discount", lambda: FleetPolicy(reserved_1_year_discount=1), "policy.reserved_1_year_discount", "up to 0.99"),
    ("nobody", lambda: planned([1], kinds=("api",)), "policy.kinds", "API: none sells the model"),
    (
        "powered",
        lambda: plan_fleet(asked(powered_hours_per_month=200)),
        "self_host.powered_hours_per_month",
        "leave it out",
    ),
    ("volume", lambda: plan_fleet(asked(), tokens_per_day=math.nan), "tokens_per_day", "above 0"),
    ("volume-text", lambda: plan_fleet(asked(), tokens_per_day="1G"), "tokens_per_day", "above 0"),  # type: ignore[arg-type]
    ("a-load", lambda: HourlyLoad((1.0, -1.0)), "hours[1]", "from 0 to 1e24, got -1.0"),
    ("peak-text", lambda: HourlyLoad.with_peak("2", tokens_per_day=1), "peak_to_mean", "at least 1"),  # type: ignore[arg-type]
    ("policy", lambda: plan_fleet(asked(), policy="cheap"), "policy", "must be a FleetPolicy"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "field", "says"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_bad_input_names_its_field(make: Callable[[], object], field: str, says: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        make()
    assert caught.value.param == field
    assert str(caught.value).startswith(f"{field}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("content", "hours"),
    [
        ("1\n2\n3\n", [1, 2, 3]),
        ("hour,tokens\n0,1.5\n1,2e6\n", [1.5, 2e6]),
        ("\ufefft;tokens\n2026-01-01;7\n\n2026-01-02;8", [7, 8]),
        ('"t","tokens",\n"1, Nov", "7",\n"2, Nov", "8",\n', [7, 8]),
    ],
    ids=["numbers", "with-a-header", "semicolons-and-a-mark", "quoted"],
)
def test_hours_are_the_last_column_of_a_file(content: str, hours: list[float], tmp_path: Path) -> None:
    file = tmp_path / "hours.csv"
    file.write_text(content, encoding="utf-8")
    assert read_hours(file) == hours


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"1\ntwo\n", "line 2: must be a number of tokens, got 'two'"),
        (b'0,"1,234"\n1,5\n', "line 1: must be a number of tokens, got '1,234'; write it plainly"),
        (b'0,5\n1,"1,234,567"\n', "line 2: must be a number of tokens, got '1,234,567'; write it plainly"),
        (b"t;tokens\n0;1.234,5\n", "line 2: must be a number of tokens, got '1.234,5'; write it plainly"),
        (b'1\n"' + b"2" * 200_000 + b'"\n', "line 2: must be a number of tokens"),
        (b"1\n-2\n", "line 2: must be a number of tokens from 0 to 1e24"),
        (b"nan\n", "line 1: must be a number of tokens from 0 to 1e24"),
        (b"tokens\n", "must have an hour with a load"),
        (b"\xff\xfe1", "must be a text file"),
        (b"1\n" * 3_000_000, "is larger than ten years of hours"),
    ],
    ids=["word", "thousands-first", "thousands", "decimal-comma", "long", "negative", "nan", "empty", "bytes", "large"],
)
def test_a_wrong_file_names_the_line(content: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "hours.csv"
    file.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=says.replace("(", "\\(")):
        read_hours(file)


def test_a_rent_of_spot_machines_has_no_reserved_price() -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", spot_overhead=0.1)
    plan = plan_fleet(evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[])), tokens_per_day=1e9)
    assert plan.part("reserved_1_year") is plan.part("reserved_3_years") is None
    [why] = {each.why for each in plan.considered if "reserved" in each.name}
    assert "cannot be reserved" in why
