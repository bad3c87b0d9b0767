"""Answers without a socket: what a function makes of each request, as the package's own wires would bring it.

The same `Answer` that `WireServer` sends is read by the same parser, with its pauses and its end. Pauses take the time
of a `FakeClock` where there is one.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llama_client.providers.http.http1 import (
    AnswerParser,
    ConnectionLostError,
    ReadTimeoutError,
    RequestHeads,
    inflater_for,
)
from llama_client.testing.loopback import Answer, Received, read_head
from llama_client.waiting import Event, await_event, wait_for_event

if TYPE_CHECKING:
    from llama_client.providers.http.waits import AsyncWaits, Waits
    from llama_client.testing.clock import FakeClock

# What answers a request.
Player = Callable[[Received], Answer]


class Answering(Protocol):
    """What an endpoint in memory stands for."""

    @property
    def clock(self) -> FakeClock | None:
        """The time of pauses; None: the real one."""

    def answer(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer to a request. What it raises stands for a server that is not reached."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a provider's, and what answers there.

    Attributes:
        provider: Its configured name.
        heads: The heads of requests to it.
        play: What answers each request.
        clock: The time of pauses; None: the real one.
    """

    provider: str
    heads: RequestHeads
    play: Player
    clock: FakeClock | None = None

    def answer(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """What the player answers to a request, which it gets as a server reads it."""
        head = self.heads.head(method, path, headers).with_body(b"").partition(b"\r\n\r\n")[0]
        verb, target, fields = read_head(head)
        return self.play(Received(verb, target, fields, body, self.provider))


class MemoryEndpoint:
    """An `Endpoint`."""

    def __init__(self, address: Answering) -> None:
        self._address = address

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: Waits) -> MemoryAnswer:
        waits.wait_s()
        # Before `sending`: a player that raises stands for a server that is not reached.
        played = self._address.answer(method, path, body, headers)
        waits.sending()
        answer = MemoryAnswer(played, waits, self._address.clock)
        answer.begin()
        return answer


class AsyncMemoryEndpoint:
    """An `AsyncEndpoint`."""

    def __init__(self, address: Answering) -> None:
        self._address = address

    async def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: AsyncWaits
    ) -> AsyncMemoryAnswer:
        waits.wait_s()
        # Before `sending`: a player that raises stands for a server that is not reached.
        played = self._address.answer(method, path, body, headers)
        waits.sending()
        answer = AsyncMemoryAnswer(played, waits, self._address.clock)
        await answer.begin()
        return answer


class Source:
    """An answer on its way to the parser."""

    def __init__(self, answer: Answer) -> None:
        self.parser = AnswerParser()
        self._pieces = iter(answer.pieces)
        self._then = answer.then

    def pause_s(self) -> float | None:
        """Hands the next bytes to the parser, or the end; a number: first so many seconds have to pass."""
        parser = self.parser
        if parser.failure is not None:
            raise parser.failure
        piece = next(self._pieces, None)
        if isinstance(piece, bytes):
            parser.feed(piece)
            # Behind a head the failure is raised once what came before it is read.
            if parser.failure is not None and not parser.has_head:
                raise parser.failure
            return None
        if piece is not None:
            return piece
        if self._then == "reset":
            raise ConnectionLostError("Connection reset by peer")
        if self._then == "close":
            parser.end()
            return None
        return math.inf


class MemoryAnswer:
    """An `Answer` of an exchange."""

    follows_waits = True

    def __init__(self, answer: Answer, waits: Waits, clock: FakeClock | None) -> None:
        self._source = Source(answer)
        self._waits = waits
        self._wait_for = wait_for_event if clock is None else clock.wait
        self._stopped = Event()
        self.status = 0
        self.headers: Mapping[str, str] = {}

    def begin(self) -> None:
        """Waits for the head."""
        self._waits.stop_by(self._stopped.set)
        parser = self._source.parser
        while not parser.has_head:
            self._receive()
        self.status, self.headers = parser.status, parser.headers

    def pieces(self) -> Iterator[bytes]:
        inflater, pieces = inflater_for(self.headers), self._pieces()
        if inflater is None:
            yield from pieces
            return
        for piece in pieces:
            yield from inflater.feed(piece)
        inflater.end()

    def close(self) -> None:
        """There is nothing to release."""

    def _pieces(self) -> Iterator[bytes]:
        parser = self._source.parser
        while True:
            if parser.pieces:
                yield parser.take()
            elif parser.is_complete:
                return
            else:
                self._receive()

    def _receive(self) -> None:
        while (left_s := self._source.pause_s()) is not None:
            while left_s > 0:
                wait_s = min(self._waits.wait_s(), left_s)
                self._wait_for(self._stopped, wait_s)
                self._waits.require_running()
                left_s -= wait_s
                if left_s > 0 and not self._waits.keeps_waiting():
                    raise ReadTimeoutError("the server was silent")


class AsyncMemoryAnswer:
    """An `AsyncAnswer` of an exchange."""

    def __init__(self, answer: Answer, waits: AsyncWaits, clock: FakeClock | None) -> None:
        self._source = Source(answer)
        self._waits = waits
        self._wait_for = await_event if clock is None else clock.await_
        self._stopped = Event()
        self.status = 0
        self.headers: Mapping[str, str] = {}

    async def begin(self) -> None:
        """Waits for the head."""
        self._waits.stop_by(self._stopped.set)
        parser = self._source.parser
        while not parser.has_head:
            await self._receive()
        self.status, self.headers = parser.status, parser.headers

    async def pieces(self) -> AsyncIterator[bytes]:
        inflater, parser = inflater_for(self.headers), self._source.parser
        while True:
            if parser.pieces:
                taken = parser.take()
                for piece in (taken,) if inflater is None else inflater.feed(taken):
                    yield piece
            elif parser.is_complete:
                break
            else:
                await self._receive()
        if inflater is not None:
            inflater.end()

    async def aclose(self) -> None:
        """There is nothing to release."""

    async def _receive(self) -> None:
        while (left_s := self._source.pause_s()) is not None:
            while left_s > 0:
                wait_s = min(self._waits.wait_s(), left_s)
                await self._wait_for(self._stopped, wait_s)
                self._waits.require_running()
                left_s -= wait_s
                if left_s > 0 and not await self._waits.akeeps_waiting():
                    raise ReadTimeoutError("the server was silent")
