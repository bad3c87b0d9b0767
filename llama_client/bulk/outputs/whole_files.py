"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from llama_client.errors import JobError

PART = ".part"
"""How the name of a file ends while it is written."""
_BUFFER_BYTES = 2**18


def require_writable(path: Path, *, replace: bool) -> None:
    """Raises `JobError` where a file at `path` could not be written, or another file is there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        parent = path.resolve().parent
        if not parent.is_dir():
            raise JobError(f"{path.name}: its folder {parent} does not exist; create it first") from None
        return
    except (OSError, ValueError) as error:
        raise JobError(f"{path.name}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    if stat.S_ISDIR(found.st_mode):
        raise JobError(f"{path.name}: is a directory; name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise JobError(f"{path.name}: is no regular file; an output is written whole, to a file")
    if not replace:
        raise JobError(
            f"{path.name}: file exists, and is not of this job; move it away, choose another name, or say replace"
        )


@contextmanager
def whole_file(path: Path, *, replace: bool, claim: Callable[[], object] | None) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` at the end of the block; nothing is left where it fails.

    Args:
        path: Where.
        replace: Whether a file that is there is replaced.
        claim: Called right before it takes its place: notes whose the file is, whatever ends this process then.
    """
    require_writable(path, replace=replace)
    # A link stays one: what it leads to is replaced.
    target = path.resolve()
    part = target.with_name(f".{target.name}{PART}")
    try:
        with suppress(FileNotFoundError):
            # Of a process that was killed.
            part.unlink()
        with part.open("xb", buffering=_BUFFER_BYTES) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        require_writable(path, replace=replace)
        if claim is not None:
            claim()
        os.replace(part, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise JobError(
            f"{path.name}: cannot be written ({error.strerror or error}); nothing of it was. "
            "The results are kept by the job: the same call writes them once there is room"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the new name last; Windows has no such call."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
