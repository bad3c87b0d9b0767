"""Engines and their fitted constants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from llama_client.crossover.precisions import all_gguf_names, canonical, family
from llama_client.crossover.tables import Gpu, unknown
from llama_client.errors import InvalidRequestError

ENGINES = ("trtllm", "vllm", "sglang", "llama.cpp")
_SPELLINGS = {"tensorrt-llm": "trtllm", "tensorrt": "trtllm", "llamacpp": "llama.cpp", "llama-cpp": "llama.cpp"}


def canonical_engine(engine: str, *, param: str = "engine") -> str:
    """The name of an engine as we write it: `trtllm`, `vllm`, `sglang` or `llama.cpp`."""
    if not isinstance(engine, str):
        raise InvalidRequestError(f"{param}: must be a name, as in 'vllm', not {type(engine).__name__}", param=param)
    lower = engine.strip().lower()
    name = _SPELLINGS.get(lower.replace("_", "-").replace(" ", "-"), lower)
    if name not in ENGINES:
        raise unknown(param, engine, ENGINES)
    return name


def precision_for(precision: str, engine: str, gpu: Gpu) -> str:
    """The canonical precision that an engine runs.

    Examples:
        >>> from llama_client.crossover.tables import Tables
        >>> h100 = Tables.bundled().gpu("h100_sxm")
        >>> precision_for("", "trtllm", h100), precision_for("fp16", "llama.cpp", h100)
        ('bf16', 'F16')
    """
    name = canonical("bf16" if precision == "" else precision)
    if gpu.vendor == "apple" and engine != "llama.cpp":
        raise InvalidRequestError(
            f"engine: {engine!r} does not run on {gpu.title or gpu.name}; give 'llama.cpp'", param="engine"
        )
    if engine == "llama.cpp":
        if name == "bf16":
            return "F16"
        if family(name) != "gguf":
            known = ", ".join(all_gguf_names())
            raise InvalidRequestError(
                f"precision: llama.cpp runs GGUF files, not {precision!r}; known are {known}", param="precision"
            )
        return name
    if name == "F16":
        return "bf16"
    if family(name) == "gguf":
        raise InvalidRequestError(
            f"precision: {engine} is not estimated with GGUF's {name!r}; give 'bf16', 'fp8', 'nvfp4' or 'int4', or "
            "engine 'llama.cpp'",
            param="precision",
        )
    return name


FILE = "throughput.toml"


@dataclass(frozen=True, slots=True)
class Constants:
    """What a tuned server makes of a data sheet. None belongs to one GPU or model."""

    bandwidth_efficiency: float
    compute_efficiency: float
    link_efficiency: float
    layer_overhead_us: float
    fp4_layer_overhead_us: float
    vllm_layer_overhead_us: float
    sglang_layer_overhead_us: float
    request_overhead_us: float
    fp4_flops_factor: float
    moe_factor: float
    unpacking_factor: float
    first_token_factor: float


@dataclass(frozen=True, slots=True)
class SingleStream:
    """llama.cpp, one request: `bytes / (bandwidth x bandwidth_efficiency) + overhead_ms`."""

    bandwidth_efficiency: float
    overhead_ms: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """All of it."""

    servers: Constants
    llama_cpp: dict[str, SingleStream]
    errors: dict[str, float]
    links_gb_per_s: dict[str, float]
    default_link_gb_per_s: float

    def link_gb_per_s(self, gpu: str) -> float:
        """What two GPUs of a name exchange per second, both directions together, in 10^9 bytes."""
        return self.links_gb_per_s.get(gpu, self.default_link_gb_per_s)


@cache
def fitted() -> Fitted:
    """The constants of the package."""
    import tomllib
    from importlib import resources

    text = resources.files("llama_client.crossover.data").joinpath(FILE).read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)
    links = found["links_gb_per_s"]
    return Fitted(
        Constants(**found["servers"]),
        {kind: SingleStream(**row) for kind, row in found["llama_cpp"].items()},
        found["errors"],
        {name: rate for name, rate in links.items() if name != "default"},
        links["default"],
    )
