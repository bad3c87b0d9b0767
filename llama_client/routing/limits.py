"""What is known of a target's rate limits: from the wait that it asked for, and from its headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_client.routing.sizes import RequestSize

_KINDS = ("requests", "tokens")
# Whoever asks for more (until tomorrow, or for ever) is asked again after that.
_LONGEST_S = 3600.0


class RateLimits:
    """What is left of a target's requests and tokens, and until when it wants to be left alone."""

    __slots__ = ("_left", "_resets_at", "blocked_until")

    def __init__(self) -> None:
        self.blocked_until = 0.0
        self._left: dict[str, float] = {}
        self._resets_at: dict[str, float] = {}

    def block(self, seconds: float, now: float) -> None:
        """The target asked to be left alone for so long."""
        self.blocked_until = max(self.blocked_until, now + min(seconds, _LONGEST_S))

    def unblock(self) -> None:
        """It answers again."""
        self.blocked_until = 0.0

    def blocked_s(self, now: float) -> float:
        """For how much longer it wants to be left alone."""
        return max(self.blocked_until - now, 0.0)

    def note(self, told: Mapping[str, Any], now: float) -> None:
        """Takes in what the headers of an answer say: `AttemptFacts.rate_limit`."""
        for kind in _KINDS:
            limit = told.get(kind) or {}
            left, reset_s = limit.get("remaining"), limit.get("reset_s")
            # Without an end nobody could tell when to come back.
            if left is not None and reset_s is not None:
                self._resets_at[kind] = now + reset_s
                self._left[kind] = left

    def starts(self, size: RequestSize) -> None:
        """A request sets out: until an answer's headers tell more, what it needs is taken off what is left."""
        if "requests" in self._left:
            self._left["requests"] -= 1
        if "tokens" in self._left:
            self._left["tokens"] -= size.reserved_tokens

    def is_low(self, now: float, size: RequestSize) -> bool:
        """Whether the request would be refused, as far as the headers told."""
        return self._lacks("requests", 1.0, now) or (
            "tokens" in self._left and self._lacks("tokens", size.reserved_tokens, now)
        )

    def left(self, kind: str, now: float) -> int | None:
        """What is left of the requests or tokens; None: unknown, or the limit has begun anew."""
        if kind not in self._left or self._resets_at[kind] <= now:
            return None
        return max(int(self._left[kind]), 0)

    def _lacks(self, kind: str, needed: float, now: float) -> bool:
        return kind in self._left and self._left[kind] < needed and self._resets_at[kind] > now
