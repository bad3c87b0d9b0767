"""What pages name is there, and what is there is named: examples, benchmarks, commands."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from llama_client.cli.app import app
from tests.documentation.pages import DOCS, ROOT, name_of, pages

_FILE = re.compile(r"\b(?:examples|benchmarks)/[\w/]+\.py\b")
_LINK = re.compile(r"\]\((?P<place>[^)#:]+)\)")
EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("page", [*pages(), EXAMPLES / "README.md"], ids=name_of)
def test_every_program_that_a_page_names_is_there(page: Path) -> None:
    named = set(_FILE.findall(page.read_text(encoding="utf-8")))
    assert [file for file in sorted(named) if not (ROOT / file).exists()] == []


def test_every_example_is_in_the_index_of_examples() -> None:
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    linked = set(_LINK.findall(index))
    assert [place for place in sorted(linked) if not (EXAMPLES / place).exists()] == []
    assert [path.name for path in sorted(EXAMPLES.glob("*.py")) if path.name not in linked] == []


def test_every_command_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert [name for name in app.list_commands(click.Context(app)) if f"| `{name}` |" not in page] == []
