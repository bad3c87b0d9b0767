"""How many requests may be in flight: doubled each round trip until refusals or the latency say stop, then AIMD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.errors import LlamaClientError, ProviderError

if TYPE_CHECKING:
    from llama_client.types.completion import Attempt, ChatCompletion

FIRST = 8
MOST = 512
_REFUSED = frozenset({429, 503, 529})
# Fewer are chance, or another user's doing.
_MANY_REFUSED = 0.25
_CUT = 0.7
# An answer that took so much longer than the quickest one waited in a queue at the server.
_SLOW, _SLOW_S = 3.0, 0.05


@dataclass(slots=True, eq=False)
class _Target:
    allowed: float
    in_flight: int = 0
    is_growing_fast: bool = True
    shortest_s: float | None = None
    waits_until: float = 0.0
    # Of the present round trip.
    ended: int = 0
    refused: int = 0
    slow: int = 0
    was_full: bool = False


class AimdLimits:
    """Begins at 8 and doubles each round trip; after the first sign of too many it adds one per round trip.

    Args:
        most: The most requests in flight per target; None: 512.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = MOST if most is None else most
        self._targets: dict[str, _Target] = {}

    def wait_s(self, target: str, now: float) -> float | None:
        state = self._of(target)
        if state.in_flight >= int(state.allowed):
            state.was_full = True
            return None
        return max(state.waits_until - now, 0.0)

    def started(self, target: str, now: float) -> None:
        self._of(target).in_flight += 1

    def abandoned(self, target: str) -> None:
        self._of(target).in_flight -= 1

    def ended(self, target: str, now: float, outcome: ChatCompletion | LlamaClientError) -> None:
        state = self._of(target)
        state.in_flight -= 1
        for attempt in outcome.attempts:
            if attempt.sent:
                self._count(state, attempt)
        if isinstance(outcome, ProviderError) and outcome.retry_after_s is not None:
            state.waits_until = max(state.waits_until, now + outcome.retry_after_s)
        if state.ended >= state.allowed:
            self._adjust(state)

    @staticmethod
    def _count(state: _Target, attempt: Attempt) -> None:
        state.ended += 1
        if attempt.http_status in _REFUSED:
            state.refused += 1
        took_s = attempt.latency_s
        if attempt.outcome == "ok" and took_s is not None:
            state.shortest_s = took_s if state.shortest_s is None else min(state.shortest_s, took_s)
            state.slow += took_s > _SLOW * state.shortest_s + _SLOW_S

    def _adjust(self, state: _Target) -> None:
        """Once for each round trip."""
        if state.refused > _MANY_REFUSED * state.ended:
            state.is_growing_fast = False
            state.allowed = max(state.allowed * _CUT, 1.0)
        elif state.slow > state.ended / 2:
            state.is_growing_fast = False
        elif state.was_full:
            grown = state.allowed * 2 if state.is_growing_fast else state.allowed + 1
            state.allowed = min(grown, float(self._most))
        state.ended = state.refused = state.slow = 0
        state.was_full = False

    def _of(self, target: str) -> _Target:
        state = self._targets.get(target)
        if state is None:
            state = self._targets[target] = _Target(float(min(FIRST, self._most)))
        return state
