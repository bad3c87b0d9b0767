"""This machine: its memory, its GPUs, what llama.cpp sees of them, and the room on its disks."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.doctor.findings import Fact, Finding, Status

if TYPE_CHECKING:
    from llama_client.crossover.fitting.machines import Machine
    from llama_client.crossover.fitting.probes import Probe
    from llama_client.doctor.surroundings import Surroundings

GIB = 2**30
_MIB = 2**20
# In a process of its own: a library that was built for another processor would end this one.
_DEVICES = (
    "import json, xllamacpp; print(json.dumps([[d['type'].name, d['description'], d['memory_total']] "
    "for d in xllamacpp.get_device_info()]))"
)
# A model of 3 billion parameters in four bits takes about two.
_LITTLE_FOR_MODELS_BYTES = 2 * GIB
# Two million rows of the ledger (91 bytes each, measured); below the second SQLite soon cannot write any more.
_LITTLE_FOR_LEDGER_BYTES, _NONE_FOR_LEDGER_BYTES = 200 * _MIB, 10 * _MIB


@dataclass(frozen=True, slots=True)
class Device:
    """One that llama.cpp can compute on."""

    kind: str
    title: str
    memory_bytes: int

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return "GPU" in self.kind


@dataclass(frozen=True, slots=True)
class Hardware:
    """What was found.

    Attributes:
        machine: Its memory and GPUs.
        available_ram_bytes: What programs could take of the RAM now; None: unknown.
        devices: What llama.cpp computes on; None: the library is not there or cannot be loaded.
        has_library: Whether xllamacpp is installed.
    """

    machine: Machine
    available_ram_bytes: int | None
    devices: Sequence[Device] | None
    has_library: bool


def examine_hardware(surroundings: Surroundings) -> Hardware:
    """Asks the system. May take some seconds where drivers are slow."""
    probe = surroundings.probe
    has_library = find_spec("xllamacpp") is not None
    devices = _devices(probe) if has_library else None
    return Hardware(surroundings.machine(probe), _available_bytes(probe), devices, has_library)


def hardware_findings(hardware: Hardware) -> list[Finding]:
    """What is said of memory and GPUs."""
    machine = hardware.machine
    found = []
    if machine.ram_bytes is None:
        found.append(Finding("memory", "machine", "memory", "info", "how much there is cannot be found out"))
    else:
        free = hardware.available_ram_bytes
        now = f", {gib(free)} of it available now" if free is not None else ""
        facts: dict[str, Fact] = {"ram_bytes": machine.ram_bytes, "available_bytes": free}
        found.append(Finding("memory", "machine", "memory", "ok", f"{gib(machine.ram_bytes)} of RAM{now}", facts=facts))
    for gpu in machine.gpus:
        free_gpu = f", {gib(gpu.free_bytes)} of it free now" if gpu.free_bytes is not None else ""
        facts = {"memory_bytes": gpu.memory_bytes, "free_bytes": gpu.free_bytes}
        found.append(Finding("gpu", "machine", gpu.title, "ok", f"{gib(gpu.memory_bytes)}{free_gpu}", facts=facts))
    if not machine.gpus:
        found.append(Finding("gpu", "machine", "gpu", "info", "no GPU was found; models in this process use the CPU"))
    return found


def disk_findings(models: Path, ledger: Path | None) -> list[Finding]:
    """The room where models and the ledger are.

    Args:
        models: The folder of pulled models.
        ledger: The ledger's file; None: it is no file, or switched off.
    """
    found = [_disk("room for models", models, _LITTLE_FOR_MODELS_BYTES, 0)]
    if ledger is not None:
        found.append(_disk("room for the ledger", ledger.parent, _LITTLE_FOR_LEDGER_BYTES, _NONE_FOR_LEDGER_BYTES))
    return found


def gib(size_bytes: float) -> str:
    """A size for people.

    Examples:
        >>> gib(40_000), gib(98_000_000), gib(3 * 2**30)
        ('39 KiB', '93 MiB', '3.0 GiB')
    """
    if size_bytes < _MIB:
        return f"{size_bytes / 1024:,.0f} KiB"
    return f"{size_bytes / GIB:,.1f} GiB" if size_bytes >= GIB else f"{size_bytes / _MIB:,.0f} MiB"


def nearest_folder(path: Path) -> Path:
    """The path itself, or the nearest above it that is there."""
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path(path.anchor or "."))


def _disk(what: str, folder: Path, little_bytes: int, none_bytes: int) -> Finding:
    place = nearest_folder(folder.absolute())
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding("disk", "machine", what, "info", f"{folder}: its free space cannot be found out ({error})")
    status: Status = "problem" if free < none_bytes else "warning" if free < little_bytes else "ok"
    where = "LLAMA_CLIENT_CACHE_DIR" if what == "room for models" else "ledger.url"
    remedy = None if status == "ok" else f"Make room there, or choose another place with {where}."
    facts: dict[str, Fact] = {"free_bytes": free, "folder": str(folder)}
    return Finding("disk", "machine", what, status, f"{gib(free)} free at {folder}", remedy, facts)


def _available_bytes(probe: Probe) -> int | None:
    if probe.system != "Linux":
        return None
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", probe.read("/proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _devices(probe: Probe) -> list[Device] | None:
    if getattr(sys, "frozen", False) or not sys.executable:
        return None
    # -P: nothing of the working folder is imported.
    told = (probe.run((sys.executable, "-P", "-c", _DEVICES)) or "").strip().splitlines()
    try:
        return [Device(str(kind), str(title), int(memory)) for kind, title, memory in json.loads(told[-1])]
    except (ValueError, TypeError, IndexError):
        return None
