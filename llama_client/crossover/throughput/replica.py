"""One replica (a server process, its GPUs, the model on them): its estimated speed by batch, and the ceiling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from llama_client.crossover.parallelism import MAX_GPUS, at_least, kv_copies, require_degree
from llama_client.crossover.precisions import cached_value_bytes, family, weight_bytes
from llama_client.crossover.scenario import invalid
from llama_client.crossover.tables import Architecture, Gpu
from llama_client.crossover.throughput import llama_cpp
from llama_client.crossover.throughput.engines import (
    Constants,
    canonical_engine,
    fitted,
    precision_for,
    require_native,
    runs,
)
from llama_client.crossover.throughput.work import (
    ServingHardware,
    StepTime,
    copies_bytes,
    hardware,
    read_weight_bytes,
    require_lengths,
    require_number,
    require_whole,
    step_time,
    usable_bytes,
    work_of,
)

Binding = Literal["memory", "bandwidth", "compute", "slo"]
# No server runs with more requests at once; vLLM's default is 256 to 1024, TensorRT-LLM's 2048.
MAX_BATCH = 4096
# llama.cpp's server splits its context into as many slots as it is configured for; no published figure has more.
LLAMA_CPP_MAX_BATCH = 32
# If a batch twice as large would give this much more, memory is what limits the rate.
_WORTH_MORE_MEMORY = 1.2
# Copies that would take more of the memory which the weights leave are not made: a judgement.
_MOST_COPIES = 0.75
# Steps of the search for the largest batch: to a millionth of a request.
_HALVINGS = 32


@dataclass(frozen=True, slots=True)
class Saturation:
    """A replica under the largest load that a limit allows."""

    output_tokens_per_s: float
    batch: int
    tpot_ms: float
    ttft_ms: float | None
    binding: Binding | None  # None: unknown, as no estimate is compared

    def times(self, factor: float) -> Saturation:
        """The same load on a replica that is faster by a factor."""
        rate, first = self.output_tokens_per_s * factor, None if self.ttft_ms is None else self.ttft_ms / factor
        return replace(self, output_tokens_per_s=rate, tpot_ms=self.tpot_ms / factor, ttft_ms=first)


@dataclass(frozen=True)
class Replica:
    """A model split over GPUs, tensor-parallel; under llama.cpp layer by layer."""

    model: Architecture
    gpu: Gpu
    n_gpus: int = 1
    precision: str = "fp8"
    engine: str = "trtllm"
    constants: Constants | None = None
    cached_share: float = 0.0  # of input tokens: those that its prefix cache holds

    def __post_init__(self) -> None:
        require_whole("n_gpus", self.n_gpus, "GPUs")
        if not 1 <= self.n_gpus <= MAX_GPUS:
            raise invalid("n_gpus", f"must be from 1 to {MAX_GPUS}, got {self.n_gpus}")
        engine = canonical_engine(self.engine)
        object.__setattr__(self, "engine", engine)
        object.__setattr__(self, "precision", precision_for(self.precision, engine, self.gpu))

    @property
    def is_llama_cpp(self) -> bool:
        return self.engine == "llama.cpp"

    @property
    def has_curve(self) -> bool:
        """Whether there is an estimate for several requests: not where the FLOPS of the chip are unknown."""
        return self.gpu.bf16_tflops is not None or not self.is_llama_cpp

    @cached_property
    def kv_value_bytes(self) -> float:
        """Bytes of one value in the KV cache: 8 bits only where the GPU computes in them."""
        native = {"fp8": self.gpu.fp8_tflops, "fp4": self.gpu.fp4_tflops}.get(family(self.precision), 0.0)
        return 2.0 if native is None else cached_value_bytes(self.precision)

    @cached_property
    def kv_bytes_per_token(self) -> float:
        """Bytes of one token in the KV cache over all GPUs, copies included."""
        return self.model.kv_bytes_per_token(self.kv_value_bytes) * self._kv_copies

    @cached_property
    def _kv_copies(self) -> float:
        """How often each key and value is kept; once where every GPU has requests of its own."""
        return kv_copies(self.model, self.engine, self.n_gpus) if self.groups == 1 else 1.0

    def room_for(self, isl: int, osl: int) -> float:
        """How many requests' caches the memory holds on average; below 1: not even one."""
        # A request in flight holds half of its answer on average, and needs some room to grow. Layers that look back a
        # window alone keep what is before it too: so these engines come.
        each = self.kv_bytes_per_token * (isl + 0.75 * osl)
        return min(self.max_batch, (self._free_bytes - self.copied_bytes) / each)

    @property
    def max_batch(self) -> int:
        return LLAMA_CPP_MAX_BATCH if self.is_llama_cpp else MAX_BATCH * self.groups

    @cached_property
    def groups(self) -> int:
        """How many GPUs answer requests of their own, with copies of all but the experts; 1: they share each request.

        TensorRT-LLM's published rates of mixtures are of such servers (attention data parallelism).
        """
        if self.model.moe is None or self.is_llama_cpp:
            return 1
        copies = copies_bytes(self.model, self.precision, self.n_gpus)
        return self.n_gpus if copies <= _MOST_COPIES * self._free_bytes else 1

    @cached_property
    def copied_bytes(self) -> float:
        """What the copies of those GPUs take, beyond the weights themselves."""
        return copies_bytes(self.model, self.precision, self.groups)

    @cached_property
    def _free_bytes(self) -> float:
        """What the weights leave for caches."""
        return usable_bytes(self.gpu, self.engine) * self.n_gpus - weight_bytes(self.model, self.precision)

    def largest_batch(self, isl: int, osl: int) -> int:
        require_lengths(self.model, isl, osl)
        require_degree(self.model, self.engine, self.n_gpus)
        require_native(self.precision, self.engine, self.gpu)
        _require_room(self, isl + osl)
        return math.floor(self.room_for(isl, osl))

    def tpot_ms(self, batch: float, isl: int, osl: int, *, served: bool = True) -> float:
        require_number("batch", batch)
        if batch < 1:
            raise invalid("batch", f"must be at least 1, got {batch}")
        running = min(batch, self.largest_batch(isl, osl))
        return self._tpot_ms(running, isl, osl, served=served)

    def ttft_ms(self, batch: float, isl: int, osl: int, *, served: bool = True) -> float | None:
        """Milliseconds to the first token with a batch in flight; None: unknown, as the GPU's FLOPS are."""
        # Its own prompt, one step of the others, and the wait for prompts that arrive at random (M/D/1), times what
        # bursts add. Not the wait for a place in a full batch, which has no bound.
        if not self.has_curve:
            return None
        own = self._prompt_ms(isl)
        step = self._tpot_ms(min(batch, self.largest_batch(isl, osl)), isl, osl, served=served)
        busy = min(own * (batch - 1) / osl / step, 0.99)
        alone = own + step + own * busy / (2 * (1 - busy))
        return alone * (1 if self.is_llama_cpp and batch == 1 else self._constants.first_token_factor)

    def max_output_tokens_per_s(self, isl: int, osl: int, *, served: bool = False) -> Saturation:
        """The rate of the largest batch that fits, always full."""
        return self._at(self._useful_batch(isl, osl), isl, osl, served=served)

    def output_tokens_per_s_under(self, isl: int, osl: int, *, tpot_ms: float, ttft_s: float) -> Saturation:
        def keeps(batch: float) -> bool:
            first = self.ttft_ms(batch, isl, osl)
            return self._tpot_ms(batch, isl, osl, served=True) <= tpot_ms and (first is None or first <= ttft_s * 1e3)

        most = self._useful_batch(isl, osl)
        if not keeps(1):
            return replace(self.alone(isl, osl), output_tokens_per_s=0.0, batch=0, binding="slo")
        if keeps(most):
            return self._at(most, isl, osl, served=True)
        return replace(self._at(_last(keeps, most), isl, osl, served=True), binding="slo")

    def output_tokens_per_s(self, batch: float, isl: int, osl: int, *, own_prompt: bool = True) -> float:
        """The rate of a batch that is always full, served."""
        known = own_prompt and self.ttft_ms(batch, isl, osl) is not None
        return batch / self._tpot_ms(batch, isl, osl, served=True, own_prompt=known) * 1e3

    def alone(self, isl: int, osl: int) -> Saturation:
        """One request at a time, served."""
        self.largest_batch(isl, osl)
        return self._at(1, isl, osl, served=True)

    def _useful_batch(self, isl: int, osl: int) -> int:
        """The largest batch that there is an estimate for."""
        most = self.largest_batch(isl, osl)
        return most if self.has_curve else 1

    def _at(self, batch: float, isl: int, osl: int, *, served: bool) -> Saturation:
        tpot = self._tpot_ms(batch, isl, osl, served=served)
        first = self.ttft_ms(batch, isl, osl, served=served)
        # Where the FLOPS are unknown, so is the time that prompts take.
        each = self._tpot_ms(batch, isl, osl, served=served, own_prompt=first is not None)
        binding = self._binding(batch, isl, osl, served=served)
        return Saturation(batch / each * 1e3, math.floor(batch), tpot, first, binding)

    def _binding(self, batch: float, isl: int, osl: int, *, served: bool) -> Binding:
        if self.is_llama_cpp and batch == 1:
            return "bandwidth"
        step = self._step(batch, isl, osl, served=served, own_prompt=True)
        twice = self._step(2 * batch, isl, osl, served=served, own_prompt=True)
        if batch < self.max_batch and 2 * step.total_ms / twice.total_ms >= _WORTH_MORE_MEMORY:
            return "memory"
        return "bandwidth" if step.read_ms > step.decode_ms + step.prefill_ms else "compute"

    def _tpot_ms(self, batch: float, isl: int, osl: int, *, served: bool, own_prompt: bool = False) -> float:
        """The time of a token after the first; with its own prompt, its share of the whole time of a request."""
        if self.is_llama_cpp and batch == 1:
            alone = llama_cpp.tpot_ms(self.model, self.gpu, self.precision, context_tokens=isl + osl / 2)
            return alone + self._prompt_ms(isl) / osl if own_prompt else alone
        return self._step(batch, isl, osl, served=served, own_prompt=own_prompt).total_ms

    def _step(self, batch: float, isl: int, osl: int, *, served: bool, own_prompt: bool) -> StepTime:
        if self.is_llama_cpp:
            if self.gpu.bf16_tflops is None:
                known = f"the FLOPS of {self.gpu.name!r} are unknown, so only one request at a time is known"
                raise invalid("batch", f"{known}; give 1, or a row of your own with bf16_tflops")
            prompts = batch if own_prompt else batch - 1
            own = (self.model, self.gpu, self.precision)
            return llama_cpp.step(*own, batch, isl, osl, prompts=prompts, cached_share=self.cached_share)
        work = work_of(
            self.model,
            self.precision,
            self.kv_value_bytes * self._kv_copies,
            self.n_gpus,
            batch,
            isl,
            osl,
            own_prompt=own_prompt,
            groups=self.groups,
            copied=self.copied_bytes,
            cached_share=self.cached_share,
        )
        return step_time(work, self._hardware, self.precision, self.engine, self._constants, served=served)

    def _prompt_ms(self, isl: int) -> float:
        step = self._step(1, isl, 1, served=False, own_prompt=True)
        return step.prefill_ms + step.exchange_ms

    @cached_property
    def _hardware(self) -> ServingHardware:
        return hardware(self.gpu, self.n_gpus, self.precision, fitted().link_gb_per_s(self.gpu.name))

    @property
    def _constants(self) -> Constants:
        return self.constants or fitted().servers


def _last(keeps: Callable[[float], bool], most: float) -> float:
    """The largest batch from 1 to `most` that meets a condition, as smaller ones do and `most` does not."""
    # A mean, so not a whole number: otherwise a faster GPU could lose a request to rounding.
    low, high = 1.0, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


# Suggested where a model does not fit, most bits first.
_NARROWER = {"llama.cpp": ("Q8_0", "Q6_K", "Q4_K_M"), "server": ("fp8", "nvfp4", "int4")}
_MOST_GPUS_OFFERED = 64


def _require_room(replica: Replica, tokens: int) -> None:
    model, n_gpus, precision, engine = replica.model, replica.n_gpus, replica.precision, replica.engine
    cache = replica.kv_bytes_per_token * tokens
    usable = usable_bytes(replica.gpu, engine)
    weights = weight_bytes(model, precision)
    missing = weights + cache - usable * n_gpus
    if missing <= 0:
        return
    offers = []
    more = math.ceil((weights + cache) / usable) if usable > 0 else _MOST_GPUS_OFFERED + 1
    enough = at_least(model, engine, max(more, n_gpus + 1))
    # A chip that shares its memory with the processor is alone in its computer.
    is_alone = replica.gpu.memory_kind == "unified"
    if enough is not None and enough <= _MOST_GPUS_OFFERED and not is_alone:
        offers.append(f"{enough} GPUs")
    for narrower in _NARROWER["llama.cpp" if replica.is_llama_cpp else "server"]:
        if not runs(narrower, engine, replica.gpu):
            continue
        least = weight_bytes(model, narrower) + model.kv_bytes_per_token(cached_value_bytes(narrower)) * tokens
        if least <= usable * n_gpus:
            offers.append(f"{narrower} on what there is")
            break
    fits = f"would fit: {' or '.join(offers)}" if offers else "a larger GPU is needed"
    raise invalid(
        "model",
        f"{model.name} in {precision} does not fit on {n_gpus} x {replica.gpu.name}: it needs {weights / 1e9:.1f} GB "
        f"and {cache / 1e9:.1f} GB for a request of {tokens} tokens, {engine} has {usable * n_gpus / 1e9:.1f} GB, so "
        f"{missing / 1e9:.1f} GB are missing; {fits}",
    )


# By whether llama.cpp runs it: servers cache in 8 bits at the least, llama.cpp in q4_0.
_NARROWEST_CACHED_VALUE_BYTES = {False: 1.0, True: 18 / 32}


def ceiling_tokens_per_s(replica: Replica, *, isl: int, osl: int, batch: float | None = None) -> float:
    """The output tokens per second that no engine exceeds without speculative decoding."""
    # A step reads at least the weights that a token needs and every request's keys and values, at the data sheet's
    # bandwidth, and takes at least two FLOPs per weight and token, at its FLOPS; the longer of the two counts. Prompts,
    # which may come from a cache, and everything else are free here.
    # An engine may be configured for a narrower cache than its default.
    kv_value_bytes = min(replica.kv_value_bytes, _NARROWEST_CACHED_VALUE_BYTES[replica.is_llama_cpp])
    model, gpu, n_gpus, precision = replica.model, replica.gpu, replica.n_gpus, replica.precision
    cache = model.kv_bytes_per_token(kv_value_bytes) * (isl + osl / 2)
    free = gpu.memory_gib * 2**30 * n_gpus - weight_bytes(model, precision)
    at_once = max(1.0, free / cache) if batch is None else batch
    if replica.is_llama_cpp and at_once == 1:
        # Cards take turns: one card's bandwidth.
        return gpu.bandwidth_gb_per_s * 1e9 / (llama_cpp.active_bytes(model, precision) + cache)
    work = work_of(model, precision, kv_value_bytes, n_gpus, at_once, isl, osl, own_prompt=False)
    # Only the experts of one token: all requests may meet the same.
    weights = read_weight_bytes(model, precision, 1)
    slowest_s = (weights + work.kv_bytes) / (gpu.bandwidth_gb_per_s * 1e9 * n_gpus)
    if gpu.bf16_tflops is not None:
        slowest_s = max(slowest_s, work.decode_flops / hardware(gpu, n_gpus, precision, 1).flops)
    return at_once / slowest_s


def require_possible(
    tokens_per_s: float,
    replica: Replica,
    *,
    isl: int,
    osl: int,
    batch: float | None = None,
    param: str = "tokens_per_second",
) -> None:
    require_number(param, tokens_per_s)
    if tokens_per_s <= 0:
        raise invalid(param, f"must be above 0, got {tokens_per_s:g}")
    ceiling = ceiling_tokens_per_s(replica, isl=isl, osl=osl, batch=batch)
    if tokens_per_s > ceiling:
        load = "" if batch is None else f" with {batch:g} at once"
        raise invalid(
            param,
            f"{tokens_per_s:,.0f} output tokens per second are impossible: {replica.model.name} in "
            f"{replica.precision} on {replica.n_gpus} x {replica.gpu.name}{load} cannot exceed {ceiling:,.0f}, the "
            "data sheet's bandwidth and FLOPS at 100%; count output tokens alone, of one replica",
        )
