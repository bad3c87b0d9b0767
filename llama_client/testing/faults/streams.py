"""Streams that begin well and then break, and good streams that are hard to read. No I/O.

Each function makes a function from a request to an `Answer`; `library` gives these their names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from llama_client.testing.faults.answers import Answering, Asked, error_body
from llama_client.testing.loopback import Answer, End, as_json, cut, paced, streamed
from llama_client.testing.wire_format import OpenAIFormat

_USAGE = OpenAIFormat.usage(3, 2)
_EARLY_USAGE = OpenAIFormat.usage(3, 1)
# Odd, so that it cuts events, lines and characters at all places.
_SCRAP_BYTES = 7


def broken(end: End, *more: bytes) -> Answering:
    """A stream that ends so before any content."""
    return lambda asked: asked.stream([asked.dialect.preamble(), *more], end)


def broken_later(end: End) -> Answering:
    """A stream that ends so after its content."""
    return lambda asked: _at_once(asked, asked.stream(asked.events(), end))


def failed(*, after_content: bool) -> Answering:
    """A stream that ends with an error event."""

    def answer(asked: Asked) -> Answer:
        before = asked.events() if after_content else [asked.dialect.preamble()]
        error = asked.dialect.error_event(error_body(asked, "The model crashed.", "internal_error"))
        return _at_once(asked, asked.stream([*before, error]))

    return answer


def garbled(*, after_content: bool) -> Answering:
    """A stream with an event that is no JSON."""

    def answer(asked: Asked) -> Answer:
        event = asked.dialect.frame(b"{no json")
        before = asked.events() if after_content else [asked.dialect.preamble()]
        return asked.stream([*before, event, *(asked.ending() if after_content else [])])

    return answer


def paced_by(delay_s: float, *, first_s: float = 0.0) -> Answering:
    """The good answer, slowly."""
    return lambda asked: paced(asked.good(), delay_s, first_s=first_s)


def scraps(asked: Asked) -> Answer:
    """The good answer in pieces that end anywhere, at least once within a character, where there is one to cut."""
    body = b"".join([*asked.events(), *asked.ending()])
    ways = ([body[:start], *cut(body[start:], _SCRAP_BYTES)] for start in range(_SCRAP_BYTES))
    return asked.stream(next((way for way in ways if any(map(_begins_within, way))), cut(body, _SCRAP_BYTES)))


def commented(asked: Asked) -> Answer:
    """The good answer with what keeps a connection open between its events: comments, or empty lines."""
    noise = b"\n" if asked.dialect.is_ndjson else b": keep-alive\n\n"
    pieces = [*asked.events(), *asked.ending()]
    return asked.stream([noise, *(part for piece in pieces for part in (piece, noise))])


def with_crlf(asked: Asked) -> Answer:
    """The good answer, with the line ends of Windows."""
    return asked.stream([piece.replace(b"\n", b"\r\n") for piece in [*asked.events(), *asked.ending()]])


def without_done(asked: Asked) -> Answer:
    """The good answer without the `[DONE]` at its end; of Ollama's, without the last line end."""
    ending = asked.ending()
    return asked.stream([*asked.events(), *([ending[0].rstrip()] if asked.dialect.is_ndjson else ending[:-1])])


def without_usage(asked: Asked) -> Answer:
    """The good answer, which does not count its tokens."""
    if asked.streams and not asked.dialect.is_ndjson:
        return asked.stream([*asked.events(), *asked.dialect.ending()])
    counts = ("usage", "prompt_eval_count", "eval_count")
    if not asked.streams:
        return as_json({name: value for name, value in asked.document.items() if name not in counts})
    return asked.stream([*asked.events(), _last(asked, lambda line: [line.pop(name, None) for name in counts])])


def with_usage_twice(asked: Asked) -> Answer:
    """The good answer with two counts of tokens; the second is the right one."""
    first, *more = asked.dialect.ending()
    if asked.dialect.is_ndjson:
        early = json.loads(asked.dialect.text("")) | {"prompt_eval_count": 3, "eval_count": 1}
        return asked.stream([*asked.events(), asked.dialect.event(early), first])
    early = asked.dialect.counted(_EARLY_USAGE)
    return asked.stream([*asked.events(), early, first, asked.dialect.counted(_USAGE), *more])


def with_two_finishes(asked: Asked) -> Answer:
    """The good answer, with two ends."""
    ending = asked.ending()
    return asked.stream([*asked.events(), ending[0], *ending])


def finished_by(reason: str) -> Answering:
    """The good answer with another finish reason."""

    def answer(asked: Asked) -> Answer:
        if not asked.streams:
            document = json.loads(asked.body)
            if asked.dialect.is_ndjson:
                document["done_reason"] = reason
            else:
                document["choices"][0]["finish_reason"] = reason
            return as_json(document)
        if asked.dialect.is_ndjson:
            return asked.stream([*asked.events(), _last(asked, lambda line: line.update(done_reason=reason))])
        finish, *more = asked.ending()
        return asked.stream([*asked.events(), finish.replace(b'"stop"', json.dumps(reason).encode()), *more])

    return answer


def in_one_chunk(asked: Asked) -> Answer:
    """The good stream, all of it at once."""
    return streamed([b"".join([*asked.events(), *asked.ending()])], headers=asked.dialect.stream_headers)


def _at_once(asked: Asked, answer: Answer) -> Answer:
    """Every other time in one piece, so that the content and the break may be read together."""
    return Answer([answer.content], answer.then) if asked.chance.random() < 0.5 else answer


def _begins_within(piece: bytes) -> bool:
    """Whether a piece begins within a character."""
    return piece[:1] >= b"\x80" and piece[:1] < b"\xc0"


def _last(asked: Asked, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The last line of a stream of Ollama's, changed."""
    line = json.loads(asked.ending()[-1])
    change(line)
    return asked.dialect.event(line)
