"""Writes TOML: values, keys, and a new configuration file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib import resources
from pathlib import Path

from llama_client.config.tables import Window
from llama_client.providers.services import service_of

# Not escaped in JSON, and forbidden in TOML, invisible, or a control character for terminals.
_UNSEEN = re.compile("[\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]")


def toml_key(*parts: str) -> str:
    """A key, dotted where it has several parts.

    Examples:
        >>> toml_key("providers", "my.box")
        'providers."my.box"'
    """
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else toml_value(part) for part in parts)


def toml_value(value: object) -> str:
    """A value in one line.

    Examples:
        >>> toml_value({"target": "a/b", "weight": 3.0, "stop": ["x"]})
        '{ target = "a/b", weight = 3.0, stop = ["x"] }'
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value)
        case Decimal():
            # A float, as TOML has no decimal numbers: its shortest text is the decimal.
            return repr(float(value)) if value % 1 else f"{int(value)}.0"
        case str() | Path():
            # JSON escapes as TOML does, but for `_UNSEEN`.
            return _UNSEEN.sub(lambda sign: f"\\u{ord(sign[0]):04x}", json.dumps(str(value), ensure_ascii=False))
        case date():
            return value.isoformat()
        case Mapping():
            pairs = [f"{toml_key(str(name))} = {toml_value(below)}" for name, below in value.items()]
            return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case _:
            raise TypeError(f"TOML has no {type(value).__name__}")


ROUTE = "chat"
_PROVIDERS = ("groq", "together", "ollama", "gguf", "openai")


@dataclass(frozen=True, slots=True)
class NewConfig:
    targets: Sequence[str]
    local_only: bool = False
    budget_usd: Decimal | None = None
    window: Window = "month"
    demo: str | None = None
    # Targets without cost.
    free: Sequence[str] = ()

    @property
    def default_model(self) -> str:
        return ROUTE if len(self.targets) > 1 else self.targets[0]

    @property
    def providers(self) -> list[str]:
        return list(dict.fromkeys(target.partition("/")[0] for target in self.targets))


def config_text(choices: NewConfig) -> str:
    examples = _examples()
    top = examples["top"]
    for key, value in (("default_model", choices.default_model), ("local_only", choices.local_only)):
        top = top.replace(f"#{key}", f"{key} = {toml_value(value)}", 1)
    parts = [top, examples["providers"]]
    for name in choices.providers:
        # Its table, with `api_key_env` where it has that.
        table = examples.get(name, "").replace("#[providers.", "[providers.", 1)
        parts.append(table.replace("#api_key_env", "api_key_env", 1) or _of_service(name))
    parts += [_lifted(examples[name]) for name in _PROVIDERS if name not in choices.providers]
    parts += [examples["routes"], _route(examples["route"], choices), examples["routing"]]
    parts += [examples["money"], _budget(examples["budget"], choices), examples["rest"]]
    return "\n".join(parts)


def _examples() -> dict[str, str]:
    text = resources.files("llama_client.config").joinpath("examples.toml").read_text(encoding="utf-8")
    # A section begins with a line such as `#= top`.
    sections = [section.partition("\n") for section in f"\n{text}".split("\n#= ")[1:]]
    return {name.strip(): f"{body.strip()}\n" for name, _, body in sections}


def _lifted(text: str) -> str:
    """A block that stays commented out: its comments above its other lines, so that those are adjacent."""
    return "\n".join(sorted(text.splitlines(), key=lambda line: not line.startswith("# "))) + "\n"


def _of_service(name: str) -> str:
    """The table of a service that has no example of its own."""
    row = service_of(name)
    title, variable = (name, None) if row is None else (row.title, row.key_variable({}))
    key = f"api_key_env = {toml_value(variable)}\n" if variable else ""
    off = "#" * bool(key and row is not None and row.is_local)
    return f"# {title[:1].upper()}{title[1:]}.\n[{toml_key('providers', name)}]\n{off}{key}"


def _route(text: str, choices: NewConfig) -> str:
    if len(choices.targets) < 2:
        return _lifted(text)
    notes = {choices.demo: "    # The demo model: small, to show that everything works.\n"}
    rows = [f"{notes.get(target, '')}    {toml_value(target)},\n" for target in choices.targets]
    # In the place of the example's own targets.
    rest = text.partition("\n")[2].partition("\n")[2]
    return f"[routes.{ROUTE}]\ntargets = [\n{''.join(rows)}]\n{rest}"


def _budget(text: str, choices: NewConfig) -> str:
    if choices.budget_usd is None:
        return _lifted(text)
    chosen = {
        "usd": choices.budget_usd,
        "window": choices.window,
        # With free targets, calls go on.
        "on_exceeded": "local" if choices.free else "block",
    }
    for key, value in chosen.items():
        text = re.sub(rf"^#{key} = .*$", f"{key} = {toml_value(value)}", text, flags=re.MULTILINE)
    return text.replace("#[[budgets]]", "[[budgets]]")
