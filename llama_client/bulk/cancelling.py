"""Steps that block, for coroutines that may be cancelled meanwhile: what such a step opens is closed all the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from llama_client.bulk.rows import Row

T = TypeVar("T")
# A step looks at each row; an iterable of the user's may take long for one.
_LEAVING_S = 5.0


class LeftError(Exception):
    """Nothing waits for the step any more."""


def until_left(rows: Iterable[Row], is_left: Callable[[], bool]) -> Iterator[Row]:
    """The rows. Raises `LeftError` once nothing waits for them."""
    for row in rows:
        if is_left():
            raise LeftError
        yield row


def never() -> bool:
    return False


async def opened(step: Callable[[Callable[[], bool]], T], close: Callable[[T], object]) -> T:
    """What a step gives, in a thread. Where this is cancelled, the step ends soon, and what it has opened is closed.

    Args:
        step: Gets what says whether it was left.
        close: Closes what it gives; it blocks.
    """
    is_left, lock = threading.Event(), threading.Lock()

    def take() -> T:
        made = step(is_left.is_set)
        with lock:
            if not is_left.is_set():
                return made
        close(made)
        raise LeftError

    running = asyncio.create_task(asyncio.to_thread(take))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with lock:
            is_left.set()
        running.add_done_callback(_seen)
        await asyncio.wait([running], timeout=_LEAVING_S)
        if running.done() and running.exception() is None:
            # It had ended before.
            await finished(close, running.result())
        raise


async def finished(function: Callable[..., T], *arguments: object) -> T:
    """What a function gives in a thread, to whose end it waits where it is cancelled; again, it does not."""
    running = asyncio.create_task(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        running.add_done_callback(_seen)
        await asyncio.wait([running])
        raise


def _seen(task: asyncio.Task[object]) -> None:
    if not task.cancelled():
        task.exception()
