"""How far estimates are off on rows that nothing was fitted on, and whether the bands hold what they say."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from llama_client.crossover import Tables, max_throughput
from llama_client.crossover.throughput.points import rows_of
from tests.crossover.measured_rows import off_from_measured

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TABLES = Tables.bundled()
# Their prompts came from a cache: at 2000 tokens in and 100 out they need all of the data sheet's FLOPS.
CACHED_PROMPTS = ("vllm", "nvidia/Llama-3.1-8B-Instruct-FP8")
# The estimator is fitted on the dense rows of these ids, and on no row of Llama 4.
FITTED = "T"


def maximums(chosen: Callable[[dict[str, str]], bool]) -> Iterator[float]:
    """By how much the maximum is off, of published rows."""
    for row in rows_of("published_throughput.csv"):
        if row["scenario"].startswith("offline max load") and chosen(row):
            told = max_throughput(
                row["model"],
                row["hardware"],
                n_gpus=int(row["n_gpus"]),
                precision=row["precision"],
                isl=int(row["input_tokens"]),
                osl=int(row["output_tokens"]),
                tables=TABLES,
            )
            yield told / float(row["output_tokens_per_s"]) - 1


def test_the_time_per_token_of_rows_that_were_left_out_is_met_within_7_percent() -> None:
    off = []
    with (_BENCHMARKS / "rows" / "llama_served.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (row["backend"], row["model_path"]) == CACHED_PROMPTS:
                continue
            off.append(off_from_measured(row))
    assert len(off) == 331
    assert mean(map(abs, off)) <= 0.07
    assert abs(mean(off)) <= 0.02


@pytest.mark.parametrize(
    ("model", "precision", "count", "most"),
    [
        pytest.param("llama-3", "fp8", 56, 0.10, id="dense in 8 bits"),
        pytest.param("llama-3", "nvfp4", 34, 0.12, id="dense in 4 bits"),
        pytest.param("llama-4-scout", "fp8", 16, 0.15, id="Scout in 8 bits"),
        pytest.param("llama-4-scout", "nvfp4", 9, 0.10, id="Scout in 4 bits"),
        pytest.param("llama-4-maverick", "fp8", 20, 0.15, id="Maverick in 8 bits"),
        pytest.param("llama-4-maverick", "nvfp4", 13, 0.17, id="Maverick in 4 bits"),
    ],
)
def test_published_maximums_that_nothing_was_fitted_on_are_met(
    model: str, precision: str, count: int, most: float
) -> None:
    off = list(
        maximums(
            lambda row: (
                row["model"].startswith(model) and row["precision"] == precision and not row["id"].startswith(FITTED)
            )
        )
    )
    assert len(off) == count
    assert mean(map(abs, off)) <= most


def test_mixtures_of_experts_are_met_within_15_percent() -> None:
    every = list(maximums(lambda row: row["model"].startswith("llama-4")))
    short = list(
        maximums(lambda row: row["model"].startswith("llama-4") and row["engine"].startswith("TensorRT-LLM 1"))
    )
    assert (len(every), len(short)) == (64, 53)
    assert mean(map(abs, every)) <= 0.135
    assert abs(mean(every)) <= 0.03
    assert mean(map(abs, short)) <= 0.11


@pytest.fixture(scope="module")
def coverage() -> dict[tuple[str, str], dict[str, Any]]:
    run = subprocess.run(
        [sys.executable, str(_BENCHMARKS / "throughput_calibration.py"), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return {(row["rung"], row["kind"]): row for row in json.loads(run.stdout)}


def test_the_band_of_80_percent_holds_75_to_85_of_all_points(coverage: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert coverage["all", "all"]["points"] > 1000
    for rung in ("estimated", "scaled", "all"):
        assert 0.75 <= coverage[rung, "all"]["share"] <= 0.85, rung


@pytest.mark.parametrize(
    ("rung", "kind"),
    [
        ("estimated", "dense, full load"),
        ("estimated", "dense, served, up to 32 at once"),
        ("estimated", "dense, served, more at once"),
        ("estimated", "experts, full load"),
        ("estimated", "llama.cpp, one request"),
        ("scaled", "dense, full load"),
        ("scaled", "dense, served, up to 32 at once"),
        ("scaled", "dense, served, more at once"),
        ("scaled", "experts, full load"),
        ("scaled", "vLLM and SGLang, tuned"),
        ("from an eighth of the load or less", "dense, served, more at once"),
        ("from an eighth of the load or less", "vLLM and SGLang, tuned"),
    ],
)
def test_so_it_does_for_each_kind_of_rate(
    rung: str, kind: str, coverage: dict[tuple[str, str], dict[str, Any]]
) -> None:
    row = coverage[rung, kind]
    assert row["points"] >= 30
    assert 0.70 <= row["share"] <= 0.90
