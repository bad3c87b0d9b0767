"""HTTP transports with guarded connections and, for sync, a read timeout that may change while it waits."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from llama_client.local_only import ConnectionGuard
from llama_client.providers.http.http1 import KEEPALIVE_S, MAX_CONNECTIONS

if TYPE_CHECKING:
    import aiohttp


def shut(stream: Any) -> None:
    """Makes a read of a network stream that blocks in another thread fail now; does nothing without a socket."""
    with contextlib.suppress(OSError, AttributeError):
        stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class DynamicTimeout(float):
    """A timeout that is computed anew at each read. To other transports it is a number, its longest value."""

    current_s: Callable[[], float]
    # Decides after a timeout whether to read on.
    keeps_waiting: Callable[[], bool]
    # Called before something is written.
    sending: Callable[[], object]
    stream: DynamicTimeoutStream | None

    @classmethod
    def of(
        cls,
        longest_s: float,
        current_s: Callable[[], float],
        keeps_waiting: Callable[[], bool],
        sending: Callable[[], object],
    ) -> DynamicTimeout:
        timeout = cls(longest_s)
        timeout.current_s, timeout.keeps_waiting, timeout.sending = current_s, keeps_waiting, sending
        timeout.stream = None
        return timeout

    def release(self) -> None:
        """Lets go of the request, which whatever keeps the timeout would keep in memory."""
        self.current_s, self.keeps_waiting, self.sending = float, bool, bool


class DynamicTimeoutStream(httpcore.NetworkStream):
    """A connection that supports `DynamicTimeout`; closing it makes a blocked read fail."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._pid = os.getpid()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not isinstance(timeout, DynamicTimeout):
            return self._inner.read(max_bytes, timeout)
        timeout.stream = self
        while True:
            try:
                return self._inner.read(max_bytes, timeout.current_s())
            except httpcore.ReadTimeout:
                if not timeout.keeps_waiting():
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            # The end of a body with a content length.
            return
        if isinstance(timeout, DynamicTimeout):
            # Raises where the attempt was stopped while it connected, so that nothing is sent.
            timeout.stream, dynamic, timeout = self, timeout, timeout.current_s()
            dynamic.sending()
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        # A forked process has a copy, and shutting that would end the connection of its parent.
        if self._pid == os.getpid():
            shut(self._inner)
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> DynamicTimeoutStream:
        return DynamicTimeoutStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class Trace:
    """What HTTPX's transports tell of a request (httpcore's extension `trace`, aiohttp's `TraceConfig`).

    A transport that tells nothing has no connections that were used before, as far as is known.
    """

    def __init__(self) -> None:
        self._is_new = self._has_begun = self._has_head = False
        # Whether nothing of the request can have left.
        self.is_unsent = False

    @property
    def is_unanswered(self) -> bool:
        """Whether a connection that was used before has ended without an answer, where the request failed."""
        return self._has_begun and not self._is_new and not self._has_head

    def __call__(self, event: str, info: object) -> Any:
        """What httpcore calls."""
        match event:
            case "connection.connect_tcp.started" | "connection.connect_unix_socket.started":
                self._is_new = True
            case "http11.send_request_headers.started":
                self._has_begun = True
            case "http11.send_request_headers.failed":
                self.is_unsent = True
            case "http11.receive_response_headers.complete":
                self._has_head = True

    def is_reusing(self) -> None:
        """The request has got a connection that was used before."""
        self._has_begun = True


class AsyncTrace(Trace):
    async def __call__(self, event: str, info: object) -> None:
        super().__call__(event, info)


# Of the request that a task of aiohttp's sends.
_sending: ContextVar[Trace | None] = ContextVar("llama_client_sending", default=None)


class _GuardedBackend(httpcore.SyncBackend):
    """Connects only to addresses that the guard has checked."""

    def __init__(self, guard: ConnectionGuard) -> None:
        self._guard = guard

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> DynamicTimeoutStream:
        try:
            addresses = self._guard.addresses(host, port)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        failure: Exception | None = None
        for address in addresses:
            try:
                stream = super().connect_tcp(address, port, timeout, local_address, socket_options)
                return DynamicTimeoutStream(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                # The first one tells most: on a machine without IPv6 the second is about that.
                failure = failure or error
        raise failure or httpcore.ConnectError(f"{host} has no address")


class GuardedTransport(httpx.BaseTransport):
    """HTTPX's own transport over httpcore, with the guard and dynamic timeouts."""

    def __init__(self, guard: ConnectionGuard, proxy: str | None, ssl_context: ssl.SSLContext) -> None:
        self._guard = guard
        options: dict[str, Any] = {
            "ssl_context": ssl_context,
            "max_connections": MAX_CONNECTIONS,
            "max_keepalive_connections": MAX_CONNECTIONS,
            "keepalive_expiry": KEEPALIVE_S,
            "network_backend": _GuardedBackend(guard),
        }
        if proxy is None:
            self._pool: httpcore.ConnectionPool = httpcore.ConnectionPool(**options)
        else:
            through = httpx.Proxy(proxy)
            self._pool = httpcore.HTTPProxy(str(through.url), proxy_auth=through.raw_auth, **options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        stream = request.stream
        if not isinstance(stream, httpx.SyncByteStream):
            raise TypeError("an asynchronous request needs an asynchronous client")
        try:
            response = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=stream,
                    extensions=request.extensions,
                )
            )
        except Exception as error:
            _raise_as_httpx(error)
            raise
        answer = httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )
        if answer.has_redirect_location and self._guard.local_only:
            answer.close()
            self._guard.refuse_redirect(str(request.url), answer.headers["location"])
        return answer

    def close(self) -> None:
        """Closes every connection; blocked reads in other threads fail."""
        self._pool.close()


@dataclass(eq=False)
class _Body(httpx.SyncByteStream):
    _response: httpcore.Response

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._response.iter_stream()
        except Exception as error:
            _raise_as_httpx(error)
            raise

    def close(self) -> None:
        self._response.close()


def _raise_as_httpx(error: Exception) -> None:
    """Raises httpcore's error as HTTPX's of the same name, which the official clients know."""
    for base in type(error).__mro__:
        kind = getattr(httpx, base.__name__, None) if base.__module__.startswith("httpcore") else None
        if kind is not None:
            raise kind(str(error)) from error


def aiohttp_transport(
    guard: ConnectionGuard, proxy: str | None, ssl_context: ssl.SSLContext
) -> httpx.AsyncBaseTransport:
    """A guarded transport over aiohttp, since HTTPX's own is slow with many requests in flight."""
    # aiohttp takes 0.1 s to import, and only async clients need it.
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    through, credentials = _proxy_and_header(proxy)

    class Resolver(aiohttp.ThreadedResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[aiohttp.abc.ResolveResult]:
            if not guard.local_only:
                return await super().resolve(host, port, family)
            addresses = await asyncio.to_thread(guard.addresses, host, port)
            return [_resolved(host, address, port) for address in addresses]

    class Transport(AiohttpTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            # aiohttp's resolver is not called for IP addresses, or for what looks like one to aiohttp.
            if guard.local_only:
                # In a thread, as it may read a file.
                await asyncio.to_thread(guard.require_allowed, request.url.raw_host.decode("ascii"))
            if b"%" in request.url.raw_host:
                request.url = _with_numbered_zone(guard, request.url)
            if request.url.userinfo:
                # HTTPX has made a header of it, and aiohttp refuses both.
                request.url = request.url.copy_with(userinfo=b"")
            if credentials and request.url.scheme == "http":
                # Without a tunnel, the request itself carries the proxy's credentials.
                request.headers.update(credentials)
            # What the loop has not read yet, as where it was blocked: after two turns aiohttp knows which connections
            # the server has closed.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            _sending.set(request.extensions.get("trace"))
            answer = await super().handle_async_request(request)
            if answer.has_redirect_location and guard.local_only:
                await answer.aclose()
                guard.refuse_redirect(str(request.url), answer.headers["location"])
            return answer

    async def reusing(*_: object) -> None:
        trace = _sending.get()
        if isinstance(trace, Trace):
            trace.is_reusing()

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S, ssl=ssl_context, resolver=Resolver()
        )
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(reusing)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[tracing])

    # `verify` would be for a connector of the transport's own; this session's connector has the context already.
    return Transport(verify=ssl_context, proxy=through, client=session)


def _with_numbered_zone(guard: ConnectionGuard, url: httpx.URL) -> httpx.URL:
    try:
        (address,) = guard.addresses(url.raw_host.decode("ascii"), url.port or 0)
    except OSError as error:
        raise httpx.ConnectError(str(error)) from error
    return url.copy_with(host=address)


def _resolved(host: str, address: str, port: int) -> aiohttp.abc.ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": flags}


def _proxy_and_header(address: str | None) -> tuple[httpx.Proxy | None, dict[str, str]]:
    """A proxy, and the header with its credentials: how the transport passes them on is deprecated in aiohttp."""
    proxy = None if address is None else httpx.Proxy(address)
    if proxy is None or proxy.raw_auth is None:
        return proxy, {}
    credentials = {"Proxy-Authorization": f"Basic {base64.b64encode(b':'.join(proxy.raw_auth)).decode()}"}
    return httpx.Proxy(proxy.url, headers=credentials), credentials
