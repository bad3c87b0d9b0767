"""Response objects of OpenAI-compatible servers as chunks, with validated counts and measures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from pydantic import ValidationError

from llama_client.errors import InvalidResponseError
from llama_client.providers.base import HttpAnswer, ProviderCall
from llama_client.providers.wire.failure_facts import BROKEN_REASONS
from llama_client.providers.wire.kept_fields import of_message
from llama_client.providers.wire.sources import BODY_KEYS, MESSAGE_KEYS, Sources
from llama_client.providers.wire.thinking import BEGINS_WITH_TAG, Reasoning, TagReader, is_thought, reasoning_in
from llama_client.providers.wire.tool_calls import ToolCalls
from llama_client.providers.wire.usage import below, charge_in, later, usage_of
from llama_client.types.completion import (
    FINISH_REASONS,
    MAX_CHOICES,
    ChatCompletionChunk,
    TokenLogprob,
    TopLogprob,
)
from llama_client.types.request import Tool
from llama_client.validation import first_problem

# Larger integers may not fit into a float.
_LARGEST = 2**63


def _is_measure(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LARGEST


# The finish reasons of servers, as OpenAI's: `eos` is Together's, `model_length` Mistral's.
_FINISH_REASONS = {reason: reason for reason in FINISH_REASONS}
_FINISH_REASONS |= dict.fromkeys(("eos", "eos_token", "stop_sequence", "end_turn", "completed", "done"), "stop")
_FINISH_REASONS |= dict.fromkeys(("max_tokens", "model_length", "max_output_tokens", "max_length"), "length")
_FINISH_REASONS |= dict.fromkeys(("tool_use", "tool_call"), "tool_calls")
_FINISH_REASONS |= dict.fromkeys(("safety", "recitation", "prohibited_content", "blocklist"), "content_filter")
_SHOWN_REASON_CHARS = 40
_PLAIN_REASONS = frozenset({None, *FINISH_REASONS})
_PLAIN_DELTA_KEYS = frozenset({"role", "content", "reasoning", "refusal"})
# A body with any of these non-empty is part of an answer.
ANSWER_KEYS = ("choices", "usage", "x_groq")

# Bodies with these keys need more than a validation. A match inside the text itself only takes the slower path.
_MORE = (
    rb'"(?:tool_calls|reasoning_(?:content|details)|thinking|error|x_groq|timings|message|citations|search_results|'
    rb'annotations|executed_tools|extra_content|(?:usage|logprobs)"\s*:\s*\{|'
    rb'finish_reason"\s*:\s*"(?!(?:stop|length|tool_calls|content_filter|function_call)")%b)'
)
_MORE_THAN_TEXT = re.compile(_MORE % b"")
_MORE_THAN_CONTENT = re.compile(_MORE % rb'|reasoning"\s*:\s*"')

# No model calls more in one answer.
MAX_TOOL_CALLS = 4096
# So many candidates of a token are validated in about a millisecond; pydantic's call holds up every other thread.
_AT_ONCE = 1000

LogprobsOf = Callable[[Mapping[str, Any], ProviderCall], object]


class ChunkReader:
    def __init__(
        self,
        answer: HttpAnswer,
        call: ProviderCall,
        logprobs_of: LogprobsOf,
        *,
        gives_up: bool = False,
        choices: int | None = None,
    ) -> None:
        """`choices`: how many are expected; by default as many as the request asks for."""
        self._call = call
        self._expected = choices or call.request.n or 1
        # Whether long lists of a body are emptied as they are read, so as not to hold them twice.
        self.gives_up = gives_up
        self._logprobs_of = logprobs_of
        self._tool_calls: dict[int, ToolCalls] = {}
        self._tool_call_count = 0
        self._tags: dict[int, TagReader] = {}
        # Of each choice: servers tell the same reasoning in several places, perhaps in turns.
        self._reasoning: dict[int, Reasoning] = {}
        self._more = _MORE_THAN_CONTENT
        # Whether a text that comes may be reasoning in tags: not where the caller asked for the model's raw text.
        self._may_be_tagged = call.request.reasoning_format != "raw"
        self._usage: dict[str, Any] | None = None
        self._sources: Sources | None = None
        # For servers that omit them: the same id and `created` in every chunk of an answer.
        self._defaults = {"id": call.request_id, "created": int(answer.received_at), "model": call.model}
        self._ours = {
            "object": "chat.completion.chunk",
            "target": f"{call.provider}/{call.model}",
            "provider": call.provider,
            "request_id": call.request_id,
        }

    @property
    def has_usage(self) -> bool:
        return self._usage is not None

    def calls_tools(self, choice: int) -> bool:
        return choice in self._tool_calls

    def whole(self, body: Mapping[str, Any], choices: list[Any]) -> ChatCompletionChunk:
        if len(choices) > MAX_CHOICES:
            raise self._too_many(body, choices)
        read = []
        for index, choice in enumerate(choices):
            message = choice.get("message") if isinstance(choice, dict) else None
            if message is None and isinstance(choice, dict):
                message = choice.get("delta")
            if not isinstance(message, dict):
                raise invalid(self._call, body, f"choices[{index}] has no message")
            if not choice.get("finish_reason"):
                self._call.facts.warn(f"{self._call.target} sent no finish reason; the answer may be incomplete")
            given = {**choice, "delta": message}
            for key, value in (("index", index), ("finish_reason", "stop")):
                if given.get(key) in (None, ""):
                    given[key] = value
            read.append(self._choice(given, is_whole=True))
        return self._validated(body, read)

    def plain_chunk(self, data: bytes) -> ChatCompletionChunk | None:
        """A chunk that is only text, validated from JSON in one step; None: use `chunk`."""
        # Nearly all chunks of a stream are of this kind, so this step decides its speed.
        if self._may_be_tagged or self._more.search(data) is not None:
            return None
        try:
            chunk: ChatCompletionChunk = ChatCompletionChunk.__pydantic_validator__.validate_json(data)
        except ValidationError:
            return None
        if not chunk.choices:
            return None
        # Not by setting attributes, which takes pydantic longer than all the rest.
        vars(chunk).update(self._ours)
        return chunk

    def chunk(self, body: Mapping[str, Any]) -> ChatCompletionChunk:
        choices = body.get("choices") or []
        if not isinstance(choices, list):
            raise invalid(self._call, body, "choices is not a list")
        if len(choices) > MAX_CHOICES:
            raise self._too_many(body, choices)
        return self._validated(body, [self._choice(choice) for choice in choices])

    def _too_many(self, body: Mapping[str, Any], choices: list[Any]) -> InvalidResponseError:
        return invalid(self._call, body, f"it has {len(choices)} choices, more than {MAX_CHOICES}")

    def _validated(self, body: Mapping[str, Any], choices: list[Mapping[str, Any]]) -> ChatCompletionChunk:
        values = {**body, **self._ours, "choices": choices}
        for name, value in self._defaults.items():
            if type(values.get(name)) is not type(value) or not values[name]:
                values[name] = value
        usage = values.get("usage")
        has_more = "x_groq" in values or "timings" in values
        if has_more or (isinstance(usage, dict) and "queue_time" in usage):
            self._learn(values)
        if has_more or usage is not None:
            values["usage"] = self._counted(values)
        if not BODY_KEYS.isdisjoint(values):
            self._add_sources(values, None)
        return validated(values, self._call, body)

    def _add_sources(self, said: Mapping[str, Any], choice: int | None) -> None:
        if self._sources is None:
            self._sources = Sources(self._call.facts.sources)
        self._sources.add(said, choice)

    def _counted(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        usage, facts = usage_of(values), self._call.facts
        if usage is None:
            return None
        charge = charge_in(values)
        if charge is not None and (charge.usd or facts.charge is None):
            facts.charge = charge
        elif charge is None and self._usage is not None and usage != self._usage:
            # It was that of fewer tokens.
            facts.charge = None
        self._usage = usage if self._usage is None else later(self._usage, usage)
        return self._usage

    def _learn(self, values: Mapping[str, Any]) -> None:
        facts = self._call.facts
        if _is_measure(queue_s := below(values, "usage", "queue_time")):  # Groq
            facts.queue_s = queue_s
        if _is_measure(tokens_per_s := below(values, "timings", "predicted_per_second")):  # llama.cpp
            facts.tokens_per_s = tokens_per_s
        identity = below(values, "x_groq", "id")
        if facts.provider_request_id is None and isinstance(identity, str):
            facts.provider_request_id = identity

    def _choice(self, choice: Any, *, is_whole: bool = False) -> Mapping[str, Any]:
        if not isinstance(choice, dict):
            raise invalid(self._call, {"choices": [choice]}, "a choice is not an object")
        delta, reason = choice.get("delta"), choice.get("finish_reason")
        if reason is not None and not isinstance(reason, str):
            raise invalid(self._call, {"choices": [choice]}, "a finish reason is not text")
        if (
            type(delta) is dict
            and delta.keys() <= _PLAIN_DELTA_KEYS
            and delta.get("role", "assistant") == "assistant"
            and type(delta.get("content", "")) is str
            and reason in _PLAIN_REASONS
            and choice.get("logprobs") is None
            and type(choice.get("index")) is int
            and (is_whole or self._more is _MORE_THAN_TEXT or not delta.get("reasoning"))
            and (not self._may_be_tagged or (is_whole and BEGINS_WITH_TAG.match(delta.get("content", "")) is None))
        ):
            return choice
        index = choice.get("index")
        index = index if isinstance(index, int) else 0
        delta = delta if isinstance(delta, dict) else {}
        if not MESSAGE_KEYS.isdisjoint(delta) and any(map(delta.get, MESSAGE_KEYS)):
            self._add_sources(delta, index)
        reason = self._finish_reason(reason)
        content, reasoning = self._said(index, delta, is_last=reason is not None, is_whole=is_whole)
        calls = self._tool_call_deltas(index, delta.get("tool_calls"), is_whole=is_whole)
        if reason is not None and index in self._tool_calls:
            calls += self._tool_calls[index].rest()
        return {
            "index": index,
            "delta": {
                "role": "assistant" if delta.get("role") == "assistant" else None,
                "content": content,
                "reasoning": reasoning,
                "refusal": delta.get("refusal"),
                "tool_calls": calls or None,
                **of_message(delta),
            },
            "finish_reason": reason,
            "logprobs": self._logprobs(choice),
        }

    def _said(
        self, index: int, delta: Mapping[str, Any], *, is_last: bool, is_whole: bool
    ) -> tuple[object, str | None]:
        """The content and the reasoning of a part of a choice."""
        content, (place, reasoning) = _text(delta.get("content")), reasoning_in(delta)
        if reasoning is not None:
            if index not in self._reasoning:
                self._reasoning[index] = Reasoning()
            reasoning = self._reasoning[index].new(place, reasoning)
            if place == "reasoning" and self._reasoning[index].is_only(place):
                self._more = _MORE_THAN_TEXT
        if is_thought(delta) and isinstance(content, str):
            return None, (reasoning or "") + content or None
        if not self._may_be_tagged or not isinstance(content, str | None):
            return content, reasoning
        if is_whole and BEGINS_WITH_TAG.match(content or "") is None:
            return content, reasoning
        tags = self._tags.get(index)
        if tags is None:
            tags = self._tags[index] = TagReader()
        # A server that tells the reasoning itself leaves no tags in the text.
        tags.is_settled = tags.is_settled or reasoning is not None
        tagged, text = tags.read(content or "")
        if is_last:
            rest = tags.end()
            tagged, text = tagged + rest.reasoning, text + rest.content
        if self._call.request.reasoning_format == "hidden":
            tagged = ""
        if tags.is_settled:
            self._may_be_tagged = len(self._tags) < self._expected or not all(
                each.is_settled for each in self._tags.values()
            )
        return (None if content is None and not text else text), (reasoning or "") + tagged or None

    def _logprobs(self, choice: Mapping[str, Any]) -> object:
        given = self._logprobs_of(choice, self._call)
        if not self.gives_up or not isinstance(given, dict):
            return given
        read = {name: _one_by_one(given.get(name), TokenLogprob, self._call, name) for name in ("content", "refusal")}
        return {**given, **read}

    def _finish_reason(self, reason: str | None) -> str | None:
        if not reason:
            return None
        # Some servers write in capitals, or tell more behind a colon.
        word = reason.partition(":")[0].strip().lower()
        known = _FINISH_REASONS.get(word)
        if known is not None:
            return known
        shown = reason if len(reason) <= _SHOWN_REASON_CHARS else f"{reason[:_SHOWN_REASON_CHARS]}…"
        if word in BROKEN_REASONS:
            raise BROKEN_REASONS[word](f"{self._call.target} failed while generating (finish reason {shown!r})")
        self._call.facts.warn(f"{self._call.target} sent the finish reason {shown!r}, which is not known")
        return shown

    def _tool_call_deltas(self, choice: int, deltas: object, *, is_whole: bool) -> list[dict[str, Any]]:
        if not isinstance(deltas, list) or not deltas:
            return []
        calls = self._tool_calls.get(choice)
        if calls is None:
            tools = self._call.request.tools or ()
            names = [tool.function.name for tool in tools if isinstance(tool, Tool)]
            calls = self._tool_calls[choice] = ToolCalls(names)
        for delta in deltas:
            if not isinstance(delta, dict) or not isinstance(delta.get("index", 0), int | None):
                raise invalid(self._call, {"tool_calls": deltas}, "a tool call is malformed")
        before = len(calls)
        if before + len(deltas) <= MAX_TOOL_CALLS:
            read = [calls.read(delta, is_whole=is_whole) for delta in deltas]
            self._tool_call_count += len(calls) - before
            if self._tool_call_count <= MAX_TOOL_CALLS:
                return read
        raise invalid(self._call, {"tool_calls": deltas[:1]}, f"it has more than {MAX_TOOL_CALLS} tool calls")


def validated(values: dict[str, Any], call: ProviderCall, body: Mapping[str, Any]) -> ChatCompletionChunk:
    try:
        chunk: ChatCompletionChunk = ChatCompletionChunk.__pydantic_validator__.validate_python(values)
        return chunk
    except ValidationError as error:
        raise invalid(call, body, first_problem(error, show_values=False).sentence) from None


def invalid(call: ProviderCall, body: Mapping[str, Any], why: str) -> InvalidResponseError:
    target = call.target
    return InvalidResponseError(f"{target} sent an invalid response ({why})", target=target, body=dict(body))


def _one_by_one(tokens: object, kind: type[TopLogprob], call: ProviderCall, place: str) -> object:
    """Log probabilities, each validated by a call of its own and then given up."""
    if not isinstance(tokens, list):
        return tokens
    validate = kind.__pydantic_validator__.validate_python
    read: list[TopLogprob] = []
    for index, token in enumerate(tokens):
        tokens[index] = None
        if isinstance(token, dict):
            tops = token.get("top_logprobs")
            if isinstance(tops, list) and len(tops) > _AT_ONCE:
                token["top_logprobs"] = _one_by_one(tops, TopLogprob, call, f"{place}[{index}].top_logprobs")
        try:
            read.append(validate(token))
        except ValidationError as error:
            why = first_problem(error, show_values=False).sentence
            raise invalid(call, {}, f"logprobs.{place}[{index}]: {why}") from None
    return read


def _text(content: object) -> object:
    """The text, which some servers send as a list of parts."""
    return "".join(map(_text_of, content)) if isinstance(content, list) else content


def _text_of(part: object) -> str:
    if isinstance(part, dict):
        kind = part.get("type")
        if not isinstance(kind, str | None) or (kind is not None and "text" not in kind):
            return ""
        part = part.get("text")
        if isinstance(part, dict):
            part = part.get("value")
    return part if isinstance(part, str) else ""
