"""How long to wait before a target is asked again where it does not say so itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenacity.wait import wait_exponential

# The longest wait doubles from the first to the last of these.
_FIRST_S = 0.5
_LAST_S = 8.0


class Backoff:
    """Exponential, with full jitter: at random between nothing and a limit that doubles with each try.

    That spreads callers who failed together best; see "Exponential Backoff And Jitter" in the AWS Architecture Blog.

    Args:
        uniform: Draws a number between two.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform

    @cached_property
    def _limit(self) -> wait_exponential:
        # Imported where somebody waits: it takes a thirtieth of a second.
        from tenacity.wait import wait_exponential

        return wait_exponential(multiplier=_FIRST_S, max=_LAST_S)

    def wait_s(self, tries: int) -> float:
        """Seconds to wait after that many tries."""
        from tenacity import RetryCallState

        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = tries
        return self._uniform(0.0, self._limit(state))
