"""A client of a web application tells it what servers tell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx
import pytest

from llama_client.testing import asgi_client

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def started(receive: Receive, send: Send) -> None:
    """The lifespan of an application that has nothing to do."""
    for _ in range(2):
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


def test_what_the_start_leaves_is_there_for_each_request() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["client"] = "opened"
            return await started(receive, send)
        body = scope["state"]["client"].encode()
        # One request's own.
        scope["state"]["client"] = "closed"
        await send({"type": "http.response.start", "status": 200})
        return await send({"type": "http.response.body", "body": body})

    async def visit() -> list[str]:
        async with asgi_client(app) as web:
            return [(await web.get("/")).text for _ in range(2)]

    assert asyncio.run(visit()) == ["opened", "opened"]


def test_an_application_may_wait_for_the_disconnection_after_its_answer() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await started(receive, send)
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ok"})
        assert (await receive())["type"] == "http.disconnect"
        return None

    async def visit() -> str:
        async with asgi_client(app) as web, asyncio.timeout(30):
            return (await web.get("/")).text

    assert asyncio.run(visit()) == "ok"


@pytest.mark.parametrize("by", ["cancelled", "timeout"])
def test_a_visitor_who_leaves_before_the_head_is_told(by: str) -> None:
    async def main() -> None:
        begun, told = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                return await started(receive, send)
            await receive()
            begun.set()
            if (await receive())["type"] == "http.disconnect":
                told.set()
            return None

        async with asgi_client(app) as web, asyncio.timeout(30):
            if by == "timeout":
                with pytest.raises(httpx.ReadTimeout):
                    await web.get("/", timeout=0.01)
            else:
                visit = asyncio.create_task(web.get("/"))
                await begun.wait()
                visit.cancel()
                await asyncio.wait([visit])
            await told.wait()

    asyncio.run(main())


def test_a_timeout_holds_for_each_piece() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await started(receive, send)
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await receive()
        return None

    async def visit() -> None:
        async with asgi_client(app) as web, web.stream("GET", "/", timeout=0.01) as response:
            await response.aread()

    with pytest.raises(httpx.ReadTimeout):
        asyncio.run(visit())


def test_an_application_that_nobody_reads_waits_without_turning_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        nonlocal turns
        turns += 1
        await sleep(seconds)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await started(receive, send)
        await send({"type": "http.response.start", "status": 200})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        return await send({"type": "http.response.body", "body": b""})

    async def visit() -> bytes:
        async with asgi_client(app) as web, web.stream("GET", "/") as response:
            monkeypatch.setattr("llama_client.testing.asgi.asyncio.sleep", counted)
            for _ in range(50):
                await sleep(0)
            return await response.aread()

    assert asyncio.run(visit()) == b"xxx"
    assert turns == 0
