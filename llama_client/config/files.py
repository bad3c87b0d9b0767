"""Reads small files safely, and writes new ones atomically."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from pathlib import Path

from llama_client.errors import ConfigError

# A configuration is a page or two; more than this is some other file.
MAX_CONFIG_BYTES = 1 << 20
# Windows' editors begin a file with it.
_MARK = "\ufeff"


def read_regular_file(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file, links followed.

    A pipe would be waited for until somebody writes, and a device may never end.
    """
    # Before it is opened, as opening may already wait or do something.
    _require_regular(path, os.stat(path).st_mode)
    with open(path, "rb", opener=_without_waiting) as file:
        _require_regular(path, os.fstat(file.fileno()).st_mode)
        return file.read(max_bytes + 1)


def text_of(content: bytes) -> str:
    """A file's text, with line ends as Python has them."""
    return content.decode("utf-8").removeprefix(_MARK).replace("\r\n", "\n").replace("\r", "\n")


def _without_waiting(path: str, flags: int) -> int:
    # It may have become a pipe since.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def write_whole(path: Path, text: str, *, overwrite: bool) -> None:
    """Writes a text file beside its place and then moves it there."""
    require_free(path, overwrite=overwrite)
    target = path.resolve()
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.draft")
    try:
        # The user's own mode for new files, unlike that of temporary ones.
        with draft.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        if overwrite:
            _replace(draft, target)
        else:
            _place(draft, target, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        draft.unlink(missing_ok=True)


def require_free(path: Path, *, overwrite: bool) -> None:
    """Refuses a place that cannot be written."""
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; name a file in it")
        if not overwrite and (path.exists() or path.is_symlink()):
            raise ConfigError(f"{path}: is there already, and stays as it is; --force replaces it")
        if not path.resolve().parent.is_dir():
            raise ConfigError(f"{path}: there is no folder {path.parent}; make it first")
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from None


def _replace(draft: Path, target: Path) -> None:
    if target.exists():
        shutil.copymode(target, draft)
    draft.replace(target)


def _place(draft: Path, target: Path, path: Path) -> None:
    """Moves the draft to a place where nothing is, however late something comes there."""
    try:
        target.hardlink_to(draft)
    except FileExistsError:
        raise ConfigError(f"{path}: is there already, and stays as it is; --force replaces it") from None
    except OSError:  # a file system without links
        require_free(path, overwrite=False)
        draft.replace(target)
