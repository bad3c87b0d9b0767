"""Electricity and carbon dioxide for a million tokens, of rented and bought machines alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llama_client import InvalidRequestError
from llama_client.crossover import Crossover, Purchase, Scenario, SelfHost, Tables, Traffic, evaluate
from llama_client.crossover.economics import staircase
from llama_client.crossover.energy import EnergyUse, energy_of
from llama_client.crossover.report import as_document, report
from tests.crossover.asking import price

H100 = Tables.bundled().gpu("h100_sxm")
# As the tables assume for a rented H100: 15% and 50% of 700 W, 1.5 for its node, 1.5 for the building.
ALIKE = Purchase(usd_per_gpu=30_000, idle_w=105, load_w=350, node_factor=1.5, pue=1.5, gpus_per_computer=2)


def asked(volume: float = 2e9, **host: Any) -> Crossover:
    machine: dict[str, Any] = {"gpu": "h100_sxm", "n_gpus": 2} | (
        {} if "purchase" in host else {"gpu_usd_per_hour": 2.0}
    )
    return evaluate(
        Scenario(
            model="llama-3.3-70b",
            traffic=Traffic(tokens_per_day=volume),
            self_host=SelfHost(**(machine | host)),
            apis=[price(0.9)],
        )
    )


def used(found: Crossover, volume: float = 2e9, **more: Any) -> EnergyUse:
    energy = energy_of(found.plan, found.resolved.gpu, volume, **more)
    assert energy is not None
    return energy


def test_it_is_idle_power_of_every_replica_and_load_by_the_token() -> None:
    found = asked()
    replicas, busy = found.replicas(2e9), 2e9 / found.plan.full_tokens_per_day
    watts = 2 * (replicas * 105 + busy * (350 - 105)) * 1.5 * 1.5
    expected = watts / 1000 * 730 / (2e9 * 730 / 24 / 1e6)
    assert used(found).kwh_per_mtok == pytest.approx(expected)
    assert used(found).g_co2_per_mtok == pytest.approx(expected * 366)


def test_rented_and_bought_machines_are_alike_but_for_what_is_given() -> None:
    alike = used(asked(purchase=ALIKE)).kwh_per_mtok
    assert alike == pytest.approx(used(asked()).kwh_per_mtok)
    assert used(asked(purchase=replace(ALIKE, pue=1.0))).kwh_per_mtok == pytest.approx(alike / 1.5)
    assert used(asked(purchase=replace(ALIKE, idle_w=210, load_w=700))).kwh_per_mtok == pytest.approx(alike * 2)


def test_the_bill_for_a_bought_machines_power_is_the_same_electricity() -> None:
    def usd(usd_per_kwh: float) -> float:
        found = asked(purchase=replace(ALIKE, usd_per_kwh=usd_per_kwh))
        return staircase(found.plan).usd(2e9) / (2e9 * found.plan.days_per_month) * 1e6

    found = asked(purchase=ALIKE)
    assert used(found).kwh_per_mtok == pytest.approx((usd(0.3) - usd(0.1)) / 0.2)


def test_gpus_that_are_bought_with_their_board_draw_power_too() -> None:
    # Nine replicas of two are eighteen GPUs; three servers of eight have twenty-four.
    found = asked(purchase=replace(ALIKE, gpus_per_computer=8))
    assert found.replicas(2e9) == 9
    more = used(found).kwh_per_mtok - used(asked(purchase=ALIKE)).kwh_per_mtok
    assert more == pytest.approx(6 * 105 * 1.5 * 1.5 / 1000 * 730 / (2e9 * 730 / 24 / 1e6))


def test_a_fleet_in_little_use_takes_more_for_a_token() -> None:
    found = asked()
    assert used(found, 1e6).kwh_per_mtok > 10 * used(found, 2e9).kwh_per_mtok


@pytest.mark.parametrize("grid", [0.0, 50.0, 900.0])
def test_the_grid_can_be_given(grid: float) -> None:
    energy = used(asked(), grid_g_per_kwh=grid)
    assert energy.g_co2_per_mtok == pytest.approx(grid * energy.kwh_per_mtok)
    note = next(note for note in report(asked(grid_g_per_kwh=grid)).beside if "kWh" in note)
    assert f"{grid:g} g a kWh: given" in note


def test_the_report_tells_what_was_assumed_and_from_where() -> None:
    found = asked()
    note = next(note for note in report(found).beside if "kWh" in note)
    energy = used(found)
    assert f"take {energy.kwh_per_mtok:.3g} kWh and " in note
    assert "per million tokens at 2 G a day (a GPU takes 105 W idle and 350 W under load, x 1.5 for its node" in note
    assert "366 g a kWh: EIA: the United States in 2023" in note
    document = as_document(found)["energy"]
    assert document["kwh_per_mtok"] == energy.kwh_per_mtok
    assert document["assumed"]["pue"]["value"] == 1.5
    assert all(each["source"] for each in document["assumed"].values())


def test_where_the_power_is_unknown_nothing_is_said() -> None:
    found = evaluate(
        Scenario(
            model=None,
            traffic=Traffic(tokens_per_day=1e8),
            self_host=SelfHost(gpu_usd_per_hour=2, tokens_per_second=500),
            apis=[price(1)],
        )
    )
    assert energy_of(found.plan, None, 1e8) is None
    assert energy_of(found.plan, replace(H100, tdp_w=None), 1e8) is None
    assert not any("kWh" in note for note in report(found).beside)
    assert as_document(found)["energy"] is None


@pytest.mark.parametrize("grid", [-1, float("inf"), "coal"])
def test_a_grid_is_a_number_of_grams(grid: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"self_host\.grid_g_per_kwh"):
        SelfHost(gpu="h100_sxm", grid_g_per_kwh=grid)
