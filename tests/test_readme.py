"""The README and the pages of docs/ are true: their Python runs, and the gate runs the README's second command."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_client import load_config
from llama_client.providers.gguf.store import ModelStore

README_FOLDER = Path(__file__).parents[1]
README = (README_FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def groq_standin() -> Iterator[str]:
    """What plays Groq, for the block that shows its program."""
    spec = importlib.util.spec_from_file_location("standin", README_FOLDER / "examples" / "standin" / "server.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018 - for the types
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.standin() as url:
        yield url


PAGES = [README, *(page.read_text(encoding="utf-8") for page in sorted((README_FOLDER / "docs").glob("*.md")))]


def blocks(language: str) -> list[str]:
    return [block for page in PAGES for block in re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)]


@pytest.mark.parametrize("block", blocks("python"), ids=range(len(blocks("python"))))
def test_every_python_block_runs(
    block: str, demo_pulled: ModelStore, groq_standin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_BASE_URL", groq_standin)
    monkeypatch.setenv("GROQ_API_KEY", "a-key")
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    run = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    for promised in re.findall(r"print\(reply\.text\) +# (.*)", block):
        assert promised in run.stdout


@pytest.mark.parametrize("block", blocks("toml"))
def test_every_configuration_block_is_one(block: str) -> None:
    config = load_config(tomllib.loads(block), environ={})
    assert config.default_model is not None
    assert config.default_model in config.routes or config.default_model.partition("/")[0] in config.providers


def test_the_quick_start_is_two_commands() -> None:
    quick_start = README.partition("## Quick start")[2].partition("\n## ")[0]
    commands = "".join(re.findall(r"```console\n(.*?)```", quick_start, flags=re.DOTALL)).splitlines()
    assert [command.startswith("pip install") for command in commands] == [True, True]
    assert "llama-client chat" in commands[0]
    assert commands[1].endswith("pytest")


def test_no_figure_is_missing_from_the_table_of_measurements() -> None:
    rows = [row for row in README.splitlines() if "`python benchmarks/" in row]
    assert len(rows) == 8
    assert all(re.search(r"\d", row.split("|")[2]) for row in rows)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (README_FOLDER / link).exists()
