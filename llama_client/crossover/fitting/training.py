"""What fine-tuning needs of memory: all weights, LoRA's adapters beside frozen weights, or beside 4-bit ones (QLoRA).

Weights, gradients and the optimiser's state follow from counts; activations are an approximation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from llama_client.crossover.fitting.memory import GIB, require_positive
from llama_client.crossover.precisions import embedding_parameters
from llama_client.crossover.tables import Architecture, unknown
from llama_client.errors import InvalidRequestError

Method = Literal["full", "full-8bit-adam", "lora", "qlora"]
METHODS: tuple[Method, ...] = ("full", "full-8bit-adam", "lora", "qlora")
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
ALL_MATRICES, ATTENTION_MATRICES = MATRICES, ("q", "k", "v", "o")
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
# The driver's context, workspaces and gaps between blocks on a GPU: a bound of ours.
_RUNTIME_BYTES = GIB


@dataclass(frozen=True, slots=True)
class TrainingNeed:
    """The memory that a way of fine-tuning takes, by part.

    Attributes:
        method: Which.
        trained_parameters: How many are trained.
        weights_bytes: Of the model, and of adapters.
        gradient_bytes: Of what is trained.
        optimizer_bytes: Its moments and its 32-bit copy of what is trained.
        activation_bytes: Approximate, with gradient checkpointing in every layer.
        runtime_bytes: What the driver and the framework keep.
    """

    method: Method
    trained_parameters: int
    weights_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    runtime_bytes: int

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and the optimiser's state: what does not depend on the batch."""
        return self.weights_bytes + self.gradient_bytes + self.optimizer_bytes

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.state_bytes + self.activation_bytes + self.runtime_bytes

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the sums."""
        return asdict(self) | {"state_bytes": self.state_bytes, "total_bytes": self.total_bytes}


def training_need(
    model: Architecture,
    method: Method,
    *,
    rank: int = DEFAULT_RANK,
    matrices: tuple[str, ...] = ALL_MATRICES,
    sequence_tokens: int = DEFAULT_SEQUENCE_TOKENS,
    batch: int = 1,
) -> TrainingNeed:
    """What fine-tuning a model needs.

    Args:
        model: Its shape.
        method: `full` (Adam in mixed precision), `full-8bit-adam`, `lora` (16-bit weights) or `qlora` (NF4).
        rank: Of LoRA's adapters.
        matrices: Which of a layer's matrices get one: of `q`, `k`, `v`, `o`, `gate`, `up`, `down`.
        sequence_tokens: The length of an example.
        batch: How many are computed at once.

    Raises:
        InvalidRequestError: An unknown method or matrix, or a count that is not positive.

    Examples:
        >>> from llama_client.crossover.tables import Tables
        >>> model = Tables.bundled().model("llama-3.3-70b")
        >>> round(training_need(model, "full").state_bytes / 1e12, 2)
        1.13
        >>> round(training_need(model, "full-8bit-adam").state_bytes / 1e9)
        423
        >>> round(training_need(model, "qlora").total_bytes / 2**30)
        46
    """
    if method not in METHODS:
        raise unknown("method", str(method), METHODS)
    for param, value in (("sequence_tokens", sequence_tokens), ("batch", batch)):
        require_positive(param, value)
    base = model.all_parameters
    activations = _activation_bytes(model, sequence_tokens * batch)
    if method in ("full", "full-8bit-adam"):
        state = _ADAM if method == "full" else _ADAM_8_BIT
        return TrainingNeed(
            method, base, round(base * _WEIGHT), round(base * _GRADIENT), round(base * state), activations,
            _RUNTIME_BYTES,
        )  # fmt: skip
    adapters = lora_parameters(model, rank=rank, matrices=matrices)
    frozen = base * _WEIGHT
    if method == "qlora":
        # bitsandbytes leaves embeddings and the head as they are.
        wide = embedding_parameters(model)
        frozen = (base - wide) * _NF4 + wide * _WEIGHT
    return TrainingNeed(
        method,
        adapters,
        round(frozen + adapters * _WEIGHT),
        round(adapters * _GRADIENT),
        round(adapters * _ADAM),
        activations,
        _RUNTIME_BYTES,
    )


def lora_parameters(model: Architecture, *, rank: int = DEFAULT_RANK, matrices: tuple[str, ...] = ALL_MATRICES) -> int:
    """The parameters of LoRA's adapters: for each matrix, `rank x (inputs + outputs)` (arXiv 2106.09685).

    In a mixture of experts each expert, shared ones too, has adapters of its own.

    Examples:
        >>> from llama_client.crossover.tables import Tables
        >>> lora_parameters(Tables.bundled().model("llama-3.1-8b"), rank=16)
        41943040
    """
    require_positive("rank", rank)
    if not matrices:
        raise InvalidRequestError(f"matrices: must name one of {', '.join(MATRICES)}", param="matrices")
    for matrix in matrices:
        if matrix not in MATRICES:
            raise unknown("matrices", matrix, MATRICES)
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    sizes = {
        "q": model.layers * (model.hidden + queries),
        "k": model.layers * (model.hidden + keys),
        "v": model.layers * (model.hidden + keys),
        "o": model.layers * (queries + model.hidden),
    }
    feed_forward = _feed_forward_sizes(model)
    return rank * sum(sizes.get(matrix, feed_forward) for matrix in set(matrices))


def _feed_forward_sizes(model: Architecture) -> int:
    """Inputs and outputs of one of the three matrices, over all layers and experts."""
    moe = model.moe
    if moe is None:
        return model.layers * (model.hidden + model.ffn)
    with_experts = model.layers // moe.every_n_layers
    experts = with_experts * (moe.experts + moe.shared_experts) * (model.hidden + moe.expert_ffn)
    return experts + (model.layers - with_experts) * (model.hidden + model.ffn)


def _activation_bytes(model: Architecture, tokens: int) -> int:
    layers = model.layers + model.cross_attention_layers
    a_token = model.hidden * (_LAYER_ACTIVATIONS + _CHECKPOINT * layers) + model.vocab * _LOGITS
    return tokens * a_token
