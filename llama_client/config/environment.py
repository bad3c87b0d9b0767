"""The `LLAMA_CLIENT_*` variables, and how they override a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from llama_client.config.files import toml_values
from llama_client.errors import ConfigError

PREFIX = "LLAMA_CLIENT_"
# These are no keys of the configuration: its path, the folder of pulled models, and the cassette that
# `llama-client record` sets for the programs that it runs.
CONFIG_VARIABLE = "LLAMA_CLIENT_CONFIG"
CACHE_VARIABLE = "LLAMA_CLIENT_CACHE_DIR"
CASSETTE_VARIABLE = "LLAMA_CLIENT_CASSETTE"

_NO_KEYS = (CONFIG_VARIABLE, CACHE_VARIABLE, CASSETTE_VARIABLE)

# The place of a value: names of tables and keys, and indices of lists.
KeyPath = tuple[str | int, ...]


def override_variables(environ: Mapping[str, str]) -> list[str]:
    return sorted(n for n in environ if n.startswith(PREFIX) and n not in _NO_KEYS)


class Overrides(NamedTuple):
    values: dict[str, Any]
    names: Mapping[KeyPath, str]

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Overrides:
        values: dict[str, Any] = {}
        names: dict[KeyPath, str] = {}
        for name in override_variables(environ):
            *tables, key = name.removeprefix(PREFIX).lower().split("__")
            table = values
            for part in tables:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise ConfigError(f"{name}: another variable sets {part!r} to a value", key=part, variable=name)
            # An API key of digits alone is text.
            table[key] = environ[name] if key == "api_key" else value_of(environ[name])
            names[(*tables, key)] = name
        return cls(values, names)

    def laid_over(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[KeyPath, str]]:
        """The values with these on top, and the variable of each place that has one."""
        placed: dict[KeyPath, str] = {}

        def merged(below: object, above: Mapping[str, Any], path: KeyPath, spelled: KeyPath) -> dict[str, Any]:
            table = dict(below) if isinstance(below, Mapping) else {}
            # Variables have neither case nor hyphens, so keys match without them.
            names = {plain_name(key): key for key in map(str, table)}
            for key, value in above.items():
                name = names.get(key, key)
                here, there = (*path, name), (*spelled, key)
                if isinstance(value, dict):
                    table[name] = merged(table.get(name), value, here, there)
                else:
                    table[name] = value
                    # A variable may set a whole table: the longest beginning that is one.
                    lengths = range(len(there), 0, -1)
                    placed[here] = next(self.names[there[:n]] for n in lengths if there[:n] in self.names)
            return table

        return merged(values, self.values, (), ()), placed


def plain_name(name: str) -> str:
    """A name as variables spell it: lower case, without hyphens."""
    return name.lower().replace("-", "_")


def value_of(text: str) -> Any:
    """A variable's text as a TOML value (`4096`, `true`) where it is one, else the text."""
    try:
        parsed = toml_values(f"value = {text}")
    except (ValueError, RecursionError):
        # Not TOML, or a number that is too large.
        return text
    return parsed["value"] if len(parsed) == 1 else text
