"""How many requests may be in flight: doubled each round trip until a limit or the latency says stop, then AIMD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.errors import LlamaClientError, OverloadedError, RateLimitError

if TYPE_CHECKING:
    from llama_client.types.completion import ChatCompletion

FIRST = 8
MOST = 512
# A round trip this much longer than the shortest one is a queue at the server.
_SLOW = 3.0
_LEAST = 1.0


@dataclass(slots=True, eq=False)
class _Target:
    allowed: float
    in_flight: int = 0
    is_growing_fast: bool = True
    shortest_s: float | None = None
    waits_until: float = 0.0
    # Cut once for all the calls that were in flight when the first of them was refused.
    cut_at: float = -1.0


class AimdLimits:
    """Begins at 8 and doubles each round trip; later it adds one per round trip, and a refusal halves it.

    Args:
        most: The most requests in flight per target.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = MOST if most is None else most
        self._targets: dict[str, _Target] = {}

    def wait_s(self, target: str, now: float) -> float | None:
        state = self._of(target)
        if state.in_flight >= int(state.allowed):
            return None
        return max(state.waits_until - now, 0.0)

    def started(self, target: str, now: float) -> None:
        self._of(target).in_flight += 1

    def ended(self, target: str, now: float, took_s: float, outcome: ChatCompletion | LlamaClientError) -> None:
        state = self._of(target)
        was_full = state.in_flight >= int(state.allowed)
        state.in_flight -= 1
        if isinstance(outcome, RateLimitError | OverloadedError):
            if outcome.retry_after_s is not None:
                state.waits_until = max(state.waits_until, now + outcome.retry_after_s)
            self._cut(state, now, took_s)
            return
        if isinstance(outcome, LlamaClientError):
            return
        state.shortest_s = took_s if state.shortest_s is None else min(state.shortest_s, took_s)
        if took_s > _SLOW * state.shortest_s + 0.05:
            state.is_growing_fast = False
            return
        if was_full:
            grown = 1.0 if state.is_growing_fast else 1.0 / max(state.allowed, 1.0)
            state.allowed = min(state.allowed + grown, float(self._most))

    def _cut(self, state: _Target, now: float, took_s: float) -> None:
        state.is_growing_fast = False
        if now - took_s >= state.cut_at:
            state.cut_at = now
            state.allowed = max(state.allowed / 2, _LEAST)

    def _of(self, target: str) -> _Target:
        state = self._targets.get(target)
        if state is None:
            state = self._targets[target] = _Target(float(min(FIRST, self._most)))
        return state
