"""Fits the constants of the throughput estimator and writes them with the errors that cross-validation finds.

python benchmarks/fit_throughput.py [--dry-run]

Fitted on the dense rows of measured_throughput.csv (time per output token) and 15 dense rows of an offline maximum in
published_throughput.csv; the constants of experts on the offline maximums of models that are not in the package
(rows/mixtures_offline.csv); llama.cpp's two constants by kind of memory on the single-stream rows. Needs scipy, which
the package does not.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import import_module
from itertools import permutations
from pathlib import Path
from statistics import median

from throughput_calibration import calibrated, sigma_of, subjects
from throughput_rows import (
    by_configuration,
    cross_validated_single,
    fit,
    fit_experts,
    fit_single,
    lengths_apart,
    mixture_rows,
    offline_rows,
    predicted_ms,
    served_rows,
    single_points,
    untuned_rows,
)

from llama_client.crossover.tables import Tables
from llama_client.crossover.throughput.engines import Constants, SingleStream
from llama_client.crossover.throughput.points import PublishedPoint, bundled_points
from llama_client.crossover.throughput.replica import Replica

FILE = Path(__file__).resolve().parent.parent / "llama_client" / "crossover" / "data" / "throughput.toml"
LONG_PROMPT_TOKENS = 4000
# Above this line of the file everything is fitted, below nothing.
UNFITTED = "# Not fitted.\n"


def fit_unpacking(constants: Constants) -> float:
    """How much slower 16-bit arithmetic is on weights of 8 bits, from the one pair that was published.

    vLLM 0.19, Llama-3.1-8B, one A100 80 GB PCIe, 512 in and 256 out, saturated: 2,906 output tokens/s in FP16 and 2,487
    in FP8, which that GPU has no units for (arXiv 2606.11690, configurations A1 and A2).
    """
    brentq = import_module("scipy.optimize").brentq

    published = 2487 / 2906
    tables = Tables.bundled()
    model, gpu = tables.model("llama-3.1-8b"), tables.gpu("a100_pcie_80")

    def off(factor: float) -> float:
        trial = replace(constants, unpacking_factor=factor)
        fp8, fp16 = (
            Replica(model, gpu, 1, precision, "vllm", trial).max_output_tokens_per_s(512, 256, served=True)
            for precision in ("fp8", "fp16")
        )
        return fp8.output_tokens_per_s / fp16.output_tokens_per_s - published

    return float(brentq(off, 0.2, 1.0))


def fit_first_token(constants: Constants) -> float:
    """How much longer the first token takes than its own prompt, a step and a wait at random: the median.

    Of long prompts alone: with short ones the start of a run, where all requests come at once, is most of what was
    measured.
    """
    alone = replace(constants, first_token_factor=1.0)
    ratios = []
    for point in bundled_points():
        if point.load != "served" or point.ttft_ms is None or point.isl is None or point.isl < LONG_PROMPT_TOKENS:
            continue
        assert point.osl is not None
        assert point.batch is not None
        replica = Replica(point.model, point.gpu, point.n_gpus, point.precision, point.engine, alone)
        told = replica.ttft_ms(point.batch, point.isl, point.osl)
        if told is not None and point.batch < replica.largest_batch(point.isl, point.osl):
            ratios.append(point.ttft_ms / told)
    return median(ratios)


def root_mean_square(pairs: Sequence[tuple[float, float]]) -> float:
    """The sigma of a lognormal band where there are too few pairs to count how many it holds."""
    return math.sqrt(sum(math.log(told / true) ** 2 for told, true in pairs) / len(pairs))


def errors(constants: Constants, singles: dict[str, SingleStream]) -> dict[str, float]:
    """The bands of what the constants give, each from rows that were left out."""
    found = {"unscaled_drift": unscaled_drift(), "untuned": untuned_error(constants)}
    pairs = cross_validated_single(single_points())
    for kind in singles:
        found[f"llama_cpp_{kind}"] = sigma_of(
            [math.log(told / point.output_tokens_per_s) for point, told in pairs if point.gpu.memory_kind == kind]
        )
    return calibrated(subjects(constants), found)


def unscaled_drift() -> float:
    """How rates at one load differ that nothing is scaled by, for each unit of the distance of their lengths."""
    squares = total = 0.0
    for rows in by_configuration(served_rows()).values():
        for one, other in permutations(rows, 2):
            if one.point.batch == other.point.batch:
                squares += math.log(other.point.output_tokens_per_s / one.point.output_tokens_per_s) ** 2
                total += lengths_apart(one, other)
    return math.sqrt(squares / total)


def untuned_error(constants: Constants) -> float:
    """Of vLLM and SGLang as others ran them, on GPUs and versions that were not fitted on."""
    return root_mean_square([(predicted_ms(row, constants), row.tpot_ms) for row in untuned_rows()])


def written(constants: Constants, singles: dict[str, SingleStream], bands: dict[str, float]) -> str:
    """The new file: its fitted tables, then everything below the line that is not fitted."""
    kept = FILE.read_text(encoding="utf-8").partition(UNFITTED)[2]
    rows = f"{len(served_rows())} measured rows, {len(offline_rows())} dense and {len(mixture_rows('offline'))}"
    lines = [
        "# The throughput estimator's constants: data for engines.py. Written by benchmarks/fit_throughput.py; what",
        "# each means: engines.Constants.",
        "#",
        f"# Fitted on {datetime.now(UTC):%Y-%m-%d} on {rows} rows of experts at an",
        f"# offline maximum, and {len(single_points())} of llama.cpp. How far off: benchmarks/throughput_accuracy.py.",
        "",
        "[servers]",
        *(f"{name} = {value:.4g}" for name, value in asdict(constants).items()),
    ]
    for kind, single in singles.items():
        lines += ["", f"[llama_cpp.{kind}]", *(f"{name} = {value:.4g}" for name, value in asdict(single).items())]
    lines += [
        "",
        "# Sigmas of lognormal bands, so wide that the band from the 10th to the 90th percentile holds 80% of the",
        "# points that were left out: benchmarks/throughput_calibration.py. Those of drift are for a distance of 1,",
        "# and grow with its root: distances are logarithms of ratios of lengths (load_drift: of loads), added up.",
        "[errors]",
        *(f"{name} = {value:.3g}" for name, value in bands.items()),
        "",
        "",
    ]
    return "\n".join(lines) + UNFITTED + kept


def main() -> None:
    """Fits and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dry-run", action="store_true", help="print the file instead of writing it")
    dry_run = parser.parse_args().dry_run
    constants = fit_experts(mixture_rows("offline"), fit([*served_rows(), *offline_rows()]))
    constants = replace(constants, unpacking_factor=fit_unpacking(constants))
    constants = replace(constants, first_token_factor=fit_first_token(constants))
    by_kind: dict[str, list[PublishedPoint]] = {}
    for point in single_points():
        by_kind.setdefault(point.gpu.memory_kind, []).append(point)
    singles = {kind: fit_single(by_kind[kind]) for kind in sorted(by_kind)}
    text = written(constants, singles, errors(constants, singles))
    if dry_run:
        print(text)
    else:
        FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
