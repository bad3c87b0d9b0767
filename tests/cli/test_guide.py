"""The page about the command line: it speaks of every command, and of no option that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from llama_client.cli.app import app
from tests.cli.test_help import COMMANDS, command_of

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "command-line.md").read_text(encoding="utf-8")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]+")


def section(command: str) -> str:
    return PAGE.partition(f"\n## {command}\n")[2].partition("\n## ")[0]


def options_of(path: tuple[str, ...]) -> set[str]:
    params = command_of(path).get_params(click.Context(command_of(path)))
    return {opt for param in params if isinstance(param, click.Option) for opt in param.opts}


@pytest.mark.parametrize("command", app.list_commands(click.Context(app)))
def test_every_command_has_a_section_with_something_to_copy(command: str) -> None:
    assert f"llama-client {command}" in section(command)
    assert f"[`{command}`](#{command})" in PAGE


@pytest.mark.parametrize("path", [path for path in COMMANDS if len(path) == 2], ids=" ".join)
def test_every_subcommand_is_named(path: tuple[str, ...]) -> None:
    assert f"llama-client {' '.join(path)}" in section(path[0])


def test_no_option_is_named_that_is_not_there() -> None:
    assert set(_OPTION.findall(PAGE)) <= {option for path in COMMANDS for option in options_of(path)}


def test_every_exit_code_is_explained() -> None:
    codes = {code for path in COMMANDS for code in getattr(command_of(path), "exits", {})}
    assert all(f"| {code} |" in PAGE for code in codes)
