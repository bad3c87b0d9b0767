"""Arguments of the command, in this process: an exit code that the help pages name, and never a traceback."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import click
from hypothesis import strategies as st

# What a call imports when it is made: instrumented, that takes longer than a command may.
import llama_client.providers.http.provider
import llama_client.providers.wire.ollama_request
import llama_client.routing.drive
import llama_client.types.request  # noqa: F401
from llama_client.cli import app, main
from llama_client.cli.help_pages import COMPLETE_VARIABLE
from tests.fuzz.sandbox import sandbox
from tests.fuzz.target import KEY, Target, require, require_nothing_like_a_key
from tests.fuzz.targets.scripted_server import Server, scripted

_CODES = {0, 1, 2, 130}
_CONFIG = """
default_model = "x/m"
[providers.x]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
[routes.both]
targets = ["x/m", "x/n"]
[[budgets]]
usd = 5.0
window = "day"
"""
_ANSWER = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}).encode()
# A NUL cannot be in an argument, so it separates them.
_BETWEEN = b"\0"


def arguments_of(data: bytes) -> list[str]:
    """The arguments, without paths that lead out of the working folder: what is tried there would only be refused."""
    return [text.decode("utf-8", "surrogateescape").replace("../", "") for text in data.split(_BETWEEN)]


class _Shell:
    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder

    def check(self, data: bytes) -> None:
        """The first byte chooses how the server answers and whether words are completed; then the arguments."""
        if not data:
            return
        arguments, how = arguments_of(data[1:]), data[0]
        # `bench` would go on for as long as it is told to.
        is_refused = how & 1 or "bench" in arguments
        status = b"401 Unauthorized" if is_refused else b"200 OK"
        head = b"HTTP/1.1 " + status + b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._server.answers = [[head % len(_ANSWER) + _ANSWER]]
        self._tidy()
        if how & 2:
            self._complete(arguments)
            return
        code, out, error = self._run(arguments)
        require(code in _CODES, "the exit code is one of those that are documented")
        require("Traceback" not in error, "no traceback is shown")
        if error.startswith("Usage:"):
            # Elsewhere a file may have such a name.
            require_nothing_like_a_key(iter((error,)))
        if arguments[-1:] == ["--json"] and out.startswith("{"):
            json.loads(out)

    def _complete(self, arguments: list[str]) -> None:
        words = " ".join(arguments)
        variables = {COMPLETE_VARIABLE: "bash_complete", "COMP_WORDS": f"llama-client {words}", "COMP_CWORD": "1"}
        shown = {name: text.replace("\0", "") for name, text in variables.items()}
        with patch.dict(os.environ, shown):
            code, _, error = self._run([])
        require(code in (0, 1), "completion ends well")
        require("Traceback" not in error, "no traceback is shown")

    def _run(self, arguments: list[str]) -> tuple[int, str, str]:
        out, error = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape") for _ in range(2))
        with open(os.devnull) as nothing, patch.object(sys, "stdin", nothing):
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
                code = main(arguments)
        texts = []
        for stream in (out, error):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))
        return code, texts[0], texts[1]

    def _tidy(self) -> None:
        for entry in os.scandir(self._folder):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        (self._folder / "llama-client.toml").write_text(_CONFIG)
        (self._folder / "m.gguf").write_bytes(b"GGUF")


def _commands() -> Iterator[tuple[list[str], click.Command]]:
    context = click.Context(app.app)
    for name in app.app.list_commands(context):
        command = app.app.get_command(context, name)
        assert command is not None
        yield [name], command
        for below, inner in (command.commands if isinstance(command, click.Group) else {}).items():
            yield [name, below], inner


_VALUES = (
    "m", "x/m", "both", "groq/openai/gpt-oss-20b", "llama-3.1-8b", "llama-3.3-70b", "rtx_4090", "h100_sxm", "Q4_K_M",
    "fp8", "vllm", "m.gguf", "llama-client.toml", "missing.toml", "out.png", "out.svg", "out.html", "500M", "1.2G",
    "7d",
    "2026-11-01", "0001-01-01", "9999-12-31", "0", "1", "-1", "1e308", "nan", "inf", "99999999999999999999", "0.5",
    "tag:team", "day", "target", "bash", "hf:a/b/c.gguf", "ollama:m", "smollm2-135m", "1,2,4", "", " ", "ü", "\udcff",
    "a=b", ".", "/", "~", "~nobody", "@file", "'", "\n", KEY, f"api_key={KEY}", "both/", "x/", "/m", "gguf/default",
)  # fmt: skip


def _words() -> tuple[str, ...]:
    options = {name for _, command in _commands() for option in command.params for name in option.opts}
    names = {word for path, _ in _commands() for word in path}
    return tuple(sorted(options | names | {"--help", "--version", "--", "-h"}))


def _data(how: int, arguments: list[str]) -> bytes:
    return bytes((how,)) + _BETWEEN.join(text.encode("utf-8", "surrogateescape") for text in arguments)


@st.composite
def _cases(draw: st.DrawFn) -> bytes:
    path, command = draw(st.sampled_from(list(_commands())))
    values = st.sampled_from(_VALUES) | st.text(max_size=6).filter(lambda text: text.isprintable() and "/" not in text)
    words: list[str] = []
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            if draw(st.integers(0, 4)) == 0:
                words.append(draw(st.sampled_from(parameter.opts)))
                if not parameter.is_flag:
                    words.append(draw(values))
        elif draw(st.integers(0, 9)):
            words.append(draw(values))
    if draw(st.integers(0, 5)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(values))
    return _data(draw(st.integers(0, 3)), [*path, *words])


_EXAMPLES = (
    "--version", "--help", "chat hello", "chat --no-stream --max-tokens 5 -m x/m hello", "chat -m both --json hi",
    "chat --temperature 3 hi", "config show --all", "config check --strict --json", "config init -y --force",
    "config init --path out.toml -y", "costs --by day --csv", "costs --since 7d --json", "costs --plot",
    "costs --plot out.svg", "crossover llama-3.1-8b --volume 500M --draws 0", "fit llama-3.1-8b --gpu rtx_4090 --json",
    "crossover llama-3.1-8b --api-input 1 --api-output 2 --draws 0 --json", "fit m.gguf", "models --json",
    "pull m.gguf --name x", "pull hf:a/b/c.gguf", "pull smollm2-135m --json", "bench x/m --requests 8 --yes",
    "completion bash", "nonsense", "crossover llama-3.1-8b --from-ledger", "config", "fit llama-3.3-70b --training",
)  # fmt: skip


@contextmanager
def opened() -> Iterator[Target]:
    with sandbox() as folder, scripted() as server:
        for name in app._COMMANDS:
            importlib.import_module(f"llama_client.cli.{name}")
        seeds = [_data(how, line.split(" ")) for line in _EXAMPLES for how in (0, 1, 2)]
        tokens = tuple(_BETWEEN + word.encode("utf-8", "surrogateescape") for word in (*_words(), *_VALUES))
        check = _Shell(server, folder).check
        yield Target("commands", check, tuple(seeds), _cases(), tokens, lines=(20_000_000, 0), max_bytes=300)
