"""What a shell may complete a value with: names from the configuration, the catalogue, the tables and the store.

Nothing here opens a connection, and a configuration that is wrong suggests nothing instead of failing: whoever presses
Tab wants a name, not an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from llama_client.cli.terminal import one_line
from llama_client.errors import LlamaClientError

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.crossover.tables import Tables

# What stands in a place of the command line, and what explains it (shown by zsh, fish and PowerShell; may be empty).
Suggested = Iterable[tuple[str, str]]

_SERVER_PRECISIONS = ("bf16", "fp16", "fp8", "fp8_block", "nvfp4", "int4")
_ENGINES = ("trtllm", "vllm", "sglang", "llama.cpp")
_GROUPS = (
    ("provider", "who answered"),
    ("target", "provider and model"),
    ("route", "the named list of targets"),
    ("day", "in the configured time zone"),
    ("tag:", "followed by a tag's key"),
)


def targets(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """What `model` may be: the configuration's own names, what was pulled, and what the catalogue knows."""
    return _matching(incomplete, _targets(_config(ctx)))


def architectures(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Models of the tables, whose shape is known."""
    return _matching(incomplete, ((model.name, "") for model in _tables(ctx).models))


def architectures_or_files(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The same, what was pulled, and where that fits nothing, files."""
    known = ((model.name, "") for model in _tables(ctx).models)
    return _or_files(incomplete, [*known, *((name, "pulled") for name in _pulled())])


def sources(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """What `pull` takes."""
    return _or_files(
        incomplete,
        [
            ("smollm2-135m", "a tiny demo model"),
            ("hf:", "ORG/REPO/FILE.gguf of the Hugging Face hub"),
            ("ollama:", "a model that Ollama has downloaded"),
        ],
    )


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Any file, by the shell's own means."""
    return [CompletionItem(incomplete, type="file")]


def gpus(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """GPUs of the tables."""
    return _matching(incomplete, ((gpu.name, gpu.title) for gpu in _tables(ctx).gpus))


def gpus_or_cpu(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The same, or none."""
    return _matching(incomplete, [*((gpu.name, gpu.title) for gpu in _tables(ctx).gpus), ("cpu", "no GPU")])


def precisions(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Precisions of weights."""
    from llama_client.crossover.precisions import gguf_names

    return _matching(incomplete, ((name, "") for name in (*_SERVER_PRECISIONS, *gguf_names())))


def engines(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Engines whose speed is known."""
    return _matching(incomplete, ((name, "") for name in _ENGINES))


def groups(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """By what costs are grouped."""
    return _matching(incomplete, _GROUPS)


def _matching(incomplete: str, suggested: Suggested) -> list[CompletionItem[str]]:
    """Each name once, in the order in which it comes.

    A name with a line end would be several answers, one that begins with a dash an option; neither is offered.
    """
    found: dict[str, str] = {}
    for name, told in suggested:
        if name.startswith(incomplete) and name.isprintable() and not name.startswith("-"):
            found.setdefault(name, one_line(told))
    return [CompletionItem(name, help=told or None) for name, told in found.items()]


def _or_files(incomplete: str, suggested: Suggested) -> list[CompletionItem[str]]:
    """The names that fit, else the files; a shell shows either, not both."""
    named = [] if incomplete.startswith((".", "~", os.sep)) else _matching(incomplete, suggested)
    return named or [CompletionItem(incomplete, type="file")]


def _targets(config: Config) -> Iterator[tuple[str, str]]:
    if config.default_model is not None:
        yield config.default_model, "default_model"
    for name, route in config.routes.items():
        yield name, f"route of {len(route.targets)} targets" if len(route.targets) != 1 else "route of 1 target"
    for name in _pulled():
        yield f"gguf/{name}", "pulled"
    for name, table in config.providers.items():
        if table.kind == "gguf":
            yield f"{name}/default", "configured"
    written = [row.target for route in config.routes.values() for row in route.targets if "/" in row.target]
    for target in (*written, *(model.target for model in config.models), *(price.target for price in config.prices)):
        if "*" not in target:
            yield target, "configured"
    yield from _catalogued()


def _catalogued() -> Iterator[tuple[str, str]]:
    """Targets that are served today, and the names of their models, for which any who serves them answers."""
    from llama_client.catalog.catalog import Catalog

    catalog, today = Catalog.bundled(), datetime.now(UTC).date()
    served = [offer for offer in catalog.all_offers if offer.is_served(today)]
    yield from ((offer.target, offer.name) for offer in served)
    yield from ((name, "whoever serves it") for name in dict.fromkeys(offer.name for offer in served))


def _pulled() -> list[str]:
    from llama_client.providers.gguf.store import ModelStore

    try:
        return ModelStore.of_user().names()
    except (LlamaClientError, OSError):
        return []


def _config(ctx: click.Context) -> Config:
    """The configuration, by `--config` where that stands earlier on the line; an empty one where it is wrong."""
    from llama_client.config.discovery import load_config

    try:
        return load_config(ctx.params.get("config"))
    except (LlamaClientError, OSError):
        return load_config({}, environ={})


def _tables(ctx: click.Context) -> Tables:
    from llama_client.crossover.tables import Tables
    from llama_client.crossover.users_rows import tables_of

    try:
        return tables_of(_config(ctx))
    except LlamaClientError:
        return Tables.bundled()
