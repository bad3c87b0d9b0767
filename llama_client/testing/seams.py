"""Puts a test's clock, random numbers and stand-ins for providers into every client that is opened."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from llama_client.client import AsyncLlamaClient, LlamaClient, Seams, _BaseClient
from llama_client.clock import Clock
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.providers.http.interceptor import Interceptor
    from llama_client.testing.clock import FakeClock


# Of the blocks that are open, the innermost last. They may end in any order.
_open: list[_Block] = []
_lock = threading.Lock()
_BEFORE = (
    "this client was opened before the block (or fixture) that answers for the providers, so it would ask the real "
    "ones: open it within the block, or let the fixture that opens it ask for the block's fixture first"
)


@contextmanager
def using(
    *,
    clock: Clock | FakeClock | None = None,
    chance: type[random.Random] | None = None,
    interceptor: Interceptor | None = None,
    ledger_url: str | None = None,
    strangers: Callable[[str], Exception] = InvalidRequestError,
) -> Iterator[None]:
    """Within it, every client of this process that is opened has these; None: as before.

    While an interceptor is there, a client that was opened before the block raises instead of asking its providers.

    Args:
        clock: The time.
        chance: The class of random numbers.
        interceptor: What stands between the client and its providers.
        ledger_url: What stands for the user's own ledger, and for one on a server.
        strangers: Makes the error of a client that was opened before, of its text.

    Yields:
        Nothing.

    Raises:
        RuntimeError: There is an interceptor already.

    Example:
        >>> from llama_client import LlamaClient
        >>> from llama_client.testing import FakeClock, FakeProvider, using
        >>> clock = FakeClock()
        >>> with FakeProvider().says("Hum.") as fake, using(clock=clock), LlamaClient(fake.config()) as client:
        ...     print(client.ask("Do llamas hum?").text)
        Hum.
    """
    mine = _Block(None if clock is None else _plain(clock), chance, interceptor, ledger_url, strangers)
    with _lock:
        if interceptor is not None and any(each.interceptor is not None for each in _open):
            raise RuntimeError(
                "two blocks would answer the same clients: a FakeProvider (or the fixture llama), a cassette and "
                "using(interceptor=...) exclude each other; end the first before the second, or use one of them"
            )
        _open.append(mine)
        _put_in()
    try:
        yield
    finally:
        with _lock:
            _open.remove(mine)
            _put_in()


@dataclass(frozen=True, eq=False, slots=True)
class _Block:
    clock: Clock | None
    random: type[random.Random] | None
    interceptor: Interceptor | None
    ledger_url: str | None
    strangers: Callable[[str], Exception]


def _put_in() -> None:
    """Gives clients what the open blocks say, the innermost first."""
    from llama_client.providers.registry import Providers

    said: dict[str, Any] = {}
    for block in _open:
        said |= {name: value for name in Seams._fields if (value := getattr(block, name)) is not None}
    _BaseClient._seams = Seams(**said)
    playing = next((block for block in _open if block.interceptor is not None), None)
    Providers.strangers = None if playing is None else partial(playing.strangers, _BEFORE)


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
