"""The bundled tables with the rows of the user's own, from `[crossover]` in the configuration."""

from __future__ import annotations

from llama_client.config.crossover import ModelTable
from llama_client.config.schema import Config
from llama_client.crossover.tables import Architecture, Experts, Gpu, GpuPrice, Tables
from llama_client.errors import ConfigError, InvalidRequestError


def tables_of(config: Config) -> Tables:
    """What is known of models, GPUs and rents, with the user's own rows.

    A row of a known name takes the place of ours; prices are added.

    Args:
        config: Already read.

    Raises:
        ConfigError: A price is of a GPU that no table has; names the row and the nearest GPU.

    Examples:
        >>> from llama_client import load_config
        >>> row = {"name": "a6000", "memory_gib": 48, "bandwidth_gb_per_s": 768}
        >>> tables_of(load_config({"crossover": {"gpus": [row]}})).gpu("A6000").memory_gib
        48.0
    """
    own = config.crossover
    tables = Tables.bundled().extended(
        models=[_architecture(row) for row in own.models], gpus=[Gpu(**dict(row)) for row in own.gpus]
    )
    prices = []
    for number, price in enumerate(own.gpu_prices):
        field = f"crossover.gpu_prices[{number}].gpu"
        try:
            name = tables.gpu(price.gpu, param=field).name
        except InvalidRequestError as error:
            raise ConfigError(str(error), key=field) from error
        prices.append(GpuPrice(**(dict(price) | {"gpu": name})))
    return tables.extended(gpu_prices=prices)


def _architecture(row: ModelTable) -> Architecture:
    moe = None if row.moe is None else Experts(**dict(row.moe))
    return Architecture(**(dict(row) | {"moe": moe}))
