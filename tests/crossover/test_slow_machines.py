"""A machine that is slower than the limits: what a user would feel, and what it costs at its own speed."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from llama_client.crossover import Crossover, MeasuredPoint, Purchase, Scenario, SelfHost, Tables, Traffic, evaluate
from llama_client.crossover.evaluation import cheapest_machine
from llama_client.crossover.report import as_document, report
from tests.crossover.asking import price

TODAY = date(2026, 11, 30)
COSTS = "; the cost is that at its own speed."


def on(gpu: str, model: str = "llama-3.3-70b", *, volume: float | None = 5e7, **host: Any) -> Crossover:
    host = {"gpu_usd_per_hour": 1.0} | host if "purchase" not in host else host
    scenario = Scenario(
        model=model, traffic=Traffic(tokens_per_day=volume), self_host=SelfHost(gpu=gpu, **host), apis=[price(0.88)]
    )
    return evaluate(scenario, today=TODAY)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        (
            {"gpu": "m3_ultra", "purchase": Purchase()},
            "answers would come at 14 tokens a second instead of 20 and begin after 16 s instead of 2 s",
        ),
        (
            {"gpu": "m3_ultra", "purchase": Purchase(), "tpot_limit_ms": 200},
            "answers would begin after 16 s instead of 2 s",
        ),
        (
            {"gpu": "m3_ultra", "purchase": Purchase(), "ttft_limit_s": 30},
            "answers would come at 14 tokens a second instead of 20;",
        ),
        ({"gpu": "m5_max", "purchase": Purchase()}, "answers would come at 10 tokens a second instead of 20;"),
        ({"gpu": "h100_sxm", "tpot_limit_ms": 1}, "answers would come at 64 tokens a second instead of 1,000;"),
        ({"gpu": "h100_sxm", "ttft_limit_s": 1e-9}, "answers would begin after 0.3 s instead of 1e-09 s;"),
    ],
    ids=["both", "the first token", "each token", "FLOPS unknown", "a strict pace", "no wait at all"],
)
def test_one_sentence_says_what_a_user_would_feel_and_the_answer_is_there(host: dict[str, Any], wanted: str) -> None:
    found = on(host.pop("gpu"), **host)
    sentence = report(found).sentence
    assert f"The machine is slower than asked: {wanted}" in sentence
    assert sentence.endswith(COSTS)
    assert sentence.count("slower than asked") == 1
    document = as_document(found)
    assert document["too_slow"]["asked_tokens_per_s"] > 0
    assert document["sentence"] == sentence
    assert document["self_host_usd_per_month"] > 0


def test_the_cost_is_that_of_one_request_at_a_time() -> None:
    slow = on("m3_ultra", purchase=Purchase())
    rate = slow.resolved.rate
    assert rate is not None
    assert slow.plan.tokens_per_second * slow.plan.slo_derate == pytest.approx(rate.alone.output_tokens_per_s)
    # Limits that a single request just keeps: the same machine, hardly another cost.
    assert rate.alone.ttft_ms is not None
    just = on(
        "m3_ultra",
        purchase=Purchase(),
        tpot_limit_ms=rate.alone.tpot_ms * 1.0001,
        ttft_limit_s=rate.alone.ttft_ms * 1.0001 / 1e3,
    )
    assert not just.resolved.is_too_slow
    assert as_document(just)["too_slow"] is None
    assert "slower than asked" not in report(just).sentence
    assert just.self_host_usd_per_month(5e7) == pytest.approx(slow.self_host_usd_per_month(5e7), rel=0.02)


def test_where_41_macs_come_from_is_said() -> None:
    found = on("m3_ultra", purchase=Purchase(), tpot_limit_ms=200, ttft_limit_s=30)
    assert found.replicas(5e7) == 41
    (why,) = (note for note in report(found).notes if note.startswith("Why 41 replicas at 50 M tokens a day"))
    assert "a call of 2,000 tokens takes a replica 45 s on its own, 16 s of it until the answer begins" in why
    assert "it serves 80 calls an hour, of which 80% are planned with, and the busiest hour brings 2,604" in why
    assert "as many at once as the limits allow" in why
    # 50 M tokens a day are 25,000 calls of 2,000; 2.5 x the mean hour's, over 80% of what one serves.
    assert -(-25_000 / 24 * 2.5 // (80.0 * 0.8)) == 41


def test_a_given_share_of_the_rate_asks_for_no_limit() -> None:
    found = on("m3_ultra", purchase=Purchase(), slo_derate=0.5)
    assert not found.resolved.is_too_slow
    assert found.plan.slo_derate == 0.5


def test_a_slow_measured_machine_is_answered_at_its_measured_speed() -> None:
    point = MeasuredPoint(
        "llama-3.3-70b", "m5_max", 1, "Q4_K_M", "llama.cpp", 1600, 400, 1, 7.0, 143.0, 20_000.0, TODAY
    )
    scenario = Scenario(
        model="llama-3.3-70b",
        traffic=Traffic(tokens_per_day=1e7),
        self_host=SelfHost(gpu="m5_max", purchase=Purchase()),
        apis=[price(0.88)],
    )
    found = evaluate(scenario, measured=[point], today=TODAY)
    wanted = "come at 7 tokens a second instead of 20 and begin after 20 s instead of 2 s"
    assert wanted in report(found).sentence
    assert found.plan.tokens_per_second * found.plan.slo_derate == pytest.approx(7.0)


def test_more_gpus_are_picked_where_fewer_are_too_slow() -> None:
    assert on("h100_sxm", n_gpus=2, tpot_limit_ms=14).resolved.is_too_slow
    found = on("h100_sxm", tpot_limit_ms=14)
    assert found.plan.n_gpus > 2
    assert not found.resolved.is_too_slow
    # Also where the slow one costs less.
    one, two = (on("h100_sxm", "llama-3.1-8b", volume=1e6, n_gpus=count) for count in (1, 2))
    assert one.self_host_usd_per_month(1e6) < two.self_host_usd_per_month(1e6)
    assert one.resolved.rate is not None
    assert two.resolved.rate is not None
    between = (one.resolved.rate.alone.tpot_ms * two.resolved.rate.alone.tpot_ms) ** 0.5
    assert on("h100_sxm", "llama-3.1-8b", volume=1e6).plan.n_gpus == 1
    assert on("h100_sxm", "llama-3.1-8b", volume=1e6, tpot_limit_ms=between).plan.n_gpus == 2


def test_a_slow_machine_is_the_cheapest_only_where_all_are_slow() -> None:
    def best(**host: Any) -> Crossover:
        scenario = Scenario(
            model="llama-3.3-70b", traffic=Traffic(tokens_per_day=1e6), self_host=SelfHost(**host), apis=[price(0.88)]
        )
        return cheapest_machine(scenario, lambda each: evaluate(each, today=TODAY), tables=Tables.bundled()).best

    assert not best(purchase=Purchase()).resolved.is_too_slow
    assert best(purchase=Purchase(), ttft_limit_s=1e-6).resolved.is_too_slow
