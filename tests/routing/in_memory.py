"""Servers without sockets, and what leads a client's requests to them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from llama_client.providers.http.http1 import RequestHeads
from llama_client.testing.clock import FakeClock
from llama_client.testing.loopback import Answer, Received
from llama_client.testing.memory import Address, AsyncMemoryEndpoint, MemoryEndpoint

if TYPE_CHECKING:
    from llama_client.providers.base import Provider
    from llama_client.providers.http.exchange import AsyncEndpoint, Endpoint

# Of the servers that a test has running, by their ports.
_RUNNING: dict[int, MemoryServer] = {}
# An address of this machine at which nothing listens.
_HOST = "127.9.9.9"
_PORTS = itertools.count(1)


class MemoryServer:
    """What a `WireServer` is for tests in which no bytes have to travel.

    Its function runs in the client's thread, or on its event loop: it must not wait for anything.

    Args:
        answers: What answers a request; None: the queue that `answer` fills.

    Attributes:
        url: Where it is.
        requests: What came in, in order.
    """

    def __init__(self, answers: Callable[[Received], Answer] | None = None) -> None:
        self.requests: list[Received] = []
        self._answers = answers
        self._queue: deque[Answer] = deque()
        self._port = next(_PORTS)
        self.url = f"http://{_HOST}:{self._port}"

    def answer(self, *answers: Answer) -> None:
        """Puts answers at the end of the queue."""
        self._queue.extend(answers)

    def always(self, answer: Answer) -> None:
        """Gives this answer from now on, however often it is asked."""
        self._answers = lambda _: answer

    def play(self, request: Received) -> Answer:
        """What it answers."""
        self.requests.append(request)
        return self._queue.popleft() if self._answers is None else self._answers(request)

    def __enter__(self) -> Self:
        _RUNNING[self._port] = self
        return self

    def __exit__(self, *_: object) -> None:
        del _RUNNING[self._port]


class InMemory:
    """An `Interceptor`: requests to a `MemoryServer` reach it, all others the network.

    Args:
        clock: The time of the servers' pauses; None: the real one.
    """

    plays = False

    def __init__(self, clock: FakeClock | None = None) -> None:
        self._clock = clock

    def endpoint(self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], Endpoint]) -> Endpoint:
        address = self._address(provider, url, headers)
        return opened() if address is None else MemoryEndpoint(address)

    def async_endpoint(
        self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], AsyncEndpoint]
    ) -> AsyncEndpoint:
        address = self._address(provider, url, headers)
        return opened() if address is None else AsyncMemoryEndpoint(address)

    def http_client(self, provider: str, opened: Callable[[], Any], *, is_async: bool) -> Any:
        return opened()

    def engine(self, provider: str, opened: Callable[[], Provider]) -> Provider:
        return opened()

    def _address(self, provider: str, url: str, headers: Mapping[str, str]) -> Address | None:
        heads = RequestHeads(url, headers)
        server = _RUNNING.get(heads.origin.port) if heads.origin.host == _HOST else None
        return None if server is None else Address(provider, heads, server.play, self._clock)
