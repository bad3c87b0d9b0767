"""Where connections go under `local_only`: to this machine and to `allow_hosts`, whatever a name or a server says."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClientError, LocalOnlyError
from llama_client.local_only import ConnectionGuard, is_this_machine
from llama_client.testing.clock import FakeClock
from llama_client.testing.loopback import Answer, Received, WireServer, whole
from llama_client.testing.seams import using
from tests.privacy.asking import FAR_ADDRESS, KEY, MODEL, ONCE, ask, calls, each_mode, local, refused


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Where somebody tried to connect to; nobody gets there."""
    tried: list[Any] = []

    def connect(self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    # The client tries again, and need not wait between.
    with using(clock=FakeClock().clock):
        yield tried


def at(host: str, there: WireServer, **options: Any) -> dict[str, Any]:
    """A configuration whose provider `openai` is at that host, on the server's port."""
    return local("openai", base_url=f"http://{host}:{there.port}/v1", **options)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "vllm.localhost", "near.test"])
@each_mode
def test_this_machine_is_reached(host: str, mode: str, there: WireServer, lookups: list[str]) -> None:
    assert ask(mode, at(host, there), f"openai/{MODEL}").text == "Hello"
    assert lookups == []


@pytest.mark.parametrize(
    "host", ["far.test", "other-far.test", "both.test", FAR_ADDRESS, "localhost.evil.test", "127.0.0.1.evil.test"]
)
@each_mode
def test_no_name_or_address_elsewhere_is_reached_nor_is_anybody_asked_where_it_is(
    host: str, mode: str, there: WireServer, lookups: list[str]
) -> None:
    error = refused(mode, at(host, there), f"openai/{MODEL}")
    assert f"{host} " in str(error)
    assert "privacy.allow_hosts" in str(error)
    assert there.accepted == 0
    assert lookups == []


@pytest.mark.parametrize(
    "host",
    [
        "[::ffff:203.0.113.5]", "[2001:db8::1]", "[::]", "[fe80::1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "0.0.0.0",
        "192.168.1.1", "169.254.169.254", "126.255.255.255", "128.0.0.1",
    ],
)  # fmt: skip
@calls
def test_an_address_is_known_in_every_form(host: str, mode: str, there: WireServer) -> None:
    refused(mode, at(host, there), f"openai/{MODEL}")
    assert there.accepted == 0


@pytest.mark.parametrize("form", ["3405803781", "0xcb007105", "203.113", "0313.0.0161.05", "0", "2130706433"])
@calls
def test_a_number_in_the_place_of_an_address_gets_around_nothing(
    form: str, mode: str, dialled: list[Any], lookups: list[str]
) -> None:
    refused(mode, local("openai", base_url=f"http://{form}/v1"), f"openai/{MODEL}")
    assert (dialled, lookups) == ([], [])


@calls
def test_whoever_listens_on_every_address_is_told_which_one_to_write(mode: str, there: WireServer) -> None:
    assert "write 127.0.0.1" in str(refused(mode, at("0.0.0.0", there), f"openai/{MODEL}"))


@calls
def test_the_mapped_form_of_this_machine_is_this_machine(mode: str, dialled: list[Any]) -> None:
    with pytest.raises(LlamaClientError) as caught:
        ask(mode, local("openai", base_url="http://[::ffff:127.0.0.1]:9/v1"), f"openai/{MODEL}")
    assert not isinstance(caught.value, LocalOnlyError)


@pytest.mark.parametrize("allowed", ["both.test", "BOTH.test.", FAR_ADDRESS, "203.0.113.0/24"])
@calls
def test_what_allow_hosts_names_is_reached(allowed: str, mode: str, there: WireServer) -> None:
    assert ask(mode, at("both.test", there, allow=[allowed]), f"openai/{MODEL}").text == "Hello"


@pytest.mark.parametrize("allowed", ["other.test", "test", "ar.test", "www.far.test", "203.0.113.6", "203.0.113.8/29"])
@calls
def test_what_allow_hosts_does_not_name_is_not_reached(allowed: str, mode: str, there: WireServer) -> None:
    refused(mode, at("far.test", there, allow=[allowed]), f"openai/{MODEL}")


@calls
def test_only_a_name_in_allow_hosts_is_asked_of_the_system(
    mode: str, there: WireServer, hosts_file: Path, lookups: list[str]
) -> None:
    hosts_file.write_text("", encoding="utf-8")
    assert ask(mode, at("near.test", there, allow=["near.test"]), f"openai/{MODEL}").text == "Hello"
    assert lookups == ["near.test"]


@calls
def test_what_was_judged_is_what_is_connected_to(mode: str, dialled: list[Any], hosts_file: Path) -> None:
    config = local("openai", base_url="http://near.test:9/v1")
    with pytest.raises(LlamaClientError):
        ask(mode, config, f"openai/{MODEL}")
    assert {address[0] for address in dialled} == {"127.0.0.1"}


@calls
def test_a_name_that_leads_elsewhere_from_one_connection_to_the_next_is_judged_anew(
    mode: str, there: WireServer, hosts_file: Path
) -> None:
    config = at("near.test", there)
    assert ask(mode, config, f"openai/{MODEL}").text == "Hello"
    hosts_file.write_text(f"{FAR_ADDRESS} near.test\n", encoding="utf-8")
    refused(mode, config, f"openai/{MODEL}")


@calls
def test_the_file_of_hosts_is_read_anew_only_when_it_has_changed(
    mode: str, there: WireServer, hosts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be large, and every request asks what it says, also on an event loop."""
    text = hosts_file.read_text(encoding="utf-8")
    opened: list[Path] = []
    to_open = Path.open

    def counted(path: Path, *rest: Any, **more: Any) -> Any:
        if path == hosts_file:
            opened.append(path)
        return to_open(path, *rest, **more)

    monkeypatch.setattr(Path, "open", counted)
    os.utime(hosts_file, (0, 0))
    config = at("near.test", there)
    for _ in range(3):
        assert ask(mode, config, f"openai/{MODEL}").text == "Hello"
    assert len(opened) == 1
    hosts_file.write_text(text.replace("127.0.0.1", FAR_ADDRESS), encoding="utf-8")
    refused(mode, config, f"openai/{MODEL}")


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("comment", ["# plain", "# m\u00fcnchen"])
def test_a_name_in_the_file_of_hosts_is_found_however_it_is_written(hosts_file: Path, end: str, comment: str) -> None:
    guard = ConnectionGuard(local_only=True)
    lines = [f"{FAR_ADDRESS} x-near.test near.test.example", f"::1 NEAR.test.{comment}", "127.0.0.2 a near.test"]
    hosts_file.write_text(end.join(["", *lines, ""]), encoding="utf-8", newline="")
    assert guard.addresses("near.test", 80) == ["::1", "127.0.0.2"]


@calls
def test_without_a_file_of_hosts_no_name_but_localhost_is_this_machine(
    mode: str, there: WireServer, hosts_file: Path
) -> None:
    hosts_file.unlink()
    assert ask(mode, at("localhost", there), f"openai/{MODEL}").text == "Hello"
    refused(mode, at("near.test", there), f"openai/{MODEL}")


@pytest.mark.parametrize("kind", ["groq", "together", "openai"])
@pytest.mark.parametrize("key", [KEY, None])
@each_mode
def test_clouds_are_refused_without_asking_for_their_names(
    kind: str, key: str | None, mode: str, lookups: list[str]
) -> None:
    table: dict[str, Any] = {"api_key": key} if key else {}
    refused(mode, local(kind, **table), f"{kind}/{MODEL}")
    assert lookups == []


@pytest.mark.parametrize("kind", ["groq", "together"])
@calls
def test_a_cloud_that_allow_hosts_names_is_tried(kind: str, mode: str, lookups: list[str]) -> None:
    host = {"groq": "api.groq.com", "together": "api.together.ai"}[kind]
    with pytest.raises(LlamaClientError) as caught:
        ask(mode, local(kind, api_key=KEY, allow=[host]) | ONCE, f"{kind}/{MODEL}")
    assert not isinstance(caught.value, LocalOnlyError)
    assert host in lookups


@each_mode
def test_no_redirect_is_followed(mode: str, there: WireServer, lookups: list[str]) -> None:
    def away(request: Received) -> Answer:
        return whole(b"", status=307, headers={"location": f"http://far.test:{there.port}/v1/chat/completions"})

    with WireServer(away) as server, pytest.raises(LlamaClientError):
        ask(mode, at("127.0.0.1", server), f"openai/{MODEL}")
    assert there.accepted == 0
    assert lookups == []


@each_mode
def test_the_environments_proxy_is_passed_over(mode: str, there: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer(lambda _: whole(b"", status=500)) as proxy:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        assert ask(mode, at("near.test", there), f"openai/{MODEL}").text == "Hello"
        assert proxy.accepted == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
@each_mode
def test_a_proxy_is_refused_also_on_this_machine(mode: str, scheme: str, there: WireServer) -> None:
    with WireServer(lambda _: whole(b"", status=500)) as proxy:
        config = at("127.0.0.1", there, proxy=proxy.url.replace("http", scheme))
        assert "proxy" in str(refused(mode, config, f"openai/{MODEL}", rule="proxy"))
        assert (there.accepted, proxy.accepted) == (0, 0)


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost", True), ("LocalHost.", True), ("vllm.localhost", True), ("127.8.8.8", True), ("::1", True),
        ("::ffff:127.0.0.1", True), ("::1%lo", True), ("near.test", False), ("localhost.evil.test", False),
        ("0.0.0.0", False), (FAR_ADDRESS, False), ("", False),
    ],
)  # fmt: skip
def test_what_is_this_machine_for_certain_is_told_without_asking(host: str, is_it: bool, lookups: list[str]) -> None:
    assert is_this_machine(host) == is_it
    assert lookups == []
