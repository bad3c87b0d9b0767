"""Precisions that a GPU computes in, and those that engines only store weights in."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from llama_client.crossover import Crossover, Gpu, Scenario, SelfHost, Tables, evaluate, max_throughput
from llama_client.crossover.fitting.fit import fit
from llama_client.crossover.fitting.machines import named
from llama_client.crossover.fitting.report import verdict
from llama_client.crossover.report import as_document, report
from llama_client.errors import InvalidRequestError
from tests.crossover.asking import price

TODAY = date(2026, 11, 30)
TABLES = Tables.bundled()
LENGTHS: dict[str, Any] = {"isl": 1000, "osl": 1000}


def on(gpu: str, **host: Any) -> Crossover:
    host = {"gpu_usd_per_hour": 2.0} | host
    scenario = Scenario(model="llama-3.1-8b", self_host=SelfHost(gpu=gpu, **host), apis=[price(0.18)])
    return evaluate(scenario, today=TODAY)


@pytest.mark.parametrize(
    ("gpu", "precision", "engine", "wanted"),
    [
        (
            "h100_sxm",
            "nvfp4",
            "trtllm",
            "no arithmetic of 4 bits, which trtllm needs for 'nvfp4'; give 'bf16'",
        ),
        (
            "a100_sxm_80",
            "fp8",
            "trtllm",
            "no arithmetic of 8 bits, which trtllm needs for 'fp8'; give 'bf16'",
        ),
        ("a100_sxm_80", "nvfp4", "trtllm", "give 'bf16' or 'int4', or engine 'vllm', which unpacks nvfp4"),
        ("rtx_3090", "fp8_block", "trtllm", "which trtllm needs for 'fp8_block'"),
        ("l40s", "nvfp4", "trtllm", "give 'bf16' or 'fp8' or 'int4', or engine 'vllm'"),
        ("mi300x", "nvfp4", "vllm", "which vllm needs for 'nvfp4'; give 'bf16' or 'fp8'"),
        ("mi300x", "nvfp4", "sglang", "MI300X has no arithmetic of 4 bits"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_precision_that_cannot_be_says_what_the_gpu_has(gpu: str, precision: str, engine: str, wanted: str) -> None:
    for refused in (
        lambda: max_throughput("llama-3.1-8b", gpu, precision=precision, engine=engine, **LENGTHS),
        lambda: on(gpu, precision=precision, engine=engine),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            refused()
        assert caught.value.param == "precision"
        assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("gpu", "precision"),
    [("h100_sxm", "nvfp4"), ("a100_sxm_80", "fp8"), ("a100_sxm_80", "nvfp4"), ("rtx_3090", "fp8"), ("l40s", "nvfp4")],
)
def test_where_vllm_unpacks_the_weights_it_computes_in_16_bits_and_the_report_says_so(gpu: str, precision: str) -> None:
    found = on(gpu, precision=precision)
    assert (found.resolved.engine, found.resolved.precision) == ("vllm", precision)
    title = TABLES.gpu(gpu).title
    note = f"The {title} has no arithmetic for {precision}: vLLM keeps the weights in it and computes in 16 bits."
    assert note in report(found).notes
    assert note in as_document(found)["notes"]
    assert note in report(on(gpu, precision=precision, engine="vLLM")).notes
    # Prompts are arithmetic: no faster than in 16 bits, where the native width would be twice as fast.
    rates = {
        name: max_throughput("llama-3.1-8b", gpu, precision=name, engine="vllm", isl=4000, osl=1)
        for name in (precision, "bf16")
    }
    assert rates[precision] <= rates["bf16"]


@pytest.mark.parametrize(
    ("gpu", "precision", "engine"),
    [
        ("h100_sxm", "fp8", "trtllm"),
        ("rtx_4090", "fp8", "trtllm"),
        ("rtx_5090", "nvfp4", "trtllm"),
        ("b200_sxm", "nvfp4", "trtllm"),
        ("rtx_pro_6000_server", "nvfp4", "trtllm"),
        ("mi300x", "fp8", "vllm"),
        ("mi300x", None, "vllm"),
        ("a100_sxm_80", "int4", "trtllm"),
        ("a100_sxm_80", None, "trtllm"),
        ("h100_sxm", "Q4_K_M", "llama.cpp"),
    ],
)
def test_what_the_gpu_computes_in_needs_no_note(gpu: str, precision: str | None, engine: str) -> None:
    found = on(gpu, precision=precision)
    assert found.resolved.engine == engine
    assert not any("no arithmetic" in note for note in report(found).notes)


def test_tensorrt_llm_does_not_run_on_gpus_of_amd() -> None:
    with pytest.raises(InvalidRequestError, match="TensorRT-LLM runs on GPUs of NVIDIA, and MI300X is none") as caught:
        on("mi300x", engine="TensorRT-LLM")
    assert caught.value.param == "self_host.engine"


def test_fit_refuses_four_bits_where_no_engine_runs_them() -> None:
    with pytest.raises(
        InvalidRequestError, match="has no arithmetic of 4 bits, and no engine unpacks 'nvfp4'"
    ) as caught:
        fit(TABLES.model("llama-3.1-8b"), named("mi300x"), precision="nvfp4")
    assert caught.value.param == "precision"
    for gpu, is_unpacked in (("h100_sxm", True), ("b200_sxm", False)):
        answer = fit(TABLES.model("llama-3.1-8b"), named(gpu), precision="nvfp4")
        assert answer.fits
        assert ("unpack the weights, and compute in 16 bits" in verdict(answer)) == is_unpacked


def test_a_row_of_ones_own_may_have_forgotten_its_flops() -> None:
    tables = TABLES.extended(gpus=[Gpu("mine", 48, 900, bf16_tflops=300)])
    with pytest.raises(InvalidRequestError, match="or fp8_tflops in its row of your own"):
        max_throughput("llama-3.1-8b", "mine", tables=tables, **LENGTHS)


def test_a_gpu_of_ones_own_without_flops_is_not_said_to_lack_arithmetic() -> None:
    with pytest.raises(InvalidRequestError, match="the FLOPS of 'gb10' are unknown"):
        max_throughput("llama-3.1-8b", "gb10", precision="nvfp4", engine="vllm", **LENGTHS)
