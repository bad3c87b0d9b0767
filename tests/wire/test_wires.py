"""What servers and interrupts do to a connection, and what the next request gets."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from llama_client import (
    APIConnectionError,
    APITimeoutError,
    AsyncLlamaClient,
    InvalidRequestError,
    LlamaClient,
    LlamaClientError,
    RequestTooLargeError,
    StreamInterruptedError,
)
from llama_client.providers.http import async_wire, http1, sync_wire
from llama_client.testing.dialects import OLLAMA, OPENAI
from llama_client.testing.loopback import (
    Answer,
    Received,
    WireServer,
    as_json,
    closed_port,
    head,
    paced,
    silence,
    streamed,
    whole,
)
from tests.asking import MODES, Asker
from tests.wire.asking import KEY, PLENTY_S

MESSAGES: list[dict[str, object]] = [{"role": "user", "content": "Why do llamas hum?"}]
each_mode = pytest.mark.parametrize("mode", MODES)
calls = pytest.mark.parametrize("mode", ["call-sync", "call-async"])


def failure(mode: str, config: dict[str, Any], messages: Any = MESSAGES, **params: Any) -> LlamaClientError:
    with pytest.raises(LlamaClientError) as caught:
        Asker(mode, config, [])(messages, **params)
    return caught.value


def config(url: str, **more: Any) -> dict[str, Any]:
    return {**OPENAI.config(url, api_key=KEY, **more), "routing": {"retries": 0}}


def test_a_stream_in_one_piece_leaves_a_connection_whose_end_is_noticed() -> None:
    pieces = [OPENAI.preamble(), *(OPENAI.text("x") for _ in range(40)), *OPENAI.ending()]
    content = streamed(pieces, headers=OPENAI.stream_headers).content

    async def texts(url: str) -> list[str]:
        async with AsyncLlamaClient(config(url)) as client:
            found = []
            for _ in range(4):
                async with await client.chat.completions.create(messages=MESSAGES, stream=True) as stream:
                    found.append("".join([chunk.text async for chunk in stream]))
                assert await asyncio.to_thread(server.wait_until_idle)
            return found

    # The server closes after each answer, without having said so.
    with WireServer(lambda _: Answer([content], "close")) as server:
        assert asyncio.run(texts(server.url)) == ["x" * 40] * 4


# aiohttp's advice on large bodies, over HTTPX.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@each_mode
def test_an_answer_before_the_whole_request_was_read_is_the_answer(mode: str) -> None:
    refusal = Answer([head(413, {"content-length": "3"}) + b"big"], "close")
    large = [{"role": "user", "content": "x" * (6 << 20)}]
    with WireServer(lambda _: refusal) as server:
        assert isinstance(failure(mode, config(server.url), large), RequestTooLargeError)


@calls
def test_a_request_that_was_sent_is_recorded_as_sent_when_its_time_is_up(mode: str) -> None:
    processing = paced(Answer([b"HTTP/1.1 102 Processing\r\n\r\n"] * 500, "stall"), 0.01)
    with WireServer(lambda _: processing) as server:
        error = failure(mode, config(server.url), timeout=0.3)
    assert isinstance(error, APITimeoutError)
    assert [attempt.sent for attempt in error.attempts] == [True]


@pytest.mark.own_wire
@calls
def test_an_interrupt_within_the_parser_is_an_interrupt(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(http1.AnswerParser, "on_header", interrupted)
    with WireServer(lambda _: as_json(OPENAI.whole())) as server, pytest.raises(KeyboardInterrupt):
        Asker(mode, config(server.url), [])(MESSAGES)


@pytest.mark.parametrize("wire", [sync_wire, async_wire], ids=["sync", "async"])
def test_connections_to_other_hosts_are_closed_when_they_were_idle_for_long(
    wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "KEEPALIVE_S", 0.1)

    def good(_: Received) -> Answer:
        return as_json(OPENAI.whole())

    with WireServer(good) as first, WireServer(good) as second:
        servers = {"a": first, "b": second}
        tables = {name: {"kind": "openai", "base_url": f"{each.url}/v1"} for name, each in servers.items()}
        if wire is sync_wire:
            with LlamaClient({"providers": tables}) as client:
                client.ask("hi", model="a/m")
                time.sleep(0.2)
                client.ask("hi", model="b/m")
                assert first.wait_until_idle()
        else:

            async def run() -> bool:
                async with AsyncLlamaClient({"providers": tables}) as client:
                    await client.ask("hi", model="a/m")
                    await asyncio.sleep(0.2)
                    await client.ask("hi", model="b/m")
                    return await asyncio.to_thread(first.wait_until_idle)

            assert asyncio.run(run())


def endless(first: bytes, piece: bytes) -> Iterator[bytes]:
    yield first
    for _ in range(10_000):
        yield piece


@pytest.mark.own_wire
@calls
def test_what_never_becomes_an_answer_is_refused_at_once(mode: str) -> None:
    broken = Answer(endless(b"HTTP/1.1 099 X\r\n\r\n", b"x" * 10_000), "close")
    with WireServer(lambda _: broken) as server:
        error = failure(mode, config(server.url), timeout=5)
    assert isinstance(error, APIConnectionError)
    assert "malformed HTTP (status 99)" in str(error)


@calls
def test_what_follows_a_compressed_answer_is_left_alone(mode: str) -> None:
    body = gzip.compress(b'{"error": {"message": "no"}}')
    followed = whole(body + b"x" * 1_000_000, status=400, headers={"content-encoding": "gzip"})
    with WireServer(lambda _: followed) as server:
        assert "no" in str(failure(mode, config(server.url), timeout=5))


@calls
@pytest.mark.parametrize("encoding", ["identity, identity", "gzip, identity", "utf-8", "none"])
def test_encodings_that_change_nothing_are_read(mode: str, encoding: str) -> None:
    body = json.dumps(OPENAI.whole()).encode()
    encoded = gzip.compress(body) if "gzip" in encoding else body
    answer = whole(encoded, headers={"content-type": "application/json", "content-encoding": encoding})
    with WireServer(lambda _: answer) as server:
        assert Asker(mode, config(server.url), [])(MESSAGES).text == "Hello"


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_the_framing_of_a_request_is_not_the_callers(name: str) -> None:
    with WireServer(lambda _: as_json(OPENAI.whole())) as server, LlamaClient(config(server.url)) as client:
        with pytest.raises(InvalidRequestError, match="belongs to the body"):
            client.ask("hi", extra_headers={name: "0"})
        assert server.requests == []


@calls
def test_a_refused_name_with_two_addresses_keeps_the_remedy(mode: str) -> None:
    with closed_port() as url:
        error = failure(mode, OLLAMA.config(url.replace("127.0.0.1", "localhost")))
    assert "Ollama is not running" in str(error)


def test_an_answer_that_comes_during_a_slow_liveness_check_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.http.exchange._LIVENESS_CHECK_AFTER_S", 0.05)
    is_checked = threading.Event()

    def answer(received: Received) -> Answer:
        if received.path.endswith("/api/chat"):
            assert is_checked.wait(PLENTY_S)
            return as_json(OLLAMA.whole())
        is_checked.set()
        # For longer than a check may take, so that alone it would end the attempt.
        return silence()

    async def run(url: str) -> str:
        async with AsyncLlamaClient(OLLAMA.config(url)) as client:
            return (await client.ask("hi", timeout=PLENTY_S)).text

    with WireServer(answer) as server:
        assert asyncio.run(run(server.url)) == "Hello"
        assert len(server.requests) == 2


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[], set[str]]:
    """What is still in memory of what was made in the test."""
    made: list[weakref.ref[Any]] = []

    def watched(cls: Any) -> None:
        create = cls.__init__

        def created(self: object, *args: Any, **kwargs: Any) -> None:
            made.append(weakref.ref(self))
            create(self, *args, **kwargs)

        monkeypatch.setattr(cls, "__init__", created)

    class SocketConnection(sync_wire._SocketConnection):
        """The same with weak references."""

    monkeypatch.setattr(sync_wire, "_SocketConnection", SocketConnection)
    for cls in (sync_wire.SyncWire, SocketConnection, sync_wire._Place):
        watched(cls)

    def left() -> set[str]:
        gc.collect()
        return {type(kept).__name__ for ref in made if (kept := ref()) is not None}

    return left


@pytest.mark.own_wire
def test_a_closed_client_leaves_no_connections_in_memory(in_memory: Callable[[], set[str]]) -> None:
    with WireServer(lambda _: as_json(OPENAI.whole())) as server:
        for _ in range(3):
            with LlamaClient(config(server.url)) as client:
                client.ask("hi")
                assert in_memory() >= {"SyncWire", "SocketConnection"}
            del client
    assert in_memory() == set()


@pytest.mark.own_wire
@pytest.mark.parametrize("way", ["dropped", "closed", "failed"])
def test_every_place_for_a_connection_returns(way: str) -> None:
    pieces = [OPENAI.preamble(), OPENAI.text("Hel")]
    ends: Any = "cut" if way == "failed" else "stall"
    with WireServer(lambda _: streamed(pieces, ends, headers=OPENAI.stream_headers)) as server:
        with LlamaClient(config(server.url)) as client:
            for _ in range(5):
                stream = client.chat.completions.create(messages=MESSAGES, stream=True)
                if way == "closed":
                    stream.close()
                elif way == "failed":
                    with pytest.raises(StreamInterruptedError):
                        list(stream)
                del stream
            gc.collect()
            # Waits for the end of what was dropped.
            client.health()
            pool: Any = client._context.providers._connections
            [wire] = pool._opened.values()
            assert [place for place in wire._places._taken if place() is not None] == []


wires = pytest.mark.parametrize("wire", ["builtin", "httpx"])
_CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
MALFORMED = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a status in letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status below all": b"HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nb\0d: x\r\nnocolon\r\n\r\n",
    "a chunk without a size": _CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    "a length in letters": b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", MALFORMED)
@wires
@each_mode
def test_malformed_http_is_told_as_such_on_each_wire_sync_and_async(mode: str, wire: str, sent: str) -> None:
    with WireServer(lambda _: Answer([MALFORMED[sent]], "close")) as server:
        error = failure(mode, {**config(server.url), "http": {"wire": wire}}, timeout=5)
    assert isinstance(error, APIConnectionError)
    assert str(error).startswith("the server sent malformed HTTP")
    # What the server sent may hold a key.
    assert "OpenSSH" not in str(error)


@pytest.mark.parametrize(
    ("sent", "told"), [(b"", "without an answer"), (_CHUNKED + b"5\r\nab", "within its answer")], ids=["none", "half"]
)
@wires
@each_mode
def test_a_closed_connection_is_told_alike_on_each_wire_sync_and_async(
    mode: str, wire: str, sent: bytes, told: str
) -> None:
    with WireServer(lambda _: Answer([sent], "close")) as server:
        error = failure(mode, {**config(server.url), "http": {"wire": wire}}, timeout=5)
    assert str(error) == f"connection lost: the server closed the connection {told}"


@wires
@each_mode
def test_what_is_no_redirect_is_not_called_one(mode: str, wire: str) -> None:
    answers = {304: "not modified", 300: "without saying where", 302: "redirects to http://there.test/"}
    for status, told in answers.items():
        headers = {"location": "http://there.test/"} if status == 302 else {}
        answer = whole(b"", status=status, headers=headers)
        with WireServer(partial(lambda sent, _: sent, answer)) as server:
            error = failure(mode, {**config(server.url), "http": {"wire": wire}}, timeout=5)
        assert told in str(error)
        assert ("redirects" in str(error)) == (status != 304)


@wires
def test_the_first_call_after_a_loop_stood_still_finds_its_connections_closed(wire: str) -> None:
    async def run(server: WireServer) -> list[str]:
        async with AsyncLlamaClient({**config(server.url), "http": {"wire": wire}}) as client:
            texts = [reply.text for reply in await asyncio.gather(*(client.ask("hi") for _ in range(3)))]
            # The server closes its connections, and the loop does not come to read that.
            server.hang_up()
            return [*texts, (await client.ask("hi")).text]

    with WireServer(lambda _: as_json(OPENAI.whole())) as server:
        assert asyncio.run(run(server)) == ["Hello"] * 4
        assert len(server.requests) == 4


@pytest.mark.own_wire(mode=["call-async", "stream-async"])
@each_mode
def test_what_comes_before_malformed_bytes_counts_also_where_all_comes_at_once(mode: str) -> None:
    """A proxy that ends its chunks wrongly, say: the answer is the same however the network cuts it."""
    streams = mode.startswith("stream")
    pieces = [OPENAI.text("Hello"), *OPENAI.ending()] if streams else [json.dumps(OPENAI.whole()).encode()]
    headers = OPENAI.stream_headers if streams else {"content-type": "application/json"}
    good = [*streamed(pieces, headers=headers).pieces]
    wrong = b"no size\r\n"
    outcomes = []
    for cut in ([Answer([*good[:-1], wrong]).content], [*good[:-1], wrong]):
        with WireServer() as server:
            server.answer(Answer(cut, "close"))
            asker = Asker(mode, config(server.url), [])
            try:
                outcomes.append(asker(MESSAGES).text)
            except LlamaClientError as error:
                outcomes.append(f"{type(error).__name__}: {error}")
    assert outcomes[0] == outcomes[1]
    assert streams == ("malformed" not in outcomes[0])


@pytest.mark.own_wire(mode=["call-async", "stream-async"])
@each_mode
def test_a_malformed_body_behind_a_good_head_has_its_status_also_where_both_come_at_once(mode: str) -> None:
    start = head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
    for cut in ([start + b"no size\r\n"], [start, b"no size\r\n"]):
        with WireServer() as server:
            server.answer(Answer(cut, "close"))
            error = failure(mode, config(server.url))
        assert isinstance(error, APIConnectionError)
        assert "malformed HTTP" in str(error)
        assert error.http_status == 200
