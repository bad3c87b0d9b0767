"""Paths that a job is given, checked before anything is opened."""

from __future__ import annotations

import os
from pathlib import Path

from llama_client.errors import InvalidRequestError


def checked_path(path: object, param: str) -> Path:
    """A path that an argument gives.

    Raises:
        InvalidRequestError: It is no path, or an empty one.
    """
    if not isinstance(path, str | os.PathLike):
        got = f"a value of type {type(path).__name__}"
    elif not isinstance(os.fspath(path), str):
        got = "bytes"
    elif "\0" in os.fspath(path):
        got = "one with a NUL in it"
    elif not Path(path).name:
        got = f"{os.fspath(path)!r}, which has no name"
    else:
        return Path(path)
    raise InvalidRequestError(f"{param}: must be a path, got {got}", param=param)
