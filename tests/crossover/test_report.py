"""The report: one sentence that a reader can act on, what limits the machine, and what would change the answer."""

import doctest
import importlib
import json
import pkgutil
from dataclasses import replace
from datetime import date
from types import ModuleType

import pytest

import llama_client.crossover
from llama_client.crossover import ApiPrice, Crossover, Purchase, Scenario, SelfHost, Traffic, evaluate
from llama_client.crossover.report import as_document, report
from llama_client.crossover.report_tables import break_even_in_words
from tests.crossover.asking import B200, H100_PAIR, asked, price

TODAY = date(2026, 11, 26)
MODULES = [
    importlib.import_module(each.name)
    for each in pkgutil.walk_packages(llama_client.crossover.__path__, "llama_client.crossover.")
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.removeprefix("llama_client.crossover."))
def test_the_examples_of_the_room_run(module: ModuleType) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            asked(price(0.3, provider="Acme"), **B200),
            "Never: a full replica of 1 x GPU of your own costs $0.65 per million tokens, and Acme sells them for $0.3;"
            " no volume changes that.",
        ),
        (
            asked(price(0.88, provider="Acme"), **B200),
            "It depends on the volume, for 1 x GPU of your own: your own is cheaper from 440 M tokens a day, "
            "for good from 805 M; the winner changes 5 times.",
        ),
        (
            asked(price(0.88, provider="Acme"), volume=450e6, **B200),
            "Your own machine is cheaper at 450 M tokens a day (2 replicas of 1 x GPU of your own: $11,767 a month; "
            "Acme: $12,045).",
        ),
        (
            asked(price(0.88, provider="Acme"), volume=50e6, **B200),
            "An API is cheaper at 50 M tokens a day (1 replica of 1 x GPU of your own: $6,884 a month; Acme: $1,338). "
            "Your own is cheaper from 440 M tokens a day, for good from 805 M; the winner changes 5 times.",
        ),
        (
            asked(volume=50e6, **B200),
            "No API is given, so there is nothing to compare with; your own, 1 x GPU of "
            "your own, would cost $6,884 a month at 50 M tokens a day.",
        ),
        (
            asked(price(0.88), price(0.2, fees_usd_per_month=14_000), **B200),
            "It depends on the volume, for 1 x GPU of your own: your own is cheaper from 440 M to 741 M tokens a day "
            "in 2 intervals, and never for good.",
        ),
    ],
    ids=["never", "all volumes", "self-host", "api", "no-api", "not for good"],
)
def test_the_verdict_is_one_sentence(found: Crossover, sentence: str) -> None:
    assert report(found).sentence == sentence


@pytest.mark.parametrize("volume", [50e6, 450e6, 550e6, 5e9])
def test_what_would_flip_the_answer_does(volume: float) -> None:
    """Each figure on its own, a little beyond where both sides cost the same, turns the answer around."""
    found = asked(price(0.88), volume=volume, **B200)
    before = found.verdict
    told = report(found).break_evens
    assert "api price" in {flip.name for flip in told}
    for flip in told:
        beyond = flip.at + (flip.at - flip.now) * 1e-6
        host, peak, usd = dict(B200), 2.5, 0.88
        if flip.name == "api price":
            usd = beyond
        elif flip.name == "peak_to_mean":
            peak = beyond
        else:
            host[flip.name] = beyond
        after = asked(price(usd), volume=volume, peak=peak, **host)
        assert after.verdict != before, flip
        assert after.verdict in ("api", "self-host", "never")


def test_what_would_flip_a_never_does() -> None:
    found = asked(price(0.3), **B200)
    for flip in report(found).break_evens:
        for beyond, verdict in ((1e-6, "depends"), (-1e-6, "never")):
            value = flip.at + (flip.at - flip.now) * beyond
            host, peak, usd = dict(B200), 2.5, 0.3
            if flip.name == "api price":
                usd = value
            elif flip.name == "peak_to_mean":
                peak = value
            else:
                host[flip.name] = value
            assert asked(price(usd), peak=peak, **host).verdict == verdict, (flip, value)
    assert {flip.name for flip in report(found).break_evens} == {
        "api price",
        "gpu_usd_per_hour",
        "tokens_per_second",
        "peak_to_mean",
    }


@pytest.mark.parametrize("volume", [50e6, 450e6, 5e9])
def test_what_would_flip_the_answer_does_also_with_a_share_that_goes_to_the_api(volume: float) -> None:
    found = asked(price(0.88), volume=volume, escalated_share=0.2, **B200)
    flip = next(flip for flip in report(found).break_evens if flip.name == "api price")
    for beyond, verdict in ((1e-6, None), (-1e-6, found.verdict)):
        usd = flip.at + (flip.at - flip.now) * beyond
        after = asked(price(usd), volume=volume, escalated_share=0.2, **B200).verdict
        assert (after == verdict) if verdict else (after != found.verdict)


def test_a_gpu_of_the_users_own_has_a_name() -> None:
    from llama_client.crossover import Gpu, Tables

    tables = Tables.bundled().extended(gpus=[Gpu("own_card", 80, 2000, bf16_tflops=500)])
    host = SelfHost(gpu="own_card", gpu_usd_per_hour=1)
    found = evaluate(Scenario(model="llama-3.1-8b", self_host=host, apis=[price(0.01)]), tables=tables, today=TODAY)
    assert "a full replica of 1 x own_card, bf16 costs" in report(found).sentence


def test_a_flip_reads_as_a_sentence() -> None:
    found = asked(price(0.88), volume=550e6, **B200)
    assert [break_even_in_words(flip) for flip in report(found).break_evens][:2] == [
        "an API price of $0.995 per million tokens (now $0.88)",
        "a GPU for $5.81 an hour (now $6.69)",
    ]


def test_what_limits_the_machine_is_said() -> None:
    known = evaluate(
        Scenario(model="llama-3.3-70b", self_host=SelfHost(gpu="h100_sxm", n_gpus=2), apis=[price(0.88)]), today=TODAY
    )
    told = report(known)
    assert "limited by its" in told.binding
    assert "the busiest hour has 2.5 x the mean load" in told.binding
    assert "even" in report(asked(price(1), peak=1, **B200)).binding


def test_another_model_is_named_as_such() -> None:
    other = price(1.25, provider="Acme", model="big-1", is_same_model=False)
    assert any("Acme big-1 is another model" in note for note in report(asked(other, **B200)).notes)


def test_a_cheaper_mix_and_a_purchase_are_told() -> None:
    bought = asked(price(1.0), volume=5e8, purchase=Purchase(usd_per_gpu=30_000, idle_w=50, load_w=300), **H100_PAIR)
    notes = " ".join(report(bought).notes)
    assert "of the tokens to an API" in notes
    assert "The purchase of $" in notes
    assert "is paid back after" in notes


def test_the_document_is_json_and_says_the_same() -> None:
    scenario = Scenario(
        model="llama-3.3-70b",
        traffic=Traffic(tokens_per_day=1e9),
        self_host=SelfHost(gpu="h100_sxm", n_gpus=2),
        apis=[price(0.88)],
    )
    found = evaluate(scenario, draws=500, today=TODAY)
    document = json.loads(json.dumps(as_document(found)))
    assert document["verdict"] == found.verdict
    assert document["intervals"] == [list(interval) for interval in found.intervals]
    assert document["first_crossing"] == found.first_crossing
    assert document["permanent_crossing"] == found.permanent_crossing
    assert document["replicas"] == found.replicas(1e9)
    assert document["self_host_usd_per_month"] == found.self_host_usd_per_month(1e9)
    assert document["api_usd_per_month"] == found.api_usd_per_month(1e9)
    assert document["probability"] == found.probability
    assert document["sentence"] == report(found).sentence
    rent = next(each for each in document["assumptions"] if each["name"] == "gpu_usd_per_hour")
    assert rent["as_of"] == "2026-09-20"
    assert rent["age_days"] == 67
    assert rent["is_stale"]
    new = as_document(replace(found, today=date(2026, 9, 21)))
    assert not next(each for each in new["assumptions"] if each["name"] == "gpu_usd_per_hour")["is_stale"]


@pytest.mark.parametrize("draws", [0, 200])
def test_never_names_the_price_of_the_seller_whom_it_names(draws: int) -> None:
    dear, cheap = price(0.05, provider="Alpha", fees_usd_per_month=1e6), price(0.1, provider="Beta")
    found = asked(dear, cheap, **B200, draws=draws)
    assert "Beta sells them for $0.1" in report(found).sentence
    assert (
        "and Gamma sells them for $0.05 and $1.00 a month" in report(asked(_with_fee(1), **B200, volume=2e9)).sentence
    )


def test_a_fee_that_small_volumes_do_not_pay_leaves_no_volume_open_where_all_draws_agree() -> None:
    found = asked(_with_fee(1e6), **B200, draws=200)
    assert found.crossing_band is not None
    assert found.crossing_band.high is None
    assert "it is open" not in report(found).sentence
    assert report(found).sentence.startswith(
        "It depends on the volume, for 1 x GPU of your own: your own wins in up to 100% of the draws, but from no "
        "volume on for good (as assumed: from the first token to "
    )


def _with_fee(usd: float) -> ApiPrice:
    return price(0.05, provider="Gamma", fees_usd_per_month=usd)
