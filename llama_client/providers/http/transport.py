"""HTTP transports: open guarded connections, and read with a timeout that may change."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from llama_client.local_only import ConnectionGuard

if TYPE_CHECKING:
    import ssl

    import aiohttp


# Both libraries' own default, 100, is below what one process can usefully keep in flight.
MAX_CONNECTIONS = 1000
KEEPALIVE_S = 30.0


class DynamicTimeout(float):
    """A timeout computed anew at each read. To other transports it is a number: the longest."""

    now_s: Callable[[], float]
    keeps_waiting: Callable[[], bool]
    stream: DynamicTimeoutStream | None

    @classmethod
    def of(cls, longest_s: float, now_s: Callable[[], float], keeps_waiting: Callable[[], bool]) -> DynamicTimeout:
        """`keeps_waiting` decides after each timed-out read."""
        timeout = cls(longest_s)
        timeout.now_s, timeout.keeps_waiting, timeout.stream = now_s, keeps_waiting, None
        return timeout


class DynamicTimeoutStream(httpcore.NetworkStream):
    """A connection that supports `DynamicTimeout`; closing it wakes a blocked read."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not isinstance(timeout, DynamicTimeout):
            return self._inner.read(max_bytes, timeout)
        timeout.stream = self
        while True:
            try:
                return self._inner.read(max_bytes, timeout.now_s())
            except httpcore.ReadTimeout:
                if not timeout.keeps_waiting():
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            # httpcore's end of a body whose length was sent.
            return
        if isinstance(timeout, DynamicTimeout):
            # An attempt cancelled while it connected sends nothing.
            timeout.stream, timeout = self, timeout.now_s()
        self._inner.write(buffer, timeout)

    def shut(self) -> None:
        """Makes a read that blocks in another thread fail."""
        sock = self._inner.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.shut()
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> DynamicTimeoutStream:
        return DynamicTimeoutStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _GuardedBackend(httpcore.NetworkBackend):
    def __init__(self, guard: ConnectionGuard) -> None:
        self._guard = guard
        self._inner = httpcore.SyncBackend()

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
        # Connects to the very addresses that the guard has checked.
        for address in addresses:
            try:
                return DynamicTimeoutStream(
                    self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                # The first error says most: on a machine without IPv6 the second is about that.
                failure = failure or error
        raise failure or httpcore.ConnectError(f"{host} has no address")


class GuardedTransport(httpx.BaseTransport):
    """HTTPX's own transport over httpcore, with the guard and `DynamicTimeout`."""

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
            renamed = _httpx_error(error)
            if renamed is None:
                raise
            raise renamed from error
        answer = httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )
        try:
            if answer.has_redirect_location:
                # Never followed; under `local_only` the error names the rule.
                self._guard.refuse_redirect(str(request.url), answer.headers["location"])
        except BaseException:
            answer.close()
            raise
        return answer

    def close(self) -> None:
        """Closes every connection; blocked reads fail."""
        self._pool.close()


@dataclass(eq=False)
class _Body(httpx.SyncByteStream):
    _response: httpcore.Response

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._response.iter_stream()
        except Exception as error:
            renamed = _httpx_error(error)
            if renamed is None:
                raise
            raise renamed from error

    def close(self) -> None:
        self._response.close()


def _httpx_error(error: Exception) -> Exception | None:
    """httpcore's error as HTTPX's, which the official clients know; None: any other error."""
    for base in type(error).__mro__:
        named = getattr(httpx, base.__name__, None) if base.__module__.startswith("httpcore") else None
        if named is not None:
            renamed: Exception = named(str(error))
            return renamed
    return None


def aiohttp_transport(
    guard: ConnectionGuard, proxy: str | None, ssl_context: ssl.SSLContext
) -> httpx.AsyncBaseTransport:
    """A guarded transport over aiohttp, as HTTPX's own is slow with many requests in flight."""
    # aiohttp takes 0.1 s to import, and only async clients need it.
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    through, credentials = _without_credentials(proxy)

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
            # aiohttp does not call its resolver for what looks like an address.
            if guard.local_only:
                # In a thread, as it may read a file.
                await asyncio.to_thread(guard.require_allowed, request.url.host)
            if credentials and request.url.scheme == "http":
                # Without a tunnel the request itself carries the credentials of the proxy.
                request.headers.update(credentials)
            answer = await super().handle_async_request(request)
            try:
                if answer.has_redirect_location:
                    guard.refuse_redirect(str(request.url), answer.headers["location"])
            except BaseException:
                await answer.aclose()
                raise
            return answer

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S, ssl=ssl_context, resolver=Resolver()
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    # `verify` would be for a connector of the transport's own; this one has the context already.
    return Transport(verify=ssl_context, proxy=through, client=session)


def _resolved(host: str, address: str, port: int) -> aiohttp.abc.ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": flags}


def _without_credentials(address: str | None) -> tuple[httpx.Proxy | None, dict[str, str]]:
    """A proxy, and its credentials as a header: the transport's own way is deprecated in aiohttp."""
    if address is None:
        return None, {}
    proxy = httpx.Proxy(address)
    if proxy.raw_auth is None:
        return proxy, {}
    pair = base64.b64encode(b":".join(proxy.raw_auth)).decode()
    credentials = {"Proxy-Authorization": f"Basic {pair}"}
    return httpx.Proxy(proxy.url, headers=credentials), credentials
