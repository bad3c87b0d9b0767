"""The event loop that an asynchronous client belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    import asyncio


class EventLoop:
    """The loop that an asynchronous client belongs to: that of its first call."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Refuses a second loop: what a client has opened belongs to the first.

        Raises:
            InvalidRequestError: This is another loop.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise InvalidRequestError(
                "this AsyncLlamaClient belongs to another event loop; make one for each loop (each asyncio.run)"
            )
