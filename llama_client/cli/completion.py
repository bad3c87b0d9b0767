"""`llama-client completion`: the shell scripts, and the candidates that they ask for."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click
from click import shell_completion
from click.shell_completion import CompletionItem, ShellComplete

from llama_client.cli.help_pages import COMPLETE_VARIABLE, HelpPage
from llama_client.cli.terminal import is_terminal, one_line
from llama_client.errors import LlamaClientError

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.crossover.tables import Tables

# Candidates, each with its explanation (shown by zsh, fish and PowerShell; may be empty).
Candidates = Iterable[tuple[str, str]]
# What click calls to complete a parameter.
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]

_SERVER_PRECISIONS = ("bf16", "fp16", "fp8", "fp8_block", "nvfp4", "mxfp4", "int4")
_GROUPS = (
    ("provider", "of the attempt"),
    ("target", "provider and model"),
    ("route", "the named list of targets"),
    ("day", "in the configured time zone"),
    ("tag:", "followed by a tag's key"),
)
_SOURCES = (
    ("smollm2-135m", "a tiny demo model"),
    ("hf:", "ORG/REPO/FILE.gguf of the Hugging Face hub"),
    ("ollama:", "a model that Ollama has downloaded"),
)


def _completing(candidates: Callable[[click.Context], Candidates], *, or_files: bool = False) -> Complete:
    """Completes with candidates; with `or_files` where none fits with files, as a shell shows either, not both."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        # Each name once, in the order in which it comes.
        found: dict[str, str] = {}
        is_path = or_files and incomplete.startswith((".", "~", os.sep))
        for name, text in () if is_path else candidates(ctx):
            # A name with a line end would be several answers, one that starts with a dash an option.
            if name.startswith(incomplete) and name.isprintable() and not name.startswith("-"):
                found.setdefault(name, one_line(text))
        if or_files and not found:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(name, help=text or None) for name, text in found.items()]

    return complete


def _precisions(_ctx: click.Context) -> Candidates:
    from llama_client.crossover.precisions import gguf_names

    return ((name, "") for name in (*_SERVER_PRECISIONS, *gguf_names()))


def _engines(_ctx: click.Context) -> Candidates:
    from llama_client.crossover.throughput.engines import ENGINES

    return ((name, "") for name in ENGINES)


def _targets(config: Config) -> Iterator[tuple[str, str]]:
    from llama_client.config.provider_tables import GgufConfig
    from llama_client.providers.gguf.adapters import variants

    if config.default_model is not None:
        yield config.default_model, "default_model"
    for name, route in config.routes.items():
        yield name, f"route of {len(route.targets)} targets" if len(route.targets) != 1 else "route of 1 target"
    for name in _pulled():
        yield f"gguf/{name}", "pulled"
    for name, table in config.providers.items():
        if isinstance(table, GgufConfig):
            yield from ((f"{name}/{model}", "configured") for model in variants("default", table.lora))
    written = [row.target for route in config.routes.values() for row in route.targets]
    written += [model.target for model in config.models] + [price.target for price in config.prices]
    yield from ((target, "configured") for target in written if "/" in target and "*" not in target)
    from llama_client.providers.services import all_services, known_catalog

    catalog, today = known_catalog(), datetime.now(UTC).date()
    served = [offer for offer in catalog.all_offers if offer.is_served(today)]
    yield from ((offer.target, offer.name) for offer in served)
    yield from ((f"{row.name}/{model}", row.title) for row in all_services() for model in row.models)
    yield from ((name, "any provider of it") for name in dict.fromkeys(offer.name for offer in served))


def _pulled() -> list[str]:
    from llama_client.providers.gguf.store import ModelStore

    with suppress(LlamaClientError, OSError):
        return ModelStore.of_user().names()
    return []


def _config(ctx: click.Context) -> Config:
    """The configuration, by `--config` where that is earlier on the line; an empty one where it is wrong."""
    from llama_client.config.load import load_config

    with suppress(LlamaClientError, OSError):
        return load_config(ctx.params.get("config"))
    return load_config({}, environ={})


def _tables(ctx: click.Context) -> Tables:
    from llama_client.crossover.tables import Tables
    from llama_client.crossover.user_tables import tables_of

    with suppress(LlamaClientError):
        return tables_of(_config(ctx))
    return Tables.bundled()


targets = _completing(lambda ctx: _targets(_config(ctx)))
architectures = _completing(lambda ctx: ((model.name, "") for model in _tables(ctx).models))
architectures_or_files = _completing(
    lambda ctx: [*((model.name, "") for model in _tables(ctx).models), *((name, "pulled") for name in _pulled())],
    or_files=True,
)
sources = _completing(lambda _ctx: _SOURCES, or_files=True)
files = _completing(lambda _ctx: (), or_files=True)
gpus = _completing(lambda ctx: ((gpu.name, gpu.title) for gpu in _tables(ctx).gpus))
gpus_or_cpu = _completing(lambda ctx: [*((gpu.name, gpu.title) for gpu in _tables(ctx).gpus), ("cpu", "no GPU")])
precisions = _completing(_precisions)
engines = _completing(_engines)
groups = _completing(lambda _ctx: _GROUPS)

PROGRAM = "llama-client"
# Each shell, and where its script belongs.
_PLACES = {
    "bash": 'eval "$(llama-client completion bash)"  # in ~/.bashrc',
    "zsh": 'eval "$(llama-client completion zsh)"  # in ~/.zshrc, below compinit',
    "fish": "llama-client completion fish > ~/.config/fish/completions/llama-client.fish",
    "powershell": "llama-client completion powershell >> $PROFILE",
}
SHELLS = tuple(_PLACES)
# Bash takes these for words of their own: it passes `ollama/llama3.1`, `:` and `8b`.
_BREAKS = re.compile(r"[:=]+")
# Safe without quotes in every shell: no quote, no substitution, no pattern, no end of a word or a command. Names come
# from files that others may have written, so a shell that does not quote them gets no others.
_PLAIN = re.compile(r"(?!@)[\w./:@+=-]*")


@click.command("completion", cls=HelpPage, exits={0: "the script was printed", 2: "no such shell, or none given"})
@click.argument("shell", required=False, metavar="[SHELL]", type=click.Choice(SHELLS))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout: shell and script.")
def command(shell: str | None, as_json: bool) -> None:
    """Print the script with which the Tab key completes commands, options, models, GPUs and files.

    SHELL is bash (4.4 or newer), zsh, fish or powershell; without it, the one that $SHELL names. The script calls
    llama-client itself, so it stays right when the configuration or the package changes. It never uses the network.

    \b
    Examples:
      echo 'eval "$(llama-client completion bash)"' >> ~/.bashrc
      echo 'eval "$(llama-client completion zsh)"' >> ~/.zshrc
      llama-client completion fish > ~/.config/fish/completions/llama-client.fish
      llama-client completion powershell >> $PROFILE

    Each applies to every shell that is opened from then on. In zsh the line must be below the one that calls compinit.
    For this shell alone: eval "$(llama-client completion)"
    """
    chosen = shell or _shell_of(os.environ, sys.platform)
    script = _completer(chosen).source()
    if as_json:
        click.echo(json.dumps({"shell": chosen, "script": script}))
        return
    click.echo(script)
    if is_terminal(sys.stdout):
        click.echo(f"Try: {_PLACES[chosen]}", err=True)


def answer(app: click.Command, instruction: str) -> int:
    shell, _, verb = instruction.partition("_")
    if shell not in SHELLS or verb != "complete":
        return 1
    try:
        text = _completer(shell, app).complete()
    except (KeyError, ValueError):  # the words that a script passes are missing
        return 1
    # As bytes: Windows would make two characters of each line's end.
    click.echo(text.encode())
    return 0


class _Shell(ShellComplete):
    # Answers that the shell takes as one word.
    safe = re.compile(r".*", re.DOTALL)
    # Whether an answer replaces the whole word, also where that is `--model=groq/`.
    replaces_word = True

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        items = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if self.replaces_word and equals and option.startswith("-"):
            items = [CompletionItem(f"{option}={item.value}", item.type, item.help) for item in items]
        return [item for item in items if item.type != "plain" or self.safe.fullmatch(str(item.value))]


class _Zsh(_Shell, shell_completion.ZshComplete): ...


class _Fish(_Shell, shell_completion.FishComplete):
    # Its script splits a line at each comma, and it does not quote a tilde.
    safe = re.compile(r"[^,~]*", re.DOTALL)

    def format_completion(self, item: CompletionItem[str]) -> str:
        return super().format_completion(CompletionItem(item.value, item.type, (item.help or "").replace(",", ";")))


class _PowerShell(_Shell, shell_completion.PowerShellComplete):
    """Windows PowerShell and PowerShell. Without an answer it completes files by itself, and quotes them."""

    safe = _PLAIN

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        return [item for item in super().get_completions(args, incomplete) if item.type == "plain"]


class _Bash(_Shell, shell_completion.BashComplete):
    """Bash, where a word may hold the characters that Bash breaks words at: `ollama/llama3.1:8b`."""

    safe, replaces_word = _PLAIN, False
    _stem = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Joins the words that Bash broke, and remembers the part that Bash keeps."""
        words = shell_completion.split_arg_string(os.environ["COMP_WORDS"])
        here = int(os.environ["COMP_CWORD"])
        last = words[here] if here < len(words) else ""
        whole: list[str] = []
        before = ""
        for word in (*words[:here], last):
            if whole and word and (_BREAKS.fullmatch(word) or _BREAKS.fullmatch(before)):
                whole[-1] += word
            else:
                whole.append(word)
            before = word
        *args, incomplete = whole[1:] or [""]
        if incomplete != last or _BREAKS.fullmatch(last):
            value = incomplete.partition("=")[2] if incomplete.startswith("-") else incomplete
            self._stem = value[: value.rfind(":") + 1]
        return args, incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Bash puts an answer behind the last break, and looks for files by what was typed."""
        return f"{item.type},{str(item.value).removeprefix(self._stem) if item.type == 'plain' else ''}"


def _completer(shell: str, app: click.Command | None = None) -> ShellComplete:
    kinds: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish, "powershell": _PowerShell}
    return kinds[shell](app or click.Command(PROGRAM), {}, PROGRAM, COMPLETE_VARIABLE)


def _shell_of(environ: Mapping[str, str], platform: str) -> str:
    name = PurePath(environ.get("SHELL", "")).name.removesuffix(".exe")
    name = "powershell" if name == "pwsh" or (not name and platform == "win32") else name
    if name not in SHELLS:
        found = f"$SHELL names {name}, for which there is no script" if name else "$SHELL names none"
        raise click.UsageError(f"which shell? {found}: give one of {', '.join(SHELLS)}")
    return name
