"""The table of the market: complete, sane, in agreement with the catalogue; where it is silent, that is said."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

import pytest

from llama_client import InvalidRequestError
from llama_client.catalog.catalog import Catalog, CatalogModel, Offer
from llama_client.catalog.prices import ListPrices
from llama_client.crossover import ApiPrice, PriceTier, Scenario, SelfHost, Tables, Traffic, evaluate, market
from llama_client.crossover.economics import usd_per_mtok
from llama_client.crossover.offers import Offers, is_sold, offer_named, offers_of
from llama_client.crossover.offers_report import prices_as_of
from llama_client.crossover.precisions import bits_of
from llama_client.crossover.report import report
from llama_client.errors import LlamaClientError
from tests.crossover.market_sources import COLUMNS, PRICE_COLUMNS, TABLE, read_table

TABLES, CATALOG = Tables.bundled(), Catalog.bundled()
TODAY = date(2026, 11, 30)
ROWS = read_table(TABLE)
HOSTED = [offer for offer in CATALOG.all_offers if offer.provider_kind in ("groq", "together")]


def name_of(model: str) -> str:
    """The table's name of a model of the catalogue."""
    try:
        return TABLES.model(model).name
    except InvalidRequestError:
        return model


def sold() -> Iterator[CatalogModel]:
    """The catalogue's models that a seller of the table has today."""
    names = {row["model"] for row in ROWS if not row["retires"] or row["retires"] > TODAY.isoformat()}
    return (model for model in CATALOG.models if name_of(model.name) in names)


SPELLINGS = [(model.name, name) for model in sold() for name in (model.name, *model.aliases)]


def test_most_models_of_the_catalogue_are_sold() -> None:
    assert {"gpt-oss-20b", "gpt-oss-120b", "muse-glimmer-30b", "qwen3.8-27b", "llama-4-scout"} <= {
        model.name for model in sold()
    }
    assert len(list(sold())) >= 14


@pytest.mark.parametrize(("model", "spelling"), SPELLINGS, ids=[name for _, name in SPELLINGS])
def test_no_model_is_called_unsold_while_a_seller_of_the_table_has_it(model: str, spelling: str) -> None:
    found = offers_of(spelling, tables=TABLES, today=TODAY)
    assert found.current
    if name_of(model) in {each.name for each in TABLES.models}:
        named = offers_of(TABLES.model(spelling), tables=TABLES, today=TODAY)
        assert [price.name for price in named.current] == [price.name for price in found.current]
        host = SelfHost(gpu="b200_sxm", n_gpus=8, tokens_per_second=1000, gpu_usd_per_hour=5)
        assert evaluate(Scenario(model=spelling, self_host=host), today=TODAY).verdict != "no-api"


def test_a_model_without_a_row_of_its_dimensions_is_compared_where_its_rate_is_given() -> None:
    host = SelfHost(n_gpus=16, tokens_per_second=5000, gpu_usd_per_hour=5)
    found = evaluate(Scenario(model="muse-spark-open", self_host=host), today=TODAY)
    assert {"Together", "Baseten", "Fireworks"} <= {price.provider for price in found.plan.apis}
    with pytest.raises(InvalidRequestError, match="'llama-9' is not in the tables"):
        evaluate(Scenario(model="llama-9", self_host=host), today=TODAY)
    wanted = "^model: the dimensions of 'muse-spark-open' are not in the tables, .* give tokens_per_second, or a row"
    with pytest.raises(InvalidRequestError, match=wanted):
        evaluate(Scenario(model="muse-spark-open", self_host=SelfHost(gpu="b200_sxm", n_gpus=8)), today=TODAY)


@pytest.mark.parametrize("name", ["llama-2-70b", "llama-2-7b", "llama-1-65b"])
def test_absence_is_said_as_what_it_is(name: str) -> None:
    found = evaluate(Scenario(model=name, self_host=SelfHost(gpu="b200_sxm", n_gpus=2)), today=TODAY)
    assert found.verdict == "no-api"
    count, day = len(market.sellers(TODAY)), market.last_checked()
    beginning = f"None of the {count} sellers listed here (checked {day}) has {name}, so there is nothing to compare"
    assert report(found).sentence.startswith(beginning)
    gone = [note for note in report(found).notes if note.startswith("No longer sold by")]
    assert bool(gone) == (name != "llama-1-65b")


def test_who_sells_it_again_is_not_said_to_have_stopped() -> None:
    host = SelfHost(gpu="b200_sxm", n_gpus=1)
    found = evaluate(Scenario(model="llama-3.3-70b", self_host=host), today=TODAY)
    (gone,) = [note for note in report(found).notes if note.startswith("No longer sold by")]
    sells = {price.provider for price in found.plan.apis}
    assert not [seller for seller in sells if f"{seller} (" in gone]
    assert "Groq (2026-08-16)" in gone
    assert "Lambda (2025-09-25)" in gone


def test_of_several_ends_of_a_seller_the_last_is_told_and_none_of_who_still_sells() -> None:
    def ended(seller: str, day: date) -> ApiPrice:
        return ApiPrice(provider=seller, input_usd_per_mtok=1, output_usd_per_mtok=1, available_until=day)

    current = (ApiPrice(provider="Still", input_usd_per_mtok=1, output_usd_per_mtok=1),)
    days = (date(2026, 3, 1), date(2026, 5, 1), date(2026, 4, 1))
    offers = Offers(current, (*(ended("Gone", day) for day in days), ended("Still", days[0])), ())
    scenario = Scenario(model="llama-3.3-70b", self_host=SelfHost(gpu="b200_sxm"))
    notes = report(evaluate(scenario, offers=offers, today=TODAY)).notes
    assert [note for note in notes if note.startswith("No longer")] == ["No longer sold by Gone (2026-05-01)."]


def test_the_number_of_sellers_is_that_of_the_day() -> None:
    today, later = market.sellers(TODAY), market.sellers(date(2028, 1, 1))
    assert len(today) >= 15
    assert set(later) < set(today)
    assert "Lambda" not in today
    assert "Lambda" in market.sellers(date(2025, 9, 24))


def test_columns_are_those_of_the_readers() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(line for line in file if not line.startswith("#")))
    assert tuple(header) == COLUMNS


def test_no_offer_is_listed_twice() -> None:
    names = Counter((row["seller"].lower(), row["id"].lower(), row["region"]) for row in ROWS)
    assert [name for name, count in names.items() if count > 1] == []
    # Two names of one offer at one price; ended ones may have been two.
    prices = Counter((row["model"], row["seller"], row["input"], row["output"]) for row in ROWS if not row["retires"])
    assert [price for price, count in prices.items() if count > 1] == []


def test_gateways_are_no_sellers() -> None:
    words = ("vercel", "openrouter", "kyma", "hugging", "gateway", "llamagate", "quicksilver")
    assert [row["seller"] for row in ROWS if any(word in row["seller"].lower() for word in words)] == []


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['seller']}-{row['id']}-{row['region']}" for row in ROWS])
def test_a_row_is_sane(row: dict[str, str]) -> None:
    prices = {name: Decimal(row[name]) for name in PRICE_COLUMNS if row[name]}
    assert all(text == f"{Decimal(text).normalize():f}" for name in PRICE_COLUMNS if (text := row[name]))
    usual = prices["input"], prices["output"]
    assert all(Decimal(0) < price < Decimal(100) for price in usual)
    assert prices["output"] <= 15 * prices["input"]
    assert prices.get("cached", Decimal(0)) < usual[0]
    assert prices.get("cache_write", usual[0] + 1) > usual[0]
    for tier in ("batch", "flex", "off_peak"):
        lower = [prices.get(f"{tier}_{kind}") for kind in ("input", "output")]
        assert (lower[0] is None) == (lower[1] is None)
        assert all(Decimal(0) < price < full for price, full in zip(lower, usual, strict=True) if price is not None)
    assert bool(row["off_peak_utc"]) == ("off_peak_input" in prices)
    first, last = (date.fromisoformat(row[name]) for name in ("first_seen", "last_confirmed"))
    assert date(2023, 1, 1) < first <= last <= market.last_checked()
    assert not row["retires"] or date.fromisoformat(row["retires"]) > date(2024, 1, 1)
    assert row["source"]
    assert row["precision"] == "" or bits_of(row["precision"])
    assert all(not row[name] or 0 < int(row[name]) < 10**8 for name in ("context_tokens", "max_output_tokens"))
    known = {model.name for model in TABLES.models} | {model.name for model in CATALOG.models}
    assert row["model"] in known
    (offer,) = [
        each.price
        for each in market.offers(row["model"])
        if (each.price.provider, each.price.model, each.price.region or "") == (row["seller"], row["id"], row["region"])
    ]
    assert (offer.input_usd_per_mtok, offer.output_usd_per_mtok) == tuple(map(float, usual))


@pytest.mark.parametrize("offer", HOSTED, ids=lambda offer: offer.target)
def test_the_catalogue_and_the_table_agree(offer: Offer) -> None:
    day = min(TODAY, offer.deprecated_on or TODAY)
    price = ListPrices.bundled().of(offer.provider_kind, offer.id, day)
    rows = [row for row in ROWS if (row["seller"].lower(), row["id"]) == (offer.provider_kind, offer.id)]
    if price is None:
        assert rows == []
        return
    (row,) = rows
    assert row["model"] == name_of(offer.name)
    assert Decimal(row["input"]) == price.input_usd_per_mtok
    assert Decimal(row["output"]) == price.output_usd_per_mtok
    assert (Decimal(row["cached"]) if row["cached"] else None) == price.cached_usd_per_mtok
    assert row["retires"] == str(offer.deprecated_on or "")


def test_the_table_has_no_offer_of_a_provider_of_the_catalogue_that_it_lacks() -> None:
    ours = {(row["seller"].lower(), row["id"]) for row in ROWS if row["seller"] in ("Groq", "Together")}
    assert ours <= {(offer.provider_kind, offer.id) for offer in HOSTED}


def test_rows_that_were_not_confirmed_for_60_days_are_flagged_in_the_report() -> None:
    host = SelfHost(gpu="b200_sxm", n_gpus=1)

    def flagged(day: date) -> set[str]:
        found = evaluate(Scenario(model="llama-3.3-70b", self_host=host), today=day)
        return {each.name for each in report(found).stale if each.name.startswith("api: ")}

    assert "api: DeepInfra meta-llama/Llama-3.3-70B-Instruct-Turbo" not in flagged(TODAY)
    later = market.last_checked() + timedelta(days=61)
    sold_then = [each.price for each in market.offers("llama-3.3-70b") if is_sold(each.price, later)]
    assert flagged(later) == {f"api: {price.name}" for price in sold_then}


def test_the_day_of_prices_is_that_of_the_rows() -> None:
    days = [date(2026, 11, 20), date(2026, 11, 3), None]
    prices = [ApiPrice(input_usd_per_mtok=1, output_usd_per_mtok=1, as_of=day) for day in days]
    assert market.checked_on(prices) == date(2026, 11, 3)
    assert market.checked_on(prices[2:]) is None
    host = SelfHost(gpu="b200_sxm", n_gpus=1)
    found = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=prices), today=date(2027, 5, 5))
    assert prices_as_of(found) == "The compared prices were last confirmed on 2026-11-03 or later."
    without = evaluate(Scenario(model="llama-1-65b", self_host=host), today=date(2027, 5, 5))
    assert prices_as_of(without) == f"The table of sellers was last checked on {market.last_checked()}."


def test_batch_prices_of_their_own_and_a_discount_cost_the_same() -> None:
    traffic = Traffic(output_share=0.25, cached_share=0.5, batch_share=0.4, tokens_per_request=2000, peak_to_mean=1)
    usual = {"input_usd_per_mtok": 0.2, "output_usd_per_mtok": 0.8}

    def cost(**more: float) -> float:
        price = ApiPrice(**(usual | more))  # type: ignore[arg-type]
        host = SelfHost(tokens_per_second=1000, gpu_usd_per_hour=2)
        found = evaluate(Scenario(model=None, traffic=traffic, self_host=host, apis=[price]), today=TODAY)
        return usd_per_mtok(price, found.plan)

    plain = 0.75 * 0.2 + 0.25 * 0.8
    assert cost() == pytest.approx(plain)
    assert cost(batch_discount=0.5) == pytest.approx(plain * 0.8)
    own = {"batch_input_usd_per_mtok": 0.1, "batch_output_usd_per_mtok": 0.4}
    assert cost(**own) == pytest.approx(plain * 0.8)
    # With half of the input for nothing, the usual price is below a batch price of all input.
    dear = {"batch_input_usd_per_mtok": 0.2, "batch_output_usd_per_mtok": 0.8}
    assert cost(cached_usd_per_mtok=0, **dear) == pytest.approx(0.75 * 0.5 * 0.2 + 0.2)
    # What is written to a cache costs only those who read from it.
    assert cost(cache_write_usd_per_mtok=0.1) == pytest.approx(plain + 0.75 * 0.5 * 0.1)
    traffic = Traffic(output_share=0.25, tokens_per_request=2000, peak_to_mean=1)
    assert cost(cache_write_usd_per_mtok=0.1) == pytest.approx(plain)


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"batch_input_usd_per_mtok": 1}, "api.batch_output_usd_per_mtok: is required beside batch_input_usd_per_mtok"),
        (
            {"batch_output_usd_per_mtok": 1},
            "api.batch_input_usd_per_mtok: is required beside batch_output_usd_per_mtok",
        ),
        (
            {"batch_input_usd_per_mtok": 1, "batch_output_usd_per_mtok": 1, "batch_discount": 0.5},
            "api.batch_discount: give either this or the prices of the batch API",
        ),
        ({"tiers": ["flex"]}, "api.tiers: must be a tuple of PriceTier"),
        ({"tiers": None}, "api.tiers: must be a tuple of PriceTier"),
        ({"precision": ""}, "api.precision: must be a name"),
        ({"region": 3}, "api.region: must be a name"),
        ({"context_tokens": 0}, "api.context_tokens: must be a whole number from 1"),
        ({"context_tokens": 4096.5}, "api.context_tokens: must be a whole number from 1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_price_that_contradicts_itself_is_refused(more: dict[str, object], wanted: str) -> None:
    with pytest.raises(LlamaClientError, match=wanted):
        ApiPrice(input_usd_per_mtok=1, output_usd_per_mtok=1, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "windows", "wanted"),
    [
        ("cheap", (), "api.tiers.kind: must be one of flex, off_peak"),
        ("off_peak", (), "api.tiers.utc_windows: must have hours"),
        ("flex", ("00:00-08:00",), "api.tiers.utc_windows: must be empty beside flex"),
        ("off_peak", ("24:00-08:00",), "must be hours as in 16:30-00:30"),
        ("off_peak", ("8@00:00-08:00",), "must be hours as in 16:30-00:30"),
        ("off_peak", ("00:00-08:00 ",), "must be hours as in 16:30-00:30"),
        ("off_peak", "00:00-08:00", "must be a tuple of texts"),
        ("off_peak", (8,), "must be a tuple of texts"),
    ],
)
def test_a_tier_that_cannot_be_is_refused(kind: str, windows: object, wanted: str) -> None:
    with pytest.raises(InvalidRequestError, match=wanted):
        PriceTier(kind=kind, input_usd_per_mtok=1, output_usd_per_mtok=1, utc_windows=windows)  # type: ignore[arg-type]


def test_a_tier_keeps_its_hours() -> None:
    windows = ("16:30-00:30", "67@00:00-00:00")
    tier = PriceTier(kind="off_peak", input_usd_per_mtok=0.1, output_usd_per_mtok=0, utc_windows=windows)
    assert tier.utc_windows == windows
    with pytest.raises(InvalidRequestError, match=r"api\.tiers\.output_usd_per_mtok"):
        PriceTier(kind="flex", input_usd_per_mtok=0.1, output_usd_per_mtok=-1)


def test_an_offer_with_dearer_regions_is_named_at_the_price_that_holds_everywhere() -> None:
    rows = [row for row in market.all_offers() if is_sold(row.price, TODAY)]
    regional = {(row.price.provider, row.price.model) for row in rows if row.price.region is not None}
    assert regional
    for seller, model_id in sorted(regional):
        prices = [row.price for row in rows if (row.price.provider, row.price.model) == (seller, model_id)]
        wanted = min(prices, key=lambda price: (price.region is not None, price.input_usd_per_mtok))
        found = offer_named(f"{seller}/{model_id}", model=None, tables=TABLES, today=TODAY)
        assert (found.region, found.input_usd_per_mtok) == (wanted.region, wanted.input_usd_per_mtok)
