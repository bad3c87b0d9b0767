"""`llama-client config show` and `config check`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from llama_client.cli.help_pages import HelpPage, config_option, json_option
from llama_client.cli.terminal import one_line, printable, wrapped

if TYPE_CHECKING:
    from llama_client.config.effective import EffectiveValue, Found, ValueSource
    from llama_client.config.environment import KeyPath
    from llama_client.config.schema import Config
    from llama_client.diagnostics.config_check import CheckFinding, CheckReport
    from llama_client.diagnostics.config_rules import CheckFacts


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
    from llama_client.config.effective import effective_values
    from llama_client.config.load import find_config, load_config

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
    from llama_client.config.toml_write import toml_key

    name = toml_key(*(str(part) for part in table if isinstance(part, str)))
    return f"[[{name}]]" if isinstance(table[-1], int) else f"[{name}]"


def _line(found: Found, value: EffectiveValue) -> tuple[str, str]:
    """A line, and what stands behind it."""
    from llama_client.config.toml_write import toml_key, toml_value

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
    from llama_client.config.toml_write import toml_value

    line = f"{name} = {toml_value(items)}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{name} = [", *(f"    {toml_value(item)}," for item in items), "]"])


def _without_secrets(value: Any) -> Any:
    from llama_client.redaction import MASK

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


_EXIT_WRONG = 2
_INDENT = "    "


@click.command(
    "check",
    cls=HelpPage,
    short_help="Say everything that is wrong, at once.",
    exits={0: "it is right; there may be warnings", 2: "something is wrong, or with --strict in doubt", 130: "Ctrl-C"},
)
@click.argument("file", required=False, type=click.Path())
@click.option("--strict", is_flag=True, help="Let warnings fail it too.")
@json_option
@config_option
def check(file: str | None, strict: bool, as_json: bool, config: str | None) -> int:
    """Say everything that is wrong with the configuration, at once.

    FILE is checked (--config FILE says the same), or else the file that is found here, with the LLAMA_CLIENT_*
    variables. Errors: unknown keys, wrong values, names of nobody, files that are not there. Warnings: keys that are
    not set, models that are retired, budgets that refuse a target. Nothing is asked of the network and no command is
    run; `llama-client doctor` does that.

    \b
    Examples:
      llama-client config check
      llama-client config check deploy/llama-client.toml --strict
      llama-client config check --json | jq -r '.errors[].message'
    """
    from llama_client.diagnostics.config_check import check_config

    if file is not None and config is not None:
        raise click.UsageError("FILE and --config both name the file: keep one of them")
    report = check_config(file or config, _knowledge, environ=os.environ)
    if as_json:
        click.echo(json.dumps(_check_document(report, strict=strict)))
    else:
        _show(report)
    return 0 if _is_right(report, strict=strict) else _EXIT_WRONG


def _is_right(report: CheckReport, *, strict: bool) -> bool:
    return not report.count("error") and not (strict and report.count("warning"))


def _check_document(report: CheckReport, *, strict: bool) -> dict[str, Any]:
    return {
        "file": None if report.file is None else str(report.file),
        "ok": _is_right(report, strict=strict),
        **{
            f"{severity}s": [_as_dict(finding) for finding in report.findings if finding.severity == severity]
            for severity in ("error", "warning", "note")
        },
    }


def _as_dict(finding: CheckFinding) -> dict[str, Any]:
    source = finding.source
    return {
        "key": finding.key or None,
        "message": finding.message,
        "file": None if source is None or source.file is None else str(source.file),
        "line": None if source is None else source.line,
        "variable": None if source is None else source.variable,
    }


def _show(report: CheckReport) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None
    for finding in report.findings:
        key = f"{finding.key}: " if finding.key else ""
        line = one_line(f"{_where(finding.source)}{finding.severity}: {key}{finding.message}")
        # For people alone: a program that reads it gets a line a finding.
        click.echo(line if width is None else wrapped(line, width - len(_INDENT)).replace("\n", f"\n{_INDENT}"))
    click.echo(one_line(_summary(report)))


def _where(source: ValueSource | None) -> str:
    if source is None:
        return ""
    if source.variable is not None:
        return f"${source.variable}: "
    return f"{source.file}{'' if source.line is None else f':{source.line}'}: "


def _summary(report: CheckReport) -> str:
    if report.file is None and not report.findings:
        return "No file was found, and none is needed: every key has its default."
    counts = {"error": report.count("error"), "warning": report.count("warning")}
    told = [f"{count} {word}{'s' * (count != 1)}" for word, count in counts.items() if count]
    return f"{report.file or 'The configuration'}: {', '.join(told) or 'all is well'}."


def _knowledge(config: Config) -> CheckFacts:
    """What the catalogue, the store and the lists of prices know. Nothing of it opens a connection."""
    from llama_client.clock import Clock
    from llama_client.costs.accounting import price_book
    from llama_client.costs.money import Calendar
    from llama_client.diagnostics.config_rules import CheckFacts
    from llama_client.errors import LlamaClientError
    from llama_client.providers.gguf.store import DEMO_NAME, ModelStore
    from llama_client.providers.registry import Providers
    from llama_client.routing.targets import TargetResolver

    store, clock = ModelStore.of_user(), Clock()
    providers = Providers(config, store, clock, environ=os.environ)
    resolver = TargetResolver(providers, store, config.routes)
    prices = price_book(config, Calendar(config.timezone), providers)

    def why_nobody(model: str) -> str | None:
        try:
            resolver.choices(model)
        except LlamaClientError as error:
            return str(error).removeprefix("model: ")
        return None

    def has_price(provider: str, model: str) -> bool:
        try:
            is_free = providers.get(provider).is_free(model)
            return prices.price(provider, model, clock.wall(), is_free=is_free) is not None
        except LlamaClientError:
            # What is wrong with it is said elsewhere.
            return True

    names = store.names()
    return CheckFacts(providers.catalog, clock.today(), names, DEMO_NAME in names, why_nobody, has_price)
