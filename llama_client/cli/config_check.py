"""`llama-client config check`: everything that is wrong with a configuration, at once, without a network."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from llama_client.cli.help_pages import HelpPage, config_option, json_option
from llama_client.cli.terminal import one_line, wrapped

if TYPE_CHECKING:
    from llama_client.config.check import CheckFinding, CheckReport
    from llama_client.config.lint_subject import Knowledge
    from llama_client.config.schema import Config
    from llama_client.config.sources import ValueSource

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
    from llama_client.config.check import check_config

    if file is not None and config is not None:
        raise click.UsageError("FILE and --config both name the file: keep one of them")
    report = check_config(file or config, _knowledge, environ=os.environ)
    if as_json:
        click.echo(json.dumps(_document(report, strict=strict)))
    else:
        _show(report)
    return 0 if _is_right(report, strict=strict) else _EXIT_WRONG


def _is_right(report: CheckReport, *, strict: bool) -> bool:
    return not report.count("error") and not (strict and report.count("warning"))


def _document(report: CheckReport, *, strict: bool) -> dict[str, Any]:
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


def _knowledge(config: Config) -> Knowledge:
    """What the catalogue, the store and the lists of prices know. Nothing of it opens a connection."""
    from llama_client.clock import Clock
    from llama_client.config.lint_subject import Knowledge
    from llama_client.costs.opening import price_book
    from llama_client.costs.windows import Calendar
    from llama_client.errors import LlamaClientError
    from llama_client.providers.gguf.store import DEMO_NAME, ModelStore
    from llama_client.providers.registry import Providers
    from llama_client.routing.targets import Resolver

    store, clock = ModelStore.of_user(), Clock()
    providers = Providers(config, store, clock, environ=os.environ)
    resolver = Resolver(providers, store, config.routes)
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
    return Knowledge(providers.catalog, clock.today(), names, DEMO_NAME in names, why_nobody, has_price)
