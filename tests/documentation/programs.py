"""Runs a block of Python as the program that it is, and holds what it prints against its comments."""

from __future__ import annotations

import codeop
import contextlib
import gc
import io
import linecache
import logging
import os
import re
import subprocess
import sys
import traceback
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

TIMEOUT_S = 120
# What changes a whole process, and cannot be undone: who imports one of these gets a process of their own.
ALONE = re.compile(
    r"^\s*(?:import|from) (?:opentelemetry|multiprocessing|ollama|signal|subprocess)\b", flags=re.MULTILINE
)
# `print(...)  # what it prints`: the comment is the whole line that is printed, where `…` stands for any text.
_PROMISE = re.compile(r"^ *print\(.*\) +# (?P<line>.*)$", flags=re.MULTILINE)


@dataclass(frozen=True)
class Ran:
    """A program or a command that has ended."""

    code: int
    out: str
    err: str


def run(source: str, place: str) -> Ran:
    """Runs a program in this process, as `__main__`, or in one of its own where it needs that."""
    if ALONE.search(source):
        command = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", source]
        # One thread: llama.cpp's wait for each other by spinning, which on a busy machine takes minutes.
        environment = {**os.environ, "LLAMA_CLIENT_PROVIDERS__GGUF__N_THREADS": "1", "PYTHONUTF8": "1"}
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False, encoding="utf-8"
        )
        return Ran(done.returncode, done.stdout, done.stderr)
    out, err = io.StringIO(), io.StringIO()
    # What there is by now (pandas, say) is passed over below: looking at all of it would take 0.2 s for each program.
    gc.freeze()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _as_a_program() as module:
        linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
        try:
            exec(compile(source, place, "exec", dont_inherit=True), module.__dict__)
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except Exception:  # noqa: BLE001 - whatever a program raises ends it, and is told
            traceback.print_exc()
            code = 1
        finally:
            # What a program leaves open complains when it is collected, and that belongs to its own output.
            module.__dict__.clear()
            gc.collect()
    return Ran(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _as_a_program() -> Iterator[types.ModuleType]:
    """An empty `__main__`, with logging and warnings as in a new process but that a warning is an error."""
    module = types.ModuleType("__main__")
    main, hook, arguments = sys.modules["__main__"], sys.unraisablehook, sys.argv
    as_they_were = {logger: (logger.handlers[:], logger.level) for logger in _loggers()}
    logging.getLogger().handlers[:] = []
    sys.modules["__main__"], sys.argv, sys.unraisablehook = module, ["-c"], sys.__unraisablehook__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ResourceWarning)  # as Python does
            yield module
    finally:
        sys.modules["__main__"], sys.argv, sys.unraisablehook = main, arguments, hook
        for logger in _loggers():
            own = [handler for handler in logger.handlers if isinstance(handler, logging.NullHandler)]
            handlers, level = as_they_were.get(logger, (own, logging.NOTSET))
            logger.handlers[:] = handlers
            logger.setLevel(level)


def _loggers() -> list[logging.Logger]:
    root = logging.getLogger()
    return [root, *(logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger))]


def cut_at_the_prompt(source: str) -> int | None:
    """The line at which a program breaks that is pasted at the prompt of Python before 3.13; None: it does not.

    There an empty line ends an indented block, and nothing else does.
    """
    compiler, begun = codeop.CommandCompiler(), list[str]()
    lines = [*source.splitlines(), ""]
    for number, line in enumerate(lines, start=1):
        begun.append(line)
        try:
            is_whole = compiler("\n".join(begun), symbol="single") is not None
        except (SyntaxError, OverflowError, ValueError):
            return number
        if is_whole:
            begun.clear()
    return len(lines) if begun else None


def promises(source: str) -> list[str]:
    """What a program's comments behind `print(...)` say that it prints."""
    return [promise["line"].strip() for promise in _PROMISE.finditer(source)]


def broken_promises(source: str, out: str) -> list[str]:
    """The promises for which no line is among what was printed."""
    printed = [line.strip() for line in out.splitlines()]
    return [promise for promise in promises(source) if not any(is_like(line, promise) for line in printed)]


def is_like(line: str, wanted: str) -> bool:
    """Whether a line is the wanted one, in which `…` stands for any text."""
    return re.fullmatch(".*".join(map(re.escape, wanted.rstrip().split("…"))), line.rstrip()) is not None
