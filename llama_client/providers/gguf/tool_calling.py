"""Tool calls as the caller demands them: what the engine is asked for, and what of its answer is a call. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llama_client.errors import GenerationFailedError
from llama_client.providers.base import ProviderCall
from llama_client.types.completion import ChatCompletionChunk, ChunkChoice, ToolCallDelta
from llama_client.types.request import ChatRequest, NamedToolChoice

# Words of llama.cpp's error where an answer is not of the form that the template has for answers.
UNPARSED = "does not match the expected"


def demands_a_call(request: ChatRequest) -> bool:
    return request.tool_choice == "required" or isinstance(request.tool_choice, NamedToolChoice)


def demand(body: dict[str, Any], request: ChatRequest) -> None:
    """Asks for a named tool: llama.cpp takes no names, so this one is sent alone, and a call is required."""
    choice = request.tool_choice
    if isinstance(choice, NamedToolChoice):
        body["tools"] = [tool for tool in body["tools"] if tool["function"]["name"] == choice.function.name]
        body["tool_choice"] = "required"


@dataclass(slots=True)
class _Call:
    """A call whose arguments are not complete yet."""

    deltas: list[ToolCallDelta] = field(default_factory=list)
    depth: int = 0
    in_text: bool = False
    is_escaped: bool = False
    is_complete: bool = False

    def add(self, delta: ToolCallDelta) -> None:
        self.deltas.append(delta)
        for letter in (delta.function.arguments if delta.function else None) or "":
            if self.is_escaped:
                self.is_escaped = False
            elif self.in_text:
                self.is_escaped, self.in_text = letter == "\\", letter != '"'
            elif letter == '"':
                self.in_text = True
            elif letter in "{[":
                self.depth += 1
            elif letter in "}]":
                self.depth -= 1
                self.is_complete = self.is_complete or self.depth == 0

    @property
    def text(self) -> str:
        functions = [delta.function for delta in self.deltas if delta.function is not None]
        return "".join((function.name or "") + (function.arguments or "") for function in functions)


@dataclass(slots=True)
class _Answer:
    """What of one choice was passed on, and what is held."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    held: dict[int, _Call] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)


class ToolCalling:
    """The calls of one request's answers. A call is passed on when its arguments are complete.

    llama.cpp tells parts of what begins like a call, and only at its end that it was none.
    """

    def __init__(self, call: ProviderCall) -> None:
        self._call = call
        self._demands = demands_a_call(call.request)
        # Whether the reader has any part of an answer.
        self.has_passed_on = False
        self._answers: dict[int, _Answer] = {}

    @property
    def is_holding(self) -> bool:
        return any(answer.held for answer in self._answers.values())

    @property
    def passed_on(self) -> str:
        """The texts of the current group."""
        return "".join(part for answer in self._answers.values() for part in answer.content)

    def begin_group(self) -> None:
        self._answers.clear()

    def take(self, chunk: ChatCompletionChunk, written: str | None = None) -> bool:
        """Takes what is held out of a chunk, and adds what is complete; returns whether anything is left in it.

        `written`: all that the model wrote, where an answer was cut off.

        Raises:
            GenerationFailedError: The answer has ended without the call that was demanded.
        """
        for choice in chunk.choices:
            answer, delta = self._answer(choice.index), choice.delta
            if delta.content:
                answer.content.append(delta.content)
            if delta.reasoning:
                answer.reasoning.append(delta.reasoning)
            if delta.tool_calls:
                delta.tool_calls = self._complete(answer, delta.tool_calls) or None
            if choice.finish_reason is not None:
                self._end(answer, choice, written)
        has_content = chunk.has_content
        self.has_passed_on = self.has_passed_on or has_content
        return has_content or any(choice.delta.role or choice.finish_reason for choice in chunk.choices)

    def as_answer(self, text: str, finish_reason: str) -> dict[str, Any]:
        """A choice of a chunk with the rest of a text in which the engine found no answer of the expected form."""
        answer = self._answer(0)
        if answer.complete:
            self._call.facts.warn(
                "what the model wrote after its tool calls is not of the expected form; it is left out"
            )
            return {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
        answer.dropped.update(answer.held)
        answer.held.clear()
        rest = _rest(text, "".join(answer.reasoning), "".join(answer.content))
        return {"index": 0, "delta": {"content": rest}, "finish_reason": finish_reason}

    def _answer(self, index: int) -> _Answer:
        answer = self._answers.get(index)
        if answer is None:
            answer = self._answers[index] = _Answer()
        return answer

    def _complete(self, answer: _Answer, deltas: list[ToolCallDelta]) -> list[ToolCallDelta]:
        complete = []
        for delta in deltas:
            if delta.index in answer.dropped:
                continue
            if delta.index in answer.complete:
                complete.append(delta)
                continue
            if self._call.request.parallel_tool_calls is False and (
                answer.complete or answer.held.keys() - {delta.index}
            ):
                answer.dropped.add(delta.index)
                self._call.facts.warn(
                    "the model called more than one tool; with parallel_tool_calls=False the first counts"
                )
                continue
            held = answer.held.setdefault(delta.index, _Call())
            held.add(delta)
            if held.is_complete:
                complete += answer.held.pop(delta.index).deltas
                answer.complete.add(delta.index)
        return complete

    def _end(self, answer: _Answer, choice: ChunkChoice, written: str | None) -> None:
        if written is not None and not (answer.held or answer.complete or answer.reasoning):
            rest = _rest(written, "", "".join(answer.content))
            choice.delta.content = (choice.delta.content or "") + rest
            answer.content.append(rest)
        if self._demands and not answer.complete:
            self._miss(answer, choice.finish_reason)
        # Cut off, which the finish reason tells.
        cut = [delta for held in answer.held.values() for delta in held.deltas]
        answer.held.clear()
        if cut:
            choice.delta.tool_calls = [*(choice.delta.tool_calls or ()), *cut]

    def _miss(self, answer: _Answer, finish_reason: str | None) -> None:
        """The answer has no complete call though one was demanded: told beside what was shown, else instead of it."""
        request = self._call.request
        limit = f" within max_tokens={request.max_tokens}" if finish_reason == "length" and request.max_tokens else ""
        what = f"tool_choice demands a call, and the model completed none{limit} (finish reason {finish_reason!r})"
        if request.stream and self.has_passed_on:
            self._call.facts.warn(what)
            return
        text = "".join([*answer.content, *(held.text for held in answer.held.values())])
        # The next try would most likely end there too.
        raise GenerationFailedError(what, failed_generation=text, target=self._call.target, retryable=False)


def _rest(text: str, reasoning: str, content: str) -> str:
    """What of a text follows the parts of it that were passed on."""
    start = 0
    for part in (reasoning.strip(), content.strip()):
        if part and (found := text.find(part, start)) >= 0:
            start = found + len(part)
    if content:
        # A text that was passed on may have had blanks at its end.
        blanks = len(content) - len(content.rstrip())
        return text[start:].removeprefix(content[len(content) - blanks :]) if blanks else text[start:]
    return text[start:].lstrip() if reasoning else text
