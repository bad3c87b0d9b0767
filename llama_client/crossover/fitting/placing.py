"""Where on a machine a model finds room: on a GPU, over several, in RAM, or split between them. Room only, no speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llama_client.crossover.fitting.machines import Machine, MachineGpu
from llama_client.crossover.fitting.memory import Need, engine_of, need
from llama_client.crossover.precisions import embedding_parameters
from llama_client.crossover.tables import Architecture

Where = Literal["one-gpu", "several-gpus", "split", "ram"]
ON_GPUS: tuple[Where, ...] = ("one-gpu", "several-gpus")
# Each number of GPUs up to this one is tried, so that no more are used than it takes; beyond it, all.
_FEW_GPUS = 16


@dataclass(frozen=True, slots=True)
class Load:
    """What a machine is asked to hold.

    Attributes:
        model: Its shape.
        precision: Canonical, of the weights.
        context_tokens: Of each sequence.
        sequences: How many at once.
        cache_precision: Of keys and values; None: the engine's default.
        chunked_attention: The engine forgets what lies before a layer's chunk.
        weights_bytes: Exact; None: computed.
    """

    model: Architecture
    precision: str
    context_tokens: int
    sequences: int = 1
    cache_precision: str | None = None
    chunked_attention: bool = False
    weights_bytes: int | None = None

    def need(self, gpus: int = 1, gpu_memory_bytes: int | None = None) -> Need:
        """What it takes over so many GPUs."""
        return need(
            self.model,
            self.precision,
            context_tokens=self.context_tokens,
            sequences=self.sequences,
            cache_precision=self.cache_precision,
            gpus=gpus,
            gpu_memory_bytes=gpu_memory_bytes,
            chunked_attention=self.chunked_attention,
            weights_bytes=self.weights_bytes,
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """Room that was found.

    Attributes:
        where: What kind of room.
        need: What it takes there.
        gpus: How many GPUs share it; 0: none.
        layers_on_gpus: How many layers GPUs hold.
    """

    where: Where
    need: Need
    gpus: int
    layers_on_gpus: int


def place_on_gpus(load: Load, machine: Machine) -> Placement | None:
    """Room on GPUs alone, on as few as it takes; None: there is none."""
    if engine_of(load.precision) == "server":
        return _sharded(load, machine)
    gpus = sorted(machine.gpus, key=lambda gpu: gpu.usable_bytes, reverse=True)
    for count in sorted({*range(1, min(len(gpus), _FEW_GPUS) + 1), len(gpus)} - {0}):
        needed = load.need(count)
        if count == 1:
            fits = needed.total_bytes <= gpus[0].usable_bytes
        else:
            fits = _layers_on(load, needed, gpus[:count]) >= load.model.layers
        if fits:
            return Placement("one-gpu" if count == 1 else "several-gpus", needed, count, load.model.layers)
    return None


def place(load: Load, machine: Machine) -> Placement | None:
    """Room anywhere: on GPUs, else split between them and RAM, else in RAM; None: there is none."""
    found = place_on_gpus(load, machine)
    ram = machine.usable_ram_bytes
    if found is not None or ram is None or engine_of(load.precision) == "server":
        return found
    if machine.gpus and not machine.has_unified_memory:
        # The processor keeps buffers of its own too.
        needed = load.need(len(machine.gpus) + 1)
        layers = min(_layers_on(load, needed, machine.gpus), load.model.layers - 1)
        rest = _layer_bytes(load, needed) * (load.model.layers - layers)
        if layers > 0 and rest + _buffer_bytes(load) <= ram:
            return Placement("split", needed, len(machine.gpus), layers)
    needed = load.need()
    return Placement("ram", needed, 0, 0) if needed.total_bytes <= ram else None


def shortage(load: Load, machine: Machine) -> tuple[Need, int | None]:
    """What it takes and how much of it is missing on all GPUs together, or in RAM where there are none.

    Returns:
        The need, and the missing bytes; None: the machine's memory is unknown.
    """
    count = len(machine.gpus)
    if engine_of(load.precision) == "server":
        if count == 0:
            return load.need(), None
        memory = min(gpu.usable_bytes for gpu in machine.gpus)
        count = max(_parallel(load.model, count))
        needed = load.need(count, memory)
        return needed, max(needed.total_bytes - memory * count, 0)
    if count == 0:
        needed, ram = load.need(), machine.usable_ram_bytes
        return needed, None if ram is None else max(needed.total_bytes - ram, 0)
    needed = load.need(count)
    missing = needed.total_bytes - machine.usable_gpu_bytes
    # The sum would do, but layers are not cut through: about one more has to fit.
    return needed, missing if missing > 0 else _layer_bytes(load, needed)


def _sharded(load: Load, machine: Machine) -> Placement | None:
    """Room for a server, which cuts every layer in as many equal parts as there are GPUs."""
    if not can_serve(machine):
        return None
    memory = min(gpu.usable_bytes for gpu in machine.gpus)
    for count in _parallel(load.model, len(machine.gpus)):
        needed = load.need(count, memory)
        if needed.total_bytes <= memory * count:
            return Placement("one-gpu" if count == 1 else "several-gpus", needed, count, load.model.layers)
    return None


def can_serve(machine: Machine) -> bool:
    """Whether vLLM and its kind run there: on GPUs of NVIDIA or AMD."""
    return bool(machine.gpus) and all(gpu.vendor in ("nvidia", "amd") for gpu in machine.gpus)


def _parallel(model: Architecture, gpus: int) -> list[int]:
    """The numbers of GPUs that tensor parallelism can use: those that divide the heads."""
    return [count for count in range(1, min(gpus, model.heads) + 1) if model.heads % count == 0]


def _layers_on(load: Load, needed: Need, gpus: tuple[MachineGpu, ...] | list[MachineGpu]) -> int:
    """How many layers, with their part of the cache, find room on GPUs that are filled one after the other.

    Embeddings and the head lie on the largest.
    """
    layer, head, buffers = _layer_bytes(load, needed), _head_bytes(load, needed), _buffer_bytes(load)
    largest = max(range(len(gpus)), key=lambda index: gpus[index].usable_bytes)
    rooms = (gpu.usable_bytes - buffers - (head if index == largest else 0) for index, gpu in enumerate(gpus))
    return min(sum(max(room, 0) // layer for room in rooms), load.model.layers)


def _buffer_bytes(load: Load) -> int:
    """What each holder of layers keeps beside them."""
    own = load.need()
    return own.compute_bytes + own.runtime_bytes


def _head_bytes(load: Load, needed: Need) -> int:
    share = embedding_parameters(load.model) / max(load.model.all_parameters, 1)
    return int(needed.weights_bytes * min(share, 1.0))


def _layer_bytes(load: Load, needed: Need) -> int:
    layers = max(load.model.layers, 1)
    return max((needed.weights_bytes - _head_bytes(load, needed) + needed.kv_cache_bytes) // layers, 1)
