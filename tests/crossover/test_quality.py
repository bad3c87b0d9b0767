"""What a precision keeps of a model's quality, as published, and how a seller serves it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from llama_client import InvalidRequestError
from llama_client.crossover import ApiPrice, Scenario, SelfHost, Tables, Traffic, evaluate
from llama_client.crossover.precisions import canonical
from llama_client.crossover.quality import (
    QualityFigure,
    figures_of,
    known_figures,
    quality_document,
    quality_note,
    quality_of,
    served_precision,
)
from llama_client.crossover.report import as_document, report

TABLES = Tables.bundled()


def sold(provider: str, model: str, source: str = "a list") -> ApiPrice:
    return ApiPrice(input_usd_per_mtok=1, output_usd_per_mtok=1, provider=provider, model=model, source=source)


@pytest.mark.parametrize(
    "figure", known_figures(), ids=lambda each: f"{each.model}-{each.precision}-{each.metric}".replace(" ", "-")
)
def test_every_figure_is_sourced_of_a_known_model_and_loses_little(figure: QualityFigure) -> None:
    assert canonical(figure.precision) == figure.precision
    found = [each for each in figures_of(TABLES.model(figure.model), figure.precision) if each.metric == figure.metric]
    assert found == [figure]
    assert figure.source
    assert (figure.published_on or date.min) <= figure.checked_on
    # Two bits add more than half to the perplexity of a small model.
    assert -0.01 <= figure.lost < (0.6 if figure.precision.startswith("Q2") else 0.3)


@pytest.mark.parametrize("model", ["llama-3-8b", "llama-3.1-8b", "llama-2-70b"])
def test_fewer_bits_lose_more(model: str) -> None:
    figures = [quality_of(TABLES.model(model), name) for name in ("Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")]
    lost = [each.lost for each in figures if each is not None]
    assert len(lost) == 5
    assert lost == sorted(lost)


def test_the_broadest_test_comes_first_and_the_lowest_is_told_beside_it() -> None:
    model = TABLES.model("llama-3.1-8b")
    first = quality_of(model, "awq")
    assert first is not None
    assert (first.metric, first.value, first.precision) == ("OpenLLM v1", 98.9, "int4")
    note = quality_note(model, "int4", None)
    assert note is not None
    assert note.startswith("Quality: int4 keeps 98.9% of BF16's score on OpenLLM v1 (GPTQ; ")
    assert "94.3% on MMLU (AWQ, " in note


def test_what_is_not_quite_all_is_not_shown_as_all() -> None:
    note = quality_note(TABLES.model("llama-3.1-405b"), "fp8", None)
    assert note is not None
    assert "fp8 keeps 99.9% of" in note


def test_a_model_of_the_same_shape_stands_in_the_one_released_nearest() -> None:
    model = TABLES.model("llama-3.3-70b")
    figure = quality_of(model, "fp8")
    assert figure is not None
    assert figure.model == "llama-3.1-70b"
    note = quality_note(model, "fp8", None)
    assert note is not None
    assert note.endswith("measured on llama-3.1-70b, which has the same shape.")


@pytest.mark.parametrize(
    ("model", "precision"), [("llama-4-scout", "fp8"), ("llama-3.1-405b", "nvfp4"), ("llama-1-65b", "Q4_K_M")]
)
def test_an_unknown_figure_is_said_to_be_unknown(model: str, precision: str) -> None:
    assert quality_of(TABLES.model(model), precision) is None
    note = quality_note(TABLES.model(model), precision, None)
    assert note == f"What {precision} keeps of {model}'s quality at 16 bits: no published figure is known here."


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="'fp9'"):
        quality_of(TABLES.model("llama-3.1-8b"), "fp9")


@pytest.mark.parametrize("precision", ["bf16", None])
def test_sixteen_bits_lose_nothing(precision: str | None) -> None:
    assert quality_note(TABLES.model("llama-3.1-8b"), precision, None) is None


@pytest.mark.parametrize(
    ("provider", "model", "precision"),
    [
        ("Together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "fp8"),
        ("together_ai", "meta-llama/Meta-Llama-3-8B-Instruct-Lite", "int4"),
        ("DeepInfra", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "fp8"),
        ("Lambda", "llama3.3-70b-instruct-fp8", "fp8"),
        ("Fireworks", "accounts/fireworks/models/llama-v3p1-405b-instruct", "fp8"),
    ],
)
def test_a_seller_says_in_which_precision_it_serves(provider: str, model: str, precision: str) -> None:
    served = served_precision(sold(provider, model))
    assert served is not None
    assert served.precision == precision


@pytest.mark.parametrize(
    ("provider", "model"), [("Novita", "llama-3.3-70b"), ("Together", "meta-llama/Llama-3-70b"), ("an API", "")]
)
def test_what_a_seller_did_not_tell_is_unknown(provider: str, model: str) -> None:
    assert served_precision(sold(provider, model)) is None


def test_the_sellers_side_is_told_beside_the_own_one() -> None:
    model = TABLES.model("llama-3.1-8b")
    turbo = quality_note(model, "bf16", sold("Together", "Llama-3.1-8B-Instruct-Turbo"))
    assert turbo is not None
    assert turbo.startswith(
        "Together serves it in fp8 (docs.together.ai/docs/serverless-models, checked 2026-11-30): fp8"
    )
    groq = quality_note(model, "bf16", sold("Groq", "llama-3.1-8b-instant"))
    assert groq is not None
    assert "by its own words" in groq
    assert "SambaNova" in groq
    unknown = quality_note(model, "bf16", sold("Novita", "llama-3.1-8b"))
    assert unknown == "The precision in which Novita serves it is not known here."
    # A price by hand has no seller who could have told it, and another model has a quality of its own.
    assert quality_note(model, "bf16", sold("an API", "", "given")) is None
    other = ApiPrice(input_usd_per_mtok=1, output_usd_per_mtok=1, provider="Groq", is_same_model=False)
    assert quality_note(model, "bf16", other) is None


@pytest.mark.parametrize(
    ("precision", "told"),
    [
        ("fp8", "serves it in fp8 (a list, checked 2026-11-20): fp8 keeps"),
        ("FP8", "serves it in FP8 (a list, checked 2026-11-20): fp8 keeps"),
        ("bf16", "serves it in bf16 (a list, checked 2026-11-20)."),
        ("int8", "serves it in int8 (a list, checked 2026-11-20)."),
        ("its own 6 bits", "serves it in its own 6 bits (a list, checked 2026-11-20)."),
    ],
)
def test_the_precision_of_a_price_is_told_too(precision: str, told: str) -> None:
    api = replace(sold("Novita", "llama-3.1-8b"), precision=precision, as_of=date(2026, 11, 20))
    note = quality_note(TABLES.model("llama-3.1-8b"), None, api)
    assert note is not None
    assert told in note
    served = quality_document(None, None, api)["served"]
    assert (served["precision"], served["checked_on"]) == (precision, "2026-11-20")
    assert quality_document(None, None, replace(api, as_of=None))["served"]["checked_on"] is None


@pytest.mark.parametrize("model", [model.name for model in TABLES.models if model.published_precision])
def test_what_was_published_in_few_bits_loses_nothing_in_them(model: str) -> None:
    row = TABLES.model(model)
    note = quality_note(row, row.published_precision, None)
    assert note == f"{model} was published in {row.published_precision}, so nothing of its quality is lost."


def test_the_report_and_the_document_have_it() -> None:
    found = evaluate(
        Scenario(
            model="llama-3.1-70b",
            traffic=Traffic(tokens_per_day=1e9),
            self_host=SelfHost(gpu="h100_sxm", n_gpus=2, gpu_usd_per_hour=2, precision="fp8"),
            apis=[sold("Together", "Meta-Llama-3.1-70B-Instruct-Turbo")],
        )
    )
    assert any(note.startswith("Quality: fp8 keeps 99.9% of") for note in report(found).beside)
    quality = as_document(found)["quality"]
    assert quality["own"][0]["published_on"] == "2024-07-23"
    assert quality["own"][0]["lost"] == pytest.approx(1 - 84.29 / 84.40)
    assert quality["served"]["precision"] == "fp8"
