"""Faults of the environment: certificates and proxies that are gone. They are nobody else's failure."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest

from llama_client import APIConnectionError, ChatCompletion, ConfigError
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import WireServer, closed_port
from tests.routing.asking import MODES, Session
from tests.wire.certificates import SelfSigned

each_mode = pytest.mark.parametrize("mode", MODES)
wires = pytest.mark.parametrize("wire", ["builtin", "httpx"])


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer(lambda request: OPENAI.good(streams=bool(request.json.get("stream")))) as server:
        yield server


def config(url: str, *others: str, wire: str = "builtin", **options: Any) -> dict[str, Any]:
    providers = {"a": {"kind": "openai", "base_url": f"{url}/v1", **options}}
    providers |= {
        name: {"kind": "openai", "base_url": f"{other}/v1"} for name, other in zip("bc", others, strict=False)
    }
    targets = [f"{name}/m" for name in providers]
    routes = {"chat": {"targets": targets}}
    routing = {"retries": 2, "breaker_failures": 1}
    return {
        "default_model": "chat",
        "providers": providers,
        "routes": routes,
        "routing": routing,
        "http": {"wire": wire},
    }


def broken(way: str, folder: Path) -> tuple[str, Path]:
    """A variable, and what it names."""
    variable = "SSL_CERT_DIR" if "folder" in way else "SSL_CERT_FILE"
    path = folder / "certificates"
    match way:
        case "a file of something else":
            path.write_text("no certificate", encoding="utf-8")
        case "an empty file":
            path.write_bytes(b"")
        case "a folder instead of a file":
            variable = "SSL_CERT_FILE"
            path.mkdir()
        case "an empty folder" | "a folder with other names":
            path.mkdir()
            if "names" in way:
                (path / "cacert.pem").write_bytes(Path(certifi.where()).read_bytes())
    return variable, path


WAYS = [
    "a file that is gone",
    "a file of something else",
    "an empty file",
    "a folder instead of a file",
    "a folder that is gone",
    "an empty folder",
    "a folder with other names",
]


@wires
@each_mode
@pytest.mark.parametrize("way", [WAYS[0], WAYS[4]])
def test_plain_http_needs_no_certificates(
    way: str, mode: str, wire: str, server: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, path = broken(way, tmp_path)
    monkeypatch.setenv(variable, str(path))
    with Session(config(server.url, wire=wire), mode) as session:
        [reply] = session.many(1)
    assert isinstance(reply, ChatCompletion), reply


@wires
@pytest.mark.parametrize("mode", ["call-sync", "stream-async"])
@pytest.mark.parametrize("way", WAYS)
def test_certificates_that_cannot_be_read_are_a_fault_of_the_environment(
    way: str, mode: str, wire: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, path = broken(way, tmp_path)
    monkeypatch.setenv(variable, str(path))
    with Session(config("https://127.0.0.1:9", wire=wire), mode) as session:
        [error] = session.many(1)
        assert type(error) is ConfigError, error
        assert error.variable == variable
        assert str(error).startswith(f"{variable}: {path} has no readable certificates")
        assert len(error.attempts) == 1
        assert session.client.health()["a/m"].breaker == "closed"


@wires
@pytest.mark.parametrize("mode", ["call-sync", "stream-async"])
def test_one_client_reaches_plain_servers_and_refuses_tls_without_certificates(
    mode: str, wire: str, server: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with Session(config(server.url, "https://127.0.0.1:9", wire=wire), mode) as session:
        [reply] = session.many(1, model="a/m")
        [error] = session.many(1, model="b/m")
    assert isinstance(reply, ChatCompletion), reply
    assert isinstance(error, ConfigError)


@each_mode
def test_a_fault_of_the_environment_leaves_the_other_targets(
    mode: str, server: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with Session(config("https://127.0.0.1:9", server.url), mode) as session:
        [reply] = session.many(1)
        assert isinstance(reply, ChatCompletion), reply
        assert [(each.target, each.error, each.sent) for each in reply.attempts] == [
            ("a/m", "ConfigError", False),
            ("b/m", None, True),
        ]
        assert session.client.health()["a/m"].breaker == "closed"


@each_mode
def test_a_folder_of_certificates_is_used(
    mode: str, certificate: SelfSigned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As `openssl rehash` names it.
    command = ["openssl", "x509", "-noout", "-hash", "-in", str(certificate.certificate)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / f"{name}.0").write_bytes(certificate.certificate.read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path / 'gone'}{os.pathsep}{tmp_path}")
    answer = OPENAI.good(streams=mode.startswith("stream"))
    with (
        WireServer(lambda _: answer, tls=certificate.context) as server,
        Session(config(server.url), mode) as session,
    ):
        [reply] = session.many(1)
    assert isinstance(reply, ChatCompletion), reply


@each_mode
@pytest.mark.parametrize("way", ["the variable", "the configuration", "neither"])
def test_a_server_that_is_not_trusted_tells_who_says_so(
    way: str, mode: str, certificate: SelfSigned, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, told = {}, "can be set in providers.a.ca_file"
    if way == "the variable":
        monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
        told = "are those of SSL_CERT_FILE"
    elif way == "the configuration":
        options, told = {"ca_file": certifi.where()}, "are those of providers.a.ca_file"
    tables = {**config("", **options), "routing": {"retries": 0}}
    with WireServer(tls=certificate.context) as server:
        tables["providers"]["a"]["base_url"] = server.url
        with Session(tables, mode) as session:
            [error] = session.many(1)
    assert isinstance(error, APIConnectionError)
    assert f"the certificates to trust {told}" in str(error)


PROXIED = "http://llm.test"


@each_mode
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_that_is_gone_is_a_fault_of_the_environment(
    variable: str, mode: str, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_port() as url:
        monkeypatch.setenv(variable, url)
        with Session(config(PROXIED), mode) as session:
            [error] = session.many(1)
            assert type(error) is ConfigError, error
            assert error.variable == variable
            assert f"check {variable} in the environment" in str(error)
            assert len(error.attempts) == 1
            assert session.client.health()["a/m"].breaker == "closed"
        with Session(config(PROXIED, server.url), mode) as session:
            [reply] = session.many(1)
    assert isinstance(reply, ChatCompletion), reply
    assert reply.target == "b/m"
    assert reply.attempts[0].error == "ConfigError"


@pytest.mark.parametrize("mode", ["call-sync", "call-async"])
def test_a_proxy_of_a_table_that_is_gone_names_its_key(mode: str) -> None:
    with closed_port() as url, Session(config(PROXIED, proxy=url), mode) as session:
        [error] = session.many(1)
    assert type(error) is ConfigError
    assert error.key == "providers.a.proxy"
    assert error.variable is None
