"""The README's promises beside its blocks, which tests/documentation runs: two commands, figures, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README_FOLDER = Path(__file__).parents[1]
README = (README_FOLDER / "README.md").read_text(encoding="utf-8")
PERFORMANCE = (README_FOLDER / "docs" / "guides" / "performance.md").read_text(encoding="utf-8")


def test_the_quick_start_is_two_commands() -> None:
    quick_start = README.partition("## Quick start")[2].partition("\n## ")[0]
    commands = "".join(re.findall(r"```console\n(.*?)```", quick_start, flags=re.DOTALL)).splitlines()
    assert [command.startswith("pip install") for command in commands] == [True, True]
    assert "llama-client chat" in commands[0]
    assert commands[1].endswith("pytest")


@pytest.mark.parametrize("page", [README, PERFORMANCE], ids=["README", "performance"])
def test_each_measured_figure_is_there_with_the_command_that_prints_it(page: str) -> None:
    table = page.partition("| what | measured | command |\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert len(table) >= 6
    for row in table:
        _, _, measured, command, _ = row.split("|")
        assert re.search(r"\d", measured)
        assert command.strip().startswith(("`python ", "the same"))


def test_what_the_readme_measures_is_on_the_page_of_measurements_too() -> None:
    for row in README.partition("| what | measured | command |\n")[2].partition("\n\n")[0].splitlines()[1:]:
        assert row.split("|")[2].strip() in PERFORMANCE


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (README_FOLDER / link).exists()
