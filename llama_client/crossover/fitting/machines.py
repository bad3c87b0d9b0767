"""The memory of a machine: this one's, or one of named GPUs."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from llama_client.config.crossover_tables import MemoryKind
from llama_client.crossover.fitting.memory import require_positive, system_reserve_bytes, wired_limit_bytes
from llama_client.crossover.parallelism import MAX_GPUS
from llama_client.crossover.scenario import invalid
from llama_client.crossover.tables import Tables
from llama_client.errors import InvalidRequestError
from llama_client.system_probe import SystemProbe, group_limits

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


_MIB = 2**20
SMI_COMMAND = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
ROCM_COMMAND = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json")
# A title, the memory and its free part, in bytes; None: unknown.
SeenGpu = tuple[str, int | None, int | None]


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
    """The memory limits of this process's control groups and their parents."""
    texts = group_limits(probe.read, "memory", version_2="memory.max", version_1=("memory.limit_in_bytes",))
    # `max` is no limit; neither is version 1's 2^63 less a page, which is more than any machine has.
    return list(filter(None, map(_whole, texts)))


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
