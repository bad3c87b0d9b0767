"""The command that compares the market table with newer price maps, on invented ones."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.crossover.market_sources import (
    COLUMNS,
    NO_SELLERS,
    PASSED_OVER,
    SELLERS,
    TABLE,
    Row,
    compare,
    main,
    model_of,
    of_genai_prices,
    of_litellm,
    of_models_dev,
    precision_of,
    read_map,
    read_table,
    stale,
)

DAY = date(2027, 1, 31)


def a_token(usd_per_mtok: float) -> float:
    """The price of one, as a map writes it."""
    return float(f"{usd_per_mtok}e-6")


def litellm_row(seller: str, usd_in: float, usd_out: float, **more: Any) -> dict[str, Any]:
    costs = {"input_cost_per_token": a_token(usd_in), "output_cost_per_token": a_token(usd_out)}
    return {"litellm_provider": seller, "mode": "chat", "source": "https://example.org/prices"} | costs | more


def table_row(**facts: str) -> Row:
    usual = {
        **{
            "model": "gpt-oss-20b",
            "seller": "DeepInfra",
            "id": "openai/gpt-oss-20b",
            "input": "0.03",
            "output": "0.14",
        },
        **{"first_seen": "2026-01-01", "last_confirmed": "2026-11-20", "source": "litellm 1.110.2: a page"},
    }
    return dict.fromkeys(COLUMNS, "") | usual | facts


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "market.csv"
    header = "# what it is\n#\n" + ",".join(COLUMNS) + "\n"
    lines = [
        table_row(),
        table_row(seller="Novita", input="0.05", output="0.15"),
        table_row(seller="Baseten", input="0.09"),
        table_row(seller="Groq", input="0.5", retires="2026-12-24"),
    ]
    path.write_text(header + "".join(",".join(line[name] for name in COLUMNS) + "\n" for line in lines), "utf-8")
    return path


@pytest.mark.parametrize(
    ("model_id", "model"),
    [
        ("accounts/fireworks/models/llama-v3p1-8b-instruct", "llama-3.1-8b"),
        ("us.meta.llama3-2-3b-instruct-v1:0", "llama-3.2-3b"),
        ("meta.llama3-2-90b-instruct-v1:0", "llama-3.2-90b-vision"),
        ("@cf/meta/llama-3.2-11b-vision-instruct", "llama-3.2-11b-vision"),
        ("meta-llama/Meta-Llama-3-70B-Instruct-Turbo", "llama-3-70b"),
        ("Meta-Llama-3_3-70B-Instruct", "llama-3.3-70b"),
        ("databricks-meta-llama-3-3-70b-instruct", "llama-3.3-70b"),
        ("llama-3.3-70b-versatile", "llama-3.3-70b"),
        ("meta.llama4-maverick-17b-instruct-v1:0", "llama-4-maverick"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct-FP8", "llama-4-scout"),
        ("@cf/meta/llama-2-7b-chat-fp16", "llama-2-7b"),
        ("openai.gpt-oss-120b-1:0", "gpt-oss-120b"),
        ("openai/gpt-oss-20b-maas", "gpt-oss-20b"),
        ("qwen-3.8-27b", "qwen3.8-27b"),
        ("Qwen/Qwen3.8-27B-FP8", "qwen3.8-27b"),
        ("meta-models/Muse-Spark-Open-816B-A42B", "muse-spark-open"),
        ("nvidia/Llama-3.3-Nemotron-Super-49B-v1", None),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", None),
        ("meta-llama/Llama-Guard-3-8B", None),
        ("openai/gpt-oss-safeguard-20b", None),
        ("gpt-oss-200b", None),
    ],
)
def test_a_sellers_id_names_a_model_of_the_table(model_id: str, model: str | None) -> None:
    assert model_of(model_id) == model


@pytest.mark.parametrize(
    ("model_id", "precision"),
    [("Llama-4-Scout-17B-FP8", "fp8"), ("llama-2-7b-chat-fp16", "bf16"), ("x-awq", "int4"), ("fp80/llama", "")],
)
def test_a_precision_is_taken_from_an_id_that_tells_it(model_id: str, precision: str) -> None:
    assert precision_of(model_id) == precision


def test_litellms_map_is_read_by_the_token_with_its_tiers() -> None:
    reading = of_litellm(
        {
            "bedrock/eu-west-1/openai.gpt-oss-20b-1:0": litellm_row(
                *("bedrock", 0.08, 0.32),
                input_cost_per_token_batches=a_token(0.04),
                output_cost_per_token_batches=a_token(0.16),
                input_cost_per_token_flex=a_token(0.05),
                output_cost_per_token_flex=a_token(0.2),
                cache_read_input_token_cost=a_token(0.008),
                max_input_tokens=131072,
                deprecation_date="2027-09-15",
            ),
            "deepinfra/openai/gpt-oss-120b": litellm_row(
                *("deepinfra", 0.04, 0.2),
                off_peak_pricing={
                    "input_cost_per_token": a_token(0.02),
                    "output_cost_per_token": a_token(0.1),
                    "windows": [
                        {"hours_utc": ["16:30-00:30", "04:00-06:00"]},
                        {"hours_utc": "00:00-00:00", "weekdays": [6, 7]},
                    ],
                },
            ),
            "baseten/openai/gpt-oss-20b": litellm_row("baseten", 0.1, 0.4, mode="embedding"),
            "kyma/gpt-oss-20b": litellm_row("kyma", 0.01, 0.02),
            "fireworks_ai/accounts/fireworks/models/llama-v3p1-405b-instruct-long": litellm_row(
                "fireworks_ai", 0.1, 0.1
            ),
            "newcomer/gpt-oss-20b": litellm_row("newcomer", 0.01, 0.02),
            "wandb/openai/gpt-oss-20b": litellm_row("wandb", 0, 0),
        },
        "litellm 9",
    )
    bedrock, deepinfra = reading.offers
    assert (bedrock.seller, bedrock.id, bedrock.region) == ("AWS Bedrock", "openai.gpt-oss-20b-1:0", "eu-west-1")
    assert bedrock.prices == {
        **{"input": "0.08", "output": "0.32", "cached": "0.008", "batch_input": "0.04", "batch_output": "0.16"},
        **{"flex_input": "0.05", "flex_output": "0.2"},
    }
    assert (bedrock.context_tokens, bedrock.retires) == ("131072", "2027-09-15")
    assert deepinfra.prices["off_peak_input"] == "0.02"
    assert deepinfra.prices["off_peak_utc"] == "16:30-00:30 04:00-06:00 67@00:00-00:00"
    assert reading.unknown_sellers == {"newcomer": 1}


def test_a_price_of_caching_that_is_the_usual_one_is_none() -> None:
    costs = {"cache_read_input_token_cost": a_token(0.1), "cache_creation_input_token_cost": a_token(0.10001)}
    same = of_litellm({"baseten/openai/gpt-oss-20b": litellm_row("baseten", 0.1, 0.5, **costs)}, "litellm 9")
    assert [each.prices for each in same.offers] == [{"input": "0.1", "output": "0.5"}]
    costs = {"cache_read_input_token_cost": a_token(0.05), "cache_creation_input_token_cost": a_token(0.125)}
    other = of_litellm({"baseten/openai/gpt-oss-20b": litellm_row("baseten", 0.1, 0.5, **costs)}, "litellm 9")
    assert [(each.prices["cached"], each.prices["cache_write"]) for each in other.offers] == [("0.05", "0.125")]


def test_genai_prices_map_is_read_by_the_day() -> None:
    prices: list[dict[str, Any]] = [
        {"prices": {"input_mtok": "0.3", "output_mtok": "0.5"}},
        {"constraint": {"start_date": "2027-01-15"}, "prices": {"input_mtok": {"base": "0.2"}, "output_mtok": "0.4"}},
        {"constraint": {"start_date": "2027-03-01"}, "prices": {"input_mtok": "0.1", "output_mtok": "0.3"}},
    ]
    document = [
        {"id": "novita", "models": [{"id": "openai/gpt-oss-20b", "context_window": 131072, "prices": prices}]},
        {"id": "groq", "models": [{"id": "openai/gpt-oss-20b", "deprecated": True, "prices": prices[0]["prices"]}]},
        {"id": "huggingface_groq", "models": [{"id": "openai/gpt-oss-20b", "prices": prices[0]["prices"]}]},
    ]
    (found,) = of_genai_prices(document, "genai-prices 9", DAY).offers
    assert (found.seller, found.prices) == ("Novita", {"input": "0.2", "output": "0.4"})


def test_models_devs_map_is_read() -> None:
    cost = {"input": 0.05, "output": 0.25, "cache_read": 0.01}
    models = {
        "openai/gpt-oss-20b": {"cost": cost, "limit": {"context": 131072, "output": 32768}},
        "openai/gpt-oss-120b": {"cost": cost, "status": "deprecated"},
        "meta-llama/llama-3.3-70b-instruct": {},
    }
    (found,) = of_models_dev({"novita-ai": {"models": models}}, "models.dev 9").offers
    assert found.prices == {"input": "0.05", "output": "0.25", "cached": "0.01"}
    assert (found.context_tokens, found.max_output_tokens) == ("131072", "32768")


def test_names_and_regions_at_one_price_are_one_offer_and_another_price_is_another() -> None:
    names = {
        "bedrock/us-east-1/meta.llama3-70b-instruct-v1:0": litellm_row("bedrock", 2.65, 3.5),
        "bedrock/eu-west-2/meta.llama3-70b-instruct-v1:0": litellm_row("bedrock", 3.45, 4.55),
        "meta.llama3-70b-instruct-v1:0": litellm_row("bedrock", 2.65, 3.5, max_input_tokens=8192),
    }
    found = compare([], [of_litellm(names, "litellm 9")], DAY)
    assert sorted((row["region"], row["input"]) for row in found.new) == [("", "2.65"), ("eu-west-2", "3.45")]


def test_what_is_new_changed_confirmed_disputed_and_gone_is_told(table: Path) -> None:
    maps = [
        of_litellm(
            {
                "deepinfra/openai/gpt-oss-20b": litellm_row("deepinfra", 0.03, 0.14, max_input_tokens=131072),
                "novita/openai/gpt-oss-20b": litellm_row("novita", 0.04, 0.15),
                "wandb/openai/gpt-oss-20b": litellm_row("wandb", 0.03, 0.13),
            },
            "litellm 9",
        ),
        of_genai_prices(
            [
                {
                    "id": "novita",
                    "models": [{"id": "gpt-oss-20b", "prices": {"input_mtok": "0.05", "output_mtok": "0.15"}}],
                }
            ],
            "genai-prices 9",
            DAY,
        ),
    ]
    rows = read_table(table)
    found = compare(rows, maps, DAY)
    assert [(row["seller"], row["first_seen"]) for row in found.new] == [("Weights & Biases", "2027-01-31")]
    assert found.changed == []
    confirmed = {before["seller"]: after for before, after in found.confirmed}
    assert set(confirmed) == {"DeepInfra", "Novita"}
    assert (confirmed["DeepInfra"]["last_confirmed"], confirmed["DeepInfra"]["context_tokens"]) == (
        "2027-01-31",
        "131072",
    )
    assert confirmed["DeepInfra"]["first_seen"] == "2026-01-01"
    assert [(row["seller"], other.source) for row, other in found.disputed] == [
        ("Novita", "litellm 9: https://example.org/prices")
    ]
    # An ended one is not gone a second time.
    assert [row["seller"] for row in found.gone] == ["Baseten"]
    alone = compare(rows, maps[:1], DAY)
    ((before, after),) = alone.changed
    assert (before["input"], after["input"], after["first_seen"]) == ("0.05", "0.04", "2027-01-31")


def test_an_older_map_changes_nothing(table: Path) -> None:
    offers = {
        "deepinfra/openai/gpt-oss-20b": litellm_row("deepinfra", 0.03, 0.14),
        "novita/openai/gpt-oss-20b": litellm_row("novita", 0.04, 0.15),
    }
    found = compare(read_table(table), [of_litellm(offers, "litellm 8")], date(2026, 11, 19))
    assert (found.changed, found.confirmed) == ([], [])
    assert [row["seller"] for row, _ in found.disputed] == ["Novita"]


def test_a_map_that_names_no_page_confirms_nothing_on_its_own(table: Path) -> None:
    reading = of_litellm({"deepinfra/openai/gpt-oss-20b": litellm_row("deepinfra", 0.03, 0.14, source="")}, "litellm 9")
    found = compare(read_table(table), [reading], DAY)
    assert [after["last_confirmed"] for _, after in found.confirmed] == []
    new = of_litellm({"wandb/openai/gpt-oss-20b": litellm_row("wandb", 0.03, 0.13, source="")}, "litellm 9")
    assert [row["unverified"] for row in compare([], [new], DAY).new] == ["the price map names no page of the seller"]


def test_the_command_writes_only_when_asked(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, before = tmp_path / "map.json", table.read_text("utf-8")
    document = {
        "deepinfra/openai/gpt-oss-20b": litellm_row("deepinfra", 0.02, 0.1),
        "newcomer/gpt-oss-20b": litellm_row("newcomer", 0.01, 0.02),
    }
    place.write_text(json.dumps(document), "utf-8")
    asked = ["--table", str(table), "--litellm", str(place), "9", "--day", "2027-01-31"]
    main(asked)
    told = capsys.readouterr().out
    assert "changed  gpt-oss-20b DeepInfra openai/gpt-oss-20b 0.03/0.14 -> 0.02/0.1" in told
    assert "unknown seller newcomer: 1 offers; add it to SELLERS or NO_SELLERS" in told
    assert told.endswith("0 new, 1 changed, 0 confirmed, 0 disputed, 2 gone\n")
    assert table.read_text("utf-8") == before
    main([*asked, "--write"])
    written = {row["seller"]: row for row in read_table(table)}
    assert table.read_text("utf-8").startswith("# what it is\n#\nmodel,seller,")
    assert (written["DeepInfra"]["input"], written["DeepInfra"]["last_confirmed"]) == ("0.02", "2027-01-31")
    assert (written["Baseten"]["input"], len(written)) == ("0.09", 4)


def test_prices_stay_decimal(tmp_path: Path) -> None:
    place = tmp_path / "map.json"
    place.write_text(
        '{"wandb/gpt-oss-20b": {"litellm_provider": "wandb", "input_cost_per_token": 1.45e-8, '
        '"output_cost_per_token": 7e-08}}',
        "utf-8",
    )
    (found,) = of_litellm(read_map(str(place)), "litellm 9").offers
    assert found.prices == {"input": "0.0145", "output": "0.07"}


def test_rows_that_were_not_confirmed_for_60_days_are_listed(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_table(table)
    assert stale(rows, date(2027, 1, 19)) == []
    assert {row["seller"] for row in stale(rows, date(2027, 1, 20))} == {"DeepInfra", "Novita", "Baseten"}
    main(["--table", str(table), "--stale", "--day", "2027-01-20"])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "stale    gpt-oss-20b DeepInfra openai/gpt-oss-20b 0.03/0.14, last confirmed 2026-11-20"
    assert len(told) == 3


def test_what_the_command_leaves_out_is_not_in_the_table() -> None:
    sellers = {row["seller"] for row in read_table(TABLE)}
    assert sellers <= set(SELLERS.values())
    assert not set(SELLERS) & set(NO_SELLERS)
    assert {seller for seller, _, _ in PASSED_OVER} <= set(SELLERS.values())
