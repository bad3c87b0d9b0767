"""The four kinds of provider over HTTP, as a server sees and answers them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from llama_client.testing.loopback import Answer, Received, as_json, streamed

SSE = {"content-type": "text/event-stream"}
NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}
_CREATED_AT = "2026-11-23T17:00:00Z"


@dataclass(frozen=True)
class Dialect:
    """How one kind of provider talks.

    Attributes:
        kind: The kind.
        path: Where it takes chats.
        base: What the configured address has behind the server's.
        is_ndjson: Streams are lines of JSON instead of server-sent events.
    """

    kind: str
    path: str
    base: str = ""
    is_ndjson: bool = False

    def __str__(self) -> str:
        return self.kind

    def config(self, url: str, **options: Any) -> dict[str, Any]:
        """A configuration whose only provider, `x`, is of this kind and at that address."""
        table = {"kind": self.kind, "base_url": url + self.base, **options}
        routing = {"retries": 0}
        return {"default_model": "x/some/model", "providers": {"x": table}, "routing": routing}

    @property
    def stream_headers(self) -> dict[str, str]:
        return NDJSON if self.is_ndjson else SSE

    def whole(self, text: str = "Hello") -> Any:
        """The body of a whole answer."""
        if self.is_ndjson:
            return self._line(text, done=True)
        message = {"role": "assistant", "content": text}
        return self._chunk() | {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }

    def event(self, value: Any) -> bytes:
        """A value as this kind's streams hold it."""
        return (
            json.dumps(value).encode() + b"\n" if self.is_ndjson else b"data: " + json.dumps(value).encode() + b"\n\n"
        )

    def preamble(self) -> bytes:
        """A piece that says that the answer begins, and has nothing to show."""
        if self.is_ndjson:
            return self.event(self._line("", done=False))
        return self.event(self._chunk({"role": "assistant", "content": ""}))

    def text(self, text: str) -> bytes:
        """A piece of text."""
        return self.event(self._line(text, done=False) if self.is_ndjson else self._chunk({"content": text}))

    def ending(self) -> list[bytes]:
        """The pieces that end an answer well."""
        if self.is_ndjson:
            return [self.event(self._line("", done=True))]
        return [self.event(self._chunk({}, "stop")), b"data: [DONE]\n\n"]

    def counted(self, usage: dict[str, Any]) -> bytes:
        """The piece of a stream of OpenAI's that says how many tokens it had."""
        return self.event(self._chunk() | {"choices": [], "usage": usage})

    def failure(self, message: str) -> Any:
        """A body that tells an error."""
        if self.is_ndjson:
            return {"error": message}
        return {"error": {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}}

    def good(self, *, streams: bool, text: str = "Hello", usage: dict[str, Any] | None = None) -> Answer:
        """A good answer; `usage` is what its kind says of tokens, where that is to be something else than usual."""
        if not streams:
            return as_json(self.whole(text) | ({} if usage is None else {"usage": usage}))
        ending = self.ending()
        if usage is not None:
            ending.insert(-1, self.counted(usage))
        return streamed([self.preamble(), self.text(text), *ending], headers=self.stream_headers)

    def answers(self, *answers: Answer) -> Any:
        """What a server does that gives these answers to chats, in order, and knows of nothing else."""
        left = iter(answers)

        def answer(request: Received) -> Answer:
            if (request.method, request.path) != ("POST", self.path):
                return as_json({"error": "not found"}, status=404)
            return next(left)

        return answer

    @staticmethod
    def _chunk(delta: dict[str, Any] | None = None, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
        return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "some/model", "choices": [choice]}

    @staticmethod
    def _line(text: str, *, done: bool) -> dict[str, Any]:
        line = {"model": "some/model", "created_at": _CREATED_AT, "message": {"role": "assistant", "content": text}}
        counts = {"done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2} if done else {}
        return {**line, "done": done, **counts}


GROQ = Dialect("groq", "/openai/v1/chat/completions")
TOGETHER = Dialect("together", "/v1/chat/completions", base="/v1")
OPENAI = Dialect("openai", "/v1/chat/completions", base="/v1")
OLLAMA = Dialect("ollama", "/api/chat", is_ndjson=True)
DIALECTS = [GROQ, TOGETHER, OPENAI, OLLAMA]
