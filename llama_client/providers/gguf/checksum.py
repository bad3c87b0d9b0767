"""Checksums of files that are large enough to tell how far it has come."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

# How far a step has come: what it does, bytes done, bytes in all (None: not known).
Progress = Callable[[str, int, int | None], None]

_BLOCK_BYTES = 1 << 20


def checksum(path: Path, progress: Progress) -> str:
    """The SHA-256 of a file, in hex."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            progress("checking", done, total)
    return digest.hexdigest()
