"""Environments with the lowest or the newest allowed versions, made by uv, and what is run in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from llama_client.diagnostics.machine import EXTRAS
from tests.supply.bounds import ROOT, extras

Versions = Literal["lowest", "newest"]
_RESOLUTION = {"lowest": "lowest-direct", "newest": "highest"}
# What each direct dependency is used by: requests, answers, the configuration, the plan, money.
TESTS = ("tests/wire", "tests/config", "tests/routing", "tests/costs")
# Old versions warn of what newer ones beside them have deprecated, which is no fault of this package.
_WARNINGS = {"lowest": ("-W", "default"), "newest": ()}


def uv(*arguments: str, quiet: bool = True) -> None:
    subprocess.run([sys.executable, "-m", "uv", *arguments, *(("--quiet",) if quiet else ())], check=True, cwd=ROOT)


def requirements_file(folder: Path, versions: Versions, extra: str) -> Path:
    """The exact versions that an extra resolves to, and no address of an index."""
    file = folder / f"{versions}-{extra or 'base'}.txt"
    chosen = ("--extra", extra) if extra else ()
    options = ("--resolution", _RESOLUTION[versions], "--upgrade", "--no-header", "--output-file", str(file))
    uv("pip", "compile", "pyproject.toml", *chosen, *options, "--python", sys.executable)
    return file


def environment(folder: Path, versions: Versions, extra: str) -> Path:
    """A new environment with the package and that extra; returns its Python."""
    home = folder / f"env-{versions}-{extra or 'base'}"
    uv("venv", "--python", sys.executable, str(home))
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pinned = requirements_file(folder, versions, extra)
    uv("pip", "install", "--python", str(python), "--requirements", str(pinned))
    uv("pip", "install", "--python", str(python), "--no-deps", ".")
    return python


def check(folder: Path, versions: Versions, tests: Sequence[str]) -> list[str]:
    """Tries each extra alone, then runs the tests with all of them; returns what failed."""
    failed = []
    for extra in ("", *extras()):
        python = environment(folder, versions, extra)
        lacking = {module for name, modules in EXTRAS.items() if name != extra for module in modules}
        # The test kit has fixtures for pytest, which is nothing that a program needs.
        lacking = lacking - set(EXTRAS.get(extra, ())) | {"pytest"}
        smoke = [str(python), str(ROOT / "tests" / "supply" / "smoke.py"), *sorted(lacking)]
        # Elsewhere, so that the package is the installed one.
        is_ok = subprocess.run(smoke, cwd=folder, env=_environ(), check=False).returncode == 0
        print(f"{versions}, {f'extra {extra}' if extra else 'no extra'}: {'ok' if is_ok else 'FAILED'}", flush=True)
        failed += [] if is_ok else [extra or "no extra"]
    python = environment(folder, versions, "dev")
    pytest = [str(python), "-m", "pytest", "-q", *_WARNINGS[versions], *tests]
    if subprocess.run(pytest, cwd=ROOT, env=_environ(), check=False).returncode:
        failed.append("the tests")
    return failed


def _environ() -> dict[str, str]:
    """Without what would put another copy of the package first."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
