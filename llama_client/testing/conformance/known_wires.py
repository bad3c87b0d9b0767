"""How OpenAI-compatible services and Ollama write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llama_client.providers.services import Service
from llama_client.testing.conformance.said import Counts, Refusal, Said
from llama_client.testing.conformance.wires import ALL_FEATURES, Wire


def _usage(counts: Counts) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "total_tokens": counts.prompt + counts.completion,
    }
    if counts.cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": counts.cached}
    if counts.reasoning is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": counts.reasoning}
    return usage


class OpenAIWire(Wire):
    """How OpenAI-compatible services write.

    Args:
        row: The service's row, whose quirks say what it refuses; None: an OpenAI-compatible server without any.

    Attributes:
        reasoning_field: The name of reasoning in a message.
    """

    can = ALL_FEATURES
    reasoning_field: ClassVar[str] = "reasoning"

    def __init__(self, row: Service | None = None) -> None:
        if row is not None:
            quirks = row.quirks
            has_no_n = "n" in quirks.refuses or quirks.only.get("n") == (1,)
            self.can = ALL_FEATURES - {"n"} if has_no_n else ALL_FEATURES

    def whole(self, said: Said) -> bytes:
        """See `Wire.whole`.

        Args:
            said: The answer.
        """
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.whole_arguments}}
            for call in said.calls
        ]
        message: dict[str, Any] = {"role": "assistant", "content": said.text if said.texts else None}
        message |= {self.reasoning_field: "".join(said.reasoning)} if said.reasoning else {}
        message |= {"tool_calls": calls} if calls else {}
        messages = [message, *({"role": "assistant", "content": text} for text in said.more_choices)]
        choices = [
            {"index": index, "message": each, "finish_reason": said.finish_reason}
            for index, each in enumerate(messages)
        ]
        body = self._body("chat.completion", choices)
        return json.dumps(body | ({"usage": _usage(said.counts)} if said.counts else {})).encode()

    def pieces(self, said: Said) -> Sequence[bytes]:
        """See `Wire.pieces`.

        Args:
            said: The answer.
        """
        deltas: list[tuple[int, dict[str, Any]]] = []
        if said.has_preamble:
            deltas.append((0, {"role": "assistant", "content": ""}))
        deltas += [(0, {self.reasoning_field: part}) for part in said.reasoning]
        deltas += [(0, {"content": text}) for text in said.texts]
        deltas += [(index, {"content": text}) for index, text in enumerate(said.more_choices, 1)]
        for number, call, part, is_first in said.call_parts:
            begun = {"id": call.id, "type": "function"} if is_first else {}
            function = {"name": call.name, "arguments": part} if is_first else {"arguments": part}
            deltas.append((0, {"tool_calls": [{"index": number, **begun, "function": function}]}))
        events = [self._event(self._choice(index, delta)) for index, delta in deltas]
        if said.finish_reason is None:
            return events
        events += [
            self._event(self._choice(index, {}, said.finish_reason)) for index in range(1 + len(said.more_choices))
        ]
        if said.counts is not None:
            events.append(self._event([], {"usage": _usage(said.counts)}))
        return [*events, b"data: [DONE]\n\n"]

    def malformed_piece(self) -> bytes:
        """See `Wire.malformed_piece`."""
        return b"data: " + self.malformed + b"\n\n"

    def error_event(self, message: str) -> bytes:
        """See `Wire.error_event`.

        Args:
            message: What the service says.
        """
        return b"data: " + json.dumps({"error": {"message": message, "type": "server_error"}}).encode() + b"\n\n"

    def _event(self, choices: list[dict[str, Any]], more: Mapping[str, Any] | None = None) -> bytes:
        # Not escaped, so that characters can be cut between their bytes.
        body = json.dumps(self._body("chat.completion.chunk", choices) | dict(more or {}), ensure_ascii=False)
        return b"data: " + body.encode() + b"\n\n"

    @staticmethod
    def _choice(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": index, "delta": delta, "finish_reason": finish_reason}]

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": "answer-1", "object": kind, "created": 1, "model": self.model, "choices": choices}


class OllamaWire(Wire):
    """How Ollama's own API writes: lines of JSON, and a call of a tool whole.

    Attributes:
        can: See `Wire`.
        stream_headers: See `Wire`.
    """

    can = frozenset({"streams", "tools", "reasoning", "usage", "length", "errors", "errors in a 200", "error events"})
    stream_headers: Mapping[str, str] = {"content-type": "application/x-ndjson"}

    def whole(self, said: Said) -> bytes:
        """See `Wire.whole`.

        Args:
            said: The answer.
        """
        return self._line(said, said.text, "".join(said.reasoning), is_last=True)

    def pieces(self, said: Said) -> Sequence[bytes]:
        """See `Wire.pieces`.

        Args:
            said: The answer.
        """
        texts = ("", *said.texts) if said.has_preamble else said.texts
        lines = [self._line(said, "", part) for part in said.reasoning]
        lines += [self._line(said, text) for text in texts]
        return lines if said.finish_reason is None else [*lines, self._line(said, "", is_last=True)]

    def malformed_piece(self) -> bytes:
        """See `Wire.malformed_piece`."""
        return self.malformed + b"\n"

    def refusal(self, refusal: Refusal) -> bytes:
        """See `Wire.refusal`.

        Args:
            refusal: The error.
        """
        return json.dumps({"error": refusal.message}).encode()

    def error_event(self, message: str) -> bytes:
        """See `Wire.error_event`.

        Args:
            message: What the service says.
        """
        return json.dumps({"error": message}).encode() + b"\n"

    def _line(self, said: Said, text: str, thinking: str = "", *, is_last: bool = False) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        message |= {"thinking": thinking} if thinking else {}
        line: dict[str, Any] = {"model": self.model, "created_at": "2026-11-23T17:00:00Z", "done": is_last}
        if is_last:
            # Calls come whole.
            calls = [
                {"function": {"name": call.name, "arguments": json.loads(call.whole_arguments)}} for call in said.calls
            ]
            message |= {"tool_calls": calls} if calls else {}
            line["done_reason"] = "length" if said.finish_reason == "length" else "stop"
            counts = said.counts
            line |= {"prompt_eval_count": counts.prompt, "eval_count": counts.completion} if counts else {}
        return json.dumps({**line, "message": message}, ensure_ascii=False).encode() + b"\n"


def wire_of(row: Service) -> Wire:
    """The wire of a service that is OpenAI-compatible, or of Ollama.

    Args:
        row: The service.

    Raises:
        ValueError: The service has a wire of its own.
    """
    if row.name == "ollama":
        return OllamaWire()
    if row.factory is not None or row.name == "gguf":
        raise ValueError(
            f"{row.name} is not OpenAI-compatible, so the suite cannot know how it says things: "
            "give a `Wire` that writes its answers, or an `Engine`"
        )
    return OpenAIWire(row)
