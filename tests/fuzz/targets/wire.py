"""Answers as bytes, read by the package's own HTTP/1.1: the same however they arrive, sync and async."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from llama_client import ChatCompletionChunk, LlamaClientError
from llama_client.providers.base import AttemptFacts, ProviderCall
from llama_client.types.request import check_request
from tests.fuzz.target import KEY, Target, pieces_of, require, require_no_secret, texts_of
from tests.fuzz.targets.decoders import checked
from tests.fuzz.targets.scripted_server import KINDS, Server, providers, scripted
from tests.property.test_wires import https

_REQUESTS = [
    check_request({"messages": [{"role": "user", "content": "hi"}]}, stream=stream) for stream in (False, True)
]


@dataclass(frozen=True)
class _Outcome:
    """What a call came to: the chunks before the error, and the error's class."""

    chunks: tuple[str, ...]
    error: str
    status: int | None


class _Wire:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._opened = providers(KEY)
        self._providers: list[Any] = [self._opened.get(kind) for kind in KINDS]
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        self._loop.run_until_complete(self._opened.aclose())
        self._loop.close()

    def check(self, data: bytes) -> None:
        """The first three bytes choose the kind, whether a stream is asked for, and how the answer is cut."""
        if len(data) < 3:
            return
        number, streams, cut, answer = data[0] % len(KINDS), bool(data[1] & 1), data[2], data[3:]
        whole = self._outcome(number, [answer] if answer else [], answer, streams=streams)
        pieces = pieces_of(answer, cut)
        cut_up = self._outcome(number, pieces, answer, streams=streams)
        require(cut_up == whole, "the same outcome however an answer is cut")
        on_loop = self._loop.run_until_complete(self._aoutcome(number, pieces, answer, streams=streams))
        require(on_loop == whole, "the same outcome on an event loop")

    def _outcome(self, number: int, pieces: list[bytes], said: bytes, *, streams: bool) -> _Outcome:
        self._server.answers = [pieces]
        chunks: list[ChatCompletionChunk] = []
        call = _call(number, streams=streams)
        try:
            for chunk in self._providers[number].chunks(call):
                chunks.append(chunk)  # noqa: PERF402 - those before an error count
        except LlamaClientError as error:
            return _of(chunks, call, error, said)
        return _of(chunks, call, None, said)

    async def _aoutcome(self, number: int, pieces: list[bytes], said: bytes, *, streams: bool) -> _Outcome:
        self._server.answers = [pieces]
        chunks: list[ChatCompletionChunk] = []
        call = _call(number, streams=streams)
        try:
            async with aclosing(self._providers[number].achunks(call)) as answer:
                async for chunk in answer:
                    chunks.append(chunk)  # noqa: PERF401 - as above
        except LlamaClientError as error:
            return _of(chunks, call, error, said)
        return _of(chunks, call, None, said)


def _call(number: int, *, streams: bool) -> ProviderCall:
    return ProviderCall(_REQUESTS[streams], KINDS[number], "m", "req_1", 60.0, AttemptFacts())


def _of(chunks: list[ChatCompletionChunk], call: ProviderCall, error: LlamaClientError | None, said: bytes) -> _Outcome:
    if error is not None:
        require(str(error), "an error says something")
        require_no_secret(texts_of(error, with_hidden=True), said)
    return _Outcome(tuple(map(checked, chunks)), type(error).__name__, call.facts.http_status)


def _http(body: bytes, *, status: bytes = b"200 OK", more: bytes = b"", kind: bytes = b"application/json") -> bytes:
    head = b"HTTP/1.1 " + status + b"\r\ncontent-type: " + kind + b"\r\n" + more
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def _chunked(body: bytes, *, kind: bytes = b"text/event-stream", end: bytes = b"0\r\n\r\n") -> bytes:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in pieces_of(body, 4))
    return b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\ntransfer-encoding: chunked\r\n\r\n" + parts + end


_BODY = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}).encode()
_STREAM = (
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
_LINES = b'{"message":{"content":"Hi"}}\n{"message":{"content":""},"done":true}\n'
_REFUSED = json.dumps({"error": {"message": f"the key {KEY} is wrong", "code": "invalid_api_key"}}).encode()
_ANSWERS = (
    _http(_BODY),
    _http(_BODY, more=b"x-request-id: r\r\nconnection: close\r\n"),
    _http(gzip.compress(_BODY, mtime=0), more=b"content-encoding: gzip\r\n"),
    _http(zlib.compress(_BODY), more=b"content-encoding: deflate\r\n"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + _http(_BODY),
    b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + _BODY,
    _http(_REFUSED, status=b"401 Unauthorized"),
    _http(b"<html>slow down</html>", status=b"429 Too Many", more=b"retry-after: 7\r\n", kind=b"text/html"),
    _http(b"", status=b"302 Found", more=f"location: http://u:{KEY}@x/\r\n".encode()),
    _http(b"Bearer " + KEY.encode() + b" is no JSON", more=f"x-request-id: {KEY}\r\n".encode()),
    _http(b"x" * 60 + KEY.encode() + b" is cut by the excerpt of an error", more=b"x: y\r\n"),
    _chunked(_STREAM),
    _chunked(_STREAM, end=b"0\r\nx-trailer: 1\r\n\r\n"),
    _chunked(_STREAM, end=b""),
    _chunked(_LINES, kind=b"application/x-ndjson"),
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + _STREAM,
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: " + b"y" * 60 + KEY.encode() + b" no JSON\n\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
)
_SEEDS = tuple(
    bytes((kind, streams, 7 * number % 256)) + answer
    for number, answer in enumerate(_ANSWERS)
    for kind, streams in ((0, 0), (0, 1), (1, 1), (2, 0), (3, 1), (3, 0))
)
_WORDS = (
    b"HTTP/1.1 |HTTP/1.0 |\r\n|\n|\r|\r\n\r\n|transfer-encoding: chunked|content-length: |content-encoding: gzip|"
    b"content-encoding: br|connection: close|connection: upgrade|upgrade: x|retry-after: |location: |0\r\n\r\n|5\r\n|"
    b"ffffffffffffffff\r\n| 200 | 100 | 204 | 304 | 500 | 099 | 999 |content-type: application/json|text/event-stream|"
    b"data: |\n\n|[DONE]|x-request-id: |;a=b|, |\x00|\xff"
)
_TOKENS = (*_WORDS.split(b"|"), KEY.encode())


@st.composite
def _cases(draw: st.DrawFn) -> bytes:
    choice = bytes((draw(st.integers(0, 3)), draw(st.integers(0, 1)), draw(st.integers(0, 255))))
    content: bytes = draw(https()).content
    return choice + content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 3)) == 0 else choice + content


@contextmanager
def opened() -> Iterator[Target]:
    with scripted() as server:
        wire = _Wire(server)
        try:
            yield Target("wire", wire.check, _SEEDS, _cases(), _TOKENS, lines=(30_000, 400), max_bytes=4096)
        finally:
            wire.close()
