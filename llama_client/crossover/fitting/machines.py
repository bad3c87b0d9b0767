"""A machine's memory: this one's, as far as it can be seen, or one of GPUs that are named.

What cannot be found out is None or absent; nothing here raises because a tool is missing. How the system is asked is in
probes.py, and which row of the tables a driver's name means in gpu_names.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from llama_client.crossover.fitting.gpu_names import row_name
from llama_client.crossover.fitting.memory import require_positive, system_reserve_bytes, wired_limit_bytes
from llama_client.crossover.fitting.probes import Probe, ram_bytes, rocm_gpus, smi_gpus
from llama_client.crossover.tables import MemoryKind, Tables
from llama_client.errors import InvalidRequestError

MAX_GPUS = 1024
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class MachineGpu:
    """One GPU of a machine.

    Attributes:
        title: As its driver, or its maker, writes it.
        memory_bytes: All that it has.
        usable_bytes: What of it programs may have: less than all where it shares memory with the processor.
        row: The name of its row in the tables; None: it has none.
        vendor: `nvidia`, `amd` or `apple`.
        memory_kind: `hbm`, `gddr` or `unified`; None: unknown.
        free_bytes: What is free of it now; None: unknown.
        has_fp4: Whether it computes in 4 bits; None: unknown.
    """

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
    """A machine, as far as memory goes.

    Attributes:
        name: For people: `this machine`, or `2 x RTX 4090`.
        gpus: Its GPUs; empty: none, or none was found.
        ram_bytes: What the processor has, within the limits of a container; None: unknown, so nothing is put there.
    """

    name: str
    gpus: tuple[MachineGpu, ...] = ()
    ram_bytes: int | None = None

    @property
    def has_unified_memory(self) -> bool:
        """Whether its GPU and its processor share one memory, so that neither adds to the other."""
        return any(gpu.memory_kind == "unified" for gpu in self.gpus)

    @property
    def usable_gpu_bytes(self) -> int:
        """Of all GPUs."""
        return sum(gpu.usable_bytes for gpu in self.gpus)

    @property
    def usable_ram_bytes(self) -> int | None:
        """What programs may have of the RAM; None: unknown."""
        return None if self.ram_bytes is None else self.ram_bytes - system_reserve_bytes(self.ram_bytes)

    @property
    def gpus_are_alike(self) -> bool:
        """Whether there are GPUs and all have the same name and memory."""
        return bool(self.gpus) and len({(gpu.title, gpu.usable_bytes) for gpu in self.gpus}) == 1

    def with_gpus(self, count: int) -> Machine:
        """The same machine with so many of its first GPU."""
        gpu = self.gpus[0]
        return Machine(f"{count} x {gpu.title}", (gpu,) * count, self.ram_bytes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"usable_gpu_bytes": self.usable_gpu_bytes, "usable_ram_bytes": self.usable_ram_bytes}


def named(gpu: str, n_gpus: int = 1, *, tables: Tables | None = None, ram_bytes: int | None = None) -> Machine:
    """A machine of GPUs of one name.

    Its memory is what the table says, in 10^9 bytes as sold; a driver may show up to 7% more.

    Args:
        gpu: A name of the tables, such as `rtx_4090`.
        n_gpus: How many.
        tables: Where it is looked up; None: the bundled ones.
        ram_bytes: What the processor has; None: unknown.

    Raises:
        InvalidRequestError: The name is unknown, or the count is not from 1 to 1024.

    Examples:
        >>> machine = named("RTX 4090", 2)
        >>> machine.name, round(machine.usable_gpu_bytes / 2**30, 1)
        ('2 x RTX 4090', 48.0)
        >>> round(named("m3_ultra").usable_gpu_bytes / 2**30)
        384
    """
    row = (tables or Tables.bundled()).gpu(gpu)
    require_positive("gpus", n_gpus)
    if n_gpus > MAX_GPUS:
        raise InvalidRequestError(f"gpus: must be at most {MAX_GPUS}, got {n_gpus}", param="gpus")
    memory = round(row.memory_gib * 2**30)
    one = MachineGpu(
        row.title or row.name,
        memory,
        _usable(row.vendor, row.memory_kind, memory, None),
        row.name,
        row.vendor,
        row.memory_kind,
        None,
        row.fp4_tflops is not None,
    )
    # Where both share one memory, it is the processor's too.
    ram = memory if row.memory_kind == "unified" and ram_bytes is None else ram_bytes
    return Machine(f"{n_gpus} x {one.title}", (one,) * n_gpus, ram)


def this_machine(probe: Probe | None = None, *, tables: Tables | None = None) -> Machine:
    """The machine that this runs on.

    RAM comes from the system (on Linux within the limits of the control group), GPUs from `nvidia-smi`, `rocm-smi` and
    macOS's `sysctl`.

    Args:
        probe: How files are read and commands run; None: really.
        tables: Where GPUs are looked up by name; None: the bundled ones.
    """
    seen = probe or Probe.real()
    tables = tables or Tables.bundled()
    ram = ram_bytes(seen)
    found = _apple_gpus(seen, ram, tables) if seen.system == "Darwin" else _gpus_of_tools(seen, ram, tables)
    return Machine("this machine", found, ram)


def _apple_gpus(probe: Probe, ram: int | None, tables: Tables) -> tuple[MachineGpu, ...]:
    title = (probe.run(("sysctl", "-n", "machdep.cpu.brand_string")) or "").strip()
    # A Mac with Intel's processor may have a GPU, but none that llama.cpp would use.
    if ram is None or not title.startswith("Apple"):
        return ()
    limit_mib = (probe.run(("sysctl", "-n", "iogpu.wired_limit_mb")) or "").strip()
    limit = int(limit_mib) * _MIB if limit_mib.isdecimal() and int(limit_mib) else None
    usable = _usable("apple", "unified", ram, limit)
    return (MachineGpu(title, ram, usable, row_name(title, tables), "apple", "unified", None, False),)


def _gpus_of_tools(probe: Probe, ram: int | None, tables: Tables) -> tuple[MachineGpu, ...]:
    gpus = []
    for vendor, seen in (("nvidia", smi_gpus(probe)), ("amd", rocm_gpus(probe))):
        for title, memory, free in seen:
            name = row_name(title, tables)
            row = None if name is None else tables.gpu(name)
            kind = None if row is None else row.memory_kind
            # Where a chip shares the processor's memory, its driver tells nothing, or a part.
            size = ram if kind == "unified" and ram is not None else memory
            if size is None:
                continue
            usable = _usable(vendor, kind, size, None)
            fp4 = None if row is None else row.fp4_tflops is not None
            gpus.append(MachineGpu(title, size, usable, name, vendor, kind, free, fp4))
    return tuple(gpus)


def _usable(vendor: str, kind: MemoryKind | None, memory_bytes: int, limit_bytes: int | None) -> int:
    """What programs may have of a GPU's memory, where it may be shared.

    Args:
        limit_bytes: What the user has set (macOS); None: nothing.
    """
    if kind != "unified":
        return memory_bytes
    if vendor == "apple":
        return min(limit_bytes or wired_limit_bytes(memory_bytes), memory_bytes)
    return memory_bytes - system_reserve_bytes(memory_bytes)
