"""How OpenAI-compatible services and Ollama write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llama_client.providers.services import Service
from llama_client.testing.conformance.said import Counts, Refusal, Said
from llama_client.testing.conformance.wires import ALL_FEATURES, Wire
from llama_client.testing.wire_format import NDJSON, OllamaFormat, OpenAIFormat, as_bytes


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
        form = self._format
        calls = [form.call(call.id, call.name, call.whole_arguments) for call in said.calls]
        message: dict[str, Any] = {"role": "assistant", "content": said.text if said.texts else None}
        message |= {self.reasoning_field: "".join(said.reasoning)} if said.reasoning else {}
        message |= {"tool_calls": calls} if calls else {}
        messages = [message, *({"role": "assistant", "content": text} for text in said.more_choices)]
        choices = [form.choice(index, each, said.finish_reason) for index, each in enumerate(messages)]
        return as_bytes(form.body(choices, _usage(said.counts)))

    def pieces(self, said: Said) -> Sequence[bytes]:
        """See `Wire.pieces`.

        Args:
            said: The answer.
        """
        form = self._format
        chunks = [form.chunk(0, {"role": "assistant", "content": ""})] if said.has_preamble else []
        chunks += [form.chunk(0, {self.reasoning_field: part}) for part in said.reasoning]
        chunks += [form.chunk(0, {"content": text}) for text in said.texts]
        chunks += [form.chunk(index, {"content": text}) for index, text in enumerate(said.more_choices, 1)]
        for number, call, part, is_first in said.call_parts:
            begun = {"identity": call.id, "name": call.name} if is_first else {}
            chunks.append(form.call_chunk(number, part, **begun))
        if said.finish_reason is None:
            return [form.event(chunk) for chunk in chunks]
        chunks += [form.chunk(index, {}, said.finish_reason) for index in range(1 + len(said.more_choices))]
        usage = _usage(said.counts)
        chunks += [] if usage is None else [form.counts(usage)]
        return [*map(form.event, chunks), form.done]

    def malformed_piece(self) -> bytes:
        """See `Wire.malformed_piece`."""
        return self._format.frame(self.malformed)

    def error_event(self, message: str) -> bytes:
        """See `Wire.error_event`.

        Args:
            message: What the service says.
        """
        return self._format.event(self._format.error(message))

    @property
    def _format(self) -> OpenAIFormat:
        return OpenAIFormat(self.model, "answer-1")


def _usage(counts: Counts | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    return OpenAIFormat.usage(counts.prompt, counts.completion, counts.cached, counts.reasoning)


class OllamaWire(Wire):
    """How Ollama's own API writes: lines of JSON, and a call of a tool whole.

    Attributes:
        can: See `Wire`.
        stream_headers: See `Wire`.
    """

    can = frozenset({"streams", "tools", "reasoning", "usage", "length", "errors", "errors in a 200", "error events"})
    stream_headers: Mapping[str, str] = NDJSON

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
        return self._format.frame(self.malformed)

    def refusal(self, refusal: Refusal) -> bytes:
        """See `Wire.refusal`.

        Args:
            refusal: The error.
        """
        return as_bytes(self._format.error(refusal.message))

    def error_event(self, message: str) -> bytes:
        """See `Wire.error_event`.

        Args:
            message: What the service says.
        """
        return self._format.event(self._format.error(message))

    def _line(self, said: Said, text: str, thinking: str = "", *, is_last: bool = False) -> bytes:
        form = self._format
        if not is_last:
            return form.event(form.line(text, thinking=thinking or None))
        # Calls come whole.
        calls = [form.call(call.name, call.whole_arguments) for call in said.calls]
        counts = () if said.counts is None else (said.counts.prompt, said.counts.completion)
        line = form.line(text, thinking=thinking or None, calls=calls)
        return form.event(line | form.end(said.finish_reason, *counts))

    @property
    def _format(self) -> OllamaFormat:
        return OllamaFormat(self.model)


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
