"""The command as a whole: help, version, exit codes, and errors in both forms."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.conftest import run

SECRET = "sk-0123456789abcdef"
COMMANDS = [
    "bench", "bulk", "chat", "completion", "config", "costs", "crossover", "doctor", "fit", "models", "pull", "record",
]  # fmt: skip


def test_the_version_is_the_distribution_s() -> None:
    ran = run("--version")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.strip() == f"llama-client, version {version('llama-client')}"


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=["itself", *COMMANDS])
def test_help_shows_an_example(command: list[str], option: str) -> None:
    ran = run(*command, option)
    assert (ran.code, ran.err) == (0, "")
    assert "Usage: llama-client" in ran.out
    assert "Examples:\n  " in ran.out.replace("\n    ", "\n  ")
    assert "llama-client " + (command[0] if command else "chat") in ran.out.partition("Examples:")[2]


def test_help_lists_every_command() -> None:
    listed = run("--help").out.partition("Commands:")[2]
    assert [line.split()[0] for line in listed.strip().splitlines()] == COMMANDS


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["--colour"],
        ["chat", "--colour", "red", "hi"],
        ["chat", "--temperature", "hot", "hi"],
        ["chat", "--max-tokens", "1.5", "hi"],
        ["chat", "-m"],
        ["models", "all"],
        ["pull"],
        ["pull", "one", "two"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_a_word_on_stderr(arguments: list[str]) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(("Usage: llama-client", "Error: "))


@pytest.mark.parametrize("command", [["chat", "hi"], ["models"], ["pull", "smollm2-135m"]], ids=" ".join)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("defalt_model = 'x/y'", ["defalt_model", "did you mean 'default_model'"]),
        ("[providers.laptop]\nkind = 'gguf'\nn_ctx = 'large'", ["providers.laptop.n_ctx"]),
        ("local_only = 'yes'", ["local_only", "true or false"]),
        ("default_model = ", ["not valid TOML"]),
    ],
)
def test_a_wrong_configuration_ends_with_2_and_names_the_key(
    clean_home: Path, command: list[str], text: str, says: list[str]
) -> None:
    (clean_home / "work" / "llama-client.toml").write_text(text, encoding="utf-8")
    ran = run(*command)
    assert (ran.code, ran.out) == (2, "")
    assert all(said in ran.err for said in ["llama-client.toml", *says]), ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_an_error_is_one_line_on_stderr() -> None:
    ran = run("chat", "-m", "nobody/x", "hi")
    assert ran.out == ""
    known = "groq, together, ollama, gguf, fireworks, deepinfra, cerebras, sambanova, nebius, openrouter, mistral, "
    known += "deepseek, xai, huggingface, gemini, lmstudio, vllm, llamacpp, litellm"
    assert ran.err == f"llama-client: model: no provider is named 'nobody' (providers: {known})\n"


@pytest.mark.parametrize("command", [["chat", "-m", "nobody/x", "hi"], ["pull", "no-such-model"]], ids=" ".join)
def test_with_json_an_error_is_one_document_on_stdout(command: list[str]) -> None:
    plain, ran = run(*command), run(*command, "--json")
    assert ran.code == plain.code == 2
    error = ran.document["error"]
    assert error.keys() == {"type", "message", "attempts"}
    assert error["type"] in ("ConfigError", "InvalidRequestError")
    assert plain.err == f"llama-client: {error['message']}\n"


@pytest.mark.parametrize("command", [["chat"], ["chat", "--colour", "hi"], ["pull"]], ids=" ".join)
def test_with_json_wrong_usage_is_one_document_on_stdout(command: list[str]) -> None:
    ran = run(*command, "--json")
    assert ran.code == 2
    assert ran.document["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        [SECRET],
        ["chat", f"--{SECRET}"],
        ["fit", "m", "--gpus", SECRET],
        ["config", "init", SECRET],
        ["costs", "--plot", f"api_key={SECRET}"],
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(arguments: list[str]) -> None:
    ran = run(*arguments, "--json")
    assert ran.code == 2
    assert "***" in ran.err
    assert SECRET not in ran.err + ran.out
