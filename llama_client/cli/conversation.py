"""An answer as it appears, and a conversation of several on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from llama_client import ChatCompletion, LlamaClient, LlamaClientError, Message
from llama_client.cli import failures
from llama_client.cli.terminal import one_line, printable, say
from llama_client.types.params import CallParams

Conversation = list[dict[str, object] | Message]

_END_KEY = "Ctrl-Z and Enter" if sys.platform == "win32" else "Ctrl-D"
_HELP = f"""\
Type a question and press Enter; the model remembers what was said before.
  /new     begin a new conversation
  /help    show this
  /exit    end it, as {_END_KEY} does
Ctrl-C stops an answer that is being written."""


def answer(client: LlamaClient, messages: Sequence[Any], params: CallParams, *, stream: bool) -> ChatCompletion:
    """Prints an answer on standard output, and what is odd about it on standard error.

    Args:
        client: Who answers.
        messages: The conversation, with the question at its end.
        params: Of the call.
        stream: Whether it appears word by word.
    """
    if not stream:
        reply = client.ask(messages, **params)
        click.echo(_printable(reply.text))
    else:
        with client.chat.completions.create(messages=messages, stream=True, **params) as chunks:
            thoughts = _Thoughts()
            for chunk in chunks:
                thoughts.show(chunk.choices[0].delta.reasoning if chunk.choices else None)
                if chunk.text:
                    thoughts.end()
                    click.echo(_printable(chunk.text), nl=False)  # echo flushes
        click.echo()
        reply = chunks.completion
    for warning in reply.warnings:
        say(f"llama-client: {one_line(warning)}")
    if reply.choices[0].finish_reason == "length":
        say("llama-client: the answer was cut at its longest")
    return reply


def converse(client: LlamaClient, conversation: Conversation, params: CallParams, *, stream: bool) -> None:
    """Asks and answers until the user has enough.

    Args:
        client: Who answers.
        conversation: What has been said; grows.
        params: Of each call.
        stream: Whether answers appear word by word.
    """
    with suppress(ImportError):
        import readline  # noqa: F401 - gives input() a history and line editing, where the platform has it
    beginning = len(conversation)
    say(f"Ctrl-C stops an answer, {_END_KEY} ends the conversation, /help tells more.")
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            click.echo()
            return
        except UnicodeDecodeError as error:
            say(f"llama-client: that line is not {error.encoding} text")
            continue
        match text:
            case "":
                continue
            case "/exit" | "/quit" | "/bye":
                return
            case "/new":
                del conversation[beginning:]
                say("A new conversation; what was said before is forgotten.")
                continue
            case _ if text.startswith("/") and text[1:].isalpha():
                say(_HELP if text == "/help" else f"llama-client: {text} is no command.\n{_HELP}")
                continue
        try:
            reply = answer(client, [*conversation, said(text)], params, stream=stream)
        except KeyboardInterrupt:
            say("\n(stopped)")
        except LlamaClientError as error:
            failures.show(error)
        else:
            conversation += [said(text), reply.choices[0].message]


def said(text: str) -> dict[str, object]:
    """A message of the user's."""
    return {"role": "user", "content": text}


class _Thoughts:
    """What a model thinks before it answers: on a terminal, on standard error, and marked by a word."""

    def __init__(self) -> None:
        self._are_shown = False

    def show(self, reasoning: str | None) -> None:
        """Writes a piece of it."""
        if reasoning and sys.stderr is not None and sys.stderr.isatty():
            if not self._are_shown:
                click.echo("(thinking) ", nl=False, err=True)
            self._are_shown = True
            click.secho(printable(reasoning), nl=False, italic=True, err=True)

    def end(self) -> None:
        """Begins a new line for the answer."""
        if self._are_shown:
            click.echo("\n", err=True)
        self._are_shown = False


def _printable(text: str) -> str:
    return printable(text) if sys.stdout is not None and sys.stdout.isatty() else text
