"""A folder in which a fuzzed command or configuration may do what it wants, and nothing outside it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONUTF8", "SYSTEMROOT", "TEMP", "TMP")
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile", "pty.spawn")
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.truncate",
    "os.utime",
    "shutil.rmtree",
    "shutil.move",
    "shutil.copyfile",
    "shutil.copymode",
    "sqlite3.connect",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Guard:
    """An audit hook, which cannot be removed: without a folder it allows everything."""

    folder: str | None = None
    is_installed = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        # By the instance: at the end of the interpreter the module's names are gone.
        folder = self.folder
        if folder is None:
            return
        if event in _STARTS:
            raise PermissionError(f"the sandbox starts no programs ({event})")
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
            raise PermissionError("the sandbox has no network")
        if event == "open":
            path, mode, flags = arguments
            is_write = (isinstance(mode, str) and any(sign in mode for sign in "wax+")) or bool(flags & _WRITES)
            if is_write and isinstance(path, str | bytes | os.PathLike):
                self._require_inside(path, folder)
        elif event in _CHANGES:
            for path in arguments:
                if isinstance(path, str | bytes | os.PathLike) and path != ":memory:":
                    self._require_inside(path, folder)

    def _require_inside(self, path: Any, folder: str) -> None:
        text = os.fsdecode(path)
        text = text.removeprefix("file:").partition("?")[0]
        if text == os.devnull:
            return
        if not os.path.realpath(text).startswith(folder):
            raise PermissionError(13, f"the sandbox writes nothing outside its folder: {text}")


@contextmanager
def sandbox() -> Iterator[Path]:
    """An empty home and working folder, none of the user's variables, no network, no other programs."""
    if not _Guard.is_installed:
        sys.addaudithook(_Guard())
        _Guard.is_installed = True
    before, here = dict(os.environ), os.getcwd()
    # In memory where that is possible: each input writes files.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as name:
        home = Path(os.path.realpath(name))
        work, temporary = home / "work", home / "temporary"
        work.mkdir()
        temporary.mkdir()
        os.environ.clear()
        os.environ.update({name: value for name, value in before.items() if name in _KEPT})
        os.environ.update(
            {"HOME": str(home), "USERPROFILE": str(home), "LLAMA_CLIENT_CACHE_DIR": str(home / "cache")}
            | {"OLLAMA_HOST": "127.0.0.1:1", "COLUMNS": "80", "NO_COLOR": "1"}
        )
        os.chdir(work)
        _Guard.folder = str(home)
        try:
            with patch.object(tempfile, "tempdir", str(temporary)):
                yield work
        finally:
            _Guard.folder = None
            os.chdir(here)
            os.environ.clear()
            os.environ.update(before)
