"""What every API has in common in an answer of the script: its pieces, its pace, its tokens, and how it ends."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_client.errors import ServerError
from llama_client.testing.chat_request import text_of
from llama_client.testing.loopback import Answer, End, Then, as_json, streamed
from llama_client.testing.script.asked import AskedRequest
from llama_client.testing.script.failures import Failing, error_of_api, failure_answer
from llama_client.testing.script.replies import Reply
from llama_client.testing.wire_format import SSE

_WORDS = re.compile(r"\s*\S+\s*|\s+")
# A usual estimate, for any language.
_BYTES_PER_TOKEN = 4
# One piece of a stream: the seconds before it, and what it holds.
Step = tuple[float, dict[str, Any]]


def tokens_of(text: str) -> int:
    """About how many tokens a text has.

    Args:
        text: The text.
    """
    return math.ceil(len(text.encode()) / _BYTES_PER_TOKEN)


def words_of(text: str) -> list[str]:
    """A text in the pieces in which a stream brings it: word by word.

    Args:
        text: The text.
    """
    return _WORDS.findall(text)


class Speech:
    """A reply to a request.

    Args:
        reply: What is said.
        asked: The request.
        now: Unix time in seconds.
    """

    headers: Mapping[str, str] = SSE

    def __init__(self, reply: Reply, asked: AskedRequest, now: float) -> None:
        self.reply, self.asked, self.now = reply, asked, now
        self.request_id = reply.request_id or f"req_{asked.number}"
        self.usage = _usage(reply, asked)
        self.calls = [
            (each, each.id or f"call_{asked.number}_{index}") for index, each in enumerate(reply.tool_calls, 1)
        ]
        self.finish_reason = reply.finish_reason or ("tool_calls" if self.calls else "stop")

    @property
    def texts(self) -> list[str]:
        """The texts of the choices."""
        texts = [self.reply.text, *self.reply.others][: self.asked.n]
        return texts + [self.reply.text] * (self.asked.n - len(texts))

    def pause_s(self, piece: str) -> float:
        """The seconds before a piece that is not the first."""
        speed = self.reply.tokens_per_s
        return self.reply.pace_s if speed is None else tokens_of(piece) / speed

    def pieces_of(self, choice: int, text: str) -> Sequence[str]:
        given = self.reply.pieces if choice == 0 else None
        return [piece for piece in given if piece] if given is not None else words_of(text)

    def paced(self, texts: Sequence[str], *, is_first: bool = False) -> Iterator[tuple[float, str]]:
        for piece in texts:
            yield (0.0 if is_first else self.pause_s(piece)), piece
            is_first = False

    def event(self, value: Mapping[str, Any]) -> bytes:
        """A value as the stream holds it."""
        raise NotImplementedError

    def steps(self) -> Iterator[Step]:
        """The content of the stream."""
        raise NotImplementedError

    def ending(self) -> list[bytes]:
        """What ends it well."""
        raise NotImplementedError

    def body(self) -> dict[str, Any]:
        """The whole answer."""
        raise NotImplementedError

    def error_event(self) -> bytes:
        """An error in the middle."""
        status, body = error_of_api(Failing(ServerError), model=self.asked.model, is_ollama=self.asked.is_ollama)
        if not self.asked.is_ollama:
            body["error"]["status_code"] = status
        return self.event(body)

    def stream(self) -> Answer:
        reply, events, pauses = self.reply, [], []
        for pause_s, value in self.steps():
            events.append(self.event(value))
            pauses.append(pause_s)
        match reply.breaks:
            case None:
                rest, end = self.ending(), "clean"
            case "error":
                rest, end = [self.error_event()], "clean"
            case _:
                rest, end = [], reply.breaks
        made = streamed([*events, *rest], _end(end), headers=self._headers(self.headers))
        head, *frames = made.pieces
        return Answer(list(_timed(reply.after_s, head, frames, pauses)), made.then)

    def whole(self) -> Answer:
        reply = self.reply
        if reply.breaks == "error":
            failing = Failing(ServerError)
            is_ollama = self.asked.is_ollama
            return failure_answer(failing, model=self.asked.model, is_ollama=is_ollama, request_id=self.request_id)
        made = as_json(self.body(), headers=self._headers({}))
        took_s = reply.after_s + sum(pause_s for pause_s, _ in self.steps())
        content = made.content
        if reply.breaks is None:
            return Answer([took_s, content] if took_s else [content])
        then: Then = "close" if reply.breaks == "cut" else "reset" if reply.breaks == "reset" else "stall"
        # The head is whole, and there is a part of the body, however long each is.
        head_bytes = content.index(b"\r\n\r\n") + 4
        content = content[: head_bytes + (len(content) - head_bytes) // 8]
        return Answer([took_s, content] if took_s else [content], then)

    def _headers(self, kind: Mapping[str, str]) -> dict[str, str]:
        return {**kind, "x-request-id": self.request_id, **self.reply.headers}


def _usage(reply: Reply, asked: AskedRequest) -> Sequence[int] | None:
    """Input, output, and maybe cached and reasoning tokens; None: not sent."""
    if reply.usage is not None:
        return reply.usage or None
    sent = "".join(map(text_of, asked.messages)) + "".join(asked.tools)
    calls = "".join(call.name + call.as_json for call in reply.tool_calls)
    texts = [reply.text, *reply.others][: asked.n] if asked.n > 1 else [reply.text]
    texts += [reply.text] * (asked.n - len(texts))
    thoughts = tokens_of(reply.reasoning or "")
    answer = thoughts + sum(map(tokens_of, texts)) + tokens_of(calls + (reply.refusal or ""))
    counted = (max(tokens_of(sent), 1), max(answer, 1))
    return (*counted, 0, thoughts) if thoughts else counted


def _end(end: str) -> End:
    return "cut" if end == "cut" else "reset" if end == "reset" else "stall" if end == "stall" else "clean"


def _timed(
    after_s: float, head: bytes | float, frames: Sequence[bytes | float], pauses: Sequence[float]
) -> Iterator[bytes | float]:
    if after_s:
        yield after_s
    yield head
    for index, frame in enumerate(frames):
        if index < len(pauses) and pauses[index]:
            yield pauses[index]
        yield frame
