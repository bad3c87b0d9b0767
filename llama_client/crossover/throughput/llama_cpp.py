"""llama.cpp's speed: fitted for one request at a time, a rough estimate for several."""

from __future__ import annotations

from llama_client.crossover.precisions import weight_bytes
from llama_client.crossover.tables import Architecture, Gpu
from llama_client.crossover.throughput.engines import SingleStream, fitted
from llama_client.crossover.throughput.work import StepTime, attention_flops, prefill_flops, read_weight_bytes

# llama.cpp's default: 16 bits.
_KV_VALUE_BYTES = 2.0
# The share of the 16-bit FLOPS that llama.cpp's kernels reach while they unpack weights: about what people see while
# prompts are read on these kinds of cards. A judgement, with a wide band: no figure for several requests was at hand.
_FLOPS_SHARE = {"gddr": 0.5, "hbm": 0.2, "unified": 0.5}


def tpot_ms(
    model: Architecture, gpu: Gpu, precision: str, *, context_tokens: float = 0, constants: SingleStream | None = None
) -> float:
    # Several GPUs take turns, as llama.cpp splits a model layer by layer, so they are as fast as one
    # (XiongjieDai/GPU-Benchmarks-on-LLM-Inference: a 70B in Q4_K_M gives 16.3 tokens/s on two RTX 3090, 16.9 on four).
    reached = constants or fitted().llama_cpp[gpu.memory_kind]
    read = active_bytes(model, precision) + context_tokens * model.kv_bytes_per_token(_KV_VALUE_BYTES)
    return read / (gpu.bandwidth_gb_per_s * 1e9 * reached.bandwidth_efficiency) * 1e3 + reached.overhead_ms


def active_bytes(model: Architecture, precision: str) -> float:
    """The weights that one token meets: all of a dense model, the active experts of a mixture."""
    return weight_bytes(model, precision) * model.parameters_per_token / model.all_parameters


def step(
    model: Architecture,
    gpu: Gpu,
    precision: str,
    batch: float,
    isl: int,
    osl: int,
    *,
    prompts: float,
    cached_share: float = 0.0,
) -> StepTime:
    """A step of several requests, for which weights are read once. Not fitted; for one request: `tpot_ms`."""
    reached = fitted().llama_cpp[gpu.memory_kind]
    # Callers have checked that the data sheet has a figure.
    assert gpu.bf16_tflops is not None
    flops_per_s = gpu.bf16_tflops * 1e12 * _FLOPS_SHARE[gpu.memory_kind]
    # Scaled so that a batch of one agrees with `tpot_ms`.
    one = read_weight_bytes(model, precision, 1)
    weights = active_bytes(model, precision) * read_weight_bytes(model, precision, batch) / one
    cache = batch * (isl + osl / 2) * model.kv_bytes_per_token(_KV_VALUE_BYTES)
    fresh = isl * (1 - cached_share)
    a_prompt = prefill_flops(model, fresh) + attention_flops(model, isl) - attention_flops(model, isl - fresh)
    return StepTime(
        read_ms=(weights + cache) / (gpu.bandwidth_gb_per_s * 1e9 * reached.bandwidth_efficiency) * 1e3,
        # The arithmetic of the first request is in the fitted constants.
        decode_ms=(batch - 1) * 2 * model.parameters_per_token / flops_per_s * 1e3,
        prefill_ms=prompts / osl * a_prompt / flops_per_s * 1e3,
        layers_ms=reached.overhead_ms,
    )
