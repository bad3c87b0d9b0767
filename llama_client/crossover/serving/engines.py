"""Names of engines, and which precision runs on which of them."""

from __future__ import annotations

from llama_client.crossover.precisions import all_gguf_names, canonical, family
from llama_client.crossover.tables import Gpu, unknown
from llama_client.errors import InvalidRequestError

ENGINES = ("trtllm", "vllm", "sglang", "llama.cpp")
_SPELLINGS = {"tensorrt-llm": "trtllm", "tensorrt": "trtllm", "llamacpp": "llama.cpp", "llama-cpp": "llama.cpp"}


def canonical_engine(engine: str, *, param: str = "engine") -> str:
    """The name of an engine as we write it: `trtllm`, `vllm`, `sglang` or `llama.cpp`.

    Args:
        engine: In whatever case.
        param: The field that an error names.

    Raises:
        InvalidRequestError: It is not known; the message has the nearest name that is.
    """
    if not isinstance(engine, str):
        raise InvalidRequestError(f"{param}: must be a name, as in 'vllm', not {type(engine).__name__}", param=param)
    lower = engine.strip().lower()
    name = _SPELLINGS.get(lower.replace("_", "-").replace(" ", "-"), lower)
    if name not in ENGINES:
        raise unknown(param, engine, ENGINES)
    return name


def precision_for(precision: str, engine: str, gpu: Gpu) -> str:
    """The canonical precision that an engine runs.

    Args:
        precision: In whatever spelling; empty is `bf16`.
        engine: A canonical name.
        gpu: Where.

    Raises:
        InvalidRequestError: The precision is unknown, the engine has no such files, or does not run on the GPU.

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
