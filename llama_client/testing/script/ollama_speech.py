"""A reply of the script as Ollama's own API writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llama_client.testing.script.asked import AskedRequest
from llama_client.testing.script.replies import Reply
from llama_client.testing.script.speech import Speech, Step, words_of
from llama_client.testing.wire_format import NDJSON, OllamaFormat

_NS = 10**9


class OllamaSpeech(Speech):
    """As Ollama's own API writes."""

    headers = NDJSON

    def __init__(self, reply: Reply, asked: AskedRequest, now: float) -> None:
        super().__init__(reply, asked, now)
        self.format = OllamaFormat(asked.model)

    def event(self, value: Mapping[str, Any]) -> bytes:
        return self.format.event(value)

    def body(self) -> dict[str, Any]:
        return self._line(self._text, self.reply.reasoning, has_calls=True) | self._logprobs() | self._last()

    def steps(self) -> Iterator[Step]:
        thoughts = words_of(self.reply.reasoning) if self.reply.reasoning else []
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
