"""What is seen of a machine, from what its system and its drivers print; and machines that are named."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llama_client.crossover.fitting.machines import Machine, named, row_name, this_machine
from llama_client.crossover.fitting.memory import GIB
from llama_client.crossover.tables import Gpu, Tables
from llama_client.errors import InvalidRequestError
from llama_client.system_probe import SystemProbe

MIB = 2**20
MEMINFO = "MemTotal:       65807200 kB\nMemFree:         1234567 kB\nMemAvailable:   60000000 kB\n"
RAM = 65_807_200 * 1024
UNLIMITED_V1 = "9223372036854771712\n"


def seen(
    system: str = "Linux",
    *,
    files: Mapping[str, str] | None = None,
    programs: Mapping[str, str] | None = None,
    windows: int | None = None,
) -> Machine:
    """A machine with these files, on which these programs print these texts and all others are missing."""

    def run(command: Sequence[str]) -> str | None:
        known = programs or {}
        return known.get(" ".join(command), known.get(command[0]))

    return this_machine(SystemProbe(system, (files or {}).get, run, lambda: windows))


def linux(gpus: str) -> Machine:
    return seen(files={"/proc/meminfo": MEMINFO}, programs={"nvidia-smi": gpus})


def test_linux_without_limits_has_what_meminfo_says() -> None:
    files = {
        "/proc/meminfo": MEMINFO,
        "/proc/self/cgroup": "0::/user.slice/user-1000.slice\n",
        "/sys/fs/cgroup/user.slice/memory.max": "max\n",
    }
    machine = seen(files=files)
    assert (machine.ram_bytes, machine.gpus) == (RAM, ())
    assert machine.usable_ram_bytes == RAM - 4 * GIB


@pytest.mark.parametrize(
    ("cgroup", "files"),
    [
        ("0::/\n", {"/sys/fs/cgroup/memory.max": "8589934592\n"}),
        (
            "0::/kubepods/pod1/container2\n",
            {
                "/sys/fs/cgroup/kubepods/pod1/container2/memory.max": "max\n",
                "/sys/fs/cgroup/kubepods/pod1/memory.max": "8589934592\n",
                "/sys/fs/cgroup/kubepods/memory.max": "17179869184\n",
            },
        ),
        ("0::/the/hosts/path\n", {"/sys/fs/cgroup/memory.max": "8589934592\n"}),
        (
            "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/\n",
            {
                "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "8589934592\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_V1,
            },
        ),
        ("4:memory:/docker/1\n", {"/sys/fs/cgroup/memory/memory.limit_in_bytes": "8589934592\n"}),
    ],
    ids=["version 2", "version 2, of a parent", "version 2, a host's path", "version 1", "version 1, a host's path"],
)
def test_a_control_groups_limit_is_all_there_is(cgroup: str, files: dict[str, str]) -> None:
    machine = seen(files={"/proc/meminfo": MEMINFO, "/proc/self/cgroup": cgroup} | files)
    assert machine.ram_bytes == 8 * GIB


@pytest.mark.parametrize("limit", [UNLIMITED_V1, "max\n", "", "what?\n", "0\n"])
def test_a_limit_above_the_ram_or_none_that_can_be_read_is_none(limit: str) -> None:
    files = {"/proc/meminfo": MEMINFO, "/proc/self/cgroup": "4:memory:/\n0::/\n"}
    files |= {"/sys/fs/cgroup/memory.max": limit, "/sys/fs/cgroup/memory/memory.limit_in_bytes": limit}
    assert seen(files=files).ram_bytes == RAM


def test_nvidias_gpus_are_listed_with_what_is_free() -> None:
    machine = linux("NVIDIA H100 80GB HBM3, 81559, 81076\nNVIDIA GeForce RTX 4090, 24564, 20100\n")
    h100, rtx = machine.gpus
    assert (h100.row, h100.memory_bytes, h100.free_bytes) == ("h100_sxm", 81559 * MIB, 81076 * MIB)
    assert (rtx.row, rtx.usable_bytes, rtx.memory_kind) == ("rtx_4090", 24564 * MIB, "gddr")
    assert not machine.gpus_are_alike
    assert machine.usable_gpu_bytes == (81559 + 24564) * MIB
    assert (h100.has_fp4, rtx.vendor) == (False, "nvidia")


def test_a_gpu_that_no_table_has_is_there_all_the_same() -> None:
    (gpu,) = linux("NVIDIA GeForce RTX 3060, 12288, 11900\n").gpus
    assert (gpu.title, gpu.row, gpu.usable_bytes, gpu.has_fp4) == ("NVIDIA GeForce RTX 3060", None, 12288 * MIB, None)


def test_a_chip_whose_driver_tells_no_memory_has_the_processors() -> None:
    machine = linux("NVIDIA GB10, [N/A], [N/A]\n")
    (gpu,) = machine.gpus
    assert (gpu.row, gpu.memory_bytes, gpu.free_bytes) == ("gb10", RAM, None)
    assert gpu.usable_bytes == machine.usable_ram_bytes
    assert machine.has_unified_memory
    assert linux("NVIDIA Something New, [N/A], [N/A]\n").gpus == ()


@pytest.mark.parametrize(
    "text",
    ["", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", "No devices found\n"],
)
def test_what_nvidia_smi_says_without_gpus_is_no_gpu(text: str) -> None:
    assert linux(text).gpus == ()


@pytest.mark.parametrize("field", ["Card Series", "Card series", "Card SKU"])
def test_amds_gpus_are_read_whatever_the_version_calls_its_fields(field: str) -> None:
    card = {
        "VRAM Total Memory (B)": "206141652992",
        "VRAM Total Used Memory (B)": "298000384",
        field: "AMD Instinct MI300X OAM",
    }
    text = json.dumps({"card0": card, "card1": card, "system": {"Driver version": "6.10"}})
    machine = seen(files={"/proc/meminfo": MEMINFO}, programs={"rocm-smi": text})
    assert len(machine.gpus) == 2
    gpu = machine.gpus[0]
    assert (gpu.vendor, gpu.memory_bytes) == ("amd", 206_141_652_992)
    assert gpu.free_bytes == 206_141_652_992 - 298_000_384
    assert gpu.row == (None if field == "Card SKU" else "mi300x")


@pytest.mark.parametrize("text", ["not json", "[]", '{"card0": 3}', '{"card0": {}}', "WARNING: no AMD GPUs\n"])
def test_what_rocm_smi_says_without_gpus_is_no_gpu(text: str) -> None:
    assert seen(files={"/proc/meminfo": MEMINFO}, programs={"rocm-smi": text}).gpus == ()


def mac(memory: int, chip: str = "Apple M3 Max", limit: str | None = "0") -> Machine:
    programs = {"sysctl -n hw.memsize": f"{memory}\n", "sysctl -n machdep.cpu.brand_string": f"{chip}\n"}
    if limit is not None:
        programs["sysctl -n iogpu.wired_limit_mb"] = f"{limit}\n"
    return seen("Darwin", programs=programs)


@pytest.mark.parametrize(("gib", "usable"), [(16, 32 / 3), (32, 64 / 3), (64, 48), (128, 96)])
@pytest.mark.parametrize("limit", ["0", None])
def test_a_mac_lets_its_gpu_have_a_part_of_its_memory(gib: int, usable: float, limit: str | None) -> None:
    machine = mac(gib * GIB, limit=limit)
    (gpu,) = machine.gpus
    assert (gpu.title, gpu.row, gpu.vendor, gpu.memory_bytes) == ("Apple M3 Max", "m3_max", "apple", gib * GIB)
    assert gpu.usable_bytes == int(usable * GIB)
    assert machine.ram_bytes == gib * GIB


def test_a_limit_that_the_user_of_a_mac_has_raised_counts() -> None:
    assert mac(64 * GIB, limit="57344").usable_gpu_bytes == 56 * GIB
    assert mac(64 * GIB, limit="999999").usable_gpu_bytes == 64 * GIB


def test_an_intel_mac_has_ram_alone() -> None:
    machine = mac(16 * GIB, "Intel(R) Core(TM) i9-9880H CPU @ 2.30GHz")
    assert (machine.gpus, machine.ram_bytes) == ((), 16 * GIB)


def test_windows_says_it_itself() -> None:
    machine = seen("Windows", programs={"nvidia-smi": "NVIDIA GeForce RTX 3090, 24576, 23000\r\n"}, windows=64 * GIB)
    assert (machine.ram_bytes, machine.gpus[0].row) == (64 * GIB, "rtx_3090")


@pytest.mark.skipif(sys.platform == "win32", reason="there it is the real one")
def test_windows_is_asked_by_its_own_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Kernel:
        def GlobalMemoryStatusEx(self, reference: Any) -> int:  # noqa: N802 - Windows' name
            status = reference._obj
            asked.append((status.length, ctypes.sizeof(status)))
            status.total = 64 * GIB
            return 1

    monkeypatch.setattr(ctypes, "windll", type("Dlls", (), {"kernel32": Kernel()}), raising=False)
    assert SystemProbe.real().windows_ram_bytes() == 64 * GIB
    assert asked == [(64, 64)], "MEMORYSTATUSEX has 64 bytes and wants to be told so"


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows", "FreeBSD", ""])
def test_a_machine_that_tells_nothing_is_unknown_and_no_error(system: str) -> None:
    machine = seen(system)
    assert (machine.gpus, machine.ram_bytes, machine.usable_ram_bytes) == ((), None, None)
    assert machine.usable_gpu_bytes == 0


def test_tools_that_are_missing_fail_or_hang_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = SystemProbe.real().run
    assert run(("nvidia-smi", "--version")) is None
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho broken\nexit 9\n")
    tool.chmod(0o755)
    assert run(("nvidia-smi",)) is None
    tool.write_text("#!/bin/sh\necho fine\n")
    assert run(("nvidia-smi",)) == "fine\n"

    def hang(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    monkeypatch.setattr(subprocess, "run", hang)
    assert run(("nvidia-smi",)) is None


def test_this_machine_has_some_ram() -> None:
    ram = this_machine().ram_bytes
    assert ram is not None
    assert ram > GIB // 4


@pytest.mark.parametrize(
    ("title", "row"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx_4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 5090", "rtx_5090"),
        ("NVIDIA H100 80GB HBM3", "h100_sxm"),
        ("NVIDIA H100 PCIe", "h100_pcie"),
        ("NVIDIA H100 NVL", "h100_nvl"),
        ("NVIDIA H200", "h200_sxm"),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA B200", "b200_sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100_sxm_80"),
        ("NVIDIA A100-SXM4-40GB", "a100_sxm_40"),
        ("NVIDIA A100 80GB PCIe", "a100_pcie_80"),
        ("A100-PCIE-40GB", None),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA A10", None),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L40", None),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx_pro_6000_server"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", None),
        ("NVIDIA GB10", "gb10"),
        ("AMD Instinct MI300X", "mi300x"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("AMD Radeon 8060S Graphics", "ryzen_ai_max_395"),
        ("Apple M3 Max", "m3_max"),
        ("Apple M3 Ultra", "m3_ultra"),
        ("Apple M3", None),
        ("Apple M4 Max", "m4_max"),
        ("", None),
    ],
)
def test_a_drivers_name_is_mapped_where_it_is_certain(title: str, row: str | None) -> None:
    assert row_name(title, Tables.bundled()) == row


def test_a_gpu_of_the_users_own_is_found_by_its_title() -> None:
    tables = Tables.bundled().extended(gpus=[Gpu("rtx_a6000", 48, 768, title="RTX A6000")])
    assert row_name("NVIDIA RTX A6000", tables) == "rtx_a6000"


def test_a_named_machine_has_what_the_table_says() -> None:
    machine = named("RTX 4090", 2)
    assert (machine.name, machine.usable_gpu_bytes, machine.ram_bytes) == ("2 x RTX 4090", 48 * 2**30, None)
    assert machine.gpus_are_alike
    assert named("m3_ultra").usable_gpu_bytes == 384 * 2**30
    assert named("m3_ultra").ram_bytes == 512 * 2**30
    assert named("gb10").has_unified_memory
    assert named("b200_sxm").gpus[0].has_fp4
    assert len(named("h100_sxm").with_gpus(8).gpus) == 8
    document = json.loads(json.dumps(machine.as_dict()))
    assert document["gpus"][0]["row"] == "rtx_4090"
    assert document["usable_ram_bytes"] is None


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(InvalidRequestError, match=r"^gpu: 'rtx_4080' .* did you mean 'rtx_4090'\?"):
        named("rtx_4080")
    with pytest.raises(InvalidRequestError, match=r"^gpus: must be a whole number above 0, got 0"):
        named("rtx_4090", 0)
    with pytest.raises(InvalidRequestError, match=r"^gpus: must be at most 1024, got 1025"):
        named("rtx_4090", 1025)
