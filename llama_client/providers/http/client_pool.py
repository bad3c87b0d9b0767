"""Connections, one set for each set of connection settings (proxy, certificates), opened at first use."""

from __future__ import annotations

import os
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from llama_client.config.provider_tables import proxy_address
from llama_client.errors import ConfigError, InvalidRequestError
from llama_client.hosts import bare, in_own_script, name_of, plain_url
from llama_client.imports import ready
from llama_client.local_only import ConnectionGuard, is_this_machine
from llama_client.process import at_fork
from llama_client.providers.http.http1 import RequestHeads

if TYPE_CHECKING:
    import httpx

    from llama_client.providers.http.exchange import AsyncEndpoint, Endpoint

_OF_SYSTEM = "the system's proxy"
_CERTIFICATES = "llama_client.providers.http.certificates"
_HTTPX_WIRE = "llama_client.providers.http.httpx_wire"
T = TypeVar("T")


class ConnectionSettings(NamedTuple):
    """Providers with equal settings share one HTTP client."""

    proxy: str | None = None
    ca_file: Path | None = None


class ClientPool:
    """The connections of one `LlamaClient`: its own wires, and HTTPX clients where these are needed."""

    def __init__(
        self, guard: ConnectionGuard, injected: object = None, *, is_async: bool = False, over_httpx: bool = False
    ) -> None:
        if injected is not None:
            ready("httpx")
            import httpx

            expected = httpx.AsyncClient if is_async else httpx.Client
            if not isinstance(injected, expected):
                got = f"{type(injected).__module__}.{type(injected).__name__}"
                message = f"http_client: must be an httpx.{expected.__name__}, got {got}"
                raise InvalidRequestError(message, param="http_client")
        self.guard = guard
        self._injected: Any = injected
        self._over_httpx = over_httpx or injected is not None
        self._new_lock()
        at_fork("after_in_child", self._new_lock)
        self._opened: dict[tuple[str, ConnectionSettings], Any] = {}
        self._ssl_contexts: dict[Path | None, ssl.SSLContext] = {}
        self._pid = os.getpid()
        # What the parent process opened: never closed, since that would end the parent's connections too.
        self._of_parent: list[object] = []

    def _new_lock(self) -> None:
        # Re-entrant: what opens an HTTPX client asks for the certificates. In a forked child another thread of the
        # parent's may have taken the old one.
        self._lock = threading.RLock()

    @property
    def own_headers(self) -> dict[str, str]:
        """The headers that a user's own client adds to each request."""
        return {} if self._injected is None else dict(self._injected.headers)

    def settings(self, url: str, *, proxy: SecretStr | None, ca_file: Path | None) -> ConnectionSettings:
        """For an address: the provider's own proxy, else the environment's (never under `local_only`)."""
        if self._injected is not None:
            if proxy is not None or ca_file is not None:
                raise ConfigError("proxy and ca_file have no effect with http_client: set them on that HTTP client")
            return ConnectionSettings()
        if proxy is not None:
            self.guard.refuse("proxy", "a proxy, which forwards what it gets")
            return ConnectionSettings(_checked_proxy(proxy.get_secret_value(), "proxy:"), ca_file)
        return ConnectionSettings(None if self.guard.local_only else _proxy_of_environment(url), ca_file)

    def sync_endpoint(
        self, settings: ConnectionSettings, url: str, headers: Mapping[str, str], *, is_foreign: bool = False
    ) -> Endpoint:
        """An address, reached over the user's own client where there is one; `is_foreign`: without what that adds."""
        if self._over_httpx or settings.proxy is not None:
            ready(_HTTPX_WIRE)
            from llama_client.providers.http.httpx_wire import HttpxEndpoint

            return HttpxEndpoint(self.client(settings, url, is_async=False), url, headers, is_foreign=is_foreign)
        ready("llama_client.providers.http.sync_wire")
        from llama_client.providers.http import sync_wire

        def opened() -> sync_wire.SyncWire:
            return sync_wire.SyncWire(self.guard, partial(self._ssl_context, settings.ca_file))

        return sync_wire.WireEndpoint(self._kept("wire", settings, opened), RequestHeads(url, headers))

    def async_endpoint(
        self, settings: ConnectionSettings, url: str, headers: Mapping[str, str], *, is_foreign: bool = False
    ) -> AsyncEndpoint:
        """The same on the event loop; may be called in any thread."""
        if self._over_httpx or settings.proxy is not None:
            ready(_HTTPX_WIRE)
            from llama_client.providers.http.httpx_wire import AsyncHttpxEndpoint

            return AsyncHttpxEndpoint(self.client(settings, url, is_async=True), url, headers, is_foreign=is_foreign)
        ready("llama_client.providers.http.async_wire")
        from llama_client.providers.http import async_wire

        def opened() -> async_wire.AsyncWire:
            return async_wire.AsyncWire(self.guard, partial(self._ssl_context, settings.ca_file))

        return async_wire.AsyncWireEndpoint(self._kept("async wire", settings, opened), RequestHeads(url, headers))

    def client(self, settings: ConnectionSettings, url: str, *, is_async: bool) -> Any:
        """The user's own HTTPX client, else one with the guard for an address; may be called in any thread."""
        if self._injected is not None:
            self._require_injected(is_async=is_async)
            return self._injected
        ready("httpx", "httpx_aiohttp", "llama_client.providers.http.transport", _CERTIFICATES)
        import httpx

        from llama_client.providers.http.certificates import CertificatesWhenAsked
        from llama_client.providers.http.transport import GuardedTransport, aiohttp_transport

        load = partial(self._ssl_context, settings.ca_file)
        if any(address.lower().startswith("https:") for address in (url, settings.proxy or "")):
            # Certificates that cannot be read are told here.
            load()
        context = CertificatesWhenAsked(load)

        def opened() -> httpx.Client:
            return httpx.Client(transport=GuardedTransport(self.guard, settings.proxy, context), trust_env=False)

        def aopened() -> httpx.AsyncClient:
            transport = aiohttp_transport(self.guard, settings.proxy, context)
            return httpx.AsyncClient(transport=transport, trust_env=False)

        return self._kept("async client", settings, aopened) if is_async else self._kept("client", settings, opened)

    def _require_injected(self, *, is_async: bool) -> None:
        import httpx

        # Batches are asked for by sync clients, in a thread of their own, also of an async client.
        if not isinstance(self._injected, httpx.AsyncClient if is_async else httpx.Client):
            name = type(self._injected).__name__
            message = (
                f"http_client: an httpx.{name} cannot be used by a thread: leave it out where batches are asked for"
            )
            raise InvalidRequestError(message, param="http_client")

    def _kept(self, kind: str, settings: ConnectionSettings, opened: Callable[[], T]) -> T:
        with self._lock:
            if self._pid != os.getpid():
                # A forked process opens its own connections: over a shared one, answers could go to either process.
                self._of_parent += self._opened.values()
                self._opened.clear()
                self._pid = os.getpid()
            if (kind, settings) not in self._opened:
                self._opened[kind, settings] = opened()
            kept: T = self._opened[kind, settings]
            return kept

    def _ssl_context(self, ca_file: Path | None) -> ssl.SSLContext:
        """Created once for each file: reading the certificates takes 20 ms."""
        ready(_CERTIFICATES)
        from llama_client.providers.http.certificates import new_ssl_context

        with self._lock:
            context = self._ssl_contexts.get(ca_file)
            if context is None:
                context = self._ssl_contexts[ca_file] = new_ssl_context(ca_file)
            return context

    def close(self) -> None:
        """Closes what was opened here, not the user's own client."""
        for opened in self._taken("wire", "client"):
            opened.close()

    async def aclose(self) -> None:
        async with AsyncExitStack() as stack:
            for client in self._taken("async client"):
                stack.push_async_callback(client.aclose)
            for wire in self._taken("async wire"):
                stack.callback(wire.close)
            self.close()

    def _taken(self, *kinds: str) -> list[Any]:
        with self._lock:
            return [self._opened.pop(key) for key in list(self._opened) if key[0] in kinds]


def _checked_proxy(proxy: str, source: str) -> str:
    ready("httpx")
    import httpx

    try:
        url = plain_url(proxy_address(proxy)).for_httpx
        httpx.Proxy(url)
    except (ValueError, httpx.InvalidURL) as error:
        # HTTPX's own message could quote a password.
        rule = str(error) if isinstance(error, PydanticCustomError) else "must be a valid address"
        raise ConfigError(f"{source} {rule}") from None
    return url


def _proxy_of_environment(url: str) -> str | None:
    """The environment's proxy for an address, found as other programs do; none for this machine."""
    _, parts, host = plain_url(url)
    has_system_proxies = sys.platform in ("darwin", "win32")
    if is_this_machine(host) or not (has_system_proxies or any(name.lower().endswith("_proxy") for name in os.environ)):
        return None
    # Imported only where there may be a proxy: it takes 5 ms.
    ready("urllib.request")
    import urllib.request

    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or _is_excepted(host, proxies.get("no", ""), urllib.request.proxy_bypass):
        return None
    variable = proxy_variable(url)
    try:
        return _checked_proxy(proxy if "://" in proxy else f"http://{proxy}", f"{variable or _OF_SYSTEM}:")
    except ConfigError as error:
        error.variable = variable
        raise


def proxy_variable(url: str) -> str | None:
    """The variable of the environment that names the proxy for an address; None: the system's settings do."""
    scheme = plain_url(url).parts.scheme
    for name in (f"{scheme}_proxy", "all_proxy"):
        # The lower-case one wins, as in urllib.
        if os.environ.get(name):
            return name
        found = next((each for each, value in os.environ.items() if value and each.lower() == name), None)
        if found is not None:
            return found
    return None


def _is_excepted(host: str, exceptions: str, is_bypassed: Callable[[str], object]) -> bool:
    """Whether `NO_PROXY`, or the system's own list, names a host, in ASCII or in its own script."""
    name = bare(host)
    if any(map(is_bypassed, dict.fromkeys((host, name, in_own_script(name))))):
        return True
    excepted = [name_of(each.strip().lstrip(".")) for each in exceptions.split(",")]
    return any(each and (name == each or name.endswith(f".{each}")) for each in excepted)
