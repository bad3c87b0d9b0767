"""One process at a time works on a job's folder; the error of another one names it."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from llama_client.errors import JobError

# A holder on another machine that did not touch its lock for so long has ended.
_STALE_S = 120.0
BEAT_S = 15.0
# Windows locks are exclusive for readers too: so a byte is locked where nothing is written.
_LOCKED_AT = 1 << 30

# The folders that this process holds: a lock of the operating system does not keep out its own process.
_held: set[str] = set()
_guard = threading.Lock()


class FolderLock:
    """Held from its creation until `release`. A dead process's lock is free at once on its own machine.

    Raises:
        JobError: Another process, or another job of this one, has the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = str(folder.resolve())
        self._path = folder / "lock"
        with _guard:
            if self._key in _held:
                raise JobError(f"{folder}: in use by another job of this process", folder=folder)
            _held.add(self._key)
        try:
            self._file: IO[bytes] = open(self._path, "a+b", buffering=0)  # noqa: SIM115
            try:
                self._take()
            except BaseException:
                self._file.close()
                raise
        except BaseException:
            _held.discard(self._key)
            raise
        self._beat_at = time.monotonic()

    def beat(self) -> None:
        """Shows other machines that this process still has it. Cheap; called with each group of results."""
        now = time.monotonic()
        if now - self._beat_at >= BEAT_S:
            self._beat_at = now
            os.utime(self._path)

    def release(self) -> None:
        try:
            self._file.truncate(0)
            _unlock(self._file)
        finally:
            self._file.close()
            _held.discard(self._key)

    def _take(self) -> None:
        is_ours = _lock(self._file)
        self._file.seek(0)
        holder = _holder(self._file.read(4096))
        if not is_ours:
            raise self._in_use(holder)
        is_elsewhere = holder.get("host") not in (None, socket.gethostname())
        if is_elsewhere and self._age_s() < _STALE_S:
            # Not every shared file system passes locks on to other machines.
            raise self._in_use(holder)
        self._file.truncate(0)
        told = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        self._file.write(json.dumps(told).encode())

    def _age_s(self) -> float:
        """How long ago the holder touched it, by the clock of the file system."""
        probe = self._folder / f".clock-{os.getpid()}"
        try:
            probe.touch()
            return probe.stat().st_mtime - self._path.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _in_use(self, holder: dict[str, Any]) -> JobError:
        if not holder:
            return JobError(f"{self._folder}: in use by another process; wait for its end", folder=self._folder)
        who = f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
        return JobError(f"{self._folder}: in use by {who}; wait for its end, or stop it", folder=self._folder)


def _holder(content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> bool:
        file.seek(_LOCKED_AT)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        file.seek(_LOCKED_AT)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> bool:
        try:
            # By record, which network file systems support, and a forked child does not inherit.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LOCKED_AT)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, _LOCKED_AT)
