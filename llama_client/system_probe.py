"""What the system tells of itself: its files, its programs, its processors, the control groups of this process."""

from __future__ import annotations

import os
import platform
import posixpath
import shutil
import struct
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# A driver that hangs must not hang the command; a cold nvidia-smi takes two seconds.
_COMMAND_S = 10.0
_GROUPS = "/sys/fs/cgroup"


def _unknown() -> None:
    return None


@dataclass(frozen=True, slots=True)
class SystemProbe:
    """Each answers None where it does not know."""

    system: str
    read: Callable[[str], str | None]
    run: Callable[[Sequence[str]], str | None]
    windows_ram_bytes: Callable[[], int | None]
    # The logical processors: how many there are, which ones this process may use, how many the user lets Python use.
    cpu_count: Callable[[], int | None] = _unknown
    usable_cpus: Callable[[], Collection[int] | None] = _unknown
    told_cpus: Callable[[], int | None] = _unknown
    windows_cores: Callable[[], int | None] = _unknown

    @classmethod
    def real(cls) -> SystemProbe:
        return cls(
            platform.system(),
            _read,
            _run,
            _windows_ram_bytes,
            os.cpu_count,
            _usable_cpus,
            _told_cpus,
            _windows_cores,
        )


def group_limits(
    read: Callable[[str], str | None], controller: str, *, version_2: str, version_1: Sequence[str]
) -> Iterator[str]:
    """The texts of a limit of this process's control groups and their parents, up to the root of the mount.

    Where version 1 has several files for it, their texts are one with spaces between.
    """
    # To the root, as inside a container the paths may be the host's.
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/"):
            continue
        if controllers == "":
            roots, files = [_GROUPS], [version_2]
        elif controller in controllers.split(","):
            # Controllers that share a mount may lack the links under the names of each.
            roots, files = [f"{_GROUPS}/{controller}", f"{_GROUPS}/{controllers}"], [*version_1]
        else:
            continue
        for folder in (f"{root}/{part}" for root in roots for part in (path, *PurePosixPath(path).parents)):
            texts = [read(posixpath.normpath(f"{folder}/{file}")) for file in files]
            known = [text.strip() for text in texts if text is not None]
            if len(known) == len(files):
                yield " ".join(known)


def _read(path: str) -> str | None:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return None


def _run(command: Sequence[str]) -> str | None:
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        # S603: the commands are constants of their callers.
        done = subprocess.run(  # noqa: S603
            [program, *command[1:]], capture_output=True, timeout=_COMMAND_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _windows_ram_bytes() -> int | None:
    """GlobalMemoryStatusEx: https://learn.microsoft.com/windows/win32/api/sysinfoapi/ns-sysinfoapi-memorystatusex."""
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load_percent", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "free", "page_total", "page_free", "virtual_total")),
            ("virtual_free", ctypes.c_uint64),
            ("extended_free", ctypes.c_uint64),
        )

    status = Status(length=ctypes.sizeof(Status))
    try:
        kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - other systems' type stubs lack it
        answered = kernel.GlobalMemoryStatusEx(ctypes.byref(status))
    except (AttributeError, OSError):
        return None
    return int(status.total) if answered else None


def _usable_cpus() -> Collection[int] | None:
    # Only Linux and some other systems tell it.
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    with suppress(OSError):
        return affinity(0) if affinity is not None else None
    return None


def _told_cpus() -> int | None:
    """What PYTHON_CPU_COUNT or `-X cpu_count` says (Python 3.13); else a number that limits nothing."""
    count: Callable[[], int | None] | None = getattr(os, "process_cpu_count", None)
    return count() if count is not None else None


# In GetLogicalProcessorInformationEx, what a record is about: a core. Each record begins with that and its own size.
_OF_CORES = 0
_RECORD = struct.Struct("<II")


def _windows_cores() -> int | None:
    """https://learn.microsoft.com/windows/win32/api/sysinfoapi/nf-sysinfoapi-getlogicalprocessorinformationex."""
    import ctypes

    size = ctypes.c_uint32(0)
    try:
        kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - other systems' type stubs lack it
        kernel.GetLogicalProcessorInformationEx(_OF_CORES, None, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        if not kernel.GetLogicalProcessorInformationEx(_OF_CORES, buffer, ctypes.byref(size)):
            return None
    except (AttributeError, OSError):
        return None
    records, at = 0, 0
    while at + _RECORD.size <= size.value:
        kind, length = _RECORD.unpack_from(buffer.raw, at)
        records += kind == _OF_CORES
        at += max(length, _RECORD.size)
    return records or None
