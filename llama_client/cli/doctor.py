"""`llama-client doctor`: checks everything that a call needs, and names a remedy for each problem."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from llama_client.cli import completion as suggestions
from llama_client.cli.help_pages import EXIT_FAILED, EXIT_USAGE, HelpPage, config_option, json_option
from llama_client.cli.terminal import one_line, wrapped
from llama_client.diagnostics.finding import DiagnosticsReport, Finding, Status
from llama_client.diagnostics.machine import DEFAULT_TIMEOUT_S, DiagnosticsOptions

# Plain ANSI colours, which each terminal makes readable on its own background.
_COLOURS: dict[Status, str] = {"ok": "green", "info": "", "warning": "yellow", "problem": "red", "skipped": ""}
_SIGNS: dict[Status, str] = {"ok": "✓", "info": "·", "warning": "!", "problem": "✗", "skipped": "-"}
_ASCII: dict[Status, str] = {"ok": "+", "info": ".", "warning": "!", "problem": "x", "skipped": "-"}
_STATUS_WIDTH = len("✗ problem  ")
# On narrower terminals the status is a line of its own.
_LEAST_SIDE_BY_SIDE = 50


def show(report: DiagnosticsReport) -> None:
    # Wrapped here, so that commands stay whole where there is room and no line ends in spaces.
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for section, findings in groupby(report.findings, key=lambda finding: finding.section):
        console.print(Text(section.capitalize(), style="bold"))
        for finding in findings:
            for line in _lines(finding, console):
                console.print(line)
        console.print()
    for text in _pieces(report.summary(), console, console.width):
        console.print(Text(text, style="bold"))


def _lines(finding: Finding, console: Console) -> Iterator[Text]:
    is_plain = console.options.ascii_only
    sign = (_ASCII if is_plain else _SIGNS)[finding.status]
    status = Text(f"{sign} {finding.status}", style=_COLOURS[finding.status])
    indent = _STATUS_WIDTH if console.width >= _LEAST_SIDE_BY_SIDE else 2
    width = max(console.width - indent, 1)
    texts = _pieces(f"{finding.subject}: {finding.message}", console, width)
    if finding.remedy is not None:
        arrow = "> " if is_plain else "→ "
        for piece in _pieces(finding.remedy, console, max(width - len(arrow), 1)):
            texts.append(f"{arrow}{piece}")
            arrow = " " * len(arrow)
    if indent == _STATUS_WIDTH:
        status.append(" " * (_STATUS_WIDTH - len(status)))
        # Without the status's colour.
        yield Text.assemble(status, texts.pop(0))
    else:
        yield status
    yield from (Text(" " * indent + text) for text in texts)


def _pieces(text: str, console: Console, width: int) -> list[str]:
    """A text in lines: commands whole where they fit, a word longer than a line broken."""
    text = one_line(text)
    lines = wrapped(text, width).split("\n")
    if any(cell_len(line) > width for line in lines):
        lines = [line.plain for line in Text(text).wrap(console, width, overflow="fold")]
    return [line.rstrip() for line in lines]


class _Seconds(click.FloatRange):
    """A range without NaN, which click lets through as no comparison with it is true."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


@click.command(
    "doctor",
    cls=HelpPage,
    exits={0: "no problem", 1: "a problem", 2: "wrong usage, or the configuration cannot be read"},
)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    shell_complete=suggestions.targets,
    help="The model to check instead of the default model.",
)
@click.option("--offline", is_flag=True, help="Contact nothing beyond this machine.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=_Seconds(0.1, 300),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    help="How long providers, the ledger and the machine may take; all are checked at once.",
)
@json_option
@config_option
def command(model: str | None, offline: bool, timeout_s: float, as_json: bool, config: str | None) -> int:
    """What works, what does not, and what to do about it.

    Checks the configuration, the default model and each route, each provider (its key, whether it is reachable, its
    latency, whether it serves the models in the configuration), Ollama and models in this process, memory, disk,
    prices, the ledger, the budgets and the cache of answers. It changes nothing and costs nothing: no model is called.
    No key is shown, so that the output can be passed on.

    \b
    Examples:
      llama-client doctor
      llama-client doctor -m groq/openai/gpt-oss-20b
      llama-client doctor --offline
      llama-client doctor --json | jq -r '.findings[] | select(.remedy) | .remedy'
    """
    from llama_client.diagnostics.run import examine

    report = examine(DiagnosticsOptions(config, model, offline, timeout_s))
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        show(report)
    if not report.is_configured:
        return EXIT_USAGE
    return EXIT_FAILED if report.status == "problem" else 0
