"""What switches `local_only` on, that nothing switches it off, and what may be an exception."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from llama_client import AsyncLlamaClient, Config, ConfigError, LlamaClient, LocalOnlyError, load_config
from tests.privacy.asking import MODEL, PROMPT

GROQ = f"groq/{MODEL}"
VARIABLE = "LLAMA_CLIENT_LOCAL_ONLY"


def user_file(text: str) -> Path:
    file = Path(platformdirs.user_config_path("llama-client", appauthor=False)) / "llama-client.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    return file


def found_file(text: str) -> None:
    Path("llama-client.toml").write_text(text, encoding="utf-8")


def refusal(client: LlamaClient) -> LocalOnlyError:
    with client, pytest.raises(LocalOnlyError) as caught:
        client.ask(PROMPT, model=GROQ)
    return caught.value


@pytest.mark.parametrize("where", ["argument", "variable", "user file", "found file"])
def test_any_source_that_says_true_wins(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    says = {name: json.dumps(name == where) for name in ("argument", "variable", "user file", "found file")}
    own = user_file(f"local_only = {says['user file']}")
    found_file(f"local_only = {says['found file']}")
    monkeypatch.setenv(VARIABLE, says["variable"])
    error = refusal(LlamaClient(local_only=where == "argument"))
    expected = {"argument": "local_only=True", "variable": VARIABLE, "user file": str(own)}
    assert error.source == expected.get(where, "llama-client.toml")
    shown = {"argument": "the argument local_only"}.get(where, error.source)
    assert f"switched on by {shown}" in str(error)


@pytest.mark.parametrize("where", ["variable", "user file"])
@pytest.mark.parametrize("kind", [LlamaClient, AsyncLlamaClient])
def test_what_the_user_wants_holds_whatever_the_program_gives(
    where: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "variable":
        monkeypatch.setenv(VARIABLE, "true")
    else:
        user_file("local_only = true")
    Path("given.toml").write_text("local_only = false", encoding="utf-8")
    for config in ({"local_only": False}, Config(), Config(local_only=False), "given.toml", None):
        assert kind(config, local_only=False)._context.config.local_only
    for local_only in (False, None):
        assert kind.for_provider("groq", api_key="k", local_only=local_only)._context.config.local_only


@pytest.mark.parametrize("said", ["1", "True", "yes", "", "'true'"])
def test_a_variable_that_says_neither_stops_everything(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, said)
    makers: list[Callable[[], object]] = [
        LlamaClient,
        lambda: LlamaClient(Config()),
        lambda: LlamaClient.for_provider("groq", api_key="k"),
    ]
    for make in makers:
        with pytest.raises(ConfigError, match=f"{VARIABLE}: must be true or false"):
            make()


def test_a_user_s_file_that_says_neither_stops_everything() -> None:
    user_file('local_only = "yes"')
    found_file('default_model = "gguf/default"')
    with pytest.raises(ConfigError, match="local_only: must be true or false"):
        LlamaClient.for_provider("groq", api_key="k")


def test_a_configuration_of_the_program_s_own_is_named_as_that() -> None:
    for config in ({"local_only": True}, Config(local_only=True)):
        error = refusal(LlamaClient(config))
        assert error.source == "config"
        assert "switched on by the program's own configuration" in str(error)


def test_a_view_and_a_copied_configuration_stay_local() -> None:
    with LlamaClient({}, local_only=True) as client, pytest.raises(LocalOnlyError):
        client.with_options(model=GROQ).ask(PROMPT)
    config = load_config({"local_only": True}, environ={VARIABLE: "true"})
    for same in (config, copy.deepcopy(config), config.model_copy()):
        assert same.local_only_source == VARIABLE
    assert load_config({}, environ={}).local_only_source is None


def test_an_error_keeps_its_rule_through_a_pickle() -> None:
    error = pickle.loads(pickle.dumps(LocalOnlyError("no", rule="proxy", source="x")))
    assert (str(error), error.rule, error.source) == ("no", "proxy", "x")


# Exceptions.


@pytest.mark.parametrize("whose", ["variable", "user file"])
def test_a_found_file_names_no_exceptions_from_the_user_s_own_local_only(
    whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if whose == "variable":
        monkeypatch.setenv(VARIABLE, "true")
    else:
        user_file("local_only = true")
    text = 'local_only = true\n[privacy]\nallow_hosts = ["elsewhere.example"]\n'
    found_file(text)
    with pytest.raises(ConfigError, match=r"privacy\.allow_hosts: a file found in the working directory"):
        load_config()
    # Who passes the file, or says so in a variable, has chosen.
    assert load_config("llama-client.toml").privacy.allow_hosts == ("elsewhere.example",)
    monkeypatch.setenv("LLAMA_CLIENT_PRIVACY__ALLOW_HOSTS", '["mine.example"]')
    assert load_config().privacy.allow_hosts == ("mine.example",)


def test_a_found_file_names_exceptions_from_its_own_local_only() -> None:
    found_file('local_only = true\n[privacy]\nallow_hosts = ["gpu-box.lan"]\n')
    assert load_config().privacy.allow_hosts == ("gpu-box.lan",)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("GPU-Box.LAN.", "gpu-box.lan"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("10.0.0.5", "10.0.0.5"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("FD00::1", "fd00::1"),
        ("fd00::/8", "fd00::/8"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("my_host", "my_host"),
    ],
)
def test_an_exception_is_a_name_an_address_or_a_network(written: str, kept: str) -> None:
    assert load_config({"privacy": {"allow_hosts": [written]}}, environ={}).privacy.allow_hosts == (kept,)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("http://gpu-box:8000", "without scheme, port"),
        ("gpu-box:8000", "without scheme, port"),
        ("[::1]:8000", "without scheme, port"),
        ("*.example.com", "wildcard"),
        ("example.com/v1", "path"),
        ("10.0.0.5/8", "did you mean 10.0.0.0/8"),
        ("0.0.0.0/0", "switch local_only off"),
        ("::/0", "switch local_only off"),
        ("3405803781", "must be a name"),
        ("10.1", "must be a name"),
        ("a b", "must be a name"),
        ("-x.example", "must be a name"),
        ("x..example", "must be a name"),
        (" ", "must be a name"),
    ],
)
def test_what_can_be_no_exception_is_a_configuration_error(written: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load_config({"privacy": {"allow_hosts": ["good.example", written]}}, environ={})
    assert caught.value.key == "privacy.allow_hosts[1]"
