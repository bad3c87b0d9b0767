"""HTTP clients: one a colour and way out (proxy, certificates), opened at first use, guarded where they connect.

The transports are ours for two reasons: `local_only` is judged after names are resolved, where a connection is opened,
and a stream's patience changes once content has arrived, which HTTPX fixes for a whole answer.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpcore
import httpx

from llama_client.errors import ConfigError, InvalidRequestError
from llama_client.privacy import ConnectionGuard

if TYPE_CHECKING:
    import ssl

    from pydantic import SecretStr

# More requests at once than this wait for a connection. Both libraries' own default, 100, is below what one process
# can usefully keep in flight.
MAX_CONNECTIONS = 1000
KEEPALIVE_S = 30.0
_PROXY_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class WayOut:
    """How a provider's connections leave: the same way out shares one client.

    Attributes:
        proxy: The proxy's address; None: none.
        ca_file: Certificates to trust instead of the usual ones.
    """

    proxy: str | None = None
    ca_file: Path | None = None


class Connections:
    """The HTTP clients of one `LlamaClient`.

    Args:
        guard: What may be reached.
        injected: The user's own `httpx.Client` or `httpx.AsyncClient`, which is used for all and never closed.
        is_async: Which of the two it is to be.

    Raises:
        InvalidRequestError: It is neither, or the other.
    """

    def __init__(self, guard: ConnectionGuard, injected: object = None, *, is_async: bool = False) -> None:
        wanted = httpx.AsyncClient if is_async else httpx.Client
        if injected is not None and not isinstance(injected, wanted):
            raise InvalidRequestError(
                f"http_client: must be an httpx.{wanted.__name__} here, got {type(injected).__module__}."
                f"{type(injected).__name__}",
                param="http_client",
            )
        self.guard = guard
        self._injected = injected
        self._lock = threading.Lock()
        self._sync: dict[WayOut, httpx.Client] = {}
        self._async: dict[WayOut, httpx.AsyncClient] = {}

    def way_out(self, url: str, *, proxy: SecretStr | None, ca_file: Path | None) -> WayOut:
        """How to reach an address: the provider's own proxy, else the environment's (never under `local_only`).

        Raises:
            ConfigError: The proxy is of an unknown kind, or the user's own HTTP client has that say.
        """
        if self._injected is not None:
            if proxy is not None or ca_file is not None:
                raise ConfigError("proxy and ca_file belong to the HTTP client, and http_client brings its own")
            return WayOut()
        if proxy is not None:
            self.guard.refuse("a proxy")
            return WayOut(_checked_proxy(proxy.get_secret_value()), ca_file)
        return WayOut(None if self.guard.local_only else _proxy_of_environment(url), ca_file)

    def sync_client(self, way: WayOut) -> httpx.Client:
        """The blocking client for a way out."""
        if isinstance(self._injected, httpx.Client):
            return self._injected
        with self._lock:
            if way not in self._sync:
                transport = GuardedTransport(self.guard, way)
                self._sync[way] = httpx.Client(transport=transport, trust_env=False)
            return self._sync[way]

    def async_client(self, way: WayOut) -> httpx.AsyncClient:
        """The asynchronous client for a way out. May be made in any thread."""
        if isinstance(self._injected, httpx.AsyncClient):
            return self._injected
        with self._lock:
            if way not in self._async:
                transport = _aiohttp_transport(self.guard, way)
                self._async[way] = httpx.AsyncClient(transport=transport, trust_env=False)
            return self._async[way]

    def close(self) -> None:
        """Closes what was opened here; the user's own client stays open."""
        with self._lock:
            clients = [self._sync.popitem()[1] for _ in range(len(self._sync))]
        for client in clients:
            client.close()

    async def aclose(self) -> None:
        """The same, without blocking the event loop."""
        self.close()
        with self._lock:
            clients = [self._async.popitem()[1] for _ in range(len(self._async))]
        for client in clients:
            await client.aclose()


class Patience(float):
    """A read timeout that is asked anew at each read. To other transports it is a number, its longest."""

    now_s: Callable[[], float]

    @classmethod
    def of(cls, longest_s: float, now_s: Callable[[], float]) -> Patience:
        """A patience of as many seconds as `now_s` says at each moment."""
        patience = cls(longest_s)
        patience.now_s = now_s
        return patience


class _PatientStream(httpcore.NetworkStream):
    """A connection that knows `Patience`, and wakes who waits for bytes when it is closed."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore."""
        return self._inner.read(max_bytes, timeout.now_s() if isinstance(timeout, Patience) else timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See httpcore."""
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        """See httpcore."""
        sock = self._inner.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.shutdown(socket.SHUT_RDWR)
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _PatientStream:
        """See httpcore."""
        return _PatientStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """See httpcore."""
        return self._inner.get_extra_info(info)


class _GuardedBackend(httpcore.NetworkBackend):
    """Opens connections to what the guard allows."""

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
    ) -> _PatientStream:
        address = self._allowed_address(host, port) if self._guard.local_only else host
        return _PatientStream(self._inner.connect_tcp(address, port, timeout, local_address, socket_options))

    def _allowed_address(self, host: str, port: int) -> str:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        # All of them must be allowed: which one is used is up to the system, and may change.
        for *_, address in found:
            self._guard.check(host, str(address[0]))
        return str(found[0][4][0])


class GuardedTransport(httpx.BaseTransport):
    """HTTPX's own transport over httpcore, but for the guard and the patience."""

    def __init__(self, guard: ConnectionGuard, way: WayOut) -> None:
        options: dict[str, Any] = {
            "ssl_context": _ssl_context(way.ca_file),
            "max_connections": MAX_CONNECTIONS,
            "max_keepalive_connections": MAX_CONNECTIONS,
            "keepalive_expiry": KEEPALIVE_S,
            "network_backend": _GuardedBackend(guard),
        }
        if way.proxy is None:
            self._pool: httpcore.ConnectionPool = httpcore.ConnectionPool(**options)
        else:
            proxy = httpx.Proxy(way.proxy)
            self._pool = httpcore.HTTPProxy(str(proxy.url), proxy_auth=proxy.raw_auth, **options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See HTTPX."""
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
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    def close(self) -> None:
        """Closes every connection; threads that wait for an answer wake up with an error."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

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
    """httpcore's error under HTTPX's name, which the official clients know; None for any other."""
    for base in type(error).__mro__:
        named = getattr(httpx, base.__name__, None) if base.__module__.startswith("httpcore") else None
        if named is not None:
            renamed: Exception = named(str(error))
            return renamed
    return None


def _aiohttp_transport(guard: ConnectionGuard, way: WayOut) -> httpx.AsyncBaseTransport:
    # aiohttp takes a tenth of a second to import, and only asynchronous clients need it.
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    class Resolver(aiohttp.ThreadedResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[aiohttp.abc.ResolveResult]:
            found = await super().resolve(host, port, family)
            for address in found:
                guard.check(host, address["host"])
            return found

    class Transport(AiohttpTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            # aiohttp asks its resolver for names alone.
            if _is_address(request.url.host):
                guard.check(request.url.host, request.url.host)
            if credentials and request.url.scheme == "http":
                # A proxy is told who asks by the request itself, where there is no tunnel to open first.
                request.headers.update(credentials)
            return await super().handle_async_request(request)

    context = _ssl_context(way.ca_file)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S, ssl=context, resolver=Resolver()
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    proxy, credentials = _without_credentials(way.proxy)

    # `verify` is what the transport would give a connector of its own; this one's has the context above.
    return Transport(verify=context, proxy=proxy, client=session)


def _without_credentials(address: str | None) -> tuple[httpx.Proxy | None, dict[str, str]]:
    """A proxy, and the header that says who asks: the transport's own way of saying so is deprecated in aiohttp."""
    if address is None:
        return None, {}
    proxy = httpx.Proxy(address)
    if proxy.raw_auth is None:
        return proxy, {}
    pair = base64.b64encode(b":".join(proxy.raw_auth)).decode()
    credentials = {"Proxy-Authorization": f"Basic {pair}"}
    return httpx.Proxy(proxy.url, headers=credentials), credentials


def _ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    import ssl

    if ca_file is None:
        # Honours SSL_CERT_FILE and SSL_CERT_DIR.
        return httpx.create_ssl_context(trust_env=True)
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:
        raise ConfigError(f"ca_file: {ca_file} holds no certificates that can be read ({error.strerror})") from None


def _checked_proxy(proxy: str) -> str:
    parts = urlsplit(proxy)
    if parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
        raise ConfigError("proxy: must be an address such as http://proxy.example:3128 (http and https are known)")
    return proxy


def _proxy_of_environment(url: str) -> str | None:
    """The environment's proxy for an address, as other programs find it; this machine is never asked through one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return _checked_proxy(proxy if "://" in proxy else f"http://{proxy}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
