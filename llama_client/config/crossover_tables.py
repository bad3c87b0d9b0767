"""`[crossover]`: rows of models, GPUs and rents, as dataclasses to calculate with and as tables of a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from llama_client.config.tables import ConfigTable, Name, PositiveUsd
from llama_client.validation import broken_rule

MemoryKind = Literal["hbm", "gddr", "unified"]
RentKind = Literal["on_demand", "spot"]
USERS_OWN = "the configuration"
# No real row exceeds these bounds: they catch mistaken units, and keep sums finite. They are stated in the dataclasses
# and hold for the configuration's tables; rows of the package or of a program are not checked.
Count = Annotated[int, Field(strict=True, ge=1, le=10**15)]
Dimension = Annotated[int, Field(strict=True, ge=1, le=10**8)]
Extra = Annotated[int, Field(strict=True, ge=0, le=10**6)]
Figure = Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)]
RowName = Annotated[Name, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
GpuName = Annotated[Name, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=100)]


@dataclass(frozen=True)
class Experts:
    """A mixture of experts.

    Attributes:
        experts: Experts in a layer that has them.
        experts_per_token: Experts selected for each token.
        shared_experts: Experts that every token passes beside these.
        every_n_layers: 1: each layer has experts; 2: every other one.
        expert_ffn: The width of an expert.
    """

    experts: Dimension
    experts_per_token: Dimension
    shared_experts: Extra
    every_n_layers: Dimension
    expert_ffn: Dimension


@dataclass(frozen=True)
class Architecture:
    """A model's shape and licence.

    Attributes:
        name: In lower case, as in `llama-3.1-70b`.
        parameters: Parameters of the language part, computed from the dimensions.
        layers: Number of layers.
        hidden: The width between layers.
        ffn: The width of the feed-forward part; in a mixture of experts, of the layers without experts.
        heads: Query heads.
        kv_heads: Key and value heads, fewer where queries share them.
        head_dim: The width of a head.
        vocab: Tokens in the vocabulary.
        context_tokens: The context that it was trained for.
        tied_embeddings: Whether input and output share one embedding matrix.
        moe: Its experts; unset: a dense model.
        active_parameters: Parameters used for each token; unset: all.
        published_parameters: With parts that are not in the dimensions (a vision tower); unset: the same.
        attention_chunk_tokens: Most layers attend within chunks of so many tokens; unset: to the whole context.
        global_attention_every_n_layers: In models with such chunks, every n-th layer attends to everything.
        cross_attention_layers: Further layers, which attend to images.
        published_precision: The precision of its published weights, as in `mxfp4`; unset: 16 bits.
        licence: The name of its licence.
        released_on: The day of the release; unset: never released.
        monthly_users_clause: Above 700 million monthly users on that day, Meta's permission is needed.
        eu_multimodal_bar: The use policy excludes the EU.
        note: A remark.
        unverified: What could not be checked.
        source: Where this comes from.
        checked_on: When it was last compared with the source.
    """

    name: RowName
    parameters: Count
    layers: Dimension
    hidden: Dimension
    ffn: Dimension
    heads: Dimension
    kv_heads: Dimension
    head_dim: Dimension
    vocab: Dimension
    context_tokens: Dimension
    tied_embeddings: StrictBool = False
    moe: Experts | None = None
    active_parameters: Count | None = None
    published_parameters: Count | None = None
    attention_chunk_tokens: Dimension | None = None
    global_attention_every_n_layers: Dimension | None = None
    cross_attention_layers: Extra = 0
    published_precision: Name | None = None
    licence: Name = "unknown"
    released_on: date | None = None
    monthly_users_clause: StrictBool = False
    eu_multimodal_bar: StrictBool = False
    note: Name | None = None
    unverified: Name | None = None
    source: Name = USERS_OWN
    checked_on: date | None = None

    @property
    def all_parameters(self) -> int:
        """All parameters, with the parts that are not in the dimensions."""
        return self.published_parameters or self.parameters

    @property
    def parameters_per_token(self) -> int:
        """The parameters used for each token: all but the experts that it is not routed to."""
        return self.active_parameters or self.parameters

    def kv_bytes_per_token(self, bytes_per_element: float = 2.0) -> float:
        """The bytes of one token in the KV cache: a key and a value for each layer and KV head.

        Args:
            bytes_per_element: 2 for 16 bits, 1 for FP8; less for GGUF's quantised caches.
        """
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_element


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a chip with one memory for processor and GPU.

    Attributes:
        name: In lower case and underscores, as in `rtx_a6000`.
        memory_gib: As sold, in 2^30 bytes; the driver reserves up to 1% of it.
        bandwidth_gb_per_s: Of its memory, in 10^9 bytes per second.
        title: As its vendor writes it; unset: the name.
        vendor: `nvidia`, `amd` or `apple`.
        memory_kind: `hbm`, `gddr` or `unified`.
        bf16_tflops: Dense, in 10^12 operations per second; unset: unknown.
        fp8_tflops: The same for 8 bits; unset: not supported, or unknown.
        fp4_tflops: The same for 4 bits.
        tdp_w: Thermal design power in watts.
        unverified: What could not be checked.
        source: Where this comes from.
        checked_on: When it was last compared with the source.
    """

    name: GpuName
    memory_gib: Figure
    bandwidth_gb_per_s: Figure
    title: str = ""
    vendor: str = "nvidia"
    memory_kind: MemoryKind = "gddr"
    bf16_tflops: Figure | None = None
    fp8_tflops: Figure | None = None
    fp4_tflops: Figure | None = None
    tdp_w: Figure | None = None
    unverified: Name | None = None
    source: Name = USERS_OWN
    checked_on: date | None = None

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name)


@dataclass(frozen=True)
class GpuPrice:
    """A quote: one GPU for an hour.

    Attributes:
        gpu: Its name: one of the package's or of `[[crossover.gpus]]`.
        provider: The company that rents it out.
        usd_per_gpu_hour: US dollars per hour of one GPU.
        kind: `on_demand`, or `spot` (which can be withdrawn).
        as_of: The day of the quote.
        unverified: What could not be checked.
        source: Where it comes from.
    """

    gpu: Name
    provider: Name
    usd_per_gpu_hour: PositiveUsd
    kind: RentKind = "on_demand"
    as_of: date | None = None
    unverified: Name | None = None
    source: Name = USERS_OWN


class _RowTable(BaseModel, frozen=True):
    """A `ConfigTable` that type checkers let inherit from a frozen dataclass."""

    model_config: ClassVar[ConfigDict] = ConfigTable.model_config


class ExpertsTable(_RowTable, Experts, frozen=True):
    """A mixture of experts: keys as the fields of `Architecture.moe`.

    Attributes:
        shared_experts: Experts that every token passes beside these.
        every_n_layers: 1: each layer has experts; 2: every other one.
    """

    shared_experts: Extra = 0
    every_n_layers: Dimension = 1

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> ExpertsTable:
        if self.experts_per_token > self.experts:
            raise broken_rule("experts_per_token", f"must be at most experts ({self.experts})")
        return self


class ModelTable(_RowTable, Architecture, frozen=True):
    """A model: keys as the fields of `Architecture`; it takes precedence over the package's row of that name.

    Attributes:
        moe: Its experts; unset: a dense model.
    """

    moe: ExpertsTable | None = None

    @model_validator(mode="after")
    def _parts_go_together(self) -> ModelTable:
        if self.heads % self.kv_heads:
            raise broken_rule("kv_heads", f"must divide heads ({self.heads}): each serves as many queries")
        if self.active_parameters is not None and self.active_parameters > self.parameters:
            raise broken_rule("active_parameters", f"must be at most parameters ({self.parameters})")
        if (self.attention_chunk_tokens is None) != (self.global_attention_every_n_layers is None):
            pair = ("attention_chunk_tokens", "global_attention_every_n_layers")
            missing = pair[0] if self.attention_chunk_tokens is None else pair[1]
            raise broken_rule(missing, f"is required: {' and '.join(pair)} belong together")
        return self


class GpuTable(_RowTable, Gpu, frozen=True):
    """A GPU: keys as the fields of `Gpu`; it takes precedence over the package's row of that name.

    Attributes:
        vendor: `nvidia`, `amd` or `apple`.
    """

    vendor: Literal["nvidia", "amd", "apple"] = "nvidia"


class GpuPriceTable(_RowTable, GpuPrice, frozen=True):
    """The rent of a GPU: keys as the fields of `GpuPrice`."""
