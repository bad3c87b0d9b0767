"""`llama-client completion`: the script that teaches a shell our words, and the answers that the script asks for."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    PowerShellComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

from llama_client.cli.help_pages import HelpPage

PROGRAM = "llama-client"
# The script calls the command with this variable, as click would name it, and what it asks for: `bash_complete`, say.
VARIABLE = "_LLAMA_CLIENT_COMPLETE"
SHELLS = ("bash", "zsh", "fish", "powershell")
_PLACES = {
    "bash": 'eval "$(llama-client completion bash)"  # in ~/.bashrc',
    "zsh": 'eval "$(llama-client completion zsh)"  # in ~/.zshrc, below compinit',
    "fish": "llama-client completion fish > ~/.config/fish/completions/llama-client.fish",
    "powershell": "llama-client completion powershell >> $PROFILE",
}
# Bash takes these for words of their own, so that it hands over `ollama/llama3.1`, `:` and `8b`.
_BREAKS = re.compile(r"[:=]+")
# What stands on a line as it is, in every shell: no quote, no substitution, no pattern, no end of a word or a command.
# Names come from files that others may have written, so a shell that does not quote them is told of no others.
_PLAIN = re.compile(r"(?!@)[\w./:@+=-]*")


@click.command("completion", cls=HelpPage, exits={0: "the script was printed", 2: "no such shell, or none given"})
@click.argument("shell", required=False, metavar="[SHELL]", type=click.Choice(SHELLS))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout: shell and script.")
def command(shell: str | None, as_json: bool) -> None:
    """Print the script with which the Tab key completes commands, options, models, GPUs and files.

    SHELL is bash (4.4 or newer), zsh, fish or powershell; without it, the one that $SHELL names. The script asks
    llama-client itself, so it stays right when the configuration or the package changes. It never uses the network.

    \b
    Examples:
      echo 'eval "$(llama-client completion bash)"' >> ~/.bashrc
      echo 'eval "$(llama-client completion zsh)"' >> ~/.zshrc
      llama-client completion fish > ~/.config/fish/completions/llama-client.fish
      llama-client completion powershell >> $PROFILE

    Each is for every shell that is opened from then on. In zsh the line has to stand below the one that calls compinit.
    For this shell alone: eval "$(llama-client completion)"
    """
    chosen = shell or _shell_of(os.environ, sys.platform)
    script = _completer(chosen).source()
    if as_json:
        click.echo(json.dumps({"shell": chosen, "script": script}))
        return
    click.echo(script)
    if sys.stdout is not None and sys.stdout.isatty():
        click.echo(f"Try: {_PLACES[chosen]}", err=True)


def answer(app: click.Command, instruction: str) -> int:
    """Answers the script of a shell on stdout.

    Args:
        app: The whole command.
        instruction: What the script put into `VARIABLE`.

    Returns:
        The exit code: 1 where the script is none of ours.
    """
    shell, _, verb = instruction.partition("_")
    if shell not in SHELLS or verb != "complete":
        return 1
    try:
        text = _completer(shell, app).complete()
    except (KeyError, ValueError):  # without the words that a script hands over, there is nothing to complete
        return 1
    # As bytes: Windows would make two characters of each line's end.
    click.echo(text.encode())
    return 0


class _Unquoted(ShellComplete):
    """A shell that puts an answer on the line as it is."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """See `ShellComplete`. Without what the shell would take for more than a word."""
        items = super().get_completions(args, incomplete)
        return [item for item in items if item.type != "plain" or _PLAIN.fullmatch(str(item.value))]


class _WholeWords(ShellComplete):
    """A shell that puts an answer in the place of the whole word, also where that is `--model=groq/`."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """See `ShellComplete`."""
        items = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if not (equals and option.startswith("-")):
            return items
        return [CompletionItem(f"{option}={item.value}", item.type, item.help) for item in items]


class _Zsh(_WholeWords, ZshComplete):
    """Zsh."""


class _Fish(_WholeWords, FishComplete):
    """Fish, whose script cuts a line at each comma, and which does not quote a tilde."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """See `ShellComplete`."""
        items = super().get_completions(args, incomplete)
        return [item for item in items if item.type != "plain" or not re.search("[,~]", item.value)]

    def format_completion(self, item: CompletionItem[str]) -> str:
        """See `ShellComplete`."""
        return super().format_completion(CompletionItem(item.value, item.type, (item.help or "").replace(",", ";")))


class _PowerShell(_Unquoted, _WholeWords, PowerShellComplete):
    """Windows PowerShell and PowerShell. Told of nothing it completes files by itself, and quotes them."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """See `ShellComplete`."""
        return [item for item in super().get_completions(args, incomplete) if item.type == "plain"]


class _Bash(_Unquoted, BashComplete):
    """Bash, where a word may hold the characters that Bash breaks words at: `ollama/llama3.1:8b`."""

    _stem = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """See `ShellComplete`. Puts the words together again, and remembers what Bash holds to be in front."""
        words = split_arg_string(os.environ["COMP_WORDS"])
        here = int(os.environ["COMP_CWORD"])
        whole: list[str] = []
        before = ""
        for word in (*words[:here], words[here] if here < len(words) else ""):
            is_glued = bool(whole and word) and bool(_BREAKS.fullmatch(word) or _BREAKS.fullmatch(before))
            if is_glued:
                whole[-1] += word
            else:
                whole.append(word)
            before = word
        *args, incomplete = whole[1:] or [""]
        last = words[here] if here < len(words) else ""
        if incomplete != last or _BREAKS.fullmatch(last):
            value = incomplete.partition("=")[2] if incomplete.startswith("-") else incomplete
            self._stem = value[: value.rfind(":") + 1]
        return args, incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """See `ShellComplete`. Bash puts its answer behind the last break, and looks for files by what was typed."""
        return f"{item.type},{str(item.value).removeprefix(self._stem) if item.type == 'plain' else ''}"


def _completer(shell: str, app: click.Command | None = None) -> ShellComplete:
    kinds: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish, "powershell": _PowerShell}
    return kinds[shell](app or click.Command(PROGRAM), {}, PROGRAM, VARIABLE)


def _shell_of(environ: Mapping[str, str], platform: str) -> str:
    """The user's shell.

    Raises:
        click.UsageError: Nobody knows it, or it is none that can be completed in.
    """
    name = PurePath(environ.get("SHELL", "")).name.removesuffix(".exe")
    if not name and platform == "win32":
        return "powershell"
    name = {"pwsh": "powershell"}.get(name, name)
    if name not in SHELLS:
        told = f"$SHELL names {name}, for which there is no script" if name else "$SHELL names none"
        raise click.UsageError(f"which shell? {told}: say one of {', '.join(SHELLS)}")
    return name
