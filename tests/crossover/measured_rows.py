"""Rows with the columns of measured_throughput.csv, beside the estimator."""

from __future__ import annotations

from collections.abc import Mapping

from llama_client.crossover import Tables, decode_tpot_ms


def off_from_measured(row: Mapping[str, str]) -> float:
    """By how much the estimated time per token is off, as a share of the measured one."""
    estimated = decode_tpot_ms(
        row["model_path"].removesuffix("-FP8"),
        row["system"],
        n_gpus=int(row["tp_size"]),
        precision=row["gemm_quant_mode"],
        isl=int(row["isl"]),
        osl=int(row["osl"]),
        batch=int(row["batch_size"]),
        engine=row["backend"],
        tables=Tables.bundled(),
    )
    return estimated / float(row["silicon_tpot_ms"]) - 1
