"""Reads files that a configuration is, or names: what they hold is small, and what is no file is not waited for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

# A configuration is a page or two; more than this is some other file.
MAX_CONFIG_BYTES = 1 << 20
# Windows' editors begin a file with it.
_MARK = "\ufeff"


def read_regular_file(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file, links followed.

    A pipe would be waited for until somebody writes, and a device may never end.

    Args:
        path: The file.
        max_bytes: How much is wanted. Of a larger file one byte more is read, which tells that it is larger.

    Raises:
        OSError: It is not there, cannot be read, or is no regular file.
    """
    # Before it is opened, as opening may already wait or do something.
    _require_regular(path, os.stat(path).st_mode)
    with open(path, "rb", opener=_without_waiting) as file:
        _require_regular(path, os.fstat(file.fileno()).st_mode)
        return file.read(max_bytes + 1)


def text_of(content: bytes) -> str:
    """A file's text, with line ends as Python has them.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
    """
    return content.decode("utf-8").removeprefix(_MARK).replace("\r\n", "\n").replace("\r", "\n")


def _without_waiting(path: str, flags: int) -> int:
    # It may have become a pipe since.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
