"""What was measured is found out where that is certain, and kept only where it is worth it."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from llama_client import InvalidRequestError, load_config
from llama_client.cli.bench import StoredAs, document
from llama_client.cli.bench_target import BenchTarget, UserInput, bench_target, what_is_possible
from llama_client.crossover.bench.levels import Level, Spread
from llama_client.crossover.bench.measure import BenchPlan, BenchRun
from llama_client.crossover.fitting.machines import Machine, MachineGpu
from llama_client.crossover.tables import Tables
from llama_client.providers.gguf.store import ModelStore
from llama_client.providers.gguf.threads import choose_threads
from tests.providers.gguf.conftest import write_gguf

DAY = date(2026, 11, 26)
NO_GPU, NOTHING = Machine("this machine"), UserInput()


def subject(
    target: str, tmp_path: Path, said: UserInput = NOTHING, machine: Machine = NO_GPU, **tables: Any
) -> BenchTarget:
    return bench_target(target, load_config(tables), said, store=ModelStore(tmp_path), machine=lambda: machine)


def gpu(row: str | None, *, kind: Any = "gddr") -> MachineGpu:
    return MachineGpu("A card", 24 << 30, 24 << 30, row, memory_kind=kind)


def test_a_model_file_tells_its_name_and_precision(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "Llama-3.2-3B-Instruct-Q4_K_M.gguf")
    laptop = {"kind": "gguf", "model_path": str(path), "n_parallel": 4}
    found = subject("laptop/default", tmp_path, providers={"laptop": laptop})
    assert found == BenchTarget("llama-3.2-3b", "cpu", 1, "Q4_K_M", "llama.cpp", at_once=4)
    assert found.missing == ()


def test_of_a_model_in_this_process_the_threads_are_told_and_why(tmp_path: Path) -> None:
    def threads(**table: Any) -> Any:
        found = subject("laptop/default", tmp_path, providers={"laptop": {"kind": "gguf", **table}})
        return document(BenchRun(BenchPlan("laptop/default")), found, StoredAs(wanted=False), DAY)["threads"]

    assert threads(n_threads=3) == {"n_threads": 3, "reason": "n_threads in the configuration"}
    assert threads() == asdict(choose_threads(None))
    assert subject("gguf/default", tmp_path).threads == choose_threads(None)
    assert subject("ollama/llama3.1:8b", tmp_path).threads is None


def test_what_the_user_says_wins(tmp_path: Path) -> None:
    said = UserInput("Llama 3.1 8B Instruct", "H100 SXM", 2, "FP8", "TensorRT-LLM")
    vllm = {"kind": "openai", "base_url": "http://10.0.0.1/v1", "max_concurrency": 32}
    found = subject("vllm/meta-llama/Llama-3.2-1B", tmp_path, said, providers={"vllm": vllm})
    assert found == BenchTarget("llama-3.1-8b", "h100_sxm", 2, "fp8", "trtllm", at_once=32)


def test_of_a_server_elsewhere_nobody_knows_the_machine(tmp_path: Path) -> None:
    vllm = {"kind": "openai", "base_url": "http://127.0.0.1:8000/v1"}
    found = subject("vllm/meta-llama/Llama-3.1-8B-Instruct-FP8", tmp_path, providers={"vllm": vllm})
    assert (found.model, found.gpu, found.precision, found.engine) == (None, None, "fp8", None)
    assert subject("vllm/meta-llama/Llama-3.1-8B-Instruct", tmp_path, providers={"vllm": vllm}).missing == (
        "gpu",
        "precision",
    )


@pytest.mark.parametrize(
    ("machine", "url", "name"),
    [
        (NO_GPU, None, "cpu"),
        (Machine("this machine", (gpu("rtx_4090"),)), None, "rtx_4090"),
        (Machine("this machine", (gpu("rtx_4090"),) * 2), None, None),
        (Machine("this machine", (gpu(None),)), None, None),
        (Machine("this machine", (gpu("rtx_4090"),)), "http://127.0.0.1:1234", "rtx_4090"),
        (Machine("this machine", (gpu("rtx_4090"),)), "http://10.0.0.1:11434", None),
    ],
)
def test_an_ollama_on_this_machine_uses_its_gpu(
    machine: Machine, url: str | None, name: str | None, tmp_path: Path
) -> None:
    table: dict[str, Any] = {"ollama": {"base_url": url} if url else {}}
    found = subject("ollama/llama3.1:8b", tmp_path, machine=machine, providers=table)
    assert (found.model, found.gpu, found.engine) == ("llama-3.1-8b", name, "llama.cpp")


def test_whether_a_model_in_this_process_uses_a_gpu_is_not_guessed(tmp_path: Path) -> None:
    card, chip = Machine("this", (gpu("rtx_4090"),)), Machine("this", (gpu("m3_ultra", kind="unified"),))
    assert subject("gguf/x", tmp_path, machine=card).gpu is None
    assert subject("gguf/x", tmp_path, machine=chip).gpu == "m3_ultra"
    assert subject("gguf/x", tmp_path, machine=card, providers={"gguf": {"n_gpu_layers": 0}}).gpu == "cpu"


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (UserInput(model="llama-9"), "model: 'llama-9' is not in the tables"),
        (UserInput(gpu="h100_smx"), "gpu: 'h100_smx' is not in the tables; did you mean 'h100_sxm'?"),
        (UserInput(n_gpus=0), "gpus: must be from 1 to 1024, got 0"),
        (UserInput(precision="fp7"), "precision: 'fp7' is not in the tables; did you mean"),
        (UserInput(engine="vlm"), "engine: 'vlm' is not in the tables; did you mean 'vllm'?"),
    ],
)
def test_an_unknown_name_is_refused(said: UserInput, says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        subject("ollama/x", tmp_path, said)
    assert str(refused.value).startswith(says)
    assert refused.value.param == says.partition(":")[0]


GOOD = Level(4, 16, {}, 0, 9.0, 200.0, True, Spread(90, 95, 91), Spread(20, 25, 21), 511.6, 127.5)
KNOWN = BenchTarget("llama-3.1-8b", "l4", 1, "fp8", "vllm", at_once=8)


def test_a_good_level_is_kept_with_its_means() -> None:
    [point] = KNOWN.points([GOOD], DAY)
    assert (point.model, point.gpu, point.n_gpus, point.precision, point.engine) == (
        "llama-3.1-8b",
        "l4",
        1,
        "fp8",
        "vllm",
    )
    assert (point.input_tokens, point.output_tokens, point.concurrency) == (512, 128, 4)
    assert (point.output_tokens_per_s, point.tpot_ms, point.ttft_ms, point.measured_on) == (200.0, 21, 91, DAY)


@pytest.mark.parametrize(
    "bad",
    [
        {"is_steady": False},
        {"estimated": 1},
        {"errors": {"ServerError": 1}},
        {"output_tokens_per_s": None},
        {"concurrency": 9},
    ],
    ids=lambda bad: next(iter(bad)),
)
def test_a_doubtful_level_is_not_kept(bad: dict[str, Any]) -> None:
    assert KNOWN.points([replace(GOOD, **bad)], DAY) == []


@pytest.mark.parametrize("name", ["model", "gpu", "precision"])
def test_what_is_not_wholly_known_is_not_kept(name: str) -> None:
    unknown = replace(KNOWN, **{name: None})  # type: ignore[arg-type]
    assert (unknown.points([GOOD], DAY), unknown.missing) == ([], (name,))


def test_what_the_data_sheet_forbids_is_told_apart_with_its_ceiling() -> None:
    # 8 GB of weights at 300 GB/s: no more than 37 a second to one, and four times that to four.
    slow, fast = (KNOWN.points([replace(GOOD, output_tokens_per_s=rate)], DAY)[0] for rate in (100.0, 200.0))
    possible, wrong = what_is_possible([slow, fast], Tables.bundled())
    assert possible == [slow]
    [told] = wrong
    assert told.startswith("not stored, at 4 at once: 200 output tokens per second are impossible: llama-3.1-8b in fp8")
    assert "1 x l4 with 4 at once cannot exceed 1" in told


@pytest.mark.parametrize("unknown", [{"gpu": "cpu"}, {"model": "my-own"}, {"engine": "llama.cpp"}])
def test_what_no_table_knows_the_ceiling_of_is_believed(unknown: dict[str, str]) -> None:
    points = replace(KNOWN, **unknown).points([GOOD], DAY)  # type: ignore[arg-type]
    assert what_is_possible(points, Tables.bundled()) == (points, [])


def test_of_an_engine_that_nobody_named_the_one_that_goes_furthest_counts() -> None:
    points = replace(KNOWN, engine=None).points([GOOD], DAY)
    assert what_is_possible(points, Tables.bundled())[0] == []
