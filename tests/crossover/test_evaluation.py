"""The answer as a whole: verdicts, costs by volume, mixes, purchases, and what it rests on."""

import math
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_client import InvalidRequestError
from llama_client.crossover import ApiPrice, MeasuredPoint, Purchase, Scenario, SelfHost, Tables, Traffic, evaluate
from llama_client.crossover.economics import LoadCurve
from llama_client.crossover.report import report
from tests.crossover.asking import B200, H100_PAIR, asked, price

TODAY = date(2026, 11, 26)
CHEAP, DEAR = price(0.18), price(10.0)


@pytest.mark.parametrize(
    ("api", "volume", "verdict"),
    [
        (0.88, None, "depends"),
        (0.88, 450e6, "self-host"),
        (0.88, 550e6, "api"),
        (0.88, 5e9, "self-host"),
        (0.3, None, "never"),
        (0.3, 5e9, "never"),
    ],
)
def test_the_verdict_at_a_volume(api: float, volume: float | None, verdict: str) -> None:
    assert asked(price(api), volume=volume, **B200).verdict == verdict


def test_in_a_notebook_the_answer_is_a_table_of_text() -> None:
    shown = asked(price(0.88), volume=5e9, **B200)._repr_html_()
    assert "<td>verdict</td><td>self-host</td>" in shown
    assert "tokens a day</td>" in shown
    assert "not drawn" in shown
    assert "<td>not sold</td>" in asked(volume=1e9, **B200)._repr_html_()
    named = asked(price(0.88), volume=5e9, **B200)
    named = replace(named, scenario=replace(named.scenario, model="<script>"))
    assert "<script" not in named._repr_html_()


def test_without_an_api_there_is_nothing_to_compare_with() -> None:
    found = asked(volume=1e9, **B200)
    assert found.verdict == "no-api"
    assert (found.intervals, found.first_crossing, found.permanent_crossing) == ([], None, None)
    assert found.api_usd_per_month(1e9) is None
    assert found.hybrid() is None
    assert found.self_host_usd_per_month(1e9) > 0


def test_a_model_that_is_sold_no_more_is_a_result_and_says_who_sold_it() -> None:
    host = SelfHost(gpu="h100_sxm", n_gpus=2)
    found = evaluate(Scenario(model="llama-2-70b", self_host=host), today=TODAY)
    assert found.verdict == "no-api"
    assert [(api.provider, api.available_until) for api in found.resolved.ended] == [("AWS Bedrock", date(2024, 8, 12))]
    before = evaluate(Scenario(model="llama-2-70b", self_host=host), today=date(2024, 8, 11))
    assert before.verdict != "no-api"


def test_never_is_where_a_full_replicas_token_costs_more_than_the_apis() -> None:
    for rent in (3.0, 6.0, 9.0, 12.0):
        found = asked(price(0.88), **(B200 | {"gpu_usd_per_hour": rent}))
        needed = found.break_even_utilisation
        assert needed is not None
        assert (needed * 2.5 / 0.85 >= 1) == (found.verdict == "never")


@settings(max_examples=60)
@given(st.floats(1e3, 1e13), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 50), st.floats(0.01, 50))
def test_the_apis_cost_is_linear_in_volume(
    volume: float, cached: float, batch: float, usd_in: float, usd_out: float
) -> None:
    api = price(usd_in, usd_out, cached_usd_per_mtok=usd_in / 2, batch_discount=0.5, usd_per_request=0.001)
    found = asked(api, traffic={"cached_share": cached, "batch_share": batch}, **B200)
    one, three = (found.api_usd_per_month(volume * times) for times in (1, 3))
    assert one is not None
    assert three == pytest.approx(3 * one, rel=1e-9)


@settings(max_examples=100)
@given(st.floats(1, 1e13), st.floats(1, 100), st.floats(1, 20), st.floats(1, 5))
def test_replicas_never_fall_as_volume_or_peak_grows(volume: float, more: float, peak: float, higher: float) -> None:
    low, high = (asked(CHEAP, peak=each, **B200) for each in (peak, peak * higher))
    assert low.replicas(volume) <= low.replicas(volume * more)
    assert low.replicas(volume) <= high.replicas(volume)


def test_machines_are_whole_and_sized_for_the_busiest_hour() -> None:
    # 7,007 tokens/s x 0.6 x 0.85 for a day, half of them output, divided by a peak of 2.5.
    fills = 7007 * 0.6 * 0.85 * 86_400 / (2.5 * 0.5)
    found = asked(CHEAP, spare=1, **B200)
    assert found.replica_tokens_per_day == pytest.approx(fills)
    assert [found.replicas(fills * part) for part in (0.01, 1, 1.001, 2.5)] == [2, 2, 3, 4]
    assert found.self_host_usd_per_month(fills) == pytest.approx(2 * 6.69 * 730 + 2000)


def test_an_apis_price_is_that_of_its_shares() -> None:
    api = ApiPrice(
        input_usd_per_mtok=1, output_usd_per_mtok=4, cached_usd_per_mtok=0.25, batch_discount=0.5, usd_per_request=0.002
    )
    traffic = {
        "output_share": 0.2,
        "cached_share": 0.4,
        "batch_share": 0.5,
        "retry_share": 0.1,
        "tokens_per_request": 1000,
    }
    found = asked(api, traffic=traffic, **B200)
    tokens = 0.8 * (0.6 * 1 + 0.4 * 0.25) + 0.2 * 4
    expected = (tokens * (1 - 0.5 * 0.5) + 0.002 * 1000) * 1.1
    assert found.api_usd_per_month(1e6) == pytest.approx(expected * 730 / 24)


def test_what_still_goes_to_an_api_is_paid_there() -> None:
    """Manning, 12.9: $0.000847 of one's own a request, and 4.2% of requests at $0.004, come to $0.001015."""
    found = asked(
        price(0, usd_per_request=0.004),
        peak=1,
        traffic={"output_share": 1, "tokens_per_request": 1000},
        gpu_usd_per_hour=0.847,
        tokens_per_second=1000 * 1000 / 3600,
        escalated_share=0.042,
        slo_derate=1,
        max_utilisation=1,
        ops_usd_per_month=0,
    )
    full = found.replica_tokens_per_day
    assert found.self_host_usd_per_month(full) / (full / 1000 * 730 / 24) == pytest.approx(0.001015, abs=5e-7)


def test_a_mix_is_never_dearer_than_either_alone_and_often_cheaper() -> None:
    saved = 0
    for volume in (1e7, 1e8, 2.6e8, 5e8, 8e8, 3e9, 4e10):
        found = asked(price(0.88), volume=volume, **B200)
        mix, api = found.hybrid(), found.api_usd_per_month(volume)
        assert mix is not None
        assert api is not None
        assert mix.usd_per_month <= min(api, found.self_host_usd_per_month(volume)) * (1 + 1e-12)
        assert 0 <= mix.api_share <= 1
        assert (mix.replicas == 0) == (mix.api_share == 1)
        saved += mix.saves_usd_per_month > 0
    assert saved >= 3


def test_the_mix_is_the_cheapest_of_all_numbers_of_machines() -> None:
    hours = tuple(float(load) for load in (1, 1, 2, 3, 8, 9, 20, 9, 4, 1, 1, 1))
    volume = 2e9
    found = asked(price(0.88), volume=volume, peak=20 / 5, traffic={"hourly_tokens": hours}, **B200)
    mix = found.hybrid()
    assert mix is not None
    mean = sum(hours) / len(hours)
    costs = []
    for count in range(found.replicas(volume) + 1):
        room = count * found.plan.usable_tokens_per_day / volume * mean
        over = sum(max(0.0, load - room) for load in hours) / sum(hours)
        own = count * 6.69 * 730 + 2000 if count else 0
        costs.append(own + 0.88 * over * volume * 730 / 24 / 1e6)
    assert mix.usd_per_month == pytest.approx(min(costs))
    assert mix.replicas == costs.index(min(costs))


def test_a_purchase_is_paid_back_by_what_it_saves() -> None:
    bought = Purchase(
        usd_per_gpu=30_000, months=36, residual_share=0.3, yearly_interest=0, idle_w=0, load_w=0, pue=1, node_factor=1
    )
    found = asked(price(1.0), volume=10e6 * 24 / 730 * 1000, peak=1, purchase=bought, **H100_PAIR)
    investment = found.investment()
    assert investment is not None
    # 10 G tokens a month for $10,000; staff is 2,000 of it.
    saved = 10_000 - 2000
    assert investment.price_usd == 60_000 * investment.replicas
    assert investment.payback_months == pytest.approx(investment.price_usd / saved)
    assert investment.npv_usd == pytest.approx(36 * saved - 0.7 * investment.price_usd)
    assert investment.cash_usd[0] == -investment.price_usd
    assert investment.cash_usd[36] == pytest.approx(36 * saved - investment.price_usd)


def test_interest_makes_a_purchase_worth_less_and_later_paid_back() -> None:
    free, dear = (
        asked(
            price(1.0),
            volume=3e8,
            peak=1,
            purchase=Purchase(usd_per_gpu=30_000, yearly_interest=rate, idle_w=50, load_w=300),
            **H100_PAIR,
        ).investment()
        for rate in (0.0, 0.2)
    )
    assert free is not None
    assert dear is not None
    assert free.npv_usd > dear.npv_usd
    assert free.payback_months == dear.payback_months == free.discounted_payback_months
    assert dear.discounted_payback_months is None or dear.discounted_payback_months > (dear.payback_months or 0)
    assert free.irr_per_year == pytest.approx(dear.irr_per_year or math.nan)


def test_an_api_that_gets_cheaper_or_ends_pays_a_purchase_back_later_or_not_at_all() -> None:
    def months(**api: Any) -> float | None:
        found = evaluate(
            Scenario(
                model=None,
                traffic=Traffic(tokens_per_day=3e8, output_share=0.5, peak_to_mean=1),
                self_host=SelfHost(
                    purchase=Purchase(usd_per_gpu=30_000, idle_w=50, load_w=300), n_gpus=2, tokens_per_second=4205
                ),
                apis=[price(1.0, **api)],
            ),
            today=TODAY,
        ).investment()
        assert found is not None
        return found.payback_months

    plain = months()
    assert plain is not None
    assert (months(yearly_decline=0.3) or math.inf) > plain
    assert months(available_until=date(2026, 12, 28)) is None


def test_power_grows_with_the_work_from_idle_to_full() -> None:
    bought = Purchase(
        usd_per_gpu=1,
        residual_share=1,
        yearly_interest=0,
        idle_w=100,
        load_w=500,
        pue=1.2,
        node_factor=1.5,
        usd_per_kwh=0.2,
    )
    found = asked(
        CHEAP,
        peak=1,
        purchase=bought,
        slo_derate=1,
        max_utilisation=1,
        ops_usd_per_month=0,
        **{"n_gpus": 2, "tokens_per_second": 100},
    )
    a_watt = 2 * 1.2 * 1.5 / 1000 * 0.2 * 730
    assert found.self_host_usd_per_month(1e-6) == pytest.approx(100 * a_watt)
    assert found.self_host_usd_per_month(found.replica_tokens_per_day) == pytest.approx(500 * a_watt)


def test_each_assumption_has_a_source_and_old_ones_are_flagged() -> None:
    found = evaluate(Scenario(model="llama-3.3-70b", self_host=SelfHost(gpu="h100_sxm", n_gpus=2)), today=TODAY)
    assert all(each.source for each in found.assumptions)
    judged = [each.is_judgement for each in found.assumptions]
    assert judged == sorted(judged, reverse=True)
    names = {each.name: each for each in found.assumptions}
    assert {"peak_to_mean", "max_utilisation", "ops_usd_per_month", "spare", "gpu_usd_per_hour"} <= set(names)
    rent = names["gpu_usd_per_hour"]
    assert rent.is_stale(TODAY) == ((TODAY - (rent.as_of or TODAY)).days > 60)
    assert not rent.is_stale(rent.as_of or TODAY)


def test_a_measured_rate_wins_and_the_rest_of_the_estimate_scales_with_nothing() -> None:
    said = evaluate(
        Scenario(
            model="llama-3.3-70b",
            self_host=SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", tokens_per_second=1234),
        ),
        today=TODAY,
    )
    assert said.plan.tokens_per_second == 1234
    assert said.resolved.assumption("tokens_per_second") is not None
    assert said.resolved.assumption("tokens_per_second").is_given  # type: ignore[union-attr]


def test_users_own_rows_are_taken_for_the_tables() -> None:
    from decimal import Decimal

    from llama_client.crossover import Gpu, GpuPrice

    tables = Tables.bundled().extended(
        gpus=[Gpu("own_card", 80, 3350, bf16_tflops=989, fp8_tflops=1979, memory_kind="hbm")],
        gpu_prices=[GpuPrice("own_card", "us", Decimal("1.50"))],
    )
    host = SelfHost(gpu="own_card", precision="fp8")
    found = evaluate(Scenario(model="llama-3.1-8b", self_host=host), tables=tables, today=TODAY)
    assert found.plan.gpu_usd_per_hour == 1.5


def test_a_volume_must_be_one() -> None:
    with pytest.raises(InvalidRequestError, match=r"^tokens_per_day: must be a number of tokens above 0, got 0"):
        asked(CHEAP, **B200).replicas(0)


def _on_cpu(concurrency: int, tokens_per_s: float, tpot_ms: float) -> MeasuredPoint:
    return MeasuredPoint(
        "llama-3.2-3b", "cpu", 1, "Q4_K_M", "llama.cpp", 512, 128, concurrency, tokens_per_s, tpot_ms, 300.0, TODAY
    )


def test_a_processor_has_the_rate_that_was_measured_and_no_other() -> None:
    scenario = Scenario(model="llama-3.2-3b", self_host=SelfHost(gpu="cpu", gpu_usd_per_hour=0.2), apis=[price(0.06)])
    with pytest.raises(InvalidRequestError, match=r"^self_host\.gpu: no measurement of llama-3\.2-3b"):
        evaluate(scenario, today=TODAY)
    found = evaluate(scenario, measured=[_on_cpu(1, 11.0, 40.0), _on_cpu(4, 30.0, 90.0)], today=TODAY)
    assert found.plan.tokens_per_second == 30.0
    assert found.plan.slo_derate == pytest.approx(11 / 30)  # with four at once a token takes longer than 50 ms
    assert found.resolved.rate is not None
    assert found.resolved.rate.rung == "measured"


def test_what_was_measured_runs_whatever_the_tables_reckon() -> None:
    host = SelfHost(gpu="h100_sxm", precision="bf16", tokens_per_second=20, slo_derate=1)
    found = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[price(0.88)]), today=TODAY)
    assert found.plan.tokens_per_second == 20


def test_what_the_user_has_measured_is_compared_without_naming_precision_and_engine_again() -> None:
    point = MeasuredPoint("llama-3.1-8b", "rtx_4090", 1, "Q4_K_M", "llama.cpp", 1600, 400, 8, 400.0, 20.0, 300.0, TODAY)
    scenario = Scenario(model="llama-3.1-8b", self_host=SelfHost(gpu="rtx_4090"), apis=[price(0.88)])
    before, after = (evaluate(scenario, measured=points, today=TODAY).resolved for points in ([], [point]))
    assert before.rate is not None
    assert after.rate is not None
    assert (before.precision, before.rate.rung) == ("fp8", "estimated")
    assert (after.precision, after.rate.rung) == ("Q4_K_M", "measured")


def test_a_precision_of_gguf_is_served_by_llama_cpp() -> None:
    host = SelfHost(gpu="rtx_4090", precision="Q4_K_M")
    found = evaluate(Scenario(model="llama-3.1-8b", self_host=host, apis=[price(0.88)]), today=TODAY)
    assert found.resolved.precision == "Q4_K_M"


@pytest.mark.parametrize(
    ("model", "precision"), [("gpt-oss-120b", "mxfp4"), ("llama-3.3-70b", "fp8"), ("muse-glimmer-30b", "fp8")]
)
def test_a_model_is_served_as_it_was_published_where_that_is_narrow(model: str, precision: str) -> None:
    found = evaluate(Scenario(model=model, self_host=SelfHost(gpu="h100_sxm", n_gpus=2)), today=TODAY)
    assert found.resolved.precision == precision


def test_spot_costs_what_interruptions_add() -> None:
    plain, spot = (asked(price(0.88), spot_overhead=share, **B200) for share in (0.0, 0.25))
    assert spot.self_host_usd_per_month(1e8) - 2000 == pytest.approx(1.25 * (plain.self_host_usd_per_month(1e8) - 2000))


def test_an_api_that_has_ended_is_none() -> None:
    gone = price(0.88, available_until=TODAY)
    scenario = Scenario(model="llama-3.1-8b", self_host=SelfHost(gpu="h100_sxm"), apis=[gone])
    found = evaluate(scenario, today=TODAY)
    assert (found.verdict, found.resolved.ended) == ("no-api", (gone,))


def test_the_rows_of_the_tables_are_among_what_it_rests_on() -> None:
    found = evaluate(Scenario(model="llama-3.3-70b", self_host=SelfHost(gpu="h100_sxm", n_gpus=2)), today=TODAY)
    for name in ("model", "gpu"):
        row = found.resolved.assumption(name)
        assert row is not None
        assert row.as_of == date(2026, 11, 23)
        assert row.is_stale(date(2027, 2, 1))


def test_a_misspelt_model_is_named_also_where_its_rate_is_given() -> None:
    host = SelfHost(gpu_usd_per_hour=1, tokens_per_second=100)
    with pytest.raises(InvalidRequestError, match=r"^model: 'lama-3\.3-70b' .* did you mean 'llama-3\.3-70b'"):
        evaluate(Scenario(model="lama-3.3-70b", self_host=host))


def test_ones_own_price_of_a_gpu_takes_the_place_of_all_quotes() -> None:
    from decimal import Decimal

    from llama_client.crossover import GpuPrice

    tables = Tables.bundled().extended(gpu_prices=[GpuPrice("h100_sxm", "our contract", Decimal("2.10"), as_of=TODAY)])
    host = SelfHost(gpu="h100_sxm", n_gpus=2)
    found = evaluate(Scenario(model="llama-3.3-70b", self_host=host), tables=tables, today=TODAY)
    rent = found.resolved.assumption("gpu_usd_per_hour")
    assert rent is not None
    assert (rent.value, rent.source) == (2.1, "our contract: the configuration")


def test_who_still_sends_a_share_to_an_api_pays_its_monthly_fee() -> None:
    api = price(1.0, fees_usd_per_month=20_000)
    found = asked(api, volume=1e7, escalated_share=1.0, **B200)
    assert found.self_host_usd_per_month(1e7) > 20_000
    assert found.verdict == "never"


def test_leaving_costs_something_only_where_one_was() -> None:
    bought = Purchase(usd_per_gpu=30_000, idle_w=50, load_w=300)

    def months(*apis: ApiPrice) -> float | None:
        scenario = Scenario(
            model=None,
            traffic=Traffic(tokens_per_day=3e8, output_share=0.5, peak_to_mean=1),
            self_host=SelfHost(purchase=bought, n_gpus=2, tokens_per_second=4205),
            apis=apis,
        )
        found = evaluate(scenario, today=TODAY).investment()
        assert found is not None
        return found.payback_months

    dear = price(5.0, available_until=date(2027, 3, 1), migration_usd=1e6)
    assert months(price(0.8), dear) == months(price(0.8))
    ends = price(0.8, available_until=date(2027, 3, 1), migration_usd=1e6)
    assert months(ends, price(5.0)) == pytest.approx(3, abs=1.1)


def test_the_mix_is_the_cheapest_of_all_numbers_also_where_an_api_has_a_fee() -> None:
    for fee in (500, 5_000, 20_000):
        for volume in (4e8, 9e8, 3e9):
            apis = (price(0.88), price(0.5, fees_usd_per_month=fee))
            found = asked(*apis, volume=volume, **B200)
            mix = found.hybrid()
            assert mix is not None
            curve = LoadCurve(peak_to_mean=2.5)
            costs = []
            for count in range(found.replicas(volume) + 1):
                over = curve.share_above(count * found.plan.usable_tokens_per_day / volume) * volume
                own = count * 6.69 * 730 + 2000 if count else 0.0
                costs.append(own + ((found.api_usd_per_month(over) or 0.0) if over > 0 else 0.0))
            assert mix.usd_per_month == pytest.approx(min(costs))


def test_an_even_load_has_a_mix_too() -> None:
    mix = asked(price(0.88), volume=9e8, peak=1, **B200).hybrid()
    assert mix is not None
    assert mix.usd_per_month > 0


def test_a_purchase_that_is_written_off_over_decades_has_a_rate_of_return() -> None:
    bought = Purchase(usd_per_gpu=30_000, months=500, idle_w=50, load_w=300)
    found = asked(price(1.0), volume=3e8, peak=1, purchase=bought, **H100_PAIR).investment()
    assert found is not None
    assert found.irr_per_year is not None


def test_a_point_that_cannot_be_chooses_nothing_and_is_told() -> None:
    wrong = MeasuredPoint("llama-3.1-8b", "h100_sxm", 1, "fp8", "vllm", 512, 128, 1, 237_964.0, 1.0, 1.0, TODAY)
    scenario = Scenario(model="llama-3.1-8b", self_host=SelfHost(gpu="h100_sxm"), apis=[price(0.18)])
    with_it, without = (evaluate(scenario, measured=points, today=TODAY) for points in ([wrong], []))
    assert with_it.plan.tokens_per_second == without.plan.tokens_per_second
    named = replace(scenario, self_host=replace(scenario.self_host, precision="fp8", engine="vllm"))
    notes = report(evaluate(named, measured=[wrong], today=TODAY)).notes
    assert any("237,964 tokens/s" in note and "was left out" in note for note in notes)


def test_a_rate_that_was_scaled_is_called_so() -> None:
    point = MeasuredPoint("llama-3.1-8b", "h100_sxm", 1, "fp8", "vllm", 512, 128, 1, 120.0, 8.0, 30.0, TODAY)
    scenario = Scenario(model="llama-3.1-8b", self_host=SelfHost(gpu="h100_sxm"), apis=[price(0.18)])
    assert "(scaled from what was measured)" in report(evaluate(scenario, measured=[point], today=TODAY)).binding


def test_old_forms_of_gguf_are_served_by_llama_cpp_too() -> None:
    host = SelfHost(gpu="rtx_4090", precision="q4_0")
    found = evaluate(Scenario(model="llama-3.1-8b", self_host=host, apis=[price(0.88)]), today=TODAY)
    assert (found.resolved.precision, found.verdict) == ("Q4_0", "depends")
