"""A forked command on pipes, with what the tests use of `subprocess.Popen`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from tests.cli.forks import Forks, Started


class Piped:
    def __init__(self, started: Started, stdin: IO[bytes] | None, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self._started = started
        self.stdin = stdin
        self.stdout: IO[bytes] | None = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._opened = [each for each in (stdin, stdout, stderr) if each is not None]

    @property
    def pid(self) -> int:
        return self._started.pid

    def __enter__(self) -> Piped:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._opened:
            each.close()
        self._started.__exit__()

    def poll(self) -> int | None:
        self.returncode = self._started.poll()
        return self.returncode

    def wait(self, timeout: float) -> int:
        self.returncode = self._started.wait(timeout)
        return self.returncode

    def send_signal(self, sent: signal.Signals) -> None:
        os.kill(self.pid, sent)

    def kill(self) -> None:
        self._started.kill()

    def communicate(self, timeout: float) -> tuple[bytes, bytes]:
        """What it writes to its end; its input is closed."""
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.close()
        with ThreadPoolExecutor(2) as threads:
            out = threads.submit(self.stdout.read if self.stdout is not None else bytes)
            err = threads.submit(self.stderr.read)
            try:
                self.wait(timeout)
            except TimeoutError:
                self.kill()
                raise
            return out.result(), err.result()


def start_piped(
    forking: Forks, arguments: Sequence[str], env: Mapping[str, str], stdin: int, program: Path | None
) -> Piped | None:
    """The command, or the program, with an input as `Popen` takes it; None: it must be started in the usual way."""
    ours: list[int] = []
    theirs: list[int] = []
    try:
        if stdin == subprocess.PIPE:
            reads, writes = os.pipe()
            theirs.append(reads)
            ours.append(writes)
        else:
            theirs.append(os.open(os.devnull, os.O_RDONLY) if stdin == subprocess.DEVNULL else os.dup(stdin))
        for _ in range(2):
            reads, writes = os.pipe()
            ours.append(reads)
            theirs.append(writes)
        started = forking.start(arguments, env, theirs, program=program)
    finally:
        for fd in theirs:
            os.close(fd)
    if started is None:
        for fd in ours:
            os.close(fd)
        return None
    written = os.fdopen(ours.pop(0), "wb", buffering=0) if stdin == subprocess.PIPE else None
    out, err = (os.fdopen(fd, "rb", buffering=0) for fd in ours)
    return Piped(started, written, out, err)
