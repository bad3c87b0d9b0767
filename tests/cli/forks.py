"""Commands and programs that begin in no time: forks of one process that has imported what most of them need.

A fork is a process of its own, with its own arguments, environment, folder and streams; what it lacks of `python -m
llama_client` is the start of the interpreter, and an empty `sys.modules`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import locale
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

_ROOT = Path(__file__).parents[2]
# What a pipe takes at once.
_MOST_INPUT_BYTES = 4096
# Beside the package's own modules; none reads the environment when it is imported.
_MODULES = ("asyncio", "email.message", "rich.console", "rich.table", "sqlalchemy.dialects.sqlite", "stringprep")
# What only some processes import.
_LEFT_OUT = frozenset({"llama_client.__main__", "llama_client.providers.http.httpx_wire"})
_REQUEST_BYTES = 1 << 20
# How long a process may take to end that is killed.
_KILLED_S = 60
# Before any test has changed it.
_BEGUN = dict(os.environ)


class Started:
    """A command that runs on a terminal or on pipes; until it has ended, no other one is forked."""

    def __init__(self, ours: socket.socket, pid: int, lock: threading.Lock) -> None:
        self.pid = pid
        self._ours = ours
        self._lock = lock
        self._code: int | None = None

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait(_KILLED_S)
        finally:
            self._lock.release()

    def wait(self, timeout: float) -> int:
        """The exit code, as of `subprocess.Popen`."""
        if self._code is None:
            self._ours.settimeout(timeout)
            self._code = int(self._ours.recv(64))
        return self._code

    def poll(self) -> int | None:
        """The exit code; None: it runs."""
        with contextlib.suppress(BlockingIOError):
            return self.wait(0)
        return None

    def kill(self) -> None:
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Parent:
    """The process that has imported all, for every worker of the tests: each gets a fork of it for itself.

    Attributes:
        address: Its socket's.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forks-")
        self.address = os.path.join(self._folder.name, "socket")
        # Its end is the end of the process, however this one ends.
        lifeline, self._lifeline = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(self.address)
            listening.listen(64)
            passed = [listening.fileno(), lifeline]
            command = [sys.executable, "-m", "tests.cli.forks", *map(str, passed)]
            # A test may be in another folder, and these tests are not installed.
            env = {**_BEGUN, "PYTHONUTF8": "1"}
            self._process = subprocess.Popen(command, pass_fds=passed, env=env, cwd=_ROOT)
        os.close(lifeline)

    def close(self) -> None:
        os.close(self._lifeline)
        try:
            self._process.wait(_KILLED_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


class Forks:
    """The process that forks, from the view of the tests.

    Args:
        address: That of its parent.
    """

    def __init__(self, address: str) -> None:
        self._lock = threading.Lock()
        self._ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.connect(address)

    def run(
        self,
        arguments: Sequence[str],
        stdin: bytes,
        env: Mapping[str, str],
        timeout_s: float,
        *,
        program: Path | None = None,
    ) -> tuple[int, bytes, bytes] | None:
        """Exit code, stdout and stderr of a command, or of a program; None: it must be started in the usual way."""
        folders = _added_folders(env)
        if len(stdin) > _MOST_INPUT_BYTES or folders is None or not self._lock.acquire(blocking=False):
            return None
        request = {"arguments": [*arguments], "env": {**env}, "folder": os.getcwd(), "path": folders}
        try:
            return self._run({**request, "program": program and str(program)}, stdin, timeout_s)
        finally:
            self._lock.release()

    def start(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        streams: Sequence[int],
        *,
        is_terminal: bool = False,
        program: Path | None = None,
    ) -> Started | None:
        """A command, or a program, that Ctrl-C stops; None: it must be started in the usual way.

        Args:
            streams: Its standard input, output and errors.
            is_terminal: They are the terminal that it belongs to.
        """
        folders = _added_folders(env)
        if folders is None or not self._lock.acquire(blocking=False):
            return None
        request = {"arguments": [*arguments], "env": {**env}, "folder": os.getcwd(), "path": folders}
        how = {"terminal": is_terminal, "started": True, "program": program and str(program)}
        try:
            return Started(self._ours, self._begin({**request, **how}, streams), self._lock)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Ends the process, by the end of its requests."""
        self._ours.close()

    def _begin(self, request: dict[str, Any], fds: Sequence[int]) -> int:
        """The number of the process; its exit code comes at its end."""
        socket.send_fds(self._ours, [json.dumps(request).encode()], fds)
        # It may still be importing, where much else runs.
        self._ours.settimeout(60)
        return int(self._ours.recv(64))

    def _run(self, request: dict[str, Any], stdin: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
        reads, writes = os.pipe()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                os.write(writes, stdin)
                pid = self._begin(request, [reads, out.fileno(), err.fileno()])
            finally:
                os.close(writes)
                os.close(reads)
            self._ours.settimeout(timeout_s)
            try:
                code = int(self._ours.recv(64))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._ours.settimeout(_KILLED_S)
                self._ours.recv(64)
                raise subprocess.TimeoutExpired(request["program"] or request["arguments"], timeout_s) from None
            out.seek(0)
            err.seek(0)
            return code, out.read(), err.read()


def _added_folders(env: Mapping[str, str]) -> list[str] | None:
    """What stands before the rest of PYTHONPATH; None: an interpreter, or its loader, would start otherwise."""
    names = {name for name in {*env, *os.environ} if name.startswith(("PYTHON", "LD_"))} - {"PYTHONUTF8", "PYTHONPATH"}
    if env.get("PYTHONUTF8") != "1" or any(env.get(name) != _BEGUN.get(name) for name in names):
        return None
    path, begun = (each.get("PYTHONPATH", "").split(os.pathsep) for each in (env, _BEGUN))
    if begun == [""]:
        return [folder for folder in path if folder]
    added = len(path) - len(begun)
    return path[:added] if added >= 0 and path[added:] == begun else None


class Shared:
    """What a worker is told by the process that has started it: the address of the parent of all forks."""

    address: str | None = None


shared = Shared()


@cache
def parent() -> Parent | None:
    """One for all workers of the tests; None: this system does not fork."""
    return Parent() if hasattr(os, "fork") and hasattr(socket, "SOCK_SEQPACKET") and sys.platform == "linux" else None


def python() -> list[str]:
    """A command that runs a program as an interpreter does: as a fork, where the system has it."""
    address = _address()
    launcher = [] if address is None else ["-ISE", str(Path(__file__).with_name("launched.py")), address]
    return [sys.executable, *launcher]


def _address() -> str | None:
    if shared.address is None and (own := parent()) is not None:
        return own.address
    return shared.address


@cache
def forks() -> Forks | None:
    """One for each process of the tests; None: this system does not fork."""
    address = _address()
    return None if address is None else Forks(address)


def end_forks() -> None:
    """At the end of the tests: a process that is left running, and its socket, Python complains of."""
    for each in (forks, parent):
        if each.cache_info().currsize and (begun := each()) is not None:
            begun.close()
        each.cache_clear()


def _serve(ours: socket.socket) -> dict[str, Any] | None:
    """Forks for each request; what it returns in a child is the child's request, and None the end of the tests."""
    while True:
        content, fds, _, _ = socket.recv_fds(ours, _REQUEST_BYTES, 3)
        if not content:
            return None
        pid = os.fork()
        if pid == 0:
            for at, fd in enumerate(fds):
                os.dup2(fd, at)
                os.close(fd)
            ours.close()
            request: dict[str, Any] = json.loads(content)
            return request
        for fd in fds:
            os.close(fd)
        ours.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        ours.send(str(os.waitstatus_to_exitcode(status)).encode())


def _import_all() -> None:
    import llama_client

    own = {module.name for module in pkgutil.walk_packages(llama_client.__path__, "llama_client.")}
    for name in [*_MODULES, *sorted(own - _LEFT_OUT)]:
        importlib.import_module(name)


def _take_terminal() -> None:
    """As a shell starts a command: its standard input is the terminal that it belongs to."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _open_streams() -> None:
    """Anew, as an interpreter does at its start: those that there are were opened on something else."""
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    buffering = 1 if os.isatty(1) else -1
    sys.stdout = os.fdopen(1, "w", buffering=buffering, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _become(request: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    # Behind the folder of the program.
    sys.path[1:1] = request["path"]
    time.tzset()
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "")
    sys.argv[1:] = request["arguments"]


def _run(program: str | None) -> object:
    """What the command, or the program, exits with."""
    try:
        if program is None:
            runpy.run_module("llama_client", run_name="__main__", alter_sys=True)
        else:
            sys.argv[0], sys.path[0] = program, str(Path(program).parent)
            runpy.run_path(program, run_name="__main__")
    except SystemExit as ending:
        return ending.code
    return None


def _end(code: object) -> NoReturn:
    """As the interpreter does, but for taking apart each module: that is most of what a short command would cost here,
    as all modules are imported."""
    if isinstance(code, int | None):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit((code or 0) & 0xFF)
    # What cannot be written, and an exit with a text, is told by the interpreter.
    raise SystemExit(code)


def _accept(listening: socket.socket, lifeline: int) -> socket.socket | None:
    """Forks for each worker; in a child it returns the connection to it, and None at the end of the tests."""
    is_ready = False
    children: set[int] = set()
    while True:
        ready, _, _ = select.select([listening.fileno(), lifeline], [], [])
        if lifeline in ready:
            # So that their processor time is told to who waits for this one.
            for pid in children:
                os.waitpid(pid, 0)
            return None
        if not is_ready:
            # What no test asks for is not imported.
            _import_all()
            gc.collect()
            gc.freeze()
            is_ready = True
        theirs, _ = listening.accept()
        pid = os.fork()
        if pid == 0:
            listening.close()
            os.close(lifeline)
            return theirs
        children.add(pid)
        children.difference_update([each for each in children if os.waitpid(each, os.WNOHANG)[0]])
        theirs.close()


def _child() -> dict[str, Any] | None:
    """Serves; in a command's process it returns what it is to be."""
    listening, lifeline = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    theirs = _accept(listening, lifeline)
    if theirs is None:
        listening.close()
        return None
    with theirs:
        return _serve(theirs)


if __name__ == "__main__":
    begun = _child()
    if begun is not None:
        _become(begun)
        if begun.get("terminal"):
            _take_terminal()
        if begun.get("started"):
            _open_streams()
            # Whatever the process that runs the tests ignores.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _end(_run(begun.get("program")))
