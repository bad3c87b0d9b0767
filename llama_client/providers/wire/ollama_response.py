"""Ollama's native responses as chunks."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llama_client.providers.base import HttpAnswer, ProviderCall
from llama_client.providers.wire.decoders import NdjsonDecoder, json_value
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.kept_fields import bytes_in, of_message, of_tool_call
from llama_client.providers.wire.openai_response import MAX_TOOL_CALLS, invalid, validated
from llama_client.providers.wire.thinking import TagReader
from llama_client.providers.wire.usage import below, count
from llama_client.types.completion import ChatCompletionChunk

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

_NS = 1e-9
# Of a message.
_READ = frozenset({"role", "content", "thinking", "tool_calls"})


class OllamaReader:
    """A `StreamDecoder` for lines of JSON."""

    def __init__(self, answer: HttpAnswer, call: ProviderCall) -> None:
        self._lines = NdjsonDecoder()
        self._answer = answer
        self._call = call
        self._tool_calls = 0
        # The same in every chunk of an answer.
        self._created: int | None = None
        # Of models whose templates Ollama does not know as thinking.
        self._tags = TagReader()
        self.is_done = self.is_complete = False

    def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
        return self._chunks(self._lines.feed(data))

    def end(self) -> Iterator[ChatCompletionChunk]:
        return self._chunks(self._lines.end())

    def _chunks(self, lines: list[bytes]) -> Iterator[ChatCompletionChunk]:
        for line in lines:
            if self.is_done:
                return
            body = json_value(line, is_object=True)
            self._call.facts.bodies.append(line)
            self.is_done = self.is_complete = body.get("done") is True
            chunk = self.chunk(body)
            self._lines.count(sum(map(bytes_in, chunk.choices)))
            yield chunk

    def chunk(self, body: Mapping[str, Any]) -> ChatCompletionChunk:
        call, answer = self._call, self._answer
        if "error" in body:
            raise error_of(Failure(answer.status, answer.headers, body, answer.received_at))
        message, reason = body.get("message"), body.get("done_reason")
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        are_calls = isinstance(calls, list) and all(isinstance(below(each, "function"), dict) for each in calls)
        if not isinstance(message, dict) or not isinstance(reason, str | None) or not (calls is None or are_calls):
            raise invalid(call, body, "it is not part of an answer")
        if self._tool_calls + len(calls or ()) > MAX_TOOL_CALLS:
            raise invalid(call, body, f"it has more than {MAX_TOOL_CALLS} tool calls")
        done = body.get("done") is True
        content, reasoning = self._said(message, is_last=done)
        delta = {
            "role": "assistant",
            "content": content,
            "reasoning": reasoning,
            "tool_calls": self._tool_call_deltas(calls or []),
            **of_message(message, _READ),
        }
        ended = "length" if reason == "length" else "tool_calls" if self._tool_calls else "stop"
        choice = {
            "index": 0,
            "delta": delta,
            "finish_reason": ended if done else None,
            "logprobs": _logprobs(body.get("logprobs"), call.request),
        }
        if done:
            self._learn(body)
        if self._created is None:
            self._created = _unix_s(body.get("created_at")) or int(answer.received_at)
        values = {
            "id": call.request_id,
            "created": self._created,
            "model": body.get("model") or call.model,
            "choices": [choice],
            "usage": _usage(body) if done else None,
            "target": call.target,
            "provider": call.provider,
            "request_id": call.request_id,
        }
        return validated(values, call, body)

    def _said(self, message: Mapping[str, Any], *, is_last: bool) -> tuple[object, object]:
        """The content and the reasoning."""
        content, reasoning, form = message.get("content"), message.get("thinking"), self._call.request.reasoning_format
        if isinstance(content, str | None) and isinstance(reasoning, str | None) and form != "raw":
            tagged, text = self._tags.read(content or "")
            if is_last:
                rest = self._tags.end()
                tagged, text = tagged + rest.reasoning, text + rest.content
            content, reasoning = None if content is None and not text else text, (reasoning or "") + tagged
        return content, None if form == "hidden" else reasoning or None

    def _tool_call_deltas(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
        deltas = []
        for call in calls:
            name, arguments = call["function"].get("name"), call["function"].get("arguments")
            if not isinstance(arguments, str):
                arguments = json.dumps(arguments or {}, ensure_ascii=False)
            # Calls come whole, sometimes all with index 0 and seldom with an id.
            identity = call.get("id") or f"call_{uuid.uuid4().hex[:24]}"
            function = {"name": name, "arguments": arguments}
            delta = {"index": self._tool_calls, "id": identity, "type": "function", "function": function}
            deltas.append({**of_tool_call(call), **delta})
            self._tool_calls += 1
        return deltas or None

    def _learn(self, body: Mapping[str, Any]) -> None:
        facts = self._call.facts
        facts.total_s, facts.load_s = _seconds(body.get("total_duration")), _seconds(body.get("load_duration"))
        tokens, spent_s = count(body.get("eval_count")), _seconds(body.get("eval_duration"))
        if tokens and spent_s:
            facts.tokens_per_s = tokens / spent_s


def _unix_s(moment: object) -> int | None:
    try:
        at = datetime.fromisoformat(moment) if isinstance(moment, str) else None
    except ValueError:
        return None
    # Go writes a time that it does not know as the first of year 1.
    if at is None or at.year <= 1970:
        return None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _logprobs(tokens: object, request: ChatRequest) -> dict[str, Any] | None:
    if not isinstance(tokens, list) or not tokens:
        return None
    wanted = request.top_logprobs or 0
    return {
        "content": [
            {**token, "top_logprobs": top[:wanted] if isinstance(top := token.get("top_logprobs"), list) else []}
            for token in tokens
            if isinstance(token, dict)
        ]
    }


def _usage(body: Mapping[str, Any]) -> dict[str, Any] | None:
    # Ollama omits counts that are zero or unknown: absent is unknown.
    prompt, answer = count(body.get("prompt_eval_count")), count(body.get("eval_count"))
    if prompt is None and answer is None:
        return None
    total = prompt + answer if prompt is not None and answer is not None else None
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": total}
    cached = count(body.get("prompt_eval_cached_count"))  # part of `prompt_eval_count`, by Ollama 0.34.2
    return usage if cached is None else {**usage, "prompt_tokens_details": {"cached_tokens": cached}}


def _seconds(nanoseconds: object) -> float | None:
    whole = count(nanoseconds)
    return whole * _NS if whole is not None else None
