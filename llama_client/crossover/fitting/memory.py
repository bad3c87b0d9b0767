"""What a model needs of memory while it answers: weights, KV cache, and what the engine keeps beside them.

Bytes only: which machine has them is fitting.py's affair.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llama_client.crossover.precisions import cached_value_bytes, family, weight_bytes
from llama_client.crossover.tables import Architecture, unknown
from llama_client.errors import InvalidRequestError

Engine = Literal["llama.cpp", "server"]
"""`server`: vLLM, TensorRT-LLM and SGLang, which set memory aside in the same way."""

GIB = 2**30
# llama.cpp's `-ub`: so many tokens of a prompt go through the model at once. Its default.
BATCH_TOKENS = 512
# Blocks of 32 values with one or two 16-bit scales (ggml-common.h: block_q8_0, block_q5_1, ...).
_BYTES_A_CACHED_VALUE = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
CACHE_PRECISIONS = tuple(_BYTES_A_CACHED_VALUE)
# The driver's context and the engine's own kernels on each GPU: a bound of ours. Together with the compute buffer it
# stays between the 0.3 and 1.5 GiB that people see for models of 1 to 70 billion parameters.
_LLAMA_CPP_RUNTIME_BYTES = GIB // 4
# vLLM and TensorRT-LLM leave 10% of a GPU alone (vLLM: gpu_memory_utilization = 0.9), and graphs, activations and NCCL
# take about 3 GB of each. aiconfigurator 0.12, where this was measured, reckons with 10^9 bytes for each of the 2^30
# that a GPU is sold with; so does this, and thereby leaves what fragments and what grows with the load.
SERVER_SHARE, SERVER_RESERVE_BYTES = 0.9 * 1e9 / GIB, 3_000_000_000


@dataclass(frozen=True, slots=True)
class Need:
    """The memory that a model takes, by part, over all the GPUs that share it.

    Attributes:
        weights_bytes: Of all weights, every expert included.
        kv_cache_bytes: Keys and values of all sequences at their full length.
        compute_bytes: The engine's intermediate results.
        runtime_bytes: What the engine and the driver keep, or set aside.
    """

    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    runtime_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes + self.runtime_bytes

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the total."""
        return asdict(self) | {"total_bytes": self.total_bytes}


def engine_of(precision: str) -> Engine:
    """Which kind of engine runs a canonical precision: llama.cpp for GGUF's, a server for the others."""
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
    """What a model needs: `weights + KV cache x context x sequences + compute buffer + runtime`.

    Args:
        model: Its shape.
        precision: A canonical name; GGUF's are run by llama.cpp, the others by a server.
        context_tokens: Of each sequence.
        sequences: How many are answered at once.
        cache_precision: Of keys and values, such as `f16` or `q8_0`; None: the engine's default.
        gpus: How many share the model; each keeps buffers of its own.
        gpu_memory_bytes: Of one of them; a server sets a tenth of it aside. None: unknown, and only the fixed part is.
        chunked_attention: The engine forgets what lies before a layer's chunk (Llama 4).
        weights_bytes: The exact size where it is known, as from a GGUF file; None: computed.

    Raises:
        InvalidRequestError: A count is not positive, or the cache's precision is unknown.

    Examples:
        >>> from llama_client.crossover.tables import Tables
        >>> model = Tables.bundled().model("llama-3.1-8b")
        >>> round(need(model, "Q4_K_M", context_tokens=8192).total_bytes / 2**30, 1)
        6.2
        >>> round(need(model, "Q4_K_M", context_tokens=131072).total_bytes / 2**30, 1)
        21.6
    """
    for param, value in (("context_tokens", context_tokens), ("sequences", sequences), ("gpus", gpus)):
        require_positive(param, value)
    weights = weights_bytes if weights_bytes is not None else round(weight_bytes(model, precision))
    value_bytes = value_bytes_of_cache(cache_precision, precision)
    cache = cached_tokens(model, context_tokens, chunked_attention=chunked_attention) * sequences
    cache_bytes = math.ceil(cache * model.kv_bytes_per_token(value_bytes))
    if engine_of(precision) == "llama.cpp":
        compute = llama_cpp_compute_bytes(model, context_tokens)
        return Need(weights, cache_bytes, compute * gpus, _LLAMA_CPP_RUNTIME_BYTES * gpus)
    # Beyond one KV head a GPU, tensor parallelism keeps copies.
    copies = max(1.0, gpus / model.kv_heads)
    runtime = server_reserve_bytes(gpu_memory_bytes) * gpus
    return Need(weights, math.ceil(cache_bytes * copies), 0, runtime)


def cached_tokens(model: Architecture, context_tokens: int, *, chunked_attention: bool = False) -> float:
    """The tokens of one sequence that a layer caches, on average over the layers.

    Where attention is chunked and the engine makes use of that, most layers keep one chunk, and every n-th keeps all:
    for Llama 4, three quarters of `min(context, 8192)` and a quarter of the context.
    """
    chunk, every = model.attention_chunk_tokens, model.global_attention_every_n_layers
    if not chunked_attention:
        return float(context_tokens)
    if chunk is None or every is None:
        raise InvalidRequestError(
            f"chunked_attention: {model.name} looks back over its whole context in every layer; leave it out",
            param="chunked_attention",
        )
    return min(context_tokens, chunk) * (1 - 1 / every) + context_tokens / every


def value_bytes_of_cache(cache_precision: str | None, precision: str) -> float:
    """The bytes of one cached value.

    Args:
        cache_precision: One of `CACHE_PRECISIONS`; None: what the engine keeps beside weights of `precision`.
        precision: Canonical, of the weights.

    Raises:
        InvalidRequestError: It is not known; the message has the nearest that is.
    """
    if cache_precision is None:
        return cached_value_bytes(precision)
    found = _BYTES_A_CACHED_VALUE.get(cache_precision.strip().lower())
    if found is None:
        raise unknown("cache_precision", cache_precision, CACHE_PRECISIONS)
    return found


def llama_cpp_compute_bytes(model: Architecture, context_tokens: int, *, batch_tokens: int = BATCH_TOKENS) -> int:
    """llama.cpp's compute buffer on one GPU, with flash attention: a bound of ours from what its graph holds.

    The larger of the logits (`vocab x batch` floats: 250 of the 258 MiB that it prints for Llama 3 8B) and a layer's
    feed-forward part, the mask of attention in 32 and in 16 bits (`context x batch`), and a 16-bit copy of the largest
    matrix that is unpacked for a prompt where there are no kernels for its quantisation. Without flash attention it
    also holds `heads x context x batch` floats, which this leaves out.

    Args:
        model: Its shape.
        context_tokens: Of a sequence.
        batch_tokens: llama.cpp's `-ub`.
    """
    ffn = max(model.ffn, model.moe.expert_ffn) if model.moe is not None else model.ffn
    results = 4 * batch_tokens * (max(model.vocab, 2 * ffn) + model.hidden)
    mask = (4 + 2) * batch_tokens * context_tokens
    unpacked = 2 * model.hidden * ffn
    return results + mask + unpacked


def server_reserve_bytes(gpu_memory_bytes: int | None) -> int:
    """What vLLM or TensorRT-LLM does not give to weights and cache on one GPU: 16% of it and 3 GB."""
    spared = 0 if gpu_memory_bytes is None else round(gpu_memory_bytes * (1 - SERVER_SHARE))
    return spared + SERVER_RESERVE_BYTES


def wired_limit_bytes(memory_bytes: int) -> int:
    """What macOS lets a GPU have of the memory that it shares: two thirds up to 32 GiB, three quarters above.

    That is its default; `sysctl iogpu.wired_limit_mb` raises it.
    """
    return memory_bytes * 2 // 3 if memory_bytes <= 32 * GIB else memory_bytes * 3 // 4


def system_reserve_bytes(ram_bytes: int) -> int:
    """What of a machine's memory the system and other programs keep: a tenth, at most 4 GiB. A bound of ours."""
    return min(ram_bytes // 10, 4 * GIB)


def require_positive(param: str, value: object) -> None:
    """Refuses a count that is not a whole number above 0.

    Raises:
        InvalidRequestError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequestError(f"{param}: must be a whole number above 0, got {value!r}", param=param)
