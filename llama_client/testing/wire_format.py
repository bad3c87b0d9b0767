"""The JSON that providers write, and how a stream holds it: the one place that knows OpenAI's fields and Ollama's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SSE = {"content-type": "text/event-stream"}
NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}
_CREATED_AT = "2026-11-23T17:00:00Z"


def as_bytes(value: object) -> bytes:
    """A value as most servers write it: compact, and its characters as UTF-8, so that their bytes can come apart."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair has no UTF-8; as an escape it is JSON.
    return text.encode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class OpenAIFormat:
    """What OpenAI-compatible servers write.

    Attributes:
        model: The model's id.
        id: The answer's id.
        created: Unix time in seconds.
    """

    model: str
    id: str = "chatcmpl-1"
    created: int = 1

    done = b"data: [DONE]\n\n"

    @staticmethod
    def frame(data: bytes) -> bytes:
        """Data as a stream holds it."""
        return b"data: %b\n\n" % data

    def event(self, value: Mapping[str, Any]) -> bytes:
        """A value as a stream holds it."""
        return self.frame(as_bytes(value))

    def chunk(self, index: int, delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        """A part of a choice of a stream."""
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def counts(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a stream that says how many tokens it had."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def body(self, choices: Sequence[Mapping[str, Any]], usage: Mapping[str, Any] | None) -> dict[str, Any]:
        """A whole answer."""
        body = {**self._head("chat.completion"), "choices": choices}
        return body if usage is None else {**body, "usage": usage}

    @staticmethod
    def choice(index: int, message: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
        """A choice of a whole answer."""
        return {"index": index, "message": message, "finish_reason": finish_reason}

    @staticmethod
    def call(identity: str, name: str, arguments: str) -> dict[str, Any]:
        """A call of a tool."""
        return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}

    def call_chunk(self, number: int, arguments: str, *, identity: str = "", name: str = "") -> dict[str, Any]:
        """A part of a call in a stream; the first one has its id and its tool."""
        call = self.call(identity, name, arguments) if name else {"function": {"arguments": arguments}}
        return self.chunk(0, {"tool_calls": [{"index": number, **call}]})

    @staticmethod
    def usage(prompt: int, completion: int, cached: int | None = None, reasoning: int | None = None) -> dict[str, Any]:
        """Tokens; None: not sent."""
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        if cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        if reasoning is not None:
            usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
        return usage

    @staticmethod
    def error(message: str, kind: str = "server_error", **more: object) -> dict[str, Any]:
        """An error, as a body or in a stream."""
        return {"error": {"message": message, "type": kind, **more}}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


@dataclass(frozen=True, slots=True)
class OllamaFormat:
    """What Ollama's own API writes.

    Attributes:
        model: The model's name.
    """

    model: str

    @staticmethod
    def frame(data: bytes) -> bytes:
        """Data as a stream holds it."""
        return data + b"\n"

    def event(self, value: Mapping[str, Any]) -> bytes:
        """A value as a stream holds it."""
        return self.frame(as_bytes(value))

    def line(
        self, text: str, *, thinking: str | None = None, calls: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """A part of a stream."""
        message: dict[str, Any] = {"role": "assistant", "content": text}
        message |= {} if thinking is None else {"thinking": thinking}
        message |= {"tool_calls": calls} if calls else {}
        return {"model": self.model, "created_at": _CREATED_AT, "message": message, "done": False}

    @staticmethod
    def call(name: str, arguments: str) -> dict[str, Any]:
        """A call of a tool, whose arguments are an object; text where they are no JSON."""
        try:
            parsed = json.loads(arguments)
        except ValueError:
            parsed = arguments
        return {"function": {"name": name, "arguments": parsed}}

    @staticmethod
    def end(
        finish_reason: str | None = "stop", prompt: int | None = None, completion: int | None = None
    ) -> dict[str, Any]:
        """What the last line of a stream, and a whole answer, has beside the message. None: no tokens are sent."""
        # It has no other reasons: a call of a tool is a stop too.
        end: dict[str, Any] = {"done": True, "done_reason": "length" if finish_reason == "length" else "stop"}
        return end if prompt is None else {**end, "prompt_eval_count": prompt, "eval_count": completion}

    @staticmethod
    def error(message: str, **more: object) -> dict[str, Any]:
        """An error, as a body or in a stream: words, and nothing else but `more`."""
        return {"error": message, **more}
