"""What is known of models, GPUs and their rents: the rows of `data/` and the user's own, looked up by name.

Facts only. An unknown name is an error that says what is known; nothing here guesses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cache, cached_property
from typing import Any, Literal

from llama_client.errors import InvalidRequestError

MemoryKind = Literal["hbm", "gddr", "unified"]
RentKind = Literal["on_demand", "spot"]
_FOLDER = "llama_client.crossover.data"
_USERS_OWN = "the configuration"
# What people write around a model's name that does not change its shape.
_PREFIX = re.compile(r"^(?:meta-|hf:)")
_SUFFIX = re.compile(r"(?:-instruct|-chat|-it|-base)$")


@dataclass(frozen=True, slots=True)
class Experts:
    """The part of a mixture of experts that a token does not see as a whole."""

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
        parameters: Computed from the dimensions: what the language part has.
        layers: How many.
        hidden: The width between layers.
        ffn: The width of the feed-forward part; in a mixture of experts, of the layers without experts.
        heads: Heads of queries.
        kv_heads: Heads of keys and values, fewer where queries share them.
        head_dim: The width of a head.
        vocab: How many tokens it knows.
        context_tokens: The context that it was trained for.
        tied_embeddings: The same matrix reads tokens and writes them.
        moe: Its experts; None: a dense model.
        active_parameters: How many a token meets; None: all.
        published_parameters: With the parts that are not in the dimensions (a vision tower); None: the same.
        attention_chunk_tokens: Most layers look back within such a chunk alone; None: at everything.
        global_attention_every_n_layers: Of those models, every n-th layer looks at everything.
        cross_attention_layers: More layers, that look at pictures.
        licence: Its name.
        released_on: The day of the release; None: never released.
        monthly_users_clause: Above 700 million monthly users on that day Meta's grant is needed.
        eu_multimodal_bar: The use policy excludes the EU.
        note: What else is worth knowing.
        unverified: What could not be checked.
        source: Where this comes from.
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
        """With whatever the dimensions do not tell."""
        return self.published_parameters or self.parameters

    @property
    def parameters_per_token(self) -> int:
        """What a token meets on its way: all but the experts that it is not sent to."""
        return self.active_parameters or self.parameters

    def kv_bytes_per_token(self, bytes_per_element: float = 2.0) -> float:
        """What one token keeps in the KV cache: a key and a value a layer and KV head.

        Args:
            bytes_per_element: 2 for 16 bits, 1 for FP8; less for GGUF's quantised caches.
        """
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_element


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a chip whose processor and GPU share one memory.

    Attributes:
        name: In lower snake case, as in `h100_sxm`.
        title: As its maker writes it; empty: the name.
        vendor: `nvidia`, `amd` or `apple`.
        memory_kind: `hbm`, `gddr` or `unified`.
        memory_gib: As sold, in 2^30 bytes; what the driver keeps for itself is up to 1% of it.
        bandwidth_gb_per_s: Of its memory, in 10^9 bytes per second.
        bf16_tflops: Dense, in 10^12 a second; None: unknown.
        fp8_tflops: The same for 8 bits; None: it has none of its own, or unknown.
        fp4_tflops: The same for 4 bits.
        tdp_w: The power that its maker names.
        unverified: What could not be checked.
        source: Where this comes from.
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
        provider: Who rents it out.
        usd_per_gpu_hour: US dollars.
        kind: `on_demand`, or `spot`, which may be taken away.
        as_of: The day of the quote; None: undated.
        unverified: What is in doubt.
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
    """What a GPU costs to buy."""

    gpu: str
    usd_per_gpu: Decimal
    as_of: date | None = None
    unverified: str | None = None
    source: str = _USERS_OWN


@dataclass(frozen=True)
class Tables:
    """Every row, looked up by name.

    Attributes:
        models: Models, as far as memory and speed hang on them.
        gpus: GPUs, by their data sheets.
        gpu_prices: What an hour of each is rented for.
        gpu_purchases: What each costs to buy.

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
    _names: Mapping[str, Architecture] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", {_plain(model.name): model for model in self.models})

    @classmethod
    @cache
    def bundled(cls) -> Tables:
        """The rows that come with the package, read once: they never change."""
        return cls(
            tuple(_architecture(row) for row in rows("architectures.toml", "models")),
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

        A row of a known name takes the place of ours, and a price of a GPU that of all quotes of its kind.

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
        """The model of a name, written in whatever case, with or without `-instruct`.

        Args:
            name: The canonical name, or one that the catalogue knows for the same model.
            param: The field that an error names.

        Raises:
            InvalidRequestError: It is not known; the message has the nearest name that is.
        """
        found = self._names.get(_plain(name)) or self._names.get(_plain(self._canonical.get(name.lower(), "")))
        if found is None:
            raise unknown(param, name, (model.name for model in self.models))
        return found

    def gpu(self, name: str, *, param: str = "gpu") -> Gpu:
        """The GPU of a name, such as `h100_sxm` or `RTX 4090`.

        Args:
            name: Its name; spaces, dashes and underscores are the same.
            param: The field that an error names.

        Raises:
            InvalidRequestError: It is not known; the message has the nearest name that is.
        """
        plain = re.sub(r"[\s_-]+", "_", name.strip().lower())
        for gpu in self.gpus:
            if plain in (gpu.name, re.sub(r"[\s_-]+", "_", gpu.title.lower())):
                return gpu
        raise unknown(param, name, (gpu.name for gpu in self.gpus))

    def rents(self, gpu: str, *, kind: RentKind = "on_demand") -> tuple[GpuPrice, ...]:
        """What is asked for an hour of a GPU, cheapest first; empty: nobody is known to rent it out.

        Args:
            gpu: The GPU's name.
            kind: How it is rented.
        """
        quotes = (price for price in self.gpu_prices if price.gpu == gpu and price.kind == kind)
        return tuple(sorted(quotes, key=lambda price: price.usd_per_gpu_hour))

    def purchase(self, gpu: str) -> GpuPurchase | None:
        """What a GPU costs to buy, by the newest quote; None: unknown.

        Args:
            gpu: The GPU's name.
        """
        quotes = [row for row in self.gpu_purchases if row.gpu == gpu]
        return max(quotes, key=lambda row: row.as_of or date.min, default=None)

    @cached_property
    def _canonical(self) -> Mapping[str, str]:
        """Every name of the catalogue and the canonical one that it means."""
        from llama_client.catalog.catalog import Catalog

        catalog = Catalog.bundled()
        words = {alias.lower(): model.name for model in catalog.models for alias in model.aliases}
        return words | {offer.id.lower(): offer.name for offer in catalog.all_offers}


def rows(file: str, table: str) -> list[dict[str, Any]]:
    """The rows of a file of this room's data."""
    import tomllib
    from importlib import resources

    text = resources.files(_FOLDER).joinpath(file).read_text(encoding="utf-8")
    found: list[dict[str, Any]] = tomllib.loads(text)[table]
    return found


def unknown(param: str, name: str, known: Iterable[str]) -> InvalidRequestError:
    """The error for a name that no table has: with the nearest one, else with all."""
    # Here, because it brings pydantic.
    from llama_client.validation import nearest

    names = sorted(known)
    match = nearest(name.lower().replace(" ", "_" if "_" in "".join(names) else "-"), names)
    told = f"did you mean {match!r}?" if match else f"known are {', '.join(names)}"
    return InvalidRequestError(f"{param}: {name!r} is not in the tables; {told}", param=param)


def _plain(name: str) -> str:
    text = re.sub(r"[\s_]+", "-", name.strip().lower()).rpartition("/")[2]
    text = _SUFFIX.sub("", _PREFIX.sub("", text))
    return re.sub(r"^llama(?=\d)", "llama-", text)


def _architecture(row: dict[str, Any]) -> Architecture:
    moe = row.pop("moe", None)
    return Architecture(**row, moe=None if moe is None else Experts(**moe))


def _decimal(row: dict[str, Any], key: str) -> dict[str, Any]:
    return row | {key: Decimal(row[key])}
