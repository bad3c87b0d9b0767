"""Times one request while its answer comes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llama_client.crossover.bench.levels import Sample

if TYPE_CHECKING:
    from llama_client.errors import LlamaClientError
    from llama_client.types.completion import ChatCompletion

# Some servers count the sign that ends an answer, too.
_ENDING_TOKENS = 1
# Of English text, with the vocabularies of Llama 3 and GPT.
_BYTES_A_TOKEN = 4.0


class Watch:
    """One request's times and tokens.

    Args:
        started: When it was sent, by `time.perf_counter`.
        most_tokens: The length of the answer that was asked for, at most.
    """

    def __init__(self, started: float, most_tokens: int) -> None:
        self._started = started
        self._most_tokens = most_tokens
        self._first: float | None = None
        self._last: float | None = None
        self._pieces = 0
        self._has_reasoning = False

    def piece(self, *, is_reasoning: bool) -> None:
        """A piece with something to show has come."""
        self._last = time.perf_counter()
        self._first = self._last if self._first is None else self._first
        self._pieces += 1
        self._has_reasoning |= is_reasoning

    def answered(self, completion: ChatCompletion) -> Sample:
        """It came to a good end."""
        usage, is_estimated = completion.usage, False
        guessed = completion.attempts[-1].estimated_usage if completion.attempts else None
        if guessed is not None:
            usage, is_estimated = guessed, True
        told, counted = usage.completion_tokens, usage.completion_tokens
        is_overcounted = guessed is None and told is not None and told > self._most_tokens + _ENDING_TOKENS
        if is_overcounted:
            counted, is_estimated = max(round(_bytes(completion) / _BYTES_A_TOKEN), 1), True
        # Thinking that is not shown is over before the first piece.
        hidden = 0 if self._has_reasoning or is_overcounted else usage.reasoning_tokens or 0
        return Sample(
            self._started,
            time.perf_counter(),
            self._first,
            self._last,
            self._pieces,
            usage.prompt_tokens,
            counted,
            hidden,
            is_estimated,
            is_overcounted=is_overcounted,
            queue_s=completion.timing.queue_s,
        )

    def cut(self) -> Sample:
        """The level is over before it is."""
        return Sample(self._started, time.perf_counter(), self._first, self._last, self._pieces, is_cut=True)

    def failed(self, error: LlamaClientError) -> Sample:
        """It came to a bad end."""
        return Sample(self._started, time.perf_counter(), error=type(error).__name__)


def _bytes(completion: ChatCompletion) -> int:
    """Of all that was shown."""
    texts = [text for choice in completion.choices for text in (choice.message.content, choice.message.reasoning)]
    return sum(len(text.encode("utf-8", "replace")) for text in texts if text)
