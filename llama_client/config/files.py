"""Reads small files safely, and writes files atomically."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from llama_client.errors import ConfigError

# A configuration is a page or two; a larger file is something else.
MAX_CONFIG_BYTES = 1 << 20
# No number of a configuration needs more, nor does TOML have more.
_NUMBER_BITS = 64


def read_regular_file(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file (links followed), cut at one byte more than `max_bytes`."""
    # Before opening, as opening alone may block or have an effect: a pipe waits for a writer, a device may never end.
    _require_regular(path, os.stat(path).st_mode)
    # It may have become a pipe since.
    nonblocking = getattr(os, "O_NONBLOCK", 0)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | nonblocking)) as file:
        _require_regular(path, os.fstat(file.fileno()).st_mode)
        return file.read(max_bytes + 1)


def text_of(content: bytes) -> str:
    return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def toml_values(text: str) -> dict[str, Any]:
    """The values of a TOML text, with numbers that fit into 64 bits; ValueError or RecursionError: it is none."""
    values = tomllib.loads(text)
    _require_numbers(values)
    return values


def _require_numbers(value: object) -> None:
    # Python writes a hexadecimal number of any length into an int, and refuses to print it.
    if isinstance(value, int) and value.bit_length() > _NUMBER_BITS:
        raise ValueError("a whole number has more than 64 bits")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _require_numbers(inner)


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """A draft in the same folder, moved to `path` once it is complete; a link stays, its target is replaced."""
    # Not `Path.resolve`, which raises a `RuntimeError` for links in a circle.
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".llama-client-{secrets.token_hex(8)}")
    try:
        # The user's default mode for new files, unlike that of `tempfile`.
        with draft.open("xb") as file:
            yield file
        if not overwrite:
            _link_new(draft, target)
            return
        if target.exists():
            shutil.copymode(target, draft)
        draft.replace(target)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _link_new(draft: Path, target: Path) -> None:
    try:
        target.hardlink_to(draft)
    except OSError:  # the file exists, or its file system has no links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        draft.replace(target)


def write_text(path: Path, text: str, *, overwrite: bool) -> None:
    require_writable(path, overwrite=overwrite)
    try:
        with atomic_file(path, overwrite=overwrite) as file:
            file.write(text.encode())
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from None


def require_writable(path: Path, *, overwrite: bool) -> None:
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; name a file in it")
        if not overwrite and (path.exists() or path.is_symlink()):
            raise _exists(path)
        if not path.resolve().parent.is_dir():
            raise ConfigError(f"{path}: folder {path.parent} does not exist; create it first")
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from None


def _exists(path: Path) -> ConfigError:
    return ConfigError(f"{path}: file exists; use --force to overwrite")
