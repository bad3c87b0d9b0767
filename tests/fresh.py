"""Programs in a process of their own, which has loaded nothing but what each process of the package may have."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cli.forks import forks

_TIMEOUT_S = 120
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ran:
    """A program that has ended."""

    code: int
    out: str
    err: str


def run(source: str, *arguments: str | Path) -> Ran:
    """Runs a program in the current folder: a fork where the system has it, which is spared the imports.

    It can import the tests, and has its arguments in `sys.argv[1:]`.
    """
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONPATH": path}
    words, forking = [*map(str, arguments)], forks()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(source, encoding="utf-8")
        if forking is not None:
            forked = forking.run(words, b"", environment, _TIMEOUT_S, program=program)
            if forked is not None:
                return Ran(forked[0], forked[1].decode(), forked[2].decode())
        return _spawned([sys.executable, str(program), *words], environment)


def _spawned(command: Sequence[str], environment: dict[str, str]) -> Ran:
    done = subprocess.run(
        command, env=environment, capture_output=True, timeout=_TIMEOUT_S, check=False, encoding="utf-8"
    )
    return Ran(done.returncode, done.stdout, done.stderr)
