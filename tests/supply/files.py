"""The wheel and the source distribution, built twice from the same commit: the bytes must be the same."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.supply.bounds import ROOT

# What differs between two machines: the folder, the rights of new files, the times of files, the time zone, the
# language, the order of sets.
_MACHINES = (
    (0o022, 1_000_000_000, {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}),
    (0o077, 1_700_000_000, {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "2"}),
)


def commit_time() -> str:
    """The time of the last commit, which the files in both distributions get."""
    return _git("log", "-1", "--format=%ct").strip()


def build_twice(folder: Path) -> list[dict[str, str]]:
    """The SHA-256 of each file that is built, by its name; once for each of the two machines."""
    built = []
    for number, (umask, mtime, environ) in enumerate(_MACHINES):
        source = folder / ("a" * (1 + 20 * number)) / "source"
        _copy(source, umask, mtime)
        result = folder / f"dist-{number}"
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "--directory", str(result)],
            cwd=source,
            env={**os.environ, **environ, "SOURCE_DATE_EPOCH": commit_time()},
            umask=umask if os.name == "posix" else -1,
            check=True,
            capture_output=True,
        )
        built.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(result.iterdir())})
    return built


def _copy(target: Path, umask: int, mtime: int) -> None:
    """The files that git tracks, as they are now, with other rights and times."""
    for name in _git("ls-files", "-z").split("\0"):
        source = ROOT / name
        if not name or not source.is_file():
            continue
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, file)
        # Git keeps one right of a file: whether it may be executed.
        file.chmod((source.stat().st_mode | 0o666) & 0o777 & ~umask)
        os.utime(file, (mtime, mtime))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout
