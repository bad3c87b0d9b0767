"""What a model's licence asks of who runs it, each note with the text that it is from. No legal advice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from llama_client.crossover.tables import Architecture

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
    """One thing that a licence says.

    Attributes:
        topic: Which.
        text: In a sentence or two.
        source: The text that it is from.
    """

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
