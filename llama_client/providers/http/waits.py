"""What a wire asks while it waits: how long it may, and whether to wait on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from llama_client.providers.http.http1 import ConnectionLostError


class _Limits(Protocol):
    @property
    def is_patient(self) -> bool:
        """Whether the answer to `keeps_waiting` may be yes."""

    @property
    def needs_new_connection(self) -> bool:
        """Whether the request must not go over a connection that was used before."""

    def sends_again(self, error: ConnectionLostError) -> bool:
        """Whether a request is sent once more, over a new connection, since its connection was found closed."""

    def wait_s(self) -> float:
        """How long the next bytes may take; raises where the request was stopped, or its deadline has passed."""

    def longest_s(self) -> float:
        """The same for a library that takes one number: all waits until now and then may be one."""

    def require_running(self) -> None:
        """Raises where the request was stopped."""

    def sending(self) -> None:
        """Called before the first byte: from here on the request may have reached the server."""

    def stop_by(self, wake: Callable[[], None]) -> None:
        """Sets what makes a wait fail at once; for a sync request, called in any thread."""


class Waits(_Limits, Protocol):
    """How long one request may wait, decided anew before each wait."""

    def keeps_waiting(self) -> bool:
        """After a wait as long as `wait_s`: whether to wait once more."""


class AsyncWaits(_Limits, Protocol):
    """The same on an event loop."""

    async def akeeps_waiting(self) -> bool:
        """See `Waits.keeps_waiting`."""


def expire(timer: asyncio.Timeout) -> None:
    """Makes the wait under a timer fail now."""
    with suppress(RuntimeError):  # the timer's block has ended
        timer.reschedule(0.0)
