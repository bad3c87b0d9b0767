"""Injectable time: clocks, deadlines, and the event loop that an async client belongs to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from llama_client.errors import APITimeoutError, InvalidRequestError

if TYPE_CHECKING:
    import asyncio


async def _asleep(seconds: float) -> None:
    # asyncio takes 50 ms to import, and is loaded already where a loop runs.
    import asyncio

    await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Clock:
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep
    asleep: Callable[[float], Awaitable[object]] = _asleep

    def today(self) -> date:
        return datetime.fromtimestamp(self.wall(), tz=UTC).date()


# An attempt with this share of the call's time or more is said to have had all of it.
_WHOLE = 0.95


@dataclass(slots=True)
class Deadline:
    """A timeout that starts now, and may be restarted.

    `whole_s` is the call's whole time, of which this is a part.
    """

    timeout_s: float | None
    clock: Clock
    whole_s: float | None = None
    # The time of the monotonic clock; None: no limit.
    at: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.at = None if self.timeout_s is None else self.clock.monotonic() + self.timeout_s

    def restart(self, timeout_s: float | None) -> None:
        self.timeout_s, self.whole_s = timeout_s, None
        self.__post_init__()

    def left_s(self) -> float | None:
        """The remaining seconds, negative after it; None: no limit."""
        return None if self.at is None else self.at - self.clock.monotonic()

    def remaining_s(self) -> float | None:
        """The remaining seconds, above 0; None: no limit. Raises `passed()` after it."""
        left = self.left_s()
        if left is not None and left <= 0:
            raise self.passed()
        return left

    def passed(self) -> APITimeoutError:
        return APITimeoutError(f"no answer within {self.told}")

    @property
    def told(self) -> str:
        # A share of a deadline that has passed already is negative.
        timeout_s, whole_s = max(self.timeout_s or 0.0, 0.0), self.whole_s
        if whole_s is None:
            return f"{timeout_s:.3g} s"
        is_whole = timeout_s >= whole_s * _WHOLE
        return f"{whole_s:.3g} s" if is_whole else f"{timeout_s:.3g} s of the call's {whole_s:.3g} s"


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop of asyncio; refuses any other."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise InvalidRequestError(
            "AsyncLlamaClient needs an event loop of asyncio (or uvloop), and none runs here: under trio or curio call "
            "LlamaClient in a thread, as by trio.to_thread.run_sync"
        ) from None


class EventLoop:
    """The event loop of an async client: that of its first call."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Refuses a second loop, since open connections belong to the first."""
        loop = running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise InvalidRequestError(
                "this AsyncLlamaClient belongs to another event loop; create one for each loop (each asyncio.run)"
            )
