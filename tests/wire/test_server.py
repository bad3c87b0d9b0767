"""The server that the other tests of the wire stand on, held against plain httpx."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx
import pytest

from llama_client.testing.loopback import (
    Answer,
    End,
    WireServer,
    as_json,
    byte_by_byte,
    closed_port,
    cut,
    endless,
    endless_head,
    garbage,
    gzipped,
    hangup,
    kept,
    redirect,
    silence,
    streamed,
    whole,
)
from tests.wire.certificates import SelfSigned


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    # Without certificates to load, a client is made in no time.
    with httpx.Client(verify=False, trust_env=False, timeout=5) as client:
        yield client


def test_a_request_is_recorded_as_it_came(server: WireServer, http: httpx.Client) -> None:
    server.answer(as_json({"a": 1}, status=498, headers={"X-Request-Id": "r1"}))
    answer = http.post(f"{server.url}/v1/chat?x=y", json={"hi": "there"}, headers={"Authorization": "Bearer k"})
    assert (answer.status_code, answer.json(), answer.headers["x-request-id"]) == (498, {"a": 1}, "r1")
    (request,) = server.requests
    assert (request.method, request.path, request.json) == ("POST", "/v1/chat?x=y", {"hi": "there"})
    assert request.headers["authorization"] == "Bearer k"


def test_a_request_in_chunks_is_read_whole(server: WireServer, http: httpx.Client) -> None:
    server.answer(as_json(1))
    http.post(server.url, content=iter([b'{"a":', b"2}"]))
    assert server.requests[0].json == {"a": 2}


def test_a_connection_is_kept_for_the_next_request(server: WireServer, http: httpx.Client) -> None:
    server.answer(as_json(1), streamed([b"a", b"b"]), as_json(3))
    assert [http.post(server.url).text for _ in range(3)] == ["1", "ab", "3"]
    assert server.accepted == 1


def test_a_connection_that_closed_between_two_requests_is_opened_anew(server: WireServer, http: httpx.Client) -> None:
    server.answer(whole(b"1", then="close"), as_json(2))
    assert http.post(server.url).text == "1"
    assert server.wait_until_idle()
    assert http.post(server.url).text == "2"
    assert (server.accepted, server.early_closes) == (2, 0)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_a_stream_arrives_whatever_its_pieces(server: WireServer, http: httpx.Client, size: int) -> None:
    text = "data: {ù🦙}\n\n" * 5
    server.answer(streamed(cut(text.encode(), size), headers={"content-type": "text/event-stream; charset=utf-8"}))
    assert http.post(server.url).text == text


def test_bytes_one_at_a_time_are_an_answer(server: WireServer, http: httpx.Client) -> None:
    server.answer(byte_by_byte(as_json({"a": 1})), byte_by_byte(streamed([b"abc", b"d"])))
    assert http.post(server.url).json() == {"a": 1}
    assert http.post(server.url).text == "abcd"


def test_a_compressed_body_says_so(server: WireServer, http: httpx.Client) -> None:
    server.answer(gzipped(b"hello"))
    answer = http.post(server.url)
    assert (answer.text, answer.headers["content-encoding"]) == ("hello", "gzip")


def test_a_redirect_leads_on(server: WireServer, http: httpx.Client) -> None:
    server.answer(redirect("/there"), as_json(2))
    assert http.post(f"{server.url}/here", follow_redirects=True).json() == 2
    assert [request.path for request in server.requests] == ["/here", "/there"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (hangup(), httpx.RemoteProtocolError),
        (hangup("reset"), httpx.ReadError),
        (garbage(), httpx.RemoteProtocolError),
        (endless_head(), httpx.RemoteProtocolError),
        (whole(b"short", content_length=99, then="close"), httpx.RemoteProtocolError),
        (streamed([b"a"], "cut"), httpx.RemoteProtocolError),
        (streamed([b"a"], "reset"), httpx.ReadError),
    ],
)
def test_a_broken_answer_is_broken(
    server: WireServer, http: httpx.Client, answer: Answer, error: type[Exception]
) -> None:
    server.answer(answer)
    with pytest.raises(error):
        http.post(server.url)


@pytest.mark.parametrize("end", ["reset", "cut", "stall"])
def test_what_was_sent_before_the_end_arrives(server: WireServer, http: httpx.Client, end: End) -> None:
    server.answer(streamed([b"first"], end))
    with http.stream("POST", server.url) as answer:
        assert answer.status_code == 200
        assert next(answer.iter_bytes()) == b"first"


@pytest.mark.parametrize(
    "answer",
    [silence(), streamed([], "stall"), streamed([b"a"], "stall"), whole(b"a", content_length=9, then="stall")],
)
def test_a_server_that_stalls_notices_that_the_client_left(
    server: WireServer, http: httpx.Client, answer: Answer
) -> None:
    server.answer(answer)
    with pytest.raises(httpx.ReadTimeout):
        http.post(server.url, timeout=0.1)
    assert server.closed_early.wait(2)
    assert server.wait_until_idle()


@pytest.mark.parametrize("delay_s", [0, 0.01])
def test_an_endless_answer_ends_when_the_client_leaves(server: WireServer, http: httpx.Client, delay_s: float) -> None:
    server.answer(endless(b"x" * 1000, first=[b"first"], delay_s=delay_s))
    with http.stream("POST", server.url) as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"first"
        assert next(pieces).startswith(b"x")
    assert server.closed_early.wait(2)
    assert server.early_closes == 1
    assert not server.overran.is_set()


def test_a_client_that_reads_to_the_end_has_not_left_early(server: WireServer, http: httpx.Client) -> None:
    server.answer(streamed([b"a"] * 3, delay_s=0.01))
    assert http.post(server.url).text == "aaa"
    http.close()
    assert server.wait_until_idle()
    assert not server.closed_early.is_set()


def test_nothing_listens_on_a_closed_port(http: httpx.Client) -> None:
    with closed_port() as url, pytest.raises(httpx.ConnectError):
        http.post(url)


def test_a_server_that_drops_connections_never_answers(http: httpx.Client) -> None:
    with WireServer(drops=True) as server, pytest.raises(httpx.TransportError):
        http.post(server.url)
    assert server.requests == []


def test_tls_is_served_to_who_trusts_the_certificate(certificate: SelfSigned) -> None:
    with WireServer(tls=certificate.context) as server:
        server.answer(as_json(1))
        trust = ssl.create_default_context(cafile=str(certificate.certificate))
        with httpx.Client(verify=trust, trust_env=False) as http:
            assert http.post(server.url).json() == 1
        with httpx.Client(trust_env=False) as http, pytest.raises(httpx.ConnectError, match="self-signed"):
            http.post(server.url)


def test_tls_and_plain_do_not_understand_each_other(
    server: WireServer, http: httpx.Client, certificate: SelfSigned
) -> None:
    with pytest.raises(httpx.ConnectError):
        http.post(server.url.replace("http:", "https:"))
    assert len(server.malformed) == 1
    with WireServer(tls=certificate.context) as secure, pytest.raises(httpx.TransportError):
        http.post(secure.url.replace("https:", "http:"))


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET",
        b"POST / HTTP/1.1\r\ncontent-length: many",
        b"POST / HTTP/1.1\r\ncontent-length: -1",
        b"POST / HTTP/1.1\r\ncontent-length: 999999999999",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nmany",
    ],
)
def test_a_request_that_cannot_be_read_is_refused_and_kept(server: WireServer, request_head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as stranger:
        stranger.sendall(request_head + b"\r\n\r\n")
        assert stranger.recv(100).startswith(b"HTTP/1.1 400 ")
    assert server.malformed == [request_head.partition(b"\r\n\r\n")[0]]
    assert server.requests == []


def test_only_the_last_requests_are_kept(
    server: WireServer, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_MOST_KEPT", 2)
    server.always(as_json(1))
    for number in range(5):
        http.post(f"{server.url}/{number}")
    assert [request.path for request in server.requests] == ["/3", "/4"]
