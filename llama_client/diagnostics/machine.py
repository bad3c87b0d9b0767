"""Checks this machine (memory, GPUs, disks, Python, extras); and what the doctor is given: options, environment."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from llama_client.clock import Clock
from llama_client.config.load import Source
from llama_client.config.schema import Config
from llama_client.crossover.fitting.machines import Machine, this_machine
from llama_client.diagnostics.finding import Fact, Finding, Status
from llama_client.providers.gguf.store import ModelStore
from llama_client.providers.gguf.threads import Cores, cores_of
from llama_client.system_probe import SystemProbe
from llama_client.version import __version__

DEFAULT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class DiagnosticsOptions:
    source: Source = None
    model: str | None = None
    offline: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Environment:
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    folder: Path = field(default_factory=Path)
    clock: Clock = field(default_factory=Clock)
    store: ModelStore = field(default_factory=ModelStore.of_user)
    probe: SystemProbe = field(default_factory=SystemProbe.real)
    machine: Callable[[SystemProbe], Machine] = this_machine


GIB = 2**30
_MIB = 2**20
# In a process of its own: a library built for another processor would crash this one.
_DEVICES = (
    "import json, xllamacpp; print(json.dumps([[d['type'].name, d['description'], d['memory_total']] "
    "for d in xllamacpp.get_device_info()]))"
)
# A model of 3 billion parameters in four bits takes about 2 GiB.
_LITTLE_FOR_MODELS_BYTES = 2 * GIB
# Two million rows of the ledger (91 bytes each, measured); below the second, SQLite soon fails to write.
_LITTLE_FOR_LEDGER_BYTES, _NONE_FOR_LEDGER_BYTES = 200 * _MIB, 10 * _MIB


@dataclass(frozen=True, slots=True)
class MachineFacts:
    machine: Machine
    available_ram_bytes: int | None
    # The titles of the GPUs that the library uses; None: it cannot be loaded.
    gpu_devices: Sequence[str] | None
    has_library: bool
    cores: Cores = field(default_factory=Cores)


def examine_hardware(environment: Environment) -> MachineFacts:
    """Reads memory, devices and cores. Takes some seconds with slow drivers."""
    probe = environment.probe
    has_library = find_spec("xllamacpp") is not None
    gpu_devices = _gpu_devices(probe) if has_library else None
    memory = (probe.read("/proc/meminfo") or "") if probe.system == "Linux" else ""
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", memory, re.MULTILINE)
    available = int(found[1]) * 1024 if found else None
    return MachineFacts(environment.machine(probe), available, gpu_devices, has_library, cores_of(probe))


def hardware_findings(hardware: MachineFacts) -> Iterator[Finding]:
    machine, available = hardware.machine, hardware.available_ram_bytes
    if machine.ram_bytes is None:
        yield Finding("memory", "machine", "memory", "info", "its size is unknown")
    else:
        now = f", {gib(available)} of it available now" if available is not None else ""
        facts = {"ram_bytes": machine.ram_bytes, "available_bytes": available}
        yield Finding("memory", "machine", "memory", "ok", f"{gib(machine.ram_bytes)} of RAM{now}", facts=facts)
    for gpu in machine.gpus:
        free = f", {gib(gpu.free_bytes)} of it free now" if gpu.free_bytes is not None else ""
        facts = {"memory_bytes": gpu.memory_bytes, "free_bytes": gpu.free_bytes}
        yield Finding("gpu", "machine", gpu.title, "ok", f"{gib(gpu.memory_bytes)}{free}", facts=facts)
    if not machine.gpus:
        yield Finding("gpu", "machine", "gpu", "info", "no GPU was found; models in this process use the CPU")


def disk_findings(models: Path, ledger: Path | None) -> Iterator[Finding]:
    yield _disk("room for models", models, _LITTLE_FOR_MODELS_BYTES, 0)
    if ledger is not None:
        yield _disk("room for the ledger", ledger.parent, _LITTLE_FOR_LEDGER_BYTES, _NONE_FOR_LEDGER_BYTES)


def gib(size_bytes: float) -> str:
    """A size in a readable unit.

    Examples:
        >>> gib(40_000), gib(98_000_000), gib(3 * 2**30)
        ('39 KiB', '93 MiB', '3.0 GiB')
    """
    if size_bytes < _MIB:
        return f"{size_bytes / 1024:,.0f} KiB"
    return f"{size_bytes / GIB:,.1f} GiB" if size_bytes >= GIB else f"{size_bytes / _MIB:,.0f} MiB"


def nearest_folder(path: Path) -> Path:
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path(path.anchor or "."))


def _disk(what: str, folder: Path, little_bytes: int, none_bytes: int) -> Finding:
    try:
        free = shutil.disk_usage(nearest_folder(folder.absolute())).free
    except OSError as error:
        return Finding("disk", "machine", what, "info", f"{folder}: its free space is unknown ({error})")
    status: Status = "problem" if free < none_bytes else "warning" if free < little_bytes else "ok"
    where = "LLAMA_CLIENT_CACHE_DIR" if what == "room for models" else "ledger.url"
    remedy = None if status == "ok" else f"Make room there, or choose another place with {where}."
    facts: dict[str, Fact] = {"free_bytes": free, "folder": str(folder)}
    return Finding("disk", "machine", what, status, f"{gib(free)} free at {folder}", remedy, facts)


def _gpu_devices(probe: SystemProbe) -> list[str] | None:
    if getattr(sys, "frozen", False) or not sys.executable:
        return None
    # -P: nothing of the working folder is imported.
    lines = (probe.run((sys.executable, "-P", "-c", _DEVICES)) or "").strip().splitlines()
    try:
        return [str(title) for kind, title, _ in json.loads(lines[-1]) if "GPU" in str(kind)]
    except (ValueError, TypeError, IndexError):
        return None


# The modules of each extra.
EXTRAS = {
    "gguf": ("xllamacpp", "huggingface_hub", "filelock"),
    "postgres": ("psycopg",),
    "plot": ("matplotlib", "numpy"),
    "otel": ("opentelemetry",),
    "crossover": ("gguf", "numpy"),
    "bulk": ("pyarrow",),
    "ray": ("ray",),
    "together": ("together",),
}


def software_findings(config: Config, *, needs_gguf: bool) -> Iterator[Finding]:
    python, system = platform.python_version(), platform.system()
    running = f"llama-client {__version__} on Python {python}, {system}"
    facts = {"version": __version__, "python": python, "system": system}
    yield Finding("software", "configuration", "llama-client", "ok", running, facts=facts)
    missing = {name for name, modules in EXTRAS.items() if not all(find_spec(module) for module in modules)}
    has_ledger = config.ledger.enabled or bool(config.budgets)
    needs = {
        "gguf": (needs_gguf, "a model that runs in this process"),
        "postgres": (has_ledger and config.ledger.url.get_secret_value().startswith("postgres"), "ledger.url"),
        "otel": (config.telemetry.enabled, "telemetry.enabled"),
    }
    reasons = {name: reason for name, (is_needed, reason) in needs.items() if is_needed}
    for name in sorted(missing & reasons.keys()):
        remedy = f'Run `pip install "llama-client[{name}]"`.'
        message = f"the extra {name} is not installed, and {reasons[name]} needs it"
        yield Finding("extra", "configuration", name, "problem", message, remedy)
    installed = [name for name in EXTRAS if name not in missing]
    others = [name for name in EXTRAS if name in missing and name not in reasons]
    message = f"installed: {', '.join(installed) or 'none'}"
    if others:
        message += f"; not installed, and not needed here: {', '.join(others)}"
    lists = {"installed": installed, "missing": sorted(missing)}
    yield Finding("extras", "configuration", "extras", "ok", message, facts=lists)
