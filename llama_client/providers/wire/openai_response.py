"""Response objects of OpenAI-compatible servers as chunks, with validated counts and measures."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from pydantic import ValidationError

from llama_client.errors import InvalidResponseError
from llama_client.providers.base import HttpAnswer, ProviderCall
from llama_client.providers.wire.failure_facts import BROKEN_REASONS
from llama_client.types.completion import MAX_CHOICES, ChatCompletionChunk, TokenLogprob, TopLogprob
from llama_client.validation import first_problem

# Larger integers may not fit into a float.
_LARGEST = 2**63
# 10^12: more tokens than any prompt or answer has, and sums of smaller counts fit into any database's integers.
LARGEST_COUNT = 10**12


def _is_measure(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def count(value: object) -> int | None:
    """A value as a count; None where it is not one."""
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(whole, int) or isinstance(whole, bool):
        return None
    return whole if 0 <= whole <= LARGEST_COUNT else None


_OPENAI_REASONS = ("stop", "length", "tool_calls", "content_filter", "function_call")
# The finish reasons of servers, as OpenAI's: `eos` is Together's, `model_length` Mistral's.
_FINISH_REASONS = {reason: reason for reason in _OPENAI_REASONS}
_FINISH_REASONS |= dict.fromkeys(("eos", "stop_sequence", "end_turn"), "stop")
_FINISH_REASONS |= dict.fromkeys(("max_tokens", "model_length"), "length")
_SHOWN_REASON_CHARS = 40
_PLAIN_REASONS = frozenset({None, *_OPENAI_REASONS})
_PLAIN_DELTA_KEYS = frozenset({"role", "content", "reasoning", "refusal"})
# Servers use either name; those that send both send the same text.
_REASONING_KEYS = ("reasoning", "reasoning_content")
# A body with any of these non-empty is part of an answer.
ANSWER_KEYS = ("choices", "usage", "x_groq")

# Bodies with these keys need more than a validation. A match inside the text itself only takes the slower path.
_MORE_THAN_TEXT = re.compile(rb'"(?:tool_calls|reasoning_content|error|x_groq|timings|(?:usage|logprobs)"\s*:\s*\{)')

# No model calls more in one answer.
MAX_TOOL_CALLS = 4096
# So many candidates of a token are validated in about a millisecond; pydantic's call holds up every other thread.
_AT_ONCE = 1000

LogprobsOf = Callable[[Mapping[str, Any], ProviderCall], object]


class ChunkReader:
    def __init__(
        self, answer: HttpAnswer, call: ProviderCall, logprobs_of: LogprobsOf, *, gives_up: bool = False
    ) -> None:
        self._call = call
        # Whether long lists of a body are emptied as they are read, so as not to hold them twice.
        self.gives_up = gives_up
        self._logprobs_of = logprobs_of
        self._tool_calls: dict[int, _ToolCallIndexes] = {}
        self._tool_call_count = 0
        # For servers that omit them: the same id and `created` in every chunk of an answer.
        self._defaults = {"id": call.request_id, "created": int(answer.received_at), "model": call.model}
        self._ours = {
            "object": "chat.completion.chunk",
            "target": f"{call.provider}/{call.model}",
            "provider": call.provider,
            "request_id": call.request_id,
        }

    def whole(self, body: Mapping[str, Any], choices: list[Any]) -> ChatCompletionChunk:
        if len(choices) > MAX_CHOICES:
            raise self._too_many(body, choices)
        read = []
        for index, choice in enumerate(choices):
            if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
                raise invalid(self._call, body, f"choices[{index}] has no message")
            if not choice.get("finish_reason"):
                self._call.facts.warn(f"{self._call.target} sent no finish reason; the answer may be incomplete")
            given = {**choice, "delta": choice["message"]}
            for key, value in (("index", index), ("finish_reason", "stop")):
                if given.get(key) is None:
                    given[key] = value
            read.append(self._choice(given))
        return self._validated(body, read)

    def plain_chunk(self, data: bytes) -> ChatCompletionChunk | None:
        """A chunk that is only text, validated from JSON in one step; None: use `chunk`."""
        # Nearly all chunks of a stream are of this kind, so this step decides its speed.
        if _MORE_THAN_TEXT.search(data) is not None:
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
            values["usage"] = usage_of(values)
        return validated(values, self._call, body)

    def _learn(self, values: Mapping[str, Any]) -> None:
        facts = self._call.facts
        if _is_measure(queue_s := below(values, "usage", "queue_time")):  # Groq
            facts.queue_s = queue_s
        if _is_measure(tokens_per_s := below(values, "timings", "predicted_per_second")):  # llama.cpp
            facts.tokens_per_s = tokens_per_s
        identity = below(values, "x_groq", "id")
        if facts.provider_request_id is None and isinstance(identity, str):
            facts.provider_request_id = identity

    def _choice(self, choice: Any) -> Mapping[str, Any]:
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
            and "index" in choice
        ):
            return choice
        index = choice.get("index")
        index = index if isinstance(index, int) else 0
        delta = delta if isinstance(delta, dict) else {}
        reasoning = next((delta[key] for key in _REASONING_KEYS if delta.get(key)), _thinking(delta.get("content")))
        return {
            "index": index,
            "delta": {
                "role": "assistant" if delta.get("role") == "assistant" else None,
                "content": _text(delta.get("content")),
                "reasoning": reasoning,
                "refusal": delta.get("refusal"),
                "tool_calls": self._tool_call_deltas(index, delta.get("tool_calls")),
            },
            "finish_reason": self._finish_reason(reason),
            "logprobs": self._logprobs(choice),
        }

    def _logprobs(self, choice: Mapping[str, Any]) -> object:
        given = self._logprobs_of(choice, self._call)
        if not self.gives_up or not isinstance(given, dict):
            return given
        read = {name: _one_by_one(given.get(name), TokenLogprob, self._call, name) for name in ("content", "refusal")}
        return {**given, **read}

    def _finish_reason(self, reason: str | None) -> str | None:
        if not reason:
            return None
        if reason in BROKEN_REASONS:
            raise BROKEN_REASONS[reason](f"{self._call.target} failed while generating (finish reason {reason!r})")
        known = _FINISH_REASONS.get(reason)
        if known is None:
            shown = reason if len(reason) <= _SHOWN_REASON_CHARS else f"{reason[:_SHOWN_REASON_CHARS]}…"
            self._call.facts.warn(f"{self._call.target} sent the finish reason {shown!r}, read as 'stop'")
        return known or "stop"

    def _tool_call_deltas(self, choice: int, deltas: object) -> list[dict[str, Any]] | None:
        if not isinstance(deltas, list) or not deltas:
            return None
        indexes = self._tool_calls.setdefault(choice, _ToolCallIndexes())
        for delta in deltas:
            if not isinstance(delta, dict) or not isinstance(delta.get("index", 0), int | None):
                raise invalid(self._call, {"tool_calls": deltas}, "a tool call is malformed")
        before = len(indexes)
        if before + len(deltas) <= MAX_TOOL_CALLS:
            read = [indexes.read(delta) for delta in deltas]
            self._tool_call_count += len(indexes) - before
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


class _ToolCallIndexes:
    """Gives each tool call of a choice its own index and id: some servers send index 0 or none with every call."""

    def __init__(self) -> None:
        self._index_of: dict[int | None, int] = {}
        self._index_of_id: dict[str, int] = {}
        self._names: list[object] = []

    def __len__(self) -> int:
        return len(self._names)

    def read(self, delta: dict[str, Any]) -> dict[str, Any]:
        function = delta.get("function")
        function = function if isinstance(function, dict) else {}
        given, identity = delta.get("index"), delta.get("id") or None
        index = self._known(given, identity, function.get("name"))
        read: dict[str, Any] = {"index": index, "type": "function"}
        if index == len(self._names):
            identity = identity if isinstance(identity, str) else f"call_{uuid.uuid4().hex[:24]}"
            self._index_of_id[identity] = index
            self._names.append(function.get("name"))
            read["id"] = identity
        self._index_of[given] = index
        return {**read, "function": {"name": function.get("name"), "arguments": _arguments(function.get("arguments"))}}

    def _known(self, given: int | None, identity: object, name: object) -> int:
        if isinstance(identity, str) and identity in self._index_of_id:
            return self._index_of_id[identity]
        known = self._index_of.get(given)
        if known is None:
            return len(self._names)
        # A call begins with its name. A new call under a known index has a new id; without ids, another name;
        # without indexes, any name.
        begins = bool(name) and (identity is not None or given is None or name != self._names[known])
        return len(self._names) if begins else known


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


def usage_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else below(body, "x_groq", "usage")
    if not isinstance(usage, dict):
        return None
    read: dict[str, Any] = {}
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        value = usage.get(name)
        read[name] = value if type(value) is int and 0 <= value <= LARGEST_COUNT else count(value)
    # Together has `cached_tokens` at the top level, OpenAI in the details.
    for place, name in (("prompt_tokens_details", "cached_tokens"), ("completion_tokens_details", "reasoning_tokens")):
        details = usage.get(place)
        value = count(details.get(name)) if isinstance(details, dict) else None
        if value is None and name == "cached_tokens":
            top = name if name in usage else "prompt_cache_hit_tokens"  # the latter is DeepSeek's
            value = count(usage[top]) if top in usage else None
        if value is not None:
            read[place] = {name: value}
    if list(read.values()) == [None, None, None]:
        return None
    reasoning = read.get("completion_tokens_details", {}).get("reasoning_tokens")
    prompt, answer, total = read["prompt_tokens"], read["completion_tokens"], read["total_tokens"]
    if reasoning and prompt is not None and answer is not None and total == prompt + answer + reasoning:
        # xAI counts reasoning separately; it is billed as part of the answer.
        read["completion_tokens"] = answer + reasoning
    return read


def _text(content: object) -> object:
    """The text, which some servers send as a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content


def _thinking(content: object) -> str | None:
    """The reasoning in a list of parts, as Mistral sends it."""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "".join(str(_text(part.get("thinking")) or "") for part in parts if part.get("type") == "thinking") or None


def _arguments(arguments: object) -> str:
    """The arguments as a JSON string, also where a server sends an object."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)


def below(value: object, *path: str) -> object:
    """The value at a path of nested JSON objects; None: there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
