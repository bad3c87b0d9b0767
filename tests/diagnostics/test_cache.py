"""What the doctor says of the cache of answers; it makes and changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from llama_client import LlamaClient
from llama_client.testing import FakeProvider
from tests.diagnostics.conftest import Doctor, of


def cache(file: Path, more: str = "") -> str:
    """A configuration with its cache there."""
    return f"[cache]\nenabled = true\nurl = 'sqlite:///{file}'\n{more}"


def test_a_cache_that_is_off_is_not_looked_at(doctor: Doctor) -> None:
    assert not [each for each in doctor.says("[cache]\nenabled = false\n").findings if each.check == "cache"]


def test_where_there_is_no_cache_none_is_made(doctor: Doctor, file: Path) -> None:
    found = of(doctor.says(cache(file, "max_mib = 64\nmax_age_days = 7\n")), "cache")
    assert (found.status, found.subject) == ("info", str(file))
    assert "at most 64 MiB, and 7 days old" in found.message
    assert not file.parent.exists()


def test_its_size_and_bounds_are_told_and_no_file_is_touched(doctor: Doctor, file: Path) -> None:
    config = {
        "default_model": "some/m",
        "providers": {"some": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}},
        "cache": {"enabled": True, "url": f"sqlite:///{file}"},
    }
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.always("x")
        for text in "ab":
            client.ask(text)
    before = {path: path.read_bytes() for path in file.parent.iterdir()}
    found = of(doctor.says(cache(file)), "cache")
    assert {path: path.read_bytes() for path in file.parent.iterdir()} == before
    assert (found.status, found.subject, found.facts["answers"]) == ("ok", str(file), 2)
    assert found.facts["most_bytes"] == 512 << 20
    assert found.message.startswith("2 answers, ")
    assert isinstance(found.facts["size_bytes"], int)
    assert found.facts["size_bytes"] > 300


def test_a_cache_in_memory_has_no_size(doctor: Doctor) -> None:
    found = of(doctor.says("[cache]\nenabled = true\nurl = 'memory'\n"), "cache")
    assert (found.status, "in memory" in found.message) == ("info", True)


def a_folder(file: Path) -> None:
    file.mkdir(parents=True)


def below_a_file(file: Path) -> None:
    file.parent.write_text("a file where a folder should be")


@pytest.mark.parametrize("harm", [a_folder, below_a_file])
def test_a_cache_that_cannot_be_written_is_a_problem(doctor: Doctor, file: Path, harm: Callable[[Path], None]) -> None:
    harm(file)
    found = of(doctor.says(cache(file)), "cache")
    assert found.status == "problem"
    assert "calls are made without it" in found.message
    assert "cache.url" in str(found.remedy)


def test_a_damaged_cache_says_what_to_do_with_it(doctor: Doctor, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"no database at all" * 100)
    found = of(doctor.says(cache(file)), "cache")
    assert (found.status, found.remedy) == ("problem", f"Move {file} away: the next call creates a new one.")


def test_a_database_without_answers_is_empty(doctor: Doctor, file: Path) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE other (a)")
    found = of(doctor.says(cache(file)), "cache")
    assert (found.status, "empty" in found.message) == ("info", True)


def test_local_only_refuses_one_on_another_machine(doctor: Doctor) -> None:
    pytest.importorskip("psycopg")
    text = "local_only = true\n[cache]\nenabled = true\nurl = 'postgresql://db.example.com/a'\n"
    found = of(doctor.says(text), "cache")
    assert (found.status, found.facts["rule"]) == ("problem", "local_only")
    assert "cache.url" in str(found.remedy)


def test_offline_contacts_no_other_machine(doctor: Doctor) -> None:
    pytest.importorskip("psycopg")
    found = of(doctor.says("[cache]\nenabled = true\nurl = 'postgresql://db.example.com/a'\n", offline=True), "cache")
    assert found.status == "skipped"
