"""The work of one decode step (bytes, FLOPs, communication), its time, and the memory for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

from llama_client.crossover.fitting.memory import (
    GIB,
    SERVER_RESERVE_BYTES,
    SERVER_SHARE,
    cached_tokens,
    wired_limit_bytes,
)
from llama_client.crossover.precisions import (
    Family,
    embedding_parameters,
    expert_parameters,
    family,
    layer_weight_bytes,
    weight_bytes,
)
from llama_client.crossover.scenario import invalid
from llama_client.crossover.tables import Architecture, Gpu
from llama_client.crossover.throughput.engines import Constants

_SIXTEEN_BITS_BYTES = 2


@dataclass(frozen=True, slots=True)
class Work:
    """One decode step of a batch, with the share of prompts that is read beside it."""

    batch: float
    weight_bytes: float
    kv_bytes: float
    decode_flops: float
    prefill_flops: float
    attention_flops: float
    exchanged_bytes: float
    layers: int
    groups: int = 1  # of GPUs that each answer requests of their own
    expert_decode_flops: float = 0.0  # those of the decode and prefill FLOPs that are in routed experts
    expert_prefill_flops: float = 0.0
    routed_tokens: float = 0.0  # tokens of one group, once for each layer that has experts


@dataclass(frozen=True, slots=True)
class ServingHardware:
    """The data sheets of a replica's GPUs, as a sum."""

    bytes_per_s: float
    flops: float
    wide_flops: float
    flops_family: Family
    link_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class StepTime:
    """The parts of a step, in milliseconds; their sum is what one output token of each request takes."""

    read_ms: float
    decode_ms: float
    prefill_ms: float
    layers_ms: float
    exchange_ms: float = 0.0
    requests_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        return self.read_ms + self.decode_ms + self.prefill_ms + self.exchange_ms + self.layers_ms + self.requests_ms


def work_of(
    model: Architecture,
    precision: str,
    kv_value_bytes: float,
    n_gpus: int,
    batch: float,
    isl: int,
    osl: int,
    *,
    own_prompt: bool,
    groups: int = 1,
    copied: float = 0.0,
    cached_share: float = 0.0,
) -> Work:
    # In a steady state each step finishes batch/osl requests and admits as many prompts.
    prompts = (batch if own_prompt else max(batch - 1, 0)) / osl
    # What the prefix cache holds of a prompt is not computed again; the rest attends to it, and it keeps its memory.
    fresh = isl * (1 - cached_share)
    tokens = batch + prompts * fresh
    # A ring all-reduce moves 2(g-1)/g of the hidden state through each GPU, twice a layer, in 16 bits. Where each GPU
    # has requests of its own, tokens go to their experts and come back instead: as much, once for each such layer.
    exchanges = 2 * model.layers if groups == 1 else expert_layers(model)
    per_token = exchanges * 2 * (n_gpus - 1) / n_gpus * model.hidden * _SIXTEEN_BITS_BYTES
    # An output token is multiplied with all weights that it meets but the table of input embeddings.
    matrices = model.parameters_per_token - (0 if model.tied_embeddings else model.vocab * model.hidden)
    layers_with_experts = expert_layers(model)
    routed = 0.0
    if model.moe is not None:
        routed = 2.0 * layers_with_experts * model.moe.experts_per_token * 3 * model.hidden * model.moe.expert_ffn
    return Work(
        batch,
        read_weight_bytes(model, precision, batch) + copied,
        batch * seen_tokens(model, isl + osl / 2) * model.kv_bytes_per_token(kv_value_bytes),
        batch * 2 * matrices,
        prompts * prefill_flops(model, fresh),
        prompts * (_attention_flops_within(model, isl) - _attention_flops_within(model, isl - fresh)),
        tokens * per_token,
        model.layers,
        groups,
        batch * routed,
        prompts * fresh * routed,
        tokens / groups * layers_with_experts,
    )


def _attention_flops_within(model: Architecture, tokens: float) -> float:
    """The same as `attention_flops`, where some layers look back a window alone."""
    return attention_flops(model, tokens) * seen_tokens(model, tokens) / tokens if tokens else 0.0


def seen_tokens(model: Architecture, tokens: float) -> float:
    """How many of the tokens before it a token attends to, on average over the layers: some look back a window."""
    return tokens if model.attention_chunk_tokens is None else cached_tokens(model, tokens, chunked_attention=True)


def expert_layers(model: Architecture) -> int:
    return 0 if model.moe is None else model.layers // model.moe.every_n_layers


def copies_bytes(model: Architecture, precision: str, groups: int) -> float:
    """What copies take where each GPU has requests of its own: the layers without their routed experts."""
    if model.moe is None or groups == 1:
        return 0.0
    head = model.vocab * model.hidden * _embedded_bytes(model, precision)
    return (groups - 1) * (read_weight_bytes(model, precision, 0) - head)


def prefill_flops(model: Architecture, isl: float) -> float:
    """The FLOPs of one prompt's matrices: two per weight and token, without the head, which only the last one needs."""
    return 2.0 * (model.parameters_per_token - embedding_parameters(model)) * isl


def attention_flops(model: Architecture, isl: float) -> float:
    """The FLOPs of attention in one prompt: each token attends to those before it."""
    return 2.0 * model.layers * model.heads * model.head_dim * isl**2


def read_weight_bytes(model: Architecture, precision: str, batch: float) -> float:
    """The weights that a step reads: without the input embeddings, and only the experts that the batch meets."""
    a_weight = layer_weight_bytes(model, precision)
    table = 0 if model.tied_embeddings else model.vocab * model.hidden * _embedded_bytes(model, precision)
    # What is not in the dimensions (a vision tower) does not read text.
    read = weight_bytes(model, precision) * (model.parameters / model.all_parameters) - table
    if model.moe is None:
        return read
    # With tokens spread evenly over E experts of which each meets k, a batch of B meets `E (1 - (1 - k/E)^B)`.
    missed: float = (1 - model.moe.experts_per_token / model.moe.experts) ** batch
    return read - expert_parameters(model) * missed * a_weight


def _embedded_bytes(model: Architecture, precision: str) -> float:
    # Embeddings keep 16 bits beside narrow layers; for GGUF files only the mean of the file is known.
    return layer_weight_bytes(model, precision) if family(precision) == "gguf" else _SIXTEEN_BITS_BYTES


def hardware(gpu: Gpu, n_gpus: int, precision: str, link_gb_per_s: float) -> ServingHardware:
    # A GPU without units for 8 or 4 bits (the A100) may still store weights in them, and computes in 16 bits.
    computed: Family = family(precision)
    tflops = {"fp8": gpu.fp8_tflops, "fp4": gpu.fp4_tflops}.get(computed)
    if tflops is None:
        computed, tflops = "bf16", gpu.bf16_tflops
    if tflops is None:
        raise invalid(
            "gpu",
            f"the FLOPS of {gpu.name!r} are unknown, and they bound the rate of several requests at once; give a row "
            'of your own with bf16_tflops, or ask for one request under engine="llama.cpp"',
        )
    wide = (gpu.bf16_tflops or tflops) * 1e12 * n_gpus
    bytes_per_s = gpu.bandwidth_gb_per_s * 1e9 * n_gpus
    return ServingHardware(bytes_per_s, tflops * 1e12 * n_gpus, wide, computed, link_gb_per_s * 1e9)


def step_time(
    work: Work, sheet: ServingHardware, precision: str, engine: str, constants: Constants, *, served: bool
) -> StepTime:
    engines = {"vllm": constants.vllm_layer_overhead_us, "sglang": constants.sglang_layer_overhead_us}
    quantising = constants.fp4_layer_overhead_us if family(precision) == "fp4" else 0
    a_layer_us = constants.layer_overhead_us + engines.get(engine, 0) + quantising
    flops = sheet.flops * constants.compute_efficiency
    if sheet.flops_family == "fp4":
        flops *= constants.fp4_flops_factor
    elif family(precision) != sheet.flops_family:
        flops *= constants.unpacking_factor
    wide_flops = sheet.wide_flops * constants.compute_efficiency
    # The small matrices of experts add to what their FLOPs take.
    small = 1 / constants.expert_compute_efficiency - 1
    # Where each GPU has requests of its own, all wait for the one with the most to do.
    uneven = 1.0 if work.groups == 1 else 1 + constants.expert_imbalance
    counts_requests = served or work.routed_tokens > 0
    return StepTime(
        uneven * (work.weight_bytes + work.kv_bytes) / (sheet.bytes_per_s * constants.bandwidth_efficiency) * 1e3,
        uneven * (work.decode_flops + small * work.expert_decode_flops) / flops * 1e3,
        uneven
        * ((work.prefill_flops + small * work.expert_prefill_flops) / flops + work.attention_flops / wide_flops)
        * 1e3,
        (work.layers * a_layer_us + work.routed_tokens * constants.expert_token_us) / 1e3,
        work.exchanged_bytes / (sheet.link_bytes_per_s * constants.link_efficiency) * 1e3,
        work.batch / work.groups * constants.request_overhead_us / 1e3 if counts_requests else 0.0,
    )


# What llama.cpp's kernels and intermediate results take of each GPU: `memory.py` has them exactly.
_LLAMA_CPP_RESERVE_BYTES = 600_000_000


def usable_bytes(gpu: Gpu, engine: str) -> float:
    """What an engine has for weights and cache on one GPU."""
    if engine != "llama.cpp":
        return gpu.memory_gib * GIB * SERVER_SHARE - SERVER_RESERVE_BYTES
    # A GPU "of 24 GB" has 24 GiB, and llama.cpp uses all of it: that is how six of them hold the 141 GB of a 70B at 16
    # bits (XiongjieDai/GPU-Benchmarks-on-LLM-Inference).
    memory = round(gpu.memory_gib * GIB)
    if gpu.vendor == "apple":
        memory = wired_limit_bytes(memory)
    return memory - _LLAMA_CPP_RESERVE_BYTES


def require_lengths(model: Architecture, isl: int, osl: int, *, params: tuple[str, str] = ("isl", "osl")) -> None:
    for param, value in zip(params, (isl, osl), strict=True):
        require_whole(param, value, "tokens")
        if value < 1:
            raise invalid(param, f"must be at least 1 token, got {value}")
    if isl + osl > model.context_tokens:
        most = f"the {model.context_tokens} of {model.name}'s context"
        raise invalid(params[0], f"{isl} and {osl} tokens of answer are more than {most}")


def require_whole(param: str, value: object, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise invalid(param, f"must be a whole number of {unit}, got {_shown(value)}")


def require_number(param: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise invalid(param, f"must be a finite number, got {_shown(value)}")


def _shown(value: object) -> str:
    """A number as it is, of anything else only the type: it may be long, or private."""
    return str(value) if isinstance(value, Real) else type(value).__name__
