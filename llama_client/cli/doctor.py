"""`llama-client doctor`: looks at all that a call will need, and says what to do about each thing that is wrong."""

from __future__ import annotations

import json
import math
from typing import Any

import click

from llama_client.cli import suggestions
from llama_client.cli.help_pages import HelpPage, config_option, json_option
from llama_client.doctor.surroundings import DEFAULT_TIMEOUT_S

_EXIT_PROBLEM, _EXIT_CONFIGURATION = 1, 2
_MAX_TIMEOUT_S = 300


class _Seconds(click.FloatRange):
    """A range that NaN is not in: no comparison with it is true, so click lets it through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


@click.command(
    "doctor",
    cls=HelpPage,
    exits={0: "nothing is a problem", 1: "something is", 2: "wrong usage, or the configuration cannot be read"},
)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    shell_complete=suggestions.targets,
    help="What you want to ask, in the place of the default model.",
)
@click.option("--offline", is_flag=True, help="Ask nobody beyond this machine.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=_Seconds(0.1, _MAX_TIMEOUT_S),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    help="How long providers, the ledger and the machine may take; all are asked at once.",
)
@json_option
@config_option
def command(model: str | None, offline: bool, timeout_s: float, as_json: bool, config: str | None) -> int:
    """What works, what does not, and what to do about it.

    Looks at the configuration, the default model and each route, each provider (its key, whether it is reached, how
    fast, whether it serves what the configuration names), Ollama and models in this process, memory, disk, prices,
    the ledger and the budgets. It changes nothing and costs nothing: no model is asked anything. No key is shown, so
    that the output can be passed on.

    \b
    Examples:
      llama-client doctor
      llama-client doctor -m groq/openai/gpt-oss-20b
      llama-client doctor --offline
      llama-client doctor --json | jq -r '.findings[] | select(.remedy) | .remedy'
    """
    from llama_client.doctor.examination import examine
    from llama_client.doctor.surroundings import Wanted

    report = examine(Wanted(config, model, offline, timeout_s))
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        from llama_client.cli.doctor_report import show

        show(report)
    if not report.is_configured:
        return _EXIT_CONFIGURATION
    return _EXIT_PROBLEM if report.status == "problem" else 0
