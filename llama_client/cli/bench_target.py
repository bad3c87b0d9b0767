"""What `bench` measures: model, precision, engine, GPUs; stated or detected."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llama_client.crossover.bench.levels import Level
from llama_client.crossover.fitting.machines import MAX_GPUS, Machine, this_machine
from llama_client.crossover.precisions import canonical
from llama_client.crossover.throughput.engines import ENGINES, canonical_engine
from llama_client.crossover.throughput.points import CPU, MeasuredPoint
from llama_client.crossover.user_tables import tables_of
from llama_client.errors import InvalidRequestError, LlamaClientError
from llama_client.local_only import is_this_machine

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.crossover.tables import Tables
    from llama_client.providers.gguf.store import ModelStore


_WORD = re.compile(r"[A-Za-z0-9_]+")
# A level in which more than one request of twenty failed was not at its concurrency all the time.
_MOST_FAILED = 0.05


@dataclass(frozen=True, slots=True)
class UserInput:
    """What the user says of the target; None: nothing."""

    model: str | None = None
    gpu: str | None = None
    n_gpus: int | None = None
    precision: str | None = None
    engine: str | None = None


@dataclass(frozen=True, slots=True)
class BenchTarget:
    """What is measured, as far as it is known."""

    model: str | None
    gpu: str | None
    n_gpus: int
    precision: str | None
    engine: str | None
    at_once: int | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """What has to be said before a measurement of it can be kept."""
        known = {"model": self.model, "gpu": self.gpu, "precision": self.precision}
        return tuple(name for name, value in known.items() if value is None)

    def points(self, levels: list[Level], day: date) -> list[MeasuredPoint]:
        """What of a measurement is worth keeping.

        That is each level with a steady phase and the server's own counts, in which hardly a request failed, and whose
        requests all reached the model.
        """
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
    """The points that the data sheets allow, and what is wrong with the others.

    Of a model or GPU that the tables do not have nothing can be said, nor of a precision that no such engine runs:
    these points are among the first.
    """
    possible, wrong = [], []
    for point in points:
        try:
            _require_possible(point, tables)
        except InvalidRequestError as error:
            wrong.append(f"{error}. Is it another model, precision or GPU, or does it guess ahead?")
        else:
            possible.append(point)
    return possible, wrong


def _require_possible(point: MeasuredPoint, tables: Tables) -> None:
    """Refuses a point that is above the ceiling; of an engine that nobody named, of the one that goes furthest."""
    from llama_client.crossover.throughput.replica import Replica, ceiling_tokens_per_s, require_possible

    replicas = []
    for engine in ENGINES if point.engine is None else (point.engine,):
        with suppress(InvalidRequestError):
            model, gpu = tables.model(point.model), tables.gpu(point.gpu)
            replicas.append(Replica(model, gpu, point.n_gpus, point.precision, engine))
    if not replicas:
        return
    isl, osl, batch = point.input_tokens, point.output_tokens, point.concurrency
    furthest = max(replicas, key=lambda each: ceiling_tokens_per_s(each, isl=isl, osl=osl, batch=batch))
    param = f"not stored, at {batch} at once"
    require_possible(point.output_tokens_per_s, furthest, isl=isl, osl=osl, batch=batch, param=param)


def bench_target(
    target: str,
    config: Config,
    said: UserInput,
    *,
    store: ModelStore,
    ollama_host: str | None = None,
    machine: Callable[[], Machine] | None = None,
) -> BenchTarget:
    """What a target is."""
    tables = tables_of(config)
    provider, _, model_id = target.partition("/")
    table = config.providers.get(provider)
    kind = provider if table is None else table.kind
    file = _file_of(config, provider, kind, model_id, store)
    gpu, n_gpus = _gpus(said, tables)
    if gpu is None and _is_here(kind, getattr(table, "base_url", None) or ollama_host):
        gpu = _gpu_of((machine or this_machine)(), kind, getattr(table, "n_gpu_layers", None))
    engine = None if said.engine is None else canonical_engine(said.engine)
    if engine is None and kind in ("gguf", "ollama"):
        engine = "llama.cpp"
    slots: int | None = 1 if kind == "gguf" else None
    limit = getattr(table, "n_parallel", slots) if kind == "gguf" else getattr(table, "max_concurrency", None)
    return BenchTarget(
        _model(said.model, config, provider, kind, model_id, file, tables),
        gpu,
        n_gpus,
        _precision(said.precision, model_id if file is None else file.stem, file),
        engine,
        limit,
    )


def _gpus(said: UserInput, tables: Tables) -> tuple[str | None, int]:
    n_gpus = 1 if said.n_gpus is None else said.n_gpus
    if not 1 <= n_gpus <= MAX_GPUS:
        raise InvalidRequestError(f"gpus: must be from 1 to {MAX_GPUS}, got {n_gpus}", param="gpus")
    if said.gpu is None:
        return None, n_gpus
    return (CPU if said.gpu.strip().lower() == CPU else tables.gpu(said.gpu).name), n_gpus


def _is_here(kind: str, url: str | None) -> bool:
    """Whether this machine is the one that answers."""
    if kind == "gguf":
        return True
    return kind == "ollama" and (not url or is_loopback(url))


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own."""
    return is_this_machine(urlsplit(url if "//" in url else f"//{url}").hostname or "")


def _gpu_of(machine: Machine, kind: str, n_gpu_layers: int | None) -> str | None:
    """The name of this machine's GPU; None: nobody knows whether it is used, or which."""
    if not machine.gpus or (kind == "gguf" and n_gpu_layers == 0):
        return CPU
    if kind == "gguf" and not machine.has_unified_memory:
        # Whether this build of llama.cpp can use it cannot be told from outside.
        return None
    return machine.gpus[0].row if len(machine.gpus) == 1 else None


def _file_of(config: Config, provider: str, kind: str, model_id: str, store: ModelStore) -> Path | None:
    if kind != "gguf":
        return None
    own: Path | None = getattr(config.providers.get(provider), "model_path", None)
    if model_id == "default" and own is not None:
        return own
    from llama_client.providers.gguf.store import DEMO_NAME

    stored = store.find(DEMO_NAME if model_id == "default" else model_id)
    return None if stored is None else stored.path


def _model(
    said: str | None, config: Config, provider: str, kind: str, model_id: str, file: Path | None, tables: Tables
) -> str | None:
    """The canonical name of the model: as the user says, else as the catalogue, the id or the file does."""
    if said is not None:
        return tables.model(said).name
    from llama_client.catalog.catalog import Catalog

    catalog = Catalog.bundled().extended([row.as_row() for row in config.models])
    offer = catalog.offer(provider, model_id) or catalog.offer(kind, model_id)
    names = [model_id] if offer is None else [offer.name, model_id]
    if file is not None:
        # Behind the name stands the precision, as in `Llama-3.2-3B-Instruct-Q4_K_M`.
        words = re.split(r"[.-](?=[A-Za-z0-9_]+$)", file.stem)
        names += [words[0], file.stem]
    for name in names:
        try:
            return tables.model(name).name
        except InvalidRequestError:
            continue
    return None


def _precision(said: str | None, name: str, file: Path | None) -> str | None:
    """The precision: as the user says, else as the file or the name does."""
    if said is not None:
        return canonical(said)
    words = _WORD.findall(name)
    if file is not None:
        from llama_client.crossover.fitting.gguf_files import read_gguf

        # Else its name has to do; what is wrong with it, who loads it will say.
        with suppress(LlamaClientError):
            words = [read_gguf(file).precision]
    for word in reversed(words):
        try:
            return canonical(word)
        except InvalidRequestError:
            continue
    return None
