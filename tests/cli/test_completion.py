"""`llama-client completion`: what the Tab key offers, by the protocol of each shell and in the shells that are here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llama_client.cli.app import main
from llama_client.crossover.precisions import canonical
from llama_client.providers.gguf.store import ModelStore
from tests.cli.conftest import TIMEOUT_S, run

CONFIG = """\
default_model = "quick"
[providers.laptop]
kind = "gguf"
[routes.quick]
targets = ["groq/my-own", "laptop/default"]
[[crossover.gpus]]
name = "rtx_a6000"
memory_gib = 48
bandwidth_gb_per_s = 768
"""


@pytest.fixture
def command_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `llama-client` that a shell finds: this one."""
    script = tmp_path / "bin" / "llama-client"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llama_client "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")


def offered(
    line: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, shell: str = "zsh"
) -> list[str]:
    """The values for the last word of a line (empty behind a space), as a shell is told them; nothing else is said."""
    words = line.split(" ")
    monkeypatch.setenv("_LLAMA_CLIENT_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
    assert main([]) == 0
    told = capfd.readouterr()
    assert told.err == ""
    lines = told.out.splitlines()
    if shell in ("zsh", "powershell"):
        return [value.replace("\\:", ":") for value in lines[1::3]]
    return [line.partition(",")[2].partition("\t")[0] for line in lines]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("llama-client co", {"completion", "config", "costs"}),
        ("llama-client chat --no", {"--no-stream"}),
        ("llama-client chat -m groq/openai/gpt-oss-2", {"groq/openai/gpt-oss-20b"}),
        ("llama-client chat -m llama-3.1-8b", {"llama-3.1-8b-instruct"}),
        ("llama-client bench ollama/llama3.1:8", {"ollama/llama3.1:8b"}),
        ("llama-client crossover llama-3.3", {"llama-3.3-70b"}),
        ("llama-client crossover llama-3.3-70b --gpu h200", {"h200_sxm"}),
        ("llama-client crossover llama-3.3-70b --engine s", {"sglang"}),
        ("llama-client fit llama-3.3-70b --gpu rtx_40", {"rtx_4090"}),
        ("llama-client fit llama-3.3-70b --precision Q4_K_", {"Q4_K_S", "Q4_K_M"}),
        ("llama-client bench gguf/default --gpu cp", {"cpu"}),
        ("llama-client costs --by t", {"target", "tag:"}),
        ("llama-client pull smol", {"smollm2-135m"}),
        ("llama-client completion po", {"powershell"}),
    ],
)
def test_each_place_offers_what_may_stand_there(
    line: str, expected: set[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(offered(line, capfd, monkeypatch)) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_every_shell_is_told_the_same(
    shell: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered("llama-client chat -m groq/q", capfd, monkeypatch, shell=shell) == ["groq/qwen/qwen3.8-27b"]


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_a_value_behind_an_equals_sign_keeps_its_option(
    shell: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = offered("llama-client chat --model=groq/q", capfd, monkeypatch, shell=shell)
    assert told == ["--model=groq/qwen/qwen3.8-27b"]


def test_the_configuration_s_own_names_come_first(
    clean_home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (clean_home / "work" / "llama-client.toml").write_text(CONFIG, encoding="utf-8")
    told = offered("llama-client chat -m ", capfd, monkeypatch)
    assert told[:3] == ["quick", "laptop/default", "groq/my-own"]
    assert len(told) == len(set(told))
    assert offered("llama-client fit llama-3.1-8b --gpu rtx_a", capfd, monkeypatch) == ["rtx_a6000"]


def test_a_configuration_that_is_named_earlier_on_the_line_is_read(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("other.toml").write_text(CONFIG, encoding="utf-8")
    assert offered("llama-client chat -m qui", capfd, monkeypatch) == []
    assert offered("llama-client chat --config other.toml -m qui", capfd, monkeypatch) == ["quick"]


def test_what_was_pulled_is_offered(
    demo_pulled: ModelStore, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered("llama-client chat -m gguf/", capfd, monkeypatch) == ["gguf/smollm2-135m"]
    assert offered("llama-client fit smol", capfd, monkeypatch) == ["smollm2-135m"]


def test_the_adapters_of_a_configured_model_are_offered(
    clean_home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = "lora = [{ path = 'a.gguf', name = 'formal' }, { path = 'b.gguf' }]\n"
    (clean_home / "work" / "llama-client.toml").write_text(f"[providers.desk]\nkind = 'gguf'\n{lora}", encoding="utf-8")
    assert offered("llama-client chat -m desk/", capfd, monkeypatch) == ["desk/default", "desk/default+formal"]


@pytest.mark.parametrize("text", ["default_model = ", "no_such_key = 1", "[[crossover.gpu_prices]]\ngpu = 'x'\n"])
def test_a_wrong_configuration_costs_only_its_own_names(
    clean_home: Path, text: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (clean_home / "work" / "llama-client.toml").write_text(text, encoding="utf-8")
    assert offered("llama-client chat -m groq/q", capfd, monkeypatch) == ["groq/qwen/qwen3.8-27b"]
    assert offered("llama-client fit llama-3.3-70b --gpu h200", capfd, monkeypatch) == ["h200_sxm"]


@pytest.mark.parametrize(
    "line", ["llama-client dance ", "llama-client chat --colour ", "llama-client chat -m 'a", "llama-client chat -m \\"]
)
def test_a_line_that_makes_no_sense_offers_nothing_and_says_nothing(
    line: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(line, capfd, monkeypatch)


def test_every_precision_that_is_offered_is_known(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = offered("llama-client fit llama-3.1-8b --precision ", capfd, monkeypatch)
    assert len(told) > 10
    assert all(canonical(name) for name in told)


def test_tab_needs_no_heavy_package() -> None:
    program = (
        "import sys; from llama_client.cli.app import main; main([])\n"
        "heavy = {'rich', 'sqlalchemy', 'groq', 'openai', 'xllamacpp', 'numpy', 'matplotlib', 'genai_prices'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"_LLAMA_CLIENT_COMPLETE": "bash_complete", "COMP_WORDS": "llama-client chat -m groq/q", "COMP_CWORD": "3"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("plain,groq/qwen/qwen3.8-27b\n[]\n", "")


# The scripts, in their shells


# Words of the command line, the last of which is completed, and what is offered.
IN_BASH = {
    "co": "completion config costs",
    "chat -m groq/q": "groq/qwen/qwen3.8-27b",
    # Bash makes words of their own of colons and equals signs, and puts the answer behind the last.
    "chat -m ollama/llama3.1 : 8": "8b",
    "chat -m ollama/llama3.1 :": "8b 70b 405b",
    "chat --model = groq/q": "groq/qwen/qwen3.8-27b",
    "chat --model = ollama/llama3.1 : 8": "8b",
    # And none where the user has told it not to.
    "chat -m ollama/llama3.1:8": "ollama/llama3.1:8b",
}


def test_in_bash(command_on_path: None) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    script = (
        "source <(llama-client completion bash)\n"
        'for line in "$@"; do\n'
        "COMP_WORDS=(llama-client $line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()\n"
        "_llama_client_completion llama-client; echo ${COMPREPLY[*]}\n"
        "done; complete -p llama-client"
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *IN_BASH],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    *replies, registered = done.stdout.splitlines()
    assert (dict(zip(IN_BASH, replies, strict=True)), done.stderr) == (IN_BASH, "")
    assert "_llama_client_completion llama-client" in registered


def test_in_fish(command_on_path: None) -> None:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish here")
    asked = ["chat -m ollama/llama3.1:8", "con", "chat --model=groq/q"]
    lines = [f'complete -C "llama-client {line}"' for line in asked]
    done = subprocess.run(
        ["fish", "--no-config", "-c", "; ".join(["llama-client completion fish | source", *lines])],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "ollama/llama3.1:8b\tllama-3.1-8b-instruct",
        "config\tWrite; show or check the configuration.",
        "--model=groq/qwen/qwen3.8-27b\tqwen3.8-27b",
    ]


def test_in_zsh_the_script_is_accepted() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh here")
    done = subprocess.run(
        ["zsh", "-f", "-c", 'compdef() { print "$@" }; eval "$1"', "zsh", run("completion", "zsh").out],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("_llama_client_completion llama-client\n", "")


# The command


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_the_script_is_all_that_is_printed(shell: str) -> None:
    ran = run("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert f"_LLAMA_CLIENT_COMPLETE={shell}_complete" in ran.out or f"= '{shell}_complete'" in ran.out
    document = run("completion", shell, "--json").document
    assert document == {"shell": shell, "script": ran.out.removesuffix("\n")}


@pytest.mark.parametrize(
    ("path", "shell"), [("/bin/bash", "bash"), ("/usr/local/bin/zsh", "zsh"), ("/opt/pwsh", "powershell")]
)
def test_the_shell_is_taken_from_the_environment(path: str, shell: str) -> None:
    assert run("completion", env={"SHELL": path}).out == run("completion", shell).out


@pytest.mark.skipif(sys.platform == "win32", reason="there it is PowerShell")
@pytest.mark.parametrize(("path", "says"), [("", "$SHELL names none"), ("/bin/tcsh", "$SHELL names tcsh")])
def test_a_shell_that_nobody_knows_ends_with_2(path: str, says: str) -> None:
    ran = run("completion", env={"SHELL": path})
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "give one of bash, zsh, fish, powershell" in ran.err
