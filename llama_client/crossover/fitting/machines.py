"""The memory of a machine: this one's, or one of named GPUs."""

from __future__ import annotations

import csv
import json
import platform
import posixpath
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from llama_client.config.crossover_tables import MemoryKind
from llama_client.crossover.fitting.memory import MAX_GPUS, require_positive, system_reserve_bytes, wired_limit_bytes
from llama_client.crossover.scenario import invalid
from llama_client.crossover.tables import Tables
from llama_client.errors import InvalidRequestError

# What drivers put around a name, without telling cards apart.
_NOISE = re.compile(r"\b(?:nvidia|amd|geforce|instinct|apple|tesla|oam)\b|\((?:r|tm)\)|[®™]", re.IGNORECASE)
# Rows whose drivers' names are not the row's own name or title. The whole of what is left must match: a laptop's
# `RTX 4090 Laptop GPU` has 16 GB and is another card.
_DRIVER_NAMES = {
    "a100_sxm_40": r"a100[ -]sxm4?[ -]40gb",
    "a100_sxm_80": r"a100[ -]sxm4?[ -]80gb",
    "a100_pcie_80": r"a100 80gb pcie",
    "h100_sxm": r"h100(?: sxm\d?)?(?: 80gb)? hbm3|h100 sxm\d?",
    "h200_sxm": r"h200(?: sxm\d?)?(?: 141gb)?(?: hbm3e)?",
    "b200_sxm": r"b200(?: sxm\d?)?",
    "rtx_pro_6000_server": r"rtx pro 6000 blackwell server edition",
    "ryzen_ai_max_395": r"ryzen ai max\+? (?:pro )?395.*|radeon 8060s(?: graphics)?",
}


def row_name(title: str, tables: Tables) -> str | None:
    """The name of a GPU's row; None: the tables have none, or it is not certain."""
    plain = " ".join(_NOISE.sub(" ", title).split()).lower()
    name = next((row for row, pattern in _DRIVER_NAMES.items() if re.fullmatch(pattern, plain)), plain)
    try:
        return tables.gpu(name).name
    except InvalidRequestError:
        return None


# A driver that hangs must not hang the command; a cold nvidia-smi takes two seconds.
_COMMAND_S = 10.0
_MIB = 2**20
SMI_COMMAND = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
ROCM_COMMAND = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json")
# A title, the memory and its free part, in bytes; None: unknown.
SeenGpu = tuple[str, int | None, int | None]


@dataclass(frozen=True, slots=True)
class SystemProbe:
    system: str
    read: Callable[[str], str | None]
    run: Callable[[Sequence[str]], str | None]
    windows_ram_bytes: Callable[[], int | None]

    @classmethod
    def real(cls) -> SystemProbe:
        return cls(platform.system(), _read, _run, _windows_ram_bytes)


def ram_bytes(probe: SystemProbe) -> int | None:
    """The RAM, within the limits of the control group that this process is in; None: unknown."""
    match probe.system:
        case "Linux":
            total = re.search(r"^MemTotal:\s*(\d+) kB$", probe.read("/proc/meminfo") or "", re.MULTILINE)
            return min([*_cgroup_limits(probe), *([int(total[1]) * 1024] if total else [])], default=None)
        case "Darwin":
            return _whole(probe.run(("sysctl", "-n", "hw.memsize")))
        case "Windows":
            return probe.windows_ram_bytes()
        case _:
            return None


def smi_gpus(probe: SystemProbe) -> list[SeenGpu]:
    found: list[SeenGpu] = []
    for row in csv.reader((probe.run(SMI_COMMAND) or "").splitlines(), skipinitialspace=True):
        if len(row) == 3:
            total, free = (None if (mib := _whole(cell)) is None else mib * _MIB for cell in row[1:])
            found.append((row[0].strip(), total, free))
    return found


def rocm_gpus(probe: SystemProbe) -> list[SeenGpu]:
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
        total, used = (_whole(fields.get(f"vram total {what}memory (b)")) for what in ("", "used "))
        found.append((title, total, None if total is None or used is None else total - used))
    return found


def _whole(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isdecimal() else None


def _cgroup_limits(probe: SystemProbe) -> list[int]:
    """The memory limits of this process's control groups and their parents, up to the root of the mount."""
    # To the root, as inside a container the paths may be the host's.
    limits: list[int] = []
    for line in (probe.read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, file = "/sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        folders = (path, *PurePosixPath(path).parents)
        read = (_whole(probe.read(posixpath.normpath(f"{root}/{folder}/{file}"))) for folder in folders)
        # `max` is no limit; neither is version 1's 2^63 less a page, which is more than any machine has.
        limits += filter(None, read)
    return limits


def _read(path: str) -> str | None:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
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


@dataclass(frozen=True, slots=True)
class MachineGpu:
    title: str
    memory_bytes: int
    usable_bytes: int
    row: str | None = None
    vendor: str = "nvidia"
    memory_kind: MemoryKind | None = None
    free_bytes: int | None = None
    has_fp4: bool | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    gpus: tuple[MachineGpu, ...] = ()
    ram_bytes: int | None = None

    @property
    def has_unified_memory(self) -> bool:
        """Whether GPU and CPU share one memory, which must not be counted twice."""
        return any(gpu.memory_kind == "unified" for gpu in self.gpus)

    @property
    def usable_gpu_bytes(self) -> int:
        return sum(gpu.usable_bytes for gpu in self.gpus)

    @property
    def usable_ram_bytes(self) -> int | None:
        return None if self.ram_bytes is None else self.ram_bytes - system_reserve_bytes(self.ram_bytes)

    @property
    def gpus_are_alike(self) -> bool:
        return bool(self.gpus) and len({(gpu.title, gpu.usable_bytes) for gpu in self.gpus}) == 1

    def with_gpus(self, count: int) -> Machine:
        """The same machine with another number of its first GPU."""
        gpu = self.gpus[0]
        return Machine(f"{count} x {gpu.title}", (gpu,) * count, self.ram_bytes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"usable_gpu_bytes": self.usable_gpu_bytes, "usable_ram_bytes": self.usable_ram_bytes}


def named(gpu: str, n_gpus: int = 1, *, tables: Tables | None = None, ram_bytes: int | None = None) -> Machine:
    """A machine of GPUs of one name, with the memory that the tables state; a driver may report a little less."""
    row = (tables or Tables.bundled()).gpu(gpu)
    require_positive(gpus=n_gpus)
    if n_gpus > MAX_GPUS:
        raise invalid("gpus", f"must be at most {MAX_GPUS}, got {n_gpus}")
    memory = round(row.memory_gib * 2**30)
    usable = _usable(row.vendor, row.memory_kind, memory)
    fp4 = row.fp4_tflops is not None
    one = MachineGpu(row.title or row.name, memory, usable, row.name, row.vendor, row.memory_kind, None, fp4)
    # Shared memory is the CPU's too.
    ram = memory if row.memory_kind == "unified" and ram_bytes is None else ram_bytes
    return Machine(f"{n_gpus} x {one.title}", (one,) * n_gpus, ram)


def this_machine(probe: SystemProbe | None = None, *, tables: Tables | None = None) -> Machine:
    seen = probe or SystemProbe.real()
    tables = tables or Tables.bundled()
    ram = ram_bytes(seen)
    found = _apple_gpus(seen, ram, tables) if seen.system == "Darwin" else _gpus_of_tools(seen, ram, tables)
    return Machine("this machine", found, ram)


def _apple_gpus(probe: SystemProbe, ram: int | None, tables: Tables) -> tuple[MachineGpu, ...]:
    title = (probe.run(("sysctl", "-n", "machdep.cpu.brand_string")) or "").strip()
    # A Mac with Intel's CPU may have a GPU, but none that llama.cpp would use.
    if ram is None or not title.startswith("Apple"):
        return ()
    limit_mib = _whole(probe.run(("sysctl", "-n", "iogpu.wired_limit_mb")))
    usable = min(limit_mib * _MIB, ram) if limit_mib else _usable("apple", "unified", ram)
    return (MachineGpu(title, ram, usable, row_name(title, tables), "apple", "unified", None, False),)


def _gpus_of_tools(probe: SystemProbe, ram: int | None, tables: Tables) -> tuple[MachineGpu, ...]:
    gpus = []
    for vendor, seen in (("nvidia", smi_gpus(probe)), ("amd", rocm_gpus(probe))):
        for title, memory, free in seen:
            name = row_name(title, tables)
            row = None if name is None else tables.gpu(name)
            kind = None if row is None else row.memory_kind
            # Of a chip that shares the CPU's memory, the driver reports a part of it or nothing.
            size = ram if kind == "unified" and ram is not None else memory
            if size is None:
                continue
            usable = _usable(vendor, kind, size)
            fp4 = None if row is None else row.fp4_tflops is not None
            gpus.append(MachineGpu(title, size, usable, name, vendor, kind, free, fp4))
    return tuple(gpus)


def _usable(vendor: str, kind: MemoryKind | None, memory_bytes: int) -> int:
    if kind != "unified":
        return memory_bytes
    return wired_limit_bytes(memory_bytes) if vendor == "apple" else memory_bytes - system_reserve_bytes(memory_bytes)
