"""What the files of a model are, so that answers of another file are never taken for its own."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from llama_client.providers.gguf.header import present_parts

# Of each file so many samples are read, the first of which has the header: a few milliseconds, once for each file.
_SAMPLES, _SAMPLE_BYTES = 16, 1 << 16
_MAX_KNOWN = 256


class ModelFile(NamedTuple):
    """A file as it was when it was looked at."""

    path: str
    size_bytes: int
    changed_ns: int


def files_of(model: Path, others: Sequence[Path]) -> tuple[ModelFile, ...]:
    """The files of a model, with those of its adapters and projector. OSError: one is missing."""
    return tuple(_looked_at(path) for path in (*present_parts(model), *others))


def _looked_at(path: Path) -> ModelFile:
    found = path.stat()
    return ModelFile(str(path), found.st_size, found.st_mtime_ns)


@functools.lru_cache(_MAX_KNOWN)
def identity_of(file: ModelFile) -> str:
    """Its path, size, time and samples of its content: files of one size and time exist, as in images of containers."""
    digest = hashlib.blake2b(repr(file).encode(), digest_size=16)
    step = max(file.size_bytes // _SAMPLES, _SAMPLE_BYTES)
    with open(file.path, "rb") as opened:
        for start in range(0, file.size_bytes, step):
            opened.seek(start)
            digest.update(opened.read(_SAMPLE_BYTES))
    return digest.hexdigest()


@functools.cache
def library_version() -> str | None:
    """A newer llama.cpp may render a template otherwise."""
    try:
        return version("xllamacpp")
    except PackageNotFoundError:
        return None
