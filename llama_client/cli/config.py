"""`llama-client config`: its three commands, and `init`, which writes a file. `show` and `check` are beside it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from llama_client.cli.config_check import check
from llama_client.cli.config_show import show
from llama_client.cli.help_pages import HelpPage, json_option
from llama_client.cli.terminal import one_line, say, wrapped

if TYPE_CHECKING:
    from llama_client.cli.config_detection import Detected
    from llama_client.config.template import Choices


@click.group("config")
def command() -> None:
    """Write, show or check the configuration.

    A configuration is looked for in $LLAMA_CLIENT_CONFIG, ./llama-client.toml, [tool.llama-client] of ./pyproject.toml
    and your own config folder; the first that is found counts. LLAMA_CLIENT_* variables override its keys. None is
    needed: everything has a default.

    \b
    Examples:
      llama-client config init           answer a few questions, get a file
      llama-client config init --yes     get a file from what is found here
      llama-client config show           what holds, and where it comes from
      llama-client config check          all that is wrong, at once
    """


@command.command(
    "init",
    cls=HelpPage,
    short_help="Write a configuration file that works here.",
    exits={0: "success", 2: "wrong usage, or the file is there", 130: "Ctrl-C"},
)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; take what is found on this machine.")
@click.option("--path", type=click.Path(), metavar="FILE", help="The file to write. [default: ./llama-client.toml]")
@click.option("--user", is_flag=True, help="Write the file in your own config folder, which holds everywhere.")
@click.option("--force", is_flag=True, help="Replace the file where there is one.")
@json_option
def init(yes: bool, path: str | None, user: bool, force: bool, as_json: bool) -> None:
    """Write a configuration file that works here, with a comment for each key.

    Looks for keys in the environment (GROQ_API_KEY, TOGETHER_API_KEY), a running Ollama and models that were pulled,
    and asks who shall answer, in which order, and what may be spent. The file names the variable of a key, never the
    key itself. A file that is there stays, unless --force is given.

    \b
    Examples:
      llama-client config init
      llama-client config init --yes
      llama-client config init --yes --path staging.toml
      llama-client config init --user
      llama-client config init --yes --force --json | jq -r .default_model
    """
    file = _file(path, user=user)
    if not yes and not _is_terminal(sys.stdin):
        raise click.UsageError("standard input is no terminal, so nobody can answer: --yes takes what is found here")
    from llama_client.cli.config_detection import detect
    from llama_client.cli.config_dialogue import ask, proposal
    from llama_client.config.discovery import says_local_only
    from llama_client.config.template import config_text
    from llama_client.config.writing import require_free, write_whole

    if user:
        _make_folder(file.parent)
    # Before anybody answers questions in vain.
    require_free(file, overwrite=force)
    found, local_only = detect(os.environ), says_local_only(os.environ)
    choices = proposal(found, local_only=local_only) if yes else ask(found, local_only=local_only)
    text = config_text(choices)
    _require_right(text, file)
    write_whole(file, text, overwrite=force)
    if as_json:
        where = str(file.absolute())
        document = {"path": where, "default_model": choices.default_model, "providers": choices.providers}
        click.echo(json.dumps(document))
        return
    told = one_line(f"{file} is written. {_summary(choices)}")
    click.echo(wrapped(told, shutil.get_terminal_size().columns) if _is_terminal(sys.stdout) else told)
    say(_next_steps(file, choices, found))


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _file(path: str | None, *, user: bool) -> Path:
    from llama_client.config.discovery import FILE_NAME, expanded, user_config_file

    if path is not None and user:
        raise click.UsageError("--path and --user both say where to write: give one of them")
    if user:
        return user_config_file()
    return expanded(path) if path is not None else Path(FILE_NAME)


def _make_folder(folder: Path) -> None:
    from llama_client.errors import ConfigError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made ({error.strerror or error})") from None


def _require_right(text: str, file: Path) -> None:
    """What is written loads: answers become values of it, and a value that cannot be is found here at the latest."""
    import tomllib

    from llama_client.config.schema import read_config

    read_config(tomllib.loads(text), origin=str(file))


def _summary(choices: Choices) -> str:
    targets = ", then ".join(choices.targets)
    limit = "" if choices.budget_usd is None else f" Budget: ${choices.budget_usd} a {choices.window}."
    local = " local_only is on." if choices.local_only else ""
    return f"Who answers: {targets}.{limit.replace('a total', 'in total')}{local}"


def _next_steps(file: Path, choices: Choices, found: dict[str, Detected]) -> str:
    """What to do now: first what is still missing, then what to try."""
    from llama_client.config.discovery import is_same_file

    taken, lines = _found_here(), []
    option = "" if is_same_file(taken, file) else f" --config {file}"
    for name in choices.providers:
        needs = found[name].needs
        if needs is not None:
            lines.append(f"First, for {name}: {needs}")
    if option and taken is not None:
        lines.append(f"Here {taken} is found first; --config names the new one.")
    lines += [
        f'Try:   llama-client chat{option} "Why do llamas hum?"',
        f"Check: llama-client config check{f' {file}' if option else ''}",
        f"       llama-client doctor{option}",
    ]
    return "\n".join(lines)


def _found_here() -> Path | None:
    """The file that is found where none is named."""
    from llama_client.config.discovery import find_config
    from llama_client.errors import ConfigError

    try:
        return find_config().document.file
    except ConfigError:
        return None


command.add_command(show)
command.add_command(check)
