"""What a server does that misbehaves, by how it talks and by whether a stream was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable

from llama_client.testing.dialects import JSON, Dialect
from llama_client.testing.loopback import Answer, End, endless, streamed, whole

Script = Callable[[Dialect, bool], Answer]


def anyhow(answer: Answer) -> Script:
    """The same for everybody."""
    return lambda dialect, streams: answer


def body_then(end: End) -> Script:
    """The beginning of an answer, with nothing to show in it, and then that end."""

    def script(dialect: Dialect, streams: bool) -> Answer:
        if streams:
            return streamed([dialect.preamble()], end, headers=dialect.stream_headers)
        return streamed([json.dumps(dialect.whole()).encode()[:20]], end, headers=JSON)

    return script


def head_then(end: End) -> Script:
    return lambda dialect, streams: streamed([], end, headers=dialect.stream_headers if streams else JSON)


def short(dialect: Dialect, streams: bool) -> Answer:
    """Less than its content-length says."""
    body = dialect.preamble() if streams else json.dumps(dialect.whole()).encode()
    headers = dialect.stream_headers if streams else JSON
    return whole(body, headers=headers, content_length=len(body) + 10, then="close")


def trickle(dialect: Dialect, streams: bool) -> Answer:
    """Always a little more, so that no wait for the next byte is long, and never anything to show."""
    return endless(dialect.preamble() if streams else b" ", headers=dialect.stream_headers, delay_s=0.02)


def instead(body: bytes) -> Script:
    """That, where JSON should be."""

    def script(dialect: Dialect, streams: bool) -> Answer:
        if not streams:
            return whole(body, headers=JSON)
        event = body + b"\n" if dialect.is_ndjson else b"data: " + body + b"\n\n"
        return streamed([event, *dialect.ending()], headers=dialect.stream_headers)

    return script


def only(body: bytes) -> Script:
    """That, and nothing else."""
    return lambda dialect, streams: whole(body, headers=dialect.stream_headers if streams else JSON)


def not_gzip(dialect: Dialect, streams: bool) -> Answer:
    body = dialect.text("Hello") if streams else json.dumps(dialect.whole()).encode()
    headers = dialect.stream_headers if streams else JSON
    return whole(body, headers={**headers, "content-encoding": "gzip"})


def endless_body(dialect: Dialect, streams: bool) -> Answer:
    """One string, or one line, that never ends."""
    if not streams:
        return endless(b"x" * 65536, first=[b'{"id": "'], headers=JSON)
    first = b'{"model": "' if dialect.is_ndjson else b'data: {"id": "'
    return endless(b"x" * 65536, first=[first], headers=dialect.stream_headers)


def endless_event(dialect: Dialect, streams: bool) -> Answer:
    """Many lines, and never the end of the event or of the object."""
    line = b" \n" if dialect.is_ndjson or not streams else b"data: 1,\n"
    return endless(line * 8192, headers=dialect.stream_headers if streams else JSON)


def endless_error(dialect: Dialect, streams: bool) -> Answer:
    """An error whose explanation never ends."""
    return endless(b"x" * 65536, status=500, headers={"content-type": "text/html"})
