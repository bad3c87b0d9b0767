"""HTTP clients, shared by connection settings (proxy, certificates), opened at first use."""

from __future__ import annotations

import os
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
from pydantic_core import PydanticCustomError

from llama_client.config.provider_tables import proxy_address
from llama_client.errors import ConfigError, InvalidRequestError
from llama_client.local_only import ConnectionGuard, is_this_machine
from llama_client.providers.http.transport import GuardedTransport, aiohttp_transport

if TYPE_CHECKING:
    import ssl

    from pydantic import SecretStr


# Where the operating system has settings of its own, these are among them.
_OF_ENVIRONMENT = "the proxy in the environment (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY)"


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How a provider's connections leave: the same way out shares one client."""

    proxy: str | None = None
    ca_file: Path | None = None


class ClientPool:
    """The HTTP clients of one `LlamaClient`."""

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
        self._sync: dict[ConnectionSettings, httpx.Client] = {}
        self._async: dict[ConnectionSettings, httpx.AsyncClient] = {}
        self._ssl_contexts: dict[Path | None, ssl.SSLContext] = {}
        self._pid = os.getpid()
        self._of_parent: list[object] = []

    def way_out(self, url: str, *, proxy: SecretStr | None, ca_file: Path | None) -> ConnectionSettings:
        """How to reach an address: the provider's own proxy, else the environment's (never under `local_only`)."""
        if self._injected is not None:
            if proxy is not None or ca_file is not None:
                raise ConfigError("proxy and ca_file belong to the HTTP client, and http_client brings its own")
            return ConnectionSettings()
        if proxy is not None:
            self.guard.refuse("proxy", "a proxy, which hands on what it is sent")
            return ConnectionSettings(_checked_proxy(proxy.get_secret_value(), "proxy:"), ca_file)
        return ConnectionSettings(None if self.guard.local_only else _proxy_of_environment(url), ca_file)

    def sync_client(self, way: ConnectionSettings) -> httpx.Client:
        """The blocking client for a way out."""
        if isinstance(self._injected, httpx.Client):
            return self._injected
        with self._lock:
            self._leave_parents_connections()
            if way not in self._sync:
                transport = GuardedTransport(self.guard, way.proxy, self._ssl_context(way.ca_file))
                self._sync[way] = httpx.Client(transport=transport, trust_env=False)
            return self._sync[way]

    def async_client(self, way: ConnectionSettings) -> httpx.AsyncClient:
        """The asynchronous client for a way out. May be made in any thread."""
        if isinstance(self._injected, httpx.AsyncClient):
            return self._injected
        with self._lock:
            self._leave_parents_connections()
            if way not in self._async:
                transport = aiohttp_transport(self.guard, way.proxy, self._ssl_context(way.ca_file))
                self._async[way] = httpx.AsyncClient(transport=transport, trust_env=False)
            return self._async[way]

    def _leave_parents_connections(self) -> None:
        """A forked process opens connections of its own: over a shared one, answers would go to either process."""
        if self._pid == os.getpid():
            return
        # Kept and never closed, since that would tell the servers that the parent has gone.
        self._of_parent += [*self._sync.values(), *self._async.values()]
        self._sync.clear()
        self._async.clear()
        self._pid = os.getpid()

    def _ssl_context(self, ca_file: Path | None) -> ssl.SSLContext:
        """Made once for all ways out: reading the certificates takes a fiftieth of a second."""
        if ca_file not in self._ssl_contexts:
            self._ssl_contexts[ca_file] = _ssl_context(ca_file)
        return self._ssl_contexts[ca_file]

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


def _checked_proxy(proxy: str, whose: str) -> str:
    try:
        httpx.Proxy(proxy_address(proxy))
    except (ValueError, httpx.InvalidURL) as error:
        # Ours says what would be right; HTTPX's could quote a password.
        told = str(error) if isinstance(error, PydanticCustomError) else "must be an address that HTTP clients know"
        raise ConfigError(f"{whose} {told}") from None
    return proxy


def _proxy_of_environment(url: str) -> str | None:
    """The environment's proxy for an address, as other programs find it; this machine is never asked through one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_this_machine(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return _checked_proxy(proxy if "://" in proxy else f"http://{proxy}", _OF_ENVIRONMENT)


def _ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    import ssl

    if ca_file is None:
        # Honours SSL_CERT_FILE and SSL_CERT_DIR.
        return httpx.create_ssl_context(trust_env=True)
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:
        raise ConfigError(f"ca_file: {ca_file} holds no certificates that can be read ({error.strerror})") from None
