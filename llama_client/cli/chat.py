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
from llama_client.cli.pull import shown_progress
from llama_client.cli.terminal import printable
from llama_client.providers.gguf.pull import pull
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore
from llama_client.types.params import CallParams

_REAL_MODEL = "hf:bartowski/Llama-3.2-3B-Instruct-GGUF/Llama-3.2-3B-Instruct-Q4_K_M.gguf"
# With a prompt given, standard input is only waited for this long: it may be a pipe that nobody will ever write to. The
# user is told after the first of the two.
_STDIN_WAITS_S = (1.0, 9.0)
_MAX_STDIN_BYTES = 16 << 20

Conversation = list[dict[str, object] | Message]


@click.command("chat", short_help="Ask a model.")
@click.argument("prompt", nargs=-1)
@click.option("-m", "--model", help="provider/model-id; by default the configuration's default_model.")
@click.option("--system", help="Instructions for the model.")
@click.option("--temperature", type=float, help="Randomness, 0 to 2; by default the model's own.")
@click.option("--max-tokens", type=int, help="The longest answer in tokens.")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is whole.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--config", type=click.Path(), help="The configuration file.")
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
    """Ask a model. Without PROMPT, standard input is the prompt, or on a terminal a conversation begins.

    Text that is piped in is added below PROMPT.

    \b
    Examples:
      llama-client chat "Why do llamas hum?"
      llama-client chat --system "Answer in French." < question.txt
      cat notes.txt | llama-client chat "Summarise:"
      llama-client chat --json "Why do llamas hum?" | jq .cost
    """
    interactive = sys.stdin is not None and sys.stdin.isatty()
    text = _with_stdin(" ".join(prompt), interactive=interactive)
    if not text and (not interactive or as_json):
        raise click.UsageError("there is nothing to ask: give a PROMPT, or pipe one in")
    loaded = load_config(config)
    params = CallParams(model=model, temperature=temperature, max_tokens=max_tokens)
    conversation: Conversation = [{"role": "system", "content": system}] if system is not None else []
    with LlamaClient(loaded) as client:
        if model is None:
            _provide_a_model(client, loaded)
        if not text:
            _converse(client, conversation, params, stream=not no_stream)
        elif as_json:
            reply = client.ask([*conversation, _said(text)], **params)
            click.echo(json.dumps({"text": reply.text, **reply.model_dump(mode="json")}))
        else:
            _answer(client, [*conversation, _said(text)], params, stream=not no_stream)


def _provide_a_model(client: LlamaClient, config: Config) -> None:
    """Pulls the demo model where nobody has said which model to use, and there is neither an Ollama nor a pulled one.

    Only the command does this.
    """
    if config.default_model is not None or config.providers:
        return
    try:
        client.default_model()
    except ConfigError:
        pass
    else:
        return
    click.echo(
        f"No model is configured, so this uses {DEMO_NAME}: 135 million parameters, which only prove the plumbing.\n"
        f"For a real one: llama-client pull {_REAL_MODEL}",
        err=True,
    )
    with shown_progress(DEMO_NAME) as progress:
        pull(DEMO_NAME, ModelStore.of_user(), progress=progress, local_only=config.local_only)


def _with_stdin(prompt: str, *, interactive: bool) -> str:
    """The prompt, with what is piped in below it."""
    if interactive or sys.stdin is None:
        return prompt
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # In a thread, as no portable call tells whether a pipe has something to say; a daemon, as it may wait for ever.
    threading.Thread(target=_read_stdin, args=(arrived,), daemon=True).start()
    piped = bytearray()
    block = _first_block(arrived) if prompt else arrived.get()
    if block is None:
        click.echo("llama-client: nothing came from standard input; going on without it", err=True)
        return prompt
    while block:
        piped += block
        if len(piped) > _MAX_STDIN_BYTES:
            raise click.UsageError(f"standard input is longer than {_MAX_STDIN_BYTES} bytes")
        block = arrived.get()
    return "\n\n".join(part for part in (prompt, piped.decode("utf-8-sig", "replace").strip()) if part.strip())


def _first_block(arrived: queue.SimpleQueue[bytes]) -> bytes | None:
    soon_s, later_s = _STDIN_WAITS_S
    with suppress(queue.Empty):
        return arrived.get(timeout=soon_s)
    click.echo(f"llama-client: waiting {later_s:.0f} s for standard input", err=True)
    with suppress(queue.Empty):
        return arrived.get(timeout=later_s)
    return None


def _read_stdin(arrived: queue.SimpleQueue[bytes]) -> None:
    """Hands over what comes, as it comes, and nothing at its end."""
    # Not by way of sys.stdin: a thread that waits in its buffer when the process ends makes Python abort.
    try:
        while block := os.read(sys.stdin.fileno(), 1 << 16):
            arrived.put(block)
    except (OSError, ValueError):  # closed
        pass
    arrived.put(b"")


def _answer(client: LlamaClient, messages: Sequence[Any], params: CallParams, *, stream: bool) -> ChatCompletion:
    if not stream:
        reply = client.ask(messages, **params)
        click.echo(_printable(reply.text))
    else:
        with client.chat.completions.create(messages=messages, stream=True, **params) as chunks:
            for chunk in chunks:
                _show_thinking(chunk.choices[0].delta.reasoning if chunk.choices else None)
                click.echo(_printable(chunk.text), nl=False)  # echo flushes
        click.echo()
        reply = chunks.completion
    for warning in reply.warnings:
        click.echo(f"llama-client: {printable(warning)}", err=True)
    if reply.choices[0].finish_reason == "length":
        click.echo("llama-client: the answer was cut at its longest", err=True)
    return reply


def _converse(client: LlamaClient, conversation: Conversation, params: CallParams, *, stream: bool) -> None:
    with suppress(ImportError):
        import readline  # noqa: F401 - gives input() a history and line editing, where the platform has it
    click.echo("Ctrl-C stops an answer, Ctrl-D ends the conversation.", err=True)
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            click.echo()
            return
        except UnicodeDecodeError as error:
            click.echo(f"llama-client: that line is not {error.encoding} text", err=True)
            continue
        if not text:
            continue
        try:
            reply = _answer(client, [*conversation, _said(text)], params, stream=stream)
        except KeyboardInterrupt:
            click.echo("\n(stopped)", err=True)
        except LlamaClientError as error:
            click.echo(f"llama-client: {printable(str(error))}", err=True)
        else:
            conversation += [_said(text), reply.choices[0].message]


def _said(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


def _show_thinking(reasoning: str | None) -> None:
    if reasoning and sys.stderr is not None and sys.stderr.isatty():
        click.secho(_printable(reasoning), nl=False, dim=True, err=True)


def _printable(text: str) -> str:
    return printable(text) if sys.stdout is not None and sys.stdout.isatty() else text
