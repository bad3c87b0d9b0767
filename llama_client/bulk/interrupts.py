"""Whether the user pressed Ctrl-C: an event loop tells a task only that it is cancelled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """How often Ctrl-C came.

    Attributes:
        count: Since it is watched.
    """

    count: int = 0


@contextmanager
def watched_interrupts() -> Iterator[Interrupts]:
    """Counts Ctrl-C within the block, beside what happens at it anyhow. In other threads than the main one: never."""
    seen = Interrupts()
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield seen
        return

    def notice(number: int, frame: FrameType | None) -> None:
        seen.count += 1
        handler(number, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield seen
    finally:
        # Unless another one was set within the block.
        if signal.getsignal(signal.SIGINT) is notice:
            signal.signal(signal.SIGINT, handler)
