"""The `LLAMA_CLIENT_*` variables, and how they override a file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_client.errors import ConfigError

PREFIX = "LLAMA_CLIENT_"
# These are no keys of the configuration: where it is, and where pulled models are.
CONFIG_VARIABLE = "LLAMA_CLIENT_CONFIG"
CACHE_VARIABLE = "LLAMA_CLIENT_CACHE_DIR"

# Where a value stands: names of tables and keys, and numbers in lists.
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the variables say."""

    values: dict[str, Any]
    names: Mapping[KeyPath, str]

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Overrides:
        """Reads them."""
        values: dict[str, Any] = {}
        names: dict[KeyPath, str] = {}
        for name, text in sorted(environ.items()):
            if not name.startswith(PREFIX) or name in (CONFIG_VARIABLE, CACHE_VARIABLE):
                continue
            *tables, key = name.removeprefix(PREFIX).lower().split("__")
            table = values
            for part in tables:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    told = f"{name}: another variable gives {part!r} a value of its own"
                    raise ConfigError(told, key=part, variable=name)
            # A key of nothing but digits is no number.
            table[key] = text if key == "api_key" else value_of(text)
            names[(*tables, key)] = name
        return cls(values, names)

    def laid_over(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[KeyPath, str]]:
        """The values with these on top, and which variable each that came from here is of, by its place in the result.

        Variables know neither case nor hyphens, so a key is found without them.
        """
        placed: dict[KeyPath, str] = {}
        return self._merged(values, self.values, (), (), placed), placed

    def _merged(
        self, below: Mapping[str, Any], above: Mapping[str, Any], place: KeyPath, spelled: KeyPath, placed: Any
    ) -> dict[str, Any]:
        merged = dict(below)
        names = {key.lower().replace("-", "_"): key for key in map(str, merged)}
        for key, value in above.items():
            name = names.get(key, key)
            here, there = (*place, name), (*spelled, key)
            if isinstance(value, dict):
                table = merged.get(name)
                merged[name] = self._merged(table if isinstance(table, Mapping) else {}, value, here, there, placed)
            else:
                merged[name] = value
                placed[here] = self._name(there)
        return merged

    def _name(self, spelled: KeyPath) -> str:
        """The variable of the longest beginning of a place: one may give a whole table."""
        lengths = range(len(spelled), 0, -1)
        return next(self.names[spelled[:length]] for length in lengths if spelled[:length] in self.names)


def value_of(text: str) -> Any:
    """A variable's text as TOML would read it (`4096`, `true`), else as the text it is."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text
