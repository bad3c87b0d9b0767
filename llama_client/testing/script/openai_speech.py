"""A reply of the script as OpenAI-compatible servers write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llama_client.providers.services import SERVICES
from llama_client.testing.script.asked import AskedRequest
from llama_client.testing.script.replies import Reply
from llama_client.testing.script.speech import Speech, Step, words_of
from llama_client.testing.wire_format import OpenAIFormat


class OpenAISpeech(Speech):
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

    def steps(self) -> Iterator[Step]:
        for index, text in enumerate(self.texts):
            yield from self._steps_of(index, text)

    def _steps_of(self, index: int, text: str) -> Iterator[Step]:
        reply = self.reply
        start = self.format.chunk(index, {"role": "assistant", "content": ""})
        if self.is_groq and index == 0:
            start["x_groq"] = {"id": self.request_id}
        yield 0.0, start
        thoughts = words_of(reply.reasoning) if index == 0 and reply.reasoning else []
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
