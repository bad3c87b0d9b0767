"""`llama-client models`: the providers in use, and the models that each serves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from llama_client import LlamaClient, load_config
from llama_client.cli.help_pages import HelpPage, config_option, json_option
from llama_client.cli.terminal import answer_console, one_line, say, table_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llama_client.models import ModelInfo, ProviderInfo

# Each column's name, and whether it holds figures.
_COLUMNS = [("model", False), ("context", True), ("in/out $/M", True), ("abilities", False), ("note", False)]


@click.command(
    "models", cls=HelpPage, exits={0: "also where a provider is not reached", 2: "wrong usage or configuration"}
)
@json_option
@config_option
def command(as_json: bool, config: str | None) -> None:
    """The providers in use, and the models that they serve.

    Asks each provider for its models: the configured ones, each known service with its key in the environment (such as
    GROQ_API_KEY), a running Ollama, and what was pulled. Shows the context in tokens, the list price
    in US dollars for a million tokens in and out, what a model can do, and until when it is served.

    \b
    Examples:
      llama-client models
      llama-client chat -m gguf/smollm2-135m "Why do llamas hum?"
      llama-client models --json | jq -r '.providers[].models[].target'
    """
    with LlamaClient(load_config(config)) as client:
        providers = client.providers.list()
    if as_json:
        click.echo(json.dumps({"providers": [provider.model_dump(mode="json") for provider in providers]}))
        return
    console = answer_console()
    for provider in providers:
        console.print(one_line(_headline(provider)), style="bold")
        if provider.models:
            console.print(_table(provider.models, console.width))
        console.print()
    if not any(provider.is_reachable and provider.models for provider in providers):
        say(
            "Nothing can answer yet.\n"
            "Try: llama-client pull smollm2-135m (93 MB to download), or start Ollama, or set the key of a service, "
            "such as GROQ_API_KEY"
        )


def _headline(provider: ProviderInfo) -> str:
    kind = "" if provider.kind == provider.provider else f" ({provider.kind})"
    if provider.is_reachable:
        state = "reached" if provider.models else "reached, serves nothing"
    else:
        state = f"not reached: {provider.error}{'; from the catalogue:' if provider.models else ''}"
    return f"{provider.provider}{kind}: {state}"


def _table(models: Sequence[ModelInfo], width: int) -> RenderableType:
    """The models, without the columns that have no value."""
    rows = []
    for model in models:
        context = "" if model.context_tokens is None else f"{model.context_tokens:,}"
        rows.append((model.target, context, _prices(model), " ".join(model.abilities or ()), _note(model)))
    kept = [place for place in range(len(_COLUMNS)) if place == 0 or any(row[place] for row in rows)]
    return table_of([_COLUMNS[place] for place in kept], [[row[place] for place in kept] for row in rows], width=width)


def _prices(model: ModelInfo) -> str:
    prices = [model.input_usd_per_mtok, model.output_usd_per_mtok]
    return "/".join(f"{usd.normalize():f}" for usd in prices if usd is not None) if None not in prices else ""


def _note(model: ModelInfo) -> str:
    notes = ["loaded"] if model.is_loaded else []
    if model.is_chat is False:
        notes.append("answers no chats")
    if model.deprecated_on is not None:
        notes.append(f"until {model.deprecated_on}" + (f", then {model.replacement}" if model.replacement else ""))
    return ", ".join(notes)
