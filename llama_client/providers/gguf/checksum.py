"""Checksums of files that are large enough to tell how far it has come."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from llama_client.errors import ModelLoadError

# How far a step has come: what it does, bytes done, bytes in all (None: not known).
Progress = Callable[[str, int, int | None], None]

_BLOCK_BYTES = 1 << 20


def checksum(path: Path, progress: Progress) -> str:
    """The SHA-256 of a file, in hex.

    Raises:
        ModelLoadError: It cannot be read.
    """
    digest, done = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            total = path.stat().st_size
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                done += len(block)
                progress("checking", done, total)
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror or error}", path=str(path)) from error
    return digest.hexdigest()
