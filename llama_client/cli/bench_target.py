"""The subject of `bench`: model, precision, engine and GPUs, given or detected."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.catalog.catalog import Catalog
from llama_client.crossover.bench.levels import Level
from llama_client.crossover.fitting.machines import Machine, this_machine
from llama_client.crossover.parallelism import MAX_GPUS
from llama_client.crossover.precisions import canonical
from llama_client.crossover.throughput.engines import ENGINES, canonical_engine
from llama_client.crossover.throughput.points import CPU, MeasuredPoint
from llama_client.crossover.throughput.replica import Replica, ceiling_tokens_per_s, require_possible
from llama_client.crossover.user_tables import tables_of
from llama_client.errors import InvalidRequestError, LlamaClientError
from llama_client.local_only import leads_here
from llama_client.providers.gguf.adapters import base_of
from llama_client.providers.gguf.header import stem_of
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore
from llama_client.providers.gguf.threads import ThreadChoice, choose_threads

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.crossover.tables import Tables

_WORD = re.compile(r"[A-Za-z0-9_]+")
# With a larger share of failed requests a level was not at its concurrency all the time.
_MOST_FAILED = 0.05


@dataclass(frozen=True, slots=True)
class UserInput:
    model: str | None = None
    gpu: str | None = None
    n_gpus: int | None = None
    precision: str | None = None
    engine: str | None = None


@dataclass(frozen=True, slots=True)
class BenchTarget:
    """None: unknown."""

    model: str | None
    gpu: str | None
    n_gpus: int
    precision: str | None
    engine: str | None
    at_once: int | None = None  # the most requests that this client lets through
    threads: ThreadChoice | None = field(default=None, compare=False)  # of a model in this process

    @property
    def missing(self) -> tuple[str, ...]:
        """What must be given before a measurement of it can be stored."""
        known = {"model": self.model, "gpu": self.gpu, "precision": self.precision}
        return tuple(name for name, value in known.items() if value is None)

    def points(self, levels: list[Level], day: date) -> list[MeasuredPoint]:
        # Worth storing: a steady phase, the server's own counts, hardly a failed request, none that waited here.
        if self.model is None or self.gpu is None or self.precision is None:
            return []
        return [
            MeasuredPoint(
                self.model,
                self.gpu,
                self.n_gpus,
                self.precision,
                self.engine,
                max(round(level.mean_input_tokens or 0), 1),
                max(round(level.mean_output_tokens or 0), 1),
                level.concurrency,
                level.output_tokens_per_s or 0.0,
                level.tpot_ms.mean if level.tpot_ms is not None else None,
                level.ttft_ms.mean if level.ttft_ms is not None else None,
                day,
            )
            for level in levels
            if level.output_tokens_per_s
            and level.is_steady
            and not level.estimated
            and level.failed <= _MOST_FAILED * (level.answered + level.failed)
            and (self.at_once is None or level.concurrency <= self.at_once)
        ]


def what_is_possible(points: Sequence[MeasuredPoint], tables: Tables) -> tuple[list[MeasuredPoint], list[str]]:
    """The points that the data sheets allow (or have no ceiling for), and a message on each of the others."""
    possible, wrong = [], []
    for point in points:
        try:
            _require_possible(point, tables)
        except InvalidRequestError as error:
            wrong.append(f"{error}. Is it another model, precision or GPU, or is speculative decoding on?")
        else:
            possible.append(point)
    return possible, wrong


def _require_possible(point: MeasuredPoint, tables: Tables) -> None:
    """Refuses a point above the ceiling; where the engine is unknown, above the highest one."""
    replicas = []
    for engine in ENGINES if point.engine is None else (point.engine,):
        with suppress(InvalidRequestError):
            model, gpu = tables.model(point.model), tables.gpu(point.gpu)
            replicas.append(Replica(model, gpu, point.n_gpus, point.precision, engine))
    if not replicas:
        return
    isl, osl, batch = point.input_tokens, point.output_tokens, point.concurrency
    fastest = max(replicas, key=lambda each: ceiling_tokens_per_s(each, isl=isl, osl=osl, batch=batch))
    param = f"not stored, at {batch} at once"
    require_possible(point.output_tokens_per_s, fastest, isl=isl, osl=osl, batch=batch, param=param)


def bench_target(
    target: str,
    config: Config,
    given: UserInput,
    *,
    store: ModelStore,
    ollama_host: str | None = None,
    machine: Callable[[], Machine] | None = None,
) -> BenchTarget:
    tables = tables_of(config)
    provider, _, model_id = target.partition("/")
    table = config.providers.get(provider)
    kind = provider if table is None else table.kind
    if kind == "gguf":
        # An adapter changes what is answered, not what that takes.
        model_id = base_of(model_id)
    file = _file_of(getattr(table, "model_path", None), model_id, store) if kind == "gguf" else None
    n_gpus = 1 if given.n_gpus is None else given.n_gpus
    if not 1 <= n_gpus <= MAX_GPUS:
        raise InvalidRequestError(f"gpus: must be from 1 to {MAX_GPUS}, got {n_gpus}", param="gpus")
    url = getattr(table, "base_url", None) or ollama_host
    gpu: str | None = None
    if given.gpu is not None:
        gpu = CPU if given.gpu.strip().lower() == CPU else tables.gpu(given.gpu).name
    elif kind == "gguf" or (kind == "ollama" and (not url or is_loopback(url))):
        gpu = _gpu_of((machine or this_machine)(), kind, getattr(table, "n_gpu_layers", None))
    usual = "llama.cpp" if kind in ("gguf", "ollama") else None
    engine = usual if given.engine is None else canonical_engine(given.engine)
    limit = getattr(table, "n_parallel", 1) if kind == "gguf" else getattr(table, "max_concurrency", None)
    if given.model is not None:
        model: str | None = tables.model(given.model).name
    else:
        model = _first(lambda name: tables.model(name).name, _names(config, provider, kind, model_id, file))
    if given.precision is not None:
        precision: str | None = canonical(given.precision)
    else:
        precision = _first(canonical, _precisions(model_id, file))
    threads = choose_threads(getattr(table, "n_threads", None)) if kind == "gguf" else None
    return BenchTarget(model, gpu, n_gpus, precision, engine, limit, threads)


def is_loopback(url: str) -> bool:
    return leads_here(url if "//" in url else f"//{url}")


def _gpu_of(machine: Machine, kind: str, n_gpu_layers: int | None) -> str | None:
    """The name of this machine's GPU; None: unknown whether it is used, or which."""
    if not machine.gpus or (kind == "gguf" and n_gpu_layers == 0):
        return CPU
    if kind == "gguf" and not machine.has_unified_memory:
        # Whether this build of llama.cpp can use it is not visible from outside.
        return None
    return machine.gpus[0].row if len(machine.gpus) == 1 else None


def _file_of(own: Path | None, model_id: str, store: ModelStore) -> Path | None:
    if model_id == "default" and own is not None:
        return own
    stored = store.find(DEMO_NAME if model_id == "default" else model_id)
    return None if stored is None else stored.path


def _names(config: Config, provider: str, kind: str, model_id: str, file: Path | None) -> list[str]:
    """What the model may be called: by the catalogue, its id, its file."""
    catalog = Catalog.bundled().extended([row.as_row() for row in config.models])
    offer = catalog.offer(provider, model_id) or catalog.offer(kind, model_id)
    names = [model_id] if offer is None else [offer.name, model_id]
    if file is not None:
        # The precision follows the name, as in `Llama-3.2-3B-Instruct-Q4_K_M`.
        stem = stem_of(file)
        names += [re.split(r"[.-](?=[A-Za-z0-9_]+$)", stem)[0], stem]
    return names


def _precisions(model_id: str, file: Path | None) -> list[str]:
    """What the precision may be: the file's own, else the words of the name, the last first."""
    if file is not None:
        from llama_client.crossover.fitting.gguf_files import read_gguf

        # A broken file is reported where it is loaded.
        with suppress(LlamaClientError):
            return [read_gguf(file).precision]
    return _WORD.findall(model_id if file is None else stem_of(file))[::-1]


def _first(canonical_name: Callable[[str], str], names: Sequence[str]) -> str | None:
    for name in names:
        with suppress(InvalidRequestError):
            return canonical_name(name)
    return None
