"""The table `[crossover]`: models, GPUs and rents of the user's own, beside the ones that come with the package.

The fields are those of the rows in `llama_client/crossover/tables.py`, where they are turned into such.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, StrictBool, model_validator

from llama_client.config.accounting import PositiveUsd
from llama_client.config.tables import ConfigTable, Name
from llama_client.validation import broken_rule

_SOURCE = "the configuration"
# Bounds that no row passes by being real: they catch a unit that was mistaken, and keep sums finite.
_Count = Annotated[int, Field(strict=True, ge=1, le=10**15)]
_Dimension = Annotated[int, Field(strict=True, ge=1, le=10**8)]
_Figure = Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)]
_RowName = Annotated[Name, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
_GpuName = Annotated[Name, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=100)]


class ExpertsTable(ConfigTable):
    """A mixture of experts.

    Attributes:
        experts: How many there are in a layer that has them.
        experts_per_token: How many answer each token.
        shared_experts: How many answer every token beside these.
        every_n_layers: 1: each layer has them; 2: every other one.
        expert_ffn: The width of one.
    """

    experts: _Dimension
    experts_per_token: _Dimension
    shared_experts: Annotated[int, Field(strict=True, ge=0, le=10**6)] = 0
    every_n_layers: _Dimension = 1
    expert_ffn: _Dimension

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> ExpertsTable:
        if self.experts_per_token > self.experts:
            raise broken_rule("experts_per_token", f"must be at most experts ({self.experts})")
        return self


class ModelTable(ConfigTable):
    """A model's shape and licence; it wins over our own row of that name.

    Attributes:
        name: In small letters, as in `llama-3.1-70b`.
        parameters: How many the language part has.
        layers: How many.
        hidden: The width between layers.
        ffn: The width of the feed-forward part; in a mixture of experts, of the layers without experts.
        heads: Heads of queries.
        kv_heads: Heads of keys and values.
        head_dim: The width of a head.
        vocab: How many tokens it knows.
        context_tokens: The context that it was trained for.
        tied_embeddings: The same matrix reads tokens and writes them.
        moe: Its experts.
        active_parameters: How many a token meets; absent: all.
        published_parameters: With parts that are not in the dimensions; absent: the same.
        attention_chunk_tokens: Most layers look back within such a chunk alone.
        global_attention_every_n_layers: Of those models, every n-th layer looks at everything.
        cross_attention_layers: More layers, that look at pictures.
        licence: Its name.
        released_on: The day of the release.
        monthly_users_clause: Above 700 million monthly users on that day Meta's grant is needed.
        eu_multimodal_bar: The use policy excludes the EU.
        note: What else is worth knowing.
        unverified: What is in doubt.
        source: Where this comes from.
        checked_on: When it was last compared with that.
    """

    name: _RowName
    parameters: _Count
    layers: _Dimension
    hidden: _Dimension
    ffn: _Dimension
    heads: _Dimension
    kv_heads: _Dimension
    head_dim: _Dimension
    vocab: _Dimension
    context_tokens: _Dimension
    tied_embeddings: StrictBool = False
    moe: ExpertsTable | None = None
    active_parameters: _Count | None = None
    published_parameters: _Count | None = None
    attention_chunk_tokens: _Dimension | None = None
    global_attention_every_n_layers: _Dimension | None = None
    cross_attention_layers: Annotated[int, Field(strict=True, ge=0, le=10**6)] = 0
    licence: Name = "unknown"
    released_on: date | None = None
    monthly_users_clause: StrictBool = False
    eu_multimodal_bar: StrictBool = False
    note: Name | None = None
    unverified: Name | None = None
    source: Name = _SOURCE
    checked_on: date | None = None

    @model_validator(mode="after")
    def _parts_go_together(self) -> ModelTable:
        if self.heads % self.kv_heads:
            raise broken_rule("kv_heads", f"must divide heads ({self.heads}): each serves as many queries")
        if self.active_parameters is not None and self.active_parameters > self.parameters:
            raise broken_rule("active_parameters", f"must be at most parameters ({self.parameters})")
        if (self.attention_chunk_tokens is None) != (self.global_attention_every_n_layers is None):
            missing = (
                "attention_chunk_tokens" if self.attention_chunk_tokens is None else "global_attention_every_n_layers"
            )
            raise broken_rule(
                missing, "is required: attention_chunk_tokens and global_attention_every_n_layers belong together"
            )
        return self


class GpuTable(ConfigTable):
    """A GPU; it wins over our own row of that name.

    Attributes:
        name: In small letters and underscores, as in `rtx_a6000`.
        memory_gib: As sold, in 2^30 bytes; what the driver keeps for itself is up to 1% of it.
        bandwidth_gb_per_s: Of its memory, in 10^9 bytes per second.
        title: As its maker writes it; absent: the name.
        vendor: `nvidia`, `amd` or `apple`.
        memory_kind: `hbm`, `gddr` or `unified`.
        bf16_tflops: Dense, in 10^12 a second.
        fp8_tflops: The same for 8 bits.
        fp4_tflops: The same for 4 bits.
        tdp_w: The power that its maker names.
        unverified: What is in doubt.
        source: Where this comes from.
        checked_on: When it was last compared with that.
    """

    name: _GpuName
    memory_gib: _Figure
    bandwidth_gb_per_s: _Figure
    title: str = ""
    vendor: Literal["nvidia", "amd", "apple"] = "nvidia"
    memory_kind: Literal["hbm", "gddr", "unified"] = "gddr"
    bf16_tflops: _Figure | None = None
    fp8_tflops: _Figure | None = None
    fp4_tflops: _Figure | None = None
    tdp_w: _Figure | None = None
    unverified: Name | None = None
    source: Name = _SOURCE
    checked_on: date | None = None


class GpuPriceTable(ConfigTable):
    """What one GPU costs for an hour.

    Attributes:
        gpu: Its name: one of ours or of `[[crossover.gpus]]`.
        provider: Who rents it out.
        usd_per_gpu_hour: US dollars.
        kind: `on_demand`, or `spot`, which may be taken away.
        as_of: The day of the quote.
        unverified: What is in doubt.
        source: Where it comes from.
    """

    gpu: Name
    provider: Name
    usd_per_gpu_hour: PositiveUsd
    kind: Literal["on_demand", "spot"] = "on_demand"
    as_of: date | None = None
    unverified: Name | None = None
    source: Name = _SOURCE


class Crossover(ConfigTable):
    """What the user knows beyond our tables of models, GPUs and rents.

    Attributes:
        models: Models.
        gpus: GPUs.
        gpu_prices: What an hour of one costs.
    """

    models: tuple[ModelTable, ...] = ()
    gpus: tuple[GpuTable, ...] = ()
    gpu_prices: tuple[GpuPriceTable, ...] = ()
