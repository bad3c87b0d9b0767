"""The memory that a model needs: weights, KV cache and buffers; and for fine-tuning."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llama_client.crossover.parallelism import kv_copies
from llama_client.crossover.precisions import cached_value_bytes, embedding_parameters, family, weight_bytes
from llama_client.crossover.scenario import invalid
from llama_client.crossover.tables import Architecture, unknown

Engine = Literal["llama.cpp", "server"]
"""`server`: vLLM, TensorRT-LLM and SGLang, which set memory aside in the same way."""

GIB = 2**30
# llama.cpp's `-ub`: so many tokens of a prompt go through the model at once. Its default.
BATCH_TOKENS = 512
# Of 32 values with one or two 16-bit scales (ggml-common.h: block_q8_0, block_q5_1, ...).
_BYTES_A_BLOCK = {"q8_0": 34, "q5_1": 24, "q5_0": 22, "q4_1": 20, "q4_0": 18, "iq4_nl": 18}
_BYTES_A_CACHED_VALUE = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "fp8": 1.0}
_BYTES_A_CACHED_VALUE |= {name: size / 32 for name, size in _BYTES_A_BLOCK.items()}
CACHE_PRECISIONS = tuple(_BYTES_A_CACHED_VALUE)
# The driver's context and the engine's own kernels on each GPU: an upper bound. Together with the compute buffer it
# stays between the 0.3 and 1.5 GiB that people see for models of 1 to 70 billion parameters.
_LLAMA_CPP_RUNTIME_BYTES = GIB // 4
# vLLM and TensorRT-LLM do not use 10% of a GPU (vLLM: gpu_memory_utilization = 0.9), and graphs, activations and NCCL
# take about 3 GB of each. aiconfigurator 0.12, where this was measured, counts 10^9 bytes for each of the 2^30 that a
# GPU is sold with; so does this, which leaves room for fragments and what grows with the load. In all: 16% and 3 GB.
SERVER_SHARE, SERVER_RESERVE_BYTES = 0.9 * 1e9 / GIB, 3_000_000_000


@dataclass(frozen=True, slots=True)
class Need:
    """The memory of a model, by part, over all the GPUs that share it."""

    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    runtime_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes + self.runtime_bytes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"total_bytes": self.total_bytes}


def engine_of(precision: str) -> Engine:
    """The kind of engine that runs a canonical precision: llama.cpp for GGUF's, a server for the others."""
    return "llama.cpp" if family(precision) == "gguf" else "server"


def need(
    model: Architecture,
    precision: str,
    *,
    context_tokens: int,
    sequences: int = 1,
    cache_precision: str | None = None,
    gpus: int = 1,
    gpu_memory_bytes: int | None = None,
    chunked_attention: bool = False,
    weights_bytes: int | None = None,
) -> Need:
    """The memory of a model: `weights + KV cache x context x sequences + compute buffer + runtime`."""
    require_positive(context_tokens=context_tokens, sequences=sequences, gpus=gpus)
    weights = weights_bytes if weights_bytes is not None else round(weight_bytes(model, precision))
    value_bytes = value_bytes_of_cache(cache_precision, precision)
    cache = cached_tokens(model, context_tokens, chunked_attention=chunked_attention) * sequences
    cache_bytes = math.ceil(cache * model.kv_bytes_per_token(value_bytes))
    if engine_of(precision) == "llama.cpp":
        compute = llama_cpp_compute_bytes(model, context_tokens)
        return Need(weights, cache_bytes, compute * gpus, _LLAMA_CPP_RUNTIME_BYTES * gpus)
    copies = kv_copies(model, "server", gpus)
    spared = 0 if gpu_memory_bytes is None else round(gpu_memory_bytes * (1 - SERVER_SHARE))
    return Need(weights, math.ceil(cache_bytes * copies), 0, (spared + SERVER_RESERVE_BYTES) * gpus)


def cached_tokens(model: Architecture, context_tokens: float, *, chunked_attention: bool = False) -> float:
    """The tokens of one sequence that a layer caches, on average over the layers."""
    chunk, every = model.attention_chunk_tokens, model.global_attention_every_n_layers
    if not chunked_attention:
        return float(context_tokens)
    if chunk is None or every is None:
        whole = f"{model.name} looks back over its whole context in every layer; leave it out"
        raise invalid("chunked_attention", whole)
    # Most layers cache one chunk, every n-th caches all: of Llama 4's three quarters and a quarter.
    return min(context_tokens, chunk) * (1 - 1 / every) + context_tokens / every


def value_bytes_of_cache(cache_precision: str | None, precision: str) -> float:
    if cache_precision is None:
        return cached_value_bytes(precision)
    found = _BYTES_A_CACHED_VALUE.get(cache_precision.strip().lower())
    if found is None:
        raise unknown("cache_precision", cache_precision, CACHE_PRECISIONS)
    return found


def llama_cpp_compute_bytes(model: Architecture, context_tokens: int, *, batch_tokens: int = BATCH_TOKENS) -> int:
    """llama.cpp's compute buffer on one GPU, with flash attention: an upper bound from its graph."""
    # The larger of the logits (`vocab x batch` floats: 250 of the 258 MiB that it prints for Llama 3 8B) and a layer's
    # feed-forward part, the mask of attention in 32 and in 16 bits (`context x batch`), and a 16-bit copy of the
    # largest matrix that is unpacked for a prompt where there are no kernels for its quantisation. Without flash
    # attention it also holds `heads x context x batch` floats, which this leaves out.
    ffn = max(model.ffn, model.moe.expert_ffn) if model.moe is not None else model.ffn
    results = 4 * batch_tokens * (max(model.vocab, 2 * ffn) + model.hidden)
    mask = (4 + 2) * batch_tokens * context_tokens
    unpacked = 2 * model.hidden * ffn
    return results + mask + unpacked


def wired_limit_bytes(memory_bytes: int) -> int:
    """macOS's default limit for a GPU of shared memory: two thirds up to 32 GiB, three quarters above."""
    return memory_bytes * 2 // 3 if memory_bytes <= 32 * GIB else memory_bytes * 3 // 4


def system_reserve_bytes(ram_bytes: int) -> int:
    """The memory that the system and other programs keep: a tenth, at most 4 GiB. A judgement."""
    return min(ram_bytes // 10, 4 * GIB)


def require_positive(**counts: object) -> None:
    for param, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise invalid(param, f"must be a whole number above 0, got {value!r}")


Method = Literal["full", "full-8bit-adam", "lora", "qlora"]
METHODS: tuple[Method, ...] = ("full", "full-8bit-adam", "lora", "qlora")
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
ATTENTION_MATRICES = ("q", "k", "v", "o")
DEFAULT_RANK, DEFAULT_SEQUENCE_TOKENS = 16, 2048
# Mixed precision with Adam: weights 2, gradients 2, a 32-bit copy of the weights 4, two moments 8: 16 bytes a parameter
# (ZeRO, arXiv 1910.02054, section 3.1).
_WEIGHT, _GRADIENT, _ADAM = 2.0, 2.0, 12.0
# Two moments of a byte each, and no 32-bit copy: 6 bytes a parameter in all (arXiv 2110.02861).
_ADAM_8_BIT = 2.0
# NF4 with its scales quantised again: 4 + 0.127 bits a weight (QLoRA, arXiv 2305.14314, section 3).
_NF4 = (4 + 0.127) / 8
# Bytes of activations a token, layer and unit of width that a layer's backward pass needs (34), and that stay of each
# layer where the rest is computed again, its 16-bit input (2): arXiv 2205.05198, table 2, without its term of attention
# scores, which flash attention does not keep. It counts a feed-forward part of four widths; Llama's is about as large.
_LAYER_ACTIVATIONS, _CHECKPOINT = 34, 2
# Logits and their gradients in 32 bits.
_LOGITS = 8
# The driver's context, workspaces and gaps between blocks on a GPU: an upper bound.
_RUNTIME_BYTES = GIB


@dataclass(frozen=True, slots=True)
class TrainingNeed:
    method: Method
    trained_parameters: int
    weights_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    runtime_bytes: int

    @property
    def state_bytes(self) -> int:
        return self.weights_bytes + self.gradient_bytes + self.optimizer_bytes

    @property
    def total_bytes(self) -> int:
        return self.state_bytes + self.activation_bytes + self.runtime_bytes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"state_bytes": self.state_bytes, "total_bytes": self.total_bytes}


def training_need(
    model: Architecture,
    method: Method,
    *,
    rank: int = DEFAULT_RANK,
    matrices: tuple[str, ...] = MATRICES,
    sequence_tokens: int = DEFAULT_SEQUENCE_TOKENS,
    batch: int = 1,
) -> TrainingNeed:
    if method not in METHODS:
        raise unknown("method", str(method), METHODS)
    require_positive(sequence_tokens=sequence_tokens, batch=batch)
    base, layers = model.all_parameters, model.layers + model.cross_attention_layers
    activations = model.hidden * (_LAYER_ACTIVATIONS + _CHECKPOINT * layers) + model.vocab * _LOGITS
    is_full = method in ("full", "full-8bit-adam")
    trained = base if is_full else lora_parameters(model, rank=rank, matrices=matrices)
    frozen = 0.0 if is_full else base * _WEIGHT
    if method == "qlora":
        # bitsandbytes does not quantise embeddings and the head.
        wide = embedding_parameters(model)
        frozen = (base - wide) * _NF4 + wide * _WEIGHT
    return TrainingNeed(
        method,
        trained,
        weights_bytes=round(frozen + trained * _WEIGHT),
        gradient_bytes=round(trained * _GRADIENT),
        optimizer_bytes=round(trained * (_ADAM_8_BIT if method == "full-8bit-adam" else _ADAM)),
        activation_bytes=sequence_tokens * batch * activations,
        runtime_bytes=_RUNTIME_BYTES,
    )


def lora_parameters(model: Architecture, *, rank: int = DEFAULT_RANK, matrices: tuple[str, ...] = MATRICES) -> int:
    """LoRA's adapters: for each matrix, `rank x (inputs + outputs)` (arXiv 2106.09685), in each expert its own."""
    require_positive(rank=rank)
    if not matrices:
        raise invalid("matrices", f"must name one of {', '.join(MATRICES)}")
    if strange := [matrix for matrix in matrices if matrix not in MATRICES]:
        raise unknown("matrices", strange[0], MATRICES)
    queries = model.layers * (model.hidden + model.heads * model.head_dim)
    keys = model.layers * (model.hidden + model.kv_heads * model.head_dim)
    sizes = {"q": queries, "k": keys, "v": keys, "o": queries}
    # Of one of the three matrices, over all layers and experts.
    feed_forward = model.layers * (model.hidden + model.ffn)
    if (moe := model.moe) is not None:
        with_experts = model.layers // moe.every_n_layers
        experts = with_experts * (moe.experts + moe.shared_experts) * (model.hidden + moe.expert_ffn)
        feed_forward = experts + (model.layers - with_experts) * (model.hidden + model.ffn)
    return rank * sum(sizes.get(matrix, feed_forward) for matrix in set(matrices))
