"""Facts about models, GPUs and their prices: the rows of `data/` and the user's own, looked up by name.

Nothing here guesses: an unknown name is an error with the known ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache, cached_property
from typing import Any, Literal

from llama_client.errors import InvalidRequestError
from llama_client.validation import nearest

MemoryKind = Literal["hbm", "gddr", "unified"]
RentKind = Literal["on_demand", "spot"]
_USERS_OWN = "the configuration"
# Parts of a model's name that do not change its shape.
_PREFIX = re.compile(r"^(?:meta-|hf:)")
_SUFFIX = re.compile(r"(?:-instruct|-chat|-it|-base)$")


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts; `[crossover.models.moe]` has the meaning of each field."""

    experts: int
    experts_per_token: int
    shared_experts: int
    every_n_layers: int
    expert_ffn: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model's shape and licence.

    Attributes:
        name: The canonical name, as in `llama-3.1-70b`.
        parameters: Those of the language part, computed from the dimensions.
        layers: The number of layers.
        hidden: The width between layers.
        ffn: The width of the feed-forward part; in a mixture of experts, of the layers without experts.
        heads: Heads of queries.
        kv_heads: Heads of keys and values, fewer where queries share them.
        head_dim: The width of a head.
        vocab: The size of the vocabulary.
        context_tokens: The context that it was trained for.
        tied_embeddings: The head is the matrix of the token embeddings.
        moe: Its experts; None: a dense model.
        active_parameters: The parameters used for each token; None: all.
        published_parameters: With the parts that are not in the dimensions (a vision tower); None: the same.
        attention_chunk_tokens: Most layers attend within such a chunk alone; None: to the whole context.
        global_attention_every_n_layers: Of those models, every n-th layer attends to the whole context.
        cross_attention_layers: Further layers, which attend to images.
        licence: Its name.
        released_on: The day of the release; None: never released.
        monthly_users_clause: Above 700 million monthly users on that day Meta's grant is needed.
        eu_multimodal_bar: The use policy excludes the EU.
        note: A remark.
        unverified: What could not be checked.
        source: Where the row comes from.
        checked_on: When it was last compared with that; None: the user's own.
    """

    name: str
    parameters: int
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context_tokens: int
    tied_embeddings: bool = False
    moe: Experts | None = None
    active_parameters: int | None = None
    published_parameters: int | None = None
    attention_chunk_tokens: int | None = None
    global_attention_every_n_layers: int | None = None
    cross_attention_layers: int = 0
    licence: str = "unknown"
    released_on: date | None = None
    monthly_users_clause: bool = False
    eu_multimodal_bar: bool = False
    note: str | None = None
    unverified: str | None = None
    source: str = _USERS_OWN
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


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a chip with one memory for processor and GPU.

    Attributes:
        name: In lower snake case, as in `h100_sxm`.
        title: As its maker writes it; empty: the name.
        vendor: `nvidia`, `amd` or `apple`.
        memory_kind: `hbm`, `gddr` or `unified`.
        memory_gib: As sold, in 2^30 bytes; the driver takes up to 1% of it.
        bandwidth_gb_per_s: Of its memory, in 10^9 bytes per second.
        bf16_tflops: Dense, in 10^12 a second; None: unknown.
        fp8_tflops: The same for 8 bits; None: not supported, or unknown.
        fp4_tflops: The same for 4 bits.
        tdp_w: The power of its data sheet.
        unverified: What could not be checked.
        source: Where the row comes from.
        checked_on: When it was last compared with that; None: the user's own.
    """

    name: str
    memory_gib: float
    bandwidth_gb_per_s: float
    title: str = ""
    vendor: str = "nvidia"
    memory_kind: MemoryKind = "gddr"
    bf16_tflops: float | None = None
    fp8_tflops: float | None = None
    fp4_tflops: float | None = None
    tdp_w: float | None = None
    unverified: str | None = None
    source: str = _USERS_OWN
    checked_on: date | None = None

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name)


@dataclass(frozen=True, slots=True)
class GpuPrice:
    """A quote: one GPU for an hour.

    Attributes:
        gpu: Its name.
        provider: The provider that rents it out.
        usd_per_gpu_hour: US dollars.
        kind: `on_demand`, or `spot`, which may be interrupted.
        as_of: The day of the quote; None: undated.
        unverified: What could not be checked.
        source: Where it comes from.
    """

    gpu: str
    provider: str
    usd_per_gpu_hour: Decimal
    kind: RentKind = "on_demand"
    as_of: date | None = None
    unverified: str | None = None
    source: str = _USERS_OWN


@dataclass(frozen=True, slots=True)
class GpuPurchase:
    """A quote: the purchase of one GPU."""

    gpu: str
    usd_per_gpu: Decimal
    as_of: date | None = None
    unverified: str | None = None
    source: str = _USERS_OWN


@dataclass(frozen=True)
class Tables:
    """Every row, looked up by name.

    Attributes:
        models: Models, as far as memory and speed depend on them.
        gpus: GPUs, by their data sheets.
        gpu_prices: Quotes for an hour of a GPU.
        gpu_purchases: Quotes for the purchase of a GPU.

    Examples:
        >>> tables = Tables.bundled()
        >>> tables.model("Meta-Llama-3.1-70B-Instruct").name
        'llama-3.1-70b'
        >>> tables.gpu("H100 SXM").bandwidth_gb_per_s
        3350
        >>> tables.model("llama-9")
        Traceback (most recent call last):
        llama_client.errors.InvalidRequestError: model: 'llama-9' is not in the tables; ...
    """

    models: tuple[Architecture, ...]
    gpus: tuple[Gpu, ...]
    gpu_prices: tuple[GpuPrice, ...]
    gpu_purchases: tuple[GpuPurchase, ...] = ()

    @classmethod
    @cache
    def bundled(cls) -> Tables:
        """The rows that come with the package, read once: they never change."""
        return cls(
            tuple(
                Architecture(**(row | {"moe": Experts(**row["moe"]) if "moe" in row else None}))
                for row in rows("architectures.toml", "models")
            ),
            tuple(Gpu(**row) for row in rows("gpus.toml", "gpus")),
            tuple(GpuPrice(**_decimal(row, "usd_per_gpu_hour")) for row in rows("gpu_prices.toml", "gpu_prices")),
            tuple(GpuPurchase(**_decimal(row, "usd_per_gpu")) for row in rows("gpu_purchases.toml", "gpu_purchases")),
        )

    def extended(
        self,
        *,
        models: Iterable[Architecture] = (),
        gpus: Iterable[Gpu] = (),
        gpu_prices: Iterable[GpuPrice] = (),
    ) -> Tables:
        """These tables with the user's own rows.

        A row replaces ours of the same name; a price replaces all our quotes of its GPU and kind.

        Args:
            models: The user's own models.
            gpus: The user's own GPUs.
            gpu_prices: The user's own rents.
        """
        own_models, own_gpus = {row.name: row for row in models}, {row.name: row for row in gpus}
        own_prices = tuple(gpu_prices)
        priced = {(price.gpu, price.kind) for price in own_prices}
        return Tables(
            tuple(({row.name: row for row in self.models} | own_models).values()),
            tuple(({row.name: row for row in self.gpus} | own_gpus).values()),
            (*(price for price in self.gpu_prices if (price.gpu, price.kind) not in priced), *own_prices),
            self.gpu_purchases,
        )

    def model(self, name: str, *, param: str = "model") -> Architecture:
        """The model of a name, in any case, with or without `-instruct`.

        Args:
            name: The canonical name, or another name of the same model in the catalogue.
            param: The field that an error names.

        Raises:
            InvalidRequestError: Unknown; the message has the nearest known name.
        """
        found = self._by_name.get(_plain(name)) or self._by_name.get(_plain(self._canonical.get(name.lower(), "")))
        if found is None:
            raise unknown(param, name, (model.name for model in self.models))
        return found

    def gpu(self, name: str, *, param: str = "gpu") -> Gpu:
        """The GPU of a name, such as `h100_sxm` or `RTX 4090`.

        Args:
            name: Its name; spaces, dashes and underscores are the same.
            param: The field that an error names.

        Raises:
            InvalidRequestError: Unknown; the message has the nearest known name.
        """
        plain = re.sub(r"[\s_-]+", "_", name.strip().lower())
        for gpu in self.gpus:
            if plain in (gpu.name, re.sub(r"[\s_-]+", "_", gpu.title.lower())):
                return gpu
        raise unknown(param, name, (gpu.name for gpu in self.gpus))

    def rents(self, gpu: str, *, kind: RentKind = "on_demand") -> tuple[GpuPrice, ...]:
        """The quotes for an hour of a GPU, cheapest first; empty: none known.

        Args:
            gpu: The GPU's name.
            kind: `on_demand` or `spot`.
        """
        quotes = (price for price in self.gpu_prices if price.gpu == gpu and price.kind == kind)
        return tuple(sorted(quotes, key=lambda price: price.usd_per_gpu_hour))

    def purchase(self, gpu: str) -> GpuPurchase | None:
        """The newest quote for the purchase of a GPU; None: none known.

        Args:
            gpu: The GPU's name.
        """
        quotes = [row for row in self.gpu_purchases if row.gpu == gpu]
        return max(quotes, key=lambda row: row.as_of or date.min, default=None)

    @cached_property
    def _by_name(self) -> Mapping[str, Architecture]:
        return {_plain(model.name): model for model in self.models}

    @cached_property
    def _canonical(self) -> Mapping[str, str]:
        """The canonical name of each name in the catalogue."""
        from llama_client.catalog.catalog import Catalog

        catalog = Catalog.bundled()
        words = {alias.lower(): model.name for model in catalog.models for alias in model.aliases}
        return words | {offer.id.lower(): offer.name for offer in catalog.all_offers}


@cache
def data_of(file: str) -> dict[str, Any]:
    """A file of `crossover/data/`, read once."""
    import tomllib
    from importlib import resources

    return tomllib.loads(resources.files("llama_client.crossover.data").joinpath(file).read_text(encoding="utf-8"))


def rows(file: str, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = data_of(file)[table]
    return found


def unknown(param: str, name: str, known: Iterable[str]) -> InvalidRequestError:
    """The error for an unknown name: with the nearest known one, else with all."""
    names = sorted(known)
    match = nearest(name.lower().replace(" ", "_" if "_" in "".join(names) else "-"), names)
    hint = f"did you mean {match!r}?" if match else f"known are {', '.join(names)}"
    return InvalidRequestError(f"{param}: {name!r} is not in the tables; {hint}", param=param)


def _plain(name: str) -> str:
    text = re.sub(r"[\s_]+", "-", name.strip().lower()).rpartition("/")[2]
    text = _SUFFIX.sub("", _PREFIX.sub("", text))
    return re.sub(r"^llama(?=\d)", "llama-", text)


def _decimal(row: dict[str, Any], key: str) -> dict[str, Any]:
    return row | {key: Decimal(row[key])}
