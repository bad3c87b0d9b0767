"""Engines and the constants fitted for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from llama_client.config.crossover_tables import USERS_OWN
from llama_client.crossover.precisions import all_gguf_names, canonical, family
from llama_client.crossover.scenario import invalid
from llama_client.crossover.tables import Gpu, data_of, unknown

ENGINES = ("trtllm", "vllm", "sglang", "llama.cpp")
_SPELLINGS = {"tensorrt-llm": "trtllm", "tensorrt": "trtllm", "llamacpp": "llama.cpp", "llama-cpp": "llama.cpp"}


def canonical_engine(engine: str, *, param: str = "engine") -> str:
    if not isinstance(engine, str):
        raise invalid(param, f"must be a name, as in 'vllm', not {type(engine).__name__}")
    lower = engine.strip().lower()
    name = _SPELLINGS.get(lower.replace("_", "-").replace(" ", "-"), lower)
    if name not in ENGINES:
        raise unknown(param, engine, ENGINES)
    return name


def precision_for(precision: str, engine: str, gpu: Gpu) -> str:
    name = canonical("bf16" if precision == "" else precision)
    is_gguf = family(name) == "gguf"
    if engine == "llama.cpp":
        if is_gguf or name == "bf16":
            return name if is_gguf else "F16"
        known = ", ".join(all_gguf_names())
        raise invalid("precision", f"llama.cpp runs GGUF files, not {precision!r}; known are {known}")
    if gpu.vendor == "apple":
        raise invalid("engine", f"{engine!r} does not run on {gpu.title or gpu.name}; give 'llama.cpp'")
    if is_gguf and name != "F16":
        others = "give 'bf16', 'fp8', 'nvfp4' or 'int4', or engine 'llama.cpp'"
        raise invalid("precision", f"there is no estimate for {engine} with GGUF's {name!r}; {others}")
    return "bf16" if is_gguf else name


# The engines that keep weights of 8 or 4 bits on GPUs of NVIDIA without arithmetic of that width, and compute in 16
# (weight-only, by Marlin's kernels): docs.vllm.ai/en/v0.32.0/features/quantization/llm_compressor/fp8 and
# vllm-project/vllm PR 49376 (2026-07); sgl-project/sglang PR 19652. TensorRT-LLM computes FP8 on Ada and later, FP4 on
# Blackwell and later alone (nvidia.github.io/Model-Optimizer/guides/0_support_matrix.html). Checked on 2026-11-30.
_WEIGHT_ONLY_ENGINES = ("vllm", "sglang")
_BITS = {"fp8": "8", "fp4": "4"}
_TFLOPS = {"fp8": "fp8_tflops", "fp4": "fp4_tflops"}


def is_native(precision: str, gpu: Gpu) -> bool:
    """Whether a GPU has arithmetic for a canonical precision; True where its FLOPS are unknown altogether."""
    if gpu.bf16_tflops is None:
        return True
    known = {"fp8": gpu.fp8_tflops, "fp4": gpu.fp4_tflops}
    return known.get(family(precision), gpu.bf16_tflops) is not None


def is_weight_only(precision: str, engine: str, gpu: Gpu) -> bool:
    """Whether an engine keeps the weights in a precision and computes in 16 bits, as the GPU lacks its arithmetic."""
    if is_native(precision, gpu) or gpu.vendor != "nvidia":
        return False
    # NVIDIA publishes rates of gpt-oss, whose experts are in MXFP4, by TensorRT-LLM on Hopper.
    return engine in _WEIGHT_ONLY_ENGINES or (
        engine == "trtllm" and precision == "mxfp4" and gpu.fp8_tflops is not None
    )


def runs(precision: str, engine: str, gpu: Gpu) -> bool:
    """Whether an engine runs a canonical precision on a GPU; llama.cpp unpacks all that it knows."""
    return engine == "llama.cpp" or is_native(precision, gpu) or is_weight_only(precision, engine, gpu)


def usual_server(precision: str | None, gpu: Gpu) -> str:
    """The server for a GPU where none is asked for: TensorRT-LLM where it runs, else vLLM."""
    is_for_nvidia = gpu.vendor == "nvidia" and (precision is None or is_native(precision, gpu))
    return "trtllm" if is_for_nvidia else "vllm"


def require_native(precision: str, engine: str, gpu: Gpu) -> None:
    """Refuses a precision that an engine does not run on a GPU, with what it has instead."""
    if runs(precision, engine, gpu):
        return
    is_nvidia = gpu.vendor == "nvidia"
    has = ["bf16", *(name for name in ("fp8", "nvfp4") if is_native(name, gpu)), *(("int4",) if is_nvidia else ())]
    others = f", or engine 'vllm', which unpacks {precision} and computes in 16 bits" * is_nvidia
    if gpu.source == USERS_OWN:
        others += f", or {_TFLOPS[family(precision)]} in its row of your own"
    raise invalid(
        "precision",
        f"{gpu.title} has no arithmetic of {_BITS[family(precision)]} bits, which {engine} needs for {precision!r}; "
        f"give {' or '.join(map(repr, has))}{others}",
    )


@dataclass(frozen=True, slots=True)
class Constants:
    """What a tuned server reaches of a data sheet. None belongs to one GPU or model.

    Attributes:
        expert_compute_efficiency: What the small matrices of experts reach of what others reach.
        expert_imbalance: How much more than the mean the busiest GPU has to do, where each has requests of its own.
        expert_token_us: What finding its experts, going there and coming back takes for a token, in each such layer.
    """

    bandwidth_efficiency: float
    compute_efficiency: float
    link_efficiency: float
    layer_overhead_us: float
    fp4_layer_overhead_us: float
    vllm_layer_overhead_us: float
    sglang_layer_overhead_us: float
    request_overhead_us: float
    fp4_flops_factor: float
    expert_compute_efficiency: float
    expert_imbalance: float
    expert_token_us: float
    unpacking_factor: float
    first_token_factor: float


@dataclass(frozen=True, slots=True)
class SingleStream:
    """llama.cpp, one request: `bytes / (bandwidth x bandwidth_efficiency) + overhead_ms`."""

    bandwidth_efficiency: float
    overhead_ms: float


@dataclass(frozen=True, slots=True)
class Fitted:
    servers: Constants
    llama_cpp: dict[str, SingleStream]  # by kind of memory
    errors: dict[str, float]  # relative (sigmas), by what an estimate rests on
    links_gb_per_s: dict[str, float]  # by GPU, both directions together, in 10^9 bytes per second

    def link_gb_per_s(self, gpu: str) -> float:
        return self.links_gb_per_s.get(gpu, self.links_gb_per_s["default"])


@cache
def fitted() -> Fitted:
    found = data_of("throughput.toml")
    streams = {kind: SingleStream(**row) for kind, row in found["llama_cpp"].items()}
    return Fitted(Constants(**found["servers"]), streams, found["errors"], found["links_gb_per_s"])
