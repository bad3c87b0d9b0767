"""`--config` is understood by every command that reads a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import run


@pytest.fixture(autouse=True)
def named() -> Path:
    path = Path("named.toml")
    path.write_text("local_only = true\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("how", [["named.toml"], ["--config", "named.toml"]], ids=" ".join)
def test_a_check_takes_the_file_either_way(how: list[str]) -> None:
    ran = run("config", "check", *how)
    assert (ran.code, ran.err) == (0, "")
    assert "named.toml: no problem found." in ran.out


def test_a_check_of_two_files_is_wrong_usage() -> None:
    ran = run("config", "check", "named.toml", "--config", "named.toml")
    assert ran.code == 2
    assert "FILE and --config" in ran.err


def test_pull_is_held_to_the_local_only_of_the_file() -> None:
    ran = run("pull", "hf:some-org/some-repository/model.gguf", "--config", "named.toml")
    assert ran.code == 1
    assert "rule: pull, switched on by named.toml" in ran.err


def test_pull_reads_the_file_that_is_named() -> None:
    ran = run("pull", "smollm2-135m", "--config", "nothing.toml")
    assert ran.code == 2
    assert "nothing.toml: there is no such file" in ran.err
