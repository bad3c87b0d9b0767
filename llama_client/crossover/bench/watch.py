"""Times one request while its answer comes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llama_client.crossover.bench.levels import Sample

if TYPE_CHECKING:
    from llama_client.errors import LlamaClientError
    from llama_client.types.completion import ChatCompletion


class Watch:
    """One request's times and tokens.

    Args:
        started: When it was sent, by `time.perf_counter`.
    """

    def __init__(self, started: float) -> None:
        self._started = started
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
        # Thinking that is not shown is over before the first piece.
        hidden = 0 if self._has_reasoning else usage.reasoning_tokens or 0
        return Sample(
            self._started,
            time.perf_counter(),
            self._first,
            self._last,
            self._pieces,
            usage.prompt_tokens,
            usage.completion_tokens,
            hidden,
            is_estimated,
            queue_s=completion.timing.queue_s,
        )

    def cut(self) -> Sample:
        """The level is over before it is."""
        return Sample(self._started, time.perf_counter(), self._first, self._last, self._pieces, is_cut=True)

    def failed(self, error: LlamaClientError) -> Sample:
        """It came to a bad end."""
        return Sample(self._started, time.perf_counter(), error=type(error).__name__)
