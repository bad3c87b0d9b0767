"""Errors on a terminal: a line with the problem, and below it the command that helps, if there is one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import click

from llama_client import errors
from llama_client.cli.terminal import one_line, say

_DOCTOR, _MODELS = "llama-client doctor", "llama-client models"
_ANOTHER = f"another target with -m ({_MODELS} lists them)"
# A message that quotes a command contains its remedy.
_HAS_COMMAND = re.compile(r"`(ollama|llama-client) |pip install")


def show(error: errors.LlamaClientError) -> None:
    if isinstance(error, errors.AllTargetsFailedError) and error.errors:
        say("llama-client: every target failed:")
        for each in error.errors:
            say(f"  {one_line(_with_target(each))}")
    else:
        say(f"llama-client: {one_line(_with_target(error))}")
    step = next_step(error)
    if step is not None:
        say(f"Try: {step}")


def next_step(error: errors.LlamaClientError) -> str | None:
    """What to do next; None: the message contains it."""
    if isinstance(error, errors.AllTargetsFailedError):
        return _DOCTOR
    if _HAS_COMMAND.search(str(error)):
        return None
    match error:
        case errors.RateLimitError(retry_after_s=None) | errors.OverloadedError() | errors.ServerError():
            return f"again in a minute, or {_ANOTHER}"
        case errors.RateLimitError(retry_after_s=wait_s) if wait_s is not None:
            return f"again in {_duration(wait_s)}, or {_ANOTHER}"
        case errors.LocalOnlyError(rule="pull"):
            return "llama-client pull PATH.gguf, a file that is here already"
        case errors.LocalOnlyError(rule="connection"):
            return f"a model on this machine with -m ({_MODELS} lists them)"
        case errors.QuotaExceededError():
            return _ANOTHER
        case errors.ContextLengthError() | errors.RequestTooLargeError():
            return f"a shorter prompt, a smaller --max-tokens, or {_ANOTHER}"
        case errors.ModelNotFoundError():
            return _MODELS
        case errors.BudgetExceededError(resets_at=reset, max_tokens_that_fit=tokens):
            ways = [f"--max-tokens {tokens}"] if tokens else []
            if reset is not None:
                ways.append(f"again after {reset:%Y-%m-%d %H:%M} UTC, when the budget resets")
            return ", or ".join([*ways, "llama-client costs" if not ways else "see llama-client costs"])
        case errors.APIConnectionError() | errors.AuthenticationError() | errors.PermissionDeniedError():
            return _DOCTOR
        case _:
            return None


def _with_target(error: errors.LlamaClientError) -> str:
    """The message with its target, which a provider's own words lack."""
    target = error.target if isinstance(error, errors.ProviderError) else None
    text = str(error)
    return f"{target}: {text}" if target and target not in text else text


def _duration(seconds: float) -> str:
    """A wait in s, min or h, rounded up.

    Examples:
        >>> _duration(7.2), _duration(712), _duration(90000)
        ('8 s', '12 min', '25 h')
    """
    if seconds <= 100:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds <= 6000 else f"{math.ceil(seconds / 3600)} h"


def in_options(
    error: errors.InvalidRequestError, command: click.Command, *, names: Mapping[str, str] | None = None
) -> errors.InvalidRequestError:
    names = names or {}
    options = {
        each.name: each.opts[0] if isinstance(each, click.Option) else (each.name or "").upper()
        for each in command.params
        if each.name
    }
    options |= {name.rpartition(".")[2]: option for name, option in names.items()}
    field, text = error.param or "", str(error)
    name = names.get(field) or options.get(field.rpartition(".")[2])
    if name is None or not text.startswith(f"{field}: "):
        return error
    rest = re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda word: options.get(word[0], word[0]), text.removeprefix(field))
    return errors.InvalidRequestError(name + rest, param=name)
