"""What the doctor says of this machine and of models in this process: memory, GPUs, disks, files."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from llama_client.crossover.fitting.machines import Machine, MachineGpu
from llama_client.providers.gguf.store import ModelStore
from tests.crossover.gguf_writing import write_model
from tests.diagnostics.conftest import GIB, Doctor, of, probe
from tests.providers.gguf.conftest import TEMPLATES, ModelFile

CARD = MachineGpu("NVIDIA GeForce RTX 4090", 24 * GIB, 24 * GIB, free_bytes=20 * GIB)
GPU_DEVICES = '[["GGML_BACKEND_DEVICE_TYPE_GPU", "RTX 4090", 25769803776]]'


def laptop(path: Path, more: str = "") -> str:
    return f"default_model = 'laptop/default'\n[providers.laptop]\nkind = 'gguf'\nmodel_path = '{path}'\n{more}"


def test_a_file_that_is_there_and_fits_is_well(doctor: Doctor, demo_model: Path) -> None:
    report = doctor.says(laptop(demo_model))
    file, memory = of(report, "gguf_model", "laptop"), of(report, "gguf_memory", "laptop")
    assert (file.status, file.facts["architecture"], file.facts["context_tokens"]) == ("ok", "llama", 8192)
    assert file.facts["size_bytes"] == demo_model.stat().st_size
    assert memory.status == "ok"
    assert of(report, "default_model").status == "ok"


@pytest.mark.parametrize(
    ("content", "what"), [(None, "there is no such file"), (b"", "empty"), (b"PK\x03\x04 a zip", "not a GGUF file")]
)
def test_a_file_that_is_no_model_is_a_problem(doctor: Doctor, tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    report = doctor.says(laptop(path))
    assert what in of(report, "gguf_model", "laptop").message
    assert of(report, "gguf_model", "laptop").status == of(report, "default_model").status == "problem"


def test_a_file_that_was_cut_short_is_a_problem(doctor: Doctor, demo_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(demo_model.read_bytes()[: 4 << 20])
    assert "truncated" in of(doctor.says(laptop(path)), "gguf_model", "laptop").message


def test_a_context_that_does_not_fit_is_a_problem_with_the_keys_to_change(doctor: Doctor, demo_model: Path) -> None:
    doctor.machine = Machine("this machine", (), 2 * GIB)
    memory = of(doctor.says(laptop(demo_model, "n_ctx = 8192\nn_parallel = 64\n")), "gguf_memory", "laptop")
    assert memory.status == "problem"
    assert "providers.laptop.n_ctx" in str(memory.remedy)


def test_memory_that_others_hold_now_is_a_warning(doctor: Doctor, demo_model: Path) -> None:
    doctor.probe = probe(meminfo="MemTotal: 16777216 kB\nMemAvailable:   102400 kB\n")
    report = doctor.says(laptop(demo_model))
    assert of(report, "gguf_memory", "laptop").status == "warning"
    assert of(report, "memory").facts["available_bytes"] == 100 << 20


def test_a_gpu_that_the_library_does_not_see_is_a_warning(doctor: Doctor, demo_pulled: ModelStore) -> None:
    doctor.machine = Machine("this machine", (CARD,), 16 * GIB)
    report = doctor.says(None)
    engine = of(report, "gguf_engine")
    assert engine.status == "warning"
    assert "RTX 4090" in engine.message
    assert of(report, "gpu").facts == {"memory_bytes": 24 * GIB, "free_bytes": 20 * GIB}


def test_a_gpu_that_it_sees_holds_the_model(doctor: Doctor, demo_pulled: ModelStore) -> None:
    doctor.machine = Machine("this machine", (CARD,), 16 * GIB)
    doctor.probe = probe(devices=GPU_DEVICES)
    report = doctor.says(None)
    assert of(report, "gguf_engine").facts["gpus"] == ["RTX 4090"]
    assert "the GPUs have 24.0 GiB" in of(report, "gguf_memory").message


def test_a_library_that_cannot_be_loaded_is_a_problem(doctor: Doctor, demo_pulled: ModelStore) -> None:
    doctor.probe = probe(devices=None)
    engine = of(doctor.says(None), "gguf_engine")
    assert (engine.status, engine.remedy is not None) == ("problem", True)


def test_a_pulled_model_whose_file_is_gone_is_a_warning(doctor: Doctor, demo_model: Path, store: ModelStore) -> None:
    path = Path(shutil.copy(demo_model, store.folder.parent.parent / "copy.gguf"))
    store.add("mine", path, sha256="0" * 64, source=str(path))
    path.unlink()
    gone = of(doctor.says(None), "gguf_pulled", "mine")
    assert gone.status == "warning"
    assert str(store.folder / "mine.json") in str(gone.remedy)


def test_an_adapter_that_is_none_is_told(doctor: Doctor, demo_model: Path) -> None:
    report = doctor.says(laptop(demo_model, f"lora = [{{ path = '{demo_model}' }}]\n"))
    wrong = [f for f in report.findings if f.check == "gguf_model" and f.status == "problem"]
    assert ["as a LoRA adapter: it is not one" in finding.message for finding in wrong] == [True]
    assert of(report, "default_model").status == "problem"


def test_a_split_model_counts_all_its_parts(doctor: Doctor, tmp_path: Path) -> None:
    for number in (1, 2):
        write_model(tmp_path / f"m-0000{number}-of-00002.gguf")
    first = tmp_path / "m-00001-of-00002.gguf"
    file = of(doctor.says(laptop(first)), "gguf_model", "laptop")
    assert file.facts["size_bytes"] == 2 * first.stat().st_size


@pytest.mark.parametrize("name", ["m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-00001-OF-00002.gguf"])
def test_a_file_that_is_only_named_nearly_as_a_part_has_its_own_size(doctor: Doctor, tmp_path: Path, name: str) -> None:
    write_model(tmp_path / name)
    file = of(doctor.says(laptop(tmp_path / name)), "gguf_model", "laptop")
    assert (file.status, file.facts["size_bytes"]) == ("ok", (tmp_path / name).stat().st_size)


def test_a_draft_model_and_the_cache_of_prompts_need_memory_too(doctor: Doctor, demo_model: Path) -> None:
    def needed(*keys: str) -> int:
        memory = of(doctor.says(laptop(demo_model, "\n".join(keys))), "gguf_memory", "laptop")
        return int(str(memory.facts["needed_bytes"]))

    cache, draft = "prompt_cache_mib = 512", f"draft_model_path = '{demo_model}'"
    assert needed(cache) == needed() + (512 << 20)
    assert needed(draft, cache) == 2 * needed() + (512 << 20)


def test_a_draft_model_that_is_no_model_is_told(doctor: Doctor, demo_model: Path, tmp_path: Path) -> None:
    report = doctor.says(laptop(demo_model, f"draft_model_path = '{tmp_path / 'none.gguf'}'\n"))
    (wrong,) = [f for f in report.findings if f.check == "gguf_model" and f.status == "problem"]
    assert ("none.gguf: there is no such file" in wrong.message, wrong.remedy) == (
        True, "Correct providers.laptop.draft_model_path."
    )  # fmt: skip


def test_a_part_of_a_split_model_that_is_missing_is_named(doctor: Doctor, tmp_path: Path, demo_model: Path) -> None:
    parts = ModelFile(demo_model).write_split(tmp_path, "tiny", TEMPLATES["any"], 3)
    whole = of(doctor.says(laptop(parts[0])), "gguf_model", "laptop")
    assert (whole.status, whole.facts["size_bytes"]) == ("ok", sum(part.stat().st_size for part in parts))
    parts[1].unlink()
    missing = of(doctor.says(laptop(parts[0])), "gguf_model", "laptop")
    assert missing.status == "problem"
    assert f"{parts[1]}: there is no such file (part 2 of 3 of {parts[0].name})" in missing.message


def in_a_container(doctor: Doctor, cpu_max: str, *, cpus: int = 64) -> None:
    """Bounds the processors of the machine that the doctor sees, whose cores have one thread each."""
    files = {"/sys/devices/system/cpu/online": f"0-{cpus - 1}", "/proc/self/cgroup": "0::/\n"}
    files |= {f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu}" for cpu in range(cpus)}
    files["/sys/fs/cgroup/cpu.max"] = f"{cpu_max} 100000\n"
    doctor.probe = replace(doctor.probe, read=files.get, cpu_count=lambda: cpus, usable_cpus=lambda: range(cpus))


@pytest.mark.parametrize(
    ("cpu_max", "more", "status", "says", "n_threads"),
    [
        ("max", "", "ok", "64 threads: one for each physical core", 64),
        ("200000", "", "ok", "2 threads: this process may use 2 of 64 cores (cgroup quota)", 2),
        ("200000", "n_threads = 1\n", "ok", "1 thread: n_threads in the configuration", 1),
        ("200000", "n_threads = 2\n", "ok", "2 threads: n_threads in the configuration", 2),
        (
            "200000",
            "n_threads = 8\n",
            "warning",
            "8 threads: n_threads in the configuration; this process may use 2 of 64 cores (cgroup quota)",
            8,
        ),
        (
            "max",
            "n_threads = 65\n",
            "warning",
            "65 threads: n_threads in the configuration; this machine has 64 cores",
            65,
        ),
    ],
    ids=["no limit", "a quota", "fewer", "as many", "more", "more than cores"],
)
def test_the_threads_that_compute_are_told_with_the_reason(
    doctor: Doctor, demo_model: Path, cpu_max: str, more: str, status: str, says: str, n_threads: int
) -> None:
    in_a_container(doctor, cpu_max)
    threads = of(doctor.says(laptop(demo_model, more)), "gguf_threads", "laptop")
    assert (threads.status, threads.message) == (status, says)
    quota = None if cpu_max == "max" else 2.0
    facts = {"n_threads": n_threads, "cores": 64, "usable_cores": 64, "quota_cpus": quota}
    assert threads.facts == facts
    right = 64 if quota is None else 2
    remedy = f"Remove providers.laptop.n_threads, or lower it to {right}."
    assert threads.remedy == (remedy if status == "warning" else None)


def test_the_threads_of_an_unknown_machine_are_told_as_that(doctor: Doctor, demo_model: Path) -> None:
    threads = of(doctor.says(laptop(demo_model)), "gguf_threads", "laptop")
    assert (threads.status, threads.message) == ("info", "4 threads: the number of cores is unknown")
    asked = of(doctor.says(laptop(demo_model, "n_threads = 3\n")), "gguf_threads", "laptop")
    assert (asked.status, asked.message) == ("info", "3 threads: n_threads in the configuration")


def test_a_disk_that_is_nearly_full_is_told_with_the_variable_that_moves_it(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("llama_client.diagnostics.machine.shutil.disk_usage", lambda _: usage(GIB, GIB, 5 << 20))
    report = doctor.says("[ledger]\nenabled = true\n", {"LLAMA_CLIENT_LEDGER__ENABLED": "true"})
    models, ledger = of(report, "disk", "room for models"), of(report, "disk", "room for the ledger")
    assert (models.status, ledger.status) == ("warning", "problem")
    assert models.facts["free_bytes"] == 5 << 20
    assert "LLAMA_CLIENT_CACHE_DIR" in str(models.remedy)


def test_a_probe_that_hangs_is_left_behind(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    late = threading.Event()
    monkeypatch.setattr("llama_client.diagnostics.run.examine_hardware", lambda _: late.wait(20))
    report = doctor.says(None, timeout_s=0.5)
    late.set()
    assert of(report, "gguf_engine").status == "skipped"
