"""How many threads compute a model: one for each physical core that this process may use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from llama_client.system_probe import SystemProbe, group_limits

# As many as llama.cpp has room for (GGML_MAX_N_THREADS).
_MOST_THREADS = 512
# Without anything known, llama.cpp takes so many.
_UNKNOWN_THREADS = 4
_CPUS = "/sys/devices/system/cpu"


@dataclass(frozen=True, slots=True)
class Cores:
    """The physical cores of this machine that compute fast, and how many of them this process may use."""

    # None: unknown.
    all: int | None = None
    usable: int | None = None
    # The time that the control groups leave to this process, in processors; None: without limit.
    quota_cpus: float | None = None
    # What the user lets Python use; None: nothing was said.
    told_cpus: int | None = None


@dataclass(frozen=True, slots=True)
class ThreadChoice:
    n_threads: int
    reason: str

    def __str__(self) -> str:
        return f"{self.n_threads} thread{'s' * (self.n_threads != 1)}: {self.reason}"


def choose_threads(n_threads: int | None, probe: SystemProbe | None = None) -> ThreadChoice:
    """The threads for `n_threads` of a configuration, in which None leaves the choice to us.

    Neither the load nor other models change it: threads wait for each other shortly (`engine._SHORT_SPINS`), so that
    fewer of them are no faster beside programs of the same priority (measured).
    """
    if n_threads is not None:
        return configured_threads(n_threads)
    return threads_for(cores_of(probe or SystemProbe.real()))


def configured_threads(n_threads: int) -> ThreadChoice:
    return ThreadChoice(n_threads, "n_threads in the configuration")


def threads_for(cores: Cores) -> ThreadChoice:
    """The choice, from facts alone.

    Examples:
        >>> str(threads_for(Cores(64, 64, quota_cpus=2.0)))
        '2 threads: this process may use 2 of 64 cores (cgroup quota)'
        >>> str(threads_for(Cores(8, 8)))
        '8 threads: one for each physical core'
    """
    most = _UNKNOWN_THREADS if cores.all is None else min(cores.all, _MOST_THREADS)
    limits = [(cores.usable, "CPU affinity"), (cores.quota_cpus, "cgroup quota"), (cores.told_cpus, "PYTHON_CPU_COUNT")]
    known = [(float(cpus), name) for cpus, name in limits if cpus is not None]
    cpus, name = min(known, key=lambda limit: limit[0], default=(math.inf, ""))
    if cpus < most:
        total = "" if cores.all is None else f"of {cores.all} "
        # A part of a core is worth a thread: of the time in which all compute, it is a part.
        return ThreadChoice(math.ceil(cpus), f"this process may use {cpus:.4g} {total}cores ({name})")
    if cores.all is None:
        return ThreadChoice(most, "the number of cores is unknown")
    return ThreadChoice(most, "one for each physical core" if most == cores.all else "the most that llama.cpp can use")


def cores_of(probe: SystemProbe) -> Cores:
    count = probe.cpu_count()
    match probe.system:
        case "Linux":
            usable_cpus = probe.usable_cpus()
            machine = _cores_of_linux(probe, usable_cpus)
            quota = min(_quotas(probe), default=None)
            return Cores(*machine, quota, probe.told_cpus())
        case "Darwin":
            names = ("hw.perflevel0.physicalcpu", "hw.physicalcpu")
            texts = (probe.run(("sysctl", "-n", name)) for name in names)
            found = next((number for text in texts if (number := _whole(text))), None)
        case "Windows":
            found = probe.windows_cores()
        case _:
            found = None
    return Cores(found or _about(count), told_cpus=probe.told_cpus())


def _cores_of_linux(probe: SystemProbe, usable_cpus: Iterable[int] | None) -> tuple[int | None, int | None]:
    online = _numbers(probe.read(f"{_CPUS}/online")) or set(range(probe.cpu_count() or 0))
    siblings = {cpu: probe.read(f"{_CPUS}/cpu{cpu}/topology/thread_siblings_list") for cpu in online}
    # Where a processor has slower cores too, threads on these would be waited for.
    fast = _numbers(probe.read("/sys/devices/cpu_core/cpus")) & online or online

    def counted(cpus: set[int]) -> int | None:
        cores = {siblings[cpu] for cpu in cpus}
        return _about(len(cpus)) if None in cores else len(cores) or None

    usable = online if usable_cpus is None else online.intersection(usable_cpus)
    return counted(fast), counted(usable & fast or usable)


def _quotas(probe: SystemProbe) -> Iterable[float]:
    texts = group_limits(probe.read, "cpu", version_2="cpu.max", version_1=("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    for text in texts:
        quota, period = (_whole(part) for part in (*text.split(), "", "")[:2])
        # Without a limit, the quota is `max`, or -1 in version 1.
        if quota and period:
            yield quota / period


def _numbers(text: str | None) -> set[int]:
    """The numbers of a list such as `0-3,8`."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.strip().partition("-")
        numbers = _whole(first), _whole(last or first)
        if numbers[0] is not None and numbers[1] is not None:
            found.update(range(numbers[0], numbers[1] + 1))
    return found


def _whole(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isdecimal() else None


def _about(cpus: int | None) -> int | None:
    """The cores of so many logical processors, where the system does not count them: llama.cpp's rule."""
    return None if not cpus else cpus if cpus <= 4 else cpus // 2
