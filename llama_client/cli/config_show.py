"""`llama-client config show` and `config check`."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from llama_client.cli.help_pages import EXIT_USAGE, HelpPage, config_option, json_option
from llama_client.cli.terminal import fitted, one_line, printable
from llama_client.config.effective import EffectiveValue, Found, ValueSource, effective_values
from llama_client.config.environment import KeyPath
from llama_client.config.load import find_config, load_config
from llama_client.config.toml_write import toml_key, toml_value
from llama_client.redaction import MASK

if TYPE_CHECKING:
    from llama_client.diagnostics.config_check import CheckedConfig
    from llama_client.diagnostics.finding import Finding

# If a comment would make a line longer than this, it is a line of its own.
_WIDTH = 79
_GAP = len("  # ")
_EXITS = {0: "success", 2: "wrong usage or configuration", 130: "Ctrl-C"}


@click.command("show", cls=HelpPage, short_help="Show the values in effect, and where each comes from.", exits=_EXITS)
@click.option("--all", "with_defaults", is_flag=True, help="Also the defaults of keys that are not set.")
@json_option
@config_option
def show(with_defaults: bool, as_json: bool, config: str | None) -> None:
    """Show the configuration in effect, and where each value comes from.

    The output is TOML, with the line of the file or the variable that each value comes from as a comment. Keys,
    passwords, headers and commands are masked, and their lines commented out, so that a copy of it loads.

    \b
    Examples:
      llama-client config show
      llama-client config show --all
      llama-client config show --config staging.toml > effective.toml
      llama-client config show --json | jq '.values[]'
    """
    found = find_config(config)
    # Raises what a call would raise.
    values = effective_values(load_config(config), found, os.environ, with_defaults=with_defaults)
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
            {"key": v.key, "value": _json(v.value), "source": _source(v.source), "is_masked": v.is_masked}
            for v in values
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
    file = {} if source.file is None else {"file": str(source.file), "line": source.line}
    variable = {} if source.variable is None else {"variable": source.variable}
    return {"kind": source.kind, **file, **variable}


def _heading(found: Found) -> list[str]:
    if not found.places:
        return [one_line(f"# {found.document.file}, as named"), ""]
    states = {"taken": "used", "absent": "not found", "passed over": "not searched"}
    width = max(len(states[place.state]) for place in found.places)
    rows = [one_line(f"#   {states[place.state]:<{width}}  {place.where}") for place in found.places]
    if found.document.file is None:
        return ["# No file found; every key has its default. Searched, in this order:", *rows, ""]
    return ["# Searched, in this order; the first that exists is used:", *rows, ""]


def _toml(found: Found, values: Sequence[EffectiveValue]) -> list[str]:
    if not values:
        return ["# Nothing is set; --all shows the defaults."]
    lines: list[str] = []
    for table, group in groupby(values, key=lambda value: value.path[:-1]):
        lines += ["", _header(table)] if table else []
        lines += _aligned([_line(found, value) for value in group])
    # The heading ends with an empty line.
    return lines[1:] if lines[0] == "" else lines


def _header(table: KeyPath) -> str:
    name = toml_key(*(str(part) for part in table if isinstance(part, str)))
    return f"[[{name}]]" if isinstance(table[-1], int) else f"[{name}]"


def _line(found: Found, value: EffectiveValue) -> tuple[str, str]:
    name, comment = toml_key(str(value.path[-1])), one_line(_comment(found, value))
    if value.value is None:
        return f"# {name}: not set", ""
    if not isinstance(value.value, list):
        line = f"{name} = {toml_value(value.value)}"
        # Commented out, so that no copy has a mask for a key.
        return (f"# {line}", f"{comment}, masked") if value.is_masked else (line, comment)
    # A route needs its targets: of these only the secrets are left out.
    items = _without_masks(value.value)
    line = f"{name} = {toml_value(items)}"
    if len(line) > _WIDTH:
        line = "\n".join([f"{name} = [", *(f"    {toml_value(item)}," for item in items), "]"])
    return line, f"{comment}, without secrets" if value.is_masked else comment


def _without_masks(value: Any) -> Any:
    match value:
        case dict():
            return {name: _without_masks(below) for name, below in value.items() if below != MASK}
        case list():
            return [_without_masks(item) for item in value]
        case _:
            return value


def _aligned(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Lines with their comments in a column, where those fit."""
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


# In the JSON.
_SEVERITIES = {"problem": "error", "warning": "warning", "info": "note"}


@click.command(
    "check",
    cls=HelpPage,
    short_help="Report everything that is wrong, at once.",
    exits={0: "no error; there may be warnings", 2: "an error, or with --strict a warning", 130: "Ctrl-C"},
)
@click.argument("file", required=False, type=click.Path())
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@json_option
@config_option
def check(file: str | None, strict: bool, as_json: bool, config: str | None) -> int:
    """Report everything that is wrong with the configuration, at once.

    Checks FILE (the same as --config FILE), or else the file that is found here, with the LLAMA_CLIENT_* variables.
    Errors: unknown keys, wrong values, unknown names, missing files. Warnings: keys that are not set, models that are
    retired, budgets that refuse a target. No connection is opened and no command is run; `llama-client doctor` does
    that.

    \b
    Examples:
      llama-client config check
      llama-client config check deploy/llama-client.toml --strict
      llama-client config check --json | jq -r '.errors[].message'
    """
    from llama_client.diagnostics.config_check import check_config
    from llama_client.diagnostics.machine import Environment

    if file is not None and config is not None:
        raise click.UsageError("FILE and --config both name the file: keep one of them")
    checked = check_config(file or config, Environment())
    by_severity = {
        severity: [finding for finding in checked.findings if finding.status == status]
        for status, severity in _SEVERITIES.items()
    }
    is_ok = not by_severity["error"] and not (strict and by_severity["warning"])
    if as_json:
        rows = {f"{severity}s": [*map(_row, findings)] for severity, findings in by_severity.items()}
        name = None if checked.file is None else str(checked.file)
        click.echo(json.dumps({"file": name, "ok": is_ok, **rows}))
    else:
        _show(checked)
    return 0 if is_ok else EXIT_USAGE


def _row(finding: Finding) -> dict[str, Any]:
    source = finding.source
    return {
        "key": finding.subject or None,
        "message": finding.message,
        "file": None if source is None or source.file is None else str(source.file),
        "line": None if source is None else source.line,
        "variable": None if source is None else source.variable,
    }


def _show(checked: CheckedConfig) -> None:
    for finding in checked.findings:
        key, where = f"{finding.subject}: " if finding.subject else "", ""
        if (source := finding.source) is not None:
            file = str(source.file) if source.line is None else f"{source.file}:{source.line}"
            where = f"{file if source.variable is None else f'${source.variable}'}: "
        line = one_line(f"{where}{_SEVERITIES[finding.status]}: {key}{finding.message}")
        # Wrapped on terminals only: programs read one line for each finding.
        click.echo(fitted(line, sys.stdout, indent="    "))
    if checked.file is None and not checked.findings:
        click.echo("No file found; every key has its default.")
        return
    numbers = Counter(_SEVERITIES[finding.status] for finding in checked.findings)
    counted = [f"{numbers[word]} {word}{'s' * (numbers[word] != 1)}" for word in ("error", "warning") if numbers[word]]
    click.echo(one_line(f"{checked.file or 'The configuration'}: {', '.join(counted) or 'no problem found'}."))
