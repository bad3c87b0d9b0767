"""What the memory of a replica's GPUs leaves for the KV cache, and what to say where that is too little."""

from __future__ import annotations

import math
from numbers import Integral, Real

from llama_client.crossover.fitting.memory import SERVER_RESERVE_BYTES, SERVER_SHARE, wired_limit_bytes
from llama_client.crossover.precisions import cached_value_bytes, weight_bytes
from llama_client.crossover.tables import Architecture, Gpu
from llama_client.errors import InvalidRequestError

# What llama.cpp's kernels and intermediate results take of each GPU: `memory.py` has them exactly.
_LLAMA_CPP_RESERVE_BYTES = 600_000_000
# A GPU "of 24 GB" has 24 GiB, and llama.cpp leaves none of it alone: that is how six of them hold the 141 GB of a 70B
# at 16 bits (XiongjieDai/GPU-Benchmarks-on-LLM-Inference).
_GIB = 2**30
# Fewest bits last; what a model that does not fit is offered.
_NARROWER = {"llama.cpp": ("Q8_0", "Q6_K", "Q4_K_M"), "server": ("fp8", "nvfp4", "int4")}
_MOST_GPUS_OFFERED = 64


def cache_room_bytes(model: Architecture, gpu: Gpu, n_gpus: int, precision: str, engine: str) -> float:
    """What is left for keys and values beside the weights; negative: the weights alone do not fit."""
    return usable_bytes(gpu, engine) * n_gpus - weight_bytes(model, precision)


def usable_bytes(gpu: Gpu, engine: str) -> float:
    """What an engine gives to weights and cache on one GPU.

    Servers leave a part alone and take about 3 GB for themselves: see `memory.SERVER_SHARE`.
    """
    if engine != "llama.cpp":
        return gpu.memory_gib * _GIB * SERVER_SHARE - SERVER_RESERVE_BYTES
    memory = round(gpu.memory_gib * _GIB)
    if gpu.vendor == "apple":
        memory = wired_limit_bytes(memory)
    return memory - _LLAMA_CPP_RESERVE_BYTES


def require_lengths(model: Architecture, isl: int, osl: int, *, params: tuple[str, str] = ("isl", "osl")) -> None:
    """Refuses lengths that no request can have.

    Args:
        model: The shape.
        isl: Tokens of a prompt.
        osl: Tokens of an answer.
        params: What the caller calls the two, for the error.

    Raises:
        InvalidRequestError: One is no whole positive number, or both are more than the model's context.
    """
    for param, value in zip(params, (isl, osl), strict=True):
        require_whole(param, value, "tokens")
        if value < 1:
            raise InvalidRequestError(f"{param}: must be at least 1 token, got {value}", param=param)
    if isl + osl > model.context_tokens:
        raise InvalidRequestError(
            f"{params[0]}: {isl} and {osl} tokens of answer are more than the {model.context_tokens} of "
            f"{model.name}'s context",
            param=params[0],
        )


def require_whole(param: str, value: object, unit: str) -> None:
    """Refuses what is no whole number.

    Args:
        param: The field that the error names.
        value: Whatever was given.
        unit: What is counted, for the message.

    Raises:
        InvalidRequestError: It is text, a fraction, a boolean or nothing.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidRequestError(f"{param}: must be a whole number of {unit}, got {_told(value)}", param=param)


def require_number(param: str, value: object) -> None:
    """Refuses what is no finite number.

    Args:
        param: The field that the error names.
        value: Whatever was given.

    Raises:
        InvalidRequestError: It is text, a boolean, nothing or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InvalidRequestError(f"{param}: must be a finite number, got {_told(value)}", param=param)


def _told(value: object) -> str:
    """A number as it is, of anything else the kind: it may be long, or nobody's business."""
    return str(value) if isinstance(value, Real) else type(value).__name__


def require_known_flops(gpu: Gpu) -> None:
    """Refuses a batch where nothing says how fast it is.

    Raises:
        InvalidRequestError: The GPU's FLOPS are unknown.
    """
    if gpu.bf16_tflops is None:
        raise InvalidRequestError(
            f"batch: the FLOPS of {gpu.name!r} are unknown, so only one request at a time is known; give 1, or a "
            "row of your own with bf16_tflops",
            param="batch",
        )


def require_room(
    model: Architecture, gpu: Gpu, n_gpus: int, precision: str, engine: str, tokens: int, kv_value_bytes: float
) -> None:
    """Refuses a model that does not fit with one whole request.

    Args:
        model: The shape.
        gpu: The data sheet.
        n_gpus: How many.
        precision: Canonical.
        engine: Canonical.
        tokens: Prompt and answer of one request.
        kv_value_bytes: Of one cached value.

    Raises:
        InvalidRequestError: It does not; the message has the shortage in GB, and what would fit.
    """
    cache = model.kv_bytes_per_token(kv_value_bytes) * tokens
    usable = usable_bytes(gpu, engine)
    weights = weight_bytes(model, precision)
    missing = weights + cache - usable * n_gpus
    if missing <= 0:
        return
    fits = _what_fits(model, usable, n_gpus, weights + cache, engine, tokens)
    raise InvalidRequestError(
        f"model: {model.name} in {precision} does not fit on {n_gpus} x {gpu.name}: it needs {weights / 1e9:.1f} GB "
        f"and {cache / 1e9:.1f} GB for a request of {tokens} tokens, {engine} has {usable * n_gpus / 1e9:.1f} GB, so "
        f"{missing / 1e9:.1f} GB are missing; {fits}",
        param="model",
    )


def _what_fits(model: Architecture, usable: float, n_gpus: int, needed: float, engine: str, tokens: int) -> str:
    offers = []
    more = math.ceil(needed / usable) if usable > 0 else _MOST_GPUS_OFFERED + 1
    if n_gpus < more <= _MOST_GPUS_OFFERED:
        offers.append(f"{more} GPUs")
    for narrower in _NARROWER["llama.cpp" if engine == "llama.cpp" else "server"]:
        cache = model.kv_bytes_per_token(cached_value_bytes(narrower)) * tokens
        if weight_bytes(model, narrower) + cache <= usable * n_gpus:
            offers.append(f"{narrower} on what there is")
            break
    return f"would fit: {' or '.join(offers)}" if offers else "a larger GPU is needed"
