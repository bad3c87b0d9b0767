"""llama.cpp against the speeds that people published, and what must hold of one card and of several."""

from __future__ import annotations

import csv
from importlib import resources
from statistics import mean

import pytest

from llama_client.crossover import Tables, decode_tpot_ms, max_throughput
from llama_client.crossover.throughput.replica import Replica
from llama_client.errors import InvalidRequestError

TABLES = Tables.bundled()


def tokens_per_s(model: str, gpu: str, precision: str, *, n_gpus: int = 1, isl: int = 1, osl: int = 1024) -> float:
    told = decode_tpot_ms(
        model, gpu, n_gpus=n_gpus, precision=precision, isl=isl, osl=osl, batch=1, engine="llama.cpp", tables=TABLES
    )
    return 1000 / told


def errors(*memory_kinds: str) -> list[float]:
    """How far off each published row of one request is, of GPUs with such memory."""
    text = resources.files("llama_client.crossover.data").joinpath("published_throughput.csv").read_text("utf-8")
    off = []
    for row in csv.DictReader(text.splitlines()):
        kind = TABLES.gpu(row["hardware"]).memory_kind
        if row["scenario"] == "single stream tg1024" and kind in memory_kinds:
            told = tokens_per_s(row["model"], row["hardware"], row["precision"], n_gpus=int(row["n_gpus"]))
            off.append(told / float(row["output_tokens_per_s"]) - 1)
    return off


def test_published_speeds_on_cuda_cards_are_met_within_10_percent_on_average() -> None:
    off = errors("gddr", "hbm")
    assert len(off) == 26
    assert mean(map(abs, off)) < 0.10
    assert mean(map(abs, errors("gddr"))) < 0.06


def test_published_speeds_on_apples_chips_are_met_within_20_percent_on_average() -> None:
    assert mean(map(abs, errors("unified"))) < 0.20


@pytest.mark.parametrize(
    ("gpu", "n_gpus", "published"),
    [("rtx_3090", 2, 16.3), ("rtx_3090", 4, 16.9), ("m3_ultra", 1, 14.1), ("gb10", 1, 4.7)],
)
def test_a_70b_in_four_bits_is_as_fast_as_published(gpu: str, n_gpus: int, published: float) -> None:
    assert tokens_per_s("llama-3.3-70b", gpu, "Q4_K_M", n_gpus=n_gpus) == pytest.approx(published, rel=0.2)


def test_more_cards_make_one_request_no_faster() -> None:
    alone, two, eight = (tokens_per_s("llama-3-8b", "rtx_4090", "Q4_K_M", n_gpus=n) for n in (1, 2, 8))
    assert alone == two == eight


def test_of_experts_those_that_answer_are_read() -> None:
    def tpot_ms(model: str) -> float:
        return decode_tpot_ms(model, "m3_ultra", precision="Q4_K_M", isl=1, osl=2, batch=1, engine="llama.cpp")

    # 17 billion of 108 billion weights a token, against 70 of 70.
    assert tpot_ms("llama-4-scout") < tpot_ms("llama-3.3-70b") / 2.5


def test_a_long_context_slows_it_by_what_the_cache_adds() -> None:
    short = decode_tpot_ms("llama-3.1-8b", "rtx_4090", precision="Q4_K_M", isl=1, osl=2, batch=1, engine="llama.cpp")
    long = decode_tpot_ms(
        "llama-3.1-8b", "rtx_4090", precision="Q4_K_M", isl=32_001, osl=2, batch=1, engine="llama.cpp"
    )
    # 32,000 tokens of 128 KiB at 1,008 GB/s are 4.2 ms at the least.
    assert 4.2 < long - short < 5.5


def test_bf16_is_llama_cpps_f16() -> None:
    assert tokens_per_s("llama-3-8b", "rtx_4090", "bf16") == tokens_per_s("llama-3-8b", "rtx_4090", "F16")


def test_several_requests_read_the_weights_once() -> None:
    def tpot_ms(batch: float) -> float:
        return decode_tpot_ms(
            "llama-3-8b", "rtx_4090", precision="Q4_K_M", isl=100, osl=400, batch=batch, engine="llama.cpp"
        )

    assert tpot_ms(1) < tpot_ms(1.001) < tpot_ms(1) * 1.01, "no step between one request and more"
    assert tpot_ms(1) < tpot_ms(4) < 2 * tpot_ms(1)


def test_without_known_flops_only_one_request_is_known() -> None:
    with pytest.raises(InvalidRequestError, match="FLOPS of 'gb10' are unknown") as caught:
        decode_tpot_ms("llama-3-8b", "gb10", precision="Q4_K_M", isl=100, osl=100, batch=2, engine="llama.cpp")
    assert caught.value.param == "batch"
    most = max_throughput("llama-3-8b", "gb10", precision="Q4_K_M", isl=100, osl=100, engine="llama.cpp")
    assert most == pytest.approx(tokens_per_s("llama-3-8b", "gb10", "Q4_K_M", isl=100, osl=100))


def test_with_known_flops_a_prompt_takes_of_the_rate_what_it_takes_of_the_time() -> None:
    replica = Replica(TABLES.model("llama-3-8b"), TABLES.gpu("rtx_4090"), 1, "Q4_K_M", "llama.cpp")
    alone = replica.alone(4000, 100)
    assert alone.ttft_ms is not None
    assert alone.output_tokens_per_s < 1000 / alone.tpot_ms
    longer = replica.alone(8000, 100)
    assert longer.ttft_ms is not None
    assert longer.ttft_ms > 2 * alone.ttft_ms - alone.tpot_ms * 2, "and attention more than doubles"


def test_a_file_that_does_not_fit_on_a_card_is_told_what_would() -> None:
    with pytest.raises(InvalidRequestError, match=r"17\.4 GB are missing; would fit: 2 GPUs$"):
        tokens_per_s("llama-3.3-70b", "rtx_3090", "Q4_K_M", osl=100)
    assert tokens_per_s("llama-3-70b", "rtx_3090", "F16", n_gpus=6) == pytest.approx(5.82, rel=0.1)
    with pytest.raises(InvalidRequestError, match="does not fit on 1 x m1_max"):
        # macOS gives a GPU three quarters of 64 GB.
        tokens_per_s("llama-3.3-70b", "m1_max", "Q6_K")
