"""`llama-client config init`: detects providers, asks questions, writes a file. For `show`, `check`: `config_show`."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar, get_args

import click

from llama_client.catalog.catalog import Catalog, Offer
from llama_client.catalog.prices import ListPrices
from llama_client.cli.config_show import check, show
from llama_client.cli.help_pages import HelpPage, json_option
from llama_client.cli.terminal import fitted, is_terminal, one_line, say
from llama_client.clock import Clock
from llama_client.config.files import require_writable, write_text
from llama_client.config.load import FILE_NAME, expanded, find_config, is_same_file, local_only_source, user_config_file
from llama_client.config.schema import Config, read_config
from llama_client.config.tables import MAX_BUDGET_USD, Window
from llama_client.config.toml_write import NewConfig, config_text
from llama_client.errors import ConfigError, LlamaClientError
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore
from llama_client.providers.registry import Providers
from llama_client.providers.services import Service, all_services, known_catalog
from llama_client.validation import suggestion

# Listed also where they are not detected.
_SHOWN = ("groq", "together", "ollama", "gguf")


@dataclass(frozen=True, slots=True)
class Detected:
    name: str
    is_there: bool
    what: str
    models: tuple[str, ...]
    is_listed: bool = False
    # What is missing before it can be used.
    needs: str | None = None
    is_local: bool = False


def detect(environ: Mapping[str, str], *, today: date | None = None) -> dict[str, Detected]:
    """Detects each provider with a default address, in the order in which they are proposed."""
    store, clock = ModelStore.of_user(environ), Clock()
    day = today or clock.today()
    catalog, prices = known_catalog(), ListPrices.bundled()
    rows = [row for row in all_services() if row.name != "ollama"]
    found = [_cloud(row, environ, _served(catalog, prices, row, day)) for row in rows if not row.is_local]
    found += [_own_server(row) for row in rows if row.is_local]
    config = Config(local_only=local_only_source(environ) is not None)
    found += [_ollama(Providers(config, store, clock, environ=environ)), _gguf(store)]
    return {each.name: each for each in found}


def _cloud(row: Service, environ: Mapping[str, str], models: tuple[str, ...]) -> Detected:
    variable = row.key_variable(environ)
    if variable is None or environ.get(variable):
        return Detected(row.name, True, f"{variable} is set" if variable else f"installed: {row.package}", models)
    return Detected(row.name, False, f"{variable} is not set", models, needs=f"set {variable}")


def _own_server(row: Service) -> Detected:
    """A server of the user's own, which is not contacted: other programs use the same ports."""
    what = f"not looked for; usually at {row.base_url}" if row.base_url else f"installed: {row.package}"
    needs = "start the server" if row.base_url else None
    return Detected(row.name, False, what, tuple(row.models), needs=needs, is_local=not row.forwards)


def _served(catalog: Catalog, prices: ListPrices, row: Service, day: date) -> tuple[str, ...]:
    """The models that a cloud serves on a day: those with known abilities first, then by known price."""

    def rank(offer: Offer) -> tuple[bool, bool, Decimal]:
        price = prices.of(row.name, offer.id, day)
        cost = Decimal(0) if price is None else price.input_usd_per_mtok + price.output_usd_per_mtok
        return offer.abilities is None, price is None, cost

    offers = [o for o in catalog.all_offers if o.provider_kind == row.name and o.is_served(day) and not o.unverified]
    return tuple(offer.id for offer in sorted(offers, key=rank)) or tuple(row.models)


def _ollama(providers: Providers) -> Detected:
    try:
        served = providers.get("ollama").served_models()
        default = providers.ollama_default("ollama")
    except LlamaClientError:
        return Detected("ollama", False, "is not running", (), needs="start Ollama", is_local=True)
    finally:
        providers.close()
    if default is None:
        what, needs = "is running, and has no chat model", "run `ollama pull llama3.2`"
        return Detected("ollama", False, what, (), needs=needs, is_local=True)
    # Models that it forwards to its cloud or that cannot chat are listed, and not proposed.
    models = sorted((model.id for model in served), key=lambda model: model != default)
    return Detected("ollama", True, f"is running: {_listed(models)}", tuple(models), is_listed=True, is_local=True)


def _gguf(store: ModelStore) -> Detected:
    pulled, preferred = store.names(), store.preferred()
    demo = f"run `llama-client pull {DEMO_NAME}` (a tiny demo model, 93 MB to download)"
    if preferred is None:
        what, needs, models = "no model has been pulled", demo, [DEMO_NAME]
    else:
        models = sorted(pulled, key=lambda name: name != preferred.name)
        what, needs = f"pulled: {_listed(models)}", None
        if find_spec("xllamacpp") is None:
            what, needs = f"{what}, but the extra is not installed", 'run `pip install "llama-client[gguf]"`'
    return Detected("gguf", needs is None, what, tuple(models), is_listed=True, needs=needs, is_local=True)


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


def proposal(found: Mapping[str, Detected], *, local_only: bool) -> NewConfig:
    """The configuration without questions: all that was detected, clouds first; the demo model without any."""
    usable = [each for each in found.values() if each.is_there and each.models and (each.is_local or not local_only)]
    targets = [f"{each.name}/{each.models[0]}" for each in usable or [found["gguf"]]]
    return _choices(targets, found, local_only=local_only)


def ask(found: Mapping[str, Detected], *, local_only: bool) -> NewConfig:
    say("Found on this machine:")
    for each in found.values():
        if each.is_there or each.name in _SHOWN:
            say(f"  {each.name:<11}{each.what}")
    say(f"Other providers: {', '.join(name for name in found if name not in _SHOWN)}.")
    say("\nEnter accepts the value in brackets, Ctrl-C stops without writing anything.\n")
    if not local_only:
        local_only = _ask("Refuse every connection beyond this machine (local_only)? y or n", "n", _truth)
    proposed = proposal(found, local_only=local_only)
    say("Providers, in the order in which they are tried: if one fails, the next is called.")
    default = ", ".join(proposed.providers)
    names = _ask("Providers", default, lambda text: _providers(text, found, local_only=local_only))
    choices = _choices([f"{name}/{_model(found[name])}" for name in names], found, local_only=local_only)
    if not all(found[name].is_local for name in names):
        usd, window = _ask('At most how many US dollars, as in "5 a month" or "0.50 a day"?', _NO, _budget)
        choices = replace(choices, budget_usd=usd, window=window)
    return choices


def _choices(targets: list[str], found: Mapping[str, Detected], *, local_only: bool) -> NewConfig:
    free = [target for target in targets if found[target.partition("/")[0]].is_local]
    return NewConfig(targets, local_only=local_only, demo=f"gguf/{DEMO_NAME}", free=free)


def _ask(question: str, proposed: str | None, check: Callable[[str], _Answer]) -> _Answer:
    while True:
        brackets = f" [{one_line(proposed)}]" if proposed else ""
        # Not `input`, which writes to standard output.
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
        except click.UsageError as error:
            say(f"  {error.message}")


def _truth(text: str) -> bool:
    if text.lower() not in ("y", "yes", "n", "no"):
        raise click.UsageError("Answer y or n.")
    return text.lower().startswith("y")


def _providers(text: str, found: Mapping[str, Detected], *, local_only: bool) -> list[str]:
    names = [name for name in re.split(r"[\s,]+", text.lower()) if name]
    for name in names:
        if name not in found:
            raise click.UsageError(f"{name!r} is not one of {', '.join(found)}{suggestion(name, found)}")
        if local_only and not found[name].is_local:
            raise click.UsageError(f"local_only refuses {name}: leave it out, or answer n to the first question.")
    if len(set(names)) < len(names):
        raise click.UsageError("Name each of them once.")
    if not names:
        raise click.UsageError(f"Name at least one of {', '.join(found)}.")
    return names


def _model(found: Detected) -> str:
    if found.needs is not None:
        say(f"  Before {found.name} can be used: {found.needs}.")
    proposed = found.models[0] if found.models else None
    if found.is_listed and len(found.models) > 1:
        say(one_line(f"  {found.name} has {', '.join(found.models)}"))
    return _ask(f"Model of {found.name}", proposed, lambda text: _checked_model(text, found))


def _checked_model(text: str, found: Detected) -> str:
    model = text.removeprefix(f"{found.name}/")
    if not model or any(letter.isspace() or not letter.isprintable() for letter in model):
        raise click.UsageError("A model's id is one word.")
    if found.is_listed and model not in found.models:
        pull = f"`{'llama-client' if found.name == 'gguf' else 'ollama'} pull`"
        hint = suggestion(model, found.models) or "."
        raise click.UsageError(f"{found.name} has no {model!r}{hint} To use it, get it first: {pull}.")
    retired = known_catalog().explain_retirement(found.name, model, Clock().today())
    if retired is not None:
        raise click.UsageError(f"{retired[0].upper()}{retired[1:]}.")
    return model


def _budget(text: str) -> tuple[Decimal | None, Window]:
    if text.lower() in (_NO, "no", "none"):
        return None, "month"
    found = _BUDGET.fullmatch(text.strip())
    if found is None:
        raise click.UsageError('Write an amount and a time, as in "5 a month", or "no limit".')
    usd, word = Decimal(found["usd"]), found["window"].lower() or "month"
    window = next((window for window in _WINDOWS if word.rstrip("s") == window), None)
    if window is None:
        raise click.UsageError(f"The time is one of {', '.join(_WINDOWS)}, not {word!r}.")
    if not 0 < usd <= MAX_BUDGET_USD:
        raise click.UsageError(f"The amount must be above 0 and at most {MAX_BUDGET_USD:,}.")
    return usd, window


@click.group("config")
def command() -> None:
    """Write, show or check the configuration.

    A configuration is searched in $LLAMA_CLIENT_CONFIG, ./llama-client.toml, [tool.llama-client] of ./pyproject.toml
    and your own config folder; the first found is used. LLAMA_CLIENT_* variables override its keys. Without one, every
    key has its default.

    \b
    Examples:
      llama-client config init           answer a few questions, get a file
      llama-client config init --yes     get a file from what is found here
      llama-client config show           the values in effect, and their sources
      llama-client config check          all that is wrong, at once
    """


@command.command(
    "init",
    cls=HelpPage,
    short_help="Write a configuration file that works here.",
    exits={0: "success", 2: "wrong usage, or the file exists", 130: "Ctrl-C"},
)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; use what is detected on this machine.")
@click.option("--path", type=click.Path(), metavar="FILE", help="The file to write. [default: ./llama-client.toml]")
@click.option("--user", is_flag=True, help="Write the file in your own config folder, for all folders.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@json_option
def init(yes: bool, path: str | None, user: bool, force: bool, as_json: bool) -> None:
    """Write a configuration file that works here, with a comment for each key.

    Detects keys in the environment (such as GROQ_API_KEY), a running Ollama and models that were pulled, and
    asks which providers to use, in which order, and how much may be spent. The file names the variable of a key, never
    the key itself. An existing file is kept, unless --force is given.

    \b
    Examples:
      llama-client config init
      llama-client config init --yes
      llama-client config init --yes --path staging.toml
      llama-client config init --user
      llama-client config init --yes --force --json | jq -r .default_model
    """
    if path is not None and user:
        raise click.UsageError("--path and --user both name the file to write: give one of them")
    file = user_config_file() if user else Path(FILE_NAME) if path is None else expanded(path)
    if not yes and not is_terminal(sys.stdin):
        raise click.UsageError("standard input is not a terminal, so no question can be answered: use --yes")
    if user:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{file.parent}: cannot be created ({error.strerror or error})") from None
    # Before the questions, as their answers would be lost.
    require_writable(file, overwrite=force)
    found, local_only = detect(os.environ), local_only_source(os.environ) is not None
    choices = proposal(found, local_only=local_only) if yes else ask(found, local_only=local_only)
    text = config_text(choices)
    # Answers become values: an invalid one is found here at the latest.
    read_config(tomllib.loads(text), origin=str(file))
    write_text(file, text, overwrite=force)
    if as_json:
        path, model = str(file.absolute()), choices.default_model
        click.echo(json.dumps({"path": path, "default_model": model, "providers": choices.providers}))
        return
    click.echo(fitted(one_line(f"{file} written. {_summary(choices)}"), sys.stdout))
    say(_next_steps(file, choices, found))


def _summary(choices: NewConfig) -> str:
    targets = ", then ".join(choices.targets)
    limit = "" if choices.budget_usd is None else f" Budget: ${choices.budget_usd} a {choices.window}."
    local = " local_only is on." if choices.local_only else ""
    return f"Targets: {targets}.{limit.replace('a total', 'in total')}{local}"


def _next_steps(file: Path, choices: NewConfig, found: dict[str, Detected]) -> str:
    try:
        used = find_config().document.file
    except ConfigError:
        used = None
    option = "" if is_same_file(used, file) else f" --config {file}"
    lines = [f"First, for {name}: {found[name].needs}" for name in choices.providers if found[name].needs is not None]
    if option and used is not None:
        lines.append(f"Here {used} is found first; --config names the new one.")
    lines += [
        f'Try:   llama-client chat{option} "Why do llamas hum?"',
        f"Check: llama-client config check{f' {file}' if option else ''}",
        f"       llama-client doctor{option}",
    ]
    return "\n".join(lines)


command.add_command(show)
command.add_command(check)
