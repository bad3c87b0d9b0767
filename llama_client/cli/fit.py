"""`llama-client fit`: whether a model fits this machine or a named one, and what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_client import load_config
from llama_client.cli import failures, suggestions
from llama_client.cli.help_pages import EXITS, HelpPage, config_option, json_option
from llama_client.clock import Clock
from llama_client.crossover.fitting.machines import MAX_GPUS
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.crossover.fitting.machines import Machine
    from llama_client.crossover.tables import Architecture, Tables

_MAX_COUNT = 10**9
_SECTIONS = {
    "The machine": ("gpu", "gpus"),
    "The model": ("precision", "context", "sequences", "cache_precision", "chunked_attention", "training"),
}


class _Count(click.ParamType[int]):
    """A whole number from 1 on. Its bound is beyond all use, so that help says nothing of it."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return click.IntRange(1, _MAX_COUNT).convert(value, param, ctx)


_COUNT, _GPUS = _Count(), click.IntRange(1, MAX_GPUS)


@click.command("fit", cls=HelpPage, sections=_SECTIONS, exits={0: "also where it does not fit", 2: EXITS[2]})
@click.argument("model", shell_complete=suggestions.architectures_or_files)
@click.option(
    "--gpu",
    metavar="NAME",
    shell_complete=suggestions.gpus,
    help="A GPU such as rtx_4090 or h100_sxm. [default: this machine]",
)
@click.option("--gpus", metavar="N", type=_GPUS, help="How many of --gpu. [default: 1]")
@click.option(
    "--precision",
    metavar="NAME",
    shell_complete=suggestions.precisions,
    help="Of the weights: Q4_K_M, Q8_0, bf16, fp8, ... [default: the best that fits]",
)
@click.option("--context", metavar="TOKENS", type=_COUNT, help="Prompt and answer of one sequence. [default: 8192]")
@click.option(
    "--sequences", metavar="N", type=_COUNT, default=1, show_default=True, help="How many are answered at once."
)
@click.option(
    "--cache-precision",
    metavar="NAME",
    help="Of the KV cache, where attention remembers: f16, q8_0, q4_0, fp8, ... [default: the engine's]",
)
@click.option("--chunked-attention", is_flag=True, help="The engine makes use of Llama 4's chunks of attention.")
@click.option("--training", is_flag=True, help="Also tell what fine-tuning needs: LoRA, QLoRA and in full.")
@json_option
@config_option
def command(
    model: str,
    gpu: str | None,
    gpus: int | None,
    precision: str | None,
    context: int | None,
    sequences: int,
    cache_precision: str | None,
    chunked_attention: bool,
    training: bool,
    as_json: bool,
    config: str | None,
) -> None:
    """Whether MODEL fits this machine or a named one, and what it needs.

    MODEL is a name such as llama-3.3-70b, a GGUF file, whose weights are then counted exactly (with the extra
    crossover), or a name that `llama-client pull` stored. Sizes are in GiB (2^30 bytes).

    \b
    Examples:
      llama-client fit llama-3.1-8b
      llama-client fit llama-3.3-70b --gpu rtx_4090 --gpus 2 --context 16384
      llama-client fit llama-3.1-8b --gpu h100_sxm --precision fp8 --sequences 32
      llama-client fit ./Llama-3.2-3B-Instruct-Q4_K_M.gguf --cache-precision q8_0
      llama-client fit llama-3.3-70b --training --json | jq .training
    """
    if gpus is not None and gpu is None:
        raise click.UsageError("--gpus says how many of --gpu: name one, such as --gpu rtx_4090")
    from llama_client.crossover.fitting.fit import fit
    from llama_client.crossover.fitting.licences import licence_notes
    from llama_client.crossover.fitting.report import document, sources
    from llama_client.crossover.fitting.training import METHODS, training_need
    from llama_client.crossover.users_rows import tables_of

    tables = tables_of(load_config(config))
    try:
        shape, weights_bytes, own_precision = _model(model, tables)
        if precision is not None and own_precision is not None:
            raise click.UsageError(f"--precision: the file's own is {own_precision}; leave it out")
        answer = fit(
            shape,
            _machine(gpu, gpus, tables),
            precision=own_precision or precision,
            context_tokens=context,
            sequences=sequences,
            cache_precision=cache_precision,
            chunked_attention=chunked_attention,
            weights_bytes=weights_bytes,
        )
    except InvalidRequestError as error:
        raise failures.in_options(error, command, names={"context_tokens": "--context"}) from error
    notes = licence_notes(shape)
    rests_on = sources(answer, tables, Clock().today())
    needs = tuple(training_need(shape, method) for method in METHODS) if training else ()
    if as_json:
        click.echo(json.dumps(document(answer, notes, rests_on, needs)))
    else:
        from llama_client.cli.fit_tables import show

        show(answer, notes, rests_on, needs)


def _model(text: str, tables: Tables) -> tuple[Architecture, int | None, str | None]:
    """The model's shape; of a file also the exact size of its weights, and its precision."""
    from llama_client.crossover.fitting.gguf_files import read_gguf
    from llama_client.crossover.tables import unknown
    from llama_client.providers.gguf.store import ModelStore

    path = Path(text).expanduser()
    stored = None
    if not (text.lower().endswith(".gguf") or path.is_file()):
        try:
            return tables.model(text), None, None
        except InvalidRequestError:
            stored = ModelStore.of_user().find(text.removeprefix("gguf/"))
            if stored is None:
                known = (*(model.name for model in tables.models), *ModelStore.of_user().names())
                raise unknown("model", text, known) from None
    found = read_gguf(path if stored is None else stored.path, tables=tables)
    return found.model, found.weights_bytes, found.precision


def _machine(gpu: str | None, gpus: int | None, tables: Tables) -> Machine:
    from llama_client.crossover.fitting.machines import named, this_machine

    return this_machine(tables=tables) if gpu is None else named(gpu, gpus or 1, tables=tables)
