"""Fits the constants of the throughput estimator and writes them with the errors that cross-validation finds.

python benchmarks/fit_throughput.py [--dry-run]

Fitted on the dense rows of measured_throughput.csv (time per output token) and the dense rows of an offline maximum in
published_throughput.csv; the factor of mixtures of experts on those of the offline maximum; llama.cpp's two constants
by kind of memory on the single-stream rows. Needs scipy, which the package does not.
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

from throughput_rows import (
    Row,
    by_configuration,
    cross_validated,
    cross_validated_single,
    fit,
    fit_single,
    lengths_apart,
    offline_rows,
    predicted_ms,
    scalings,
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


def fit_moe(rows: Sequence[Row], constants: Constants) -> float:
    """What is left of the estimate with experts: the geometric mean."""
    logs = [math.log(predicted_ms(row, constants) / row.tpot_ms) for row in rows]
    return math.exp(sum(logs) / len(logs))


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


def within_two_thirds(pairs: Sequence[tuple[float, float]]) -> float:
    """The sigma of a lognormal band that holds 68% of the pairs of predicted and true."""
    return sorted(abs(math.log(told / true)) for told, true in pairs)[math.ceil(len(pairs) * 0.68) - 1]


def root_mean_square(pairs: Sequence[tuple[float, float]]) -> float:
    """The same where there are too few pairs to count two thirds of them."""
    return math.sqrt(sum(math.log(told / true) ** 2 for told, true in pairs) / len(pairs))


def errors(constants: Constants, singles: dict[str, SingleStream]) -> dict[str, float]:
    """The bands of what the constants give, each from rows that were not fitted on."""
    served, offline, moe = served_rows(), offline_rows(moe=False), offline_rows(moe=True)
    both = cross_validated([*served, *offline])
    by_load = {
        load: [(told, row.tpot_ms) for row, told in both if row.point.load == load] for load in ("served", "offline")
    }
    found = {"served": within_two_thirds(by_load["served"]), "offline": root_mean_square(by_load["offline"])}
    logs = [math.log(predicted_ms(row, constants) / constants.moe_factor / row.tpot_ms) for row in moe]
    found["drift"] = drift(cross_validated([*served, *offline], key=lambda row: row.group))
    found["unscaled_drift"] = unscaled_drift()
    found["untuned"] = untuned_error(constants)
    found["moe"] = math.sqrt(sum(log**2 for log in logs) / (len(logs) - 1))
    pairs = cross_validated_single(single_points())
    for kind in singles:
        found[f"llama_cpp_{kind}"] = within_two_thirds(
            [(told, point.output_tokens_per_s) for point, told in pairs if point.gpu.memory_kind == kind]
        )
    return found


def drift(both: Sequence[tuple[Row, float]]) -> float:
    """By how much the estimator's errors at two points of one configuration differ, for each unit of their distance.

    Of pairs from a lower load to one that is as high or higher: what a point is scaled to is a full load.
    """
    pairs = [(scaled, row, apart) for _, row, scaled, apart in scalings(both)]
    squares = sum(math.log(scaled / row.tpot_ms) ** 2 for scaled, row, _ in pairs)
    return math.sqrt(squares / sum(apart for *_, apart in pairs))


def unscaled_drift() -> float:
    """The same of rates at one load that nothing is scaled by, for each unit of the distance of their lengths."""
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
    rows = f"{len(served_rows())} measured rows, {len(offline_rows(moe=False))} dense and {len(offline_rows(moe=True))}"
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
        "# Sigmas of lognormal bands around rows that were left out of the fit. The two of drift are for a distance of",
        "# 1, and grow with its root: distances are logarithms of ratios of lengths and loads, added up.",
        "[errors]",
        *(f"{name} = {value:.2g}" for name, value in bands.items()),
        "",
        "",
    ]
    return "\n".join(lines) + UNFITTED + kept


def main() -> None:
    """Fits and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dry-run", action="store_true", help="print the file instead of writing it")
    dry_run = parser.parse_args().dry_run
    constants = fit([*served_rows(), *offline_rows(moe=False)])
    constants = replace(constants, moe_factor=fit_moe(offline_rows(moe=True), constants))
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
