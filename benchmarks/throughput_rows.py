"""The rows that the throughput estimator is fitted and checked on, the fit itself, and its cross-validation.

Imported by fit_throughput.py and throughput_accuracy.py. Needs scipy, which the package does not.
"""

from __future__ import annotations

import csv
import math
import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import import_module
from itertools import permutations
from pathlib import Path

from llama_client.crossover.tables import Architecture, Experts, Tables
from llama_client.crossover.throughput import llama_cpp as single_stream
from llama_client.crossover.throughput.engines import Constants, SingleStream, fitted, precision_for
from llama_client.crossover.throughput.points import (
    MOST_OF_ESTIMATE,
    Load,
    PublishedPoint,
    bundled_points,
    measured_points,
)
from llama_client.crossover.throughput.replica import Replica
from llama_client.crossover.throughput.work import ServingHardware, Work, hardware, step_time, work_of

FOLDS = 5
# An offline maximum is one row where a configuration measured online has ten. At 3, unseen maximums are off by a fifth
# less than at 2, unseen times per token by no more.
OFFLINE_WEIGHT = 3.0
# Beyond this relative error a row pulls linearly: some hold what no constant can mean (vLLM 0.12's rows of an 8B take
# 94% of the data sheet's FLOPS for prompts alone, which only a cache of prompts explains).
OUTLIER = 0.1
# How hard a constant is held to where it starts: enough for one that a fold has no rows of, nothing for the others.
HELD = 0.02
# No part of a data sheet can be exceeded; nothing costs less than nothing.
AT_MOST_ONE = {"bandwidth_efficiency", "compute_efficiency", "link_efficiency", "fp4_flops_factor"}
# Fitted after the others, on the rows of mixtures of experts.
OF_EXPERTS = ("expert_compute_efficiency", "expert_imbalance", "expert_token_us")
# These are fitted one by one, after the others and on rows of their own.
APART = {*OF_EXPERTS, "unpacking_factor", "first_token_factor"}
FITTED = [field.name for field in fields(Constants) if field.name not in APART]
START = Constants(0.9, 0.6, 0.3, 50, 10, 10, 50, 10, 0.6, 0.5, 0.3, 0.05, 1, 1)
# Models, and rows of them, that are not in the package; their sources are in rows/README.md.
ROWS = Path(__file__).resolve().parent / "rows"


@dataclass(frozen=True)
class Row:
    """A row with its work counted, which no constant changes.

    Attributes:
        point: The row.
        work: Of a step at its batch.
        sheet: The hardware.
        tpot_ms: What a step took: measured, or the batch that fits over the rate.
    """

    point: PublishedPoint
    work: Work
    sheet: ServingHardware
    tpot_ms: float

    @property
    def group(self) -> tuple[str, ...]:
        """What is left out together: rows that share an engine, a model, a GPU and a precision."""
        return (self.point.engine, self.point.model.name, self.point.gpu.name, self.point.precision)


def row_of(point: PublishedPoint) -> Row:
    """Counts a row's work."""
    assert point.isl is not None
    assert point.osl is not None
    replica = Replica(point.model, point.gpu, point.n_gpus, point.precision, point.engine)
    # It was measured, so it fits, whatever an engine is said to run.
    batch = min(point.batch or math.inf, max(1, math.floor(replica.room_for(point.isl, point.osl))))
    # A time per token leaves a request's own prompt out; the batch over a rate does not.
    work = work_of(
        point.model,
        point.precision,
        replica.kv_value_bytes,
        point.n_gpus,
        batch,
        point.isl,
        point.osl,
        own_prompt=point.tpot_ms is None,
        groups=replica.groups,
        copied=replica.copied_bytes,
    )
    sheet = hardware(point.gpu, point.n_gpus, point.precision, fitted().link_gb_per_s(point.gpu.name))
    return Row(point, work, sheet, point.tpot_ms or batch / point.output_tokens_per_s * 1e3)


def predicted_ms(row: Row, constants: Constants) -> float:
    """What the estimator says of a row's step."""
    point = row.point
    served = point.load == "served"
    return step_time(row.work, row.sheet, point.precision, point.engine, constants, served=served).total_ms


def served_rows() -> list[Row]:
    """The measured rows: time per output token of tuned servers, dense."""
    points = bundled_points()
    return [row_of(point) for point in points if point.id.startswith("measured_throughput.csv")]


def offline_rows() -> list[Row]:
    """The published maximums of dense models that the estimator is fitted on."""
    return [row for row in maximum_rows(moe=False) if row.point.id.startswith("T")]


def maximum_rows(*, moe: bool) -> list[Row]:
    """The published maximums of TensorRT-LLM; the estimator is fitted on few of dense models, and on no mixture's."""
    points = (p for p in bundled_points() if p.load == "offline" and p.model.name not in mixtures())
    return [row_of(point) for point in points if (point.model.moe is not None) == moe]


def left_out_rows() -> list[Row]:
    """Measured rows of dense models that nothing is fitted on."""
    return [row_of(point) for point in measured_points(rows_in("llama_served.csv"), Tables.bundled())]


@cache
def mixtures() -> Mapping[str, Architecture]:
    """The mixtures of experts that the estimator is fitted on: not one of the package's models."""
    found = tomllib.loads((ROWS / "mixtures.toml").read_text(encoding="utf-8"))["models"]
    return {row["name"]: Architecture(**(row | {"moe": Experts(**row["moe"])})) for row in found}


def rows_in(file: str) -> Iterator[dict[str, str]]:
    """The rows of a file beside the benchmarks."""
    yield from csv.DictReader((ROWS / file).read_text(encoding="utf-8").splitlines())


def mixture_rows(load: Load) -> list[Row]:
    """Published maximums (`offline`), or measured times per output token (`served`), of those mixtures."""
    tables, found = Tables.bundled(), []
    for number, row in enumerate(rows_in(f"mixtures_{load}.csv"), 2):
        gpu = tables.gpu(row["gpu"])
        precision = precision_for(row["precision"], row["engine"], gpu)
        isl, osl = int(row["isl"]), int(row["osl"])
        batch, tpot_ms = (int(row["batch"]), float(row["tpot_ms"])) if load == "served" else (None, None)
        rate = float(row["output_tokens_per_s"]) if batch is None or tpot_ms is None else batch / tpot_ms * 1e3
        setup = (f"mixtures:{number}", mixtures()[row["model"]], gpu, int(row["n_gpus"]), precision, row["engine"])
        source = row["source"] if load == "offline" else f"{row['engine']} {row['version']}"
        found.append(row_of(PublishedPoint(*setup, load, isl, osl, batch, tpot_ms, None, rate, source, None)))
    return found


def single_points() -> list[PublishedPoint]:
    """llama.cpp, one request."""
    return [point for point in bundled_points() if point.load == "single"]


def fit(rows: Sequence[Row]) -> Constants:
    """The constants that suit rows best, by relative error, outliers held back."""
    least_squares = import_module("scipy.optimize").least_squares

    def constants(logs: Sequence[float]) -> Constants:
        return replace(START, **dict(zip(FITTED, map(math.exp, logs), strict=True)))

    def off(logs: Sequence[float]) -> list[float]:
        trial = constants(logs)
        rest = [
            math.log(predicted_ms(row, trial) / row.tpot_ms) * (OFFLINE_WEIGHT if row.point.load == "offline" else 1)
            for row in rows
        ]
        return rest + [HELD * (log - begun) for log, begun in zip(logs, start, strict=True)]

    start = [math.log(getattr(START, name)) for name in FITTED]
    upper = [1e-9 if name in AT_MOST_ONE else math.log(1e4) for name in FITTED]
    found = least_squares(off, start, loss="soft_l1", f_scale=OUTLIER, bounds=([math.log(1e-4)] * len(start), upper))
    return constants(found.x)


def fit_experts(rows: Sequence[Row], dense: Constants) -> Constants:
    """The constants of experts that suit rows best, beside those of dense models."""
    least_squares = import_module("scipy.optimize").least_squares

    def constants(logs: Sequence[float]) -> Constants:
        return replace(dense, **dict(zip(OF_EXPERTS, map(math.exp, logs), strict=True)))

    def off(logs: Sequence[float]) -> list[float]:
        trial = constants(logs)
        rest = [math.log(predicted_ms(row, trial) / row.tpot_ms) for row in rows]
        return rest + [HELD * (log - begun) for log, begun in zip(logs, start, strict=True)]

    start = [math.log(getattr(START, name)) for name in OF_EXPERTS]
    return constants(least_squares(off, start, loss="soft_l1", f_scale=OUTLIER).x)


def halves(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Two halves of a fixed shuffle."""
    order = list(range(len(rows)))
    random.Random(6).shuffle(order)
    return [rows[index] for index in order[::2]], [rows[index] for index in order[1::2]]


def fit_single(points: Sequence[PublishedPoint]) -> SingleStream:
    """llama.cpp's two constants."""
    least_squares = import_module("scipy.optimize").least_squares

    def off(values: Sequence[float]) -> list[float]:
        trial = SingleStream(values[0], values[1])
        return [math.log(single_ms(point, trial) * point.output_tokens_per_s / 1e3) for point in points]

    found = least_squares(off, [0.7, 3.0], loss="soft_l1", f_scale=OUTLIER, bounds=([0.1, 0.0], [1.0, 50.0]))
    return SingleStream(float(found.x[0]), float(found.x[1]))


def single_ms(point: PublishedPoint, constants: SingleStream) -> float:
    """What the formula says of a row."""
    context = (point.isl or 0) + (point.osl or 0) / 2
    return single_stream.tpot_ms(point.model, point.gpu, point.precision, context_tokens=context, constants=constants)


def folds(rows: Sequence[Row], key: Callable[[Row], object] | None = None) -> list[tuple[list[Row], list[Row]]]:
    """Pairs of what to fit on and what to predict: whole groups by key; without one, fifths of a fixed shuffle."""
    if key is None:
        order = list(range(len(rows)))
        random.Random(6).shuffle(order)
        labels: list[object] = [0] * len(rows)
        for place, index in enumerate(order):
            labels[index] = place % FOLDS
    else:
        labels = [key(row) for row in rows]
    pairs = []
    for label in sorted(set(labels), key=str):
        kept = [row for row, its in zip(rows, labels, strict=True) if its != label]
        pairs.append((kept, [row for row, its in zip(rows, labels, strict=True) if its == label]))
    return pairs


def cross_validated(rows: Sequence[Row], key: Callable[[Row], object] | None = None) -> list[tuple[Row, float]]:
    """Each row with what constants fitted without it say, in milliseconds."""
    found = []
    for kept, left in folds(rows, key):
        constants = fit(kept)
        found += [(row, predicted_ms(row, constants)) for row in left]
    return found


def cross_validated_single(points: Sequence[PublishedPoint]) -> list[tuple[PublishedPoint, float]]:
    """The same for llama.cpp, one row left out at a time, in tokens per second."""
    found = []
    for point in points:
        kind = point.gpu.memory_kind
        kept = [other for other in points if other is not point and other.gpu.memory_kind == kind]
        found.append((point, 1e3 / single_ms(point, fit_single(kept))))
    return found


def untuned_rows() -> list[Row]:
    """The published rows of servers that NVIDIA did not tune, with their lengths told."""
    points = (point for point in bundled_points() if point.load == "served" and point.osl is not None)
    return [row_of(point) for point in points if not point.id.startswith("measured_throughput.csv")]


def by_configuration(rows: Sequence[Row]) -> dict[tuple[object, ...], list[Row]]:
    """Rows of the same engine, model, GPU, precision and number of GPUs: such as the ladder scales by one another."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((*row.group, row.point.n_gpus), []).append(row)
    return found


def lengths_apart(one: Row, other: Row) -> float:
    """How far the lengths of two rows are from one another, as `points.apart` has it."""
    pairs = ((one.point.isl, other.point.isl), (one.point.osl, other.point.osl))
    return sum(abs(math.log((a or 1) / (b or 1))) for a, b in pairs)


def scalings(told: Sequence[tuple[Row, float]]) -> Iterator[tuple[Row, Row, float, float]]:
    """Each row with each one that is to be told from it: scaled by it, in milliseconds, and how far off it is.

    Without the rows that the ladder does not take, whose prompts came from a cache.

    Args:
        told: Rows with what the estimator, fitted without them, says of their step in milliseconds.
    """
    of_row = {id(row): ms for row, ms in told}
    for rows in by_configuration([row for row, ms in told if ms <= MOST_OF_ESTIMATE * row.tpot_ms]).values():
        for one, other in permutations(rows, 2):
            if other.work.batch >= one.work.batch:
                scaled = of_row[id(other)] * one.tpot_ms / of_row[id(one)]
                apart = math.log(other.work.batch / one.work.batch) + lengths_apart(one, other)
                yield one, other, scaled, apart
