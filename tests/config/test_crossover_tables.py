"""The user's own models, GPUs and rents: read, refused where they are wrong, and put beside ours."""

from __future__ import annotations

import dataclasses
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client import Config, ConfigError, load_config
from llama_client.config.crossover_tables import ExpertsTable, GpuPriceTable, GpuTable, ModelTable
from llama_client.crossover.tables import Architecture, Experts, Gpu, GpuPrice, Tables
from llama_client.crossover.user_tables import tables_of

MODEL: dict[str, Any] = {
    "name": "own-7b",
    "parameters": 7_000_000_000,
    "layers": 32,
    "hidden": 4096,
    "ffn": 11008,
    "heads": 32,
    "kv_heads": 8,
    "head_dim": 128,
    "vocab": 32000,
    "context_tokens": 8192,
}
MOE = {"experts": 8, "experts_per_token": 2, "expert_ffn": 4096}
GPU: dict[str, Any] = {"name": "rtx_a6000", "memory_gib": 48, "bandwidth_gb_per_s": 768}
PRICE: dict[str, Any] = {"gpu": "rtx_a6000", "provider": "the cellar", "usd_per_gpu_hour": 0.35}


def config(**tables: Any) -> Config:
    return load_config({"crossover": tables}, environ={})


@pytest.mark.parametrize(
    ("table", "row"),
    [(ModelTable, Architecture), (ExpertsTable, Experts), (GpuTable, Gpu), (GpuPriceTable, GpuPrice)],
)
def test_a_table_has_the_fields_of_the_row_that_it_becomes(table: Any, row: Any) -> None:
    fields = {field.name: field for field in dataclasses.fields(row)}
    assert set(table.model_fields) == set(fields)
    for name, field in table.model_fields.items():
        default = fields[name].default
        if default is not dataclasses.MISSING:
            assert field.default == default, name


def test_rows_in_toml_stand_beside_ours(clean_home: Path) -> None:
    Path("llama-client.toml").write_text(
        """
        [[crossover.models]]
        name = "own-8x7b"
        parameters = 46_700_000_000
        layers = 32
        hidden = 4096
        ffn = 14336
        heads = 32
        kv_heads = 8
        head_dim = 128
        vocab = 32000
        context_tokens = 32768
        moe = { experts = 8, experts_per_token = 2, expert_ffn = 14336 }
        active_parameters = 12_900_000_000
        released_on = 2023-12-11

        [[crossover.gpus]]
        name = "rtx_a6000"
        title = "RTX A6000"
        memory_gib = 48
        bandwidth_gb_per_s = 768.0
        checked_on = 2026-11-01

        [[crossover.gpu_prices]]
        gpu = "RTX A6000"
        provider = "the cellar"
        usd_per_gpu_hour = 0.1

        [[crossover.gpu_prices]]
        gpu = "h100_sxm"
        provider = "a friend"
        usd_per_gpu_hour = 1
        kind = "spot"
        as_of = 2026-11-20
        """,
        encoding="utf-8",
    )
    tables, bundled = tables_of(load_config(environ={})), Tables.bundled()
    model = tables.model("own-8x7b")
    assert model.moe == Experts(8, 2, 0, 1, 14336)
    assert (model.parameters_per_token, model.released_on) == (12_900_000_000, date(2023, 12, 11))
    assert (model.source, model.checked_on) == ("the configuration", None)
    assert tables.gpu("RTX A6000").memory_gib == 48
    (rent,) = tables.rents("rtx_a6000")
    assert (rent.usd_per_gpu_hour, rent.source) == (Decimal("0.1"), "the configuration")
    assert "a friend" in {rent.provider for rent in tables.rents("h100_sxm", kind="spot")}
    assert len(tables.models) == len(bundled.models) + 1
    assert len(tables.gpu_prices) == len(bundled.gpu_prices) + 2


def test_a_row_of_a_known_name_takes_the_place_of_ours() -> None:
    tables = tables_of(config(gpus=[GPU | {"name": "rtx_4090"}], models=[MODEL | {"name": "llama-3.1-8b"}]))
    assert tables.gpu("rtx_4090").memory_gib == 48
    assert tables.model("llama-3.1-8b-instruct").parameters == 7_000_000_000
    assert len(tables.gpus) == len(Tables.bundled().gpus)


def test_without_the_table_ours_are_all() -> None:
    assert tables_of(config()) == Tables.bundled()
    assert load_config({}, environ={}) == config()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"gpus": [GPU | {"bandwith": 3}]}, r"crossover\.gpus\[0\]\.bandwith: unknown name"),
        ({"gpu": []}, r"crossover\.gpu: unknown name; did you mean 'gpus'\?"),
        ({"models": [MODEL | {"kv_head": 3}]}, r"crossover\.models\[0\]\.kv_head: .* did you mean 'kv_heads'\?"),
        ({"models": [MODEL, MODEL | {"heads": 0}]}, r"crossover\.models\[1\]\.heads: must be greater than"),
        ({"models": [MODEL | {"heads": 30}]}, r"crossover\.models\[0\]\.kv_heads: must divide heads \(30\)"),
        ({"models": [MODEL | {"layers": "32"}]}, r"crossover\.models\[0\]\.layers: must be a whole number"),
        ({"models": [MODEL | {"name": "Own 7B"}]}, r"crossover\.models\[0\]\.name: must match"),
        ({"models": [MODEL | {"moe": MOE | {"expert": 1}}]}, r"crossover\.models\[0\]\.moe\.expert: unknown name; did"),
        ({"models": [MODEL | {"moe": MOE | {"experts_per_token": 9}}]}, r"moe\.experts_per_token: must be at most exp"),
        ({"models": [MODEL | {"active_parameters": 10**11}]}, r"active_parameters: must be at most parameters"),
        ({"models": [MODEL | {"attention_chunk_tokens": 8192}]}, r"global_attention_every_n_layers: is required"),
        ({"models": [{"name": "x"}]}, r"crossover\.models\[0\]\.parameters: is required"),
        ({"gpus": [GPU | {"memory_gib": -48}]}, r"crossover\.gpus\[0\]\.memory_gib: must be greater than 0, got -48"),
        ({"gpus": [GPU | {"memory_gib": float("inf")}]}, r"crossover\.gpus\[0\]\.memory_gib: must be"),
        ({"gpus": [GPU | {"vendor": "intel"}]}, r"crossover\.gpus\[0\]\.vendor: must be 'nvidia', 'amd' or 'apple'"),
        ({"gpu_prices": [PRICE | {"usd_per_gpu_hour": -1}]}, r"gpu_prices\[0\]\.usd_per_gpu_hour: must be greater"),
        ({"gpu_prices": [PRICE | {"usd_per_gpu_hour": "1"}]}, r"usd_per_gpu_hour: must be a number of US dollars"),
        ({"gpu_prices": [PRICE | {"kind": "ondemand"}]}, r"gpu_prices\[0\]\.kind: must be 'on_demand' or 'spot'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**tables)


def test_a_price_of_a_gpu_that_nobody_knows_is_refused() -> None:
    read = config(gpus=[GPU], gpu_prices=[PRICE, PRICE | {"gpu": "rtx_a600"}])
    with pytest.raises(ConfigError, match=r"^crossover\.gpu_prices\[1\]\.gpu: .* did you mean 'rtx_a6000'\?") as caught:
        tables_of(read)
    assert caught.value.key == "crossover.gpu_prices[1].gpu"
