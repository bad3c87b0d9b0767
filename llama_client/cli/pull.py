"""`llama-client pull`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from llama_client.cli import completion as suggestions
from llama_client.cli import failures
from llama_client.cli.help_pages import EXITS, HelpPage, config_option, json_option
from llama_client.cli.terminal import progress_bar, say
from llama_client.config.load import load_config
from llama_client.errors import InvalidRequestError
from llama_client.local_only import ConnectionGuard
from llama_client.providers.gguf.pull import pull
from llama_client.providers.gguf.store import ModelStore, Progress


@click.command(
    "pull", cls=HelpPage, exits={**EXITS, 1: "it could not be downloaded or read", 2: "no such name, or wrong usage"}
)
@click.argument("source", metavar="NAME", shell_complete=suggestions.sources)
@click.option("--name", metavar="TEXT", help="Its name here: gguf/TEXT. [default: made from its own name]")
@json_option
@config_option
def command(source: str, name: str | None, as_json: bool, config: str | None) -> None:
    """Download a model to run in this process, without a server.

    \b
    NAME is one of
      smollm2-135m            a tiny demo model (93 MB to download)
      hf:ORG/REPO/FILE.gguf   a file of the Hugging Face hub
      ollama:MODEL            what a local Ollama has downloaded, read in place
      PATH                    a .gguf file, read in place

    A file that is here already is not downloaded again. Needs the extra gguf: pip install "llama-client[gguf]"

    \b
    Examples:
      llama-client pull smollm2-135m
      llama-client pull ollama:llama3.1:8b --name llama-3.1-8b
      llama-client pull --name llama-3.2-3b \\
        hf:bartowski/Llama-3.2-3B-Instruct-GGUF/Llama-3.2-3B-Instruct-Q4_K_M.gguf
      llama-client chat -m gguf/llama-3.2-3b "Why do llamas hum?"
    """
    guard = ConnectionGuard.of(load_config(config))
    with shown_progress(source) as progress:
        try:
            model = pull(source, ModelStore.of_user(), progress=progress, name=name, guard=guard)
        except InvalidRequestError as error:
            # `name` in an error is --name where that was given, else the argument NAME.
            raise failures.in_options(error, command, names={} if name else {"name": "NAME"}) from error
    if as_json:
        document = {"name": model.name, "path": str(model.path), "sha256": model.sha256, "bytes": model.bytes}
        click.echo(json.dumps(document))
    else:
        click.echo(f"{model.name} is ready ({model.bytes / 1e6:,.0f} MB, {model.path})")
        say(f'Try: llama-client chat -m gguf/{model.name} "Why do llamas hum?"')


@contextmanager
def shown_progress(what: str) -> Iterator[Progress]:
    """A progress bar on stderr; where that is no terminal, a line for each step."""
    from rich.progress import DownloadColumn, TaskID, TransferSpeedColumn

    with progress_bar(DownloadColumn(), TransferSpeedColumn()) as bar:
        tasks: dict[str, TaskID | None] = {}

        def show(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = None if bar is None else bar.add_task(f"{step} {what}", total=total)
                if bar is None:
                    click.echo(f"{step} {what}", err=True)
            if bar is not None and (task := tasks[step]) is not None:
                bar.update(task, completed=done, total=total)

        yield show
