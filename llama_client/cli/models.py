"""`llama-client models`: who is configured, who is reached, and what each serves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from llama_client import LlamaClient, load_config
from llama_client.cli.terminal import printable

if TYPE_CHECKING:
    from rich.table import Table

    from llama_client.models import ModelInfo, ProviderInfo


@click.command("models", short_help="What is configured, reached and served.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--config", type=click.Path(), help="The configuration file.")
def command(as_json: bool, config: str | None) -> None:
    """What is configured, reached and served, with context, abilities, list prices and retirement.

    Each provider in use is asked for its models: the configured ones, Groq and Together where their key is in the
    environment, Ollama, and what was pulled.

    \b
    Examples:
      llama-client models
      llama-client models --json | jq '.providers[] | select(.is_reachable).models[].target'
    """
    with LlamaClient(load_config(config)) as client:
        providers = client.models.list()
    if as_json:
        click.echo(json.dumps({"providers": [provider.model_dump(mode="json") for provider in providers]}))
        return
    from rich.console import Console

    # Cells hold what servers say: it is text, never markup.
    console = Console(markup=False, highlight=False)
    for provider in providers:
        console.print(printable(_headline(provider)), style="bold")
        if provider.models:
            console.print(_table(provider.models))
        console.print()


def _headline(provider: ProviderInfo) -> str:
    state = "reached" if provider.is_reachable else f"not reached: {provider.error}"
    kind = "" if provider.kind == provider.provider else f" ({provider.kind})"
    nothing = "" if provider.models or not provider.is_reachable else ", serves nothing"
    listed = "; from the catalogue:" if provider.models and not provider.is_reachable else ""
    return f"{provider.provider}{kind}: {state}{nothing}{listed}"


def _table(models: Sequence[ModelInfo]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    for name in ("context", "in/out $/M"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("abilities")
    table.add_column("")
    for model in models:
        row = (
            model.target,
            _tokens(model.context_tokens),
            _prices(model),
            " ".join(model.abilities or ()),
            _note(model),
        )
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _tokens(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _prices(model: ModelInfo) -> str:
    if model.input_usd_per_mtok is None or model.output_usd_per_mtok is None:
        return ""
    return f"{_usd(model.input_usd_per_mtok)}/{_usd(model.output_usd_per_mtok)}"


def _usd(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def _note(model: ModelInfo) -> str:
    notes = ["loaded"] if model.is_loaded else []
    if model.deprecated_on is not None:
        notes.append(f"until {model.deprecated_on}" + (f", then {model.replacement}" if model.replacement else ""))
    return ", ".join(notes)
