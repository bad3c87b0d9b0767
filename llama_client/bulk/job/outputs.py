"""Which files a job has written: those it may write again."""

from __future__ import annotations

import os
from pathlib import Path

_NAME = "outputs"


def has_written(folder: Path, output: Path) -> bool:
    """Whether a file is the job's own, as far as its folder tells."""
    try:
        known = (folder / _NAME).read_text(encoding="utf-8", errors="surrogateescape").split("\0")
    except OSError:
        return False
    return _name_of(folder, output) in known


def note_output(folder: Path, output: Path) -> None:
    if not has_written(folder, output):
        with (folder / _NAME).open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{_name_of(folder, output)}\0")


def _name_of(folder: Path, output: Path) -> str:
    """From the folder, since both may be moved together."""
    try:
        return os.path.relpath(output.resolve(), folder.resolve())
    except ValueError:
        # Another drive, on Windows.
        return str(output.resolve())
