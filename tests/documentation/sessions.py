"""Runs a block of a shell session: the commands of `llama-client` in this process, and of others only what is checked.

What is not run is never passed over in silence: whatever is not named here is an error.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from unittest import mock

from llama_client.cli import crossover
from llama_client.cli.app import main
from llama_client.costs import prices
from llama_client.crossover.market import last_checked
from tests.documentation import stand_ins
from tests.documentation.named import WrongSessionError, require_extras, require_script
from tests.documentation.pages import ROOT
from tests.documentation.programs import is_like

_EXIT_CODE = re.compile(r"# exits with (\d+)$")
_ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=.*")
# Programs of others, which are not here: a reader starts them, the test does not.
OTHERS = ("ollama", "vllm", "git", "cd", "nvidia-smi", "free")
# No page shows what a measurement prints, so this is enough of one.
_BRIEFLY = ("--requests", "2", "--input-tokens", "16", "--output-tokens", "2")


@dataclass
class Command:
    """A command, what a page says that it prints (None: nothing is said), and with what it exits."""

    text: str
    exit_code: int = 0
    expected: list[str] | None = None
    printed: list[str] = field(default_factory=list)


class _Terminal(io.StringIO):
    """Somebody who sits there and types nothing: the end of input, on a terminal."""

    def isatty(self) -> bool:
        return True


class _DayOfTheTables(datetime.datetime):
    """The clock of `crossover`: the day of its prices. A page shows what they gave then, and no page ages by itself."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Self:
        day = last_checked()
        return cls(day.year, day.month, day.day, tzinfo=tz)


def commands_of(source: str) -> list[Command]:
    """The commands of a session: the lines that begin with `$ `, or all of them where none does."""
    lines = source.splitlines()
    has_prompts = any(line.startswith("$ ") for line in lines)
    commands: list[Command] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if has_prompts and not line.startswith("$ "):
            if not commands:
                raise WrongSessionError(f"there is output above the first command: {line}")
            commands[-1].expected = [*(commands[-1].expected or []), line]
            continue
        text = line.removeprefix("$ ")
        while text.endswith("\\") and at < len(lines):
            text = text[:-1] + lines[at].removeprefix("> ").strip()
            at += 1
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        exits = _EXIT_CODE.search(text)
        commands.append(Command(text, int(exits[1]) if exits else 0, [] if has_prompts else None))
    for command in commands:
        while command.expected and not command.expected[-1].strip():
            command.expected.pop()
    return commands


def run(source: str, *, demo_model: Path, output: str | None = None) -> list[Command]:
    """Runs a session in the current folder.

    Args:
        source: The block.
        demo_model: What is played in the place of a model that would have to be downloaded.
        output: What stands in the plain block right below, if there is one: what all commands print.

    Returns:
        The commands, with what they printed.

    Raises:
        WrongSessionError: A command is none that may stand there, exits otherwise or prints something else.
    """
    commands = commands_of(source)
    if not commands:
        raise WrongSessionError("there is no command in it")
    with mock.patch.dict(os.environ):
        for command in commands:
            code, out = _Shell(demo_model).run(command.text)
            command.printed = [line.rstrip() for line in out.splitlines()]
            if code != command.exit_code:
                raise WrongSessionError(f"{command.text}\nexits with {code}, not {command.exit_code}:\n{out}")
            # `$ ` alone promises nothing where the session shows no output at all.
            shows_output = any(other.expected for other in commands)
            if shows_output and command.expected is not None and not matches(command.printed, command.expected):
                raise WrongSessionError(
                    f"{command.text}\nprints otherwise:\n{out}\nand not\n" + "\n".join(command.expected)
                )
    printed = [line for command in commands for line in command.printed]
    if output is not None and not matches(printed, output.splitlines()):
        raise WrongSessionError("the block below is not what is printed:\n" + "\n".join(printed))
    return commands


def matches(printed: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether lines are the expected ones, of which `...` stands for any lines, and `…` within one for any text."""
    if not expected:
        return not any(line.strip() for line in printed)
    first, *rest = expected
    if first.strip() == "...":
        return not rest or any(matches(printed[at:], rest) for at in range(len(printed) + 1))
    return bool(printed) and is_like(printed[0], first) and matches(printed[1:], rest)


class _Shell:
    """As much of a shell as pages need."""

    def __init__(self, demo_model: Path) -> None:
        self._demo_model = demo_model

    def run(self, line: str) -> tuple[int, str]:
        """A line: commands joined by `&&`, pipes of text into a command, and its output into a file."""
        out, code = "", 0
        for part in _divided(_split(line), "&&"):
            code, text = self._run_pipe(part)
            out += text
            if code:
                break
        return code, out

    def _run_pipe(self, words: Sequence[str]) -> tuple[int, str]:
        code, out, stdin = 0, "", None
        for part in _divided(words, "|"):
            code, out = self._run_one(part, stdin)
            stdin = out
        return code, out

    def _run_one(self, words: list[str], stdin: str | None) -> tuple[int, str]:
        if len(words) > 2 and words[-2] in (">", "<"):
            *rest, direction, name = words
            if direction == "<":
                return self._run_one(rest, Path(name).read_text(encoding="utf-8"))
            code, out = self._run_one(rest, stdin)
            Path(name).write_text(out, encoding="utf-8")
            return code, ""
        if words[0] == "export":
            os.environ.update(_assignments(words[1:]))
            return 0, ""
        environment = _assignments(words)
        with mock.patch.dict(os.environ, environment):
            return self._start(words[len(environment) :], stdin)

    def _start(self, words: list[str], stdin: str | None) -> tuple[int, str]:
        program, *arguments = words
        match program:
            case "llama-client":
                return self._llama_client(arguments, stdin)
            case "cat" | "type":
                return 0, "".join(Path(name).read_text(encoding="utf-8") for name in arguments)
            case "echo":
                return 0, " ".join(arguments) + "\n"
            case "jq":
                return _jq(arguments, stdin or "")
            case "eval":
                inner = re.fullmatch(r"\$\((.*)\)", " ".join(arguments))
                if inner is None:
                    raise WrongSessionError(f"only $(...) may be evaluated: {words}")
                code, _ = self.run(inner[1])
                return code, ""
            case "pip":
                require_extras(arguments)
            case "python" if arguments[:2] == ["-m", "llama_client.testing.conformance"]:
                return stand_ins.conformance(arguments[2:])
            case "python":
                require_script(arguments)
            case "pytest" if any(Path(name).is_file() for name in arguments):
                return stand_ins.tests(arguments)
            case "pytest" | "mkdocs" | ".ci/run":
                if program == ".ci/run" and not (ROOT / program).exists():
                    raise WrongSessionError("there is no .ci/run")
            case "uvicorn":
                module = arguments[0].partition(":")[0].replace(".", "/")
                if not any((ROOT / folder / f"{module}.py").exists() for folder in ("", "examples")):
                    raise WrongSessionError(f"there is no {module}.py to serve")
            case _ if program not in OTHERS:
                raise WrongSessionError(
                    f"{program}: no command that a page may use; see tests/documentation/sessions.py"
                )
        return 0, ""

    def _llama_client(self, arguments: list[str], stdin: str | None) -> tuple[int, str]:
        if arguments[:1] == ["bench"]:
            arguments = [*arguments, *_BRIEFLY]
        out = io.StringIO()
        with contextlib.ExitStack() as stack:
            stack.enter_context(stand_ins.elsewhere(self._demo_model))
            stack.enter_context(mock.patch.object(crossover, "datetime", _DayOfTheTables))
            # A page shows what a fresh release prints, which warns of no old price.
            stack.enter_context(mock.patch.object(prices, "STALE_AFTER_DAYS", sys.maxsize))
            if stdin is None:
                stack.enter_context(mock.patch.object(sys, "stdin", _Terminal()))
            else:
                stack.enter_context(_piped(stdin))
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(out))
            code = main(arguments)
        return code, out.getvalue()


def _split(line: str) -> list[str]:
    """The words of a line, with `|`, `&&`, `>` and `<` as words of their own, and without its comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    return list(lexer)


def _assignments(words: Sequence[str]) -> dict[str, str]:
    """The variables that are set in front of a command."""
    leading = itertools.takewhile(_ASSIGNMENT.fullmatch, words)
    return {name: value for name, _, value in (word.partition("=") for word in leading)}


def _divided(words: Sequence[str], by: str) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word == by:
            yield part
            part = []
        else:
            part.append(word)
    if not part:
        raise WrongSessionError("a command is missing")
    yield part


def _jq(arguments: Sequence[str], text: str) -> tuple[int, str]:
    """The real one; where there is none, only what it is given is looked at."""
    jq = shutil.which("jq")
    if jq is None:
        json.loads(text)
        return 0, text
    command = [jq, *arguments]
    ran = subprocess.run(command, input=text, capture_output=True, timeout=60, check=False, encoding="utf-8")
    return ran.returncode, ran.stdout + ran.stderr


@contextlib.contextmanager
def _piped(text: str) -> Iterator[None]:
    """A real file as standard input, as the command reads from its number."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(text.encode())  # short enough for a pipe's buffer
    with os.fdopen(reading, encoding="utf-8") as stdin, mock.patch.object(sys, "stdin", stdin):
        yield
