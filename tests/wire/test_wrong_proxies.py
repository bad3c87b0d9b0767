"""A proxy's address that is none: an error of the configuration, which repeats no password."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from llama_client import ConfigError, LlamaClient
from tests.cli.conftest import Ran, run

WRONG = [
    "http://u:SECRET0@127.0.0.1:port",
    "http://u:SECRET0@127.0.0.1:99999",
    "ftp://u:SECRET0@127.0.0.1:1",
    "http://u:SECRET0@[::1",
    "http://u:SECRET0@exa mple:1",
    "SECRET0",
]


def configured(proxy: str) -> None:
    text = f'default_model = "groq/x"\n[providers.groq]\napi_key = "k"\nproxy = "{proxy}"\n'
    Path("llama-client.toml").write_text(text, encoding="utf-8")


def ran_with(proxy: str, *command: str, env: Mapping[str, str] | None = None) -> Ran:
    configured(proxy)
    return run(*command, "--config", "llama-client.toml", env=dict(env or {}))


@pytest.mark.parametrize("proxy", WRONG)
def test_a_check_finds_it(proxy: str) -> None:
    ran = ran_with(proxy, "config", "check")
    assert ran.code == 2
    assert "providers.groq.proxy: must be an address such as http://proxy.example:3128" in ran.out
    assert "SECRET" not in ran.out + ran.err


@pytest.mark.parametrize("command", [["models", "--json"], ["chat", "hi"]], ids=" ".join)
def test_every_command_says_so(command: list[str]) -> None:
    ran = ran_with(WRONG[0], *command)
    assert ran.code == 2
    assert "proxy: must be an address" in ran.out + ran.err
    assert "SECRET" not in ran.out + ran.err


@pytest.mark.parametrize("proxy", [*WRONG[:2], *WRONG[3:5]])
def test_of_the_environment_s_the_request_says_so(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with LlamaClient.for_provider("groq", api_key="k") as client, pytest.raises(ConfigError) as caught:
        client.ask("hi", model="groq/x")
    assert "HTTPS_PROXY" in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_commands_tell_of_the_environment_s_alike() -> None:
    env = {"HTTPS_PROXY": WRONG[0], "GROQ_API_KEY": "k"}
    asked = run("chat", "-m", "groq/openai/gpt-oss-20b", "hi", env=env)
    assert asked.code == 2
    listed = run("models", "--json", env=env)
    for ran in (asked, listed):
        assert "HTTPS_PROXY" in ran.out + ran.err
        assert "SECRET" not in ran.out + ran.err
