"""How many threads compute a model where the configuration leaves it open: chosen from what the system tells."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.providers.gguf.threads import Cores, cores_of, threads_for
from llama_client.system_probe import SystemProbe
from tests.cli.conftest import run_program

CPUS = "/sys/devices/system/cpu"


def linux(
    cpus: int,
    files: Mapping[str, str] | None = None,
    *,
    per_core: int = 1,
    usable: set[int] | None = None,
    told: int | None = None,
) -> SystemProbe:
    """A machine with so many logical processors, and with these files."""
    found: dict[str, str] = {f"{CPUS}/online": f"0-{cpus - 1}\n"}
    for cpu in range(cpus):
        # As Linux numbers them: the second threads of the cores after the first ones.
        core = cpu % (cpus // per_core)
        siblings = ",".join(str(core + number * cpus // per_core) for number in range(per_core))
        found[f"{CPUS}/cpu{cpu}/topology/thread_siblings_list"] = f"{siblings}\n"
    found.update(files or {})
    mine = set(range(cpus)) if usable is None else usable
    return probe("Linux", found, cpu_count=cpus, usable=mine, told=told)


def probe(
    system: str,
    files: Mapping[str, str] | None = None,
    *,
    programs: Mapping[str, str] | None = None,
    cpu_count: int | None = None,
    usable: set[int] | None = None,
    told: int | None = None,
    windows: int | None = None,
) -> SystemProbe:
    return SystemProbe(
        system,
        (files or {}).get,
        lambda command: (programs or {}).get(" ".join(command)),
        lambda: None,
        lambda: cpu_count,
        lambda: usable,
        lambda: told,
        lambda: windows,
    )


def said(machine: SystemProbe) -> str:
    return str(threads_for(cores_of(machine)))


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (linux(8), "8 threads: one for each physical core"),
        (linux(16, per_core=2), "8 threads: one for each physical core"),
        (linux(1), "1 thread: one for each physical core"),
        (linux(1024), "512 threads: the most that llama.cpp can use"),
        (linux(64, usable={0, 1}), "2 threads: this process may use 2 of 64 cores (CPU affinity)"),
        # Both threads of each of two cores.
        (linux(64, per_core=2, usable={0, 1, 32, 33}), "2 threads: this process may use 2 of 32 cores (CPU affinity)"),
        (linux(64, per_core=2, usable={5, 37}), "1 thread: this process may use 1 of 32 cores (CPU affinity)"),
        # What the kernel says of processors that are off does not count.
        (linux(4, usable=set(range(64))), "4 threads: one for each physical core"),
        (linux(8, told=3), "3 threads: this process may use 3 of 8 cores (PYTHON_CPU_COUNT)"),
        (linux(8, told=8), "8 threads: one for each physical core"),
        # Of 4 fast cores with two threads each and 8 slow ones, the fast.
        (
            linux(
                16,
                {"/sys/devices/cpu_core/cpus": "0-7\n"}
                | {f"{CPUS}/cpu{cpu}/topology/thread_siblings_list": f"the {cpu // 2}th core's\n" for cpu in range(8)},
            ),
            "4 threads: one for each physical core",
        ),
        (
            linux(16, {"/sys/devices/cpu_core/cpus": "0-3\n"}, usable={0, 2, 8, 9}),
            "2 threads: this process may use 2 of 4 cores (CPU affinity)",
        ),
        (
            linux(16, {"/sys/devices/cpu_core/cpus": "0-7\n"}, usable={8, 9}),
            "2 threads: this process may use 2 of 8 cores (CPU affinity)",
        ),
    ],
    ids=[
        "cores alone", "two threads a core", "one", "more than the engine has room for", "two of 64", "whole cores",
        "one core", "some are off", "python was told", "python was told all", "fast and slow",
        "two fast and two slow", "slow ones alone",
    ],
)  # fmt: skip
def test_as_many_threads_as_there_are_cores_that_may_be_used(machine: SystemProbe, says: str) -> None:
    assert said(machine) == says


V1 = "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "allowed"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, "2 threads: this process may use 2 of 64 cores"),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, "2 threads: this process may use 1.5 of 64 cores"),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, "1 thread: this process may use 0.5 of 64 cores"),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, "1 thread: this process may use 0.01 of 64 cores"),
        ("0::/\n", {"cpu.max": "10000 5000\n"}, "2 threads: this process may use 2 of 64 cores"),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, None),
        ("0::/\n", {"cpu.max": ""}, None),
        ("0::/\n", {"cpu.max": "200000\n"}, None),
        ("0::/\n", {"cpu.max": "200000 0\n"}, None),
        ("0::/\n", {"cpu.max": "-5 what?\n"}, None),
        ("0::/\n", {}, None),
        ("", {"cpu.max": "200000 100000\n"}, None),
        ("nonsense\n\n", {"cpu.max": "200000 100000\n"}, None),
        (
            "0::/kubepods/pod1/c2\n",
            {
                "kubepods/pod1/c2/cpu.max": "max 100000\n",
                "kubepods/pod1/cpu.max": "300000 100000\n",
                "kubepods/cpu.max": "800000 100000\n",
            },
            "3 threads: this process may use 3 of 64 cores",
        ),
        ("0::/the/hosts/path\n", {"cpu.max": "200000 100000\n"}, "2 threads: this process may use 2 of 64 cores"),
        ("0::/../../outside\n", {"cpu.max": "200000 100000\n"}, "2 threads: this process may use 2 of 64 cores"),
        (
            V1,
            {"cpu/docker/1/cpu.cfs_quota_us": "250000\n", "cpu/docker/1/cpu.cfs_period_us": "100000\n"},
            "3 threads: this process may use 2.5 of 64 cores",
        ),
        (
            V1,
            {"cpu,cpuacct/docker/1/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n"},
            "1 thread: this process may use 1 of 64 cores",
        ),
        (
            V1,
            {
                "cpu/docker/1/cpu.cfs_quota_us": "-1\n",
                "cpu/docker/1/cpu.cfs_period_us": "100000\n",
                "cpu/docker/cpu.cfs_quota_us": "400000\n",
                "cpu/docker/cpu.cfs_period_us": "100000\n",
            },
            "4 threads: this process may use 4 of 64 cores",
        ),
        (
            V1,
            {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            "2 threads: this process may use 2 of 64 cores",
        ),
        (V1, {"cpu/docker/1/cpu.cfs_quota_us": "-1\n", "cpu/docker/1/cpu.cfs_period_us": "100000\n"}, None),
        (V1, {"cpu/docker/1/cpu.cfs_quota_us": "200000\n"}, None),
        ("4:memory:/docker/1\n", {"cpu/docker/1/cpu.cfs_quota_us": "200000\n"}, None),
    ],
    ids=[
        "two", "one and a half", "a half", "hardly any", "another period", "max", "more than there are", "empty",
        "no period", "period of nothing", "no numbers", "no file", "no groups", "no lines of groups", "of a parent",
        "a host's path", "outside of the namespace", "version 1", "version 1, no link", "version 1, of a parent",
        "version 1, a host's path", "version 1, none", "version 1, unreadable", "another controller",
    ],
)  # fmt: skip
def test_a_control_groups_quota_bounds_them(groups: str, files: dict[str, str], allowed: str | None) -> None:
    named = {f"/sys/fs/cgroup/{path}": text for path, text in files.items()}
    machine = linux(64, {"/proc/self/cgroup": groups, **named})
    assert said(machine) == (f"{allowed} (cgroup quota)" if allowed else "64 threads: one for each physical core")


def test_the_smallest_bound_counts() -> None:
    limits = {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "300000 100000\n"}
    assert "3 of 64 cores (cgroup quota)" in said(linux(64, limits, usable=set(range(4))))
    assert "2 of 64 cores (CPU affinity)" in said(linux(64, limits, usable={7, 9}))
    assert "1 of 64 cores (PYTHON_CPU_COUNT)" in said(linux(64, limits, usable={7, 9}, told=1))


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (probe("Darwin", programs={"sysctl -n hw.perflevel0.physicalcpu": "6\n"}, cpu_count=10), "6 threads"),
        (probe("Darwin", programs={"sysctl -n hw.physicalcpu": "4\n"}, cpu_count=8), "4 threads"),
        (probe("Darwin", programs={"sysctl -n hw.physicalcpu": "?"}, cpu_count=8), "4 threads"),
        (probe("Darwin", cpu_count=8, told=2), "2 threads"),
        (probe("Windows", cpu_count=16, windows=12), "12 threads"),
        (probe("Windows", cpu_count=16), "8 threads"),
        (probe("Windows", cpu_count=4), "4 threads"),
        (probe("FreeBSD", cpu_count=12), "6 threads"),
        (probe("Linux", cpu_count=12), "6 threads"),
        (probe("Linux", cpu_count=12, usable={1, 2}), "2 threads"),
        (probe("Linux", {f"{CPUS}/online": "what?"}, cpu_count=3), "3 threads"),
        *((probe(name), "4 threads: the number of cores is unknown") for name in ("Linux", "Darwin", "Windows", "")),
    ],
    ids=[
        "fast cores of a Mac", "an Intel Mac", "a Mac that says nothing", "a Mac whose Python was told", "Windows",
        "Windows that says nothing", "few processors", "another system", "Linux without topology",
        "Linux without topology, bound", "a list that is none", "unknown Linux", "unknown Mac", "unknown Windows",
        "unknown system",
    ],
)  # fmt: skip
def test_where_less_is_told_llama_cpps_own_rule_holds(machine: SystemProbe, says: str) -> None:
    assert said(machine).startswith(f"{says}:" if ":" not in says else says)
    assert "cgroup" not in said(machine)


@pytest.mark.parametrize("cores", [1, 2, 3, 64, 700])
@pytest.mark.parametrize("usable", [1, 2, 64, 5000])
@pytest.mark.parametrize("quota", [None, 0.001, 1.01, 1e9])
def test_never_none_and_never_more_than_the_cores(cores: int, usable: int, quota: float | None) -> None:
    chosen = threads_for(Cores(cores, usable, quota))
    assert 1 <= chosen.n_threads <= min(cores, usable, 512)


@pytest.mark.skipif(sys.platform == "win32", reason="there it is the real one")
def test_windows_is_asked_for_its_cores_by_its_own_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    records = b"".join(struct.pack("<II24x", 0, 32) for _ in range(6))

    class Kernel:
        def GetLogicalProcessorInformationEx(self, kind: int, buffer: Any, size: Any) -> int:  # noqa: N802
            assert kind == 0, "RelationProcessorCore"
            if buffer is not None and size._obj.value >= len(records):
                ctypes.memmove(buffer, records, len(records))
            size._obj.value = len(records)
            return int(buffer is not None)

    monkeypatch.setattr(ctypes, "windll", type("Dlls", (), {"kernel32": Kernel()}), raising=False)
    assert SystemProbe.real().windows_cores() == 6


def test_what_this_system_tells_is_a_number_of_threads() -> None:
    cores = cores_of(SystemProbe.real())
    assert cores.all is not None
    assert 1 <= threads_for(cores).n_threads <= min(cores.all, os.cpu_count() or 1)


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The threads of each engine that is loaded: for tokens, for prompts."""
    import xllamacpp

    found: list[tuple[int, int]] = []
    load = xllamacpp.Server

    def server(parameters: Any) -> Any:
        found.append((parameters.cpuparams.n_threads, parameters.cpuparams_batch.n_threads))
        return load(parameters)

    monkeypatch.setattr(xllamacpp, "Server", server)
    return found


@pytest.mark.parametrize("n_threads", [None, 3], ids=["chosen", "the user's"])
def test_tokens_and_prompts_are_computed_by_the_chosen_number_or_the_users(
    n_threads: int | None, tiny_model: Path, asked_for: list[tuple[int, int]]
) -> None:
    with LlamaClient.for_provider("gguf", model_path=tiny_model, n_ctx=256, n_threads=n_threads) as client:
        client.ask("Hum.", max_tokens=1)
    wanted = n_threads or threads_for(cores_of(SystemProbe.real())).n_threads
    assert asked_for == [(wanted, wanted)]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_a_process_that_is_bound_to_one_processor_computes_with_one_thread(
    tiny_model: Path, asked_for: list[tuple[int, int]]
) -> None:
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        with LlamaClient.for_provider("gguf", model_path=tiny_model, n_ctx=256) as client:
            client.ask("Hum.", max_tokens=1)
    finally:
        os.sched_setaffinity(0, usable)
    assert asked_for == [(1, 1)]


# Each engine has some threads beside those that compute, which are as many in each.
_COUNTED = """
import contextlib, os, sys, time
from llama_client import LlamaClient

def threads():
    seen = [0]
    # Until those that end have ended.
    while len(seen) < 20 or len(set(seen[-20:])) > 1:
        seen.append(len(os.listdir("/proc/self/task")))
        time.sleep(0.01)
    return seen[-1]

with contextlib.ExitStack() as stack:
    counts = []
    for n_threads in (1, None, 4):
        client = LlamaClient.for_provider("gguf", model_path=sys.argv[1], n_ctx=256, n_threads=n_threads)
        stack.enter_context(client).ask("Hum.", max_tokens=1)
        counts.append(threads())
    print(*(after - before for before, after in zip(counts, counts[1:])), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process's threads")
def test_so_many_threads_really_compute(tiny_model: Path) -> None:
    ran = run_program(_COUNTED, str(tiny_model))
    assert ran.code == 0, ran.err
    chosen, four = map(int, ran.out.split())
    assert four - chosen == 4 - threads_for(cores_of(SystemProbe.real())).n_threads
