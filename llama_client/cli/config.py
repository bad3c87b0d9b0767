"""`llama-client config`: `init`, which detects, asks and writes a file. `show` and `check` are in `config_show`."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar, get_args

import click

from llama_client.catalog.catalog import Catalog, Offer
from llama_client.catalog.prices import ListPrices
from llama_client.cli.config_show import check, show
from llama_client.cli.help_pages import HelpPage, json_option
from llama_client.cli.terminal import one_line, say, wrapped
from llama_client.clock import Clock
from llama_client.config.clouds import CLOUDS
from llama_client.config.load import says_local_only
from llama_client.config.schema import Config
from llama_client.config.tables import MAX_BUDGET_USD, Window
from llama_client.config.toml_write import NewConfig
from llama_client.diagnostics.config_rules import LISTED_KINDS
from llama_client.errors import LlamaClientError
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore
from llama_client.providers.registry import Providers
from llama_client.validation import suggestion

if TYPE_CHECKING:
    from llama_client.config.toml_write import NewConfig


# In the order in which they are proposed: the clouds, and where they are down what runs here.
_CLOUDS = {kind: CLOUDS[kind].key_variable for kind in LISTED_KINDS}
LOCAL = ("ollama", "gguf")
NAMES = (*_CLOUDS, *LOCAL)
DEMO_TARGET = f"gguf/{DEMO_NAME}"


@dataclass(frozen=True, slots=True)
class Detected:
    """What was found of one provider."""

    name: str
    is_there: bool
    what: str
    models: tuple[str, ...]
    is_listed: bool = False
    needs: str | None = None


def detect(environ: Mapping[str, str], *, today: date | None = None) -> dict[str, Detected]:
    """Looks for each provider that needs no address of its own."""
    store, clock = ModelStore.of_user(environ), Clock()
    day = today or clock.today()
    catalog, prices = Catalog.bundled(), ListPrices.bundled()
    found = [_cloud(name, variable, environ, _served(catalog, prices, name, day)) for name, variable in _CLOUDS.items()]
    config = Config(local_only=says_local_only(environ))
    found += [_ollama(Providers(config, store, clock, environ=environ)), _gguf(store)]
    return {each.name: each for each in found}


def _cloud(name: str, variable: str, environ: Mapping[str, str], models: tuple[str, ...]) -> Detected:
    if environ.get(variable):
        return Detected(name, True, f"{variable} is set", models)
    return Detected(name, False, f"{variable} is not set", models, needs=f"set {variable}")


def _served(catalog: Catalog, prices: ListPrices, kind: str, day: date) -> tuple[str, ...]:
    """What a cloud serves on a day, the best known first: its abilities, its price, and then the cheapest."""

    def rank(offer: Offer) -> tuple[bool, bool, Decimal]:
        price = prices.of(kind, offer.id, day)
        cost = Decimal(0) if price is None else price.input_usd_per_mtok + price.output_usd_per_mtok
        return offer.abilities is None, price is None, cost

    offers = [o for o in catalog.all_offers if o.provider_kind == kind and o.is_served(day) and not o.unverified]
    return tuple(offer.id for offer in sorted(offers, key=rank))


def _ollama(providers: Providers) -> Detected:
    try:
        served = providers.get("ollama").served_models()
        default = providers.ollama_default("ollama")
    except LlamaClientError:
        return Detected("ollama", False, "is not running", (), needs="start Ollama")
    finally:
        providers.close()
    # What it would hand on to its cloud, and what answers no chat, may be named and is not proposed.
    models = [model.id for model in served]
    if default is None:
        return Detected("ollama", False, "is running, and has no chat model", (), needs="run `ollama pull llama3.2`")
    models.sort(key=lambda model: model != default)
    return Detected("ollama", True, f"is running: {_listed(models)}", tuple(models), is_listed=True)


def _gguf(store: ModelStore) -> Detected:
    pulled, preferred = store.names(), store.preferred()
    demo = f"run `llama-client pull {DEMO_NAME}` (a tiny demo model, 93 MB to download)"
    if preferred is None:
        return Detected("gguf", False, "no model has been pulled", (DEMO_NAME,), is_listed=True, needs=demo)
    pulled.sort(key=lambda name: name != preferred.name)
    what = f"pulled: {_listed(pulled)}"
    if find_spec("xllamacpp") is None:
        install = 'run `pip install "llama-client[gguf]"`'
        what = f"{what}, but the extra is not installed"
        return Detected("gguf", False, what, tuple(pulled), is_listed=True, needs=install)
    return Detected("gguf", True, what, tuple(pulled), is_listed=True)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


_Answer = TypeVar("_Answer")
_BUDGET = re.compile(
    r"\$?\s*(?P<usd>\d+(?:\.\d+)?|\.\d+)\s*(?:usd|dollars?)?\s*(?:/|(?:an?|per|in)\b)?\s*(?P<window>[a-z]*)",
    re.IGNORECASE,
)
_WINDOWS: tuple[Window, ...] = get_args(Window)
_NO = "no limit"


class _WrongAnswerError(Exception):
    """Why an answer will not do."""


def proposal(found: Mapping[str, Detected], *, local_only: bool) -> NewConfig:
    """What is written where nobody is asked: all that was found, clouds first; the demo model where nothing was."""
    names = [name for name in NAMES if found[name].is_there and (name in LOCAL or not local_only)] or ["gguf"]
    return _choices([f"{name}/{found[name].models[0]}" for name in names], local_only=local_only)


def ask(found: Mapping[str, Detected], *, local_only: bool) -> NewConfig:
    """Asks for everything, on the terminal."""
    say("Found on this machine:")
    for each in found.values():
        say(f"  {each.name:<10}{each.what}")
    say("\nEnter takes what stands in brackets, Ctrl-C leaves everything as it is.\n")
    if not local_only:
        local_only = _ask("Refuse whatever would leave this machine (local_only)? y or n", "n", _truth)
    proposed = proposal(found, local_only=local_only)
    say("Who answers? In this order: where one fails, the next is asked.")
    names = _ask("Providers", ", ".join(proposed.providers), lambda text: _providers(text, local_only=local_only))
    targets = [f"{name}/{_model(found[name])}" for name in names]
    choices = _choices(targets, local_only=local_only)
    if any(name not in LOCAL for name in names):
        usd, window = _ask('At most how many US dollars, as in "5 a month" or "0.50 a day"?', _NO, _budget)
        choices = replace(choices, budget_usd=usd, window=window)
    return choices


def _choices(targets: list[str], *, local_only: bool) -> NewConfig:
    free = [target for target in targets if target.partition("/")[0] in LOCAL]
    demo = DEMO_TARGET if DEMO_TARGET in targets else None
    return NewConfig(targets, local_only=local_only, demo=demo, free=free)


def _ask(question: str, proposed: str | None, check: Callable[[str], _Answer]) -> _Answer:
    """Asks until there is an answer that will do."""
    while True:
        brackets = f" [{one_line(proposed)}]" if proposed else ""
        # Not by `input`, which would write to standard output.
        click.echo(f"{question}{brackets}: ", nl=False, err=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            say(f"  That line is not {error.encoding} text.")
            continue
        if not line:
            raise click.Abort
        try:
            return check(line.strip() or proposed or "")
        except _WrongAnswerError as error:
            say(f"  {error}")


def _truth(text: str) -> bool:
    if text.lower() in ("y", "yes"):
        return True
    if text.lower() in ("n", "no"):
        return False
    raise _WrongAnswerError("Answer y or n.")


def _providers(text: str, *, local_only: bool) -> list[str]:
    names = [name for name in re.split(r"[\s,]+", text.lower()) if name]
    for name in names:
        if name not in NAMES:
            raise _WrongAnswerError(f"{name!r} is none of {', '.join(NAMES)}{suggestion(name, NAMES)}")
        if local_only and name not in LOCAL:
            raise _WrongAnswerError(f"local_only refuses {name}: leave it out, or answer n to the first question.")
    if len(set(names)) < len(names):
        raise _WrongAnswerError("Name each of them once.")
    if not names:
        raise _WrongAnswerError(f"Name at least one of {', '.join(NAMES)}.")
    return names


def _model(found: Detected) -> str:
    if found.needs is not None:
        say(f"  For {found.name}, {found.needs} before it is asked.")
    proposed = found.models[0] if found.models else None
    if found.is_listed and len(found.models) > 1:
        say(one_line(f"  {found.name} has {', '.join(found.models)}"))
    return _ask(f"Model of {found.name}", proposed, lambda text: _checked_model(text, found))


def _checked_model(text: str, found: Detected) -> str:
    model = text.removeprefix(f"{found.name}/")
    if not model or any(letter.isspace() or not letter.isprintable() for letter in model):
        raise _WrongAnswerError("A model's id is one word.")
    if found.is_listed and model not in found.models:
        raise _WrongAnswerError(_not_there(model, found.name, found.models))
    retired = Catalog.bundled().explain_retirement(found.name, model, Clock().today())
    if retired is not None:
        raise _WrongAnswerError(f"{retired[0].upper()}{retired[1:]}.")
    return model


def _not_there(model: str, name: str, models: Collection[str]) -> str:
    how = "llama-client pull" if name == "gguf" else "ollama pull"
    return f"{name} has no {model!r}{suggestion(model, models) or '.'} To use it, get it first: `{how}`."


def _budget(text: str) -> tuple[Decimal | None, Window]:
    if text.lower() in (_NO, "no", "none"):
        return None, "month"
    found = _BUDGET.fullmatch(text.strip())
    if found is None:
        raise _WrongAnswerError('Write an amount and a time, as in "5 a month", or "no limit".')
    usd, word = Decimal(found["usd"]), found["window"].lower() or "month"
    window = next((window for window in _WINDOWS if word.rstrip("s") == window), None)
    if window is None:
        raise _WrongAnswerError(f"The time is one of {', '.join(_WINDOWS)}, not {word!r}.")
    if not 0 < usd <= MAX_BUDGET_USD:
        raise _WrongAnswerError(f"The amount must be above 0 and at most {MAX_BUDGET_USD:,}.")
    return usd, window


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
    from llama_client.config.files import require_free, write_whole
    from llama_client.config.load import says_local_only
    from llama_client.config.toml_write import config_text

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
    from llama_client.config.load import FILE_NAME, expanded, user_config_file

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


def _summary(choices: NewConfig) -> str:
    targets = ", then ".join(choices.targets)
    limit = "" if choices.budget_usd is None else f" Budget: ${choices.budget_usd} a {choices.window}."
    local = " local_only is on." if choices.local_only else ""
    return f"Who answers: {targets}.{limit.replace('a total', 'in total')}{local}"


def _next_steps(file: Path, choices: NewConfig, found: dict[str, Detected]) -> str:
    """What to do now: first what is still missing, then what to try."""
    from llama_client.config.load import is_same_file

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
    from llama_client.config.load import find_config
    from llama_client.errors import ConfigError

    try:
        return find_config().document.file
    except ConfigError:
        return None


command.add_command(show)
command.add_command(check)
