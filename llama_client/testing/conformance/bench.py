"""Asks a provider in one of four modes, through the public clients, of a server that says what a case wants said."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Literal

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.providers.base import Provider
from llama_client.providers.http.exchange import AsyncEndpoint, Endpoint
from llama_client.providers.http.http1 import RequestHeads
from llama_client.testing.conformance.expectations import Outcome, UnmetError
from llama_client.testing.conformance.said import Refusal, Said
from llama_client.testing.conformance.wires import Engine, Wire
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, streamed, whole
from llama_client.testing.memory import Address, AsyncMemoryEndpoint, MemoryEndpoint
from llama_client.testing.seams import using

Mode = Literal["call-sync", "call-async", "stream-sync", "stream-async"]
"""How a provider is asked."""
MODES: tuple[Mode, ...] = ("call-sync", "call-async", "stream-sync", "stream-async")
KEY = "sk-conformance-5f2c7e1a9b3d4680"
"""The key that the provider gets, and must not show anywhere."""
PROMPT = "conformance-prompt"
_TIMES_PATIENCE = 3
_POLL_S = 0.005


class Bench:
    """One provider in one mode.

    Args:
        name: Its name, which clients know.
        wire: How it says things.
        mode: How it is asked.
        patience_s: How long to wait for what should come at once. Only a provider that does not conform takes it.

    Attributes:
        server: Where a wire's provider is sent to.
        received: The requests for an answer, in order.
        begun: Set once an answer has begun: its request was received, or the first chunk of a stream has come.
        first_chunk: Called with the first chunk of each stream.
        hold: What the reader of a stream waits for after its first chunk; None: nothing.
        loop: The event loop, in async modes.
        broken: What a wire raised while the server asked it.
        clients_shown: What a client's representation says.
    """

    def __init__(self, name: str, wire: Wire | Engine, mode: Mode, patience_s: float) -> None:
        self.name = name
        self.wire = wire
        self.mode = mode
        self.patience_s = patience_s
        self.received: list[Received] = []
        self.begun = threading.Event()
        self.first_chunk: Callable[[], object] = self.begun.set
        self.hold: threading.Event | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.clients_shown = ""
        self.broken: Exception | None = None
        self._script: Callable[[Received], Answer] = lambda _: as_json({}, status=500)
        self.server = WireServer(self._play)

    def close(self) -> None:
        """Ends the server."""
        self.server.close()

    @property
    def streams(self) -> bool:
        """Whether the mode streams."""
        return self.mode.startswith("stream")

    @property
    def is_async(self) -> bool:
        """Whether the mode is async."""
        return self.mode.endswith("-async")

    @property
    def spoken(self) -> Wire:
        """The wire, for cases that an engine does not have."""
        assert isinstance(self.wire, Wire)
        return self.wire

    def config(self, url: str | None = None, silence_s: float | None = None) -> dict[str, Any]:
        """A configuration with the provider alone, at the server or at another address.

        Args:
            url: The other address.
            silence_s: The longest silence in an answer; None: the usual one.
        """
        table: dict[str, Any] = {"kind": self.name}
        if isinstance(self.wire, Wire):
            table |= {"base_url": (url or self.server.url) + self.wire.path, "api_key": KEY}
            table |= {} if silence_s is None else {"timeout_s": silence_s}
        table |= self.wire.table
        return {
            "default_model": f"{self.name}/{self.wire.model}",
            "providers": {self.name: table},
            "routing": {"retries": 0, **({} if silence_s is None else {"stall_s": silence_s})},
            "ledger": {"enabled": False},
        }

    def answer(self, said: Said | Refusal) -> Answer:
        """An answer as the service writes it in this mode."""
        wire = self.spoken
        match said:
            case Refusal():
                headers = dict(wire.headers)
                if said.retry_after_s is not None:
                    headers["retry-after"] = str(said.retry_after_s)
                return whole(_bytes(wire, "refusal", wire.refusal(said)), status=said.status, headers=headers)
            case Said() if self.streams:
                return streamed(
                    [_bytes(wire, "pieces", piece) for piece in wire.pieces(said)], headers=wire.stream_headers
                )
            case Said():
                return whole(_bytes(wire, "whole", wire.whole(said)), headers=wire.headers)

    def ask(self, *answers: Said | Refusal | Answer, in_memory: bool = False, **params: Any) -> Outcome:
        """What comes of one request. Without an answer the script of `plays` stays as it is.

        Args:
            answers: The answer, or one for each request that the provider makes.
            in_memory: Whether each piece of an answer arrives by itself, which sockets do not promise.
            params: Those of `create`.
        """
        if answers:
            self.says(*answers)
        return self.ask_times(1, in_memory=in_memory, **params)[0]

    def says(self, *answers: Said | Refusal | Answer) -> None:
        """Has the provider's service answer so, in order; the last answer stays."""
        if isinstance(self.wire, Engine):
            (said,) = answers
            assert not isinstance(said, Answer)
            self.wire.say(said)
            return
        left = deque(each if isinstance(each, Answer) else self.answer(each) for each in answers)
        self.plays(lambda _: left.popleft() if len(left) > 1 else left[0])

    def plays(self, script: Callable[[Received], Answer]) -> None:
        """Has a function answer requests."""
        self._script = script
        self.first_chunk = self.begun.set
        self.received.clear()
        self.begun.clear()
        self.server.closed_early.clear()

    def ask_times(
        self,
        times: int,
        *,
        in_memory: bool = False,
        url: str | None = None,
        silence_s: float | None = None,
        **params: Any,
    ) -> list[Outcome]:
        """Asks one client so many times, one after the other."""
        seam = using(interceptor=_InMemory(self._play)) if in_memory else nullcontext()
        config = self.config(url, silence_s)
        with seam:
            if self.is_async:
                return asyncio.run(self._ask_async(config, times, params))
            with LlamaClient(config) as client:
                outcomes = [self.one(client, **params) for _ in range(times)]
                self.clients_shown = repr(client)
                return outcomes

    async def _ask_async(self, config: Mapping[str, Any], times: int, params: Mapping[str, Any]) -> list[Outcome]:
        async with AsyncLlamaClient(dict(config)) as client:
            outcomes = [await self.aone(client, **params) for _ in range(times)]
            self.clients_shown = repr(client)
            return outcomes

    def one(self, client: LlamaClient, *, stops: bool = False, prompt: str = PROMPT, **params: Any) -> Outcome:
        """Asks a client; `stops`: a stream is closed after its first chunk."""
        outcome = Outcome()
        try:
            if not self.streams:
                outcome.reply = client.chat.completions.create(**self._params(prompt, params))
                return outcome
            with client.chat.completions.create(stream=True, **self._params(prompt, params)) as stream:
                for chunk in stream:
                    if not outcome.chunks:
                        self.first_chunk()
                    outcome.chunks.append(chunk)
                    if stops:
                        break
                    if self.hold is not None:
                        self.hold.wait(self.patience_s)
            if stops:
                outcome.partial = list(stream.partial.attempts)
                outcome.is_closed = self.is_closed()
            else:
                outcome.reply = stream.completion
        except Exception as error:  # noqa: BLE001 - what a provider raises is what is examined
            outcome.error = error
        return outcome

    async def aone(
        self, client: AsyncLlamaClient, *, stops: bool = False, prompt: str = PROMPT, **params: Any
    ) -> Outcome:
        """The same on an event loop; a cancelled task is an outcome too."""
        outcome = Outcome()
        self.loop = asyncio.get_running_loop()
        try:
            if not self.streams:
                outcome.reply = await client.chat.completions.create(**self._params(prompt, params))
                return outcome
            async with await client.chat.completions.create(stream=True, **self._params(prompt, params)) as stream:
                async for chunk in stream:
                    if not outcome.chunks:
                        self.first_chunk()
                    outcome.chunks.append(chunk)
                    if stops:
                        break
                    if self.hold is not None:
                        await asyncio.to_thread(self.hold.wait, self.patience_s)
            if stops:
                outcome.partial = list(stream.partial.attempts)
                outcome.is_closed = await asyncio.to_thread(self.is_closed)
            else:
                outcome.reply = stream.completion
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as above
            outcome.error = error
        return outcome

    def is_closed(self) -> bool:
        """Waits until an answer that was given up has ended: its connection is closed, or the engine stopped."""
        if isinstance(self.wire, Engine):
            running = self.wire.running
            return comes_true(lambda: not running(), self.patience_s / 2)
        return self.server.closed_early.wait(self.patience_s / 2)

    def _params(self, prompt: str, params: Mapping[str, Any]) -> dict[str, Any]:
        timeout = {"timeout": _TIMES_PATIENCE * self.patience_s}
        return {"messages": [{"role": "user", "content": prompt}], **timeout, **params}

    def _play(self, received: Received) -> Answer:
        # What a provider asks beside its answers: which models there are, say.
        if not self.spoken.is_chat(received):
            return self.spoken.answer_other(received)
        self.received.append(received)
        if not self.streams:
            self.begun.set()
        try:
            return self._script(received)
        except Exception as error:  # noqa: BLE001 - of the author's wire; raised where the case runs
            self.broken = error
            return as_json({}, status=500)


def _bytes(wire: Wire, method: str, written: object) -> bytes:
    """What a wire wrote, which is an author's code: a text would break the server instead of the case."""
    if not isinstance(written, bytes):
        raise UnmetError(f"expected bytes of {type(wire).__name__}.{method}, got {type(written).__name__}")
    return written


def comes_true(check: Callable[[], bool], within_s: float) -> bool:
    """Waits until something holds; tells whether that came to pass."""
    until = time.monotonic() + within_s
    while not check():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True


class _InMemory:
    """An `Interceptor` that brings a player's answers without a socket, where the connections are this package's."""

    plays = True

    def __init__(self, play: Callable[[Received], Answer]) -> None:
        self._play = play

    def endpoint(self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], Endpoint]) -> Endpoint:
        return MemoryEndpoint(Address(provider, RequestHeads(url, headers), self._play))

    def async_endpoint(
        self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], AsyncEndpoint]
    ) -> AsyncEndpoint:
        return AsyncMemoryEndpoint(Address(provider, RequestHeads(url, headers), self._play))

    def http_client(self, provider: str, opened: Callable[[], Any], *, is_async: bool) -> Any:
        return opened()

    def engine(self, provider: str, opened: Callable[[], Provider]) -> Provider:
        return opened()
