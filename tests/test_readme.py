"""The README is true: its Python runs, and the gate runs its second command."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from llama_client import load_config
from llama_client.providers.gguf.store import ModelStore

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.splitlines()[0][:30])
def test_every_python_block_runs(block: str, demo_pulled: ModelStore) -> None:
    run = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    for promised in re.findall(r"print\(reply\.text\) +# (.*)", block):
        assert promised in run.stdout


def test_the_configuration_block_is_one() -> None:
    (block,) = blocks("toml")
    assert load_config(tomllib.loads(block), environ={}).default_model == "laptop/default"


def test_the_quick_start_is_two_commands() -> None:
    quick_start = README.partition("## Quick start")[2].partition("\n## ")[0]
    commands = "".join(re.findall(r"```console\n(.*?)```", quick_start, flags=re.DOTALL)).splitlines()
    assert [command.startswith("pip install") for command in commands] == [True, True]
    assert "llama-client chat" in commands[0]
    assert commands[1].endswith("pytest")


def test_no_figure_is_missing_from_the_table_of_measurements() -> None:
    rows = [row for row in README.splitlines() if "`python benchmarks/" in row]
    assert len(rows) == 3
    assert all(re.search(r"\d", row.split("|")[2]) for row in rows)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / link).exists()
