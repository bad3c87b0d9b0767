"""Known rates: published rows and the user's own measurements, and the nearest to a question."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cache
from operator import attrgetter
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from llama_client.crossover.tables import Architecture, Gpu, Tables
from llama_client.crossover.throughput.engines import canonical_engine, precision_for
from llama_client.crossover.throughput.replica import Replica, Saturation, ceiling_tokens_per_s
from llama_client.errors import InvalidRequestError

# The `gpu` of a point that was measured without one.
CPU = "cpu"
# Checked where points are read from a file.
Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """The rate of one replica at one concurrency, measured by the user.

    A replica is one server process and the GPUs that it splits the model over. A valid measurement holds `concurrency`
    requests in flight all the time (a new one starts as soon as one ends), leaves out the time before the first answers
    and after the last request started, and counts the tokens that came back, not those that were asked for.

    Attributes:
        model: The canonical name, as in `llama-3.1-8b`.
        gpu: Its name in the tables, as in `h100_sxm`.
        n_gpus: How many GPUs the replica has.
        precision: Of the weights, a canonical name: `bf16`, `fp8`, `nvfp4`, `int4`, or GGUF's, as in `Q4_K_M`.
        engine: `trtllm`, `vllm`, `sglang` or `llama.cpp`; None: unknown, used for any engine.
        input_tokens: The mean length of the prompts, in tokens of the model.
        output_tokens: The mean length of the answers, in tokens.
        concurrency: Requests in flight at once.
        output_tokens_per_s: Output tokens of all requests together, per second of wall time. Input tokens don't count.
        tpot_ms: The mean time of one output token after the first, per request, in milliseconds; None: not measured.
        ttft_ms: The mean time to the first token, in milliseconds; None: not measured.
        measured_on: The day.
    """

    model: Name
    gpu: Name
    n_gpus: Count
    precision: Name
    engine: str | None
    input_tokens: Count
    output_tokens: Count
    concurrency: Count
    output_tokens_per_s: Positive
    tpot_ms: Positive | None
    ttft_ms: Positive | None
    measured_on: date


Load = Literal["offline", "served", "single"]
"""`offline`: as many requests as fit, all there from the start; `served`: over the network; `single`: one request."""

_MEASURED_FILE = "measured_throughput.csv"
# The rows are dated 2025-10 to 2026-04; most names carry 2026-04.
_MEASURED_ON = date(2026, 4, 1)
_MEASURED_SOURCE = "aiconfigurator-core 0.12.0, silicon_sample.csv (Apache-2.0)"
# By the beginnings of names in published rows. NIM and MLPerf's submissions have engines of their own.
_ENGINES = {"tensorrt-llm": "trtllm", "vllm": "vllm", "sglang": "sglang"} | dict.fromkeys(
    ("llama.cpp", "ollama"), "llama.cpp"
)
_LOADS: dict[str, Load] = {
    "offline max load": "offline",
    "single stream": "single",
    **dict.fromkeys(("offline fixed batch", "open-loop", "closed-loop"), "served"),
}
_DIMENSIONS = ("layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "tied_embeddings", "moe")
_shape = attrgetter(*_DIMENSIONS, "cross_attention_layers")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class PublishedPoint:
    id: str
    model: Architecture
    gpu: Gpu
    n_gpus: int
    precision: str
    engine: str
    load: Load
    isl: int | None
    osl: int | None
    batch: float | None
    tpot_ms: float | None
    ttft_ms: float | None
    output_tokens_per_s: float
    source: str
    as_of: date | None


def same_shape(one: Architecture, other: Architecture) -> bool:
    """Whether every dimension of two models is equal, as of Llama 3.1-70B and 3.3-70B."""
    return bool(_shape(one) == _shape(other))


@cache
def bundled_points() -> tuple[PublishedPoint, ...]:
    """The rows of the two files with a known model, GPU, precision and engine."""
    tables = Tables.bundled()
    return (*measured_points(rows_of(_MEASURED_FILE), tables), *_published(tables))


def rows_of(file: str) -> Iterator[dict[str, str]]:
    from importlib import resources

    text = resources.files("llama_client.crossover.data").joinpath(file).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


def measured_points(rows: Iterable[Mapping[str, str]], tables: Tables) -> Iterator[PublishedPoint]:
    """The points of rows with the columns of measured_throughput.csv."""
    for number, row in enumerate(rows, 2):
        model, gpu = tables.model(row["model_path"].removesuffix("-FP8")), tables.gpu(row["system"])
        precision = precision_for(row["gemm_quant_mode"], row["backend"], gpu)
        isl, osl, batch = int(row["isl"]), int(row["osl"]), int(row["batch_size"])
        tpot, ttft = float(row["silicon_tpot_ms"]), float(row["silicon_ttft_ms"])
        # Each of the batch takes the time of its first token and osl times that of the others.
        rate = batch * osl / (ttft + osl * tpot) * 1e3
        setup = (f"{_MEASURED_FILE}:{number}", model, gpu, int(row["tp_size"]), precision, row["backend"])
        yield PublishedPoint(*setup, "served", isl, osl, batch, tpot, ttft, rate, _MEASURED_SOURCE, _MEASURED_ON)


def _published(tables: Tables) -> Iterator[PublishedPoint]:
    for row in rows_of("published_throughput.csv"):
        engine = _by_beginning(_ENGINES, row["engine"].lower())
        load = _by_beginning(_LOADS, row["scenario"])
        if engine is None or load is None:
            continue
        gpu = tables.gpu(row["hardware"])
        try:
            precision = precision_for(row["precision"], engine, gpu)
        except InvalidRequestError:
            # "Q4" and "4-bit" do not say which of several formats it was.
            continue
        setup = (row["id"], tables.model(row["model"]), gpu, int(row["n_gpus"]), precision, engine)
        rate, tpot, ttft = float(row["output_tokens_per_s"]), _number(row["tpot_ms"]), _number(row["ttft_ms"])
        # Requests in flight where they arrive at random: Little's law.
        counted = rate * tpot / 1e3 if tpot is not None and load == "served" else None
        batch = _number(row["concurrency"]) or counted
        isl, osl = _whole(row["input_tokens"]), _whole(row["output_tokens"])
        source = f"{row['source']} ({row['engine']}, {row['scenario']})"
        # A year or a month stands for its first day.
        as_of = date.fromisoformat(f"{row['as_of']}-01-01"[:10]) if row["as_of"] else None
        yield PublishedPoint(*setup, load, isl, osl, batch, tpot, ttft, rate, source, as_of)


def _by_beginning(known: Mapping[str, _Value], text: str) -> _Value | None:
    return next((value for beginning, value in known.items() if text.startswith(beginning)), None)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


RateSource = Literal["measured", "published", "estimated"]
# Published rates of dense models that exceed the estimate by more had their prompts in a cache: at 2000 tokens in and
# 100 out, those of vLLM 0.12 with an 8B on an H200 need all of the data sheet's FLOPS.
MOST_OF_ESTIMATE = 1.5
# Lengths within this factor of one another are the same: that much varies from run to run.
_SAME_LENGTH = 1.1


@dataclass(frozen=True, slots=True)
class KnownPoint:
    rung: RateSource
    isl: int
    osl: int
    batch: float | None  # None: as many as fit, offline
    output_tokens_per_s: float
    source: str
    as_of: date | None
    own_prompt: bool = True  # the rate is over the whole time of requests, not only that after their first tokens
    tpot_ms: float | None = None
    ttft_ms: float | None = None


def own_points(replica: Replica, measured: Sequence[MeasuredPoint]) -> tuple[list[KnownPoint], tuple[str, ...]]:
    """The user's own points of a replica's configuration, and a sentence on each that cannot be used."""
    shapes = {row.name: row for row in Tables.bundled().models} if measured else {}
    taken, skipped = [], []
    for point in measured:
        if not _is_of(point, replica, shapes):
            continue
        why = _unusable(point, replica)
        if why is None:
            taken.append(known(point))
        else:
            rate = f"{point.output_tokens_per_s:,.0f} tokens/s ({point.measured_on})"
            skipped.append(f"a measured rate of {rate} {why} and was left out")
    return taken, tuple(skipped)


def is_usable(point: MeasuredPoint, model: Architecture, gpu: Gpu) -> bool:
    with suppress(InvalidRequestError):
        return _unusable(point, Replica(model, gpu, point.n_gpus, point.precision, point.engine or "vllm")) is None
    return False


def known(point: MeasuredPoint) -> KnownPoint:
    isl, osl, batch, day = point.input_tokens, point.output_tokens, point.concurrency, point.measured_on
    source = f"measured on {day} {_load_of(batch, isl, osl)}"
    rate, tpot, ttft = point.output_tokens_per_s, point.tpot_ms, point.ttft_ms
    return KnownPoint("measured", isl, osl, batch, rate, source, day, tpot_ms=tpot, ttft_ms=ttft)


def published_points(replica: Replica) -> Iterator[KnownPoint]:
    """The published points of a replica's configuration that fit it."""
    for point in bundled_points():
        same = (point.n_gpus, point.precision, point.engine) == (replica.n_gpus, replica.precision, replica.engine)
        if same and point.gpu.name == replica.gpu.name and same_shape(point.model, replica.model):
            found = published(point, replica)
            if found is not None:
                yield found


def published(point: PublishedPoint, replica: Replica) -> KnownPoint | None:
    """A published point of a replica's configuration; None: it has no lengths, or does not fit."""
    if (point.isl is None and point.load != "single") or point.osl is None:
        return None
    if not _has_room(replica, point.isl or 1, point.osl):
        return None
    rate, isl, own_prompt = point.output_tokens_per_s, point.isl or 1, point.load != "single"
    if point.tpot_ms is not None and point.batch is not None:
        # Without the time to first tokens, where the start of a short run weighs too much.
        rate = min(point.batch, replica.largest_batch(isl, point.osl)) / point.tpot_ms * 1e3
        own_prompt = False
    batch = None if point.load == "offline" else point.batch
    source = f"{point.source}, {_load_of(batch, isl, point.osl)}"
    return KnownPoint("published", isl, point.osl, batch, rate, source, point.as_of, own_prompt)


def has_computed_prompts(point: KnownPoint, replica: Replica) -> bool:
    """Whether a point's prompts were computed, and did not come from a cache."""
    if point.rung == "measured" or replica.model.moe is not None:
        return True
    return point.output_tokens_per_s <= MOST_OF_ESTIMATE * estimated_tokens_per_s(replica, point)


def nearest(points: Iterable[KnownPoint], replica: Replica, full: Saturation, isl: int, osl: int) -> KnownPoint | None:
    """The point of the nearest lengths and load, the newest of equals, that did not take prompts from a cache."""

    def order(point: KnownPoint) -> tuple[float, int]:
        return distance(point, full.batch, isl, osl), -(point.as_of or date.min).toordinal()

    return next((point for point in sorted(points, key=order) if has_computed_prompts(point, replica)), None)


def distance(point: KnownPoint, full_batch: float, isl: int, osl: int) -> float:
    """How far a point is from a full load of other lengths: the sum of the logarithms of the ratios."""
    # All three weigh the same: so one measured row predicts another best.
    return apart(point, isl, osl) + load_apart(point, full_batch)


def load_apart(point: KnownPoint, full_batch: float) -> float:
    """How far a point's load is below a full one: 0 where it is as high."""
    return 0.0 if point.batch is None else max(0.0, math.log(full_batch / point.batch))


def apart(point: KnownPoint, isl: int, osl: int) -> float:
    """How far a point's lengths are from others: 0 where they are the same."""
    return abs(math.log(point.isl / isl)) + abs(math.log(point.osl / osl))


def are_as_long(lengths: tuple[int, int], others: tuple[int, int], factor: float = _SAME_LENGTH) -> bool:
    return all(max(a / b, b / a) <= factor for a, b in zip(lengths, others, strict=True))


def estimated_tokens_per_s(replica: Replica, point: KnownPoint) -> float:
    if point.batch is None:
        return replica.max_output_tokens_per_s(point.isl, point.osl).output_tokens_per_s
    running = min(point.batch, replica.largest_batch(point.isl, point.osl))
    return replica.output_tokens_per_s(running, point.isl, point.osl, own_prompt=point.own_prompt)


def _unusable(point: MeasuredPoint, replica: Replica) -> str | None:
    """Why a point of the replica's configuration cannot be used, to follow its rate in a sentence; None: it can."""
    if min(point.input_tokens, point.output_tokens, point.concurrency) < 1 or not point.output_tokens_per_s > 0:
        return "counts too few tokens or requests"
    isl, osl = point.input_tokens, point.output_tokens
    if replica.has_curve and not _has_room(replica, isl, osl):
        return "is of lengths that the model or the memory has no room for"
    if point.output_tokens_per_s > ceiling_tokens_per_s(replica, isl=isl, osl=osl, batch=point.concurrency):
        return "is above what the data sheet allows"
    return None


def _has_room(replica: Replica, isl: int, osl: int) -> bool:
    """Whether there is an estimate for these lengths: a model of the same shape may have a shorter context."""
    with suppress(InvalidRequestError):
        return replica.largest_batch(isl, osl) > 0
    return False


def _is_of(point: MeasuredPoint, replica: Replica, shapes: Mapping[str, Architecture]) -> bool:
    if point.gpu != replica.gpu.name or point.n_gpus != replica.n_gpus:
        return False
    if point.engine is not None and canonical_engine(point.engine, param="measured.engine") != replica.engine:
        return False
    try:
        if precision_for(point.precision, replica.engine, replica.gpu) != replica.precision:
            return False
    except InvalidRequestError:
        # A precision that this engine does not run.
        return False
    # A model of the user's own tables matches by its name alone.
    shape = shapes.get(point.model)
    return point.model == replica.model.name or (shape is not None and same_shape(shape, replica.model))


def _load_of(batch: float | None, isl: int, osl: int) -> str:
    load = "a full load" if batch is None else f"{batch:.0f} requests at once"
    return f"with {'one request at a time' if batch == 1 else load}, {isl} token{'s' * (isl != 1)} in and {osl} out"
