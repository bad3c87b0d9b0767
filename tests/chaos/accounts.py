"""Servers that keep an account: of each request, what they handed out for it, and whether they said what it comes to.

What a server does with a request is written in a script, by the call's marker and the target. The account is what an
independent recount of costs starts from; it knows nothing of the client.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from llama_client.testing.dialects import GROQ, OLLAMA, OPENAI, Dialect
from llama_client.testing.faults import fault
from llama_client.testing.faults.answers import Asked
from llama_client.testing.loopback import (
    Answer,
    Received,
    WireServer,
    as_json,
    paced,
    streamed,
)
from llama_client.testing.wire_format import OllamaFormat, OpenAIFormat

# `a` has two models, each with a price of its own.
PROVIDERS: dict[str, Dialect] = {"groq": GROQ, "a": OPENAI, "b": OPENAI, "ollama": OLLAMA}
TARGETS = ("groq/m", "a/m", "a/n", "b/m", "ollama/m")
TOOL = {"type": "function", "function": {"name": "hum", "parameters": {"type": "object", "properties": {}}}}

# How long a slow server takes, and one that stalls until it hangs up.
SLOW_S, STALL_S = 0.06, 0.12
_WORDS = ("Llamas", " hum", " überall", ",", " よく")
_REFUSALS = (400, 401, 403, 404, 429, 429, 500, 502, 503, 529)
_OPENAI, _OLLAMA = OpenAIFormat("m", "c1"), OllamaFormat("m")
_FAILED = ("<function=hum>not JSON</function>", "They hum a tune of their own.", "")

# `counted`: it was processed, and the server sent the usage. `uncounted`: it was processed, without a usage.
Verdict = Literal["counted", "uncounted", "refused"]
DEEDS = (
    "good", "reasoning aside", "usage, then error", "usage, then end", "usage so far",
    "no usage", "half a usage", "nonsense", "garbage", "hangup", "reset", "cut", "broken", "stall", "slow",
    "failed generation", "rescued generation", "refused", "error in 200", "error later",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Deed:
    """What a server does with one request.

    Attributes:
        name: One of `DEEDS`.
        prompt: The tokens of the prompt.
        completion: The tokens of the answer.
        cached: The tokens of the prompt that came from a cache; None: it does not say.
        pieces: In how many pieces the text comes, or comes before it breaks off.
    """

    name: str
    prompt: int
    completion: int
    cached: int | None
    pieces: int


@dataclass(frozen=True, slots=True)
class Handed:
    """A request that was read, and what was handed out for it.

    Attributes:
        target: The target that was tried.
        marker: The call's.
        deed: What was done.
        verdict: What became of it.
        input_tokens: Of the prompt; None: unknown.
        output_tokens: Of the answer; None: unknown.
        cached_tokens: Of the prompt, from a cache.
        least_input_bytes: The text of the messages.
        most_input_bytes: The whole request.
        text_bytes: The text that was generated, at most.
        streams: Whether a stream was asked for.
    """

    target: str
    marker: str
    deed: str
    verdict: Verdict
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    least_input_bytes: int
    most_input_bytes: int
    text_bytes: int
    streams: bool


Script = Mapping[str, Sequence[Deed]]


@dataclass
class AccountServers:
    """A server for each provider, in this process.

    Attributes:
        handed: The account, in the order in which requests were read.
    """

    handed: list[Handed] = field(default_factory=list)
    _scripts: dict[str, Script] = field(default_factory=dict)
    _asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stack: ExitStack = field(default_factory=ExitStack)
    _servers: dict[str, WireServer] = field(default_factory=dict)

    def begin(self, scripts: Mapping[str, Script]) -> None:
        """Begins a new account.

        Args:
            scripts: By the calls' markers: what each target does, in turn; the last for ever.
        """
        self.settle()
        self.handed, self._scripts, self._asked = [], dict(scripts), Counter()

    def settle(self) -> None:
        """Waits until every connection is closed, so that the account is whole."""
        for server in self._servers.values():
            assert server.wait_until_idle(), f"{server.open_connections} connections are open still"
            server.requests.clear()

    def providers(self) -> dict[str, Any]:
        """The tables of a client's configuration."""
        return {
            name: {"kind": dialect.kind, "base_url": self._servers[name].url + dialect.base}
            | ({} if dialect is OLLAMA else {"api_key": "none"})
            for name, dialect in PROVIDERS.items()
        }

    def __enter__(self) -> Self:
        for name, dialect in PROVIDERS.items():
            self._servers[name] = self._stack.enter_context(WireServer(self._answers(name, dialect)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _answers(self, provider: str, dialect: Dialect) -> Callable[[Received], Answer]:
        def answer(request: Received) -> Answer:
            if (request.method, request.path) != ("POST", dialect.path):
                return as_json({"error": "not found"}, status=404)
            body = request.json
            # What goes on from a break has the beginning of an answer behind the question.
            marker, target = str(body["messages"][0]["content"]), f"{provider}/{body['model']}"
            with self._lock:
                nth = self._asked[marker, target]
                self._asked[marker, target] += 1
                script = self._scripts[marker][target]
            deed = script[min(nth, len(script) - 1)]
            doing = _Doing(deed, dialect, bool(body.get("stream")))
            made = doing.answer()
            handed = Handed(
                target,
                marker,
                deed.name,
                doing.verdict,
                *doing.counts(),
                least_input_bytes=sum(len(str(each.get("content") or "").encode()) for each in body["messages"]),
                most_input_bytes=len(request.body),
                text_bytes=len(doing.text.encode()),
                streams=doing.streams,
            )
            with self._lock:
                self.handed.append(handed)
            time.sleep({"slow": SLOW_S, "stall": 0 if doing.streams else STALL_S}.get(deed.name, 0))
            return made

        return answer


class _Doing:
    """One deed at one server.

    Args:
        deed: The deed.
        dialect: How the server talks.
        streams: Whether a stream was asked for.

    Attributes:
        text: What is generated, at most.
    """

    def __init__(self, deed: Deed, dialect: Dialect, streams: bool) -> None:
        self._deed = deed
        self._dialect = dialect
        self.streams = streams
        self._pieces = [*_WORDS[: deed.pieces]]
        self.text = "".join(self._pieces)
        self._is_refused = False
        # What it says of the prompt, and of the answer.
        self._tells: tuple[bool, bool] = (True, True)

    @property
    def verdict(self) -> Verdict:
        """What becomes of the request."""
        if self._is_refused:
            return "refused"
        tokens = self.counts()
        return "uncounted" if None in tokens[:2] or self._is_nonsense else "counted"

    def counts(self) -> tuple[int | None, int | None, int | None]:
        """The tokens that are charged for, as the server would write them on its bill: input, output, cached."""
        deed, (tells_input, tells_output) = self._deed, self._tells
        # No prompt has no tokens, and no answer that says something.
        of_input = deed.prompt or None if tells_input else None
        # Reasoning that is counted apart is charged as part of the answer.
        of_answer = deed.completion + (deed.pieces if self._has_reasoning_aside else 0)
        of_output = of_answer if tells_output and (of_answer or not self.text) else None
        cached = None
        if deed.cached is not None and of_input is not None and self._dialect is not OLLAMA:
            cached = min(deed.cached, deed.prompt)
        return of_input, of_output, cached

    @property
    def _has_reasoning_aside(self) -> bool:
        return self._deed.name == "reasoning aside" and self._dialect is not OLLAMA

    @property
    def _is_nonsense(self) -> bool:
        return self._deed.name == "nonsense" and self._dialect is not OLLAMA

    def answer(self) -> Answer:
        """Does it."""
        match self._deed.name:
            case "reasoning aside" if self._has_reasoning_aside:
                return self._good(self._usage(reasoning=self._deed.pieces))
            case "usage, then error" if self.streams and self._dialect is not OLLAMA:
                ending = self._ending(self._usage())[:-1]
                return self._stream([*self._said(), *ending, self._error_event()], "clean")
            case "usage so far" if self.streams and self._dialect is OPENAI:
                self._tells = (True, False)
                return self._stream([*self._said(), self._usage_event(self._usage()), self._error_event()], "clean")
            case "usage, then end" if self.streams and self._dialect is not OLLAMA:
                return self._stream([*self._said(), *self._ending(self._usage())[:-1]], "eof")
            case "no usage":
                self._tells = (False, False)
                return self._good(None)
            case "half a usage":
                self._tells = (True, False)
                name = "prompt_eval_count" if self._dialect is OLLAMA else "prompt_tokens"
                return self._good({name: self._deed.prompt})
            case "nonsense" if self._is_nonsense:
                return self._good(self._usage(cached=self._deed.prompt + 1))
            case "refused":
                self._is_refused, self.text = True, ""
                status = _REFUSALS[self._deed.prompt % len(_REFUSALS)]
                # The status alone says what it is.
                return as_json(
                    {"error": "not now" if self._dialect is OLLAMA else {"message": "not now"}}, status=status
                )
            case "failed generation" | "rescued generation" if self._dialect is GROQ:
                return self._failed_generation()
            case "error in 200":
                self._is_refused, self.text = True, ""
                return self._fault("error-in-200")
            case "garbage" | "hangup" | "reset" | "cut" | "broken" | "stall" | "error later":
                return self._spoiled()
            case _:
                return self._good(self._usage())

    def _spoiled(self) -> Answer:
        """What is neither an answer nor a refusal."""
        self._tells = (False, False)
        match self._deed.name:
            case "garbage" | "reset":
                return self._fault(self._deed.name)
            case "cut" if not self.streams:
                return self._fault("short-body")
            case "error later" if self.streams:
                self._is_refused = not self._deed.pieces
                return self._stream([*self._said(), self._error_event()], "clean")
            case "cut" | "broken" | "stall" if self.streams:
                return self._stream(self._said(), {"broken": "reset"}.get(self._deed.name, self._deed.name))
            case _:
                return self._fault("hangup")

    def _fault(self, name: str) -> Answer:
        return fault(name).answer(Asked(self._dialect, self.streams, self._dialect.path, pieces=self._pieces))

    def _failed_generation(self) -> Answer:
        """A tool call that Groq would not let pass: it was generated."""
        self._tells = (False, False)
        failed = _FAILED[self._deed.prompt % len(_FAILED)]
        if self._deed.name == "rescued generation":
            failed = "<function=hum>{}</function>"
        self.text = failed
        error = {"message": "Failed to call a function.", "type": "invalid_request_error", "code": "tool_use_failed"}
        return as_json({"error": error | {"failed_generation": failed}}, status=400)

    def _good(self, usage: dict[str, Any] | None) -> Answer:
        if not self.streams:
            return as_json(self._body(usage))
        return self._stream([*self._said(), *self._ending(usage)], "clean")

    def _usage(self, *, reasoning: int = 0, cached: int | None = None) -> dict[str, Any]:
        deed = self._deed
        if self._dialect is OLLAMA:
            return {"prompt_eval_count": deed.prompt, "eval_count": deed.completion}
        said = cached if cached is not None else deed.cached and min(deed.cached, deed.prompt)
        usage = OpenAIFormat.usage(deed.prompt, deed.completion, said, reasoning or None)
        # These servers count reasoning beside the completion.
        return usage | {"total_tokens": usage["total_tokens"] + reasoning}

    def _body(self, usage: dict[str, Any] | None) -> dict[str, Any]:
        body: dict[str, Any] = self._dialect.whole(self.text)
        if self._dialect is OLLAMA:
            return {key: value for key, value in body.items() if not key.endswith("_count")} | (usage or {})
        del body["usage"]
        return body if usage is None else body | {"usage": usage}

    def _said(self) -> list[bytes]:
        return [self._dialect.preamble(), *map(self._dialect.text, self._pieces)]

    def _ending(self, usage: dict[str, Any] | None) -> list[bytes]:
        """The end of a good stream, with its usage where each kind puts it."""
        if self._dialect is OLLAMA:
            return [self._dialect.event(_OLLAMA.line("") | _OLLAMA.end("stop") | (usage or {}))]
        finish = _OPENAI.chunk(0, {}, "stop")
        if self._dialect is GROQ:
            return [self._dialect.event(finish | {"x_groq": {"id": "req_1", "usage": usage}}), _OPENAI.done]
        return [self._dialect.event(finish), *([] if usage is None else [self._usage_event(usage)]), _OPENAI.done]

    def _usage_event(self, usage: dict[str, Any]) -> bytes:
        return self._dialect.counted(usage)

    def _error_event(self) -> bytes:
        return self._dialect.event({"error": {"message": "the model went away", "type": "internal"}})

    def _stream(self, events: list[bytes], end: Any) -> Answer:
        answer = streamed(events, end, headers=self._dialect.stream_headers)
        if self._deed.prompt % 2:
            # In one piece, so that what is said and how it ends may be read together.
            return Answer([answer.content], answer.then)
        return paced(answer, 0.005) if self._deed.name in ("good", "slow") else answer
