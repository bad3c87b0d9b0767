"""Where a price comes from: which servers have a public one, what a lookup costs, and what is free."""

from __future__ import annotations

import sys
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from llama_client.catalog.prices import ListPrice, ListPrices
from llama_client.costs.money import Calendar
from llama_client.costs.prices import GenaiPrice, HourPrice, Origin, PriceBook, TokenPrice
from tests.costs.test_pricing import DAY, PRICE, Seller, SellersByName, book

OPENAI_URL = "https://api.openai.com/v1"


def at(*day: int) -> float:
    return datetime(*day, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


# The package's prices


@pytest.mark.parametrize(
    ("url", "model"),
    [
        ("https://api.openai.com.internal/v1", "gpt-5"),
        ("https://api.openai.com.local/v1", "gpt-5"),
        ("https://api.openai.com.localhost/v1", "gpt-5"),
        ("https://10.0.0.7/v1.googleapis.com", "gemini-2.5-flash"),
        ("https://127.0.0.1/v1.googleapis.com", "gemini-2.5-flash"),
        ("https://[::1]/v1.googleapis.com", "gemini-2.5-flash"),
        ("https://localhost/v1.googleapis.com", "gemini-2.5-flash"),
        ("https://gpu-box/v1.googleapis.com", "gemini-2.5-flash"),
    ],
)
def test_a_server_nearby_has_no_public_price_whatever_its_address_looks_like(url: str, model: str) -> None:
    assert book(x=Seller("x", "openai", url)).price("x", model, DAY, is_free=False) is None


def test_a_server_is_priced_by_its_address() -> None:
    url = "https://generativelanguage.googleapis.com/v1beta/openai"
    found = book(x=Seller("x", "openai", url)).price("x", "gemini-2.5-flash", DAY, is_free=False)
    assert isinstance(found, GenaiPrice)
    assert found.origin.doubt is None
    assert not found.is_nothing


def test_a_cloud_is_priced_by_its_name_wherever_it_is_reached() -> None:
    found = book(m=Seller("m", "mistral", "http://127.0.0.1:1/v1")).price(
        "m", "mistral-large-latest", DAY, is_free=False
    )
    assert isinstance(found, GenaiPrice)


def test_a_model_that_is_not_paid_by_the_token_has_no_price_of_tokens() -> None:
    assert book().price("groq", "canopylabs/orpheus-arabic-saudi", DAY, is_free=False) is None


def test_a_path_of_a_model_is_known_by_its_last_part_without_a_doubt() -> None:
    prices = book(x=Seller("x", "openai", OPENAI_URL))
    for model in ("GPT-5", "models/gpt-5", "gpt-5-2025-08-07", "gpt-5-0807"):
        found = prices.price("x", model, DAY, is_free=False)
        assert found is None or found.origin.doubt is None, model


def test_an_id_that_is_a_path_is_known_by_its_last_part() -> None:
    found = book(f=Seller("f", "fireworks")).price("f", "accounts/fireworks/models/gpt-oss-20b", DAY, is_free=False)
    assert found is not None
    assert found.origin.doubt is None


def test_a_service_whose_prices_are_not_exact_says_why_beside_other_doubts() -> None:
    prices = book(d=Seller("d", "deepseek"))
    found = prices.price("d", "deepseek-v4-flash", at(2026, 8, 20), is_free=False)
    assert found is not None
    assert found.origin.doubt is not None
    assert "busy hours" in found.origin.doubt
    both = prices.price("d", "deepseek-v4-flash", at(2026, 8, 20), is_free=False, service_tier="flex")
    assert both is not None
    assert both.origin.doubt == f"{found.origin.doubt}; no price known for tier 'flex'; the default tier's is used"


def test_a_dated_price_tells_the_day_from_which_it_holds() -> None:
    prices = book(d=Seller("d", "deepseek"))
    before, dated = (prices.price("d", "deepseek-v4-flash", at(2026, 8, day), is_free=False) for day in (1, 20))
    assert before is not None
    assert dated is not None
    assert (before.origin.effective_from, dated.origin.effective_from) == (None, date(2026, 8, 17))


def test_the_day_of_a_dated_price_is_not_that_of_the_machine_s_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        prices = book(d=Seller("d", "deepseek"))
        # Five o'clock of the day after in that time zone, at which no peak hides the day.
        moment = at(2026, 8, 16, 15)
        found, again = (prices.price("d", "deepseek-v4-flash", moment, is_free=False) for _ in range(2))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found is not None
    assert again is not None
    assert (found.origin.effective_from, again.origin.effective_from) == (None, None)


def test_the_share_of_a_prompt_that_was_not_cached_keeps_its_share_of_the_price() -> None:
    found = book(x=Seller("x", "openai", OPENAI_URL)).price("x", "gpt-5", DAY, is_free=False)
    assert isinstance(found, GenaiPrice)
    parts = found.parts(3, 0, 1)
    assert parts.input_usd == Decimal("0.0000025")
    assert parts.usd == parts.input_usd + parts.cached_usd + parts.output_usd
    assert found.parts(1000, 0) == (Decimal("0.00125"), Decimal(0), Decimal(0))


# What is nothing


@pytest.mark.parametrize("usd", [(1, 0, None), (0, 1, None), (0, 0, 1), (0, 0, None), (0, 0, 0)])
def test_only_what_costs_nothing_in_every_part_is_nothing(usd: tuple[int, int, int | None]) -> None:
    input_usd, output_usd, cached_usd = usd
    price = TokenPrice(
        Origin("mine"), Decimal(input_usd), Decimal(output_usd), None if cached_usd is None else Decimal(cached_usd)
    )
    assert price.is_nothing == (not any(usd))


def test_a_machine_that_costs_nothing_an_hour_costs_nothing() -> None:
    assert HourPrice(Origin("mine"), Decimal(0)).is_nothing
    assert not HourPrice(Origin("mine"), Decimal("0.01")).is_nothing
    assert HourPrice(Origin("mine"), Decimal("3.6")).usd(10) == Decimal("0.01")


def test_cached_tokens_without_a_price_of_their_own_cost_what_others_do() -> None:
    price = TokenPrice(Origin("mine"), Decimal(1), Decimal(2))
    assert price.parts(1000, 10, 400) == (Decimal("0.0006"), Decimal("0.0004"), Decimal("0.00002"))


def test_no_token_is_cached_unless_it_is_said() -> None:
    price = TokenPrice(Origin("mine"), Decimal(1), Decimal(2), Decimal(3), Decimal(4))
    assert price.parts(1000, 10) == (Decimal("0.001"), Decimal(0), Decimal("0.00002"))
    found = book(a=Seller("a", "openai", "https://api.anthropic.com/v1")).price(
        "a", "claude-haiku-4-5", DAY, is_free=False
    )
    assert isinstance(found, GenaiPrice)
    # $1 a million; what is written to the cache would cost $1.25, what is read from it $0.10.
    assert found.parts(1000, 0) == (Decimal("0.001"), Decimal(0), Decimal(0))
    assert found.parts(1000, 0, 0, 400) == (Decimal("0.0011"), Decimal(0), Decimal(0))


# Which are asked


def row(model: str = "m", kind: str = "openai", **more: Any) -> ListPrice:
    facts = {"source": "a page", "checked_on": date(2026, 11, 1), "input_usd_per_mtok": Decimal(1), **more}
    return ListPrice(kind, model, output_usd_per_mtok=Decimal(2), **facts)


def listed(*rows: ListPrice, own: list[dict[str, Any]] | None = None, **seller: Any) -> PriceBook:
    from llama_client.config.schema import read_config

    config = read_config({"prices": own or []}, origin="test")
    sellers = SellersByName({"x": Seller("x", "openai", **seller)}, ListPrices(rows))
    return PriceBook(config.prices, sellers, Calendar("UTC"))


def test_a_price_is_at_hand_where_it_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "genai_prices", raising=False)
    assert not listed().is_at_hand("x", "m", DAY, is_free=False)
    assert listed().is_at_hand("x", "m", DAY, is_free=True)
    assert listed(own=[PRICE]).is_at_hand("x", "m", DAY, is_free=False)
    assert listed(row()).is_at_hand("x", "m", DAY, is_free=False)
    assert listed(usd_per_hour=Decimal(1)).is_at_hand("x", "m", DAY, is_free=False)
    # Nor for another model, or a day on which the row does not hold.
    assert not listed(row(), own=[PRICE]).is_at_hand("x", "other", DAY, is_free=False)
    assert not listed(row(effective_until=date(2026, 11, 24))).is_at_hand("x", "m", DAY, is_free=False)
    # Once looked up, it is remembered.
    looked_up = listed()
    assert looked_up.price("x", "m", DAY, is_free=False) is None
    monkeypatch.delitem(sys.modules, "genai_prices", raising=False)
    assert looked_up.is_at_hand("x", "m", DAY, is_free=False)


def test_an_imported_package_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = listed()
    prices.load_package()
    assert "genai_prices" in sys.modules
    assert prices.is_at_hand("x", "m", DAY, is_free=False)


def test_the_prices_of_any_tier_are_those_of_all_rows_and_of_the_tier_that_is_asked_for() -> None:
    rows = [row(), row(service_tier="flex", input_usd_per_mtok=Decimal(3))]
    own = [{**PRICE, "service_tier": "mine", "input_usd_per_mtok": 7}]
    found = listed(*rows, own=own).of_any_tier("x", "m", DAY, is_free=False, service_tier="priority")
    doubts = {price.origin.doubt for price in found if price is not None}
    # `mine` is the user's own; `priority` has no row, so it is charged as usual with a doubt.
    assert doubts == {None, "no price known for tier 'priority'; the default tier's is used"}
    assert {str(price.input_usd_per_mtok) for price in found if isinstance(price, TokenPrice)} == {"1", "3", "7"}
    # One and the same price is there once.
    assert len(listed(row()).of_any_tier("x", "m", DAY, is_free=False, service_tier=None)) == 1


def test_a_price_says_whose_it_is_and_since_when() -> None:
    since = date(2026, 2, 3)
    own = listed(own=[{**PRICE, "effective_from": since}]).price("x", "m", DAY, is_free=False)
    of_list = listed(row(effective_from=since)).price("x", "m", DAY, is_free=False)
    of_machine = listed(usd_per_hour=Decimal(2)).price("x", "m", DAY, is_free=False)
    found = [price.origin for price in (own, of_list, of_machine) if price is not None]
    assert found == [
        Origin("the configuration", since, is_own=True),
        Origin("a page", since),
        Origin("the time of the machine", is_own=True),
    ]
    assert isinstance(of_machine, HourPrice)
    assert of_machine.usd_per_hour == 2


def test_what_is_written_to_the_cache_has_the_price_of_the_row() -> None:
    written: dict[str, Any] = {"cached_usd_per_mtok": Decimal(3), "cache_write_usd_per_mtok": Decimal(4)}
    for prices in (listed(row(**written)), listed(own=[{**PRICE, "input_usd_per_mtok": 1, **written}])):
        found = prices.price("x", "m", DAY, is_free=False)
        assert isinstance(found, TokenPrice)
        # Of ten tokens, two are read from the cache and five written there.
        assert (found.parts(10, 0, 2, 5).input_usd, found.parts(10, 0, 2, 5).cached_usd) == (
            Decimal("0.000023"), Decimal("0.000006"),
        )  # fmt: skip


def test_free_and_priced_of_one_target_are_not_mixed_up() -> None:
    prices = listed(row())
    free, priced = (prices.price("x", "m", DAY, is_free=is_free) for is_free in (True, False))
    assert free is not None
    assert priced is not None
    assert (free.is_nothing, priced.is_nothing) == (True, False)


def test_a_row_that_nobody_verified_keeps_its_own_doubt() -> None:
    found = listed(row(unverified="two sources disagree")).price("x", "m", DAY, is_free=False, service_tier="flex")
    assert found is not None
    assert found.origin.doubt == "two sources disagree"
    assert found.origin.warning is None


@pytest.mark.parametrize(("days", "warns"), [(60, False), (61, True)])
def test_a_row_is_old_after_sixty_days(days: int, warns: bool) -> None:
    checked_on = date.fromordinal(date(2026, 11, 24).toordinal() - days)
    found = listed(row(checked_on=checked_on)).price("x", "m", DAY, is_free=False)
    assert found is not None
    assert found.origin.warning == (
        f"the list price of x/m was last checked on {checked_on}, 61 days before the call; upgrade llama-client, or "
        "add a row to [[prices]]"
        if warns
        else None
    )


def test_of_rows_without_a_day_and_with_one_the_one_with_a_day_is_newer() -> None:
    rows = ListPrices([row(effective_from=date(2026, 1, 1)), row()])
    found = rows.of("openai", "m", date(2026, 11, 24))
    assert found is not None
    assert found.effective_from == date(2026, 1, 1)
    earlier = rows.of("openai", "m", date(2025, 1, 1))
    assert earlier is not None
    assert earlier.effective_from is None
    assert rows.of("openai", "m", date(2026, 11, 24), service_tier="flex") is found
    assert rows.tiers("openai", "m") == {None}
    assert rows.tiers("openai", "other") == set()
    assert len(rows.all()) == 2
    assert rows.of("groq", "m", date(2026, 11, 24)) is None


def test_prices_of_models_without_end_are_found_anew_and_stay_right() -> None:
    prices = listed(row("m0"))
    for n in range(2_100):
        assert prices.price("x", f"made-up-{n}", DAY, is_free=True) is not None
    found = prices.price("x", "m0", DAY, is_free=False)
    assert found is not None
    assert not found.is_nothing


# Prices that depend on the hour: DeepSeek's peaks, from 1 to 4 and from 6 to 10 o'clock of UTC.


@pytest.mark.parametrize(
    ("kind", "url"), [("deepseek", None), ("openai", "https://api.deepseek.com/v1")], ids=["by name", "by address"]
)
@pytest.mark.parametrize("first", [0, 2, 12], ids=lambda hour: f"first at {hour}")
def test_a_price_by_the_hour_is_that_of_the_call_s_hour_whichever_was_asked_first(
    kind: str, url: str | None, first: int
) -> None:
    prices = book(d=Seller("d", kind, url))

    def usd(*moment: int) -> Decimal:
        found = prices.price("d", "deepseek-v4-flash", at(2026, 11, 25, *moment), is_free=False)
        assert isinstance(found, GenaiPrice)
        assert "busy hours" in (found.origin.doubt or "")
        return found.parts(1_000_000, 1_000_000).usd

    usd(first)
    by_hour = {hour: usd(*hour) for hour in ((0, 59), (1, 0), (3, 59), (4, 0), (6, 0), (9, 59), (10, 0), (23, 0))}
    peak, usual = Decimal("1.5"), Decimal("0.75")
    assert by_hour == {
        (0, 59): usual, (1, 0): peak, (3, 59): peak, (4, 0): usual,
        (6, 0): peak, (9, 59): peak, (10, 0): usual, (23, 0): usual,
    }  # fmt: skip


def test_a_dated_price_begins_with_its_day_in_utc_also_in_the_middle_of_a_day_elsewhere() -> None:
    prices = book(zone="America/Los_Angeles", d=Seller("d", "deepseek"))
    moments = (at(2026, 8, 16, 23, 30), at(2026, 8, 17, 0, 30))
    found = [prices.price("d", "deepseek-v4-flash", moment, is_free=False) for moment in moments]
    assert [each.origin.effective_from for each in found if each is not None] == [None, date(2026, 8, 17)]


@pytest.mark.parametrize("model", ["MiniMaxAI/MiniMax-M3", "minimaxai/minimax-m3", "MINIMAXAI/MINIMAX-M3"])
def test_capitals_in_an_id_are_no_doubt_about_its_price(model: str) -> None:
    found = book(t=Seller("t", "together")).price("t", model, DAY, is_free=False)
    assert found is not None
    assert found.origin.doubt is None
