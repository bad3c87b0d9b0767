"""What is refused before anything is calculated, and how the error says so."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from llama_client import InvalidRequestError
from llama_client.crossover import ApiPrice, Purchase, Scenario, SelfHost, Traffic, evaluate


@pytest.mark.parametrize(
    ("make", "field", "wanted"),
    [
        (
            lambda: ApiPrice(input_usd_per_mtok=-1, output_usd_per_mtok=1),
            "api.input_usd_per_mtok",
            "at least 0, got -1",
        ),
        (
            lambda: ApiPrice(input_usd_per_mtok=1, output_usd_per_mtok=float("nan")),
            "api.output_usd_per_mtok",
            "got nan",
        ),
        (lambda: Traffic(output_share=0), "traffic.output_share", "above 0 and up to 1, got 0"),
        (lambda: Traffic(output_share=25), "traffic.output_share", "above 0 and up to 1, got 25"),
        (lambda: Traffic(peak_to_mean=0.5), "traffic.peak_to_mean", "at least 1 and up to 10000, got 0.5"),
        (lambda: Traffic(tokens_per_day=True), "traffic.tokens_per_day", "a number above 0, got True"),
        (lambda: Traffic(hourly_tokens=(0, 0)), "traffic.hourly_tokens", "must have an hour with a load"),
        (lambda: SelfHost(n_gpus=0), "self_host.n_gpus", "a whole number from 1"),
        (lambda: SelfHost(n_gpus=1.5), "self_host.n_gpus", "a whole number from 1"),  # type: ignore[arg-type]
        (lambda: SelfHost(gpu_usd_per_hour="2"), "self_host.gpu_usd_per_hour", "got '2'"),  # type: ignore[arg-type]
        (lambda: SelfHost(max_utilisation=1.2), "self_host.max_utilisation", "up to 1, got 1.2"),
        (lambda: SelfHost(spare=-1), "self_host.spare", "a whole number from 0"),
        (lambda: SelfHost(ops_usd_per_month=1e308), "self_host.ops_usd_per_month", "a number up to 1e+12, got 1e+308"),
        (lambda: SelfHost(gpu=3), "self_host.gpu", "must be a name, got 3"),  # type: ignore[arg-type]
        (lambda: SelfHost(precision=""), "self_host.precision", "must be a name, got ''"),
        (lambda: SelfHost(purchase=30_000), "self_host.purchase", "must be a Purchase"),  # type: ignore[arg-type]
        (lambda: Scenario(model=3, self_host=SelfHost()), "model", "must be a name, got 3"),  # type: ignore[arg-type]
        (
            lambda: Scenario(model=None, traffic=None, self_host=SelfHost()),  # type: ignore[arg-type]
            "traffic",
            "must be a Traffic",
        ),
        (
            lambda: Scenario(model=None, self_host=SelfHost(), apis=3),  # type: ignore[arg-type]
            "apis",
            "must be a list of ApiPrice, got 3",
        ),
        (lambda: Purchase(usd_per_kwh=1e305), "purchase.usd_per_kwh", "up to 1e+06, got 1e+305"),
        (lambda: Purchase(usd_per_gpu=0), "purchase.usd_per_gpu", "above 0, got 0"),
        (lambda: Purchase(idle_w=500, load_w=300), "purchase.idle_w", "at most load_w (300), got 500"),
        (
            lambda: SelfHost(gpu_usd_per_hour=1, purchase=Purchase(usd_per_gpu=1)),
            "self_host.purchase",
            "leave out purchase or gpu_usd_per_hour",
        ),
        (
            lambda: SelfHost(tokens_per_second=1, total_tokens_per_second=1),
            "self_host.total_tokens_per_second",
            "which counts output alone",
        ),
    ],
)
def test_a_wrong_figure_names_its_field_and_what_would_be_right(
    make: Callable[[], Any], field: str, wanted: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        make()
    assert caught.value.param == field
    assert str(caught.value).startswith(f"{field}: ")
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "field", "wanted"),
    [
        ({"model": "lama-3.3-70b"}, "model", "did you mean 'llama-3.3-70b'?"),
        ({"model": "mistral-large"}, "model", "known are gpt-oss-120b, gpt-oss-20b, llama-1-13b"),
        ({"gpu": "h100-sxmm"}, "self_host.gpu", "did you mean 'h100_sxm'?"),
        ({"precision": "fp9"}, "self_host.precision", "did you mean 'fp8'?"),
        ({"n_gpus": 1}, "model", "so 4.0 GB are missing; would fit: 2 GPUs"),
        ({"gpu": "rtx_5090", "n_gpus": 4}, "self_host.gpu_usd_per_hour", "no quote known for renting the RTX 5090"),
        (
            {"tokens_per_second": 50_000},
            "self_host.tokens_per_second",
            "50,000 output tokens per second are impossible",
        ),
        ({"total_tokens_per_second": 1e6}, "self_host.tokens_per_second", "impossible"),
        ({"gpu": None}, "self_host.gpu", "is required where no tokens_per_second was measured"),
        ({"purchase": Purchase(), "gpu": "a10g", "n_gpus": 8}, "purchase.usd_per_gpu", "give its price"),
        ({"n_gpus": 6}, "n_gpus", "the nearest that can be: 4 or 8"),
        ({"precision": "nvfp4", "engine": "trtllm"}, "precision", "give 'bf16' or 'fp8' or 'int4'"),
    ],
)
def test_what_cannot_be_calculated_names_the_field_and_the_nearest_name_or_the_shortage(
    changed: dict[str, Any], field: str, wanted: str
) -> None:
    host: dict[str, Any] = {"gpu": "h100_sxm", "n_gpus": 2, "precision": "fp8"} | changed
    if host["gpu"] == "a10g":
        host["precision"] = None
    model = host.pop("model", "llama-3.3-70b")
    with pytest.raises(InvalidRequestError) as caught:
        evaluate(Scenario(model=model, self_host=SelfHost(**host)))
    assert caught.value.param == field
    assert str(caught.value).startswith(f"{field}: ")
    assert wanted in str(caught.value)


def test_a_scenario_is_kept_as_numbers_whatever_numbers_were_given() -> None:
    from decimal import Decimal

    price = ApiPrice(input_usd_per_mtok=Decimal("0.59"), output_usd_per_mtok=1)  # type: ignore[arg-type]
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (0.59, 1.0)


@pytest.mark.parametrize("cls", [ApiPrice, Purchase, Scenario, SelfHost, Traffic])
def test_a_signature_shows_types_and_not_what_checks_them(cls: type) -> None:
    assert "Annotated" not in str(inspect.signature(cls))
