"""A fit in words: verdict, licences, sources with their age, one document."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

from llama_client.crossover.assumptions import STALE_AFTER_DAYS
from llama_client.crossover.fitting.fit import Fit
from llama_client.crossover.fitting.memory import GIB, TrainingNeed
from llama_client.crossover.precisions import family
from llama_client.crossover.tables import Architecture, Gpu, Tables

_REPOSITORY = "meta-llama/llama-models: models"
# Licence -> the release's folder in Meta's repository; what must be shown, and the beginning that the name of a model
# made with it must have (section 1.b.i). Llama 2's has neither.
_META_LICENCES = {
    "Llama 2 Community License": ("llama2", None, None),
    "Meta Llama 3 Community License": ("llama3", "Built with Meta Llama 3", "Llama 3"),
    "Llama 3.1 Community License": ("llama3_1", "Built with Llama", "Llama"),
    "Llama 3.2 Community License": ("llama3_2", "Built with Llama", "Llama"),
    "Llama 3.3 Community License": ("llama3_3", "Built with Llama", "Llama"),
    "Llama 4 Community License": ("llama4", "Built with Llama", "Llama"),
}


@dataclass(frozen=True, slots=True)
class LicenceNote:
    topic: Literal["licence", "research-only", "not-released", "monthly-users", "european-union", "attribution"]
    text: str
    source: str


def licence_notes(model: Architecture) -> tuple[LicenceNote, ...]:
    """The conditions of a model's licence, the strictest first."""
    folder, shown, beginning = _META_LICENCES.get(model.licence, (None, None, None))
    licence = f"{_REPOSITORY}/{folder}/LICENSE" if folder else model.source
    notes = []
    if model.released_on is None and model.note is not None and "never released" in model.note:
        text = "Its weights were never released: there is nothing to run."
        notes.append(LicenceNote("not-released", text, model.source))
    if "non-commercial" in model.licence:
        text = "For research alone: the licence grants no commercial use, and access was given case by case."
        notes.append(LicenceNote("research-only", text, model.licence))
    if model.eu_multimodal_bar:
        text_too = " Both models of Llama 4 are multimodal, so it holds for text alone too." * (folder == "llama4")
        text = (
            "No rights for individuals domiciled, or companies with their principal place of business, in the European "
            f"Union: it is a multimodal model.{text_too} End users of a product that contains it are exempt."
        )
        source = f"{_REPOSITORY}/{folder}/USE_POLICY.md" if folder else model.source
        notes.append(LicenceNote("european-union", text, source))
    if model.monthly_users_clause:
        day = f"its release date, {model.released_on:%Y-%m-%d}," if model.released_on else "its release date"
        text = (
            f"A licensee with more than 700 million monthly active users on {day} needs a licence granted by Meta. A "
            "recipient of it as part of an integrated end-user product is exempt."
        )
        notes.append(LicenceNote("monthly-users", text, f"{licence}, section 2"))
    if shown is not None:
        text = (
            f'Distributions of it, and products or services that contain it, must show "{shown}"; the name of a model '
            f'made with it must begin with "{beginning}".'
        )
        notes.append(LicenceNote("attribution", text, f"{licence}, section 1.b.i"))
    if not notes:
        notes.append(LicenceNote("licence", f"Its licence is {model.licence}; read it.", model.source))
    return tuple(notes)


Freshness = Literal["fresh", "stale", "undated"]
# As gguf_bits.toml states.
_GGUF_BITS = "ggml-org/llama.cpp tools/quantize/README.md; XiongjieDai/GPU-Benchmarks-on-LLM-Inference"
_GGUF_BITS_CHECKED_ON = date(2026, 11, 23)


@dataclass(frozen=True, slots=True)
class Source:
    what: str
    source: str
    checked_on: date | None
    age_days: int | None
    freshness: Freshness
    unverified: str | None


def verdict(fit: Fit) -> str:
    lacks_fp4 = family(fit.answer.precision) == "fp4" and any(gpu.has_fp4 is False for gpu in fit.machine.gpus)
    unpacked = " The GPU has no arithmetic of 4 bits: vLLM and SGLang unpack the weights, and compute in 16 bits."
    return f"{_verdict(fit)}{unpacked if lacks_fp4 else ''}"


def _verdict(fit: Fit) -> str:
    question = f"{fit.model.name} on {fit.machine.name}?"
    answer = fit.answer
    length = f"{fit.context_tokens:,} tokens"
    if fit.sequences > 1:
        length = f"{fit.sequences:,} sequences of {length}"
    needs = f"{answer.precision} needs {gib(answer.need.total_bytes)} for {length}"
    match answer.where:
        case "one-gpu" | "several-gpus":
            used = f" on {answer.gpus} of {len(fit.machine.gpus)} GPUs" if answer.gpus < len(fit.machine.gpus) else ""
            largest = sorted((gpu.usable_bytes for gpu in fit.machine.gpus), reverse=True)[: answer.gpus]
            return f"{question} Yes: {needs}{used}, and {gib(sum(largest))} are there."
        case "ram":
            what = "" if not fit.machine.gpus else f"; the GPU lacks {gib(answer.shortage_bytes or 0)}"
            ram = gib(fit.machine.usable_ram_bytes or 0)
            return f"{question} In RAM, which is slow: {needs}, and {ram} of RAM are there{what}."
        case "split":
            return (
                f"{question} In part: {needs}; {answer.layers_on_gpus} of {fit.model.layers} layers fit on the GPU, "
                f"the others in RAM, which is slow.{_remedies(fit)}"
            )
        case None:
            return f"{question} No: {needs}{_shortage(fit)}.{_remedies(fit)}"


def sources(fit: Fit, tables: Tables, today: date) -> tuple[Source, ...]:
    used = {gpu.row for gpu in fit.machine.gpus}
    rows: list[Architecture | Gpu] = [fit.model, *(gpu for gpu in tables.gpus if gpu.name in used)]
    found = [_source(row.name, row.source, row.checked_on, row.unverified, today) for row in rows]
    if any(option.engine == "llama.cpp" for option in fit.options) and fit.model.checked_on is not None:
        found.append(_source("bits per weight", _GGUF_BITS, _GGUF_BITS_CHECKED_ON, None, today))
    return tuple(found)


def document(
    fit: Fit, notes: tuple[LicenceNote, ...], rests_on: tuple[Source, ...], training: tuple[TrainingNeed, ...]
) -> dict[str, Any]:
    room = fit.machine.usable_gpu_bytes if fit.machine.gpus else -1
    return {
        "verdict": verdict(fit),
        **fit.as_dict(),
        "training": [need.as_dict() | {"fits_on_gpus": need.total_bytes <= room} for need in training],
        "licence": fit.model.licence,
        "licence_notes": [asdict(note) for note in notes],
        "sources": [
            asdict(source) | {"checked_on": source.checked_on and source.checked_on.isoformat()} for source in rests_on
        ],
    }


def gib(size_bytes: float) -> str:
    return f"{size_bytes / GIB:,.1f} GiB"


def _shortage(fit: Fit) -> str:
    missing = fit.answer.shortage_bytes
    if missing is None:
        return ", and how much memory is there is unknown"
    ram = f"{gib(fit.machine.usable_ram_bytes or 0)} of RAM"
    there = gib(fit.machine.usable_gpu_bytes) if fit.machine.gpus else ram
    return f", {there} are there: {gib(missing)} short"


def _remedies(fit: Fit) -> str:
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
    if fit.fits or len(fit.options) == 1:
        return ""
    least = min(fit.options, key=lambda option: option.need.total_bytes)
    return f" No known precision fits: {least.precision}, the smallest, needs {gib(least.need.total_bytes)}."


def _source(what: str, source: str, checked_on: date | None, unverified: str | None, today: date) -> Source:
    age = None if checked_on is None else (today - checked_on).days
    freshness: Freshness = "undated" if age is None else "stale" if age > STALE_AFTER_DAYS else "fresh"
    return Source(what, source, checked_on, age, freshness, unverified)
