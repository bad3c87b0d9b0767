"""The four kinds of provider over HTTP, as a server sees and answers them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from llama_client.testing.loopback import Answer, Received, as_json, streamed
from llama_client.testing.wire_format import NDJSON, SSE, OllamaFormat, OpenAIFormat

_MODEL = "some/model"
_OPENAI = OpenAIFormat(_MODEL, "c1")
_OLLAMA = OllamaFormat(_MODEL)
_USAGE = OpenAIFormat.usage(3, 2)
# The addresses that official clients ask below their base URL; whatever stands before is the base URL's own.
_PATH = re.compile(r"(/openai)?(?:/v1|(/api))/.")


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
        choice = _OPENAI.choice(0, {"role": "assistant", "content": text}, "stop")
        return _OPENAI.body([choice], _USAGE)

    def frame(self, data: bytes) -> bytes:
        """Data as this kind's streams hold it."""
        return _OLLAMA.frame(data) if self.is_ndjson else _OPENAI.frame(data)

    def event(self, value: Any) -> bytes:
        """A value as this kind's streams hold it."""
        return _OLLAMA.event(value) if self.is_ndjson else _OPENAI.event(value)

    def preamble(self) -> bytes:
        """A piece that says that the answer begins, and has nothing to show."""
        if self.is_ndjson:
            return self.text("")
        return self.event(self._chunk({"role": "assistant", "content": ""}))

    def text(self, text: str) -> bytes:
        """A piece of text."""
        return self.event(self._line(text, done=False) if self.is_ndjson else self._chunk({"content": text}))

    def ending(self) -> list[bytes]:
        """The pieces that end an answer well."""
        if self.is_ndjson:
            return [self.event(self._line("", done=True))]
        return [self.event(self._chunk({}, "stop")), _OPENAI.done]

    def counted_ending(self, *, is_asked: bool) -> list[bytes]:
        """The same with how many tokens there were: Ollama and Groq tell it unasked, others where they are asked."""
        if self.is_ndjson:
            return self.ending()
        finish = self._chunk({}, "stop")
        if self.kind == "groq":
            finish["x_groq"] = {"id": "req_1", "usage": _USAGE}
        return [self.event(finish), *([self.counted(_USAGE)] if is_asked else []), _OPENAI.done]

    def error_event(self, body: dict[str, Any]) -> bytes:
        """An error within a stream."""
        return (b"event: error\n" if self.kind == "groq" else b"") + self.event(body)

    def counted(self, usage: dict[str, Any]) -> bytes:
        """The piece of a stream of OpenAI's that says how many tokens it had."""
        return self.event(_OPENAI.counts(usage))

    def error(self, message: str, kind: str, **more: object) -> dict[str, Any]:
        """The body of an error; Ollama's has words and nothing else."""
        return _OLLAMA.error(message) if self.is_ndjson else _OPENAI.error(message, kind, **more)

    def failure(self, message: str) -> Any:
        """The body of an error that the request is to blame for."""
        return self.error(message, "invalid_request_error", code="invalid_api_key")

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
        return _OPENAI.chunk(0, delta or {}, finish)

    @staticmethod
    def _line(text: str, *, done: bool) -> dict[str, Any]:
        return _OLLAMA.line(text) | (_OLLAMA.end("stop", 3, 2) if done else {})


GROQ = Dialect("groq", "/openai/v1/chat/completions")
TOGETHER = Dialect("together", "/v1/chat/completions", base="/v1")
OPENAI = Dialect("openai", "/v1/chat/completions", base="/v1")
OLLAMA = Dialect("ollama", "/api/chat", is_ndjson=True)
DIALECTS = [GROQ, TOGETHER, OPENAI, OLLAMA]


def dialect_of(path: str) -> Dialect | None:
    """The dialect that a path belongs to; None: to no API."""
    found = _PATH.search(path.partition("?")[0])
    if found is None:
        return None
    of_groq, of_ollama = found.groups()
    return OLLAMA if of_ollama else GROQ if of_groq else OPENAI
