"""A request as a test looks at it: what was asked, in the same words whatever the provider's wire."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from llama_client.providers.services import SERVICES
from llama_client.testing.chat_request import OLLAMA_CHAT, asks_for_stream, body_of, is_chat, messages_of, text_of
from llama_client.testing.loopback import Received
from llama_client.testing.script.failures import require_times

# Headers that may hold a key.
_SECRET = re.compile(r"key|token|secret|auth|cookie|password|signature", re.IGNORECASE)
_GROQ_CHAT = "/openai/v1/chat/completions"
_NOT_PARAMS = frozenset({"messages", "model", "stream", "tools", "options", "stream_options"})
# Other names of the same parameter.
_LIMITS = ("max_completion_tokens", "num_predict")
_SHOWN_CHARS = 80


@dataclass(frozen=True)
class AskedRequest:
    """A request to a provider: one attempt. Retries are requests of their own.

    Attributes:
        number: Its place among all, from 1.
        provider: The provider's configured name.
        method: Such as `POST`.
        path: Of the address, with its query.
        body: The body, parsed; None: it is no JSON.
        headers: By lower-case name, without those that may hold a key.
        received: The request as it came, keys included.
    """

    number: int
    provider: str
    method: str
    path: str
    body: Any
    headers: Mapping[str, str]
    received: Received = field(repr=False)

    @classmethod
    def of(cls, received: Received, number: int) -> AskedRequest:
        """A request that came, read.

        Args:
            received: The request.
            number: Its place among all.
        """
        headers = {name: value for name, value in received.headers.items() if _SECRET.search(name) is None}
        provider = received.provider or service_at(received)
        return cls(number, provider, received.method, received.path, body_of(received), headers, received)

    @property
    def _fields(self) -> Mapping[str, Any]:
        return self.body if isinstance(self.body, dict) else {}

    @property
    def is_ollama(self) -> bool:
        """Whether it is written in Ollama's own way."""
        return self.path.partition("?")[0].endswith(OLLAMA_CHAT)

    @property
    def is_chat(self) -> bool:
        """Whether it asks for an answer of a chat."""
        return is_chat(self.method, self.path)

    @property
    def model(self) -> str:
        """The provider's own model id."""
        model = self._fields.get("model")
        return model if isinstance(model, str) else ""

    @property
    def target(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages as they were sent."""
        return messages_of(self.body)

    @property
    def text(self) -> str:
        """The text of the last message of the user."""
        return next((text_of(each) for each in reversed(self.messages) if each.get("role") == "user"), "")

    @property
    def system(self) -> str:
        """The texts of the instructions, a line each."""
        return "\n".join(text_of(each) for each in self.messages if each.get("role") in ("system", "developer"))

    @property
    def tools(self) -> list[str]:
        """The names of the declared tools."""
        tools = self._fields.get("tools")
        rows = [each for each in tools if isinstance(each, dict)] if isinstance(tools, list) else []
        functions = [each.get("function") for each in rows]
        return [each["name"] for each in functions if isinstance(each, dict) and isinstance(each.get("name"), str)]

    @property
    def stream(self) -> bool:
        """Whether the answer is to be a stream."""
        return asks_for_stream(self.body, is_ollama=self.is_ollama)

    @property
    def n(self) -> int:
        """How many choices are asked for."""
        n = self._fields.get("n")
        return n if isinstance(n, int) and n > 0 else 1

    @cached_property
    def params(self) -> dict[str, Any]:
        """All other fields of the body. Ollama's options are among them; the limit is `max_tokens` by any name."""
        fields, options = self._fields, self._fields.get("options")
        params = {name: value for name, value in fields.items() if name not in _NOT_PARAMS}
        params |= options if isinstance(options, dict) else {}
        for name in _LIMITS:
            if name in params:
                params["max_tokens"] = params.pop(name)
        return params

    @property
    def asks_for_usage(self) -> bool:
        """Whether a stream is to tell its usage in a piece of its own."""
        options = self._fields.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))

    @property
    def service(self) -> str:
        """The known service at the address it was sent to; "" where it is none."""
        return service_at(self.received)

    def __str__(self) -> str:
        facts = [*(["stream"] if self.stream else []), *([f"tools {', '.join(self.tools)}"] if self.tools else [])]
        facts += [f"{name}={_short(json.dumps(value, default=str))}" for name, value in sorted(self.params.items())]
        what = repr(_short(self.text)) if self.is_chat else f"{self.method} {self.path}"
        return f"request {self.number} to {self.target}: {what}" + (f" ({'; '.join(facts)})" if facts else "")


def service_at(received: Received) -> str:
    """The known service that a request was sent to; "" where it is none.

    Args:
        received: The request.
    """
    path, host = received.path.partition("?")[0], received.headers.get("host", "")
    if path.endswith(_GROQ_CHAT):
        return "groq"
    if path.endswith(OLLAMA_CHAT):
        return "ollama"
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return next((row.name for row in SERVICES.values() if not row.is_local and name in row.key_hosts), "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a test expects of a request; None: anything."""

    text: str | re.Pattern[str] | None = None
    target: str | None = None
    system: str | None = None
    tools: Sequence[str] | None = None
    stream: bool | None = None
    params: Mapping[str, object] | None = None

    def misfit(self, asked: AskedRequest) -> str | None:
        """What of a request is not as expected; None: nothing."""
        if self.target is not None and self.target not in (asked.provider, asked.target):
            return f"it went to {asked.target}"
        if self.text is not None and not _is_in(self.text, asked.text):
            return f"its last message is {_short(asked.text)!r}"
        if self.system is not None and self.system not in asked.system:
            return f"its instructions are {_short(asked.system)!r}"
        if self.tools is not None and sorted(self.tools) != sorted(asked.tools):
            return f"its tools are {', '.join(asked.tools) or 'none'}"
        if self.stream is not None and self.stream != asked.stream:
            return f"it is {'a' if asked.stream else 'no'} stream"
        for name, value in (self.params or {}).items():
            if name not in asked.params:
                return f"it has no {name}"
            if asked.params[name] != value:
                return f"its {name} is {_short(repr(asked.params[name]))}"
        return None

    def __str__(self) -> str:
        said = [f"to {self.target}"] if self.target is not None else []
        if self.text is not None:
            is_pattern = isinstance(self.text, re.Pattern)
            said.append(f"matching {self.text.pattern!r}" if is_pattern else f"with {self.text!r}")  # type: ignore[union-attr]
        said += [f"instructions {self.system!r}"] if self.system is not None else []
        said += [f"tools {', '.join(self.tools) or 'none'}"] if self.tools is not None else []
        said += ["a stream" if self.stream else "no stream"] if self.stream is not None else []
        said += [f"{name}={value!r}" for name, value in (self.params or {}).items()]
        return ", ".join(said) or "of any kind"


def require_asked(requests: Sequence[AskedRequest], wanted: Wanted, times: int | None) -> list[AskedRequest]:
    """The requests that are as expected; see `FakeProvider.assert_asked`."""
    if times != 0 and times is not None:
        require_times(times)
    misfits = [(asked, wanted.misfit(asked)) for asked in requests]
    found = [asked for asked, misfit in misfits if misfit is None]
    if (times is None and found) or len(found) == times:
        return found
    expected = "a request" if times is None else f"{times} request{'' if times == 1 else 's'}"
    lines = [f"expected {expected} {wanted}; there {'was' if len(found) == 1 else 'were'} {len(found) or 'none'}"]
    lines += ["nothing was asked at all"] if not requests else ["asked was:"]
    lines += [f"  {asked}" + (f" - {misfit}" if misfit else "") for asked, misfit in misfits]
    raise AssertionError("\n".join(lines))


def _is_in(wanted: str | re.Pattern[str], text: str) -> bool:
    return wanted in text if isinstance(wanted, str) else wanted.search(text) is not None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
