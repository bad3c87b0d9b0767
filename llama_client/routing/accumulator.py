"""Accumulates chunks into a whole answer, and holds what an interrupted stream has left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import starmap
from typing import Any, NamedTuple

from llama_client.routing.pieces import Kept, content_of, merged
from llama_client.types.completion import (
    ChatCompletionChunk,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    FunctionCall,
    Message,
    TokenLogprob,
    ToolCall,
    Usage,
    unchecked,
)
from llama_client.types.server_fields import CONTENT_PARTS, REASONING_NAMES


@dataclass(slots=True)
class _ToolCallParts:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    # Fields that the server adds to the call, and to its function.
    kept: list[Mapping[str, Any]] = field(default_factory=list)
    function_kept: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _ChoiceParts:
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    tool_calls: dict[int, _ToolCallParts] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    refusal_logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    kept: list[Kept] = field(default_factory=list)
    made_by: str | None = None


class Accumulator:
    def __init__(self, beginning: Accumulator | None = None, made_by: str | None = None) -> None:
        """`beginning`: the interrupted answer that this one continues; `made_by`: the target."""
        # An answer of two targets goes back to neither with what is not plain.
        self._made_by = made_by if beginning is None else ""
        self.first: ChatCompletionChunk | None = None
        self.usage: Usage | None = None
        self.has_content = False
        self.service_tier: str | None = None
        self._choices: dict[int, _ChoiceParts] = {}
        if beginning is not None:
            parts = beginning._choices[0]
            content, reasoning = list(parts.content), list(parts.reasoning)
            self._choices[0] = _ChoiceParts(content=content, reasoning=reasoning, made_by=self._made_by)
        self._beginning = beginning
        self._inherited_bytes = 0 if beginning is None else self._bytes()
        self._withheld_bytes = 0

    def add(self, chunk: ChatCompletionChunk) -> None:
        if self.first is None:
            self.first = chunk
            if self._beginning is not None and self._beginning.first is not None:
                chunk.id = self._beginning.first.id
        elif chunk.id != self.first.id:
            # LiteLLM's proxy gives each chunk an id of its own.
            chunk.id = self.first.id
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.service_tier is not None:
            self.service_tier = chunk.service_tier
        for choice in chunk.choices:
            delta = choice.delta
            parts = self._choices.get(choice.index)
            if parts is None:
                parts = self._choices[choice.index] = _ChoiceParts(made_by=self._made_by)
            texts = len(parts.content)
            if delta.content:
                self.has_content = True
                parts.content.append(delta.content)
            if delta.reasoning:
                self.has_content = True
                parts.reasoning.append(delta.reasoning)
            if choice.finish_reason is not None and not (parts.finish_reason and choice.finish_reason == "stop"):
                # Some servers end each answer with `stop` once more.
                parts.finish_reason = choice.finish_reason
            # Few chunks have more.
            if delta.tool_calls or delta.refusal or choice.logprobs is not None:
                self.has_content = self.has_content or delta.has_content
                _add_rest(parts, choice)
            if delta.__pydantic_extra__:
                parts.kept.append(Kept(delta.__pydantic_extra__, texts, len(parts.content)))

    def withhold(self, size_bytes: int) -> None:
        """Counts a text that was generated, and is no part of the answer, or not yet: then it is taken back here."""
        self._withheld_bytes += size_bytes

    @property
    def is_complete(self) -> bool:
        for parts in self._choices.values():
            if parts.finish_reason is None:
                return False
        return bool(self._choices)

    @property
    def choice_count(self) -> int:
        return len(self._choices)

    @property
    def can_be_continued(self) -> bool:
        """Whether another target could continue it: one choice, nothing but text, and no finish reason yet."""
        parts = self._choices.get(0)
        return (
            parts is not None
            and len(self._choices) == 1
            and bool(parts.content)
            and not (parts.tool_calls or parts.refusal or parts.logprobs or parts.finish_reason)
        )

    @property
    def text(self) -> str:
        parts = self._choices.get(0)
        return "".join(parts.content) if parts is not None else ""

    @property
    def pieces(self) -> int:
        """The number of chunks with text of the first choice."""
        parts = self._choices.get(0)
        return len(parts.content) if parts is not None else 0

    @property
    def answer_bytes(self) -> int:
        """The bytes generated here: text, reasoning and tool calls, without the answer that is continued."""
        return self._bytes() - self._inherited_bytes + self._withheld_bytes

    def _bytes(self) -> int:
        size = 0
        for parts in self._choices.values():
            calls = [text for call in parts.tool_calls.values() for text in (call.name, *call.arguments)]
            for pieces in (parts.content, parts.reasoning, parts.refusal, calls):
                size += sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in pieces)
        return size

    def choices(self) -> list[Choice]:
        return list(starmap(_choice, sorted(self._choices.items())))

    def generated(self) -> list[Choice]:
        """The choices without the answer that is continued."""
        if self._beginning is None:
            return self.choices()
        whole, before = self._choices[0], self._beginning._choices[0]
        content, reasoning = whole.content[len(before.content) :], whole.reasoning[len(before.reasoning) :]
        # Its places count the texts of the whole.
        return [_choice(0, replace(whole, content=content, reasoning=reasoning, kept=[]))]


def _add_rest(parts: _ChoiceParts, choice: ChunkChoice) -> None:
    if choice.delta.refusal:
        parts.refusal.append(choice.delta.refusal)
    for delta in choice.delta.tool_calls or ():
        call = parts.tool_calls.setdefault(delta.index, _ToolCallParts())
        call.id = delta.id or call.id
        if delta.__pydantic_extra__:
            call.kept.append(delta.__pydantic_extra__)
        if delta.function is not None:
            if delta.function.__pydantic_extra__:
                call.function_kept.append(delta.function.__pydantic_extra__)
            call.name = call.name or delta.function.name or ""
            if delta.function.arguments:
                call.arguments.append(delta.function.arguments)
    if choice.logprobs is not None:
        parts.logprobs.extend(choice.logprobs.content or ())
        parts.refusal_logprobs.extend(choice.logprobs.refusal or ())


def _choice(index: int, parts: _ChoiceParts) -> Choice:
    # A tool call without arguments takes none, unless the answer was cut before they came.
    nothing = "" if parts.finish_reason in (None, "length") else "{}"
    calls = [_tool_call(call, nothing) for _, call in sorted(parts.tool_calls.items())] if parts.tool_calls else []
    # An empty answer is an empty text; None only beside a tool call or a refusal.
    no_text = bool(calls or parts.refusal)
    message = {
        "role": "assistant",
        "content": "".join(parts.content) if parts.content or not no_text else None,
        "tool_calls": calls or None,
        "reasoning": "".join(parts.reasoning) or None,
        "refusal": "".join(parts.refusal) or None,
        "parsed": None,
    }
    kept = _kept(parts, message["reasoning"]) if parts.kept else {}
    logprobs = None
    if parts.logprobs or parts.refusal_logprobs:
        logprobs = ChoiceLogprobs(content=parts.logprobs or None, refusal=parts.refusal_logprobs or None)
    values = {
        "index": index,
        "message": unchecked(Message, message, {"_made_by": parts.made_by}, kept),
        "finish_reason": parts.finish_reason,
        "logprobs": logprobs,
    }
    return unchecked(Choice, values)


def _tool_call(call: _ToolCallParts, nothing: str) -> ToolCall:
    kept = merged(call.kept) if call.kept else {}
    function_kept = merged(call.function_kept) if call.function_kept else {}
    values = {"name": call.name or _name_in(kept), "arguments": "".join(call.arguments) or nothing}
    function = unchecked(FunctionCall, values, extra=function_kept)
    return unchecked(ToolCall, {"id": call.id, "type": "function", "function": function}, extra=kept)


def _name_in(kept: Mapping[str, Any]) -> str:
    """The name of a tool of another type, as in OpenAI's `{"type": "custom", "custom": {"name": ...}}`."""
    called = kept.get(kept.get("tool_type", ""))
    name = called.get("name") if isinstance(called, dict) else None
    return name if isinstance(name, str) else ""


def _kept(parts: _ChoiceParts, reasoning: object) -> dict[str, Any]:
    """What the server has put on the message beside our fields."""
    kept = merged([{name: fields[name] for name in fields if name != CONTENT_PARTS} for fields, _, _ in parts.kept])
    content = content_of(parts.kept, parts.content)
    if content is not None:
        kept[CONTENT_PARTS] = content
    for name in REASONING_NAMES:
        # The same text, under the name that the server gave it: held once.
        if isinstance(kept.get(name), str) and kept[name] == reasoning:
            kept[name] = reasoning
    return kept


class Interrupted(NamedTuple):
    target: str
    answer: Accumulator
    bodies: list[bytes | dict[str, Any]]
    first_content_at: float | None
