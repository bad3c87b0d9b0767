"""The band of uncertainty: drawn from what was assumed, the same for the same seed, and sure where nothing varies."""

from typing import Any

import pytest

from llama_client import InvalidRequestError
from llama_client.crossover import Crossover, Scenario, SelfHost, Traffic, evaluate
from llama_client.crossover.report import report
from tests.crossover.asking import B200, asked, price


def _open(draws: int = 2000, seed: int = 0, volume: float | None = 1e9) -> Crossover:
    """A scenario in which all that can be is left to assumptions."""
    return evaluate(
        Scenario(
            model="llama-3.3-70b",
            traffic=Traffic(tokens_per_day=volume),
            self_host=SelfHost(gpu="h100_sxm", n_gpus=2),
            apis=[price(0.88)],
        ),
        draws=draws,
        seed=seed,
    )


def test_the_same_seed_gives_the_same_band_and_another_one_another() -> None:
    assert _open().band == _open().band
    assert _open().band != _open(seed=1).band


def test_what_the_user_said_does_not_vary() -> None:
    found = asked(price(0.88), volume=5e9, draws=500, **B200)
    assert found.band is not None
    assert found.band.varied == ()
    assert found.probability == 1.0
    for low, high, volume in zip(
        found.band.low_usd_per_month, found.band.high_usd_per_month, found.band.tokens_per_day, strict=True
    ):
        assert low == pytest.approx(high)
        assert low == pytest.approx(found.self_host_usd_per_month(volume))


def test_what_was_assumed_does() -> None:
    band = _open().band
    assert band is not None
    assert {"peak_to_mean", "gpu_usd_per_hour", "tokens_per_second", "ops_usd_per_month"} <= set(band.varied)
    assert all(low < high for low, high in zip(band.low_usd_per_month, band.high_usd_per_month, strict=True))


def test_a_draw_costs_what_the_model_says_for_its_figures() -> None:
    """One figure at a time, drawn from a spread of no width, gives the model's own cost with that figure."""
    from dataclasses import replace

    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.economics import staircase
    from llama_client.crossover.sensitivity import band

    plan = _open(0).plan
    for name, value in (
        ("peak_to_mean", 3.5),
        ("gpu_usd_per_hour", 7.5),
        ("tokens_per_second", 1500.0),
        ("ops_usd_per_month", 90.0),
        ("max_utilisation", 0.5),
        ("slo_derate", 0.3),
    ):
        fixed = Assumption(name, value, low=value * (1 - 1e-12), high=value, spread="quotes", quotes=(value,))
        drawn = band(plan, [fixed], [1e8, 1e9, 7e9], draws=3, seed=0, at=None)
        stairs = staircase(replace(plan, **{name: value}))  # type: ignore[arg-type]
        assert drawn.low_usd_per_month == pytest.approx([stairs.usd(volume) for volume in (1e8, 1e9, 7e9)])


def test_a_draw_of_a_purchase_costs_what_the_model_says_too() -> None:
    from dataclasses import replace

    from llama_client.crossover import Purchase
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.economics import staircase
    from llama_client.crossover.sensitivity import band

    purchase = Purchase(usd_per_gpu=30_000, idle_w=80, load_w=400, computer_usd=50_000, gpus_per_computer=8)
    plan = asked(price(0.88), purchase=purchase, n_gpus=2, tokens_per_second=4205).plan
    assert plan.owned is not None
    assert staircase(plan).usd_per_block > 0
    owned = replace(plan.owned, kw_per_gpu=1.0, colocation_usd_per_kw=200)
    plan = replace(plan, owned=owned)
    values: dict[str, Any] = {
        **{"usd_per_gpu": 21_000.0, "residual_share": 0.1, "pue": 1.1, "usd_per_kwh": 0.3},
        **{"computer_usd": 90_000.0, "colocation_usd_per_kw": 120.0},
    }
    for name, value in values.items():
        fixed = Assumption(name, value, low=value * (1 - 1e-12), high=value, spread="quotes", quotes=(value,))
        drawn = band(plan, [fixed], [1e8, 7e9], draws=2, seed=0, at=None)
        stairs = staircase(replace(plan, owned=replace(owned, **{name: value})))
        assert drawn.low_usd_per_month == pytest.approx([stairs.usd(volume) for volume in (1e8, 7e9)])


def test_a_close_call_is_no_verdict() -> None:
    found = _open(volume=1.2e9)
    assert found.probability is not None
    assert 0.2 < found.probability < 0.8
    assert found.verdict == "depends"


def test_a_band_is_drawn_in_parts_without_changing_its_meaning() -> None:
    small, large = _open(draws=2000), _open(draws=25_000)
    assert small.probability == pytest.approx(large.probability, abs=0.05)


@pytest.mark.parametrize("draws", [-1, 1_000_001, True, 1.5, "3"])
def test_draws_are_bounded(draws: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^draws: must be a whole number from 1 to 1,000,000"):
        _open(draws)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "a"])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^seed: must be a whole number from 0 to"):
        _open(seed=seed)


def test_the_widest_swing_comes_first_and_each_is_the_models_own_cost() -> None:
    swings = _open(0).swings()
    widths = [swing.width for swing in swings]
    assert widths == sorted(widths, reverse=True)
    staff = next(swing for swing in swings if swing.name == "ops_usd_per_month")
    assert staff.usd_per_mtok_at_high - staff.usd_per_mtok_at_low == pytest.approx(3000 / (1e9 * 730 / 24) * 1e6)


def test_a_never_says_where_chance_has_another_opinion() -> None:
    scenario = Scenario(
        model="llama-3.3-70b",
        traffic=Traffic(tokens_per_day=50e9, peak_to_mean=1),
        self_host=SelfHost(gpu="h100_sxm", n_gpus=2),
        apis=[price(0.3)],
    )
    found = evaluate(scenario, draws=2000)
    assert found.verdict == "never"
    assert found.probability is not None
    assert found.probability > 0.2
    assert "of all cases your own is cheaper" in report(found).sentence


def test_where_it_never_pays_a_step_more_or_less_does_not_decide_what_matters() -> None:
    """At exactly one full replica anything worse would double the fleet, and all figures would seem to matter alike."""
    found = asked(price(0.3), **(B200 | {"spare": None}))
    widths = {swing.name: swing.width / 0.65 for swing in found.swings()}
    assert widths["spare"] < 0.1
