"""No key is in a report, wherever it was planted and whoever repeats it."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path

import pytest

from llama_client.config.schema import Config
from llama_client.diagnostics.config_check import all_problems
from llama_client.diagnostics.run import report_secrets
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, garbage, whole
from tests.diagnostics.conftest import Doctor, compatible, key_command

SECRET = "planted-9f8e7d6c5b4a"


def echo_in_error(asked: Received) -> Answer:
    told = f"you sent {asked.headers} to {asked.path}: {SECRET}"
    return as_json({"error": {"message": told, "code": SECRET, "type": SECRET}}, status=401)


def echo_in_list(asked: Received) -> Answer:
    return as_json({"data": [{"id": value} for value in asked.headers.values()] + [{"id": SECRET}]})


def echo_in_page(asked: Received) -> Answer:
    return whole(f"<html>{asked.headers} {SECRET}</html>".encode(), status=500)


ECHOES = {"error": echo_in_error, "list": echo_in_list, "page": echo_in_page, "garbage": lambda _: garbage()}


def seen(doctor: Doctor, text: str | None, environ: dict[str, str] | None = None) -> str:
    report = doctor.says(text, environ)
    return json.dumps(report.as_dict()) + "\n".join(repr(finding) for finding in report.findings)


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES.keys())
@pytest.mark.parametrize(
    "planted",
    [
        f'api_key = "{SECRET}"',
        'api_key_env = "A_VARIABLE"',
        'api_key_file = "key.txt"',
        key_command(f"print('{SECRET}')"),
        f'headers = {{ "X-Team" = "Token {SECRET}" }}',
    ],
)
def test_a_key_that_the_server_repeats_is_not_in_the_report(doctor: Doctor, echo: object, planted: str) -> None:
    (doctor.folder / "key.txt").write_text(SECRET, encoding="utf-8")
    with WireServer(echo) as server:  # type: ignore[arg-type]
        table = compatible("cloud", server.url, planted)
        report = seen(doctor, f'default_model = "cloud/{SECRET[:-1]}"\n{table}', {"A_VARIABLE": SECRET})
    assert SECRET not in report
    assert server.requests


@pytest.mark.parametrize(
    "text",
    [
        compatible("cloud", "http://127.0.0.1:1", f'proxy = "http://user:{SECRET}@127.0.0.1:1"'),
        compatible("cloud", f"http://user:{SECRET}@127.0.0.1:1"),
        compatible("cloud", f"http://127.0.0.1:1/v1?api-key={SECRET}"),
        f'[ledger]\nenabled = true\nurl = "postgresql://user:{SECRET}@127.0.0.1:1/db"\n',
        f'[ledger]\nurl = "mysql://user:{SECRET}@127.0.0.1:1/db"\n',
        f'[providers.groq]\napi_key = "{SECRET} {SECRET}"\n',
        f'[providers.groq]\napi_key = ["{SECRET}"]\n',
        f'[providers.groq]\nheaders = "{SECRET}"\n',
        f'[providers.groq]\nproxy = "{SECRET}"\n',
        f'[providers.groq]\napi_key_command = "printf \\"{SECRET}"\n',
        f'[providers.groq]\napi_key_command = ["false", "{SECRET}"]\n',
        f'[providers.groq]\napi_key = "{SECRET}"\napi_key_env = "X"\n',
        f'[providers.groq]\napi_key = "{SECRET}\n',
    ],
)
def test_a_secret_in_the_file_is_not_in_the_report(doctor: Doctor, text: str) -> None:
    assert SECRET not in seen(doctor, text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GROQ_API_KEY", SECRET),
        ("GROQ_API_KEY", f"two words {SECRET}"),
        ("HTTP_PROXY", f"http://user:{SECRET}@127.0.0.1:1"),
        ("GROQ_BASE_URL", f"http://user:{SECRET}@127.0.0.1:1"),
        ("OLLAMA_HOST", f"http://user:{SECRET}@127.0.0.1:1"),
        ("LLAMA_CLIENT_PROVIDERS__GROQ__API_KEY", SECRET),
        ("LLAMA_CLIENT_PROVIDERS__GROQ__API_KYE", SECRET),
        ("LLAMA_CLIENT_LEDGER__URL", f"postgresql://user:{SECRET}@127.0.0.1:1/db"),
    ],
)
def test_a_secret_in_the_environment_is_not_in_the_report(doctor: Doctor, name: str, value: str) -> None:
    surrounded = {"GROQ_API_KEY": "another-key-12345", "GROQ_BASE_URL": "http://127.0.0.1:1", name: value}
    assert SECRET not in seen(doctor, None, surrounded | {"LLAMA_CLIENT_LEDGER__ENABLED": "true"})


@pytest.mark.skipif(os.name != "posix", reason="who else may read a file is not in its mode there")
def test_a_file_with_a_key_that_others_may_read_is_a_warning(doctor: Doctor) -> None:
    report = doctor.says(compatible("cloud", "http://127.0.0.1:1", f'api_key = "{SECRET}"'))
    file = doctor.folder / "llama-client.toml"
    file.chmod(0o644)
    found = [f for f in doctor.says(source=str(file)).findings if f.check == "key_file"]
    assert [f.status for f in found] == ["warning"]
    assert found[0].remedy == f"Run `chmod 600 '{file}'`."
    file.chmod(0o600)
    assert not [f for f in doctor.says(source=str(file)).findings if f.check == "key_file"]
    assert report.is_configured


def test_the_command_is_named_without_its_arguments(doctor: Doctor) -> None:
    table = compatible("cloud", "http://127.0.0.1:1", key_command(f"print('{SECRET}')"))
    report = doctor.says(table)
    [key] = [finding for finding in report.findings if finding.check == "provider_key"]
    assert key.facts["source"] == f"the command `{Path(sys.executable).name}`"


@pytest.mark.parametrize(
    ("environ", "text", "said"),
    [
        ({"SOME_API_KEY": SECRET}, "", SECRET),
        ({"HTTPS_PROXY": f"http://user:{SECRET}@proxy:1"}, "", SECRET),
        ({}, f"[providers.groq]\napi_key = '{SECRET}'\n", SECRET),
        ({}, f"[providers.groq]\nheaders = {{ x = 'Bearer {SECRET}' }}\n", SECRET),
        ({}, f"[providers.groq]\napi_key = ['{SECRET}']\n", SECRET),
        ({}, f"[ledger]\nurl = 'postgresql://user:{SECRET}@host/name'\n", SECRET),
        ({}, f"[providers.groq]\nbearer = ['{SECRET}']\n", SECRET),
        ({}, f"[providers.ollama.options.auth]\na = '{SECRET}'\n", SECRET),
        ({}, f"[providers.my]\nkind = 'openai'\nbase_url = 'https://h/v1?sig={SECRET}'\n", SECRET),
        ({"PGPASSWORD": SECRET}, "", SECRET),
        ({"PGPASSWORD": SECRET[-6:]}, "", SECRET),
        ({"DB_PASS": SECRET}, "", SECRET),
        ({"SESSION_COOKIE": SECRET}, "", SECRET),
        ({"BASIC_AUTH": f"user:{SECRET}@"}, "", SECRET),
        ({}, "", f"https://user:{SECRET}@host"),
    ],
)
def test_whatever_a_check_would_say_secrets_are_taken_out(environ: dict[str, str], text: str, said: str) -> None:
    values = tomllib.loads(text)
    config, _ = all_problems(values)
    cleaned = report_secrets(environ, config, values).without_any(f"before {said} after")
    assert SECRET not in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")


def test_words_that_are_no_secrets_stay(doctor: Doctor) -> None:
    environ = {"NO_PROXY": "localhost", "OPENAI_API_KEY": "ollama", "X_API_KEY_FILE": "/home/me/key.txt"}
    environ |= {"SECRETS_DIR": "/home/me", "POSTGRES_PASSWORD": "postgres", "ACCESS_TOKEN": "default"}
    values = {"routes": {"author": {"targets": ["groq/openai/gpt-oss-20b"]}}, "providers": {"keys": {"kind": "ollama"}}}
    said = "ollama on localhost, /home/me/key.txt: default_model groq/openai/gpt-oss-20b, postgresql"
    assert report_secrets(environ, Config(), values).without_any(said) == said


def test_the_folder_that_a_shell_is_in_is_no_secret() -> None:
    """Shells call it PWD, which elsewhere is short for a password."""
    environ = {"PWD": "/home/ann/project", "OLDPWD": "/home/ann", "DB_PWD": SECRET}
    said = report_secrets(environ, Config(), {}).without_any(f"/home/ann/project/llama-client.toml {SECRET}")
    assert said == "/home/ann/project/llama-client.toml ***"
