"""Every block of README.md and docs/ is true: programs run, configurations load, sessions go as they are shown."""

from __future__ import annotations

import functools
import json
import tomllib
from pathlib import Path

import pytest

from llama_client import load_config
from tests.documentation import notebooks, programs, sessions
from tests.documentation.pages import Block, blocks

KINDS = ("python", "toml", "console", "json", "csv", "")
BLOCKS = blocks()
# What only code begins with; it may not stand in a block that nobody runs.
_SIGNS_OF_CODE = ("$ ", "import ", "from ", "llama-client ", "pip ", "[providers", "[[")


@functools.cache
def of_kind(language: str) -> list[Block]:
    return [
        block
        for block in BLOCKS
        # The cells of a notebook are run as a whole, by test_notebooks.py.
        if block.language == language and block.page not in notebooks.PAGES and not _is_tests(block)
    ]


def _is_tests(block: Block) -> bool:
    """Whether it is a file of tests, which a session below it runs."""
    is_file = block.title is not None and Path(block.title).match("test_*.py")
    if is_file:
        below = [other for other in BLOCKS if other.page == block.page and other.line > block.line]
        assert any(f"pytest -q {block.title}" in other.source for other in below), f"{block.place}: no session runs it"
    return is_file


def each(language: str) -> pytest.MarkDecorator:
    found = of_kind(language)
    return pytest.mark.parametrize("block", found, ids=[block.place for block in found])


@pytest.fixture
def folder(block: Block, request: pytest.FixtureRequest) -> Path:
    """The reader's folder, with the files in it that the page has shown above this block."""
    is_migrating = Path(block.page).name == "migrating.md"
    folder: Path = request.getfixturevalue("migrant" if is_migrating else "reader")
    for other in BLOCKS:
        if other.page == block.page and other.title is not None and other.line < block.line:
            place = folder / other.title
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(other.source, encoding="utf-8")
    return folder


def output_below(block: Block) -> str | None:
    """What stands in a plain block right below another."""
    below = (other for other in of_kind("") if other.page == block.page and other.follows == block.line)
    return next((other.source for other in below), None)


@each("python")
def test_a_program_runs_and_prints_what_it_says(block: Block, folder: Path) -> None:
    ran = programs.run(block.source, block.place)
    assert (ran.code, ran.err) == (0, "")
    assert programs.broken_promises(block.source, ran.out) == [], f"it printed:\n{ran.out}"
    output = output_below(block)
    if output is not None:
        assert sessions.matches(ran.out.splitlines(), output.splitlines()), f"it printed:\n{ran.out}"


@each("python")
def test_a_program_can_be_pasted_at_the_prompt_of_python(block: Block) -> None:
    line = programs.cut_at_the_prompt(block.source)
    assert line is None, f"{block.page}:{block.line + (line or 0)}: a comment instead of an empty line, or one after it"


@each("toml")
def test_a_configuration_is_a_whole_one(block: Block) -> None:
    config = load_config(tomllib.loads(block.source), environ={})
    assert config.default_model is not None
    assert config.default_model in config.routes or config.default_model.partition("/")[0] in config.providers


@each("console")
def test_a_session_goes_as_it_is_shown(block: Block, folder: Path, demo_model: Path) -> None:
    sessions.run(block.source, demo_model=demo_model, output=output_below(block))


@each("json")
def test_a_json_block_is_json(block: Block) -> None:
    json.loads(block.source)


@each("csv")
def test_a_table_is_a_file_that_a_block_below_reads(block: Block) -> None:
    below = [other.source for other in BLOCKS if other.page == block.page and other.line > block.line]
    assert block.title is not None
    assert any(block.title in source for source in below)


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}))
def test_every_block_is_of_a_kind_that_is_run(page: str) -> None:
    strangers = [block for block in BLOCKS if block.page == page and block.language not in KINDS]
    assert [f"{block.place}: {block.language}" for block in strangers] == []


@each("")
def test_a_plain_block_is_no_code(block: Block) -> None:
    """It is a tree, a formula or output. What it shows is checked where a program or a session stands right above."""
    assert [line for line in block.source.splitlines() if line.lstrip().startswith(_SIGNS_OF_CODE)] == []
