"""How far the throughput estimator is off, on rows that it was not fitted on.

python benchmarks/throughput_accuracy.py

Dense servers and llama.cpp by cross-validation (every fifth row, then whole groups of engine, model, GPU and precision
left out), experts and other people's servers against the constants that come with the package; then rates that one
point of a configuration tells of another. An ideal roofline, the larger of memory and arithmetic at 100% of the data
sheets, stands beside it. Needs scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median

from throughput_rows import (
    Row,
    cross_validated,
    cross_validated_single,
    offline_rows,
    predicted_ms,
    scalings,
    served_rows,
    single_points,
    untuned_rows,
)

from llama_client.crossover.tables import Tables
from llama_client.crossover.throughput.engines import fitted
from llama_client.crossover.throughput.points import rows_of
from llama_client.crossover.throughput.rates import MEASURED_ERROR, scaled_error, weigh
from llama_client.crossover.throughput.replica import Replica, ceiling_tokens_per_s

Pairs = Sequence[tuple[float, float]]
"""What was told, and what was true."""


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
    served, offline = served_rows(), offline_rows(moe=False)
    folds = cross_validated([*served, *offline])
    groups = cross_validated([*served, *offline], key=lambda row: row.group)
    by_fold = [(row, told) for row, told in folds if row.point.load == "served"]
    by_group = [(row, told) for row, told in groups if row.point.load == "served"]
    heading("Time per output token, dense: error in %")
    line("cross-validated, every fifth row left out", [(told, row.tpot_ms) for row, told in by_fold])
    line("cross-validated, whole groups left out", [(told, row.tpot_ms) for row, told in by_group])
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
    line("dense, ideal roofline", [(1 / roofline_ms(row), 1 / row.tpot_ms) for row in offline])
    factor = fitted().servers.moe_factor
    experts = [(factor / predicted_ms(row, fitted().servers), 1 / row.tpot_ms) for row in offline_rows(moe=True)]
    line(f"experts, with the factor {factor:.2f} fitted on them", experts)


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
    line("vLLM and SGLang as they come", [(predicted_ms(row, constants), row.tpot_ms) for row in untuned_rows()])
    for untuned in untuned_rows():
        point = untuned.point
        title = f"  {point.engine} {point.model.name} {point.precision} {point.n_gpus} x {point.gpu.name}"
        told = predicted_ms(untuned, constants)
        print(f"{title:58}{untuned.work.batch:5.0f} at once:{told:7.1f} ms for {untuned.tpot_ms:.1f}")


def ladder() -> None:
    """Rates that are derived from one point of the same configuration, at other lengths or a lower load."""
    constants = fitted().errors
    told = cross_validated([*served_rows(), *offline_rows(moe=False)], key=lambda row: row.group)
    of_row = {id(row): ms for row, ms in told}
    every = list(scalings(told))
    sets = {
        "all pairs": every,
        "from a load of an eighth or less": [p for p in every if 8 * p[0].work.batch <= p[1].work.batch],
    }
    for title, pairs in sets.items():
        heading(f"Rates told from one point, {title}: error in %")
        line("estimated", [(row.tpot_ms, of_row[id(row)]) for _, row, _, _ in pairs])
        line("scaled by the point alone", [(row.tpot_ms, scaled) for _, row, scaled, _ in pairs])
        for kind in ("offline", "untuned"):
            moved, inside = [], 0
            for _, row, scaled, apart in pairs:
                ms = of_row[id(row)]
                by, error = weigh(math.log(ms / scaled), constants[kind], scaled_error(MEASURED_ERROR, apart))
                moved.append((row.tpot_ms, ms / math.exp(by)))
                inside += abs(math.log(ms / math.exp(by) / row.tpot_ms)) < error
            line(f"weighed, against {constants[kind]}: {inside / len(pairs):.0%} within the band", moved)


def ceilings() -> None:
    """How many measured rates are above the ceiling: none may be."""
    above = 0
    for row in [*served_rows(), *offline_rows(moe=False), *offline_rows(moe=True)]:
        point = row.point
        replica = Replica(point.model, point.gpu, point.n_gpus, point.precision, point.engine)
        most = ceiling_tokens_per_s(replica, isl=point.isl or 1, osl=point.osl or 1, batch=row.work.batch)
        above += row.work.batch / row.tpot_ms * 1e3 > most
    print(f"\nMeasured rates above the ceiling: {above}")


def main() -> None:
    """Prints the table."""
    dense()
    llama_cpp()
    others()
    ladder()
    ceilings()


if __name__ == "__main__":
    main()
