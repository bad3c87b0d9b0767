"""`llama-client config show`: what holds, each value with its source, as TOML or JSON, without secrets."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from llama_client.cli.help_pages import HelpPage, config_option, json_option
from llama_client.cli.terminal import one_line, printable

if TYPE_CHECKING:
    from llama_client.config.effective import EffectiveValue
    from llama_client.config.sources import Found, ValueSource
    from llama_client.config.variables import KeyPath

# A comment that would make a line longer than this stands above it.
_WIDTH = 79
_GAP = len("  # ")
_EXITS = {0: "success", 2: "wrong usage or configuration", 130: "Ctrl-C"}


@click.command("show", cls=HelpPage, short_help="Show what holds, and where each value comes from.", exits=_EXITS)
@click.option("--all", "with_defaults", is_flag=True, help="Also what nobody has set, with its default.")
@json_option
@config_option
def show(with_defaults: bool, as_json: bool, config: str | None) -> None:
    """Show the configuration that holds, and where each value comes from.

    The output is TOML: behind each value stands the line of the file or the variable that it comes from. Keys,
    passwords, headers and commands are masked, and their lines are switched off, so that what is copied loads.

    \b
    Examples:
      llama-client config show
      llama-client config show --all
      llama-client config show --config staging.toml > effective.toml
      llama-client config show --json | jq '.values[]'
    """
    from llama_client.config.discovery import find_config, load_config
    from llama_client.config.effective import effective_values

    found = find_config(config)
    # Refuses what a call would refuse.
    loaded = load_config(config)
    values = effective_values(loaded, found, os.environ, with_defaults=with_defaults)
    if as_json:
        click.echo(json.dumps(_document(found, values)))
        return
    for line in (*_heading(found), *_toml(found, values)):
        click.echo(printable(line))


def _document(found: Found, values: Sequence[EffectiveValue]) -> dict[str, Any]:
    return {
        "file": None if found.document.file is None else str(found.document.file),
        "looked_for": [{"place": place.where, "state": place.state} for place in found.places],
        "values": [
            {
                "key": value.key,
                "value": _json(value.value),
                "source": _source(value.source),
                "is_masked": value.is_masked,
            }
            for value in values
        ],
    }


def _json(value: object) -> Any:
    match value:
        case Decimal():
            return float(value)
        case date():
            return value.isoformat()
        case dict():
            return {name: _json(below) for name, below in value.items()}
        case list():
            return [_json(item) for item in value]
        case float() if value != value or abs(value) == float("inf"):
            return str(value)
        case _:
            return value


def _source(source: ValueSource) -> dict[str, Any]:
    shown: dict[str, Any] = {"kind": source.kind}
    if source.file is not None:
        shown |= {"file": str(source.file), "line": source.line}
    if source.variable is not None:
        shown["variable"] = source.variable
    return shown


def _heading(found: Found) -> list[str]:
    if not found.places:
        return [one_line(f"# {found.document.file}, as it was named"), ""]
    states = {"taken": "this one", "absent": "not there", "passed over": "not looked at"}
    width = max(len(states[place.state]) for place in found.places)
    rows = [one_line(f"#   {states[place.state]:<{width}}  {place.where}") for place in found.places]
    if found.document.file is None:
        return ["# There is no file, and none is needed. Looked for, in this order:", *rows, ""]
    return ["# Looked for, in this order; the first that is there counts:", *rows, ""]


def _toml(found: Found, values: Sequence[EffectiveValue]) -> list[str]:
    if not values:
        return ["# Nothing is set; --all shows the defaults."]
    lines: list[str] = []
    for table, group in groupby(values, key=lambda value: value.path[:-1]):
        lines += ["", _header(table)] if table else []
        lines += _aligned([_line(found, value) for value in group])
    # The heading ends with an empty line of its own.
    return lines[1:] if lines[0] == "" else lines


def _header(table: KeyPath) -> str:
    from llama_client.config.toml_text import toml_key

    name = toml_key(*(str(part) for part in table if isinstance(part, str)))
    return f"[[{name}]]" if isinstance(table[-1], int) else f"[{name}]"


def _line(found: Found, value: EffectiveValue) -> tuple[str, str]:
    """A line, and what stands behind it."""
    from llama_client.config.toml_text import toml_key, toml_value

    name, comment = toml_key(str(value.path[-1])), one_line(_comment(found, value))
    if value.value is None:
        return f"# {name}: not set", ""
    if isinstance(value.value, list):
        # A route needs its targets: of these only the secret is left out.
        return _list(name, _without_secrets(value.value)), f"{comment}, without secrets" if value.is_masked else comment
    line = f"{name} = {toml_value(value.value)}"
    # Switched off: what is copied must not hold stars in the place of a key.
    return (f"# {line}", f"{comment}, masked") if value.is_masked else (line, comment)


def _list(name: str, items: Sequence[object]) -> str:
    from llama_client.config.toml_text import toml_value

    line = f"{name} = {toml_value(items)}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{name} = [", *(f"    {toml_value(item)}," for item in items), "]"])


def _without_secrets(value: Any) -> Any:
    from llama_client.config.masking import MASK

    match value:
        case dict():
            return {name: _without_secrets(below) for name, below in value.items() if below != MASK}
        case list():
            return [_without_secrets(item) for item in value]
        case _:
            return value


def _aligned(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Lines with their comments below each other, as far as that fits."""
    fitting = [(line, comment) for line, comment in lines if comment and _fits(line, comment)]
    room = _WIDTH - max((len(comment) for _, comment in fitting), default=0) - _GAP
    column = max((len(line) for line, _ in fitting if len(line) <= room), default=0)
    shown = []
    for line, comment in lines:
        if comment and _fits(line, comment):
            shown.append(f"{line:<{min(column, _WIDTH - len(comment) - _GAP)}}  # {comment}")
        else:
            shown += [f"# {comment}:", line] if comment else [line]
    return shown


def _fits(line: str, comment: str) -> bool:
    return "\n" not in line and len(line) + _GAP + len(comment) <= _WIDTH


def _comment(found: Found, value: EffectiveValue) -> str:
    source = value.source
    match source.kind:
        case "environment":
            return f"${source.variable}"
        case "file":
            line = "" if source.line is None else f"line {source.line}"
            if source.file == found.document.file:
                return line or "the file"
            return f"{source.file}{f', {line}' if line else ''}"
        case _:
            return "default"
