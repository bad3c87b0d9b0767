"""What misbehaving servers send instead of an answer: refusals, broken connections, bodies that are none. No I/O.

Each function makes a function from a request to an `Answer`; `library` gives these their names. Streams that
begin well are in `streams`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import sha256
from time import time
from typing import Any, Self

from llama_client.testing.chat_request import asks_for_stream, body_of, messages_of, text_of
from llama_client.testing.dialects import OPENAI, Dialect, dialect_of
from llama_client.testing.loopback import Answer, End, Received, as_json, endless, redirect, streamed, whole
from llama_client.testing.wire_format import JSON

_PIECE_BYTES = 64 << 10
_TRICKLE_S = 0.02


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a fault sees it.

    Attributes:
        dialect: The API that was asked.
        streams: Whether a stream was asked for.
        path: The path of the request.
        model: The model's name; empty: none was given.
        prompt: The text of the last message; empty: there is none.
        conversation: What tells its messages, all of them and whole, from others.
        pieces: The text that a good answer has, in the pieces of a stream.
        chance: The random numbers of this request.
        wants_usage: Whether a stream is asked to count its tokens.
        tools: The functions that the model may call, as the request describes them.
        listing: The document that was asked for instead of a chat: a list of models; None: a chat.
    """

    dialect: Dialect
    streams: bool
    path: str
    model: str = ""
    prompt: str = ""
    conversation: str = ""
    pieces: Sequence[str] = ("Llamas", " hum", " überall", ".")
    chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - is to be repeatable
    wants_usage: bool = False
    tools: Sequence[Mapping[str, Any]] = ()
    listing: Any = None

    @classmethod
    def of(cls, received: Received, dialect: Dialect | None = None) -> Self:
        """Reads a request; what it does not tell is taken to be a chat of OpenAI's."""
        dialect = dialect or dialect_of(received.path) or OPENAI
        body, messages = body_of(received), messages_of(body_of(received))
        model = body.get("model") if isinstance(body, dict) else None
        streams = asks_for_stream(body, is_ollama=dialect.is_ndjson)
        prompt = text_of(messages[-1]) if messages else ""
        return cls(
            dialect,
            streams,
            received.path,
            str(model or ""),
            prompt,
            sha256(json.dumps(messages).encode()).hexdigest(),
            wants_usage=_wants_usage(body),
            tools=_tools_of(body),
        )

    @property
    def document(self) -> Any:
        """The whole body of the good answer."""
        return self.dialect.whole("".join(self.pieces)) if self.listing is None else self.listing

    @property
    def body(self) -> bytes:
        """The same as bytes."""
        return json.dumps(self.document).encode()

    @property
    def headers(self) -> Mapping[str, str]:
        """The content type of the good answer."""
        return self.dialect.stream_headers if self.streams else JSON

    def events(self) -> list[bytes]:
        """The good answer as a stream, up to the end of its text."""
        return [self.dialect.preamble(), *(self.dialect.text(piece) for piece in self.pieces)]

    def ending(self) -> list[bytes]:
        """The end of the good answer as a stream, with its tokens where its kind sends them."""
        return self.dialect.counted_ending(is_asked=self.wants_usage)

    def stream(self, pieces: Iterable[bytes], end: End = "clean") -> Answer:
        """A stream in this dialect."""
        return streamed(pieces, end, headers=self.dialect.stream_headers)

    def good(self) -> Answer:
        """The good answer."""
        if self.streams and self.listing is None:
            return self.stream([*self.events(), *self.ending()])
        return as_json(self.document)


Answering = Callable[[Asked], Answer]


def _wants_usage(body: object) -> bool:
    options = body.get("stream_options") if isinstance(body, dict) else None
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _tools_of(body: object) -> list[dict[str, Any]]:
    tools = body.get("tools") if isinstance(body, dict) else None
    functions = [each.get("function") for each in tools if isinstance(each, dict)] if isinstance(tools, list) else []
    return [each for each in functions if isinstance(each, dict) and isinstance(each.get("name"), str)]


def anyhow(answer: Answer) -> Answering:
    """The same for every request."""
    return lambda asked: answer


def error_body(asked: Asked, message: str, kind: str = "server_error", code: str | None = None) -> dict[str, Any]:
    """An error as the dialect writes it."""
    return asked.dialect.error(message, kind, param=None, code=code)


def refused(
    status: int,
    message: str,
    kind: str = "invalid_request_error",
    code: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Answering:
    """An error with its status."""
    return lambda asked: as_json(error_body(asked, message, kind, code), status=status, headers=headers)


def failed_generation(asked: Asked) -> Answer:
    """A tool call that the server could not read, as Groq tells it, or Ollama."""
    written = "<function=hum>no JSON</function>"
    if asked.dialect.is_ndjson:
        message = f"error parsing tool call: raw='{written}', err=invalid character '<' looking for beginning of value"
        return as_json(asked.dialect.error(message, ""), status=500)
    message, more = "Failed to call a function.", {"code": "tool_use_failed", "failed_generation": written}
    return as_json(asked.dialect.error(message, "invalid_request_error", **more), status=400)


def limited(
    headers: Mapping[str, str] | None = None, message: str = "Rate limit reached.", kind: str = "requests"
) -> Answering:
    """A rate limit."""
    return refused(429, message, kind, "rate_limit_exceeded", headers=headers)


def limited_until(seconds: int, *, with_date: bool) -> Answering:
    """A rate limit that tells the time of day when it ends, maybe beside the server's own time."""

    def answer(asked: Asked) -> Answer:
        now = time()
        headers = {"retry-after": formatdate(now + seconds, usegmt=True)}
        if with_date:
            headers["date"] = formatdate(now, usegmt=True)
        return limited(headers)(asked)

    return answer


def page(status: int, text: str) -> Answering:
    """A page of HTML."""
    return anyhow(whole(text.encode(), status=status, headers={"content-type": "text/html"}))


def head_then(end: End) -> Answering:
    """A status of 200 and headers, and then that end."""
    return lambda asked: streamed([], end, headers=asked.headers)


def body_then(end: End) -> Answering:
    """The beginning of an answer, with nothing to show in it, and then that end."""

    def answer(asked: Asked) -> Answer:
        first = asked.dialect.preamble() if asked.streams else asked.body[:20]
        return streamed([first], end, headers=asked.headers)

    return answer


def short(asked: Asked) -> Answer:
    """Less than its content-length says."""
    body = asked.dialect.preamble() if asked.streams else asked.body
    sent = body if asked.streams else body[: len(body) // 2]
    return whole(sent, headers=asked.headers, content_length=len(body) + 10, then="close")


def instead(body: bytes) -> Answering:
    """That, where JSON should be; a stream ends well after it."""

    def answer(asked: Asked) -> Answer:
        if not asked.streams:
            return whole(body, headers=JSON)
        return asked.stream([asked.dialect.frame(body), *asked.ending()])

    return answer


def only(body: bytes) -> Answering:
    """That, and nothing else."""
    return lambda asked: whole(body, headers=asked.headers)


def torn(asked: Asked) -> Answer:
    """A whole body whose JSON breaks off, as its content-length says; in a stream, an event that does."""
    if not asked.streams:
        return whole(asked.body[: len(asked.body) // 2], headers=JSON)
    event = asked.dialect.text("".join(asked.pieces))
    end = b"\n" if asked.dialect.is_ndjson else b"\n\n"
    return asked.stream([event[: len(event) // 2] + end, *asked.ending()])


def error_in_200(asked: Asked) -> Answer:
    """An error, though the status is good; never a stream."""
    return as_json(error_body(asked, "The server had an error while processing your request.", "internal_error"))


def not_gzip(asked: Asked) -> Answer:
    """A body that is not compressed, though its headers say so."""
    body = asked.dialect.text("".join(asked.pieces)) if asked.streams else asked.body
    return whole(body, headers={**asked.headers, "content-encoding": "gzip"})


def mislabelled(asked: Asked) -> Answer:
    """A good answer whose content type is another's."""
    if not asked.streams:
        return whole(asked.body, headers={"content-type": "text/plain"})
    return streamed([*asked.events(), *asked.ending()], headers={"content-type": "application/octet-stream"})


def round_and_round(asked: Asked) -> Answer:
    """A redirect to where it came from."""
    return redirect(asked.path)


def trickle(asked: Asked) -> Answer:
    """Always a little more, so that no wait for the next byte is long, and never anything to show."""
    return endless(asked.dialect.preamble() if asked.streams else b" ", headers=asked.headers, delay_s=_TRICKLE_S)


def endless_body(asked: Asked) -> Answer:
    """One string, or one line, that does not end."""
    first = b'{"id": "' if not asked.streams or asked.dialect.is_ndjson else b'data: {"id": "'
    return endless(b"x" * _PIECE_BYTES, first=[first], headers=asked.headers)


def endless_event(asked: Asked) -> Answer:
    """Many lines, and never the end of the event or of the object."""
    # Of 64 bytes: millions of shorter ones would test how fast a client splits them.
    line = b" " * 63 + b"\n" if asked.dialect.is_ndjson or not asked.streams else b"data: " + b"1," * 29 + b"\n"
    return endless(line * 1024, headers=asked.headers)


def endless_error() -> Answering:
    """An error whose explanation does not end."""
    return anyhow(endless(b"x" * _PIECE_BYTES, status=500, headers={"content-type": "text/html"}))
