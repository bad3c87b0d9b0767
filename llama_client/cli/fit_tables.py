"""What `llama-client fit` prints on a terminal."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from llama_client.cli.terminal import one_line, table_of
from llama_client.crossover.fitting.fit import Fit, Option
from llama_client.crossover.fitting.licences import LicenceNote
from llama_client.crossover.fitting.machines import Machine
from llama_client.crossover.fitting.report import Source, gib, verdict
from llama_client.crossover.fitting.training import Method, TrainingNeed

_NAMES: dict[Method, str] = {
    "full": "in full",
    "full-8bit-adam": "8-bit Adam",
    "lora": "LoRA r16",
    "qlora": "QLoRA r16",
}
_TRAINING = (
    "One example of 2,048 tokens at a time; activations are approximate, with gradient checkpointing; over several "
    "GPUs all of it is taken to be sharded."
)


def show(
    answer: Fit, notes: tuple[LicenceNote, ...], rests_on: tuple[Source, ...], training: tuple[TrainingNeed, ...]
) -> None:
    """Prints an answer: the verdict first, then what it rests on.

    Args:
        training: Ways of fine-tuning; empty: not asked for.
    """
    console = Console(markup=False, highlight=False)

    def say(text: str = "") -> None:
        console.print(Text(one_line(text)))

    say(verdict(answer))
    say()
    say(_machine_line(answer.machine))
    say()
    console.print(_needs(answer, console.width))
    if len(answer.options) > 1:
        say()
        console.print(_options(answer, console.width))
    say()
    for line in _limits(answer):
        say(line)
    if training:
        say()
        console.print(_training(answer, training, console.width))
        say(_TRAINING)
    say()
    _show_notes(console, answer, notes, rests_on)


def _machine_line(machine: Machine) -> str:
    parts = []
    for gpu in machine.gpus if not machine.gpus_are_alike else machine.gpus[:1]:
        count = f"{len(machine.gpus)} x " if machine.gpus_are_alike and len(machine.gpus) > 1 else ""
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
    rows = []
    for option in answer.options:
        longest = option.longest_context_tokens
        rows.append(
            [
                option.precision,
                option.engine,
                gib(option.need.total_bytes),
                "-" if longest is None else f"{longest:,}",
                f"{option.max_sequences:,}" if option.max_sequences else "-",
                _place(option),
            ]
        )
    return table_of([("precision", False), ("engine", False), *figures, ("fits", False)], rows, width=width)


def _place(option: Option) -> str:
    match option.where:
        case "one-gpu":
            return "on 1 GPU"
        case "several-gpus":
            return f"on {option.gpus} GPUs"
        case "split":
            return f"{option.layers_on_gpus} layers on GPU"
        case "ram":
            return "in RAM"
        case None:
            return "no" if option.shortage_bytes is None else f"{gib(option.shortage_bytes)} short"


def _limits(answer: Fit) -> list[str]:
    """How far context and concurrency go in the answer's precision."""
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
    rows = []
    for need in needs:
        missing = need.total_bytes - room
        rows.append(
            [
                _NAMES[need.method],
                gib(need.weights_bytes),
                gib(need.gradient_bytes + need.optimizer_bytes),
                gib(need.activation_bytes),
                gib(need.total_bytes),
                "no GPU" if not answer.machine.gpus else "yes" if missing <= 0 else f"{gib(missing)} short",
            ]
        )
    figures = [(name, True) for name in ("weights", "optimizer", "activations", "together")]
    return table_of([("training", False), *figures, ("fits", False)], rows, width=width)


def _show_notes(console: Console, answer: Fit, notes: tuple[LicenceNote, ...], rests_on: tuple[Source, ...]) -> None:
    def item(text: str) -> None:
        console.print(Padding(Text(one_line(text)), (0, 0, 0, 2), expand=False))

    console.print(Text(one_line(f"Licence: {answer.model.licence}")))
    for note in notes:
        item(note.text)
        item(f"({note.source})")
    console.print()
    console.print("Sources")
    for source in rests_on:
        item(f"{source.what}: {source.source}; {_age(source)}")
        if source.unverified is not None:
            item(f"  in doubt: {source.unverified}")


def _age(source: Source) -> str:
    if source.age_days is None:
        return "UNDATED"
    told = f"checked on {source.checked_on}, {source.age_days} days ago"
    return f"{told}: STALE" if source.freshness == "stale" else told
