"""The configuration as it holds: every value with its key and its source, ready to be shown, without secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from llama_client.config.masking import shown_value
from llama_client.config.routing import RouteTarget
from llama_client.config.schema import Config
from llama_client.config.sources import Found, ValueSource
from llama_client.config.variables import KeyPath
from llama_client.validation import place

# What is shown as the value of one key, though it is made of tables.
_AS_VALUES = ("targets", "lora", "moe")


@dataclass(frozen=True, slots=True)
class EffectiveValue:
    """A value that holds.

    Attributes:
        path: Its place.
        value: The value as TOML would write it; None: it is not set, and has no default. Secrets are masked.
        source: Where it comes from.
        is_masked: Whether something of it was masked.
    """

    path: KeyPath
    value: Any
    source: ValueSource
    is_masked: bool

    @property
    def key(self) -> str:
        """Its dotted key: `providers.laptop.n_ctx`."""
        return place(self.path)

    @property
    def is_set(self) -> bool:
        """Whether anybody has set it."""
        return self.source.kind != "default"


def effective_values(
    config: Config, found: Found, environ: Mapping[str, str], *, with_defaults: bool = False
) -> list[EffectiveValue]:
    """Every value of a configuration, in the order of its tables.

    Args:
        config: The checked configuration.
        found: What it was made from.
        environ: The environment.
        with_defaults: Also what nobody has set. A provider's kind is always there.
    """
    values = [EffectiveValue(path, *_split(path, value, environ, found)) for path, value in _walk(config, ())]
    return [value for value in values if with_defaults or value.is_set or _is_kind(value.path)]


def _split(path: KeyPath, value: object, environ: Mapping[str, str], found: Found) -> tuple[Any, ValueSource, bool]:
    shown, is_masked = shown_value(str(path[-1]), plain(value), environ)
    return shown, found.source_of(path), is_masked


def _is_kind(path: KeyPath) -> bool:
    return len(path) == 3 and path[0] == "providers" and path[2] == "kind"


def _walk(table: BaseModel, here: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    """The keys of a table, and then those of the tables in it."""
    fields = [(name, getattr(table, name)) for name in type(table).model_fields]
    fields.sort(key=lambda field: (field[0] != "kind", _is_table(*field)))
    for name, value in fields:
        path = (*here, name)
        match value:
            case BaseModel() if _is_table(name, value):
                yield from _walk(value, path)
            case Mapping() if _is_table(name, value):
                for key, below in value.items():
                    yield from _walk(below, (*path, key))
            case tuple() if _is_table(name, value):
                for number, below in enumerate(value):
                    yield from _walk(below, (*path, number))
            case _:
                yield path, value


def _is_table(name: str, value: object) -> bool:
    """Whether a value has a heading of its own: a table, a list of tables, or tables by name."""
    if name in _AS_VALUES:
        return False
    match value:
        case BaseModel():
            return True
        case Mapping():
            return bool(value) and all(isinstance(below, BaseModel) for below in value.values())
        case tuple():
            return bool(value) and all(isinstance(below, BaseModel) for below in value)
        case _:
            return False


def plain(value: object) -> Any:
    """A value of the configuration in what TOML has, and secrets.

    Args:
        value: What a key holds.
    """
    match value:
        case RouteTarget() if value.model_fields_set == {"target"}:
            return value.target
        case BaseModel():
            return {
                name: plain(getattr(value, name)) for name in type(value).model_fields if name in value.model_fields_set
            }
        case SecretStr():
            return value
        case Mapping():
            return {str(name): plain(below) for name, below in value.items()}
        case Path():
            return str(value)
        case Sequence() if not isinstance(value, str):
            return [plain(item) for item in value]
        case _:
            return value
