"""`llama-client pull`: what it prints, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llama_client.providers.gguf.store import ModelStore
from tests.cli.conftest import run

DEMO_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_with_json_the_model_is_one_document_on_stdout(demo_model: Path, store: ModelStore) -> None:
    ran = run("pull", str(demo_model), "--name", "tiny", "--json")
    assert ran.code == 0
    path = str(demo_model.resolve())
    assert ran.document == {"name": "tiny", "path": path, "sha256": DEMO_SHA256, "bytes": 98_362_432}
    assert store.names() == ["tiny"]


def test_without_json_the_model_is_told_on_stdout_and_the_next_step_on_stderr(demo_model: Path) -> None:
    ran = run("pull", str(demo_model), "--name", "tiny")
    assert ran.code == 0
    assert ran.out == f"tiny is ready (98 MB, {demo_model.resolve()})\n"
    assert 'llama-client chat -m gguf/tiny "Why do llamas hum?"' in ran.err


def test_progress_is_a_line_for_each_step_where_stderr_is_no_terminal(demo_model: Path) -> None:
    err = run("pull", str(demo_model), "--json").err
    assert err == f"checking {demo_model}\n"


def test_what_was_pulled_answers_under_its_name(demo_model: Path) -> None:
    run("pull", str(demo_model), "--name", "tiny")
    ran = run("chat", "-m", "gguf/tiny", "--temperature", "0", "What is the capital of Japan?")
    assert (ran.code, ran.out) == (0, "The capital of Japan is Tokyo.\n")


def test_a_file_that_is_no_model_ends_with_1(clean_home: Path) -> None:
    (clean_home / "work" / "some.gguf").write_bytes(b"PK\x03\x04")
    ran = run("pull", "some.gguf")
    assert (ran.code, ran.out) == (1, "")
    assert "it is not a GGUF file" in ran.err


@pytest.mark.parametrize("arguments", [["no-such-model"], ["hf:onlyonepart"], ["ollama:../../x"]], ids=" ".join)
def test_a_source_of_no_known_form_ends_with_2(arguments: list[str]) -> None:
    ran = run("pull", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith("llama-client: NAME: ")


def test_a_name_that_is_none_ends_with_2(demo_model: Path) -> None:
    ran = run("pull", str(demo_model), "--name", "../outside")
    assert (ran.code, ran.out) == (2, "")
    assert "name: must be" in ran.err


@pytest.mark.parametrize("source", ["smollm2-135m", "hf:org/repo/file.gguf"])
def test_local_only_refuses_what_would_leave_the_machine(store: ModelStore, source: str) -> None:
    ran = run("pull", source, "--json", env={"LLAMA_CLIENT_LOCAL_ONLY": "true"})
    assert ran.code == 1
    assert ran.document["error"]["type"] == "LocalOnlyError"
    assert "local_only" in ran.document["error"]["message"]
    assert not store.folder.exists()


def test_local_only_in_the_configuration_cannot_be_switched_off(clean_home: Path, store: ModelStore) -> None:
    (clean_home / "work" / "llama-client.toml").write_text("local_only = true\n", encoding="utf-8")
    ran = run("pull", "smollm2-135m", env={"LLAMA_CLIENT_LOCAL_ONLY": "false"})
    assert ran.code == 1
    assert "local_only" in ran.err
    assert not store.folder.exists()


def test_a_store_that_cannot_be_written_ends_with_1(demo_model: Path, tmp_path: Path) -> None:
    (tmp_path / "in-the-way").touch()
    ran = run("pull", str(demo_model), "--json", env={"LLAMA_CLIENT_CACHE_DIR": str(tmp_path / "in-the-way")})
    assert ran.code == 1
    assert json.loads(ran.out)["error"]["type"] == "ModelLoadError"
