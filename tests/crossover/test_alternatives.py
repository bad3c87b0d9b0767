"""Other open models that do the same for less: told beside the answer, never a part of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from llama_client.catalog.catalog import Catalog
from llama_client.crossover import ApiPrice, Crossover, Scenario, SelfHost, Tables, Traffic, evaluate
from llama_client.crossover.alternatives import Alternative, Score, alternatives_note, alternatives_of, known_scores
from llama_client.crossover.economics import usd_per_mtok
from llama_client.crossover.offers import sold_offers
from llama_client.crossover.report import as_document, report
from tests.crossover.asking import asked, price

TODAY = date(2026, 11, 30)
SCORES = [score for scores in known_scores().values() for score in scores.values()]
PLAN = asked(price(1), n_gpus=1, tokens_per_second=1000, gpu_usd_per_hour=1).plan


def other(model: str, usd: float, provider: str = "A") -> tuple[str, ApiPrice]:
    return model, price(usd, provider=provider)


def found(*offers: tuple[str, ApiPrice], model: str = "llama-3.3-70b", below: float = 1.0) -> tuple[Alternative, ...]:
    return alternatives_of(model, PLAN, below_usd_per_mtok=below, today=TODAY, offers=offers)


def names(alternatives: tuple[Alternative, ...]) -> list[str]:
    return [each.model for each in alternatives]


@pytest.mark.parametrize("score", SCORES, ids=lambda each: f"{each.model}-{each.benchmark}".replace(" ", "-"))
def test_every_score_is_sourced_dated_and_of_a_known_model(score: Score) -> None:
    known = {model.name for model in Tables.bundled().models}
    known |= {model.name.removesuffix("-instruct") for model in Catalog.bundled().models}
    assert score.model in known
    assert 0 < score.score < 100
    assert score.source
    assert score.published_on <= score.checked_on


def test_a_model_counts_that_does_about_as_well_on_every_shared_benchmark_for_less() -> None:
    offers = [other("gpt-oss-20b", 0.1), other("llama-3.1-8b", 0.05), other("llama-4-scout", 0.4)]
    first, second = found(*offers)
    # MMLU 85.3 against 86 is about the same; the 8B is cheaper, and clearly worse.
    assert (first.model, second.model) == ("gpt-oss-20b", "llama-4-scout")
    assert [(each.benchmark, each.score, each.asked_score) for each in second.scores] == [
        ("GPQA Diamond", 57.2, 50.5),
        ("MMLU-Pro", 74.3, 68.9),
    ]


@pytest.mark.parametrize(
    ("model", "instead"),
    [
        # Equal on MMLU, two and a half points less on GPQA Diamond; more on that, three less on MMLU.
        pytest.param("llama-3.3-70b", "llama-3.1-70b", id="same-on-one"),
        pytest.param("llama-3.1-405b", "gpt-oss-20b", id="more-on-one"),
    ],
)
def test_one_benchmark_that_is_clearly_less_is_enough_to_leave_it_out(model: str, instead: str) -> None:
    assert found(other(instead, 0.1), model=model) == ()


def test_only_what_costs_less_counts_and_of_each_model_its_cheapest_seller() -> None:
    offers = [other("gpt-oss-120b", 1.0), other("gpt-oss-20b", 0.5, "B"), other("gpt-oss-20b", 0.3, "C")]
    (only,) = found(*offers)
    assert (only.model, only.price.provider) == ("gpt-oss-20b", "C")
    assert only.usd_per_mtok == pytest.approx(0.3)


def test_an_offer_that_does_not_hold_a_request_is_left_out() -> None:
    model, offer = other("gpt-oss-20b", 0.1)
    short, long = (replace(offer, context_tokens=round(PLAN.tokens_per_request) + more) for more in (-1, 0))
    assert found((model, short)) == ()
    assert names(found((model, long))) == ["gpt-oss-20b"]


def test_a_price_in_doubt_is_told_as_such() -> None:
    model, offer = other("gpt-oss-20b", 0.1)
    for doubt, told in ((None, "at A ("), ("seen once", "at A, unverified (")):
        alternatives = found((model, replace(offer, unverified=doubt)))
        assert told in str(alternatives_note(alternatives))
        assert alternatives[0].as_document()["unverified"] == doubt


def test_the_price_is_at_the_mix_of_the_traffic() -> None:
    offer = "gpt-oss-20b", price(0.1, 0.9)
    plan = replace(PLAN, output_share=0.25)
    (only,) = alternatives_of("llama-3.3-70b", plan, below_usd_per_mtok=1, today=TODAY, offers=[offer])
    assert only.usd_per_mtok == pytest.approx(0.75 * 0.1 + 0.25 * 0.9)
    assert only.usd_per_mtok == usd_per_mtok(offer[1], plan)


@pytest.mark.parametrize("name", ["llama-3.3-70b", "llama-3.3-70b-instruct"])
def test_the_model_itself_is_no_alternative(name: str) -> None:
    assert found(other(name, 0.1)) == ()


def test_a_model_without_a_shared_benchmark_comes_last_and_is_said_to_be_unknown() -> None:
    alternatives = found(other("muse-glimmer-30b", 0.2), other("gpt-oss-20b", 0.3))
    assert names(alternatives) == ["gpt-oss-20b", "muse-glimmer-30b"]
    note = alternatives_note(alternatives)
    assert note is not None
    assert "no like for like: gpt-oss-20b for $0.3 per million tokens at A (GPQA Diamond 71.5 against 50.5" in note
    assert "what it writes while it reasons comes on top" in note
    assert note.endswith("for both: muse-glimmer-30b ($0.2 per million tokens at A).")


def test_a_model_that_does_worse_than_a_worse_one_is_left_out() -> None:
    # No benchmark has both; the 8B does better than the 1B, and less than Scout.
    assert found(other("llama-3.2-1b", 0.01), model="llama-4-scout") == ()


@pytest.mark.parametrize("offers", [[], [other("llama-3.1-8b", 0.01)]], ids=["nothing-sold", "only-worse"])
def test_without_one_nothing_is_said(offers: list[tuple[str, ApiPrice]]) -> None:
    assert alternatives_note(found(*offers)) is None


def test_a_model_without_scores_has_no_alternatives_that_are_called_as_good() -> None:
    assert all(not each.scores for each in found(other("gpt-oss-20b", 0.1), model="llama-1-65b"))


def crossover(usd: float) -> Crossover:
    return evaluate(
        Scenario(
            model="llama-3.3-70b",
            traffic=Traffic(tokens_per_day=1e9),
            self_host=SelfHost(gpu="h100_sxm", n_gpus=2, gpu_usd_per_hour=2),
            apis=[price(usd)],
        ),
        today=TODAY,
    )


def test_the_report_names_them_and_the_verdict_is_the_same_without() -> None:
    with_some, without = crossover(0.2), crossover(0.001)
    notes = " ".join(report(with_some).beside)
    assert "Other open models of about the same or better scores for less, no like for like: gpt-oss-20b" in notes
    document = as_document(with_some)
    assert document["alternatives"][0]["model"] == "gpt-oss-20b"
    assert document["cheapest_api"] == "an API"
    assert as_document(without)["alternatives"] == []
    assert with_some.plan.apis == (price(0.2),)


def test_they_are_compared_with_the_cheaper_side() -> None:
    # The machine costs less than this API: only what is cheaper than the machine counts.
    found = crossover(50)
    own = found.self_host_usd_per_month(1e9) / (1e9 * found.plan.days_per_month) * 1e6
    assert all(each["usd_per_mtok"] < own for each in as_document(found)["alternatives"])


@pytest.mark.parametrize(("day", "is_sold"), [(date(2026, 8, 15), True), (date(2026, 8, 16), False)])
def test_only_what_is_sold_on_the_day_is_offered(day: date, is_sold: bool) -> None:
    targets = {f"{offer.provider}/{offer.model}" for _, offer in sold_offers(today=day)}
    assert ("Groq/llama-3.3-70b-versatile" in targets) == is_sold
    assert "Groq/openai/gpt-oss-20b" in targets
    assert "Cerebras/llama-3.3-70b" not in targets


def test_what_is_sold_today_is_known_without_asking() -> None:
    known = alternatives_of("llama-3.3-70b", PLAN, below_usd_per_mtok=100, today=TODAY)
    assert {"gpt-oss-20b", "gpt-oss-120b"} <= set(names(known))
    assert not {"llama-3.3-70b", "llama-3.3-70b-instruct"} & set(names(known))
