"""How far the throughput estimator is off, on rows that it was not fitted on.

python benchmarks/throughput_accuracy.py

Dense servers and llama.cpp by cross-validation (every fifth row, then whole groups of engine, model, GPU and precision
left out) and on rows that nothing was fitted on; mixtures of experts on a half and on models that were not fitted on;
other people's servers against the constants that come with the package; then rates that one point of a configuration
tells of another. An ideal roofline, the larger of memory and arithmetic at 100% of the data sheets, stands beside it.
Needs scipy. Whether the bands hold what they should: throughput_calibration.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median

from throughput_rows import (
    Row,
    cross_validated,
    cross_validated_single,
    fit_experts,
    halves,
    left_out_rows,
    maximum_rows,
    mixture_rows,
    offline_rows,
    predicted_ms,
    scalings,
    served_rows,
    single_points,
    untuned_rows,
)

from llama_client.crossover.tables import Tables
from llama_client.crossover.throughput.engines import Constants, fitted
from llama_client.crossover.throughput.points import rows_of
from llama_client.crossover.throughput.rates import MEASURED_ERROR, drift_of, scaled_error, weigh
from llama_client.crossover.throughput.replica import Replica, ceiling_tokens_per_s

Pairs = Sequence[tuple[float, float]]
"""Estimates, each with the measured figure."""


def line(title: str, pairs: Pairs) -> None:
    """One row of the table, in percent of what was measured."""
    off = sorted(abs(told / true - 1) * 100 for told, true in pairs)
    bias = mean(told / true - 1 for told, true in pairs) * 100
    tenth = off[math.ceil(len(off) * 0.9) - 1]
    print(f"{title:58}{len(off):5}{mean(off):8.1f}{median(off):8.1f}{tenth:8.1f}{bias:+8.1f}")


def heading(title: str) -> None:
    """The table's head."""
    print(f"\n{title:58}{'rows':>5}{'mean':>8}{'median':>8}{'p90':>8}{'bias':>8}")


def roofline_ms(row: Row) -> float:
    """The larger of reading and computing, both at 100%, prompts included."""
    work, sheet = row.work, row.sheet
    read_s = (work.weight_bytes + work.kv_bytes) / sheet.bytes_per_s
    return max(read_s, (work.decode_flops + work.prefill_flops + work.attention_flops) / sheet.flops) * 1e3


def dense() -> None:
    """TensorRT-LLM, vLLM and SGLang, tuned: time per token and maximum."""
    served, offline = served_rows(), offline_rows()
    left_out = [row for row in maximum_rows(moe=False) if row.point.id not in {row.point.id for row in offline}]
    constants = fitted().servers
    folds = cross_validated([*served, *offline])
    groups = cross_validated([*served, *offline], key=lambda row: row.group)
    by_fold = [(row, told) for row, told in folds if row.point.load == "served"]
    by_group = [(row, told) for row, told in groups if row.point.load == "served"]
    heading("Time per output token, dense: error in %")
    line("cross-validated, every fifth row left out", [(told, row.tpot_ms) for row, told in by_fold])
    line("cross-validated, whole groups left out", [(told, row.tpot_ms) for row, told in by_group])
    line("measured rows that nothing was fitted on", timed(left_out_rows(), constants))
    line("ideal roofline", [(roofline_ms(row), row.tpot_ms) for row in served])
    for group in sorted({row.group for row in served}):
        pairs = [(told, row.tpot_ms) for row, told in by_fold if row.group == group]
        line("  " + " ".join(group), pairs)
    for label, of in (("GPUs", lambda row: row.point.n_gpus), ("batch", batch_class)):
        for value in sorted({of(row) for row in served}):
            line(f"  {label} {value}", [(told, row.tpot_ms) for row, told in by_fold if of(row) == value])
    heading("Maximum output tokens per second, TensorRT-LLM: error in %")
    # Rates are the other way round than times.
    maximum = [(1 / told, 1 / row.tpot_ms) for row, told in folds if row.point.load == "offline"]
    line("dense, cross-validated, every fifth row left out", maximum)
    line("dense, rows that nothing was fitted on", rated(left_out, constants))
    line("dense, ideal roofline", [(1 / roofline_ms(row), 1 / row.tpot_ms) for row in offline])


def experts() -> None:
    """Mixtures: the package's models, which nothing was fitted on, then the halves of all, then what was measured."""
    constants = fitted().servers
    llama, others = maximum_rows(moe=True), mixture_rows("offline")
    heading("Maximum output tokens per second, mixtures of experts: error in %")
    line("Llama 4, fitted on other models", rated(llama, constants))
    for name in sorted({row.point.model.name for row in llama}):
        for gpu in sorted({row.point.gpu.name for row in llama}):
            of = [row for row in llama if (row.point.model.name, row.point.gpu.name) == (name, gpu)]
            line(f"  {name} {of[0].point.precision} {gpu}", rated(of, constants))
    line("the other models, which it is fitted on", rated(others, constants))
    for name in sorted({row.point.model.name for row in others}):
        kept = [row for row in [*llama, *others] if row.point.model.name != name]
        left = [row for row in others if row.point.model.name == name]
        line(f"  {name}, fitted on all the rest", rated(left, fit_experts(kept, constants)))
    one, other = halves([*llama, *others])
    line("all, one half, fitted on the other", rated(other, fit_experts(one, constants)))
    line("all, the other half, fitted on the one", rated(one, fit_experts(other, constants)))
    line("ideal roofline", [(1 / roofline_ms(row), 1 / row.tpot_ms) for row in [*llama, *others]])
    heading("Time per output token, mixtures of experts, not fitted on: error in %")
    served = mixture_rows("served")
    line("all", timed(served, constants))
    for pair in sorted({(row.point.engine, row.point.model.name) for row in served}):
        line(
            "  " + " ".join(pair),
            timed([row for row in served if (row.point.engine, row.point.model.name) == pair], constants),
        )


def timed(rows: Sequence[Row], constants: Constants) -> Pairs:
    """Estimated and measured times, in milliseconds."""
    return [(predicted_ms(row, constants), row.tpot_ms) for row in rows]


def rated(rows: Sequence[Row], constants: Constants) -> Pairs:
    """Estimated and measured rates, each over the batch: the inverse of the times."""
    return [(1 / told, 1 / true) for told, true in timed(rows, constants)]


def batch_class(row: Row) -> str:
    """A name for a range of batches."""
    return "to 64" if row.work.batch <= 64 else "above 64"


def llama_cpp() -> None:
    """One request, each row left out once."""
    pairs = cross_validated_single(single_points())
    heading("llama.cpp, one request, tokens per second: error in %")
    kinds = {"CUDA": ("gddr", "hbm"), "  GDDR": ("gddr",), "  HBM": ("hbm",), "unified memory (Apple)": ("unified",)}
    for title, kind in kinds.items():
        line(title, [(told, p.output_tokens_per_s) for p, told in pairs if p.gpu.memory_kind in kind])


def others() -> None:
    """Rows of engines, versions and GPUs that nothing was fitted on."""
    constants = fitted().servers
    heading("Not fitted on, time per output token: error in %")
    nim = []
    tables = Tables.bundled()
    for row in rows_of("published_throughput.csv"):
        if "NIM" in row["engine"]:
            replica = Replica(tables.model(row["model"]), tables.gpu(row["hardware"]), int(row["n_gpus"]))
            told = replica.tpot_ms(int(row["concurrency"]), int(row["input_tokens"]), int(row["output_tokens"]))
            nim.append((told, float(row["tpot_ms"])))
    line("NVIDIA NIM, 70B FP8 on 2 x H100", nim)
    line("vLLM and SGLang as they come", timed(untuned_rows(), constants))
    for untuned in untuned_rows():
        point = untuned.point
        title = f"  {point.engine} {point.model.name} {point.precision} {point.n_gpus} x {point.gpu.name}"
        told = predicted_ms(untuned, constants)
        print(f"{title:58}{untuned.work.batch:5.0f} at once:{told:7.1f} ms for {untuned.tpot_ms:.1f}")


def ladder() -> None:
    """Rates that are derived from one point of the same configuration, at other lengths or a lower load."""
    told = cross_validated([*served_rows(), *offline_rows()], key=lambda row: row.group)
    of_row = {id(row): ms for row, ms in told}
    every = list(scalings(told))
    sets = {
        "all pairs": every,
        "from a load of an eighth or less": [p for p in every if 8 * p[0].work.batch <= p[1].work.batch],
    }
    errors = fitted().errors
    for title, pairs in sets.items():
        heading(f"Rates told from one point, {title}: error in %")
        line("estimated", [(row.tpot_ms, of_row[id(row)]) for _, row, _, _ in pairs])
        line("scaled by the point alone", [(row.tpot_ms, scaled) for _, row, scaled, _ in pairs])
        for kind in ("many_requests", "untuned"):
            moved = []
            for one, row, scaled, apart in pairs:
                ms = of_row[id(row)]
                load = math.log(row.work.batch / one.work.batch)
                error = scaled_error(MEASURED_ERROR, apart - load, load, drift_of(errors, experts=False))
                by, _ = weigh(math.log(ms / scaled), errors[kind], error)
                moved.append((row.tpot_ms, ms / math.exp(by)))
            line(f"weighed, against {errors[kind]}", moved)


def ceilings() -> None:
    """How many measured rates are above the ceiling: none may be."""
    above = 0
    for row in [*served_rows(), *maximum_rows(moe=False), *maximum_rows(moe=True)]:
        point = row.point
        replica = Replica(point.model, point.gpu, point.n_gpus, point.precision, point.engine)
        most = ceiling_tokens_per_s(replica, isl=point.isl or 1, osl=point.osl or 1, batch=row.work.batch)
        above += row.work.batch / row.tpot_ms * 1e3 > most
    print(f"\nMeasured rates above the ceiling: {above}")


def main() -> None:
    """Prints the table."""
    dense()
    experts()
    llama_cpp()
    others()
    ladder()
    ceilings()


if __name__ == "__main__":
    main()
