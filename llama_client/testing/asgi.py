"""An HTTPX client of a web application in this process, that reads answers as they come and can hang up.

HTTPX's own ASGI transport and Starlette's test client hand an answer over when it has ended, so no stream can be tested
with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

_Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]],
    Awaitable[None],
]
"""An application: FastAPI's, Starlette's, Litestar's, Django's, ..."""
# As Uvicorn 0.54 says, so that frameworks behave as behind it.
_ASGI = {"version": "3.0", "spec_version": "2.3"}
# Of the event loop: until a task that waits for the disconnection has cancelled the one that sends.
_TURNS = 10
# How long an application may take to end a request whose visitor has gone, before it is cancelled.
_PATIENCE_S = 2.0


@asynccontextmanager
async def asgi_client(app: AsgiApp, *, base_url: str = "http://testserver") -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that has started, and shuts down at the end of the block.

    The application gets `http.disconnect` as from a server: when its answer is complete, or when the visitor has gone.
    Requests wait without end unless they have a `timeout`; its `read` holds for the head and for each piece.

    Args:
        app: The application.
        base_url: What paths are below; nothing is connected to.

    Raises:
        RuntimeError: The application failed to start.

    Example:
        >>> async def app(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 200})
        ...     await send({"type": "http.response.body", "body": scope["path"].encode()})
        >>> async def main():
        ...     async with asgi_client(app) as web, web.stream("GET", "/hum") as response:
        ...         return [text async for text in response.aiter_text()]
        >>> asyncio.run(main())
        ['/hum']
    """
    inbox: asyncio.Queue[_Message] = asyncio.Queue()
    outbox: asyncio.Queue[_Message] = asyncio.Queue()
    state: dict[str, Any] = {}
    lifespan = asyncio.ensure_future(app({"type": "lifespan", "asgi": _ASGI, "state": state}, inbox.get, outbox.put))
    inbox.put_nowait({"type": "lifespan.startup"})
    first = await _first(outbox, lifespan)
    # An application without a lifespan refuses it by an error, or takes it for a request.
    has_lifespan = first is not None and first["type"].startswith("lifespan.")
    if first is not None and first["type"] == "lifespan.startup.failed":
        raise RuntimeError(f"the application failed to start: {first.get('message', '')}")
    try:
        waits = httpx.Timeout(None)
        transport = _Transport(app, state)
        async with httpx.AsyncClient(transport=transport, base_url=base_url, trust_env=False, timeout=waits) as client:
            yield client
    finally:
        inbox.put_nowait({"type": "lifespan.shutdown"})
        if not has_lifespan:
            lifespan.cancel()
        await asyncio.gather(lifespan, return_exceptions=not has_lifespan)


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, app: AsgiApp, state: dict[str, Any]) -> None:
        self._app = app
        # What the application's start has left for its requests.
        self._state = state
        self._open: set[_Exchange] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(request, await request.aread())
        scope = _scope(request, self._state)
        exchange.running = asyncio.ensure_future(self._app(scope, exchange.receive, exchange.send))
        self._open.add(exchange)
        exchange.running.add_done_callback(lambda _: self._open.discard(exchange))
        try:
            start = await exchange.next()
        except BaseException:
            # The visitor has gone before there was an answer; the application runs on until it has seen that.
            exchange.leave()
            raise
        if start is None:
            await exchange.running
            raise RuntimeError("the application ended without an answer")
        return httpx.Response(start["status"], headers=start.get("headers", []), stream=exchange)

    async def aclose(self) -> None:
        await asyncio.gather(*(exchange.aclose() for exchange in list(self._open)))


class _Exchange(httpx.AsyncByteStream):
    """One request. The application waits until what it sent was read, as behind a slow connection."""

    running: asyncio.Future[None]

    def __init__(self, request: httpx.Request, body: bytes) -> None:
        self._request = request
        self._body: bytes | None = body
        self._outbox: asyncio.Queue[_Message] = asyncio.Queue(maxsize=1)
        # Whether there is room in the outbox, or no reader any more.
        self._has_room = asyncio.Event()
        self._is_gone = False
        # The answer is complete, or the visitor has gone.
        self._over = asyncio.Event()

    async def receive(self) -> _Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: _Message) -> None:
        while self._outbox.full() and not self._is_gone:
            self._has_room.clear()
            await self._has_room.wait()
        if not self._is_gone:
            self._outbox.put_nowait(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._over.set()
            return
        # What is sent to a visitor who has gone is lost. The application's other tasks learn of it meanwhile.
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def next(self) -> _Message | None:
        """The next message of the application; None: it has ended.

        Raises:
            httpx.ReadTimeout: The request's timeout has passed.
        """
        timeout = self._request.extensions.get("timeout") or {}
        try:
            async with asyncio.timeout(timeout.get("read")):
                message = await _first(self._outbox, self.running)
        except TimeoutError:
            raise httpx.ReadTimeout("The read operation timed out", request=self._request) from None
        self._has_room.set()
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self.next()) is not None:
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                break
        await self.running

    def leave(self) -> None:
        """The visitor hangs up."""
        self._is_gone = True
        self._over.set()
        self._has_room.set()

    async def aclose(self) -> None:
        """The visitor hangs up; the application ends what it does."""
        self.leave()
        _, still_running = await asyncio.wait([self.running], timeout=_PATIENCE_S)
        if still_running:
            self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


async def _first(outbox: asyncio.Queue[_Message], running: asyncio.Future[None]) -> _Message | None:
    """The next message of an application; None: it has ended."""
    getting = asyncio.ensure_future(outbox.get())
    try:
        either: set[asyncio.Future[Any]] = {getting, running}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return getting.result() if getting.done() else None
    finally:
        getting.cancel()


def _scope(request: httpx.Request, state: Mapping[str, Any]) -> MutableMapping[str, Any]:
    url = request.url
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": (url.host, url.port or 80),
        "state": dict(state),
    }
