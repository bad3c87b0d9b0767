"""What licences ask, for every model of the tables."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date

import pytest

from llama_client.crossover.fitting.report import LicenceNote, licence_notes
from llama_client.crossover.tables import Architecture, Tables

TABLES = Tables.bundled()


def notes(name: str) -> dict[str, LicenceNote]:
    return {note.topic: note for note in licence_notes(TABLES.model(name))}


def test_the_strictest_condition_comes_first() -> None:
    assert list(notes("llama-4-scout")) == ["european-union", "monthly-users", "attribution"]


@pytest.mark.parametrize("model", TABLES.models, ids=lambda model: model.name)
def test_every_model_has_a_note_and_every_note_a_source(model: Architecture) -> None:
    found = licence_notes(model)
    assert found
    assert all(note.text and note.source for note in found)
    topics = {note.topic for note in found}
    is_metas = model.name.startswith("llama-") and (model.released_on or date.max) >= date(2023, 7, 18)
    assert ("monthly-users" in topics) == is_metas


@pytest.mark.parametrize(
    ("name", "day", "folder"),
    [
        ("llama-2-70b", "2023-07-18", "llama2"),
        ("llama-3.1-8b", "2024-07-23", "llama3_1"),
        ("llama-3.3-70b", "2024-12-06", "llama3_3"),
        ("llama-4-maverick", "2025-04-05", "llama4"),
    ],
)
def test_the_clause_of_700_million_counts_on_the_day_of_the_release(name: str, day: str, folder: str) -> None:
    note = notes(name)["monthly-users"]
    assert "700 million" in note.text
    assert day in note.text
    assert "end-user product is exempt" in note.text
    assert note.source == f"meta-llama/llama-models: models/{folder}/LICENSE, section 2"


def test_the_eu_is_barred_by_the_use_policy_from_multimodal_models_alone() -> None:
    barred = {model.name for model in TABLES.models if "european-union" in notes(model.name)}
    assert barred == {"llama-3.2-11b-vision", "llama-3.2-90b-vision", "llama-4-scout", "llama-4-maverick"}
    for name in barred:
        note = notes(name)["european-union"]
        assert note.source.endswith("/USE_POLICY.md")
        assert "End users of a product that contains it are exempt." in note.text
        assert ("text alone too" in note.text) == name.startswith("llama-4")


def test_the_first_llama_is_for_research_and_one_was_never_released() -> None:
    assert set(notes("llama-1-7b")) == {"research-only"}
    assert "no commercial use" in notes("llama-1-65b")["research-only"].text
    assert next(iter(notes("llama-2-34b"))) == "not-released"


def test_attribution_is_what_the_licence_of_the_release_says() -> None:
    assert "attribution" not in notes("llama-2-7b")
    assert '"Built with Meta Llama 3"' in notes("llama-3-8b")["attribution"].text
    assert '"Built with Llama"' in notes("llama-3.1-8b")["attribution"].text


def test_a_model_of_the_users_own_is_told_to_be_read_up() -> None:
    own = Architecture("own", 10, 1, 1, 1, 1, 1, 1, 1, 1, licence="Apache-2.0")
    (note,) = licence_notes(own)
    assert (note.topic, note.source) == ("licence", "the configuration")
    assert "Apache-2.0" in note.text
    assert asdict(note)["topic"] == "licence"
