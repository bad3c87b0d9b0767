"""Any legal HTTP/1.1 answer, however the network cuts it, is the same on each wire."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llama_client.clock import Clock, Deadline
from llama_client.errors import LlamaClientError
from llama_client.local_only import ConnectionGuard
from llama_client.providers.http.client_pool import ClientPool, ConnectionSettings
from llama_client.providers.http.error_mapping import failure_of
from llama_client.providers.http.exchange import afetch, fetch
from llama_client.testing.loopback import Answer, WireServer

PATIENCE_S = 5.0
MAX_BYTES = 1 << 20
quick = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Http:
    """An answer as bytes.

    Attributes:
        content: All of it.
        body: What a client should read; None: it must fail.
        ends: Whether only the end of the connection ends it.
    """

    content: bytes
    body: bytes | None
    ends: bool = False


@dataclass(frozen=True)
class Received:
    """What a client read."""

    status: int
    headers: dict[str, str]
    body: bytes


names = st.sampled_from(["X-One", "x-two", "Retry-After", "Content-Type", "Set-Cookie", "Date"])
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
spaces = st.sampled_from(["", " ", "  ", "\t"])
bodies = st.binary(max_size=300)


@st.composite
def https(draw: Any) -> Http:
    """Legal answers of every framing."""
    before = b"".join(draw(st.lists(st.sampled_from([INFORMATIONAL, EARLY_HINTS]), max_size=2)))
    status = draw(st.sampled_from([200, 201, 204, 304, 400, 404, 429, 500, 529]))
    reason = draw(st.sampled_from([" OK", " Some Reason", " ", ""]))
    version = draw(st.sampled_from(["1.1", "1.1", "1.1", "1.0"]))
    lines = [f"HTTP/{version} {status}{reason}"]
    fields = draw(st.lists(st.tuples(names, values), max_size=4))
    lines += [f"{name}:{draw(spaces)}{value.strip()}{draw(spaces)}" for name, value in fields]
    body = b"" if status in (204, 304) else draw(bodies)
    encoded = body
    if status not in (204, 304) and draw(st.booleans()):
        encoding, encoded = draw(
            st.sampled_from([("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("identity", body)])
        )
        lines.append(f"Content-Encoding: {encoding}")
    framing = draw(st.sampled_from(["length", "end", *(["chunked"] if version == "1.1" else [])]))
    ends = False
    if status in (204, 304):
        content = b""
    elif framing == "length":
        lines.append(f"content-length: {len(encoded)}")
        content = encoded
    elif framing == "chunked":
        lines.append(draw(st.sampled_from(["Transfer-Encoding: chunked", "transfer-encoding: Chunked"])))
        content = b""
        rest = encoded
        while rest:
            size = draw(st.integers(1, len(rest)))
            form = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % size
            content += form + draw(st.sampled_from([b"", b";a=b", b';a="b c"'])) + b"\r\n" + rest[:size] + b"\r\n"
            rest = rest[size:]
        content += b"0\r\n" + draw(st.sampled_from([b"", b"X-Trailer: 1\r\n"])) + b"\r\n"
    else:
        content, ends = encoded, True
    if ends or version == "1.0" or draw(st.integers(0, 4)) == 0:
        lines.append("Connection: close")
        ends = True
    return Http(before + ("\r\n".join(lines) + "\r\n\r\n").encode() + content, body, ends)


INFORMATIONAL = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


@st.composite
def cuts(draw: Any) -> Callable[[bytes], list[bytes]]:
    """Ways to cut bytes."""
    places = draw(st.lists(st.integers(0, 700), max_size=6))

    def cut(data: bytes) -> list[bytes]:
        ends = sorted({place for place in places if 0 < place < len(data)} | {len(data)})
        starts = [0, *ends[:-1]]
        return [data[start:end] for start, end in zip(starts, ends, strict=True)]

    return cut


def outcome(error: Exception) -> str:
    failure = error if isinstance(error, LlamaClientError) else failure_of(error, waited=f"{PATIENCE_S:.3g} s")
    return type(failure).__name__


class Wires:
    """The ways to one server."""

    def __init__(self, url: str) -> None:
        guard = ConnectionGuard()
        self._loop = asyncio.new_event_loop()
        self._pools = [ClientPool(guard, over_httpx=over) for over in (False, True)]
        plain = ConnectionSettings()
        self._endpoints = [pool.sync_endpoint(plain, url, {}) for pool in self._pools]
        self._async_endpoints = [pool.async_endpoint(plain, url, {}) for pool in self._pools]

    def results(self) -> Iterator[Received | str]:
        """The builtin wire's answer, sync and async, and then HTTPX's own, sync."""
        deadline = Deadline(PATIENCE_S, Clock())
        builtin, over_httpx = self._endpoints
        for endpoint in (builtin, None, over_httpx):
            try:
                if endpoint is None:
                    answer = self._loop.run_until_complete(
                        afetch(self._async_endpoints[0], "v1/x", {}, MAX_BYTES, deadline)
                    )
                else:
                    answer = fetch(endpoint, "v1/x", {}, MAX_BYTES, deadline)
            except Exception as error:  # noqa: BLE001 - compared by its kind
                yield outcome(error)
            else:
                yield Received(answer.status, dict(answer.headers), answer.body)

    def close(self) -> None:
        for pool in self._pools:
            self._loop.run_until_complete(pool.aclose())
        self._loop.close()


@pytest.fixture(scope="module")
def replay() -> Iterator[tuple[WireServer, Wires]]:
    with WireServer() as server:
        wires = Wires(server.url)
        yield server, wires
        wires.close()


@quick
@given(answers=st.lists(https(), min_size=1, max_size=3), cut=cuts())
@example([Http(b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", b"ok")], lambda data: [data])
def test_a_legal_answer_is_the_same_on_each_wire(
    replay: tuple[WireServer, Wires], answers: list[Http], cut: Callable[[bytes], list[bytes]]
) -> None:
    server, wires = replay
    for http in answers:
        script = Answer(cut(http.content), "close" if http.ends else "keep")
        server.always(script)
        sync, asynchronous, over_httpx = wires.results()
        assert sync == asynchronous
        assert isinstance(sync, Received)
        assert isinstance(over_httpx, Received)
        assert (sync.status, sync.body) == (over_httpx.status, over_httpx.body)
        assert sync.body == http.body
        # h11 writes this one in lower case.
        headers = [{**each.headers, "transfer-encoding": ""} for each in (sync, over_httpx)]
        assert headers[0] == headers[1]


# A reset takes a while.
@settings(quick, max_examples=60)
@given(http=https(), at=st.integers(1, 400), cut=cuts(), reset=st.booleans())
def test_half_an_answer_is_a_failure_on_each_wire(
    replay: tuple[WireServer, Wires], http: Http, at: int, cut: Callable[[bytes], list[bytes]], reset: bool
) -> None:
    # Without a byte of it the request goes over a new connection.
    server, wires = replay
    part = http.content[: min(at, max(len(http.content) - 1, 0))]
    script = Answer(cut(part) if part else (), "reset" if reset else "close")
    server.always(script)
    sync, asynchronous, over_httpx = wires.results()
    assert sync == asynchronous
    if isinstance(sync, Received):
        # Nothing but the end of the connection framed it.
        assert isinstance(over_httpx, Received)
        assert sync.body == over_httpx.body
    elif b"Content-Encoding" not in part:
        # HTTPX takes the beginning of a compressed body for a whole one.
        assert isinstance(over_httpx, str)
