"""`llama-client pull`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from llama_client.config.discovery import load_config
from llama_client.providers.gguf.checksum import Progress
from llama_client.providers.gguf.pull import pull
from llama_client.providers.gguf.store import ModelStore


@click.command("pull", short_help="Get a model to run in this process.")
@click.argument("source", metavar="NAME")
@click.option("--name", help="What to call it; by default a name made from its own.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(source: str, name: str | None, as_json: bool) -> None:
    """Get a model to run in this process.

    \b
    NAME is one of
      smollm2-135m              a tiny demo model, which proves the plumbing
      hf:ORG/REPO/FILE.gguf     a file of the Hugging Face hub
      ollama:NAME               what a local Ollama has downloaded, read in place
      PATH                      a .gguf file, read in place

    \b
    Examples:
      llama-client pull hf:bartowski/Llama-3.2-3B-Instruct-GGUF/Llama-3.2-3B-Instruct-Q4_K_M.gguf --name llama-3.2-3b
      llama-client chat -m gguf/llama-3.2-3b "Why do llamas hum?"
    """
    local_only = load_config().local_only
    with shown_progress(source) as progress:
        model = pull(source, ModelStore.of_user(), progress=progress, name=name, local_only=local_only)
    if as_json:
        document = {"name": model.name, "path": str(model.path), "sha256": model.sha256, "bytes": model.bytes}
        click.echo(json.dumps(document))
    else:
        click.echo(f"{model.name} is ready ({model.bytes / 1e6:,.0f} MB, {model.path})")
        click.echo(f'Try it: llama-client chat -m gguf/{model.name} "Why do llamas hum?"', err=True)


@contextmanager
def shown_progress(what: str) -> Iterator[Progress]:
    """A progress bar on stderr; where that is no terminal, a line at each step."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        steps: set[str] = set()

        def say(step: str, done: int, total: int | None) -> None:  # noqa: ARG001 - the form of Progress
            if step not in steps:
                steps.add(step)
                click.echo(f"{step} {what}", err=True)

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        tasks = {}

        def draw(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(f"{step} {what}", total=total)
            bar.update(tasks[step], completed=done, total=total)

        yield draw
