"""`llama-client chat`: one question, standard input, or a conversation."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from llama_client import ChatCompletion, Config, ConfigError, LlamaClient, LlamaClientError, Message, load_config
from llama_client.cli import completion as suggestions
from llama_client.cli import failures
from llama_client.cli.help_pages import HelpPage, config_option, json_option
from llama_client.cli.pull import shown_progress
from llama_client.cli.terminal import is_terminal, one_line, printable, say
from llama_client.local_only import ConnectionGuard
from llama_client.providers.gguf.pull import pull
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore
from llama_client.types.request import SharedParams

Conversation = list[dict[str, object] | Message]

_END_KEY = "Ctrl-Z and Enter" if sys.platform == "win32" else "Ctrl-D"
_HELP = f"""\
Type a question and press Enter; the model gets the whole conversation.
  /new     start a new conversation
  /help    show this
  /exit    end it, as {_END_KEY} does
Ctrl-C stops an answer that is being written."""


def answer(client: LlamaClient, messages: Sequence[Any], params: SharedParams, *, stream: bool) -> ChatCompletion:
    """Prints an answer on standard output; reasoning (on a terminal) and warnings on standard error."""
    clean = printable if is_terminal(sys.stdout) else str
    if not stream:
        reply = client.ask(messages, **params)
        click.echo(clean(reply.text))
    else:
        shows_reasoning, is_reasoning = is_terminal(sys.stderr), False
        with client.chat.completions.create(messages=messages, stream=True, **params) as chunks:
            for chunk in chunks:
                reasoning = chunk.choices[0].delta.reasoning if chunk.choices else None
                if reasoning and shows_reasoning:
                    if not is_reasoning:
                        click.echo("(thinking) ", nl=False, err=True)
                    click.secho(printable(reasoning), nl=False, italic=True, err=True)
                    is_reasoning = True
                if chunk.text:
                    if is_reasoning:
                        click.echo("\n", err=True)
                    click.echo(clean(chunk.text), nl=False)  # echo flushes
                    is_reasoning = False
        click.echo()
        reply = chunks.completion
    for warning in reply.warnings:
        say(f"llama-client: {one_line(warning)}")
    if reply.choices[0].finish_reason == "length":
        say("llama-client: the answer was cut at its maximum length")
    return reply


def converse(client: LlamaClient, conversation: Conversation, params: SharedParams, *, stream: bool) -> None:
    with suppress(ImportError):
        import readline  # noqa: F401 - gives input() a history and line editing, where the platform has it
    start = len(conversation)
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
                del conversation[start:]
                say("New conversation; the one before is forgotten.")
                continue
            case _ if text.startswith("/") and text[1:].isalpha():
                say(_HELP if text == "/help" else f"llama-client: {text} is no command.\n{_HELP}")
                continue
        try:
            reply = answer(client, [*conversation, _prompt(text)], params, stream=stream)
        except KeyboardInterrupt:
            say("\n(stopped)")
        except LlamaClientError as error:
            failures.show(error)
        else:
            conversation += [_prompt(text), reply.choices[0].message]


def _prompt(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


# With a prompt given, the wait for standard input, as it may be a pipe that is never written to. A message follows the
# first part.
_STDIN_WAITS_S = (1.0, 9.0)
_MAX_STDIN_BYTES = 16 << 20


@click.command("chat", cls=HelpPage)
@click.argument("prompt", nargs=-1)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    shell_complete=suggestions.targets,
    help="The target: provider/model-id, a route, or a model's name. [default: default_model of the configuration; "
    "without one a running Ollama's model, else the one pulled last]",
)
@click.option("--system", metavar="TEXT", help="Instructions for the model, before the prompt.")
@click.option(
    "--temperature", type=float, metavar="0..2", help="Randomness; 0: as little as can be. [default: the model's]"
)
@click.option("--max-tokens", type=int, metavar="N", help="The longest answer, in tokens. [default: the model's limit]")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is whole, not word by word.")
@json_option
@config_option
def command(
    prompt: tuple[str, ...],
    model: str | None,
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
    no_stream: bool,
    as_json: bool,
    config: str | None,
) -> None:
    """Ask a model.

    Text that is piped in is added below PROMPT. Without either, on a terminal, a conversation starts. Only the answer
    goes to standard output.

    \b
    Examples:
      llama-client chat "Why do llamas hum?"
      llama-client chat -m groq/openai/gpt-oss-20b "Why do llamas hum?"
      llama-client chat -m ollama/llama3.1:8b --temperature 0 "Why do llamas hum?"
      cat notes.txt | llama-client chat "Summarise:"
      llama-client chat --system "Answer in French." < question.txt
      llama-client chat --json "Why do llamas hum?" | jq .cost
      llama-client chat
    """
    interactive = is_terminal(sys.stdin)
    text = _with_stdin(" ".join(prompt), interactive=interactive)
    if not text and (not interactive or as_json):
        raise click.UsageError("there is nothing to ask: give a PROMPT, or pipe one in")
    loaded = load_config(config)
    params = SharedParams(model=model, temperature=temperature, max_tokens=max_tokens)
    conversation: Conversation = [{"role": "system", "content": system}] if system is not None else []
    with LlamaClient(loaded) as client:
        if model is None:
            _ensure_model(client, loaded)
        if not text:
            converse(client, conversation, params, stream=not no_stream)
        elif as_json:
            reply = client.ask([*conversation, _prompt(text)], **params)
            click.echo(json.dumps({"text": reply.text, **reply.model_dump(mode="json")}))
        else:
            answer(client, [*conversation, _prompt(text)], params, stream=not no_stream)


def _ensure_model(client: LlamaClient, config: Config) -> None:
    """Pulls the demo model where none is configured, and there is neither an Ollama nor a pulled one."""
    if config.default_model is not None or config.providers:
        return
    with suppress(ConfigError):
        client.default_model()
        return
    say(
        f"No model is configured, so this uses {DEMO_NAME}: 135 million parameters, which only prove the plumbing.\n"
        "For a real one: llama-client pull "
        "hf:bartowski/Llama-3.2-3B-Instruct-GGUF/Llama-3.2-3B-Instruct-Q4_K_M.gguf"
    )
    with shown_progress(DEMO_NAME) as progress:
        pull(DEMO_NAME, ModelStore.of_user(), progress=progress, guard=ConnectionGuard.of(config))


def _with_stdin(prompt: str, *, interactive: bool) -> str:
    if interactive or sys.stdin is None:
        return prompt
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # In a thread, as there is no portable way to poll a pipe; a daemon, as it may block forever.
    threading.Thread(target=_read_stdin, args=(arrived,), daemon=True).start()
    piped = bytearray()
    block = _first_block(arrived) if prompt else arrived.get()
    while block:
        piped += block
        if len(piped) > _MAX_STDIN_BYTES:
            raise click.UsageError(f"standard input is longer than {_MAX_STDIN_BYTES} bytes")
        block = arrived.get()
    return "\n\n".join(part for part in (prompt, piped.decode("utf-8-sig", "replace").strip()) if part.strip())


def _first_block(arrived: queue.SimpleQueue[bytes]) -> bytes:
    soon_s, later_s = _STDIN_WAITS_S
    next_step = f"waiting {later_s:.0f} s for standard input"
    for wait_s, message in ((soon_s, next_step), (later_s, "nothing came from standard input; continuing without it")):
        with suppress(queue.Empty):
            return arrived.get(timeout=wait_s)
        say(f"llama-client: {message}")
    return b""


def _read_stdin(arrived: queue.SimpleQueue[bytes]) -> None:
    """Passes on blocks as they arrive, and an empty one at the end."""
    # Not through sys.stdin: a thread that waits in its buffer when the process ends makes Python abort.
    try:
        while block := os.read(sys.stdin.fileno(), 1 << 16):
            arrived.put(block)
    except (OSError, ValueError):  # closed
        pass
    arrived.put(b"")
