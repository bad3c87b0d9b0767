"""Services as their servers see messages: what each puts on an answer with thinking and a tool, and what it refuses.

The rules are those of their documentation and packages, as far as known; texts and signatures are invented.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_client.testing.loopback import Answer, Received, as_json, streamed

SSE = {"content-type": "text/event-stream"}
NDJSON = {"content-type": "application/x-ndjson"}
_ROLES = {"system", "user", "assistant", "tool"}


@dataclass
class StandIn:
    """A server of one service. It answers odd requests of a conversation with a tool call, even ones with a text.

    Attributes:
        kind: The provider's kind.
        path: Where it takes chats.
        base: What the configured address has behind the server's.
        message_names: The names that an assistant's message may have; None: any.
        call_names: The names that a tool call may have; None: any.
        needs: The names that each answer must have, also another service's.
        calls_need: The same for tool calls.
        answered: How many chats it has answered.
        is_down: Whether it answers 503.
        refused: What it has refused.
        bodies: The bodies of the chats that it has answered.
    """

    kind: str
    path: str = "/v1/chat/completions"
    base: str = "/v1"
    message_names: frozenset[str] | None = None
    call_names: frozenset[str] | None = None
    needs: frozenset[str] = frozenset()
    calls_need: frozenset[str] = frozenset()
    answered: int = 0
    is_down: bool = False
    refused: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        return self.kind

    def table(self, url: str) -> dict[str, Any]:
        return {"kind": self.kind, "base_url": url + self.base, "api_key": "k"}

    # What it sends.

    def thinking(self, turn: int) -> dict[str, Any]:
        """What its message has of thinking."""
        return {"reasoning": f"{self} thinks of {turn}."}

    def on_call(self, turn: int) -> dict[str, Any]:
        """What its tool call has beside what is OpenAI's."""
        return {}

    def call(self, turn: int) -> dict[str, Any]:
        function = {"name": "roll", "arguments": json.dumps({"sides": turn})}
        return {"id": f"{self}-{turn}", "type": "function", "function": function, **self.on_call(turn)}

    def message(self, turn: int) -> dict[str, Any]:
        said: dict[str, Any] = {"role": "assistant", "content": None, **self.thinking(turn)}
        return said | ({"tool_calls": [self.call(turn)]} if turn % 2 else {"content": f"{self} says {turn}."})

    def pieces(self, turn: int) -> Iterator[dict[str, Any]]:
        """The message in deltas: texts cut in two, all else whole."""
        for name, value in self.message(turn).items():
            if name == "tool_calls":
                for index, call in enumerate(value):
                    arguments = call["function"]["arguments"]
                    yield {name: [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]}
                    yield {name: [{"index": index, "function": {"arguments": arguments[:4]}}]}
                    yield {name: [{"index": index, "function": {"arguments": arguments[4:]}}]}
            elif isinstance(value, str) and name != "role":
                yield {name: value[:5]}
                yield {name: value[5:]}
            elif value is not None:
                yield {name: value}

    def answer(self, request: Received) -> Answer:
        if request.path != self.path:
            return as_json({"error": {"message": f"no {request.path}"}}, status=404)
        if self.is_down:
            return as_json({"error": {"message": "overloaded"}}, status=503)
        body = request.json
        for wrong in self.wrong_with(body):
            self.refused.append(wrong)
            return as_json({"error": {"message": wrong, "type": "invalid_request_error"}}, status=400)
        self.answered += 1
        self.bodies.append(body)
        return self.said(self.answered, streams=bool(body.get("stream")))

    def said(self, turn: int, *, streams: bool) -> Answer:
        finish = "tool_calls" if turn % 2 else "stop"
        usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        head: dict[str, Any] = {"id": f"c{turn}", "created": 1780000000, "model": "m"}
        if not streams:
            choice = {"index": 0, "finish_reason": finish, "message": self.message(turn)}
            return as_json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        head["object"] = "chat.completion.chunk"
        deltas = [*self.pieces(turn), {}]
        choices = [{"index": 0, "delta": d, "finish_reason": None if d else finish} for d in deltas]
        events = [{**head, "choices": [choice]} for choice in choices] + [{**head, "choices": [], "usage": usage}]
        data = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
        return streamed([*data, b"data: [DONE]\n\n"], headers=SSE)

    # What it takes.

    def wrong_with(self, body: Mapping[str, Any]) -> Iterator[str]:
        called: set[str] = set()
        for index, message in enumerate(body["messages"]):
            place = f"messages[{index}]"
            if message["role"] not in _ROLES:
                yield f"{place}.role is {message['role']}"
            if message["role"] == "tool" and message["tool_call_id"] not in called:
                yield f"{place}.tool_call_id names no call"
            if message["role"] != "assistant":
                continue
            called |= {call["id"] for call in message.get("tool_calls") or ()}
            if self.message_names is not None:
                yield from (f"property '{place}.{n}' is unsupported" for n in message.keys() - self.message_names)
            for call in message.get("tool_calls") or ():
                if self.call_names is not None:
                    yield from (
                        f"property '{place}.tool_calls.{n}' is unsupported" for n in call.keys() - self.call_names
                    )
            yield from self.wrong_with_answer(place, message, body)

    def wrong_with_answer(self, place: str, message: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with an assistant's message beside its names: its own must be as it was."""
        own = next((turn for turn in range(1, self.answered + 1) if self.is_own(message, turn)), None)
        if own is not None:
            yield from self.wrong_with_own(place, message, self.message(own))
            return
        others = message.keys() - _PLAIN - self.needs
        others |= {name for call in message.get("tool_calls") or () for name in call.keys() - _CALL - self.calls_need}
        if others:
            yield f"{place} has {others} of another service"

    def is_own(self, message: Mapping[str, Any], turn: int) -> bool:
        calls = message.get("tool_calls") or [{}]
        return message.get("content") == f"{self} says {turn}." or calls[0].get("id") == f"{self}-{turn}"

    def wrong_with_own(self, place: str, given: Mapping[str, Any], sent: Mapping[str, Any]) -> Iterator[str]:
        missing = {name: value for name, value in sent.items() if value is not None and given.get(name) != value}
        if missing:
            yield f"{place} came back without {missing}, as {dict(given)}"


_PLAIN = frozenset({"role", "content", "tool_calls"})
_CALL = frozenset({"id", "type", "function"})


class Groq(StandIn):
    def __init__(self) -> None:
        super().__init__("groq", "/openai/v1/chat/completions", "", _PLAIN, _CALL)

    def wrong_with_own(self, place: str, given: Mapping[str, Any], sent: Mapping[str, Any]) -> Iterator[str]:
        """Reasoning does not come back."""
        return super().wrong_with_own(place, given, {name: sent[name] for name in sent if name != "reasoning"})


class Cerebras(StandIn):
    def __init__(self) -> None:
        super().__init__("cerebras", message_names=_PLAIN | {"reasoning"}, call_names=_CALL)


class Together(StandIn):
    def __init__(self) -> None:
        super().__init__("together", message_names=_PLAIN | {"reasoning", "reasoning_content"})


class Fireworks(StandIn):
    def __init__(self) -> None:
        super().__init__("fireworks")

    def thinking(self, turn: int) -> dict[str, Any]:
        return {"reasoning_content": f"{self} thinks of {turn}."}


class DeepSeek(StandIn):
    """Where there are tools, each answer must come back with reasoning that is not empty."""

    def __init__(self) -> None:
        super().__init__("deepseek", "/chat/completions", "", needs=frozenset({"reasoning_content"}))

    def thinking(self, turn: int) -> dict[str, Any]:
        return {"reasoning_content": f"{self} thinks of {turn}."}

    def wrong_with_answer(self, place: str, message: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
        if body.get("tools") and not message.get("reasoning_content"):
            yield "The `reasoning_content` in the thinking mode must be passed back to the API."
        yield from super().wrong_with_answer(place, message, body)


class OpenRouter(StandIn):
    """Its details come in pieces with an index."""

    def __init__(self) -> None:
        super().__init__("openrouter", "/api/v1/chat/completions", "/api/v1")

    def thinking(self, turn: int) -> dict[str, Any]:
        text = f"{self} thinks of {turn}."
        text_detail = {"type": "reasoning.text", "text": text, "signature": f"sig{turn}", "format": "f1", "index": 0}
        closed = {"type": "reasoning.encrypted", "data": f"data{turn}", "format": "f1", "index": 1}
        return {"reasoning": text, "reasoning_details": [text_detail, closed]}

    def pieces(self, turn: int) -> Iterator[dict[str, Any]]:
        for delta in super().pieces(turn):
            if "reasoning_details" not in delta:
                yield delta
                continue
            first, last = delta["reasoning_details"]
            text, signature = first["text"], first["signature"]
            for more in ({"text": text[:7]}, {"text": text[7:]}, {"text": "", "signature": signature}):
                yield {"reasoning_details": [{"type": first["type"], "format": "f1", "index": 0, **more}]}
            yield {"reasoning_details": [last]}


class Gemini(StandIn):
    """The first call of each answer must come back with its signature, or with the text that stands for one."""

    def __init__(self) -> None:
        path = "/v1beta/openai/chat/completions"
        more = frozenset({"extra_content"})
        super().__init__("gemini", path, "/v1beta/openai", _PLAIN | more, _CALL | more, calls_need=more)

    def thinking(self, turn: int) -> dict[str, Any]:
        return {} if turn % 2 else {"extra_content": {"google": {"thought_signature": f"said{turn}"}}}

    def on_call(self, turn: int) -> dict[str, Any]:
        return {"extra_content": {"google": {"thought_signature": f"called{turn}"}}}

    def wrong_with_answer(self, place: str, message: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
        calls = message.get("tool_calls")
        if calls and not (calls[0].get("extra_content") or {}).get("google", {}).get("thought_signature"):
            yield "Function call is missing a thought_signature in functionCall parts."
        yield from super().wrong_with_answer(place, message, body)


class Mistral(StandIn):
    """Its thinking is in the content; ids of calls have nine letters and digits."""

    def __init__(self) -> None:
        super().__init__("mistral", message_names=_PLAIN | {"prefix"}, call_names=_CALL)

    def call(self, turn: int) -> dict[str, Any]:
        return super().call(turn) | {"id": f"mistral{turn:02d}"}

    def is_own(self, message: Mapping[str, Any], turn: int) -> bool:
        content = message.get("content")
        said = content[-1].get("text") if isinstance(content, list) else content
        calls = message.get("tool_calls") or [{}]
        return said == f"{self} says {turn}." or calls[0].get("id") == f"mistral{turn:02d}"

    def message(self, turn: int) -> dict[str, Any]:
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": f"{self} thinks of {turn}."}]}
        said: dict[str, Any] = {"role": "assistant", "content": [thought]}
        if turn % 2:
            return said | {"tool_calls": [self.call(turn)]}
        return said | {"content": [thought, {"type": "text", "text": f"{self} says {turn}."}]}

    def pieces(self, turn: int) -> Iterator[dict[str, Any]]:
        """The thinking as parts, the text after it as texts."""
        yield {"role": "assistant", "content": ""}
        message = self.message(turn)
        thought = message["content"][0]["thinking"][0]["text"]
        for text in (thought[:6], thought[6:]):
            yield {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
        for part in message["content"][1:]:
            yield {"content": part["text"][:3]}
            yield {"content": part["text"][3:]}
        if "tool_calls" in message:
            yield {"tool_calls": [{**message["tool_calls"][0], "index": 0}]}

    def wrong_with_answer(self, place: str, message: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
        for call in message.get("tool_calls") or ():
            if len(call["id"]) != 9 or not call["id"].isalnum():
                yield f"Tool call id was {call['id']} but must be a-z, A-Z, 0-9, with a length of 9."
        yield from super().wrong_with_answer(place, message, body)


class AnyServer(StandIn):
    """An OpenAI-compatible server that is not known: all that it sends comes back, and nothing of others."""

    def __init__(self) -> None:
        own = {"reasoning_content", "mood", "annotations"}
        super().__init__("openai", message_names=_PLAIN | own, call_names=_CALL | {"trace"})

    def thinking(self, turn: int) -> dict[str, Any]:
        notes = [{"type": "note", "text": f"n{turn}"}]
        return {"reasoning_content": f"{self} thinks of {turn}.", "mood": {"now": "calm"}, "annotations": notes}

    def on_call(self, turn: int) -> dict[str, Any]:
        return {"trace": [f"t{turn}"]}


class Ollama(StandIn):
    """Its own API: thinking, and arguments that are objects."""

    def __init__(self) -> None:
        super().__init__("ollama", "/api/chat", "")

    def table(self, url: str) -> dict[str, Any]:
        return {"kind": self.kind, "base_url": url}

    def thinking(self, turn: int) -> dict[str, Any]:
        return {"thinking": f"{self} thinks of {turn}."}

    def call(self, turn: int) -> dict[str, Any]:
        return {"id": f"{self}-{turn}", "function": {"name": "roll", "arguments": {"sides": turn}}}

    def message(self, turn: int) -> dict[str, Any]:
        message = super().message(turn)
        return message | {"content": message["content"] or ""}

    def said(self, turn: int, *, streams: bool) -> Answer:
        line = {"model": "m", "created_at": "2026-11-23T17:00:00Z"}
        done = {**line, "done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 5}
        message = self.message(turn)
        if not streams:
            return as_json({**done, "message": message})
        thinking, rest = message.pop("thinking"), message
        texts = [{**line, "done": False, "message": {"role": "assistant", "content": "", "thinking": thinking[:4]}}]
        texts += [{**line, "done": False, "message": {"role": "assistant", "content": "", "thinking": thinking[4:]}}]
        texts += [{**line, "done": False, "message": rest}]
        last = {**done, "message": {"role": "assistant", "content": ""}}
        return streamed([json.dumps(each).encode() + b"\n" for each in (*texts, last)], headers=NDJSON)


STAND_INS = (Groq, Cerebras, Together, Fireworks, DeepSeek, OpenRouter, Gemini, Mistral, AnyServer, Ollama)
