"""A request over HTTPX that ends in the moment in which its caller stops waiting."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import httpx
import pytest

from llama_client.providers.http.httpx_wire import _within


class Patience:
    """As of a chat, that has time."""

    is_patient: ClassVar[bool] = True

    def wait_s(self) -> float:
        return 60.0

    def stop_by(self, wake: Callable[[], None]) -> None:
        """Nobody stops it."""

    def sending(self) -> None:
        """Nobody asks."""

    async def akeeps_waiting(self) -> bool:
        return True


class Body(httpx.AsyncByteStream):
    """A connection, in effect."""

    is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b""

    async def aclose(self) -> None:
        self.is_closed = True


async def _cancelled_with(result: httpx.Response | Exception) -> list[dict[str, Any]]:
    """Cancels a wait in the moment of its result; what the event loop had to say."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    future: asyncio.Future[httpx.Response] = loop.create_future()
    waits: Any = Patience()
    wait = asyncio.create_task(_within(future, waits))
    await asyncio.sleep(0)
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    del future, wait
    gc.collect()
    await asyncio.sleep(0)
    return complaints


def test_an_error_that_comes_with_a_cancellation_is_not_complained_of() -> None:
    assert asyncio.run(_cancelled_with(OSError("gone"))) == []


def test_an_answer_that_comes_with_a_cancellation_is_closed() -> None:
    body = Body()
    asyncio.run(_cancelled_with(httpx.Response(200, stream=body)))
    assert body.is_closed
