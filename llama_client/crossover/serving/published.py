"""The published measurements of `data/`: which configuration each is about, at which load, and what it gave."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Literal

from llama_client.crossover.serving.engines import canonical_engine, precision_for
from llama_client.crossover.tables import Architecture, Gpu, Tables
from llama_client.errors import InvalidRequestError

Load = Literal["offline", "served", "single"]
"""`offline`: as many requests as fit, all there from the start; `served`: over the network; `single`: one request."""

_FOLDER = "llama_client.crossover.data"
# The rows are dated 2025-10 to 2026-04; most names carry 2026-04.
_MEASURED_ON = date(2026, 4, 1)
_MEASURED_SOURCE = "aiconfigurator-core 0.12.0, silicon_sample.csv (Apache-2.0)"
# How the engines are named in published rows. NIM and MLPerf's submissions have their own, and stay apart.
_ENGINES = {
    "tensorrt-llm": "trtllm",
    "vllm": "vllm",
    "sglang": "sglang",
    "llama.cpp": "llama.cpp",
    "ollama": "llama.cpp",
}


@dataclass(frozen=True)
class PublishedPoint:
    """One row.

    Attributes:
        id: The row's own; of the measured ones, their place in the file.
        model: The shape.
        gpu: The data sheet.
        n_gpus: How many.
        precision: Canonical.
        engine: Canonical.
        load: How requests came.
        isl: Tokens of a prompt; None: not told.
        osl: Tokens of an answer; None: not told.
        batch: Requests at once; None: as many as fit.
        tpot_ms: Milliseconds per output token; None: not told.
        ttft_ms: Milliseconds to the first token; None: not told.
        output_tokens_per_s: Of all requests together.
        source: Where it was published.
        as_of: When; None: undated.
    """

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
    """Whether two models compute the same, as Llama 3.1-70B and 3.3-70B do: every dimension is equal."""
    return _shape(one) == _shape(other)


@cache
def bundled_points() -> tuple[PublishedPoint, ...]:
    """Every row of the two files whose configuration the tables know and whose engine is one of ours."""
    tables = Tables.bundled()
    return (*_measured(tables), *_published(tables))


def published_rows() -> list[dict[str, str]]:
    """The rows of `published_throughput.csv` as they stand."""
    return list(_rows("published_throughput.csv"))


def _measured(tables: Tables) -> Iterator[PublishedPoint]:
    for number, row in enumerate(_rows("measured_throughput.csv"), 2):
        gpu = tables.gpu(row["system"])
        isl, osl, batch = int(row["isl"]), int(row["osl"]), int(row["batch_size"])
        tpot, ttft = float(row["silicon_tpot_ms"]), float(row["silicon_ttft_ms"])
        yield PublishedPoint(
            f"measured_throughput.csv:{number}",
            tables.model(row["model_path"].removesuffix("-FP8")),
            gpu,
            int(row["tp_size"]),
            precision_for(row["gemm_quant_mode"], row["backend"], gpu),
            row["backend"],
            "served",
            isl,
            osl,
            batch,
            tpot,
            ttft,
            # A request takes its first token's time and osl times the others'; so many are under way.
            batch * osl / (ttft + osl * tpot) * 1e3,
            _MEASURED_SOURCE,
            _MEASURED_ON,
        )


def _published(tables: Tables) -> Iterator[PublishedPoint]:
    for row in published_rows():
        engine = _engine(row["engine"])
        load = _load(row["scenario"])
        if engine is None or load is None:
            continue
        gpu = tables.gpu(row["hardware"])
        try:
            precision = precision_for(row["precision"], engine, gpu)
        except InvalidRequestError:
            # "Q4" and "4-bit" do not say which of several formats it was.
            continue
        rate, tpot = float(row["output_tokens_per_s"]), _number(row["tpot_ms"])
        # Where requests come at random, so many are under way (Little).
        counted = rate * tpot / 1e3 if tpot is not None and load == "served" else None
        yield PublishedPoint(
            row["id"],
            tables.model(row["model"]),
            gpu,
            int(row["n_gpus"]),
            precision,
            engine,
            load,
            _whole(row["input_tokens"]),
            _whole(row["output_tokens"]),
            _number(row["concurrency"]) or counted,
            tpot,
            _number(row["ttft_ms"]),
            rate,
            f"{row['source']} ({row['engine']}, {row['scenario']})",
            _day(row["as_of"]),
        )


def _load(scenario: str) -> Load | None:
    if scenario.startswith("offline max load"):
        return "offline"
    if scenario.startswith("single stream"):
        return "single"
    return "served" if scenario.startswith(("offline fixed batch", "open-loop", "closed-loop")) else None


def _engine(text: str) -> str | None:
    """The engine that a row names first; None: none of ours."""
    for word, name in _ENGINES.items():
        if text.lower().startswith(word):
            return canonical_engine(name)
    return None


def _shape(model: Architecture) -> tuple[object, ...]:
    return (
        model.layers,
        model.hidden,
        model.ffn,
        model.heads,
        model.kv_heads,
        model.head_dim,
        model.vocab,
        model.tied_embeddings,
        model.moe,
        model.cross_attention_layers,
    )


def _rows(file: str) -> Iterator[dict[str, str]]:
    from importlib import resources

    yield from csv.DictReader(resources.files(_FOLDER).joinpath(file).read_text(encoding="utf-8").splitlines())


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _day(text: str) -> date | None:
    """The first day of what is told: `2025`, `2025-09` or `2025-09-09`."""
    if not text:
        return None
    year, month, day = (*map(int, text.split("-")), 1, 1)[:3]
    return date(year, month, day)
