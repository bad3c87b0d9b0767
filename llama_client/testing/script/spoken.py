"""A scripted reply as each kind of provider writes it: whole or as a stream, in its pace, with its end."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_client.errors import ServerError
from llama_client.providers.services import SERVICES
from llama_client.testing.loopback import Answer, End, Then, as_json, streamed
from llama_client.testing.script.asked import AskedRequest, text_of
from llama_client.testing.script.failures import Failing, failure_answer, told
from llama_client.testing.script.replies import Reply
from llama_client.testing.wire_format import NDJSON, SSE, OllamaFormat, OpenAIFormat

_WORDS = re.compile(r"\s*\S+\s*|\s+")
# A usual estimate, for any language.
_BYTES_PER_TOKEN = 4
_NS = 10**9
# One piece of a stream: the seconds before it, and what it holds.
_Step = tuple[float, dict[str, Any]]


def tokens_of(text: str) -> int:
    """About how many tokens a text has.

    Args:
        text: The text.
    """
    return math.ceil(len(text.encode()) / _BYTES_PER_TOKEN)


def spoken(reply: Reply, asked: AskedRequest, *, now: float) -> Answer:
    """The bytes of a reply to a request.

    Args:
        reply: What is said.
        asked: The request.
        now: Unix time in seconds.
    """
    speech = _Ollama(reply, asked, now) if asked.is_ollama else _OpenAI(reply, asked, now)
    return speech.stream() if asked.stream else speech.whole()


class _Speech:
    """What the wires have in common."""

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
        return [piece for piece in given if piece] if given is not None else _WORDS.findall(text)

    def paced(self, texts: Sequence[str], *, is_first: bool = False) -> Iterator[tuple[float, str]]:
        for piece in texts:
            yield (0.0 if is_first else self.pause_s(piece)), piece
            is_first = False

    def event(self, value: Mapping[str, Any]) -> bytes:
        """A value as the stream holds it."""
        raise NotImplementedError

    def steps(self) -> Iterator[_Step]:
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
        status, body = told(Failing(ServerError), model=self.asked.model, is_ollama=self.asked.is_ollama)
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
        content = content[: content.index(b"\r\n\r\n") + 4 + len(content) // 8]
        return Answer([took_s, content] if took_s else [content], then)

    def _headers(self, kind: Mapping[str, str]) -> dict[str, str]:
        return {**kind, "x-request-id": self.request_id, **self.reply.headers}


class _OpenAI(_Speech):
    """As OpenAI-compatible servers write."""

    def __init__(self, reply: Reply, asked: AskedRequest, now: float) -> None:
        super().__init__(reply, asked, now)
        self.is_groq = asked.service == "groq"
        self.format = OpenAIFormat(asked.model, f"chatcmpl-{asked.number}", int(now))
        row = SERVICES.get(asked.service)
        # Else a stream has its usage only where it is asked for.
        self.tells_usage = row is not None and row.quirks.stream_usage != "ask"

    def event(self, value: Mapping[str, Any]) -> bytes:
        return self.format.event(value)

    def body(self) -> dict[str, Any]:
        choices = [self._choice(index, text) for index, text in enumerate(self.texts)]
        body = self.format.body(choices, self._usage)
        return body | ({"x_groq": {"id": self.request_id}} if self.is_groq else {})

    def _choice(self, index: int, text: str) -> dict[str, Any]:
        reply, is_first = self.reply, index == 0
        has_text = bool(text) or not (self.calls or reply.refusal)
        message: dict[str, Any] = {"role": "assistant", "content": text if has_text else None}
        if is_first and reply.reasoning is not None:
            message[self._reasoning_name] = reply.reasoning
        if is_first and reply.refusal is not None:
            message["refusal"] = reply.refusal
        if is_first and self.calls:
            message["tool_calls"] = [
                self.format.call(identity, each.name, each.as_json) for each, identity in self.calls
            ]
        choice = self.format.choice(index, message, self._finish(index))
        logprobs = self._logprobs() if is_first else None
        return choice if logprobs is None else {**choice, "logprobs": logprobs}

    def _finish(self, index: int) -> str:
        return self.finish_reason if index == 0 or self.finish_reason != "tool_calls" else "stop"

    @property
    def _reasoning_name(self) -> str:
        return "reasoning" if self.asked.service in ("groq", "together", "openrouter") else "reasoning_content"

    def _logprobs(self) -> dict[str, Any] | None:
        wanted = self.asked.params.get("logprobs")
        given = self.reply.logprobs
        if given is None or not wanted:
            return None
        if wanted is not True:  # Together's is a number
            return {"tokens": [token for token, _ in given], "token_logprobs": [value for _, value in given]}
        return {
            "content": [
                {"token": token, "logprob": value, "bytes": list(token.encode()), "top_logprobs": []}
                for token, value in given
            ]
        }

    def steps(self) -> Iterator[_Step]:
        for index, text in enumerate(self.texts):
            yield from self._steps_of(index, text)

    def _steps_of(self, index: int, text: str) -> Iterator[_Step]:
        reply = self.reply
        start = self.format.chunk(index, {"role": "assistant", "content": ""})
        if self.is_groq and index == 0:
            start["x_groq"] = {"id": self.request_id}
        yield 0.0, start
        thoughts = _WORDS.findall(reply.reasoning) if index == 0 and reply.reasoning else []
        for pause_s, piece in self.paced(thoughts, is_first=True):
            yield pause_s, self.format.chunk(index, {self._reasoning_name: piece})
        logprobs = self._logprobs() if index == 0 else None
        for pause_s, piece in self.paced(self.pieces_of(index, text), is_first=not thoughts):
            chunk = self.format.chunk(index, {"content": piece})
            if logprobs is not None:
                chunk["choices"][0]["logprobs"], logprobs = logprobs, None
            yield pause_s, chunk
        if index == 0 and reply.refusal:
            yield 0.0, self.format.chunk(index, {"refusal": reply.refusal})
        for place, (call, identity) in enumerate(self.calls if index == 0 else ()):
            yield 0.0, self.format.call_chunk(place, "", identity=identity, name=call.name)
            half = len(call.as_json) // 2
            for part in filter(None, (call.as_json[:half], call.as_json[half:])):
                yield self.pause_s(part), self.format.call_chunk(place, part)

    def ending(self) -> list[bytes]:
        last = [self.format.chunk(index, {}, self._finish(index)) for index in range(self.asked.n)]
        usage = self._usage
        if usage is not None and self.is_groq:
            last[-1]["x_groq"] = {"id": self.request_id, "usage": usage}
        if usage is not None and self.tells_usage and not self.is_groq:
            last[-1]["usage"] = usage
        if usage is not None and self.asked.asks_for_usage:
            last.append(self.format.counts(usage))
        return [*map(self.event, last), self.format.done]

    @property
    def _usage(self) -> dict[str, Any] | None:
        return None if self.usage is None else self.format.usage(*self.usage)


class _Ollama(_Speech):
    """As Ollama's own API writes."""

    headers = NDJSON

    def __init__(self, reply: Reply, asked: AskedRequest, now: float) -> None:
        super().__init__(reply, asked, now)
        self.format = OllamaFormat(asked.model)

    def event(self, value: Mapping[str, Any]) -> bytes:
        return self.format.event(value)

    def body(self) -> dict[str, Any]:
        return self._line(self._text, self.reply.reasoning, has_calls=True) | self._logprobs() | self._last()

    def steps(self) -> Iterator[_Step]:
        thoughts = _WORDS.findall(self.reply.reasoning) if self.reply.reasoning else []
        for pause_s, piece in self.paced(thoughts, is_first=True):
            yield pause_s, self._line("", piece)
        logprobs = self._logprobs()
        for pause_s, piece in self.paced(self.pieces_of(0, self._text), is_first=not thoughts):
            yield pause_s, self._line(piece) | logprobs
            logprobs = {}
        if self.calls:
            yield 0.0, self._line("", has_calls=True)

    def ending(self) -> list[bytes]:
        return [self.event(self._line("") | self._last())]

    @property
    def _text(self) -> str:
        return self.reply.text or self.reply.refusal or ""

    def _line(self, text: str, thinking: str | None = None, *, has_calls: bool = False) -> dict[str, Any]:
        calls = [self.format.call(call.name, call.as_json) for call, _ in self.calls] if has_calls else []
        return self.format.line(text, thinking=thinking, calls=calls)

    def _logprobs(self) -> dict[str, Any]:
        given = self.reply.logprobs
        if given is None or not self.asked.params.get("logprobs"):
            return {}
        return {"logprobs": [{"token": token, "logprob": value, "top_logprobs": []} for token, value in given]}

    def _last(self) -> dict[str, Any]:
        counts = () if self.usage is None else self.usage[:2]
        last = self.format.end(self.finish_reason, *counts)
        took_s = self.reply.after_s + sum(pause_s for pause_s, _ in self.steps())
        return last | ({"total_duration": int(took_s * _NS)} if took_s else {})


def _usage(reply: Reply, asked: AskedRequest) -> Sequence[int] | None:
    """Input, output, and maybe cached and reasoning tokens; None: they are not told."""
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
