"""`llama-client fit`, in a process of its own: named machines, this one, files and names that were pulled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from llama_client.providers.gguf.store import ModelStore
from tests.cli.conftest import on_terminal, run
from tests.crossover.gguf_writing import write_model

GIB = 2**30


@pytest.fixture(autouse=True)
def at_home(clean_home: Path) -> Path:
    """Nobody's home, without a configuration."""
    return clean_home


def fits(*arguments: str) -> Any:
    ran = run("fit", *arguments, "--json")
    assert (ran.code, ran.err) == (0, "")
    return ran.document


def test_the_first_sentence_is_the_verdict_and_a_no_is_an_answer() -> None:
    ran = run("fit", "llama-3.3-70b", "--gpu", "rtx_4090", "--precision", "Q4_K_M")
    assert (ran.code, ran.err) == (0, "")
    text = " ".join(ran.out.split())
    assert text.startswith(
        "llama-3.3-70b on 1 x RTX 4090? No: Q4_K_M needs 43.1 GiB for 8,192 tokens, 24.0 GiB are there: 19.1 GiB "
        "short. 2 x RTX 4090 would hold it."
    )
    for part in (
        "weights in Q4_K_M 39.6 GiB",
        "KV cache of 8,192 tokens 2.5 GiB",
        "together 43.1 GiB",
        "precision engine needs longest context sequences fits",
        "Q2_K llama.cpp 28.0 GiB - - 4.0 GiB short",
        "Licence: Llama 3.3 Community License",
        "700 million monthly active users",
        "meta-llama/llama-models: models/llama3_3/LICENSE, section 2",
        "waredb.com/processor/nvidia-geforce-rtx-4090",
        "checked on 2026-11-30",
    ):
        assert part in text
    doubtful = " ".join(run("fit", "llama-3.3-70b", "--gpu", "h100_nvl").out.split())
    assert "in doubt: from memory, not looked up again" in doubtful
    assert max(map(len, ran.out.splitlines())) <= 80


def test_what_fits_says_how_far_context_and_concurrency_go() -> None:
    ran = run("fit", "Meta-Llama-3.1-8B-Instruct", "--gpu", "rtx_4090", "--precision", "Q4_K_M")
    text = " ".join(ran.out.split())
    assert text.startswith("llama-3.1-8b on 1 x RTX 4090? Yes: Q4_K_M needs 6.2 GiB for 8,192 tokens, and 24.0 GiB")
    assert "Longest context in Q4_K_M: 131,072 tokens, what it was trained for." in text
    assert "At once: 18 sequences of 8,192 tokens." in text


@pytest.mark.parametrize("width", [40, 60])
def test_in_a_narrow_terminal_each_figure_stands_whole_beside_its_name(width: int) -> None:
    asked = ("fit", "llama-3.1-8b", "--gpu", "rtx_4090", "--training")
    narrow = run(*asked, env={"COLUMNS": f"{width}"}).out
    assert max(map(len, narrow.splitlines())) <= width
    assert "…" not in narrow
    # A row of training has six columns, too many for either.
    assert re.search(r"^training +in full\s+weights +15\.0 GiB\s+optimizer +104\.7 GiB", narrow, re.MULTILINE)
    if width == 40:
        option = (
            r"^precision +Q4_K_M\s+engine +llama\.cpp\s+needs +6\.2 GiB\s+longest context +131,072\s+sequences +18\s"
        )
    else:
        option = r"^Q4_K_M +llama\.cpp +6\.2 GiB +131,072 +18 +on 1 GPU *$"
    assert re.search(option, narrow, re.MULTILINE)


def test_no_more_gpus_are_offered_than_are_taken() -> None:
    assert "1<=x<=1024" in run("fit", "--help").out


def test_json_is_one_document_with_sizes_in_bytes() -> None:
    found = fits("llama-3.1-8b", "--gpu", "h100_sxm", "--precision", "fp8", "--context", "4096", "--sequences", "32")
    assert found["fits"] is True
    assert (found["context_tokens"], found["sequences"], found["asked_precision"]) == (4096, 32, "fp8")
    need = found["answer"]["need"]
    assert need["kv_cache_bytes"] == 32 * 4096 * 128 * 512
    assert need["runtime_bytes"] == 80 * 2**30 - 69_000_000_000
    assert found["machine"]["usable_gpu_bytes"] == 80 * 2**30
    assert found["training"] == []
    assert {source["what"] for source in found["sources"]} == {"llama-3.1-8b", "h100_sxm", "bits per weight"}


def test_a_narrower_cache_and_chunks_of_attention_change_the_need() -> None:
    def cache(*more: str) -> int:
        found = fits("llama-4-scout", "--gpu", "h200_sxm", "--context", "65536", "--precision", "Q4_K_M", *more)
        return int(found["answer"]["need"]["kv_cache_bytes"])

    assert cache("--cache-precision", "q8_0") == cache() * 34 // 64
    assert cache("--chunked-attention") == (0.75 * 8192 + 0.25 * 65536) / 65536 * cache()


def test_training_adds_what_fine_tuning_needs() -> None:
    found = fits("llama-3.3-70b", "--gpu", "h100_sxm", "--training")
    by_method = {need["method"]: need for need in found["training"]}
    assert by_method["full"]["state_bytes"] == pytest.approx(1.13e12, rel=0.005)
    assert by_method["full-8bit-adam"]["state_bytes"] == pytest.approx(423e9, rel=0.005)
    assert [need["fits_on_gpus"] for need in found["training"]] == [False, False, False, True]
    ran = run("fit", "llama-3.3-70b", "--gpu", "h100_sxm", "--training")
    assert "QLoRA r16" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


def test_this_machine_is_asked_where_none_is_named() -> None:
    found = fits("llama-3.2-1b")
    assert found["machine"]["name"] == "this machine"
    assert found["machine"]["ram_bytes"] > GIB // 4
    assert run("fit", "llama-3.2-1b").out.startswith("llama-3.2-1b on this machine? ")


def test_a_file_is_weighed_exactly() -> None:
    size = write_model(Path("tiny.gguf"))
    found = fits("tiny.gguf", "--gpu", "l4")
    assert (found["model"], found["answer"]["precision"]) == ("Tiny Model", "Q8_0")
    assert found["answer"]["need"]["weights_bytes"] == size
    assert len(found["options"]) == 1
    assert run("fit", "./tiny.gguf", "--gpu", "l4").out.startswith("Tiny Model on 1 x L4? Yes: Q8_0 needs 0.3 GiB")


@pytest.mark.parametrize("prefix", ["", "gguf/"])
def test_a_name_that_was_pulled_is_its_file(prefix: str) -> None:
    size = write_model(Path("tiny.gguf"))
    ModelStore.of_user().add("my-tiny", Path("tiny.gguf").absolute(), sha256="0" * 64, source="a test")
    assert fits(f"{prefix}my-tiny", "--gpu", "l4")["answer"]["need"]["weights_bytes"] == size
    ran = run("fit", "my-tini", "--gpu", "l4")
    assert (ran.code, "did you mean 'my-tiny'?" in ran.err) == (2, True)


def test_a_models_name_in_a_file_cannot_steer_the_terminal() -> None:
    write_model(Path("tiny.gguf"), name="\x1b]0;owned\x07[red]x\u202e")
    with on_terminal("fit", "tiny.gguf", "--gpu", "l4") as terminal:
        shown = terminal.read_until("Sources")
        assert terminal.end() == 0
    assert "[red]x" in shown
    assert not any(sign in shown for sign in ("\x1b]", "\x07", "\u202e"))


def test_rows_of_the_users_own_are_known_and_undated() -> None:
    Path("llama-client.toml").write_text(
        "[[crossover.gpus]]\nname = 'rtx_a6000'\ntitle = 'RTX A6000'\nmemory_gib = 48\nbandwidth_gb_per_s = 768\n",
        encoding="utf-8",
    )
    ran = run("fit", "llama-3.3-70b", "--gpu", "RTX A6000", "--precision", "Q4_K_M")
    assert ran.out.startswith("llama-3.3-70b on 1 x RTX A6000? Yes: Q4_K_M needs 43.1 GiB")
    assert "rtx_a6000: the configuration; UNDATED" in ran.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lama-3.1-8b"], "MODEL: 'lama-3.1-8b' is not in the tables; did you mean 'llama-3.1-8b'?"),
        (["llama-3.1-8b", "--gpu", "rtx_4080"], "--gpu: 'rtx_4080' is not in the tables; did you mean 'rtx_4090'?"),
        (["llama-3.1-8b", "--gpus", "2"], "--gpus is the number of --gpu"),
        (["llama-3.1-8b", "--gpu", "l4", "--gpus", "0"], "Invalid value for '--gpus'"),
        (["llama-3.1-8b", "--gpu", "l4", "--gpus", "2000"], "2000 is not in the range 1<=x<=1024"),
        (["llama-3.1-8b", "--gpu", "l4", "--precision", "Q4_K_N"], "--precision: 'Q4_K_N' is not in the tables"),
        (["llama-3.1-8b", "--gpu", "m3_max", "--precision", "fp8"], "--precision: 'fp8' is run by vLLM, TensorRT-LLM"),
        (["llama-3.1-8b", "--gpu", "l4", "--context", "-5"], "Invalid value for '--context'"),
        (["llama-3.1-8b", "--gpu", "l4", "--context", "200000"], "was trained for 131,072 tokens, got 200,000"),
        (["llama-3.1-8b", "--gpu", "l4", "--cache-precision", "q8"], "--cache-precision: 'q8' is not in the tables"),
        (["llama-3.1-8b", "--gpu", "l4", "--chunked-attention"], "--chunked-attention: llama-3.1-8b looks back"),
        (["tiny.gguf", "--precision", "Q4_K_M"], "--precision: the file's own is Q8_0"),
        ([], "Missing argument 'MODEL'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_ends_with_2_and_says_what_is_right(arguments: list[str], says: str) -> None:
    write_model(Path("tiny.gguf"))
    ran = run("fit", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert says in run("fit", *arguments, "--json").document["error"]["message"]


def test_a_file_that_is_not_there_is_a_failure() -> None:
    ran = run("fit", "nowhere.gguf")
    assert (ran.code, ran.err) == (1, "llama-client: cannot load nowhere.gguf: there is no such file\n")


def test_without_the_package_the_extra_is_named(tmp_path: Path) -> None:
    write_model(Path("tiny.gguf"))
    (tmp_path / "gguf.py").write_text("raise ModuleNotFoundError('No module named gguf')")
    ran = run("fit", "tiny.gguf", env={"PYTHONPATH": str(tmp_path)})
    assert (ran.code, ran.out) == (2, "")
    assert 'pip install "llama-client[crossover]"' in ran.err
    assert run("fit", "llama-3.1-8b", "--gpu", "l4", env={"PYTHONPATH": str(tmp_path)}).code == 0
