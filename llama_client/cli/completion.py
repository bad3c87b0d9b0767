"""`llama-client completion`: the shell scripts, and the candidates that they ask for."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

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
from llama_client.cli.terminal import one_line
from llama_client.errors import LlamaClientError

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.crossover.tables import Tables


# What stands in a place of the command line, and what explains it (shown by zsh, fish and PowerShell; may be empty).
Suggested = Iterable[tuple[str, str]]

_SERVER_PRECISIONS = ("bf16", "fp16", "fp8", "fp8_block", "nvfp4", "int4")
_ENGINES = ("trtllm", "vllm", "sglang", "llama.cpp")
_GROUPS = (
    ("provider", "who answered"),
    ("target", "provider and model"),
    ("route", "the named list of targets"),
    ("day", "in the configured time zone"),
    ("tag:", "followed by a tag's key"),
)


def targets(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """What `model` may be: the configuration's own names, what was pulled, and what the catalogue knows."""
    return _matching(incomplete, _targets(_config(ctx)))


def architectures(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Models of the tables, whose shape is known."""
    return _matching(incomplete, ((model.name, "") for model in _tables(ctx).models))


def architectures_or_files(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The same, what was pulled, and where that fits nothing, files."""
    known = ((model.name, "") for model in _tables(ctx).models)
    return _or_files(incomplete, [*known, *((name, "pulled") for name in _pulled())])


def sources(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """What `pull` takes."""
    return _or_files(
        incomplete,
        [
            ("smollm2-135m", "a tiny demo model"),
            ("hf:", "ORG/REPO/FILE.gguf of the Hugging Face hub"),
            ("ollama:", "a model that Ollama has downloaded"),
        ],
    )


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Any file, by the shell's own means."""
    return [CompletionItem(incomplete, type="file")]


def gpus(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """GPUs of the tables."""
    return _matching(incomplete, ((gpu.name, gpu.title) for gpu in _tables(ctx).gpus))


def gpus_or_cpu(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The same, or none."""
    return _matching(incomplete, [*((gpu.name, gpu.title) for gpu in _tables(ctx).gpus), ("cpu", "no GPU")])


def precisions(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Precisions of weights."""
    from llama_client.crossover.precisions import gguf_names

    return _matching(incomplete, ((name, "") for name in (*_SERVER_PRECISIONS, *gguf_names())))


def engines(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Engines whose speed is known."""
    return _matching(incomplete, ((name, "") for name in _ENGINES))


def groups(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """By what costs are grouped."""
    return _matching(incomplete, _GROUPS)


def _matching(incomplete: str, suggested: Suggested) -> list[CompletionItem[str]]:
    """Each name once, in the order in which it comes.

    A name with a line end would be several answers, one that begins with a dash an option; neither is offered.
    """
    found: dict[str, str] = {}
    for name, told in suggested:
        if name.startswith(incomplete) and name.isprintable() and not name.startswith("-"):
            found.setdefault(name, one_line(told))
    return [CompletionItem(name, help=told or None) for name, told in found.items()]


def _or_files(incomplete: str, suggested: Suggested) -> list[CompletionItem[str]]:
    """The names that fit, else the files; a shell shows either, not both."""
    named = [] if incomplete.startswith((".", "~", os.sep)) else _matching(incomplete, suggested)
    return named or [CompletionItem(incomplete, type="file")]


def _targets(config: Config) -> Iterator[tuple[str, str]]:
    if config.default_model is not None:
        yield config.default_model, "default_model"
    for name, route in config.routes.items():
        yield name, f"route of {len(route.targets)} targets" if len(route.targets) != 1 else "route of 1 target"
    for name in _pulled():
        yield f"gguf/{name}", "pulled"
    for name, table in config.providers.items():
        if table.kind == "gguf":
            yield f"{name}/default", "configured"
    written = [row.target for route in config.routes.values() for row in route.targets if "/" in row.target]
    for target in (*written, *(model.target for model in config.models), *(price.target for price in config.prices)):
        if "*" not in target:
            yield target, "configured"
    yield from _catalogued()


def _catalogued() -> Iterator[tuple[str, str]]:
    """Targets that are served today, and the names of their models, for which any who serves them answers."""
    from llama_client.catalog.catalog import Catalog

    catalog, today = Catalog.bundled(), datetime.now(UTC).date()
    served = [offer for offer in catalog.all_offers if offer.is_served(today)]
    yield from ((offer.target, offer.name) for offer in served)
    yield from ((name, "whoever serves it") for name in dict.fromkeys(offer.name for offer in served))


def _pulled() -> list[str]:
    from llama_client.providers.gguf.store import ModelStore

    try:
        return ModelStore.of_user().names()
    except (LlamaClientError, OSError):
        return []


def _config(ctx: click.Context) -> Config:
    """The configuration, by `--config` where that stands earlier on the line; an empty one where it is wrong."""
    from llama_client.config.load import load_config

    try:
        return load_config(ctx.params.get("config"))
    except (LlamaClientError, OSError):
        return load_config({}, environ={})


def _tables(ctx: click.Context) -> Tables:
    from llama_client.crossover.tables import Tables
    from llama_client.crossover.user_tables import tables_of

    try:
        return tables_of(_config(ctx))
    except LlamaClientError:
        return Tables.bundled()


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
    """Answers the script of a shell on stdout."""
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
    """The user's shell."""
    name = PurePath(environ.get("SHELL", "")).name.removesuffix(".exe")
    if not name and platform == "win32":
        return "powershell"
    name = {"pwsh": "powershell"}.get(name, name)
    if name not in SHELLS:
        told = f"$SHELL names {name}, for which there is no script" if name else "$SHELL names none"
        raise click.UsageError(f"which shell? {told}: say one of {', '.join(SHELLS)}")
    return name
