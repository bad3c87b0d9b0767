"""The guard that forbids the network: what it refuses, what it lets through, and what it tells."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import WireServer
from llama_client.testing.network import NetworkAttempt, NetworkForbiddenError, NetworkGuard, no_network

# Addresses that no machine has (RFC 5737, RFC 3849), and a name that none has (RFC 6761).
V4, V6, NAME = "192.0.2.1", "2001:db8::1", "nowhere.invalid"


@pytest.fixture(autouse=True)
def only_loopback() -> None:
    """Not the guard of all tests, which would have its own say."""


def tcp(family: int = socket.AF_INET) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM)


def udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _by(make: Callable[[], socket.socket], act: Callable[[socket.socket], object]) -> Callable[[], None]:
    def do() -> None:
        with closing(make()) as opened:
            opened.settimeout(1)
            act(opened)

    return do


def _on_a_loop(act: Callable[[asyncio.AbstractEventLoop], object]) -> Callable[[], None]:
    async def main() -> None:
        await act(asyncio.get_running_loop())  # type: ignore[misc]

    return lambda: asyncio.run(main())


async def _sock_connect(loop: asyncio.AbstractEventLoop) -> None:
    with tcp() as opened:
        opened.setblocking(False)
        await loop.sock_connect(opened, (V4, 443))


async def _sock_sendto(loop: asyncio.AbstractEventLoop) -> None:
    with udp() as opened:
        opened.setblocking(False)
        await loop.sock_sendto(opened, b"x", (V4, 53))


WAYS_OUT: dict[str, tuple[str, Callable[[], object]]] = {
    "connect": (f"connect to {V4}:443", _by(tcp, lambda it: it.connect((V4, 443)))),
    "connect, IPv6": (
        f"connect to [{V6}]:443",
        _by(lambda: tcp(socket.AF_INET6), lambda it: it.connect((V6, 443, 0, 0))),
    ),
    "connect, a name": (f"connect to {NAME}:443", _by(tcp, lambda it: it.connect((NAME, 443)))),
    "connect, not an address": ("connect to 127.a.invalid:1", _by(tcp, lambda it: it.connect(("127.a.invalid", 1)))),
    "sendto, a name": (f"send to {NAME}:53", _by(udp, lambda it: it.sendto(b"x", 0, (NAME, 53)))),
    "connect_ex": (f"connect to {V4}:443", _by(tcp, lambda it: it.connect_ex((V4, 443)))),
    "create_connection": (f"connect to {V4}:443", lambda: socket.create_connection((V4, 443), timeout=1)),
    "connect, UDP": (f"connect to {V4}:53", _by(udp, lambda it: it.connect((V4, 53)))),
    "sendto": (f"send to {V4}:53", _by(udp, lambda it: it.sendto(b"x", (V4, 53)))),
    "getaddrinfo": (f"look up {NAME}", lambda: socket.getaddrinfo(NAME, 443)),
    "getaddrinfo, bytes": (f"look up {NAME}", lambda: socket.getaddrinfo(NAME.encode(), 443)),
    "gethostbyname": (f"look up {NAME}", lambda: socket.gethostbyname(NAME)),
    "gethostbyname_ex": (f"look up {NAME}", lambda: socket.gethostbyname_ex(NAME)),
    "gethostbyaddr": (f"look up the name of {V4}", lambda: socket.gethostbyaddr(V4)),
    "getnameinfo": (f"look up the name of {V4}", lambda: socket.getnameinfo((V4, 80), 0)),
    "asyncio, sock_connect": (f"connect to {V4}:443", _on_a_loop(_sock_connect)),
    "asyncio, sock_sendto": (f"send to {V4}:53", _on_a_loop(_sock_sendto)),
    "asyncio, open_connection": (f"connect to {V4}:443", _on_a_loop(lambda _: asyncio.open_connection(V4, 443))),
    "asyncio, a name": (f"look up {NAME}", _on_a_loop(lambda _: asyncio.open_connection(NAME, 443))),
    "asyncio, datagrams": (
        f"connect to {V4}:53",
        _on_a_loop(lambda loop: loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(V4, 53))),
    ),
}  # fmt: skip
if hasattr(socket.socket, "sendmsg"):
    WAYS_OUT["sendmsg"] = (f"send to {V4}:53", _by(udp, lambda it: it.sendmsg([b"x"], [], 0, (V4, 53))))


@pytest.mark.parametrize("way", WAYS_OUT)
def test_every_way_out_is_refused_and_named(way: str) -> None:
    what, leave = WAYS_OUT[way]
    with no_network() as guard:
        with pytest.raises(NetworkForbiddenError, match="no_network forbids to"):
            leave()
        [attempt] = _taken(guard)
    assert attempt.what == what
    assert attempt.thread
    assert Path(attempt.where.rpartition(":")[0]).is_file()


def _taken(guard: NetworkGuard) -> list[NetworkAttempt]:
    found = list(guard.attempts)
    guard.attempts.clear()
    return found


def test_loopback_and_what_needs_no_network_is_reachable(tmp_path: Path) -> None:
    with no_network(), WireServer(lambda _: OPENAI.good(streams=False)) as server:
        client = LlamaClient.for_provider("openai", kind="openai", base_url=f"{server.url}/v1", api_key="k")
        with client:
            assert client.ask("hi", model="m").text
        for host in ("localhost", "127.0.0.1", "127.0.0.9", "::1", "0.0.0.0", V4, None, b"localhost", "api.localhost"):
            try:
                socket.getaddrinfo(host, server.port)
            except socket.gaierror:
                assert host == "api.localhost"
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.port)).close()
        with udp() as one:
            one.bind(("127.0.0.1", 0))
            one.sendto(b"x", one.getsockname())
            one.connect(one.getsockname())
        socket.gethostbyaddr("127.0.0.1")
        first, second = socket.socketpair()
        first.close()
        second.close()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
def test_unix_sockets_are_reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # their paths are short
    with no_network(), closing(socket.socket(socket.AF_UNIX)) as listener, closing(socket.socket(socket.AF_UNIX)) as it:
        listener.bind("s")
        listener.listen()
        it.connect("s")


def _swallowed() -> None:
    with suppress(Exception):  # as programs do
        socket.create_connection((V4, 443), timeout=1)


def test_what_a_program_swallows_is_raised_at_the_end() -> None:
    with pytest.raises(NetworkForbiddenError, match=rf"connect to {V4}:443, from .*test_network.py:\d+ in _swallowed"):
        with no_network():
            _swallowed()


def test_what_another_thread_swallows_is_raised_at_the_end_with_its_name() -> None:
    def block() -> None:
        with no_network():
            thread = threading.Thread(target=_swallowed, name="sender")
            thread.start()
            thread.join()

    with pytest.raises(NetworkForbiddenError, match=r"_swallowed \(thread sender\)"):
        block()


def test_many_attempts_are_counted_and_the_first_ones_are_told() -> None:
    def block() -> None:
        with no_network(), ThreadPoolExecutor(8) as pool:
            for _ in range(12):
                pool.submit(_swallowed)

    with pytest.raises(NetworkForbiddenError) as raised:
        block()
    text = str(raised.value)
    assert text.startswith("12 attempts to leave this machine")
    assert text.count(V4) == 10


def test_an_error_of_the_block_is_kept_and_gets_a_note() -> None:
    def block() -> None:
        with no_network():
            _swallowed()
            print(1 / 0)

    with pytest.raises(ZeroDivisionError) as raised:
        block()
    assert V4 in raised.value.__notes__[0]


def test_after_the_block_nothing_is_forbidden() -> None:
    with no_network() as guard:
        pass
    with tcp() as opened:
        opened.setblocking(False)
        # It has begun, or this machine has no route.
        assert opened.connect_ex((V4, 443)) != 0
    assert guard.attempts == []


@pytest.mark.parametrize("allowed", [V4, "192.0.2.0/24"])
def test_allowed_addresses_are_reachable(allowed: str) -> None:
    with no_network(allow=[allowed]), udp() as opened:
        opened.connect((V4, 53))


def test_an_allowed_name_is_reachable_at_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (V4, 0))]
    with no_network(allow=["API.example.com"]) as guard, udp() as opened:
        with pytest.raises(NetworkForbiddenError):
            opened.connect((V4, 53))
        _taken(guard)
        real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        # As the interpreter tells of it, without asking a server.
        sys.audit("socket.getaddrinfo", "api.example.com.", 443, 0, 0, 0)
        monkeypatch.setattr(socket, "getaddrinfo", real)
        opened.connect((V4, 53))


def test_each_of_nested_blocks_has_to_allow() -> None:
    with no_network() as outer, no_network(allow=[V4]) as inner, udp() as opened:
        with pytest.raises(NetworkForbiddenError):
            opened.connect((V4, 53))
        assert inner.attempts == []
        assert len(_taken(outer)) == 1


def test_what_an_inner_block_forgives_is_forgiven() -> None:
    with no_network() as outer:
        with no_network() as inner:
            _swallowed()
            assert len(_taken(inner)) == 1
        assert outer.attempts == []


@pytest.mark.parametrize(
    ("allow", "told"),
    [
        ("127.0.0.1", "must be a list of hosts"),
        (["https://api.example.com"], "without scheme"),
        (["api.example.com:443"], "without scheme"),
        (["api.example.com/v1"], "without scheme"),
        ([443], "must be a list of str"),
    ],
)
def test_what_no_host_is_cannot_be_allowed(allow: Any, told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told), no_network(allow):
        pass
