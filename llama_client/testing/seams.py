"""Puts a test's clock, random numbers and stand-ins for providers into every client that is opened."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llama_client.client import AsyncLlamaClient, LlamaClient, Seams, _BaseClient
from llama_client.clock import Clock

if TYPE_CHECKING:
    from llama_client.providers.http.interceptor import Interceptor
    from llama_client.testing.clock import FakeClock


@contextmanager
def using(
    *,
    clock: Clock | FakeClock | None = None,
    chance: type[random.Random] | None = None,
    interceptor: Interceptor | None = None,
    ledger_url: str | None = None,
) -> Iterator[None]:
    """Within it, every client of this process that is opened has these; None: as before.

    Args:
        clock: The time.
        chance: The class of random numbers.
        interceptor: What stands between the client and its providers.
        ledger_url: What stands for the user's own ledger, and for one on a server.

    Yields:
        Nothing.

    Example:
        >>> from llama_client import LlamaClient
        >>> from llama_client.testing import FakeClock, FakeProvider, using
        >>> clock = FakeClock()
        >>> with FakeProvider().says("Hum.") as fake, using(clock=clock), LlamaClient(fake.config()) as client:
        ...     print(client.ask("Do llamas hum?").text)
        Hum.
    """
    before = _BaseClient._seams
    _BaseClient._seams = Seams(
        before.clock if clock is None else _plain(clock),
        before.random if chance is None else chance,
        before.interceptor if interceptor is None else interceptor,
        before.ledger_url if ledger_url is None else ledger_url,
    )
    try:
        yield
    finally:
        _BaseClient._seams = before


def has_clock() -> bool:
    """Whether clients that are opened now get a test's time."""
    return _BaseClient._seams.clock is not None


def client_classes(
    *,
    clock: Clock | FakeClock | None = None,
    chance: type[random.Random] = random.Random,
    interceptor: Interceptor | None = None,
) -> tuple[type[LlamaClient], type[AsyncLlamaClient]]:
    """The clients with these, beside others that have their own.

    Args:
        clock: The time; None: the real one.
        chance: The class of random numbers.
        interceptor: What stands between the client and its providers.
    """
    plain = _plain(clock)

    class Sync(LlamaClient):
        _seams = Seams(plain, chance, interceptor)

    class Async(AsyncLlamaClient):
        _seams = Seams(plain, chance, interceptor)

    return Sync, Async


def _plain(clock: Clock | FakeClock | None) -> Clock | None:
    return clock if clock is None or isinstance(clock, Clock) else clock.clock
