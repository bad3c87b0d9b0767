"""What is known from one quote alone varies too, a price of the user's own does not; and what no headline may hide."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from llama_client import InvalidRequestError
from llama_client.crossover import Crossover, Purchase, Scenario, SelfHost, Tables, Traffic, evaluate
from llama_client.crossover.report import report
from llama_client.crossover.report_tables import tables
from llama_client.crossover.tables import GpuPrice
from tests.crossover.asking import price

_DAY = date(2026, 11, 30)


def _on(gpu: str, *, tables: Tables | None = None, purchase: Purchase | None = None) -> Crossover:
    host = SelfHost(gpu=gpu, n_gpus=1, purchase=purchase)
    return evaluate(
        Scenario(model="llama-3.1-8b", traffic=Traffic(tokens_per_day=1e9), self_host=host, apis=[price(0.2)]),
        tables=tables,
        draws=300,
        today=_DAY,
    )


def _varied(found: Crossover) -> set[str]:
    return {each.name for each in found.if_stated()}


@pytest.mark.parametrize(
    "gpu",
    [gpu.name for gpu in Tables.bundled().gpus if len(Tables.bundled().rents(gpu.name)) == 1 and gpu.fp8_tflops],
)
def test_a_rent_of_one_quote_is_no_certain_one(gpu: str) -> None:
    found = _on(gpu)
    rent = found.resolved.assumption("gpu_usd_per_hour")
    assert rent is not None
    assert rent.low is not None
    assert rent.high is not None
    assert rent.low < float(rent.value) < rent.high
    assert "gpu_usd_per_hour" in _varied(found)


def test_a_contract_of_the_configuration_is_a_certain_one() -> None:
    own = GpuPrice(gpu="l4", provider="our contract", usd_per_gpu_hour=Decimal("0.6"))
    found = _on("l4", tables=Tables.bundled().extended(gpu_prices=[own]))
    assert found.plan.gpu_usd_per_hour == 0.6
    assert "gpu_usd_per_hour" not in _varied(found)


def test_a_known_price_of_a_gpu_varies_and_a_given_one_does_not() -> None:
    assert "usd_per_gpu" in _varied(_on("l4", purchase=Purchase()))
    assert "usd_per_gpu" not in _varied(_on("l4", purchase=Purchase(usd_per_gpu=2500)))


def test_a_machine_that_nobody_rents_out_is_told_how_to_be_bought() -> None:
    with pytest.raises(InvalidRequestError, match=r"renting the M3 Ultra; .*, or buy it: --buy 0 or Purchase\(\)"):
        _on("m3_ultra")


def _with(usd: float, *, volume: float, **of_api: Any) -> str:
    host = SelfHost(gpu="h100_sxm", n_gpus=2)
    scenario = Scenario(
        model="llama-3.3-70b",
        traffic=Traffic(tokens_per_day=volume),
        self_host=host,
        apis=[price(usd, **of_api)],
    )
    return report(evaluate(scenario, draws=2000, today=_DAY)).sentence


def test_a_headline_says_that_another_model_was_compared_with() -> None:
    other: dict[str, Any] = {"is_same_model": False, "provider": "Acme", "model": "small-9b"}
    for volume in (1e7, 2e9):
        assert "another model, small-9b: no like for like" in _with(0.88, volume=volume, **other)
        assert "another model" not in _with(0.88, volume=volume)


def test_a_headline_says_where_the_assumed_values_point_the_other_way() -> None:
    """Quotes and rates are not symmetric, so the median of the draws and the figures at their values may differ."""
    found = _with(0.88, volume=1e10)
    assert "by the median" in found
    assert "dearer" in found
    assert "(at the assumed values the other way: 41 replicas" in found
    assert "the other way" not in _with(0.88, volume=1e8)


@pytest.mark.parametrize("usd", [0.35, 0.4, 0.5])
def test_a_never_says_in_how_many_draws_it_is_none(usd: float) -> None:
    sentence = _with(usd, volume=1e9)
    assert sentence.startswith("Never: at no volume is your own cheaper in more than ")
    assert ", but" not in sentence


@pytest.mark.parametrize(
    ("power", "wanted"),
    [
        ({}, r"purchase\.idle_w: is required with load_w: the power"),
        ({"idle_w": 30}, r"purchase\.load_w: is required: the power"),
        ({"load_w": 300}, r"purchase\.idle_w: is required: the power"),
    ],
    ids=["neither", "idle alone", "load alone"],
)
def test_a_machine_of_unknown_power_is_told_all_that_it_lacks(power: dict[str, float], wanted: str) -> None:
    host = SelfHost(n_gpus=1, tokens_per_second=500, purchase=Purchase(usd_per_gpu=4000, **power))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match=wanted):
        evaluate(Scenario(model=None, self_host=host, apis=[price(0.2)]))


def test_where_no_api_sells_the_model_no_other_machine_is_called_never_cheaper() -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=1)
    found = evaluate(Scenario(model="llama-2-7b", self_host=host), today=_DAY)
    shown = next(
        each for each in tables(report(found), found, [found]) if each.columns[-1] == "cheaper from, as assumed"
    )
    assert [row[-1] for row in shown.rows] == ["-"]


def test_a_figure_that_is_younger_than_the_day_of_the_question_has_no_negative_age() -> None:
    scenario = Scenario(model="llama-3.3-70b", self_host=SelfHost(gpu="h100_sxm", n_gpus=2))
    found = evaluate(scenario, today=date(2020, 1, 1))
    shown = next(each for each in tables(report(found), found) if each.heading == "What it rests on")
    ages = [row[-1] for row in shown.rows]
    assert not [age for age in ages if age.startswith("-")]
    assert any(age.endswith(" days later") for age in ages)
