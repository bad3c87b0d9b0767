"""Keys and passwords in places where none belongs: no message repeats them, and each still says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llama_client import ConfigError, LlamaClient, load_config
from llama_client.redaction import looks_secret, without_secrets
from tests.cli.conftest import run

KEY = "sk-proj-SECRET0abcdef"
# What gives the key a place, by the key of the configuration that is then wrong.
MISPLACED: dict[str, dict[str, Any]] = {
    "providers.box.kind": {"providers": {"box": {"kind": KEY}}},
    "providers.groq.timeout_s": {"providers": {"groq": {"timeout_s": KEY}}},
    "routes.chat": {"routes": {"chat": KEY}},
    "providers": {"providers": KEY},
    "timezone": {"timezone": KEY},
    "local_only": {"local_only": KEY},
    "budgets[0].scope": {"budgets": [{"usd": 1, "window": "day", "scope": KEY}]},
    "budgets[0].window": {"budgets": [{"usd": 1, "window": KEY}]},
    "prices[0].target": {"prices": [{"target": KEY, "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}]},
    "routes.chat.targets[0]": {"routes": {"chat": {"targets": [f"{KEY}/x"]}}},
    "privacy.allow_hosts[0]": {"privacy": {"allow_hosts": [KEY + "/"]}},
    "ledger.retention_days": {"ledger": {"retention_days": KEY}},
    "providers.groq.headers": {"providers": {"groq": {"headers": {f"Authorization: {KEY}": "x"}}}},
}


@pytest.mark.parametrize("values", MISPLACED.values(), ids=MISPLACED)
def test_a_key_in_the_wrong_place_is_not_repeated(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(values, environ={})
    assert "SECRET" not in f"{caught.value} {caught.value.key}"
    wrong = next(iter(values))
    assert wrong in str(caught.value)


def test_nor_is_the_name_of_a_table_that_is_a_key() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"providers": {KEY: {"kind": "gguf", "n_ctx": 1}}}, environ={})
    assert str(caught.value).startswith("config: providers.***.n_ctx: ")


def test_a_name_of_a_million_characters_is_neither_searched_nor_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"providers": {"groq": {":" * 1_000_000: 1}}}, environ={})
    assert str(caught.value) == "config: providers.groq.***: unknown name"


@pytest.mark.parametrize("host", ["http://u:SECRET0@h", "u:SECRET0@h", "http://h/?api_key=SECRET0"])
def test_a_host_with_a_password_is_not_repeated(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"privacy": {"allow_hosts": [host]}}, environ={})
    assert "SECRET" not in str(caught.value)


def test_nor_is_a_key_that_a_variable_gives() -> None:
    for name in ("LLAMA_CLIENT_PROVIDERS", "LLAMA_CLIENT_LOCAL_ONLY"):
        with pytest.raises(ConfigError) as caught:
            load_config(environ={name: KEY})
        assert "SECRET" not in str(caught.value)


def test_nor_is_a_key_in_the_place_of_a_model() -> None:
    with LlamaClient({"default_model": KEY}) as client, pytest.raises(ConfigError) as caught:
        client.ask("hi")
    assert "SECRET" not in str(caught.value)
    assert "model" in str(caught.value)


def test_no_command_repeats_it() -> None:
    text = f"""
default_model = "{KEY}"
timezone = "{KEY}"
[providers.groq]
timeout_s = "{KEY}"
headers = {{ "Authorization: {KEY}" = "x" }}
[privacy]
allow_hosts = ["http://u:{KEY}@h"]
"""
    Path("llama-client.toml").write_text(text, encoding="utf-8")
    checked = run("config", "check")
    assert checked.code == 2
    for key in ("timezone", "providers.groq.timeout_s", "privacy.allow_hosts[0]", "providers.groq.headers"):
        assert key in checked.out
    for ran in (checked, run("config", "show"), run("models"), run("chat", "hi"), run("doctor", "--offline")):
        assert "SECRET" not in ran.out + ran.err
        assert ran.code == 2


@pytest.mark.parametrize("form", [[], ["--json"]], ids=" ".join)
def test_a_header_whose_name_holds_the_key_is_no_header(form: list[str]) -> None:
    Path("llama-client.toml").write_text(
        f'[providers.groq]\nheaders = {{ "Authorization: {KEY}" = "x" }}\n', encoding="utf-8"
    )
    for ran in (run("config", "show", *form), run("config", "check", *form)):
        assert "SECRET" not in ran.out + ran.err
        assert ran.code == 2


@pytest.mark.parametrize("command", [["chat", "-m", "ollama/x", "hi", "--json"], ["models", "--json"], ["doctor"]])
@pytest.mark.parametrize("address", ["u:SECRET0@127.0.0.1:abc", "[SECRET0"])
def test_a_password_in_ollama_s_variable_is_not_repeated(address: str, command: list[str]) -> None:
    ran = run(*command, env={"OLLAMA_HOST": address})
    assert "SECRET" not in ran.out + ran.err
    assert "ollama" in ran.out + ran.err


@pytest.mark.parametrize(
    "text",
    [
        "sk-abcdef",
        "gsk_1a2b3c4d",
        "http://ann:pw@host",
        "Bearer abc",
        "gsk_abcdef12",
        "tgp_v1_abcdefgh",
        "hf_AbCdEfGhIjKlMnOpQrSt",
        "xai-abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "0123456789abcdef0123456789abcdef",
        "ann:pw@db.example",
        "http://token@h/",
        "http://h/v1?key=k",
        "api_key=abc",
    ],
)
def test_these_may_not_be_quoted(text: str) -> None:
    assert looks_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "groq/openai/gpt-oss-20b",
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
        "ollama/llama3.1:8b",
        "hf:bartowski/Llama-3.2-3B-Instruct-GGUF/Llama-3.2-3B-Instruct-Q4_K_M.gguf",
        "Europe/Berlin",
        "tag:user",
        "2001:db8::/32",
        "http://127.0.0.1:8000/v1",
        "risk-adjusted",
        "task-runner-20260101",
        "hf_local",
        "",
    ],
)
def test_these_may(text: str) -> None:
    assert not looks_secret(text)
    assert without_secrets(text) == text
