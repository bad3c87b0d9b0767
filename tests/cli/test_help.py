"""`--help`: it fits 80 columns, its examples are real, and its options are told as people ask for them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from llama_client.cli.app import app
from llama_client.cli.crossover import SECTIONS
from tests.cli.conftest import run

WIDTH = 80


def commands(group: click.Group = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and subcommand, by its words."""
    yield path
    context = click.Context(group, info_name="llama-client")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = list(commands())


def command_of(path: tuple[str, ...]) -> click.Command:
    command: click.Command = app
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


def help_of(path: tuple[str, ...]) -> str:
    """The text of `--help`, on a terminal of 80 columns."""
    context = click.Context(command_of(path), info_name=" ".join(["llama-client", *path]), terminal_width=WIDTH - 2)
    return context.get_help()


def examples() -> list[str]:
    """Every command of ours in every help, with its continued lines."""
    texts = (re.sub(r" *\\\n +", " ", help_of(path)) for path in COMMANDS)
    lines = [line.strip() for text in texts for line in text.splitlines()]
    found = [line for line in lines if line.startswith(("llama-client ", "cat ")) and not line.endswith(":")]
    return list(dict.fromkeys(re.sub(r" {3,}\S.*", "", line) for line in found))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_fits_80_columns(path: tuple[str, ...]) -> None:
    assert max(map(len, help_of(path).splitlines())) <= WIDTH


def test_help_fits_as_it_is_printed() -> None:
    assert max(map(len, run("crossover", "--help", env={"COLUMNS": "80"}).out.splitlines())) <= WIDTH


@pytest.mark.parametrize("example", examples())
def test_each_example_is_one_that_the_command_takes(example: str) -> None:
    words = shlex.split(example.partition(" | jq")[0].partition(" > ")[0].partition(" < ")[0].partition(" >> ")[0])
    words = words[words.index("llama-client") + 1 :]
    path: list[str] = []
    while isinstance(command_of(tuple(path)), click.Group) and words and not words[0].startswith("-"):
        path.append(words.pop(0))
    if {"--help", "-h"}.isdisjoint(words):
        with command_of(tuple(path)).make_context("llama-client", words) as context:
            assert context.args == []


@pytest.mark.parametrize(
    "path", [path for path in COMMANDS if not isinstance(command_of(path), click.Group)], ids=" ".join
)
def test_every_command_has_json_and_says_what_its_exit_codes_mean(path: tuple[str, ...]) -> None:
    text = help_of(path)
    assert "--json" in text
    assert re.search(r"^Exit codes", text, re.MULTILINE)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    for param in command_of(path).params:
        assert isinstance(param, click.Argument) or (isinstance(param, click.Option) and param.help), param.name


def test_the_options_of_crossover_stand_under_headings() -> None:
    text = help_of(("crossover",))
    assert all(f"\n{heading}:\n" in text for heading in SECTIONS)
    rest = text.partition("\nOptions:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\S+)", rest, re.MULTILINE) == ["--config", "--help"]


def test_a_command_that_is_nearly_right_is_told() -> None:
    ran = run("chatt", "hi")
    assert (ran.code, ran.out) == (2, "")
    assert "no command is named 'chatt'; did you mean 'chat'?" in ran.err


def test_a_command_that_is_nothing_like_one_is_told_all() -> None:
    assert "(commands: bench, bulk, chat, " in run("xyzzy").err
