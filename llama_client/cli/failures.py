"""How an error is shown to people: what was wrong in a line, and below it the command that helps, if there is one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import click

from llama_client.cli.terminal import one_line, say
from llama_client.errors import (
    AllTargetsFailedError,
    APIConnectionError,
    AuthenticationError,
    BudgetExceededError,
    ContextLengthError,
    InvalidRequestError,
    LlamaClientError,
    LocalOnlyError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
)

_DOCTOR, _MODELS = "llama-client doctor", "llama-client models"
_ANOTHER = f"another target with -m ({_MODELS} lists them)"
# A message that quotes a command has said what to do.
_HAS_COMMAND = re.compile(r"`(ollama|llama-client) |pip install")


def show(error: LlamaClientError) -> None:
    """Writes it to standard error."""
    if isinstance(error, AllTargetsFailedError) and error.errors:
        say("llama-client: every target failed:")
        for each in error.errors:
            say(f"  {one_line(_told(each))}")
    else:
        say(f"llama-client: {one_line(_told(error))}")
    step = next_step(error)
    if step is not None:
        say(f"Try: {step}")


def next_step(error: LlamaClientError) -> str | None:
    """What to do next; None: the message itself says it.

    Examples:
        >>> next_step(ModelNotFoundError("no such model"))
        'llama-client models'
        >>> next_step(ModelNotFoundError("no such model (run `ollama pull llama3.1:8b`)"))
    """
    if isinstance(error, AllTargetsFailedError):
        return _DOCTOR
    if _HAS_COMMAND.search(str(error)):
        return None
    match error:
        case RateLimitError(retry_after_s=None) | OverloadedError() | ServerError():
            return f"again in a minute, or {_ANOTHER}"
        case RateLimitError(retry_after_s=float() | int() as wait_s):
            return f"again in {_duration(wait_s)}, or {_ANOTHER}"
        case LocalOnlyError(rule="pull"):
            return "llama-client pull PATH.gguf, a file that is here already"
        case LocalOnlyError(rule="connection"):
            return f"a model on this machine with -m ({_MODELS} lists them)"
        case QuotaExceededError():
            return _ANOTHER
        case ContextLengthError() | RequestTooLargeError():
            return f"a shorter prompt, a smaller --max-tokens, or {_ANOTHER}"
        case ModelNotFoundError():
            return _MODELS
        case BudgetExceededError():
            return _within(error)
        case APIConnectionError() | AuthenticationError() | PermissionDeniedError():
            return _DOCTOR
        case _:
            return None


def _told(error: LlamaClientError) -> str:
    """Its message, with who said so: a provider's own words do not."""
    target = error.target if isinstance(error, ProviderError) else None
    text = str(error)
    return f"{target}: {text}" if target and target not in text else text


def _within(error: BudgetExceededError) -> str:
    """What still fits a budget, or when it begins anew."""
    ways = [f"--max-tokens {error.max_tokens_that_fit}"] if error.max_tokens_that_fit else []
    if error.resets_at is not None:
        ways.append(f"again after {error.resets_at:%Y-%m-%d %H:%M} UTC, when it begins anew")
    return ", or ".join([*ways, "llama-client costs" if not ways else "see llama-client costs"])


def _duration(seconds: float) -> str:
    """A wait as people say it, rounded up.

    Examples:
        >>> _duration(7.2), _duration(712), _duration(90000)
        ('8 s', '12 min', '25 h')
    """
    if seconds <= 100:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds <= 6000 else f"{math.ceil(seconds / 3600)} h"


def in_options(
    error: InvalidRequestError, command: click.Command, *, names: Mapping[str, str] | None = None
) -> InvalidRequestError:
    """The same error in the words of the command line: options in the place of fields."""
    names = names or {}
    options = {each.name: _written(each) for each in command.params if each.name}
    options |= {name.rpartition(".")[2]: option for name, option in names.items()}
    field, text = error.param or "", str(error)
    name = names.get(field) or options.get(field.rpartition(".")[2])
    if name is None or not text.startswith(f"{field}: "):
        return error
    rest = re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda word: options.get(word[0], word[0]), text.removeprefix(field))
    return InvalidRequestError(name + rest, param=name)


def _written(param: click.Parameter) -> str:
    return param.opts[0] if isinstance(param, click.Option) else param.make_metavar(click.Context(click.Command("")))
