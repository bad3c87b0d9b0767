"""A fit in words: verdict, licences, sources with their age, one document."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

from llama_client.crossover.assumptions import STALE_AFTER_DAYS
from llama_client.crossover.fitting.fit import Fit, Option
from llama_client.crossover.fitting.memory import GIB, TrainingNeed
from llama_client.crossover.tables import Architecture, Gpu, Tables

Topic = Literal["licence", "research-only", "not-released", "monthly-users", "european-union", "attribution"]
# On GitHub.
_REPOSITORY = "meta-llama/llama-models: models"
# Licence -> the release's folder in Meta's repository.
_FOLDERS = {
    "Llama 2 Community License": "llama2",
    "Meta Llama 3 Community License": "llama3",
    "Llama 3.1 Community License": "llama3_1",
    "Llama 3.2 Community License": "llama3_2",
    "Llama 3.3 Community License": "llama3_3",
    "Llama 4 Community License": "llama4",
}
# What must be shown, and how the name of a model made with it must begin: section 1.b.i. Llama 2's has neither.
_ATTRIBUTION = {
    "Meta Llama 3 Community License": ("Built with Meta Llama 3", "Llama 3"),
    "Llama 3.1 Community License": ("Built with Llama", "Llama"),
    "Llama 3.2 Community License": ("Built with Llama", "Llama"),
    "Llama 3.3 Community License": ("Built with Llama", "Llama"),
    "Llama 4 Community License": ("Built with Llama", "Llama"),
}


@dataclass(frozen=True, slots=True)
class LicenceNote:
    """One thing that a licence says."""

    topic: Topic
    text: str
    source: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def licence_notes(model: Architecture) -> tuple[LicenceNote, ...]:
    """What the licence of a model asks, what forbids most first.

    Examples:
        >>> from llama_client.crossover.tables import Tables
        >>> [note.topic for note in licence_notes(Tables.bundled().model("llama-4-scout"))]
        ['european-union', 'monthly-users', 'attribution']
    """
    folder = _FOLDERS.get(model.licence)
    licence = f"{_REPOSITORY}/{folder}/LICENSE" if folder else model.source
    notes = []
    if model.released_on is None and model.note is not None and "never released" in model.note:
        notes.append(
            LicenceNote("not-released", "Its weights were never released: there is nothing to run.", model.source)
        )
    if "non-commercial" in model.licence:
        text = "For research alone: the licence grants no commercial use, and access was given case by case."
        notes.append(LicenceNote("research-only", text, model.licence))
    if model.eu_multimodal_bar:
        notes.append(_european_union(model, folder))
    if model.monthly_users_clause:
        notes.append(_monthly_users(model, licence))
    if model.licence in _ATTRIBUTION:
        shown, beginning = _ATTRIBUTION[model.licence]
        text = (
            f'Who passes it on, or a product or service with it, must show "{shown}"; the name of a model made with '
            f'it must begin with "{beginning}".'
        )
        notes.append(LicenceNote("attribution", text, f"{licence}, section 1.b.i"))
    if not notes:
        notes.append(LicenceNote("licence", f"Its licence is {model.licence}; read it.", model.source))
    return tuple(notes)


def _european_union(model: Architecture, folder: str | None) -> LicenceNote:
    text_too = " Both models of Llama 4 are multimodal, so it holds for text alone too." if folder == "llama4" else ""
    return LicenceNote(
        "european-union",
        "No rights for individuals domiciled, or companies with their principal place of business, in the European "
        f"Union: it is a multimodal model.{text_too} End users of a product that contains it are exempt.",
        f"{_REPOSITORY}/{folder}/USE_POLICY.md" if folder else model.source,
    )


def _monthly_users(model: Architecture, licence: str) -> LicenceNote:
    day = f"its release date, {model.released_on:%Y-%m-%d}," if model.released_on else "its release date"
    return LicenceNote(
        "monthly-users",
        f"Who had more than 700 million monthly active users on {day} needs a licence granted by Meta. Who "
        "received it as part of an integrated end-user product is exempt.",
        f"{licence}, section 2",
    )


Freshness = Literal["fresh", "stale", "undated"]
# gguf_bits.toml's own words, whose rows are of two models.
_GGUF_BITS = "ggml-org/llama.cpp tools/quantize/README.md; XiongjieDai/GPU-Benchmarks-on-LLM-Inference"
_GGUF_BITS_CHECKED_ON = date(2026, 11, 23)


@dataclass(frozen=True, slots=True)
class Source:
    """What a part of the answer rests on."""

    what: str
    source: str
    checked_on: date | None
    age_days: int | None
    freshness: Freshness
    unverified: str | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"checked_on": None if self.checked_on is None else self.checked_on.isoformat()}


def verdict(fit: Fit) -> str:
    """The answer in a sentence.

    Examples:
        >>> from llama_client.crossover.fitting.fit import fit
        >>> from llama_client.crossover.fitting.machines import named
        >>> from llama_client.crossover.tables import Tables
        >>> model = Tables.bundled().model("llama-3.1-8b")
        >>> print(verdict(fit(model, named("rtx_4090"), precision="Q8_0")))
        llama-3.1-8b on 1 x RTX 4090? Yes: Q8_0 needs 9.6 GiB for 8,192 tokens, and 24.0 GiB are there.
    """
    question = f"{fit.model.name} on {fit.machine.name}?"
    answer = fit.answer
    length = f"{fit.context_tokens:,} tokens"
    if fit.sequences > 1:
        length = f"{fit.sequences:,} sequences of {length}"
    needs = f"{answer.precision} needs {gib(answer.need.total_bytes)} for {length}"
    match answer.where:
        case "one-gpu" | "several-gpus":
            used = f" on {answer.gpus} of {len(fit.machine.gpus)} GPUs" if answer.gpus < len(fit.machine.gpus) else ""
            return f"{question} Yes: {needs}{used}, and {gib(_there(fit))} are there."
        case "ram":
            what = "" if not fit.machine.gpus else f"; the GPU lacks {gib(answer.shortage_bytes or 0)}"
            return f"{question} In RAM, which is slow: {needs}, and {gib(_ram(fit))} of RAM are there{what}."
        case "split":
            return (
                f"{question} In part: {needs}; {answer.layers_on_gpus} of {fit.model.layers} layers fit on the GPU, "
                f"the others in RAM, which is slow.{_remedies(fit)}"
            )
        case None:
            return f"{question} No: {needs}{_shortage(fit)}.{_remedies(fit)}"


def sources(fit: Fit, tables: Tables, today: date) -> tuple[Source, ...]:
    """What the answer rests on, each with its age."""
    rows: list[Architecture | Gpu] = [fit.model]
    used = {gpu.row for gpu in fit.machine.gpus}
    rows += [gpu for gpu in tables.gpus if gpu.name in used]
    found = [_source(row.name, row.source, row.checked_on, row.unverified, today) for row in rows]
    if any(option.engine == "llama.cpp" for option in fit.options) and fit.model.checked_on is not None:
        found.append(_source("bits per weight", _GGUF_BITS, _GGUF_BITS_CHECKED_ON, None, today))
    return tuple(found)


def document(
    fit: Fit, notes: tuple[LicenceNote, ...], rests_on: tuple[Source, ...], training: tuple[TrainingNeed, ...]
) -> dict[str, Any]:
    """Everything, for JSON."""
    room = fit.machine.usable_gpu_bytes
    return {"verdict": verdict(fit)} | fit.as_dict() | {
        "training": [
            need.as_dict() | {"fits_on_gpus": bool(fit.machine.gpus) and need.total_bytes <= room} for need in training
        ],
        "licence": fit.model.licence,
        "licence_notes": [note.as_dict() for note in notes],
        "sources": [source.as_dict() for source in rests_on],
    }  # fmt: skip


def gib(size_bytes: float) -> str:
    """For people: `24.0 GiB`."""
    return f"{size_bytes / GIB:,.1f} GiB"


def _there(fit: Fit) -> int:
    """What the GPUs have that hold it: the largest ones."""
    sizes = sorted((gpu.usable_bytes for gpu in fit.machine.gpus), reverse=True)
    return sum(sizes[: fit.answer.gpus])


def _ram(fit: Fit) -> int:
    return fit.machine.usable_ram_bytes or 0


def _shortage(fit: Fit) -> str:
    missing = fit.answer.shortage_bytes
    if missing is None:
        return ", and how much memory is there is unknown"
    if not fit.machine.gpus:
        return f", {gib(_ram(fit))} of RAM are there: {gib(missing)} short"
    return f", {gib(fit.machine.usable_gpu_bytes)} are there: {gib(missing)} short"


def _remedies(fit: Fit) -> str:
    """What would do instead: other bits, a shorter context, more GPUs."""
    answer, remedies = fit.answer, []
    if fit.best is not None and fit.best.precision != answer.precision and (fit.best.fits_on_gpus or not fit.fits):
        remedies.append(f"{fit.best.precision} ({gib(fit.best.need.total_bytes)}) would fit")
    shorter = answer.longest_gpu_context_tokens if fit.machine.gpus else answer.longest_context_tokens
    if shorter is not None and shorter < fit.context_tokens:
        remedies.append(f"{shorter:,} tokens would fit{' on the GPU' if fit.fits else ''}")
    if fit.gpus_needed is not None:
        remedies.append(f"{fit.gpus_needed} x {fit.machine.gpus[0].title} would hold it")
    if remedies:
        return f" {'; '.join(remedies)}."
    least = _least(fit)
    if least is None:
        return ""
    return f" No known precision fits: {least.precision}, the smallest, needs {gib(least.need.total_bytes)}."


def _least(fit: Fit) -> Option | None:
    """What needs least; None: there is nothing beside the answer, or something fits."""
    if fit.fits or len(fit.options) == 1:
        return None
    return min(fit.options, key=lambda option: option.need.total_bytes)


def _source(what: str, source: str, checked_on: date | None, unverified: str | None, today: date) -> Source:
    age = None if checked_on is None else (today - checked_on).days
    freshness: Freshness = "undated" if age is None else "stale" if age > STALE_AFTER_DAYS else "fresh"
    return Source(what, source, checked_on, age, freshness, unverified)
