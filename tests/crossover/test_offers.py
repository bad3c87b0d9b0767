"""Who sells a model on a day, for how much, and who no longer does."""

from datetime import date
from decimal import Decimal

import pytest

from llama_client import InvalidRequestError
from llama_client.catalog.catalog import Catalog, UserRow
from llama_client.crossover.offers import OwnPrice, offer_named, offers_of
from llama_client.crossover.tables import Tables

TABLES = Tables.bundled()
LLAMA = TABLES.model("llama-3.3-70b")
TODAY = date(2026, 11, 26)


def test_a_model_is_offered_by_whoever_sold_it_on_that_day() -> None:
    def sellers(day: date) -> set[str]:
        return {api.provider for api in offers_of(LLAMA, tables=TABLES, today=day).current}

    assert {"Groq", "Cerebras", "Novita"} <= sellers(date(2026, 2, 15))
    assert "Cerebras" not in sellers(date(2026, 2, 16))
    assert "Groq" in sellers(date(2026, 8, 15))
    assert sellers(TODAY) == {"Novita", "AWS Bedrock"}


def test_every_price_has_a_source_and_a_day() -> None:
    for model in TABLES.models:
        found = offers_of(model, tables=TABLES, today=TODAY)
        for api in (*found.current, *found.ended):
            assert api.source
            assert api.as_of is not None


def test_the_users_own_price_and_row_win() -> None:
    catalog = Catalog.bundled().extended([UserRow("groq/llama-3.3-70b-versatile", "llama-3.3-70b")])
    own = [OwnPrice("groq/llama-3.3-70b-versatile", Decimal("0.40"), Decimal("0.50"))]
    found = offers_of(LLAMA, tables=TABLES, today=TODAY, catalog=catalog, own_prices=own)
    groq = next(api for api in found.current if api.provider == "Groq")
    assert (groq.input_usd_per_mtok, groq.output_usd_per_mtok, groq.source) == (0.4, 0.5, "the configuration")


def test_a_target_may_be_named_and_another_model_is_marked() -> None:
    same = offer_named("Novita/llama-3.3-70b", model=LLAMA, tables=TABLES, today=TODAY)
    other = offer_named("groq/openai/gpt-oss-120b", model=LLAMA, tables=TABLES, today=TODAY)
    assert (same.is_same_model, other.is_same_model) == (True, False)
    assert (other.input_usd_per_mtok, other.output_usd_per_mtok) == (0.15, 0.6)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("groq/llama-3.3-70b-versatile", "groq retired llama-3.3-70b-versatile on 2026-08-16"),
        ("Novita/llama-3.3-70", "did you mean 'Novita/llama-3.3-70b'?"),
        ("Cerebras/llama-3.3-70b", "is not in the tables"),
    ],
)
def test_a_target_that_is_not_sold_is_an_error_that_says_so(target: str, wanted: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        offer_named(target, model=LLAMA, tables=TABLES, today=TODAY)
    assert caught.value.param == "api"
    assert wanted in str(caught.value)
