"""Servers that play targets, and calls to them, sync and async, in time that is real or a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import Any, Self

from llama_client import AsyncLlamaClient, ChatCompletion, LlamaClient
from llama_client.testing.clock import FakeClock, NoJitter
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, streamed
from llama_client.testing.seams import client_classes
from tests.routing.in_memory import InMemory, MemoryServer

MESSAGES: list[dict[str, object]] = [{"role": "user", "content": "Why do llamas hum?"}]
MODES = ["call-sync", "call-async", "stream-sync", "stream-async"]
# What never comes fails a test after it; what comes is waited for as long as a busy machine may take.
PLENTY_S = 60.0
_POLL_S = 0.002


def timed(time: FakeClock) -> tuple[type[LlamaClient], type[AsyncLlamaClient]]:
    """The clients, in a test's own time and without jitter."""

    return client_classes(clock=time.clock, chance=NoJitter, interceptor=InMemory(time))


def config(*servers: WireServer | MemoryServer | str, **tables: Any) -> dict[str, Any]:
    """A configuration in which each server is a provider of kind `openai`: a, b, c, and `chat` is the route of all."""
    providers = {}
    for name, server in zip("abcdef", servers, strict=False):
        url = server if isinstance(server, str) else server.url
        providers[name] = {"kind": "openai", "base_url": f"{url}/v1"}
    routes = {"chat": {"targets": [f"{name}/m" for name in providers]}}
    return {"default_model": "chat", "providers": providers, "routes": routes, **tables}


class Session:
    """One client, asked in one of `MODES`; streams are read to their end.

    Args:
        configuration: The client's.
        mode: How to ask.
        time: The test's own time; None: the real one.
    """

    def __init__(self, configuration: dict[str, Any], mode: str, time: FakeClock | None = None) -> None:
        self._streams = mode.startswith("stream")
        self._is_async = mode.endswith("-async")
        self._runner = asyncio.Runner()
        # The text of the last stream, as its reader got it.
        self.shown = ""
        sync, asynchronous = timed(time) if time is not None else (LlamaClient, AsyncLlamaClient)
        self.client: Any = (asynchronous if self._is_async else sync)(configuration)

    def many(self, calls: int, *, at_once: int = 1, **params: Any) -> list[Any]:
        """So many calls, so many at once: each one's answer or error, in the order of asking."""
        if self._is_async:
            return self._runner.run(self._amany(calls, at_once, params))
        if at_once == 1:
            return [self._one(params) for _ in range(calls)]
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda _: self._one(params), range(calls)))

    def _one(self, params: dict[str, Any]) -> ChatCompletion | Exception:
        create = self.client.chat.completions.create
        try:
            if not self._streams:
                reply: ChatCompletion = create(**{"messages": MESSAGES, **params})
                return reply
            with create(**{"messages": MESSAGES, "stream": True, **params}) as stream:
                self.shown = "".join(chunk.text for chunk in stream)
            whole: ChatCompletion = stream.completion
            return whole
        except Exception as error:  # noqa: BLE001 - each is looked at by the test
            return error

    async def _amany(self, calls: int, at_once: int, params: dict[str, Any]) -> list[ChatCompletion | Exception]:
        free = asyncio.Semaphore(at_once)

        async def limited() -> ChatCompletion | Exception:
            async with free:
                return await self._aone(params)

        return list(await asyncio.gather(*(limited() for _ in range(calls))))

    async def _aone(self, params: dict[str, Any]) -> ChatCompletion | Exception:
        create = self.client.chat.completions.create
        try:
            if not self._streams:
                reply: ChatCompletion = await create(**{"messages": MESSAGES, **params})
                return reply
            async with await create(**{"messages": MESSAGES, "stream": True, **params}) as stream:
                self.shown = "".join([chunk.text async for chunk in stream])
            whole: ChatCompletion = stream.completion
            return whole
        except Exception as error:  # noqa: BLE001 - as above
            return error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_async:
            self._runner.run(self.client.aclose())
        else:
            self.client.close()
        self._runner.close()


def ask_all(
    configuration: dict[str, Any],
    mode: str,
    calls: int,
    *,
    at_once: int = 1,
    time: FakeClock | None = None,
    **params: Any,
) -> list[Any]:
    """So many calls through one client, so many at once: each one's answer or error, in the order of asking."""
    with Session(configuration, mode, time) as session:
        return session.many(calls, at_once=at_once, **params)


def ask(configuration: dict[str, Any], mode: str, time: FakeClock | None = None, **params: Any) -> ChatCompletion:
    """One call; raises what it raises."""
    [outcome] = ask_all(configuration, mode, 1, time=time, **params)
    if isinstance(outcome, Exception):
        raise outcome
    assert isinstance(outcome, ChatCompletion)
    return outcome


def good(text: str = "Hello") -> Callable[[Received], Answer]:
    """What a healthy server does."""

    def answer(request: Received) -> Answer:
        return OPENAI.good(streams=request.json.get("stream", False), text=text)

    return answer


def failing(status: int, **headers: str) -> Answer:
    """An answer that is an error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return as_json({"error": {"message": "not now"}}, status=status, headers=named)


def in_turn(*answers: Answer | None) -> Callable[[Received], Answer]:
    """Answers in turn, None for a good one; the last for ever."""
    left = list(answers)

    def answer(request: Received) -> Answer:
        following = left.pop(0) if len(left) > 1 else left[0]
        return good()(request) if following is None else following

    return answer


def broken_after(text: str, *more: str) -> Answer:
    """A stream that breaks off after some text."""
    return streamed([OPENAI.preamble(), *(OPENAI.text(piece) for piece in (text, *more))], "reset")


def story(outcome: Any) -> Sequence[tuple[str, str, bool]]:
    """A call's attempts: target, outcome or error, and whether it was sent."""
    return [(each.target, each.error or each.outcome, each.sent) for each in outcome.attempts]


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread brings about, however busy the machine is."""
    give_up_at = monotonic() + PLENTY_S
    while not condition():
        assert monotonic() < give_up_at, "it has not come to pass"
        sleep(_POLL_S)


async def auntil(condition: Callable[[], bool]) -> None:
    """The same for what another task brings about."""
    async with asyncio.timeout(PLENTY_S):
        while not condition():
            await asyncio.sleep(_POLL_S)
