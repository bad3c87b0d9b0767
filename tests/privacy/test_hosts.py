"""Hosts with odd characters: one form is judged, looked up, connected to and shown to the server, on both wires."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llama_client import ConfigError, LlamaClientError, LocalOnlyError
from llama_client.hosts import host_of, with_plain_host
from llama_client.local_only import ConnectionGuard
from llama_client.providers.http.http1 import RequestHeads
from tests.privacy.asking import KEY, MODEL, ask, calls, local
from tests.wire.server import ReplayServer

wires = pytest.mark.parametrize("wire", ["builtin", "httpx"])
# Of each, two parsers or a parser and a resolver have at some time made two different hosts.
NO_HOST = [
    "127.0.0.1%2efar.test", "127.0.0.1%25far.test", "127.0.0.1%far.test", "%31%32%37.0.0.1", "127.0.0.1\\.far.test",
    "127.0.0.1\\@far.test", "far.test\\@127.0.0.1", "user@127.0.0.1", "127.0.0.1 .far.test", "127.0.0.1\t.far.test",
    "127.0.0.1\n.far.test", "127.0.0.1\0.far.test", "[::1%far.test].far.test", "[::1]far.test", "localhost..",
    ".localhost", "far..test", "[::2%far.test]", "[127.0.0.1]", "xn--zz", "-far.test", "far.test-", "x" * 64 + ".test",
    ".".join(["x" * 60] * 5), "fa*r.test", "far,test", "'far.test'", "far.test;x", "far.test|x", "<far>",
]  # fmt: skip
# And these are addresses to some resolvers, and names to others.
NUMBERS = ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.01", "0127.0.0.1", "1.2.3.4.5"]


def wide(text: str) -> str:
    """The same in full width, as East Asian keyboards write it."""
    return "".join(chr(ord(sign) + 0xFEE0) for sign in text)


DOT = "\u3002"
FAR = [
    "far.test.", "FAR.test", wide("far") + ".test", f"far{DOT}test", "far\u00ad.test", "fa\u212a.test", "straße.test",
    "STRASSE.test", "xn--strae-oqa.test",
]  # fmt: skip
NEAR = {
    wide("localhost"): "localhost", "LocalHost.": "localhost", wide("127") + ".0.0.1": "127.0.0.1",
    f"127{DOT}0{DOT}0{DOT}1": "127.0.0.1", "[::1%25lo]": "::1", "[0:0:0:0:0:0:0:1]": "::1", "near.test.": "near.test",
    f"NEAR{DOT}test": "near.test",
}  # fmt: skip


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where a socket was to be connected to; nothing gets there."""
    tried: list[str] = []

    def connect(self: socket.socket, address: Any) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tried


def config(host: str, wire: str, port: int = 9, **more: Any) -> dict[str, Any]:
    table = local("openai", base_url=f"http://{host}:{port}/v1", api_key=KEY, **more)
    return {**table, "http": {"wire": wire}}


@pytest.mark.parametrize("host", NO_HOST)
@wires
@calls
def test_what_is_no_host_is_neither_looked_up_nor_dialled(
    host: str, wire: str, mode: str, dialled: list[str], lookups: list[str]
) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        ask(mode, config(host, wire, allow=["far.test", "203.0.113.0/24"]), f"openai/{MODEL}")
    assert (dialled, lookups) == ([], [])


@pytest.mark.parametrize("host", [*NUMBERS, *FAR])
@wires
@calls
def test_what_is_elsewhere_or_unclear_is_refused_in_every_spelling(
    host: str, wire: str, mode: str, dialled: list[str], lookups: list[str]
) -> None:
    with pytest.raises(LocalOnlyError):
        ask(mode, config(host, wire, allow=["strasse.example"]), f"openai/{MODEL}")
    assert (dialled, lookups) == ([], [])


@pytest.mark.parametrize("host", NEAR)
@wires
@calls
def test_what_was_judged_is_what_is_dialled(
    host: str, wire: str, mode: str, dialled: list[str], lookups: list[str]
) -> None:
    with pytest.raises(LlamaClientError) as caught:
        ask(mode, config(host, wire), f"openai/{MODEL}")
    assert not isinstance(caught.value, LocalOnlyError)
    assert lookups == []
    assert set(dialled) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("host", [host for host in NEAR if "[" not in host])
@wires
@calls
def test_the_server_is_shown_the_same_host(host: str, wire: str, mode: str, there: ReplayServer) -> None:
    assert ask(mode, config(host, wire, there.port), f"openai/{MODEL}").text == "Hello"
    assert there.requests[0].headers["host"] == f"{NEAR[host]}:{there.port}"


@wires
@calls
def test_an_allowed_name_is_looked_up_in_the_form_that_was_allowed(
    wire: str, mode: str, dialled: list[str], lookups: list[str]
) -> None:
    # By the mapping of 2003 both are "strasse.test".
    with pytest.raises(LocalOnlyError):
        ask(mode, config("straße.test", wire, allow=["strasse.test"]), f"openai/{MODEL}")
    assert lookups == []
    with pytest.raises(LlamaClientError):
        ask(mode, config("STRAßE.test.", wire, allow=["straße.test"]), f"openai/{MODEL}")
    assert set(lookups) == {"xn--strae-oqa.test"}
    assert dialled == []


def test_a_judged_address_is_never_taken_for_a_name(lookups: list[str]) -> None:
    guard = ConnectionGuard(local_only=True, allow_hosts=["fe80::/10"])
    with pytest.raises(socket.gaierror):
        guard.resolve("fe80::1%far.test", 9)
    assert [found[4][0] for found in guard.resolve("::1%lo", 9)] == ["::1"]
    for host in ("127.0.0.1%far.test", "::2%far.test", ""):
        with pytest.raises(LocalOnlyError):
            guard.resolve(host, 9)


@given(st.text(st.characters(blacklist_characters="/?#"), max_size=20))
@example("127.0.0.1%25far.test")
@example(wide("AB") + DOT + "c")
@example("[::ffff:127.0.0.1]")
def test_every_parser_finds_the_same_host(text: str) -> None:
    try:
        url = with_plain_host(f"http://{text}/v1")
    except ValueError:
        return
    host = urlsplit(url).hostname or ""
    assert host_of(host) == host == RequestHeads(url, {}).origin.host
    assert httpx.URL(url).raw_host.decode("ascii") == host
    assert with_plain_host(url) == url
