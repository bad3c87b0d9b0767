"""The bytes of a weight and of a cached value, by the name of a precision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal

from llama_client.crossover.tables import Architecture, data_of, unknown
from llama_client.errors import InvalidRequestError

Family = Literal["bf16", "fp8", "fp4", "int4", "gguf"]
# Bits a weight of what sellers name, scales apart; GGUF's names have them in the name.
_BITS = {
    "bf16": 16,
    "fp8": 8,
    "fp8_block": 8,
    "int8": 8,
    "nvfp4": 4,
    "mxfp4": 4,
    "int4": 4,
    "f32": 32,
    "f16": 16,
}
_GGUF_BITS = re.compile(r"i?q(\d)_")
_SPELLINGS = {"fp16": "bf16", "float16": "bf16", "bfloat16": "bf16", "fp4": "nvfp4", "awq": "int4", "gptq": "int4"}
# Bytes a weight of a layer's matrices, scales included: NVFP4 keeps an 8-bit scale for 16 values, AWQ and GPTQ a 16-bit
# scale and a 4-bit zero for 128; MXFP4 an 8-bit scale for 32. Embeddings and the head stay at 16 bits in all 4-bit
# forms; with MXFP4 all but the experts of a mixture do (modules_to_not_convert in gpt-oss' config.json).
_BYTES_A_WEIGHT = {"bf16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "nvfp4": 0.5625, "mxfp4": 0.53125, "int4": 0.52}
_WIDE_EMBEDDINGS = frozenset({"fp8", "fp8_block", "nvfp4", "mxfp4", "int4"})
_FAMILIES: dict[str, Family] = {
    **{"bf16": "bf16", "fp8": "fp8", "fp8_block": "fp8"},
    **{"nvfp4": "fp4", "mxfp4": "fp4", "int4": "int4"},
}
# NVIDIA's checkpoints of 8 and 4 bits cache keys and values in 8 bits; vLLM's and llama.cpp's default is 16.
_BYTES_A_CACHED_VALUE = {"bf16": 2.0, "fp8": 1.0, "fp8_block": 2.0, "nvfp4": 1.0, "mxfp4": 1.0, "int4": 2.0}
# Bits a weight of GGUF's plain formats, which have one kind of block throughout: ggml's structs of blocks
# (ggml-common.h) take 18, 20, 22 and 24 bytes for 32 weights, and 110 for 256 of Q3_K.
_PLAIN_BITS = {"Q3_K_S": 110 * 8 / 256, "Q4_0": 4.5, "Q4_1": 5.0, "Q5_0": 5.5, "Q5_1": 6.0}
# Except for the output matrix, which may be that of the embeddings: Q6_K, 210 bytes for 256 (llama-quant.cpp).
_PLAIN_OUTPUT_BITS = 210 * 8 / 256


def canonical(precision: str, *, param: str = "precision") -> str:
    """The name of a precision: `bf16`, `fp8`, `fp8_block`, `nvfp4`, `mxfp4`, `int4`, or GGUF's, as in `Q4_K_M`."""
    if not isinstance(precision, str):
        kind = type(precision).__name__
        raise InvalidRequestError(f"{param}: must be a name, as in 'fp8' or 'Q4_K_M', not {kind}", param=param)
    name = _plain(precision)
    if name in _BYTES_A_WEIGHT:
        return name
    if name.upper() in all_gguf_names():
        return name.upper()
    known = (*_BYTES_A_WEIGHT, "fp16", *all_gguf_names())
    # Underscores are often left out.
    meant = next((each for each in known if _letters(each) == _letters(name)), None)
    if meant:
        raise InvalidRequestError(f"{param}: {precision!r} is not known; did you mean {meant!r}?", param=param)
    raise unknown(param, precision, known)


def _plain(precision: str) -> str:
    lower = precision.strip().lower().replace("-", "_")
    return _SPELLINGS.get(lower, lower)


def family(precision: str) -> Family:
    """The arithmetic of a canonical precision."""
    return _FAMILIES.get(precision, "gguf")


def bits_of(precision: str | None) -> int | None:
    """The bits of a weight, as in 4 for `Q4_K_M`; None: not known."""
    if precision is None:
        return None
    name = _plain(precision)
    match = _GGUF_BITS.match(name)
    return int(match[1]) if match else _BITS.get(name)


def weight_bytes(model: Architecture, precision: str) -> float:
    """The bytes of a model's weights, all experts and embeddings included."""
    if precision in all_gguf_names():
        return model.all_parameters * _gguf_bits(model, precision) / 8
    narrow = _BYTES_A_WEIGHT[precision]
    if precision not in _WIDE_EMBEDDINGS:
        return model.all_parameters * narrow
    wide = embedding_parameters(model)
    if precision == "mxfp4" and model.moe is not None:
        wide = model.all_parameters - expert_parameters(model)
    return (model.all_parameters - wide) * narrow + wide * 2


def layer_weight_bytes(model: Architecture, precision: str) -> float:
    """The bytes of one weight of a layer's matrices, scales included; in GGUF files the mean of the file."""
    if precision in all_gguf_names():
        return _gguf_bits(model, precision) / 8
    return _BYTES_A_WEIGHT[precision]


def expert_parameters(model: Architecture) -> int:
    """The weights of all experts that tokens are routed to; 0: a dense model."""
    if model.moe is None:
        return 0
    return model.layers // model.moe.every_n_layers * model.moe.experts * 3 * model.hidden * model.moe.expert_ffn


def embedding_parameters(model: Architecture) -> int:
    """The weights of the token embeddings and the head, which most formats keep at 16 bits."""
    return model.vocab * model.hidden * (1 if model.tied_embeddings else 2)


def cached_value_bytes(precision: str) -> float:
    """The bytes of one value in the KV cache: the engines' default beside weights of a precision."""
    return _BYTES_A_CACHED_VALUE.get(precision, 2.0)


@cache
def gguf_names() -> tuple[str, ...]:
    """GGUF's names in common use, fewest bits first."""
    names = {name for bits, _ in _gguf_tables() for name in bits}
    return tuple(sorted(names, key=lambda name: min(bits[name] for bits, _ in _gguf_tables() if name in bits)))


@cache
def all_gguf_names() -> tuple[str, ...]:
    """The same, then the plain formats: at the same size less accurate than those that mix kinds of blocks."""
    return (*gguf_names(), *_PLAIN_BITS)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _gguf_bits(model: Architecture, name: str) -> float:
    """Mean bits a weight, which grow with the share of embeddings: exact for plain formats."""
    if name in _PLAIN_BITS:
        output = model.vocab * model.hidden / model.all_parameters
        return _PLAIN_BITS[name] + (_PLAIN_OUTPUT_BITS - _PLAIN_BITS[name]) * output
    # For others a straight line through the measured sizes, each at its model's share of embeddings.
    points = sorted((share, bits[name]) for bits, share in _gguf_tables() if name in bits)
    if not points:
        raise InvalidRequestError(f"precision: {name!r} has no known size", param="precision")
    (low, at_low), (high, at_high) = points[0], points[-1]
    if high == low:
        return at_low
    share = embedding_parameters(model) / model.all_parameters
    return at_low + (at_high - at_low) * (share - low) / (high - low)


@cache
def _gguf_tables() -> tuple[tuple[Mapping[str, float], float], ...]:
    """The bits a weight of each model whose files were measured, and its share of embeddings."""
    rows = [dict(row) for row in data_of("gguf_bits.toml").values()]
    return tuple((row, row.pop("embedding_parameters") / row.pop("parameters")) for row in rows)
