"""Facts about models, GPUs and their prices: the rows of `data/` and the user's own, looked up by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache, cached_property
from typing import Any

from llama_client.config.crossover_tables import USERS_OWN, RentKind
from llama_client.config.crossover_tables import Architecture as Architecture
from llama_client.config.crossover_tables import Experts as Experts
from llama_client.config.crossover_tables import Gpu as Gpu
from llama_client.config.crossover_tables import GpuPrice as GpuPrice
from llama_client.errors import InvalidRequestError
from llama_client.validation import nearest

# Parts of a model's name that do not change its shape.
_PREFIX = re.compile(r"^(?:meta-|hf:)")
_SUFFIX = re.compile(r"(?:-instruct|-chat|-it|-base)$")


@dataclass(frozen=True, slots=True)
class GpuPurchase:
    """A quote: the purchase of one GPU."""

    gpu: str
    usd_per_gpu: Decimal
    as_of: date | None = None
    unverified: str | None = None
    source: str = USERS_OWN


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
        own_prices = tuple(gpu_prices)
        priced = {(price.gpu, price.kind) for price in own_prices}
        return Tables(
            tuple({row.name: row for row in (*self.models, *models)}.values()),
            tuple({row.name: row for row in (*self.gpus, *gpus)}.values()),
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
        found = self.find_model(name)
        if found is None:
            raise unknown(param, name, (model.name for model in self.models))
        return found

    def find_model(self, name: str) -> Architecture | None:
        """The same; None: unknown.

        Args:
            name: As in `model`.
        """
        return self._by_name.get(_plain(name)) or self._by_name.get(_plain(self._canonical.get(name.lower(), "")))

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
