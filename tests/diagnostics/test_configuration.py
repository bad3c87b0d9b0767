"""What the doctor says of the configuration: where it is, whether it loads, what it forbids, what it needs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llama_client.testing.loopback import WireServer, silence
from tests.diagnostics.conftest import KEY, Doctor, compatible, listing, of


def test_no_file_is_no_problem(doctor: Doctor) -> None:
    file = of(doctor.says(None), "config_file")
    assert (file.status, file.facts["path"]) == ("info", None)
    assert "llama-client config init" in str(file.remedy)


@pytest.mark.parametrize("how", ["named", "variable", "working folder", "pyproject", "user"])
def test_the_file_that_is_used_is_named(doctor: Doctor, how: str, clean_home: Path, tmp_path: Path) -> None:
    text, environ, source = 'default_model = "gguf/default"\n', {}, None
    place = {
        "named": tmp_path / "mine.toml",
        "variable": tmp_path / "mine.toml",
        "working folder": doctor.folder / "llama-client.toml",
        "pyproject": doctor.folder / "pyproject.toml",
        "user": clean_home / ".config" / "llama-client" / "llama-client.toml",
    }[how]
    if how == "user" and not sys.platform.startswith("linux"):
        pytest.skip("that folder is Linux's")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"[tool.llama-client]\n{text}" if how == "pyproject" else text, encoding="utf-8")
    if how == "named":
        source = str(place)
    if how == "variable":
        environ = {"LLAMA_CLIENT_CONFIG": str(place)}
    file = of(doctor.says(None, environ, source=source), "config_file")
    assert (file.status, file.facts["path"], file.facts["loads"]) == ("ok", str(place), True)


WRONG = {
    "no TOML": "default_model = ",
    "an unknown key": "defalt_model = 'x'\n",
    "a wrong value": "[ledger]\nretention_days = 0\n",
    "a wrong provider": "[routes.chat]\ntargets = ['grok/x']\n",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_a_finding_and_the_rest_is_looked_at(doctor: Doctor, text: str) -> None:
    report = doctor.says(text)
    file = of(report, "config_file")
    assert (file.status, file.facts["loads"], report.is_configured) == ("problem", False, False)
    assert "llama-client config check" in str(file.remedy)
    assert of(report, "memory").status == "ok"


def test_a_file_that_is_not_there_says_how_to_make_one(doctor: Doctor) -> None:
    report = doctor.says(None, source="nowhere.toml")
    assert "llama-client config init" in str(of(report, "config_file").remedy)
    assert not report.is_configured


@pytest.mark.parametrize(
    "text", ["local_only = true\n[broken", "local_only = 'yes'\n", "local_only = true\nwrong = 1\n"]
)
def test_with_a_wrong_file_that_may_say_local_only_nobody_beyond_this_machine_is_asked(
    doctor: Doctor, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = set()
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *_, **__: looked_up.add(host))
    report = doctor.says(text, {"GROQ_API_KEY": KEY})
    assert of(report, "provider_reachable", "groq").facts["rule"] in ("configuration", "local_only")
    assert looked_up <= {"127.0.0.1"}


def test_a_provider_whose_table_is_wrong_is_not_sent_its_key(doctor: Doctor) -> None:
    with WireServer(listing("a")) as server:
        # Without its misspelt address it would be OpenAI.
        text = '[providers.mine]\nkind = "openai"\nbase_ulr = "http://127.0.0.1:1"\napi_key_env = "MINE"\n'
        report = doctor.says(text + compatible("vllm", server.url), {"MINE": KEY})
    assert of(report, "provider_reachable", "mine").facts["rule"] == "configuration"
    assert of(report, "provider_reachable", "vllm").status == "ok"
    assert "did you mean 'base_url'?" in of(report, "config_file").message


def test_a_file_that_was_only_found_and_would_redirect_a_key_is_not_followed(doctor: Doctor) -> None:
    with WireServer(listing("a")) as server:
        text = f'[providers.groq]\nbase_url = "{server.url}"\n'
        (doctor.folder / "llama-client.toml").write_text(text, encoding="utf-8")
        report = doctor.says(None, {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": "http://192.0.2.7"})
    assert of(report, "config_file").status == "problem"
    assert of(report, "provider_reachable", "groq").status == "skipped"
    assert not server.accepted


def test_variables_are_named_and_their_values_are_not(doctor: Doctor) -> None:
    variables = of(doctor.says(None, {"LLAMA_CLIENT_DEFAULT_MODEL": "gguf/none-of-that"}), "config_variables")
    assert variables.facts["variables"] == ["LLAMA_CLIENT_DEFAULT_MODEL", "LLAMA_CLIENT_LEDGER__ENABLED"]
    assert "none-of-that" not in variables.message


LOCAL_ONLY = "local_only = true\n"


@pytest.mark.parametrize(
    "table",
    [
        "[providers.groq]\napi_key = 'x'\n",
        "[providers.together]\napi_key = 'x'\n",
        "[providers.openai]\napi_key = 'x'\n",
        "[providers.far]\nkind = 'openai'\nbase_url = 'http://192.0.2.7/v1'\n",
    ],
)
def test_local_only_forbids_a_provider_by_name_and_nothing_is_tried(
    doctor: Doctor, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = set()
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *_, **__: looked_up.add(host))
    report = doctor.says(LOCAL_ONLY + table)
    name = table.partition(".")[2].partition("]")[0]
    reached = of(report, "provider_reachable", name)
    assert (reached.status, reached.facts["rule"]) == ("warning", "local_only")
    assert "privacy.allow_hosts" in reached.message
    # Ollama, which is on this machine.
    assert looked_up <= {"127.0.0.1"}


def test_a_default_that_local_only_forbids_is_a_problem(doctor: Doctor) -> None:
    report = doctor.says(LOCAL_ONLY + 'default_model = "groq/openai/gpt-oss-20b"\n', {"GROQ_API_KEY": KEY})
    assert of(report, "default_model").status == "problem"
    assert "local_only" in of(report, "target").message


def test_local_only_allows_this_machine_and_what_it_was_told(doctor: Doctor) -> None:
    with WireServer(listing("a")) as server:
        report = doctor.says(LOCAL_ONLY + "[privacy]\nallow_hosts = ['gpu.lan']\n" + compatible("vllm", server.url))
    assert of(report, "provider_reachable", "vllm").status == "ok"
    assert of(report, "local_only").facts["allow_hosts"] == ["gpu.lan"]


def test_local_only_of_the_environment_names_its_source(doctor: Doctor) -> None:
    assert "LLAMA_CLIENT_LOCAL_ONLY" in of(doctor.says(None, {"LLAMA_CLIENT_LOCAL_ONLY": "true"}), "local_only").message


def test_a_proxy_under_local_only_is_told_by_its_rule(doctor: Doctor) -> None:
    with WireServer(lambda _: silence()) as server:
        report = doctor.says(LOCAL_ONLY + compatible("vllm", "http://127.0.0.1:1", f'proxy = "{server.url}"'))
    assert "a proxy" in of(report, "provider_reachable", "vllm").message
    assert not server.accepted


def test_offline_asks_nobody_beyond_this_machine(doctor: Doctor) -> None:
    with WireServer(listing("a")) as server:
        text = 'default_model = "groq/x"\n[providers.groq]\napi_key = "x"\n' + compatible("vllm", server.url)
        report = doctor.says(text + compatible("far", "http://gpu.example/v1"), offline=True)
    for name in ("groq", "far"):
        assert of(report, "provider_reachable", name).facts["rule"] == "offline"
    assert of(report, "provider_reachable", "vllm").status == "ok"
    assert of(report, "default_model").status == "skipped"


def test_a_missing_extra_that_the_configuration_needs_is_a_problem(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_client.diagnostics.machine.find_spec", lambda name: None)
    report = doctor.says("[telemetry]\nenabled = true\n")
    extra = of(report, "extra")
    assert (extra.subject, extra.status, extra.remedy) == (
        "otel",
        "problem",
        'Run `pip install "llama-client[otel]"`.',
    )
    assert "postgres" in of(report, "extras").message
