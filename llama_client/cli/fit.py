"""`llama-client fit`: whether a model fits a machine, and what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_client import load_config
from llama_client.cli import completion as suggestions
from llama_client.cli import failures
from llama_client.cli.help_pages import EXITS, HelpPage, config_option, json_option, name_option
from llama_client.cli.terminal import answer_console, one_line, table_of
from llama_client.clock import Clock
from llama_client.crossover.fitting.fit import Fit, Option, fit
from llama_client.crossover.fitting.gguf_files import read_gguf
from llama_client.crossover.fitting.machines import Machine, named, this_machine
from llama_client.crossover.fitting.memory import METHODS, TrainingNeed, training_need
from llama_client.crossover.fitting.report import LicenceNote, Source, document, gib, licence_notes, sources, verdict
from llama_client.crossover.parallelism import MAX_GPUS
from llama_client.crossover.tables import Architecture, Tables, unknown
from llama_client.crossover.user_tables import tables_of
from llama_client.errors import InvalidRequestError
from llama_client.providers.gguf.store import ModelStore

if TYPE_CHECKING:
    from rich.console import RenderableType

_NAMES = {"full": "in full", "full-8bit-adam": "8-bit Adam", "lora": "LoRA r16", "qlora": "QLoRA r16"}
_TRAINING = (
    "One example of 2,048 tokens at a time; activations are approximate, with gradient checkpointing; over several "
    "GPUs all of it is taken to be sharded."
)


def show(
    answer: Fit, notes: tuple[LicenceNote, ...], rests_on: tuple[Source, ...], training: tuple[TrainingNeed, ...]
) -> None:
    from rich.text import Text

    console = answer_console()
    conditions = [text for note in notes for text in (note.text, f"({note.source})")]
    blocks: list[list[str | RenderableType]] = [
        [verdict(answer)],
        [_machine_line(answer.machine)],
        [_needs(answer, console.width)],
        [_options(answer, console.width)] if len(answer.options) > 1 else [],
        [*_limits(answer)],
        [_training(answer, training, console.width), _TRAINING] if training else [],
        [f"Licence: {answer.model.licence}", *_indented(conditions)],
        ["Sources", *_indented(_sources(rests_on))],
    ]
    for number, block in enumerate(filter(None, blocks)):
        if number:
            console.print()
        for part in block:
            console.print(Text(one_line(part)) if isinstance(part, str) else part)


def _indented(texts: list[str]) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    return [Padding(Text(one_line(text)), (0, 0, 0, 2), expand=False) for text in texts]


def _sources(rests_on: tuple[Source, ...]) -> list[str]:
    lines = []
    for source in rests_on:
        age = f"checked on {source.checked_on}, {source.age_days} days ago"
        age = {"undated": "UNDATED", "stale": f"{age}: STALE"}.get(source.freshness, age)
        lines.append(f"{source.what}: {source.source}; {age}")
        if source.unverified is not None:
            lines.append(f"  in doubt: {source.unverified}")
    return lines


def _machine_line(machine: Machine) -> str:
    parts = []
    count = f"{len(machine.gpus)} x " if machine.gpus_are_alike and len(machine.gpus) > 1 else ""
    for gpu in machine.gpus[:1] if machine.gpus_are_alike else machine.gpus:
        free = "" if gpu.free_bytes is None else f", {gib(gpu.free_bytes)} free now"
        parts.append(f"{count}{gpu.title} with {gib(gpu.usable_bytes)} for programs{free}")
    if not machine.gpus:
        parts.append("no GPU that was found")
    if machine.usable_ram_bytes is not None and not machine.has_unified_memory:
        parts.append(f"RAM of {gib(machine.ram_bytes or 0)}, {gib(machine.usable_ram_bytes)} for programs")
    return f"There: {'; '.join(parts)}."


def _needs(answer: Fit, width: int) -> RenderableType:
    need = answer.answer.need
    length = f"{answer.context_tokens:,} tokens" + (f" x {answer.sequences:,}" if answer.sequences > 1 else "")
    buffers = need.compute_bytes + need.runtime_bytes
    engine = "llama.cpp's buffers" if answer.answer.engine == "llama.cpp" else "set aside by the server (10% and 3 GB)"
    rows = [
        [f"weights in {answer.answer.precision}", gib(need.weights_bytes)],
        [f"KV cache of {length}", gib(need.kv_cache_bytes)],
        [engine, gib(buffers)],
        ["together", gib(need.total_bytes)],
    ]
    return table_of([("what", False), ("needs", True)], rows, width=width, shows_headings=False)


def _options(answer: Fit, width: int) -> RenderableType:
    figures = [(name, True) for name in ("needs", "longest context", "sequences")]
    rows = [
        [
            option.precision,
            option.engine,
            gib(option.need.total_bytes),
            f"{option.longest_context_tokens:,}" if option.longest_context_tokens else "-",
            f"{option.max_sequences:,}" if option.max_sequences else "-",
            _place(option),
        ]
        for option in answer.options
    ]
    return table_of([("precision", False), ("engine", False), *figures, ("fits", False)], rows, width=width)


def _place(option: Option) -> str:
    places = {
        "one-gpu": "on 1 GPU",
        "several-gpus": f"on {option.gpus} GPUs",
        "split": f"{option.layers_on_gpus} layers on GPU",
        "ram": "in RAM",
        None: "no" if option.shortage_bytes is None else f"{gib(option.shortage_bytes)} short",
    }
    return places[option.where]


def _limits(answer: Fit) -> list[str]:
    option, model = answer.answer, answer.model
    longest = option.longest_context_tokens
    if longest is None:
        return [f"Not even one token of context fits beside the weights in {option.precision}."]
    trained = ", what it was trained for" if longest == model.context_tokens else ""
    lines = [f"Longest context in {option.precision}: {longest:,} tokens{trained}."]
    on_gpus = option.longest_gpu_context_tokens
    if on_gpus is not None and on_gpus != longest:
        lines.append(f"On the GPU alone: {on_gpus:,} tokens.")
    if option.max_sequences:
        plural = "s" * (option.max_sequences != 1)
        lines.append(f"At once: {option.max_sequences:,} sequence{plural} of {answer.context_tokens:,} tokens.")
    return lines


def _training(answer: Fit, needs: tuple[TrainingNeed, ...], width: int) -> RenderableType:
    room = answer.machine.usable_gpu_bytes
    rows = [
        [
            _NAMES[need.method],
            gib(need.weights_bytes),
            gib(need.gradient_bytes + need.optimizer_bytes),
            gib(need.activation_bytes),
            gib(need.total_bytes),
            "yes" if need.total_bytes <= room else f"{gib(need.total_bytes - room)} short" if room else "no GPU",
        ]
        for need in needs
    ]
    figures = [(name, True) for name in ("weights", "optimizer", "activations", "together")]
    return table_of([("training", False), *figures, ("fits", False)], rows, width=width)


_MAX_COUNT = 10**9
_SECTIONS = {
    "The machine": ("gpu", "gpus"),
    "The model": ("precision", "context", "sequences", "cache_precision", "chunked_attention", "training"),
}


def _count(value: Any) -> int:
    # Not an IntRange itself, which shows its bounds in help: the upper one is too large to matter.
    return click.IntRange(1, _MAX_COUNT).convert(value, None, None)


@click.command("fit", cls=HelpPage, sections=_SECTIONS, exits={0: "also where it does not fit", 2: EXITS[2]})
@click.argument("model", shell_complete=suggestions.architectures_or_files)
@name_option("--gpu", suggestions.gpus, "A GPU such as rtx_4090 or h100_sxm. [default: this machine]")
@click.option("--gpus", metavar="N", type=click.IntRange(1, MAX_GPUS), help="How many of --gpu. [default: 1]")
@name_option(
    "--precision", suggestions.precisions, "Of the weights: Q4_K_M, Q8_0, bf16, fp8, ... [default: the best that fits]"
)
@click.option("--context", metavar="TOKENS", type=_count, help="Prompt and answer of one sequence. [default: 8192]")
@click.option(
    "--sequences", metavar="N", type=_count, default=1, show_default=True, help="How many are answered at once."
)
@click.option(
    "--cache-precision", metavar="NAME", help="Of the KV cache: f16, q8_0, q4_0, fp8, ... [default: the engine's]"
)
@click.option("--chunked-attention", is_flag=True, help="The engine makes use of Llama 4's chunks of attention.")
@click.option("--training", is_flag=True, help="Also show what fine-tuning needs: LoRA, QLoRA and in full.")
@json_option
@config_option
def command(
    model: str,
    gpu: str | None,
    gpus: int | None,
    precision: str | None,
    context: int | None,
    training: bool,
    as_json: bool,
    config: str | None,
    **load: Any,
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
        raise click.UsageError("--gpus is the number of --gpu: give one, such as --gpu rtx_4090")
    tables = tables_of(load_config(config))
    try:
        shape, weights_bytes, own_precision = _model(model, tables)
        if precision is not None and own_precision is not None:
            raise click.UsageError(f"--precision: the file's own is {own_precision}; leave it out")
        answer = fit(
            shape,
            this_machine(tables=tables) if gpu is None else named(gpu, gpus or 1, tables=tables),
            precision=own_precision or precision,
            context_tokens=context,
            weights_bytes=weights_bytes,
            **load,
        )
    except InvalidRequestError as error:
        raise failures.in_options(error, command, names={"context_tokens": "--context"}) from error
    notes = licence_notes(shape)
    rests_on = sources(answer, tables, Clock().today())
    needs = tuple(training_need(shape, method) for method in METHODS) if training else ()
    if as_json:
        click.echo(json.dumps(document(answer, notes, rests_on, needs)))
    else:
        show(answer, notes, rests_on, needs)


def _model(text: str, tables: Tables) -> tuple[Architecture, int | None, str | None]:
    """The model's shape; for a file also the exact size of its weights, and its precision."""
    path = Path(text).expanduser()
    if not (text.lower().endswith(".gguf") or path.is_file()):
        try:
            return tables.model(text), None, None
        except InvalidRequestError:
            store = ModelStore.of_user()
            stored = store.find(text.removeprefix("gguf/"))
            if stored is None:
                raise unknown("model", text, [*(model.name for model in tables.models), *store.names()]) from None
            path = stored.path
    found = read_gguf(path, tables=tables)
    return found.model, found.weights_bytes, found.precision
