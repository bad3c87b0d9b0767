"""The constants of the throughput estimator: what `benchmarks/fit_throughput.py` fitted, and how far it was off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

FILE = "throughput.toml"


@dataclass(frozen=True, slots=True)
class Constants:
    """What a tuned server makes of a data sheet. Each has one physical meaning, and none belongs to one GPU or model.

    Attributes:
        bandwidth_efficiency: The share of the memory's bandwidth that reading weights and caches reaches.
        compute_efficiency: The share of the FLOPS that matrices reach, in prompts and in answers.
        link_efficiency: The share of the links between GPUs, both directions counted, that is reached.
        layer_overhead_us: What a layer takes beside all that: starting kernels, norms, waiting for one another.
        fp4_layer_overhead_us: More of it with NVFP4, where each layer's input has to be quantised on the way.
        vllm_layer_overhead_us: More of it under vLLM than under TensorRT-LLM.
        sglang_layer_overhead_us: The same for SGLang.
        request_overhead_us: What a step takes on the host for each request that it serves: choosing a token, sending
            it. Offline runs hide it behind the GPU's work.
        fp4_flops_factor: How much less of the data sheet's FP4 FLOPS is reached than of the others.
        moe_factor: What is left of the estimate in a mixture of experts, whose kernels and balance it does not know.
        unpacking_factor: What is left of the 16-bit FLOPS where weights are stored narrower than the GPU computes.
        first_token_factor: How much longer than reading its prompt at once a request waits for its first token: prompts
            come in bunches, and are read in pieces between the steps of others.
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
    moe_factor: float
    unpacking_factor: float
    first_token_factor: float


@dataclass(frozen=True, slots=True)
class SingleStream:
    """llama.cpp, one request: `bytes / (bandwidth x bandwidth_efficiency) + overhead_ms`.

    Attributes:
        bandwidth_efficiency: The share of the bandwidth that it reaches.
        overhead_ms: What a token takes beside reading.
    """

    bandwidth_efficiency: float
    overhead_ms: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """All of it.

    Attributes:
        servers: TensorRT-LLM, vLLM and SGLang.
        llama_cpp: By the kind of memory.
        errors: Relative standard deviations of what rests on the constants, by what they are about.
        links_gb_per_s: Between GPUs, both directions together, by the GPU's name.
        default_link_gb_per_s: Of GPUs that have no row of their own: PCI Express.
    """

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
