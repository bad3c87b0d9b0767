"""`llama-client record`: runs a command, and keeps or replays what it asks of its providers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llama_client.cli.help_pages import HelpPage, json_option
from llama_client.cli.terminal import one_line, say

if TYPE_CHECKING:
    from llama_client.testing.cassettes.commands import CommandMode, CommandRun

_EXITS = {
    0: "the command's own code, whatever it is; besides:",
    1: "a request had no recorded answer, or the cassette is broken",
    2: "wrong usage",
}
_MAX_TOLD = 10


@click.command(
    "record",
    cls=HelpPage,
    exits=_EXITS,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("words", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--to", "file", type=click.Path(), default="cassette.json", show_default=True, metavar="FILE", help="The cassette."
)
@click.option("--refresh", is_flag=True, help="Ask only what it lacks; drop what is not asked for.")
@click.option("--replay", is_flag=True, help="Answer from the cassette: no network, no key, no model.")
@json_option
def command(words: tuple[str, ...], file: str, refresh: bool, replay: bool, as_json: bool) -> None:
    """Run a command, and keep what it asks its providers.

    Whatever the programs of COMMAND ask through llama-client, in any number of processes, is written to one file, with
    the times at which answers came. Keys, cookies and accounts are left out. The file is written also where the command
    fails. Its exit code is that of the command. With --json the command's own output goes to standard error.

    \b
    Examples:
      llama-client record --to tests/chat.json -- python app.py
      llama-client record --to tests/chat.json --replay -- python app.py
      llama-client record --to tests/chat.json --refresh -- python app.py
    """
    if not words:
        raise click.UsageError("name the command to run, as in: llama-client record -- python app.py")
    if refresh and replay:
        raise click.UsageError("--refresh and --replay exclude each other: one asks providers, the other does not")
    from llama_client.testing.cassettes.commands import run_command

    mode: CommandMode = "replay" if replay else "refresh" if refresh else "record"
    try:
        ran = run_command(words, Path(file), mode, output_to_stderr=as_json)
    except FileNotFoundError:
        raise click.UsageError(f"no program is named {words[0]!r}") from None
    except OSError as error:
        raise click.UsageError(f"{words[0]}: cannot be run ({error.strerror or error})") from None
    code = ran.exit_code or (1 if ran.missing else 0)
    if as_json:
        click.echo(json.dumps({"cassette": file, "mode": mode, **ran._asdict(), "exit_code": code}))
    _tell(ran, file, mode)
    click.get_current_context().exit(code)


def _tell(ran: CommandRun, file: str, mode: CommandMode) -> None:
    for message in ran.missing[:_MAX_TOLD]:
        say("\n".join(map(one_line, message.splitlines())))
    if ran.missing:
        say(f"{file}: {_counted(len(ran.missing), 'request')} had no recorded answer")
        say("Try: llama-client record --refresh with the same file and command")
    elif mode != "replay":
        for change in ran.changes[:_MAX_TOLD] if mode == "refresh" else ():
            say(one_line(change))
        if not ran.exchanges:
            say("Nothing was recorded: the command asked no provider through llama-client")
        elif not ran.changes:
            say(f"{file}: unchanged, {_counted(ran.exchanges, 'exchange')}")
        else:
            say(f"{file}: written, {_counted(ran.exchanges, 'exchange')}")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
