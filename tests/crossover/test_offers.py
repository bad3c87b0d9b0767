"""Who sells a model on a day, for how much, who no longer does, and who does on other terms."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from llama_client import InvalidRequestError
from llama_client.catalog.catalog import Catalog, UserRow
from llama_client.crossover import ApiPrice, Scenario, SelfHost, Traffic, evaluate, market
from llama_client.crossover.offers import Offers, OwnPrice, like_for_like, offer_named, offers_of
from llama_client.crossover.report import as_document, report
from llama_client.crossover.report_tables import tables
from llama_client.crossover.tables import Tables
from tests.crossover.market_sources import COLUMNS

TABLES = Tables.bundled()
LLAMA = TABLES.model("llama-3.3-70b")
TODAY = date(2026, 11, 26)


def test_a_model_is_offered_by_whoever_sold_it_on_that_day() -> None:
    def sellers(day: date) -> set[str]:
        return {api.provider for api in offers_of(LLAMA, tables=TABLES, today=day).current}

    assert {"Groq", "Cerebras", "Novita"} <= sellers(date(2026, 2, 15))
    assert "Cerebras" not in sellers(date(2026, 2, 16))
    assert "Groq" in sellers(date(2026, 8, 15))
    assert {"Novita", "AWS Bedrock", "DeepInfra"} <= sellers(TODAY)
    assert not {"Groq", "Together", "Cerebras", "Lambda", "Nebius"} & sellers(TODAY)


@pytest.mark.parametrize("usd", ["0.01", "5"])
@pytest.mark.parametrize(
    "target", ["deepinfra/meta-llama/Llama-3.3-70B-Instruct-Turbo", "novita/meta-llama/llama-3.3-70b-instruct"]
)
def test_an_own_price_replaces_that_of_a_seller_whom_the_market_alone_knows(target: str, usd: str) -> None:
    own = [OwnPrice(target, Decimal(usd), Decimal(usd))]
    listed = offer_named(target, model=LLAMA, tables=TABLES, today=TODAY)
    found = offers_of(LLAMA, tables=TABLES, today=TODAY, own_prices=own).current
    (given,) = [api for api in found if api.provider == listed.provider]
    assert (given.input_usd_per_mtok, given.output_usd_per_mtok) == (float(usd), float(usd))
    assert (given.source, given.as_of, given.unverified, given.tiers) == ("the configuration", None, None, ())
    assert (given.precision, given.context_tokens) == (listed.precision, listed.context_tokens)
    assert given == offer_named(target, model=LLAMA, tables=TABLES, today=TODAY, own_prices=own)
    assert len(found) == len(offers_of(LLAMA, tables=TABLES, today=TODAY).current)


def test_an_own_price_is_not_that_of_a_seller_s_dearer_regions() -> None:
    by_place = {(api.price.provider, api.price.model): api.price for api in market.all_offers() if api.price.region}
    both = [(row.model, row.price) for row in market.all_offers() if (row.price.provider, row.price.model) in by_place]
    model, price = next((model, price) for model, price in both if price.region is None)
    own = [OwnPrice(f"{price.provider}/{price.model}", Decimal("0.01"), Decimal("0.01"))]
    plain, given = (offers_of(model, tables=TABLES, today=TODAY, own_prices=prices) for prices in ((), own))
    assert given.apart == plain.apart
    assert 0.01 in {api.input_usd_per_mtok for api in given.current}


def test_the_cheapest_comes_first_and_every_price_has_a_source_and_a_day() -> None:
    for model in TABLES.models:
        found = offers_of(model, tables=TABLES, today=TODAY)
        sums = [api.input_usd_per_mtok + api.output_usd_per_mtok for api in found.current]
        assert sums == sorted(sums)
        for api in (*found.current, *found.ended, *(each.price for each in found.apart)):
            assert api.source
            assert api.as_of is not None


def test_an_offer_that_catalogue_and_market_both_have_is_one_with_what_either_knows() -> None:
    found = offers_of(TABLES.model("gpt-oss-120b"), tables=TABLES, today=TODAY)
    for provider in ("Groq", "Together"):
        assert len([api for api in found.current if api.provider == provider]) == 1
    bedrock = next(api for api in found.current if api.provider == "AWS Bedrock")
    assert (bedrock.batch_input_usd_per_mtok, bedrock.batch_output_usd_per_mtok) == (0.075, 0.3)
    assert [(tier.kind, tier.input_usd_per_mtok) for tier in bedrock.tiers] == [("flex", 0.075)]


def test_the_users_own_price_and_row_win() -> None:
    catalog = Catalog.bundled().extended([UserRow("groq/llama-3.3-70b-versatile", "llama-3.3-70b")])
    own = [OwnPrice("groq/llama-3.3-70b-versatile", Decimal("0.40"), Decimal("0.50"))]
    found = offers_of(LLAMA, tables=TABLES, today=TODAY, catalog=catalog, own_prices=own)
    (groq,) = [api for api in (*found.current, *found.ended) if api.provider == "Groq"]
    assert (groq.input_usd_per_mtok, groq.output_usd_per_mtok, groq.source) == (0.4, 0.5, "the configuration")


def test_a_users_own_row_of_a_seller_of_the_market_is_not_listed_twice() -> None:
    target = "deepinfra/meta-llama/Llama-3.3-70B-Instruct-Turbo"
    catalog = Catalog.bundled().extended([UserRow(target, "llama-3.3-70b")])
    without = offers_of(LLAMA, tables=TABLES, today=TODAY, catalog=catalog)
    assert without == offers_of(LLAMA, tables=TABLES, today=TODAY)
    own = [OwnPrice(target, Decimal("0.09"), Decimal("0.30"))]
    found = offers_of(LLAMA, tables=TABLES, today=TODAY, catalog=catalog, own_prices=own)
    assert [api.source for api in found.current if api.provider.lower() == "deepinfra"] == ["the configuration"]


def test_a_users_own_row_without_a_price_has_that_of_the_market_until_it_ends() -> None:
    target, ends = "deepinfra/meta-llama/Llama-3.3-70B-Instruct-Turbo", date(2026, 11, 27)
    catalog = Catalog.bundled().extended([UserRow(target, "llama-3.3-70b", deprecated_on=ends)])
    listed = offer_named(target, model=LLAMA, tables=TABLES, today=TODAY)
    known = offer_named(target, model=LLAMA, tables=TABLES, today=TODAY, catalog=catalog)
    assert known == replace(listed, available_until=ends)
    assert known in offers_of(LLAMA, tables=TABLES, today=TODAY, catalog=catalog).current
    assert known in offers_of(LLAMA, tables=TABLES, today=ends, catalog=catalog).ended


def test_offers_are_found_under_the_users_own_name_of_a_model() -> None:
    tables = TABLES.extended(models=[replace(LLAMA, name="llama-3.3-70b-instruct", source="mine")])
    model = tables.model("llama-3.3-70b")
    assert (model.name, model.source) == ("llama-3.3-70b-instruct", "mine")
    found, ours = offers_of(model, tables=tables, today=TODAY), offers_of(LLAMA, tables=TABLES, today=TODAY)
    assert found == ours


def test_terms_of_the_market_complete_a_list_price_and_not_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"model": "gpt-oss-20b", "seller": "Groq", "id": "openai/gpt-oss-20b", "precision": "mxfp4"}
    terms = {"batch_input": "0.04", "batch_output": "0.15", "flex_input": "0.05", "flex_output": "0.2"}
    hours = {"off_peak_input": "0.06", "off_peak_output": "0.25", "off_peak_utc": "16:30-00:30 67@00:00-00:00"}
    usual = {"input": "0.075", "output": "0.3", "last_confirmed": "2026-11-20", "source": "a page"}
    row = dict.fromkeys(COLUMNS, "") | facts | terms | hours | usual
    monkeypatch.setattr(market, "_rows", lambda: {"gpt-oss-20b": [row]})
    model, own = TABLES.model("gpt-oss-20b"), [OwnPrice("groq/openai/gpt-oss-20b", Decimal("0.07"), Decimal("0.3"))]
    (listed,) = offers_of(model, tables=TABLES, today=TODAY).current
    (given,) = offers_of(model, tables=TABLES, today=TODAY, own_prices=own).current
    assert (listed.precision, given.precision) == ("mxfp4", "mxfp4")
    assert (listed.batch_input_usd_per_mtok, listed.batch_output_usd_per_mtok) == (0.04, 0.15)
    flex, off_peak = listed.tiers
    assert (flex.kind, flex.output_usd_per_mtok, flex.utc_windows) == ("flex", 0.2, ())
    assert (off_peak.kind, off_peak.input_usd_per_mtok) == ("off_peak", 0.06)
    assert off_peak.utc_windows == ("16:30-00:30", "67@00:00-00:00")
    assert (given.batch_input_usd_per_mtok, given.tiers, given.source) == (None, (), "the configuration")


def test_a_cache_write_costs_what_it_is_dearer_than_input() -> None:
    found = offers_of("qwen3.8-27b", tables=TABLES, today=TODAY)
    (written,) = [api for api in found.current if api.provider == "StreamLake"]
    assert (written.input_usd_per_mtok, written.cache_write_usd_per_mtok) == (0.5, 0.125)


def test_a_dearer_region_of_a_seller_is_apart() -> None:
    found = offers_of(TABLES.model("llama-3-70b"), tables=TABLES, today=TODAY)
    assert [api.region for api in found.current if api.provider == "AWS Bedrock"] == [None]
    reasons = {each.price.region: each.reason for each in found.apart}
    assert reasons["eu-west-2"] == "in eu-west-2 alone"


def api(name: str, usd: float, **more: object) -> ApiPrice:
    return ApiPrice(provider=name, input_usd_per_mtok=usd, output_usd_per_mtok=usd, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("theirs", "own", "is_apart"),
    [
        ("int4", "fp8", True),
        ("mxfp4", "bf16", True),
        ("int4", "Q8_0", True),
        ("int4", "Q4_K_M", False),
        ("fp8", "bf16", False),
        ("fp8", "Q4_K_M", False),
        (None, "bf16", False),
        ("int4", None, False),
        ("of-their-own", "bf16", False),
    ],
)
def test_fewer_bits_than_8_against_8_or_more_are_apart(theirs: str | None, own: str | None, is_apart: bool) -> None:
    offers = Offers((api("Few", 0.1, precision=theirs), api("Full", 0.2)), (), ())
    found = like_for_like(offers, precision=own, tokens_per_request=2000)
    assert [price.provider for price in found.current] == (["Full"] if is_apart else ["Few", "Full"])
    assert [each.reason for each in found.apart] == ([f"weights in {theirs}, yours in {own}"] if is_apart else [])


@pytest.mark.parametrize(("tokens", "is_apart"), [(4096, False), (4097, True)])
def test_a_context_that_does_not_hold_a_request_is_apart(tokens: float, is_apart: bool) -> None:
    offers = Offers((api("Short", 0.1, context_tokens=4096),), (), ())
    found = like_for_like(offers, precision="fp8", tokens_per_request=tokens)
    reasons = [each.reason for each in found.apart]
    assert reasons == (["up to 4,096 tokens a request, yours have 4,097"] if is_apart else [])
    assert bool(found.current) is not is_apart


def test_offers_apart_are_shown_and_never_decide() -> None:
    offers = Offers((api("Tiny", 0.001, precision="int4"), api("Same", 0.5)), (), ())
    scenario = Scenario(
        model="llama-3.3-70b",
        traffic=Traffic(tokens_per_day=1e9),
        self_host=SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", gpu_usd_per_hour=2),
    )
    found = evaluate(scenario, offers=offers, today=TODAY)
    assert [price.provider for price in found.plan.apis] == ["Same"]
    document = as_document(found)
    assert [each["provider"] for each in document["apis"]] == ["Same"]
    assert [(each["provider"], each["reason"]) for each in document["apart_apis"]] == [
        ("Tiny", "weights in int4, yours in fp8")
    ]
    (shown,) = [table for table in tables(report(found), found) if table.heading.startswith("Sold otherwise")]
    assert shown.rows == [["Tiny", "$0.001", "$0.001", "weights in int4, yours in fp8"]]
    # A price that the user gave is compared, whatever is known of it.
    given = evaluate(replace(scenario, apis=[offers.current[0]]), today=TODAY)
    assert [price.provider for price in given.plan.apis] == ["Tiny"]


def test_where_all_offers_are_apart_the_sentence_says_so() -> None:
    scenario = Scenario(model="llama-3.3-70b", self_host=SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8"))
    found = evaluate(scenario, offers=Offers((api("Tiny", 0.1, precision="int4"),), (), ()), today=TODAY)
    assert found.verdict == "no-api"
    expected = (
        "No like-for-like offer of llama-3.3-70b is known: 1 offer is listed apart, so there is nothing to compare"
    )
    assert report(found).sentence.startswith(expected)


def test_a_target_may_be_named_and_another_model_is_marked() -> None:
    same = offer_named("Novita/meta-llama/llama-3.3-70b-instruct", model=LLAMA, tables=TABLES, today=TODAY)
    other = offer_named("groq/openai/gpt-oss-120b", model=LLAMA, tables=TABLES, today=TODAY)
    assert (same.is_same_model, other.is_same_model) == (True, False)
    assert (other.input_usd_per_mtok, other.output_usd_per_mtok) == (0.15, 0.6)
    spaced = offer_named("aws-bedrock/META.llama3-3-70b-instruct-v1:0", model=LLAMA, tables=TABLES, today=TODAY)
    assert (spaced.provider, spaced.is_same_model) == ("AWS Bedrock", True)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("groq/llama-3.3-70b-versatile", "groq retired llama-3.3-70b-versatile on 2026-08-16"),
        ("Novita/meta-llama/llama-3.3-70-instruct", "did you mean 'Novita/meta-llama/llama-3.3-70b-instruct'?"),
        ("Cerebras/llama-3.3-70b", "Cerebras does not sell llama-3.3-70b since 2026-02-16"),
        ("nobody/nothing", "known are AWS Bedrock/meta.llama3-3-70b-instruct-v1:0, "),
    ],
    ids=["retired", "misspelled", "ended", "unknown"],
)
def test_a_target_that_is_not_sold_is_an_error_that_says_so(target: str, wanted: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        offer_named(target, model=LLAMA, tables=TABLES, today=TODAY)
    assert caught.value.param == "api"
    assert wanted in str(caught.value)
