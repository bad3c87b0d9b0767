"""The questions of `config init`: each has a proposal, and a wrong answer is asked for again with the reason."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TypeVar, get_args

import click

from llama_client.catalog.catalog import Catalog
from llama_client.cli.config_detection import DEMO_TARGET, LOCAL, NAMES, Detected
from llama_client.cli.terminal import one_line, say
from llama_client.clock import Clock
from llama_client.config.accounting import MAX_BUDGET_USD, Window
from llama_client.config.template import Choices
from llama_client.validation import suggestion

_Answer = TypeVar("_Answer")
_BUDGET = re.compile(
    r"\$?\s*(?P<usd>\d+(?:\.\d+)?|\.\d+)\s*(?:usd|dollars?)?\s*(?:/|(?:an?|per|in)\b)?\s*(?P<window>[a-z]*)",
    re.IGNORECASE,
)
_WINDOWS: tuple[Window, ...] = get_args(Window)
_NO = "no limit"


class _WrongAnswerError(Exception):
    """Why an answer will not do."""


def proposal(found: Mapping[str, Detected], *, local_only: bool) -> Choices:
    """What is written where nobody is asked: all that was found, clouds first; the demo model where nothing was.

    Args:
        found: What was found.
        local_only: Whether only this machine may answer.
    """
    names = [name for name in NAMES if found[name].is_there and (name in LOCAL or not local_only)] or ["gguf"]
    return _choices([f"{name}/{found[name].models[0]}" for name in names], local_only=local_only)


def ask(found: Mapping[str, Detected], *, local_only: bool) -> Choices:
    """Asks for everything, on the terminal.

    Args:
        found: What was found.
        local_only: Whether a variable or the user's own file says so, so that it is not asked.
    """
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


def _choices(targets: list[str], *, local_only: bool) -> Choices:
    free = [target for target in targets if target.partition("/")[0] in LOCAL]
    demo = DEMO_TARGET if DEMO_TARGET in targets else None
    return Choices(targets, local_only=local_only, demo=demo, free=free)


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
