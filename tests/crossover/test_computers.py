"""What is bought: whole computers around the GPUs, their price, their place, and their part in the crossing."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_client.crossover import Crossover, Purchase, Scenario, SelfHost, Tables, Traffic, evaluate
from llama_client.crossover.computers import computers_for, hardware_of
from llama_client.crossover.report import as_document, report
from llama_client.errors import InvalidRequestError
from tests.crossover.asking import price

TODAY = date(2026, 11, 30)
TABLES = Tables.bundled()


def bought(
    gpu: str | None = "rtx_4090",
    *,
    volume: float | None = 2e9,
    n_gpus: int = 1,
    usd: float = 0.88,
    draws: int = 0,
    spare: int = 0,
    **purchase: Any,
) -> Crossover:
    """A machine with its rate given, so that only the hardware differs: 8 M tokens a day fill a replica."""
    host = SelfHost(
        gpu=gpu,
        n_gpus=n_gpus,
        tokens_per_second=8e6 / 86_400,
        slo_derate=1,
        max_utilisation=1,
        ops_usd_per_month=0,
        spare=spare,
        purchase=Purchase(**({"idle_w": 10, "load_w": 100} | purchase)),
    )
    traffic = Traffic(tokens_per_day=volume, output_share=1, peak_to_mean=1)
    return evaluate(Scenario(model=None, traffic=traffic, self_host=host, apis=[price(usd)]), draws=draws, today=TODAY)


@pytest.mark.parametrize(
    ("gpu", "n_gpus", "replicas", "purchase", "words", "usd"),
    [
        (
            "rtx_4090",
            1,
            22,
            {"gpus_per_computer": 8, "computer_usd": 5000},
            "22 GPUs in 3 workstations of 8",
            22 * 2500 + 15_000,
        ),
        ("rtx_4090", 1, 22, {"usd_per_gpu": 2000}, "22 GPUs in 11 workstations of 2", 22 * 2000 + 11 * 2000),
        ("rtx_4090", 1, 1, {}, "1 GPU in 1 workstation", 2500 + 1500),
        ("rtx_4090", 4, 3, {}, "12 GPUs in 3 workstations of 4", 12 * 2500 + 3 * 10_000),
        ("rtx_4090", 8, 2, {}, "16 GPUs in 4 workstations of 4", 16 * 2500 + 4 * 10_000),
        ("h100_sxm", 2, 1, {}, "8 GPUs in 1 server of 8", 8 * 30_000 + 70_000),
        ("h100_sxm", 2, 9, {}, "24 GPUs in 3 servers of 8", 24 * 30_000 + 3 * 70_000),
        ("h100_sxm", 8, 2, {"computer_usd": 0}, "16 GPUs in 2 servers of 8", 16 * 30_000),
        ("l40s", 1, 3, {}, "3 GPUs in 1 server of 4", 3 * 8000 + 10_000),
        ("l40s", 1, 8, {}, "8 GPUs in 2 servers of 4", 8 * 8000 + 20_000),
        ("l40s", 8, 1, {}, "8 GPUs in 1 server of 8", 8 * 8000 + 26_000),
        ("m3_ultra", 1, 41, {}, "41 whole computers", 41 * 9499),
        ("gb10", 1, 1, {}, "1 whole computer", 4699),
        (None, 2, 3, {"usd_per_gpu": 30_000}, "6 GPUs", 6 * 30_000),
        (
            None,
            2,
            3,
            {"usd_per_gpu": 30_000, "computer_usd": 4000, "gpus_per_computer": 4},
            "6 GPUs in 2 computers of 4",
            188_000,
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_whole_computers_are_bought(
    gpu: str | None, n_gpus: int, replicas: int, purchase: dict[str, Any], words: str, usd: float
) -> None:
    found = bought(gpu, volume=8e6 * replicas, n_gpus=n_gpus, **purchase)
    assert found.replicas(8e6 * replicas) == replicas
    investment, document = found.investment(), as_document(found)
    assert investment is not None
    assert investment.price_usd == pytest.approx(usd)
    assert document["investment"]["price_usd"] == document["hardware"]["usd"] == pytest.approx(usd)
    assert document["hardware"]["words"] == words
    assert any(note.startswith(f"The purchase of ${usd:,.0f} ({words}) ") for note in report(found).notes)


def test_rented_machines_have_no_hardware() -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=2)
    found = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[price(0.88)]), today=TODAY)
    assert as_document(found)["hardware"] is None


def test_a_months_cost_is_that_of_whole_computers() -> None:
    plain: dict[str, Any] = {"months": 10, "residual_share": 0, "yearly_interest": 0, "usd_per_kwh": 0}
    found = bought("rtx_4090", usd_per_gpu=1000, computer_usd=8000, gpus_per_computer=4, **plain)
    costs = [found.self_host_usd_per_month(8e6 * count) for count in range(1, 10)]
    assert costs == pytest.approx([(count * 1000 + math.ceil(count / 4) * 8000) / 10 for count in range(1, 10)])
    spare = bought("rtx_4090", usd_per_gpu=1000, computer_usd=8000, gpus_per_computer=4, spare=1, **plain)
    assert spare.self_host_usd_per_month(8e6 * 4) == pytest.approx((5 * 1000 + 2 * 8000) / 10)


def test_a_board_of_eight_is_paid_and_powered_whole() -> None:
    plain: dict[str, Any] = {"months": 10, "residual_share": 0, "yearly_interest": 0, "colocation_usd_per_month": 0}
    found = bought("h100_sxm", n_gpus=2, usd_per_kwh=0.1, pue=1, node_factor=1, idle_w=100, load_w=100, **plain)
    power = 8 * 100 / 1000 * 0.1 * 730
    costs = [found.self_host_usd_per_month(8e6 * count) for count in (1, 4, 5)]
    assert costs == pytest.approx([31_000 + power, 31_000 + power, 62_000 + 2 * power])


@pytest.mark.parametrize(
    ("gpu", "names"),
    [("h100_sxm", True), ("l40s", True), ("rtx_4090", False), ("m3_ultra", False)],
)
def test_what_stands_in_a_rack_pays_for_its_place_by_its_power(gpu: str, names: bool) -> None:
    assumed, none, given = (
        bought(gpu, volume=8e6, **purchase)
        for purchase in ({}, {"colocation_usd_per_month": 0}, {"colocation_usd_per_month": 500})
    )
    place = assumed.resolved.assumption("colocation_usd_per_kw")
    assert (place is not None) == names
    cost, without, with_it = (each.self_host_usd_per_month(8e6) for each in (assumed, none, given))
    assert with_it == pytest.approx(without + 500)
    owned = assumed.plan.owned
    assert owned is not None
    assert cost == pytest.approx(without + owned.gpus_per_computer * owned.kw_per_gpu * owned.colocation_usd_per_kw)
    assert (cost > without) == names


def test_a_desk_needs_no_cooling_and_a_macs_power_is_the_whole_computers() -> None:
    factors = {}
    for gpu in ("h100_sxm", "rtx_4090", "m3_ultra"):
        owned = bought(gpu).plan.owned
        assert owned is not None
        factors[gpu] = (owned.pue, owned.node_factor)
    assert factors == {"h100_sxm": (1.5, 1.5), "rtx_4090": (1.0, 1.5), "m3_ultra": (1.0, 1.0)}


@pytest.mark.parametrize("gpu", [gpu.name for gpu in TABLES.gpus])
def test_each_gpu_has_a_computer_around_it_or_is_one(gpu: str) -> None:
    row = TABLES.gpu(gpu)
    around = computers_for(row)
    assert (around == ()) == (row.memory_kind == "unified")
    assert all(each.low <= each.usd <= each.high and each.source for each in around)
    quote = TABLES.purchase(gpu)
    assert quote is None or quote.source


BOUGHT = (
    *("rtx_3090", "rtx_4090", "rtx_5090", "rtx_pro_6000_server", "l4", "l40s", "a100_sxm_80", "a100_pcie_80"),
    *("h100_sxm", "h100_pcie", "h200_sxm", "b200_sxm", "mi300x", "gb10", "ryzen_ai_max_395"),
    *("m2_ultra", "m3_max", "m3_ultra", "m4_max", "m5_max", "m5_ultra"),
)


@pytest.mark.parametrize("gpu", BOUGHT)
def test_a_known_price_is_taken_with_its_source_and_age(gpu: str) -> None:
    found = bought(gpu).resolved.assumption("usd_per_gpu")
    assert found is not None
    assert not found.is_given
    assert float(found.value) > 500
    assert found.source != "given"
    assert found.as_of is not None or found.unverified


def test_a_price_that_is_not_known_is_asked_for_by_name() -> None:
    with pytest.raises(InvalidRequestError, match=r"no price is known for the M1 Max; give its price") as caught:
        bought("m1_max")
    assert caught.value.param == "purchase.usd_per_gpu"


def test_a_computers_price_is_an_assumption_with_bounds_that_are_drawn() -> None:
    found = bought("rtx_4090", draws=500)
    assumed = found.resolved.assumption("computer_usd")
    assert assumed is not None
    assert assumed.source.startswith("a workstation of ")
    assert found.band is not None
    assert "computer_usd" in found.band.varied
    assert "computer_usd" in {swing.name for swing in found.swings()}
    given = bought("rtx_4090", computer_usd=1200).resolved.assumption("computer_usd")
    assert given is not None
    assert given.is_given


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(BOUGHT),
    st.sampled_from([1, 2, 4, 8]),
    st.floats(0, 1e5),
    st.integers(1, 16),
    st.integers(0, 3),
)
def test_a_fleet_never_costs_less_than_a_smaller_one(
    gpu: str, n_gpus: int, computer_usd: float, room: int, spare: int
) -> None:
    found = bought(gpu, n_gpus=n_gpus, computer_usd=computer_usd, gpus_per_computer=room, spare=spare)
    costs = [found.self_host_usd_per_month(8e6 * count) for count in range(1, 20)]
    assert costs == sorted(costs)
    for count in range(1, 20):
        hardware = hardware_of(found.plan, 8e6 * count)
        assert hardware is not None
        assert hardware.computers is not None
        assert hardware.computers * room >= hardware.gpus >= (count + spare) * n_gpus
        assert hardware.computers >= math.ceil((count + spare) * n_gpus / room)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 12),
    st.floats(100, 60_000),
    st.floats(1e7, 1.5e8),
    st.floats(0.05, 3),
    st.integers(0, 2),
)
def test_the_mix_is_the_cheapest_of_all_numbers_of_computers(
    n_gpus: int, room: int, computer_usd: float, volume: float, usd: float, spare: int
) -> None:
    purchase = Purchase(
        usd_per_gpu=2000, computer_usd=computer_usd, gpus_per_computer=room, idle_w=50, load_w=50, usd_per_kwh=0.1
    )
    host = SelfHost(
        n_gpus=n_gpus,
        tokens_per_second=8e6 / 86_400,
        slo_derate=1,
        max_utilisation=1,
        ops_usd_per_month=100,
        spare=spare,
        purchase=purchase,
    )
    traffic = Traffic(tokens_per_day=volume, output_share=1, peak_to_mean=2.5)
    found = evaluate(Scenario(model=None, traffic=traffic, self_host=host, apis=[price(usd)]), today=TODAY)
    from llama_client.crossover.economics import LoadCurve, staircase

    stairs, curve, mix = staircase(found.plan), LoadCurve(peak_to_mean=2.5), found.hybrid()
    assert mix is not None
    costs = []
    for base in range(found.replicas(volume) - spare + 1):
        to_api = volume * curve.share_above(base * found.plan.usable_tokens_per_day / volume)
        own = stairs.step_usd(base) + stairs.usd_per_daily_token * (volume - to_api) if base else 0.0
        costs.append(own + (found.api_usd_per_month(to_api) or 0.0 if to_api > 0 else 0.0))
    assert mix.usd_per_month == pytest.approx(min(costs))
