"""The list prices that come with the package: what each row must hold, and which of them holds when."""

from __future__ import annotations

import tomllib
from datetime import date, timedelta
from decimal import Decimal
from itertools import combinations
from pathlib import Path

import pytest

import llama_client.catalog
from llama_client.catalog.catalog import Catalog
from llama_client.catalog.prices import ListPrice, ListPrices

DAY = date(2026, 12, 1)
FILE = Path(llama_client.catalog.__file__).with_name("prices.toml")
ROWS = tomllib.loads(FILE.read_text(encoding="utf-8"))["prices"]
KEYS = ("input_usd_per_mtok", "output_usd_per_mtok", "cached_usd_per_mtok")


@pytest.fixture(scope="module")
def prices() -> ListPrices:
    # Read anew, not as another test may have left it.
    ListPrices.bundled.cache_clear()
    return ListPrices.bundled()


def test_money_is_text_in_the_file_and_a_decimal_here(prices: ListPrices) -> None:
    assert all(isinstance(row[key], str) for row in ROWS for key in KEYS if key in row)
    assert all(0 < row.input_usd_per_mtok < 100 and 0 < row.output_usd_per_mtok < 100 for row in prices.all())


def test_cached_tokens_are_never_dearer_than_others(prices: ListPrices) -> None:
    assert all((row.cached_usd_per_mtok or 0) <= row.input_usd_per_mtok for row in prices.all())


def test_the_price_of_a_day_is_found_by_provider_model_and_day(prices: ListPrices) -> None:
    found = prices.of("groq", "openai/gpt-oss-20b", DAY)
    assert found is not None
    assert found.input_usd_per_mtok == Decimal("0.075")
    together = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    by_month = [prices.of("together", together, date(2026, month, 1)) for month in (5, 6)]
    assert [row and row.output_usd_per_mtok for row in by_month] == [Decimal("0.88"), Decimal("1.04")]
    assert prices.of("groq", "an-id-of-tomorrow", DAY) is None


def test_every_row_has_a_source_and_the_day_on_which_it_was_checked(prices: ListPrices) -> None:
    assert all(row.source and row.checked_on <= DAY for row in prices.all())


def test_no_two_rows_hold_on_the_same_day_for_the_same_tier(prices: ListPrices) -> None:
    def overlap(one: ListPrice, two: ListPrice) -> bool:
        begins = max(one.effective_from or date.min, two.effective_from or date.min)
        return one.holds_on(begins) and two.holds_on(begins)

    for one, two in combinations(prices.all(), 2):
        if (one.provider_kind, one.id, one.service_tier) == (two.provider_kind, two.id, two.service_tier):
            assert not overlap(one, two), one


def test_every_priced_model_is_in_the_catalogue_and_none_of_them_is_local(prices: ListPrices) -> None:
    catalog = Catalog.bundled()
    assert all(catalog.offer(row.provider_kind, row.id) is not None for row in prices.all())
    assert {row.provider_kind for row in prices.all()} == {"groq", "together"}


def test_what_is_served_today_has_a_price(prices: ListPrices) -> None:
    offers = [o for o in Catalog.bundled().all_offers if o.provider_kind != "ollama" and o.is_served(DAY)]
    unpriced = [o.id for o in offers if not o.unverified and prices.of(o.provider_kind, o.id, DAY) is None]
    assert unpriced == []


def test_prices_are_those_of_the_sources(prices: ListPrices) -> None:
    row = prices.of("groq", "openai/gpt-oss-20b", DAY)
    assert row is not None
    assert (row.input_usd_per_mtok, row.output_usd_per_mtok) == (Decimal("0.075"), Decimal("0.30"))
    assert row.cached_usd_per_mtok == Decimal("0.0375")


def test_a_price_that_rose_is_the_old_one_before_that_day(prices: ListPrices) -> None:
    rose = date(2026, 6, 1)
    model = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    before, after = (prices.of("together", model, day) for day in (rose - timedelta(1), rose))
    assert before is not None
    assert after is not None
    assert (before.input_usd_per_mtok, after.input_usd_per_mtok) == (Decimal("0.88"), Decimal("1.04"))
    assert before.effective_until == after.effective_from == rose


def test_a_tier_without_a_row_has_the_usual_price(prices: ListPrices) -> None:
    usual = prices.of("groq", "openai/gpt-oss-20b", DAY)
    assert prices.of("groq", "openai/gpt-oss-20b", DAY, service_tier="flex") == usual


def test_an_unknown_model_has_no_price(prices: ListPrices) -> None:
    assert prices.of("groq", "of-tomorrow", DAY) is None
    assert prices.of("openai", "openai/gpt-oss-20b", DAY) is None


@pytest.mark.parametrize(
    ("target", "share"),
    [
        pytest.param("groq/llama-3.1-8b-instant", Decimal("0.5"), id="groq"),
        pytest.param("together/meta-llama/Llama-3.3-70B-Instruct-Turbo", Decimal("0.5"), id="together-discounted"),
        pytest.param("together/openai/gpt-oss-120b", Decimal(1), id="together-others"),
    ],
)
def test_the_price_of_a_batch_is_a_tier_of_its_own(prices: ListPrices, target: str, share: Decimal) -> None:
    kind, _, model = target.partition("/")
    usual, batch = (prices.of(kind, model, DAY, service_tier=tier) for tier in (None, "batch"))
    assert usual is not None
    assert batch is not None
    assert batch.service_tier == "batch"
    assert batch.input_usd_per_mtok == usual.input_usd_per_mtok * share
    assert batch.output_usd_per_mtok == usual.output_usd_per_mtok * share
    # A batch has no discount for cached tokens beside its own.
    assert batch.cached_usd_per_mtok is None


def test_a_tier_is_never_dearer_than_the_usual_one(prices: ListPrices) -> None:
    for row in prices.all():
        usual = prices.of(row.provider_kind, row.id, DAY)
        if row.service_tier is not None and usual is not None:
            assert row.input_usd_per_mtok <= usual.input_usd_per_mtok, row
            assert row.output_usd_per_mtok <= usual.output_usd_per_mtok, row
