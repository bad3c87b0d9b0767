"""Writes the tables of keys in docs/guides/configuration.md from the schema: `python -m tests.config.keys_page`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from llama_client.config.crossover_tables import (
    ExpertsTable,
    GpuPriceTable,
    GpuTable,
    ModelTable,
)
from llama_client.config.effective import plain
from llama_client.config.provider_tables import (
    GgufConfig,
    HttpProviderConfig,
    LoraAdapter,
    OllamaConfig,
    PluginConfig,
    ServiceConfig,
)
from llama_client.config.schema import Config, CrossoverConfig, ModelRow
from llama_client.config.tables import (
    BudgetTable,
    CacheConfig,
    HttpConfig,
    LedgerTable,
    OwnMachine,
    PriceRow,
    PrivacyConfig,
    RouteConfig,
    RouteTarget,
    RoutingConfig,
    TelemetryConfig,
)
from llama_client.config.toml_write import toml_value

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "configuration.md"
# What stands on the page under which name. What a table has from another one stands with that.
TABLES: dict[str, tuple[type[BaseModel], tuple[type[BaseModel], ...]]] = {
    "top": (Config, ()),
    "providers": (HttpProviderConfig, ()),
    "machine": (OwnMachine, ()),
    "service": (ServiceConfig, (HttpProviderConfig, OwnMachine)),
    "plugin": (PluginConfig, (ServiceConfig,)),
    "ollama": (OllamaConfig, (HttpProviderConfig, OwnMachine)),
    "gguf": (GgufConfig, (OwnMachine,)),
    "lora": (LoraAdapter, ()),
    "routes": (RouteConfig, ()),
    "targets": (RouteTarget, ()),
    "routing": (RoutingConfig, ()),
    "models": (ModelRow, ()),
    "prices": (PriceRow, ()),
    "ledger": (LedgerTable, ()),
    "budgets": (BudgetTable, ()),
    "cache": (CacheConfig, ()),
    "telemetry": (TelemetryConfig, ()),
    "privacy": (PrivacyConfig, ()),
    "http": (HttpConfig, ()),
    "crossover": (CrossoverConfig, ()),
    "crossover-models": (ModelTable, ()),
    "crossover-moe": (ExpertsTable, ()),
    "crossover-gpus": (GpuTable, ()),
    "crossover-gpu-prices": (GpuPriceTable, ()),
}
_MARKED = re.compile(r"(<!-- keys: ([a-z-]+) -->\n).*?(<!-- end of keys -->)", re.DOTALL)
_FIELD = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)


def filled(page: str) -> str:
    """The page with its tables of keys as the schema has them."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{rows(found[2])}\n{found[3]}", page)


def rows(name: str) -> str:
    """The table of one table's keys."""
    table, bases = TABLES[name]
    elsewhere = {field for base in bases for field in base.model_fields}
    own = inspect.get_annotations(table)
    meanings = meanings_of(table)
    schema = table.model_json_schema(mode="validation")
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field, info in table.model_fields.items():
        is_kind = field == "kind" and issubclass(table, HttpProviderConfig | GgufConfig)
        if is_kind or (field in elsewhere and field not in own):
            # What a kind is stands above the table.
            continue
        words = type_words(schema["properties"][field], schema.get("$defs", {}))
        usual = info.get_default(call_default_factory=True, validated_data={})
        default = "required" if info.is_required() else default_words(usual)
        lines.append(f"| `{field}` | {words} | {default} | {meanings[field]} |")
    return "\n".join(lines) + "\n"


def meanings_of(table: type[BaseModel]) -> dict[str, str]:
    """What docstrings say of a table's keys."""
    found: dict[str, str] = {}
    for base in reversed(table.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Attributes:\n")[2]
        found |= {name: " ".join(said.split()).replace("|", "\\|") for name, said in _FIELD.findall(text)}
    return found


def default_words(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, BaseModel):
        return "its defaults"
    shown = plain(value)
    return f"`{toml_value(shown.get_secret_value() if hasattr(shown, 'get_secret_value') else shown)}`"


def type_words(schema: dict[str, Any], below: dict[str, Any]) -> str:
    if "$ref" in schema:
        schema = below[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        kinds = [kind for kind in schema["anyOf"] if kind.get("type") != "null"]
        if {kind.get("type") for kind in kinds} == {"number", "string"}:
            kinds = [kind for kind in kinds if kind["type"] == "number"]
        return " or ".join(dict.fromkeys(type_words(kind, below) for kind in kinds)) or "text or number"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema.get("type"):
        case "array":
            item = type_words(schema["items"], below) if "items" in schema else "text"
            return f"list of {'tables' if item == 'table' else item}"
        case "object":
            return "table"
        case "boolean":
            return "true or false"
        case "integer" | "number" as kind:
            return ("whole number" if kind == "integer" else "number") + _bounds(schema)
        case "string":
            return {"path": "path", "date": "day"}.get(schema.get("format", ""), "text")
        case _:
            return "text or number"


def _bounds(schema: dict[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    above = f" above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else ""
    # What is only there to catch a slip of the pen, a large power of ten, says nothing.
    if most is not None and (most <= 100_000 or str(int(most)).strip("0") != "1"):
        return f", {least:,} to {most:,}" if least is not None else f"{above}, at most {most:,}"
    return f" from {least:,} on" if least is not None else above


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
