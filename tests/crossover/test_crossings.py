"""Intervals in closed form against a scan over volume, and the worked table."""

import math
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llama_client.crossover.crossings import MAX_INTERVALS, Line, Staircase, crossings, is_ever_below
from tests.crossover.asking import B200, H100_PAIR, H100_WITH_8B, asked, price

SCENARIOS, VOLUMES = 1_000, 60


def test_intervals_equal_a_scan_over_volume_for_a_thousand_random_scenarios() -> None:
    chance = random.Random(20261126)
    compared = 0
    for _ in range(SCENARIOS):
        stairs, lines = _scenario(chance)
        found = crossings(stairs, lines)
        assert is_ever_below(stairs, lines) == bool(found.intervals)
        for volume in _volumes(chance, stairs, found.intervals):
            gap = stairs.usd(volume) - min(line.usd(volume) for line in lines)
            if abs(gap) <= 1e-9 * stairs.usd(volume) or not found.is_complete:
                continue
            compared += 1
            assert _contains(found.intervals, volume) == (gap < 0), (stairs, lines, volume)
    assert compared > SCENARIOS * VOLUMES / 2


amounts = st.floats(0.01, 1e6)


@settings(max_examples=300)
@given(amounts, amounts, amounts, st.floats(0, 1e6), st.floats(0, 1e3), st.integers(1, 5), st.integers(0, 3))
@example(100.0, 60.0, 0.6, 0.0, 0.0, 1, 0)  # a full replica costs exactly what the API does
def test_intervals_are_in_order_apart_and_bounded(
    size: float, usd: float, slope: float, fixed: float, fees: float, lowest: int, spare: int
) -> None:
    stairs = Staircase(size, usd, fixed, 0.0, lowest, spare)
    found = crossings(stairs, [Line(slope, fees)])
    edges = [edge for low, high in found.intervals for edge in (low, math.inf if high is None else high)]
    assert edges == sorted(edges)
    assert all(low < (math.inf if high is None else high) for low, high in found.intervals)
    assert all(one[1] != other[0] for one, other in zip(found.intervals, found.intervals[1:], strict=False))
    assert len(found.intervals) <= MAX_INTERVALS + 2


def test_a_step_is_won_from_its_crossing_to_its_end_and_the_rest_for_good() -> None:
    stairs = Staircase(tokens_per_day_per_replica=100.0, usd_per_replica=60.0)
    assert crossings(stairs, [Line(usd_per_daily_token=1)]).intervals == [(60.0, 100.0), (120.0, None)]
    assert (is_ever_below(stairs, [Line(0.61)]), is_ever_below(stairs, [Line(0.6)])) == (True, False)


def test_machines_that_never_pay_have_no_interval_whatever_their_number() -> None:
    assert crossings(Staircase(100, 60), [Line(0.6)]).intervals == []
    assert crossings(Staircase(100, 60), [Line(0.5), Line(5.0)]).intervals == []


def test_the_winner_may_change_too_often_to_be_listed() -> None:
    stairs = Staircase(100, 60, fixed_usd=1000)
    found = crossings(stairs, [Line(0.6 * (1 + 1e-9))])
    assert not found.is_complete
    assert found.flips is None
    assert found.permanent is not None
    assert found.first is not None
    for at in (found.first, found.permanent):
        assert stairs.usd(at * (1 + 1e-12)) == pytest.approx(0.6 * (1 + 1e-9) * at, rel=1e-6)


@pytest.mark.parametrize("fee", [100.0, 60.0])
def test_where_full_machines_cost_what_the_api_does_its_fee_decides_for_good(fee: float) -> None:
    found = crossings(Staircase(100, 60), [Line(0.6, fee)])
    assert (found.intervals, found.is_complete) == ([(0.0, None)], True)


def test_a_fee_below_a_machine_s_price_is_won_back_on_each_step_anew() -> None:
    found = crossings(Staircase(100, 60), [Line(0.6, 59.5)])
    assert found.intervals[:2] == [pytest.approx((0.5 / 0.6, 100.0)), pytest.approx((60.5 / 0.6, 200.0))]
    assert not found.is_complete


def test_however_many_apis_there_are_the_list_of_intervals_has_one_bound() -> None:
    # Each is the cheapest over a million machines, on each of which the winner changes.
    lines = [Line(0.6 + 1e-7 / 10**n, 59.0 + 0.2 * n) for n in range(4)]
    found = crossings(Staircase(100, 60), lines)
    # Beside these, the one in which the machines are below for good.
    assert len(found.intervals) == MAX_INTERVALS + 1
    assert (found.is_complete, found.intervals[-1][1]) == (False, None)


def test_the_cheapest_of_several_apis_is_what_counts() -> None:
    stairs = Staircase(1000, 60)
    # A flat fee is cheaper from 100 on, and so takes the interval away that the price by the token would have left.
    assert crossings(stairs, [Line(1.0), Line(0.0, 50.0)]).intervals == []
    assert crossings(stairs, [Line(1.0), Line(0.0, 80.0)]).intervals == [(60.0, 1000.0)]


stairs_with_blocks = st.builds(
    Staircase,
    tokens_per_day_per_replica=st.floats(0.5, 20),
    usd_per_replica=st.floats(0, 20),
    fixed_usd=st.floats(0, 50),
    usd_per_daily_token=st.floats(0, 2),
    min_replicas=st.integers(1, 3),
    spare=st.integers(0, 3),
    usd_per_block=st.floats(0, 50),
    replicas_per_block=st.integers(1, 5),
)
prices = st.lists(st.builds(Line, st.floats(0.01, 6), st.floats(0, 60)), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None)
@given(stairs_with_blocks, prices, st.lists(st.floats(0.01, 400), min_size=20, max_size=40))
def test_the_intervals_are_where_whole_blocks_are_cheaper(
    stairs: Staircase, lines: list[Line], volumes: list[float]
) -> None:
    found = crossings(stairs, lines)
    for volume in volumes:
        own, api = stairs.usd(volume), min(line.usd(volume) for line in lines)
        near = [edge for interval in found.intervals for edge in interval if edge is not None]
        if any(abs(edge - volume) < 1e-6 * volume for edge in near) or abs(own - api) < 1e-6 * api:
            continue
        inside = any(low < volume <= (math.inf if high is None else high) for low, high in found.intervals)
        assert inside == (own < api) or not found.is_complete
    lows = [low for low, _ in found.intervals]
    assert lows == sorted(lows)
    if found.intervals and (found.intervals[0][1] or math.inf) > found.intervals[0][0] * (1 + 1e-9):
        assert is_ever_below(stairs, lines)
    if found.is_complete and not found.intervals:
        assert not is_ever_below(stairs, lines)


@pytest.mark.parametrize("spare", [0, 3, 11])
@pytest.mark.parametrize("fixed_usd", [1.0, 0.4, 2.0], ids=["one", "none", "some"])
def test_a_block_that_pays_off_only_when_full_is_found(fixed_usd: float, spare: int) -> None:
    # A replica costs 1 and a block for ten of them 10, so a full one 2; the API asks 1.95 and a fee.
    stairs = Staircase(1.0, 1.0, usd_per_block=10.0, replicas_per_block=10, spare=spare, fixed_usd=-2.0 * spare)
    line = Line(1.95, fixed_usd)
    found = crossings(stairs, [line])
    wins = [n for n in range(1, 400) if stairs.usd(float(n)) < line.usd(float(n))]
    assert (len(wins) > 0) == bool(found.intervals) == is_ever_below(stairs, [line])
    assert spare or len(found.intervals) == len(wins)


def test_a_block_for_each_replica_is_a_part_of_its_price() -> None:
    apart, whole = (
        crossings(stairs, [Line(1.0)]) for stairs in (Staircase(100, 0.92, 0, 0, 1, 0, 99.0), Staircase(100, 99.92))
    )
    assert (apart.flips, apart.is_complete) == (whole.flips, True)
    # The machines' n-th step costs n x 99.92, so it is below from there to n x 100, and for good from n = 1250 on.
    assert apart.intervals[0] == pytest.approx((99.92, 100.0))
    for found in (apart, whole):
        assert found.permanent == pytest.approx(1249 * 99.92, abs=100)


@pytest.mark.parametrize(("fee", "intervals"), [(60.5, [(0.0, 100.0)]), (60.0, []), (59.5, [])])
def test_where_each_token_costs_the_same_the_fee_decides_each_step(
    fee: float, intervals: list[tuple[float, float]]
) -> None:
    assert crossings(Staircase(100, 60, usd_per_daily_token=0.5), [Line(0.5, fee)]).intervals == intervals


def test_a_fee_that_is_used_up_by_many_machines_is_found_to_its_last_cent() -> None:
    # A machine costs 0.001 more than the API, of whose fee 10.0005 it saves: n machines are below throughout their step
    # while 1.001 n <= 10.0005 + (n - 1), up to 9,000, and at its end while 1.001 n < 10.0005 + n, up to 10,000.
    found = crossings(Staircase(1e6, 1.001), [Line(1e-6, 10.0005)])
    assert (found.intervals[0], found.is_complete) == ((0.0, 9e9), True)
    assert found.intervals[-1] == pytest.approx((9999.9995e6, 10e9))
    assert found.flips == 1 + 2 * 1000


# Two rows lie within 1% of "never", where a month that is shorter by half an hour moves the first crossing by 6%; they
# are compared as loosely.
@pytest.mark.parametrize(
    ("host", "usd_in", "usd_out", "peak", "edges", "near"),
    [
        ({**H100_PAIR, "gpu_usd_per_hour": 3.99}, 0.88, 0.88, 2.5, [], 0.0),
        ({**H100_PAIR, "gpu_usd_per_hour": 2.69}, 0.88, 0.88, 2.5, [7.9e9], 0.07),
        ({**H100_PAIR, "gpu_usd_per_hour": 3.99, "slo_derate": 1}, 0.88, 0.88, 1, [293e6], 0.005),
        (B200, 0.88, 0.88, 2.5, [440e6, 494e6, 624e6, 741e6, 806e6], 0.005),
        ({**H100_PAIR, "gpu_usd_per_hour": 3.99}, 0.135, 0.40, 2.5, [], 0.0),
        (B200, 0.135, 0.40, 2.5, [], 0.0),
        ({**H100_WITH_8B, "gpu_usd_per_hour": 3.99}, 0.18, 0.18, 2.5, [45e9], 0.07),
        (
            {**H100_WITH_8B, "gpu_usd_per_hour": 3.99, "slo_derate": 0.8, "ops_usd_per_month": 0},
            0.18,
            0.18,
            1.5,
            [532e6],
            0.005,
        ),
    ],
)
def test_the_worked_table(
    host: dict[str, Any], usd_in: float, usd_out: float, peak: float, edges: list[float], near: float
) -> None:
    found = asked(price(usd_in, usd_out), peak=peak, **host)
    listed = [edge for interval in found.intervals for edge in interval if edge is not None]
    assert listed[: len(edges)] == pytest.approx(edges, rel=near)
    assert (found.verdict == "never") == (not edges)
    if len(edges) == 5:
        assert found.permanent_crossing == pytest.approx(edges[-1], rel=near)


def test_the_row_next_to_never_exactly() -> None:
    """In closed form, with a month of 730 hours; what the table says lies 6% beside it."""
    found = asked(price(0.88), gpu_usd_per_hour=2.69, **H100_PAIR)
    gain = 0.88e-6 * 730 / 24 * found.replica_tokens_per_day - 2 * 2.69 * 730
    first = math.floor(2000 / gain) + 1
    assert found.first_crossing == pytest.approx((first * 2 * 2.69 * 730 + 2000) / (0.88e-6 * 730 / 24))
    assert found.first_crossing == pytest.approx(7.411e9, rel=1e-3)
    assert found.crossings.flips == 197


def test_a_full_pair_of_h100_costs_1_29_dollars_per_million_tokens() -> None:
    found = asked(price(0.88), gpu_usd_per_hour=3.99, **H100_PAIR)
    full = found.replica_tokens_per_day
    more = found.self_host_usd_per_month(2 * full) - found.self_host_usd_per_month(full)
    assert more / (full * 730 / 24) * 1e6 == pytest.approx(1.29, abs=0.005)


def _scenario(chance: random.Random) -> tuple[Staircase, list[Line]]:
    size = 10 ** chance.uniform(5, 10)
    slope = 10 ** chance.uniform(-6, -4)
    stairs = Staircase(
        tokens_per_day_per_replica=size,
        usd_per_replica=slope * size * chance.choice([0.1, 0.5, 0.9, 0.99, 1.0, 1.01, 2.0]),
        fixed_usd=chance.choice([0.0, slope * size * chance.uniform(0, 5)]),
        usd_per_daily_token=slope * chance.choice([0.0, 0.0, 0.1, 1.5]),
        min_replicas=chance.choice([1, 1, 1, 2, 5]),
        spare=chance.choice([0, 0, 1, 3]),
    )
    lines = [
        Line(slope * chance.uniform(0.3, 2), chance.choice([0.0, slope * size * chance.uniform(0, 20)]))
        for _ in range(chance.choice([1, 1, 2, 4]))
    ]
    return stairs, lines


def _volumes(chance: random.Random, stairs: Staircase, intervals: list[tuple[float, float | None]]) -> list[float]:
    """Volumes far and wide, at the edges of steps, and at both sides of each crossing."""
    size = stairs.tokens_per_day_per_replica
    edges = [edge for interval in intervals[:5] + intervals[-2:] for edge in interval if edge]
    at = [size * 10 ** chance.uniform(-4, 4) for _ in range(VOLUMES)] + [size * count for count in (1, 2, 3, 17)]
    return [volume * nudge for volume in at + edges for nudge in (1 - 1e-7, 1, 1 + 1e-7)]


def _contains(intervals: list[tuple[float, float | None]], volume: float) -> bool:
    return any(low < volume and (high is None or volume <= high) for low, high in intervals)
