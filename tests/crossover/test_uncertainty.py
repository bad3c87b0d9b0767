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
    from llama_client.crossover.draws import draw
    from llama_client.crossover.economics import staircase

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
        drawn = draw(plan, [fixed], draws=3, seed=0).band([1e8, 1e9, 7e9])
        stairs = staircase(replace(plan, **{name: value}))  # type: ignore[arg-type]
        assert drawn.low_usd_per_month == pytest.approx([stairs.usd(volume) for volume in (1e8, 1e9, 7e9)])


def test_a_draw_of_a_purchase_costs_what_the_model_says_too() -> None:
    from dataclasses import replace

    from llama_client.crossover import Purchase
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.draws import draw
    from llama_client.crossover.economics import staircase

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
        drawn = draw(plan, [fixed], draws=2, seed=0).band([1e8, 7e9])
        stairs = staircase(replace(plan, owned=replace(owned, **{name: value})))
        assert drawn.low_usd_per_month == pytest.approx([stairs.usd(volume) for volume in (1e8, 7e9)])
    # Together they multiply each other, and a faster replica takes less electricity for a token.
    values |= {"tokens_per_second": 9000.0, "peak_to_mean": 1.5}
    fixed_all = [
        Assumption(name, value, low=value * (1 - 1e-12), high=value, spread="quotes", quotes=(value,))
        for name, value in values.items()
    ]
    band = draw(plan, fixed_all, draws=2, seed=0).band([1e8, 7e9])
    of_plan = {name: values.pop(name) for name in ("tokens_per_second", "peak_to_mean")}
    stairs = staircase(replace(plan, owned=replace(owned, **values), **of_plan))
    assert band.low_usd_per_month == pytest.approx([stairs.usd(volume) for volume in (1e8, 7e9)], rel=1e-12)


@pytest.mark.parametrize(("usd", "is_drawn"), [(None, True), (30_000, False)], ids=["known", "stated"])
def test_the_price_of_a_gpu_that_is_bought_is_drawn_where_it_is_not_stated(usd: float | None, is_drawn: bool) -> None:
    from llama_client.crossover import Purchase

    host = SelfHost(gpu="h100_sxm", n_gpus=2, purchase=Purchase(usd_per_gpu=usd))
    found = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[price(0.88)]), draws=10)
    assert found.band is not None
    assert ("usd_per_gpu" in found.band.varied) is is_drawn


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
    with pytest.raises(InvalidRequestError, match=r"^draws: must be a whole number from 0 to 1,000,000"):
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


# The machine of the README, against $0.88 per million tokens.
_OPEN = {"model": "llama-3.3-70b", "self_host": SelfHost(gpu="h100_sxm", n_gpus=2, gpu_usd_per_hour=2.69)}


def _at(volume: float | None, usd: float = 0.88, draws: int = 4000, **traffic: Any) -> Crossover:
    load = Traffic(tokens_per_day=volume, **traffic)
    return evaluate(Scenario(traffic=load, apis=[price(usd, provider="Acme")], **_OPEN), draws=draws)  # type: ignore[arg-type]


@pytest.mark.parametrize("volume", [1e6, 169.2e6, 200e6, 250e6, 3e8, 6e8, 1e9, 2e9, 3.3e9, 2e10, 1e12])
@pytest.mark.parametrize("usd", [0.4, 0.6, 0.88])
def test_the_verdict_at_a_volume_is_that_of_its_draws(volume: float, usd: float) -> None:
    """Beyond 80% of the draws a machine of one's own, below 20% an API; whatever the assumed figures give."""
    found = _at(volume, usd, 1000)
    likely = found.probability
    assert likely is not None
    band = found.crossing_band
    assert band is not None
    expected = "self-host" if likely > 0.8 else "api" if likely < 0.2 else "depends"
    assert found.verdict == ("never" if band.is_never else expected)
    sentence = report(found).sentence
    begins = {
        "self-host": "Your own machine is cheaper at",
        "api": "An API is cheaper at",
        "depends": "Too close to call at",
        "never": "Never: at no volume",
    }
    assert sentence.startswith(begins[found.verdict])


def test_a_point_estimate_alone_decides_neither_for_nor_against() -> None:
    # One's own is the cheaper one by two dollars where all figures are as assumed, and in one draw of seven.
    found = _at(169.2e6)
    assert found.self_host_usd_per_month(169.2e6) < (found.api_usd_per_month(169.2e6) or 0)
    assert found.probability is not None
    assert found.probability < 0.2
    assert found.verdict == "api"
    # No machine pays where all figures are as assumed, and many a one does in the draws.
    dear = _at(50e9, 0.5)
    assert dear.intervals == []
    assert dear.probability is not None
    assert 0.2 < dear.probability < 0.8
    assert dear.verdict == "depends"


@pytest.mark.parametrize("usd", [0.5, 0.6, 0.88, 5.0])
def test_the_band_of_the_crossing_is_where_the_verdict_turns(usd: float) -> None:
    found = _at(None, usd)
    band = found.crossing_band
    assert band is not None
    assert band.low is not None
    ends = [end for end in (band.low, band.likely, band.high) if end is not None]
    assert ends == sorted(ends)
    below = [found.probability_at(band.low * share) for share in (0.01, 0.3, 0.9, 0.999)]
    assert all(each is not None and each < 0.2 for each in below)
    assert found.probability_at(band.low) == pytest.approx(0.2, abs=0.02)
    assert (band.high is None) == (band.highest_probability <= 0.8)
    for end, least in ((band.likely, 0.5), (band.high, 0.8)):
        above = [found.probability_at(end * times) for times in (1, 1.5, 4, 30, 1e4)] if end else []
        assert all(each is not None and each >= least for each in above)


def test_a_band_without_anything_uncertain_is_the_exact_crossing() -> None:
    found = asked(price(0.88), volume=5e9, draws=100, **B200)
    band = found.crossing_band
    assert band is not None
    assert (band.low, band.likely, band.high) == (
        found.first_crossing,
        found.permanent_crossing,
        found.permanent_crossing,
    )
    never = asked(price(0.3), draws=100, **B200)
    assert never.crossing_band is not None
    assert never.crossing_band.is_never
    assert never.verdict == "never"
    assert asked(draws=100, **B200).crossing_band is None


def test_the_sentence_gives_the_difference_of_the_draws_in_dollars() -> None:
    found = _at(2e9)
    saving = found.saving()
    assert saving is not None
    assert saving.low < saving.median < saving.high
    told = report(found).sentence
    for dollars in (saving.median, -saving.low, saving.high):
        assert f"${dollars:,.0f}" in told
    assert "in 8 of 10" in told
    sure = asked(price(0.88), volume=5e9, draws=100, **B200)
    assert "in 8 of 10" not in report(sure).sentence
    assert "by $" in report(sure).sentence


def test_each_row_has_the_probability_of_its_own_volume() -> None:
    found = _at(2e9)
    rows = report(found).volumes
    assert {"yours", "open from here", "as likely as not", "your own from here"} <= {row.what for row in rows}
    for row in rows:
        assert row.probability == found.probability_at(row.tokens_per_day)
    by_name = {row.what: row.probability or 0 for row in rows}
    assert by_name["open from here"] == pytest.approx(0.2, abs=0.02)
    assert by_name["as likely as not"] == pytest.approx(0.5, abs=0.02)
    assert by_name["your own from here"] == pytest.approx(0.8, abs=0.02)


def test_what_is_stated_is_told_and_that_stating_narrows_the_band() -> None:
    found = _at(2e9)
    by_name = {each.name: each for each in found.if_stated()}
    assert set(by_name) == {"peak_to_mean", "tokens_per_second", "max_utilisation", "ops_usd_per_month"}
    note = next(note for note in report(found).notes if note.startswith("Stated, and fixed:"))
    assert "rent of a GPU-hour" in note
    assert "most of all peak to mean" in note
    # Stating it does what was told.
    stated = _at(2e9, peak_to_mean=2.5)
    told, saving, before = by_name["peak_to_mean"], stated.saving(), found.saving()
    assert saving is not None
    assert before is not None
    assert saving.high - saving.low < before.high - before.low
    # Whole machines: a percentile is one more or one less of them.
    assert told.saving.high - told.saving.low == pytest.approx(saving.high - saving.low, abs=2 * 2 * 2.69 * 730)
    assert stated.probability == pytest.approx(told.probability, abs=0.02)


def test_a_headline_names_what_is_in_doubt() -> None:
    from dataclasses import replace
    from datetime import date

    today = date(2026, 11, 26)
    fresh = price(0.88, provider="Acme", source="its list", as_of=today)
    for api, told in (
        (fresh, ""),
        (replace(fresh, unverified="seen in a forum"), "unverified: the price of Acme"),
        (replace(fresh, as_of=date(2026, 9, 1)), "older than 60 days: the price of Acme"),
        (price(0.88, provider="Acme"), ""),
    ):
        load = Traffic(tokens_per_day=2e9)
        dearer = price(3, provider="Dear", source="a list", as_of=date(2020, 1, 1), unverified="who knows")
        scenario = Scenario(traffic=load, apis=[api, dearer], **_OPEN)  # type: ignore[arg-type]
        sentence = report(evaluate(scenario, draws=200, today=today)).sentence
        assert ("in doubt" in sentence) == bool(told)
        assert told in sentence
        assert "Dear" not in sentence


def test_where_it_never_pays_a_step_more_or_less_does_not_decide_what_matters() -> None:
    """At exactly one full replica anything worse would double the fleet, and all figures would seem to matter alike."""
    found = asked(price(0.3), **(B200 | {"spare": None}))
    widths = {swing.name: swing.width / 0.65 for swing in found.swings()}
    assert widths["spare"] < 0.1
