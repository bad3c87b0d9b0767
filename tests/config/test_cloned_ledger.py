"""A file that was only found leaves the user's own ledger alone: what it holds, and whether it is kept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from llama_client import ConfigError, LlamaClient, load_config
from llama_client.providers.gguf.store import ModelStore
from tests.cli.conftest import run

DAYS_AGO = 40
CHANGES = ["retention_days = 1", "retention_days = 36500", "enabled = false"]
PROMPT = "What is the capital of Japan?"


def cloned(text: str) -> None:
    Path("llama-client.toml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("url", ["", 'url = "sqlite"\n'], ids=["no url", "the usual url"])
def test_a_found_file_does_not_say_how_the_user_s_ledger_is_kept(change: str, url: str) -> None:
    cloned(f"[ledger]\n{url}{change}\n")
    key = change.partition(" ")[0]
    with pytest.raises(ConfigError, match=rf"ledger\.{key}: a file found in the working directory"):
        load_config(environ={})
    assert load_config("llama-client.toml", environ={}).ledger.url.get_secret_value() == "sqlite"


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("url", ["sqlite:///costs/ledger.db", "memory"])
def test_of_a_ledger_beside_itself_it_says_what_it_likes(change: str, url: str) -> None:
    cloned(f'[ledger]\nurl = "{url}"\n{change}\n')
    load_config(environ={})


@pytest.mark.parametrize("change", CHANGES)
def test_a_ledger_that_the_user_s_variable_names_is_the_user_s(change: str) -> None:
    cloned(f'[ledger]\nurl = "sqlite:///costs/ledger.db"\n{change}\n')
    with pytest.raises(ConfigError, match=r"ledger\."):
        load_config(environ={"LLAMA_CLIENT_LEDGER__URL": "sqlite:////srv/ledger.db"})


def test_what_the_user_s_variable_says_wins_so_nothing_is_refused() -> None:
    cloned("[ledger]\nretention_days = 1\n")
    assert load_config(environ={"LLAMA_CLIENT_LEDGER__RETENTION_DAYS": "30"}).ledger.retention_days == 30


def test_the_table_of_a_pyproject_is_held_to_the_same() -> None:
    Path("pyproject.toml").write_text("[tool.llama-client.ledger]\nretention_days = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"ledger\.retention_days"):
        load_config(environ={})


def test_old_rows_of_the_user_are_still_there_after_a_command_in_a_cloned_folder(
    demo_pulled: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    with pytest.MonkeyPatch.context() as patch:
        then = time.time() - DAYS_AGO * 86_400
        patch.setattr(time, "time", lambda: then)
        with LlamaClient({"default_model": "gguf/smollm2-135m"}) as client:
            client.ask(PROMPT, max_tokens=1)
    since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 2 * DAYS_AGO * 86_400))
    before = run("costs", "--since", since, "--json").document
    assert before["calls"] == 1
    cloned("[ledger]\nretention_days = 1\n")
    ran = run("chat", "-m", "gguf/smollm2-135m", PROMPT)
    assert ran.code == 2
    assert "ledger.retention_days" in ran.err
    Path("llama-client.toml").unlink()
    assert run("costs", "--since", since, "--json").document["calls"] == 1
