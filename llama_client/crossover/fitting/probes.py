"""Asks the system for its RAM and its GPUs: files, small commands, one call of Windows. Injected: tests replay answers.

Each answer may be missing, cut or strange; then it is None or left out.
"""

from __future__ import annotations

import csv
import json
import platform
import posixpath
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# A driver that hangs must not hang the command; a cold nvidia-smi takes two seconds.
_COMMAND_S = 10.0
_MIB = 2**20
SMI_COMMAND = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
ROCM_COMMAND = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json")
SeenGpu = tuple[str, int | None, int | None]
"""Its title, its memory and what is free of it, in bytes; None: it does not say."""


@dataclass(frozen=True, slots=True)
class Probe:
    """How the machine is asked.

    Attributes:
        system: `Linux`, `Darwin` or `Windows`.
        read: The text of a file; None: there is none.
        run: What a command prints; None: it is missing, fails or takes too long.
        windows_ram_bytes: What Windows says; None: it does not.
    """

    system: str
    read: Callable[[str], str | None]
    run: Callable[[Sequence[str]], str | None]
    windows_ram_bytes: Callable[[], int | None]

    @classmethod
    def real(cls) -> Probe:
        """Of the machine that this runs on."""
        return cls(platform.system(), _read, _run, _windows_ram_bytes)


def ram_bytes(probe: Probe) -> int | None:
    """The RAM, within the limits of the control group that this process is in; None: unknown."""
    match probe.system:
        case "Linux":
            total = _meminfo_bytes(probe.read("/proc/meminfo") or "")
            limits = _cgroup_limits(probe)
            return min([*limits, total]) if total is not None else min(limits, default=None)
        case "Darwin":
            text = (probe.run(("sysctl", "-n", "hw.memsize")) or "").strip()
            return int(text) if text.isdecimal() else None
        case "Windows":
            return probe.windows_ram_bytes()
        case _:
            return None


def smi_gpus(probe: Probe) -> list[SeenGpu]:
    """NVIDIA's GPUs, as `nvidia-smi` lists them."""
    found: list[SeenGpu] = []
    for row in csv.reader((probe.run(SMI_COMMAND) or "").splitlines(), skipinitialspace=True):
        if len(row) == 3:
            total, free = (int(cell) * _MIB if cell.strip().isdecimal() else None for cell in row[1:])
            found.append((row[0].strip(), total, free))
    return found


def rocm_gpus(probe: Probe) -> list[SeenGpu]:
    """AMD's GPUs, as `rocm-smi` lists them; the names of its fields changed their case between versions."""
    try:
        cards = json.loads(probe.run(ROCM_COMMAND) or "{}")
    except ValueError:
        return []
    found: list[SeenGpu] = []
    for card, values in cards.items() if isinstance(cards, dict) else ():
        if not card.startswith("card") or not isinstance(values, dict):
            continue
        fields = {str(name).lower(): str(value).strip() for name, value in values.items()}
        title = next((fields[name] for name in ("card series", "card model") if fields.get(name)), "AMD GPU")
        total, used = (fields.get(f"vram total {what}memory (b)", "") for what in ("", "used "))
        size = int(total) if total.isdecimal() else None
        free = size - int(used) if size is not None and used.isdecimal() else None
        found.append((title, size, free))
    return found


def _meminfo_bytes(text: str) -> int | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _cgroup_limits(probe: Probe) -> list[int]:
    """The memory limits of this process's control groups and of all above them.

    Inside a container the paths of /proc/self/cgroup may be the host's; the root of what is mounted is read too.
    """
    limits = []
    for line in (probe.read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, file = "/sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        for folder in _upwards(path):
            text = (probe.read(posixpath.normpath(f"{root}/{folder}/{file}")) or "").strip()
            # `max` is no limit; neither is version 1's 2^63 less a page, which is more than any machine has.
            if text.isdecimal() and int(text) > 0:
                limits.append(int(text))
    return limits


def _upwards(path: str) -> list[str]:
    folders = [path]
    while path not in ("/", ""):
        path = posixpath.dirname(path)
        folders.append(path)
    return folders


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _run(command: Sequence[str]) -> str | None:
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        # S603: the commands are constants of this file.
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
