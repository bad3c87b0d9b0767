"""Whether a model fits a machine, where on it, and how far context and concurrency go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from llama_client.crossover.fitting.machines import Machine, MachineGpu
from llama_client.crossover.fitting.memory import Engine, Need, engine_of, need, require_positive, value_bytes_of_cache
from llama_client.crossover.parallelism import degrees
from llama_client.crossover.precisions import canonical, embedding_parameters, family, gguf_names, weight_bytes
from llama_client.crossover.scenario import invalid
from llama_client.crossover.tables import Architecture

Where = Literal["one-gpu", "several-gpus", "split", "ram"]
ON_GPUS: tuple[Where, ...] = ("one-gpu", "several-gpus")
# Each number of GPUs up to this one is tried, so that no more are used than needed; beyond it, only all of them.
_FEW_GPUS = 16


@dataclass(frozen=True)
class PlacementRequest:
    """What a machine has to hold: the arguments of `need`."""

    model: Architecture
    precision: str
    context_tokens: int
    sequences: int = 1
    cache_precision: str | None = None
    chunked_attention: bool = False
    weights_bytes: int | None = None

    @property
    def is_served(self) -> bool:
        return engine_of(self.precision) == "server"

    def need(self, gpus: int = 1, gpu_memory_bytes: int | None = None) -> Need:
        return need(**vars(self), gpus=gpus, gpu_memory_bytes=gpu_memory_bytes)


@dataclass(frozen=True)
class Placement:
    where: Where | None  # None: there is no room
    need: Need
    gpus: int
    layers_on_gpus: int


def place_on_gpus(load: PlacementRequest, machine: Machine) -> Placement | None:
    """Room on GPUs alone, on as few as possible; None: there is none."""
    if load.is_served:
        return _sharded(load, machine)
    gpus = sorted(machine.gpus, key=lambda gpu: gpu.usable_bytes, reverse=True)
    for count in sorted({*range(1, min(len(gpus), _FEW_GPUS) + 1), len(gpus)} - {0}):
        needed = load.need(count)
        fits_one = count == 1 and needed.total_bytes <= gpus[0].usable_bytes
        if fits_one or (count > 1 and _layers_on(load, needed, gpus[:count]) >= load.model.layers):
            return _on_gpus(load, needed, count)
    return None


def place(load: PlacementRequest, machine: Machine) -> Placement | None:
    """Room anywhere: on GPUs, else split between them and RAM, else in RAM; None: there is none."""
    found = place_on_gpus(load, machine)
    ram = machine.usable_ram_bytes
    if found is not None or ram is None or load.is_served:
        return found
    if machine.gpus and not machine.has_unified_memory:
        # The CPU keeps buffers of its own too.
        needed = load.need(len(machine.gpus) + 1)
        layers = min(_layers_on(load, needed, machine.gpus), load.model.layers - 1)
        rest = _layer_bytes(load, needed) * (load.model.layers - layers)
        if layers > 0 and rest + _buffer_bytes(load) <= ram:
            return Placement("split", needed, len(machine.gpus), layers)
    needed = load.need()
    return Placement("ram", needed, 0, 0) if needed.total_bytes <= ram else None


def shortage(load: PlacementRequest, machine: Machine) -> tuple[Need, int | None]:
    """The need, and how much of it is missing on all GPUs together, or in RAM where there are none."""
    count = len(machine.gpus)
    if count == 0:
        needed, ram = load.need(), machine.usable_ram_bytes
        return needed, None if ram is None or load.is_served else max(needed.total_bytes - ram, 0)
    if load.is_served:
        memory = min(gpu.usable_bytes for gpu in machine.gpus)
        count = max(degrees(load.model, "server", count))
        needed = load.need(count, memory)
        return needed, max(needed.total_bytes - memory * count, 0)
    needed = load.need(count)
    missing = needed.total_bytes - machine.usable_gpu_bytes
    # The sum would be enough, but layers are not divided: about one more has to fit.
    return needed, missing if missing > 0 else _layer_bytes(load, needed)


def _sharded(load: PlacementRequest, machine: Machine) -> Placement | None:
    """Room for a server, which divides every layer into as many equal parts as there are GPUs."""
    if not can_serve(machine):
        return None
    memory = min(gpu.usable_bytes for gpu in machine.gpus)
    for count in degrees(load.model, "server", len(machine.gpus)):
        needed = load.need(count, memory)
        if needed.total_bytes <= memory * count:
            return _on_gpus(load, needed, count)
    return None


def _on_gpus(load: PlacementRequest, needed: Need, gpus: int) -> Placement:
    return Placement("one-gpu" if gpus == 1 else "several-gpus", needed, gpus, load.model.layers)


def can_serve(machine: Machine) -> bool:
    """Whether vLLM, TensorRT-LLM or SGLang run there: on GPUs of NVIDIA or AMD."""
    return bool(machine.gpus) and all(gpu.vendor in ("nvidia", "amd") for gpu in machine.gpus)


def _layers_on(load: PlacementRequest, needed: Need, gpus: tuple[MachineGpu, ...] | list[MachineGpu]) -> int:
    """How many layers, with their part of the cache, fit on GPUs; embeddings and the head are on the largest."""
    layer, head, buffers = _layer_bytes(load, needed), _head_bytes(load, needed), _buffer_bytes(load)
    largest = max(range(len(gpus)), key=lambda index: gpus[index].usable_bytes)
    rooms = (gpu.usable_bytes - buffers - (head if index == largest else 0) for index, gpu in enumerate(gpus))
    return min(sum(max(room, 0) // layer for room in rooms), load.model.layers)


def _buffer_bytes(load: PlacementRequest) -> int:
    own = load.need()
    return own.compute_bytes + own.runtime_bytes


def _head_bytes(load: PlacementRequest, needed: Need) -> int:
    share = embedding_parameters(load.model) / max(load.model.all_parameters, 1)
    return int(needed.weights_bytes * min(share, 1.0))


def _layer_bytes(load: PlacementRequest, needed: Need) -> int:
    layers = max(load.model.layers, 1)
    return max((needed.weights_bytes - _head_bytes(load, needed) + needed.kv_cache_bytes) // layers, 1)


DEFAULT_CONTEXT_TOKENS = 8192
# The answer where nothing fits and no precision was asked for: what most people download.
_COMMON_PRECISION = "Q4_K_M"
_SERVED_PRECISIONS = ("bf16", "fp8", "nvfp4", "int4")
_MAX_SEQUENCES, _MAX_GPUS_NAMED, _CONTEXT_STEP_TOKENS = 65_536, 64, 256


@dataclass(frozen=True, slots=True)
class Option:
    precision: str
    engine: Engine
    where: Where | None
    need: Need
    gpus: int
    layers_on_gpus: int
    shortage_bytes: int | None
    longest_context_tokens: int | None
    longest_gpu_context_tokens: int | None
    max_sequences: int

    @property
    def fits_on_gpus(self) -> bool:
        return self.where in ON_GPUS

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"need": self.need.as_dict()}


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model fits a machine.

    Attributes:
        model: The requested model.
        machine: The requested machine.
        context_tokens: Of each sequence.
        sequences: How many at once.
        cache_precision: Of keys and values; None: each engine's default.
        chunked_attention: Whether the engine makes use of Llama 4's chunks.
        asked_precision: The requested precision; None: the best.
        answer: The requested precision; else the best that fits; else a common one.
        best: The most bits per weight that fit, on GPUs if anything does; None: nothing fits.
        options: All precisions, most bits first.
        gpus_needed: How many of the machine's GPU the answer needs, where they do not hold it; None: they do, the GPUs
            differ, or 64 are not enough.
    """

    model: Architecture
    machine: Machine
    context_tokens: int
    sequences: int
    cache_precision: str | None
    chunked_attention: bool
    asked_precision: str | None
    answer: Option
    best: Option | None
    options: tuple[Option, ...]
    gpus_needed: int | None

    @property
    def fits(self) -> bool:
        """Whether the answer's precision fits anywhere on the machine."""
        return self.answer.where is not None

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON: sizes in bytes."""
        asked = ("context_tokens", "sequences", "cache_precision", "chunked_attention", "asked_precision")
        return {
            "model": self.model.name,
            "machine": self.machine.as_dict(),
            **{name: getattr(self, name) for name in asked},
            "fits": self.fits,
            "answer": self.answer.as_dict(),
            "best_precision": None if self.best is None else self.best.precision,
            "gpus_needed": self.gpus_needed,
            "options": [option.as_dict() for option in self.options],
        }


def fit(
    model: Architecture,
    machine: Machine,
    *,
    precision: str | None = None,
    context_tokens: int | None = None,
    sequences: int = 1,
    cache_precision: str | None = None,
    chunked_attention: bool = False,
    weights_bytes: int | None = None,
) -> Fit:
    """Whether a model fits a machine.

    Args:
        model: From the tables or a file.
        machine: `this_machine()` or `named(...)`.
        precision: Of the weights; None: the best that fits.
        context_tokens: Of each sequence; None: 8,192, or what the model was trained for where that is less.
        sequences: How many are answered at once.
        cache_precision: Of keys and values; None: each engine's default.
        chunked_attention: The engine makes use of Llama 4's chunks.
        weights_bytes: Exact, as from a GGUF file, whose precision is then the only one; None: computed.

    Raises:
        InvalidRequestError: A name is unknown, a count is not positive, or the context is longer than the model's.

    Examples:
        >>> from llama_client.crossover.fitting.machines import named
        >>> from llama_client.crossover.tables import Tables
        >>> answer = fit(Tables.bundled().model("llama-3.3-70b"), named("rtx_4090"), precision="Q4_K_M")
        >>> answer.fits, answer.gpus_needed
        (False, 2)
    """
    if context_tokens is None:
        context_tokens = min(DEFAULT_CONTEXT_TOKENS, model.context_tokens)
    # A file's own precision may have no known size.
    name = _COMMON_PRECISION if precision is None else canonical(precision) if weights_bytes is None else precision
    load = PlacementRequest(model, name, context_tokens, sequences, cache_precision, chunked_attention, weights_bytes)
    _check(load, machine)
    options = tuple(_option(each, machine) for each in _loads(load, machine))
    by_name = {option.precision: option for option in options}
    fitting = [option for option in options if option.where is not None]
    best = next((option for option in fitting if option.fits_on_gpus), fitting[0] if fitting else None)
    if precision is not None or weights_bytes is not None:
        answer = by_name.get(load.precision) or _option(load, machine)
    else:
        answer = best or by_name.get(_COMMON_PRECISION) or options[-1]
    needed = None if answer.fits_on_gpus else _gpus_needed(replace(load, precision=answer.precision), machine)
    asked = None if precision is None else load.precision
    request = (context_tokens, sequences, cache_precision, chunked_attention, asked)
    return Fit(model, machine, *request, answer, best, options, needed)


def _check(load: PlacementRequest, machine: Machine) -> None:
    require_positive(context_tokens=load.context_tokens, sequences=load.sequences)
    if load.context_tokens > load.model.context_tokens:
        trained = f"{load.model.name} was trained for {load.model.context_tokens:,} tokens"
        raise invalid("context_tokens", f"{trained}, got {load.context_tokens:,}")
    if load.is_served and not can_serve(machine):
        raise invalid(
            "precision",
            f"{load.precision!r} is run by vLLM, TensorRT-LLM and SGLang, on GPUs of NVIDIA or AMD, and "
            f"{machine.name} has none; give one of GGUF, such as 'Q8_0' or 'F16'",
        )
    lacks_fp4 = any(gpu.vendor == "amd" and gpu.has_fp4 is False for gpu in machine.gpus)
    if family(load.precision) == "fp4" and lacks_fp4:
        lacks = f"{machine.name} has no arithmetic of 4 bits, and no engine unpacks {load.precision!r} on GPUs of AMD"
        raise invalid("precision", f"{lacks}; give 'fp8' or 'bf16', or one of GGUF, such as 'Q4_K_M'")
    value_bytes_of_cache(load.cache_precision, load.precision)


def _loads(load: PlacementRequest, machine: Machine) -> list[PlacementRequest]:
    """The request in every precision that the machine could run, most bits first."""
    if load.weights_bytes is not None:
        return [load]
    names = list(gguf_names())
    if can_serve(machine):
        with_fp4 = all(gpu.has_fp4 for gpu in machine.gpus)
        names += [name for name in _SERVED_PRECISIONS if name != "nvfp4" or with_fp4]
        names += [name for name in ("mxfp4",) if load.model.published_precision == name]
    # Of two equal to a thousandth, the server's comes first: it answers many at once.
    sizes = {name: round(weight_bytes(load.model, name) / load.model.all_parameters, 3) for name in names}
    names.sort(key=lambda name: (-sizes[name], engine_of(name) != "server"))
    return [replace(load, precision=name) for name in names]


def _option(load: PlacementRequest, machine: Machine) -> Option:
    if load.weights_bytes is None:
        # Once, not for each of the hundred contexts and counts that are tried below.
        load = replace(load, weights_bytes=round(weight_bytes(load.model, load.precision)))
    needed, missing = shortage(load, machine)
    found = place(load, machine) or Placement(None, needed, 0, 0)
    is_on_gpus = found.where in ON_GPUS
    find = place_on_gpus if is_on_gpus else place
    on_gpus = _longest(load, machine, place_on_gpus)
    return Option(
        precision=load.precision,
        engine=engine_of(load.precision),
        **vars(found),
        shortage_bytes=0 if is_on_gpus or (found.where is not None and not machine.gpus) else missing,
        longest_context_tokens=on_gpus if is_on_gpus else _longest(load, machine, place),
        longest_gpu_context_tokens=on_gpus,
        max_sequences=_most(lambda count: find(replace(load, sequences=count), machine) is not None, _MAX_SEQUENCES),
    )


def _longest(
    load: PlacementRequest, machine: Machine, find: Callable[[PlacementRequest, Machine], Placement | None]
) -> int | None:
    """The longest context that fits, rounded down as engines lay out caches; None: there is none."""
    trained = load.model.context_tokens
    tokens = _most(lambda count: find(replace(load, context_tokens=count), machine) is not None, trained)
    if tokens in (0, trained) or tokens < _CONTEXT_STEP_TOKENS:
        return tokens or None
    return tokens - tokens % _CONTEXT_STEP_TOKENS


def _most(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number up to a limit that fits, where each smaller one fits too; 0: none."""
    low, high = 0, limit
    if fits(limit):
        return limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _gpus_needed(load: PlacementRequest, machine: Machine) -> int | None:
    if not machine.gpus_are_alike or machine.has_unified_memory:
        return None
    counts = range(len(machine.gpus) + 1, _MAX_GPUS_NAMED + 1)
    return next((count for count in counts if place_on_gpus(load, machine.with_gpus(count)) is not None), None)
