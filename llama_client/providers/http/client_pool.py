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


# `getproxies` reads the settings of the operating system too.
_OF_ENVIRONMENT = "the proxy in the environment (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY)"


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Providers with the same settings share one client."""

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

    def settings(self, url: str, *, proxy: SecretStr | None, ca_file: Path | None) -> ConnectionSettings:
        """Those of an address: the provider's own proxy, else the environment's (never under `local_only`)."""
        if self._injected is not None:
            if proxy is not None or ca_file is not None:
                raise ConfigError("proxy and ca_file have no effect on http_client: set them there")
            return ConnectionSettings()
        if proxy is not None:
            self.guard.refuse("proxy", "a proxy, which forwards what it receives")
            return ConnectionSettings(_checked_proxy(proxy.get_secret_value(), "proxy:"), ca_file)
        return ConnectionSettings(None if self.guard.local_only else _proxy_of_environment(url), ca_file)

    def sync_client(self, settings: ConnectionSettings) -> httpx.Client:
        if isinstance(self._injected, httpx.Client):
            return self._injected
        with self._lock:
            self._leave_parents_connections()
            if settings not in self._sync:
                transport = GuardedTransport(self.guard, settings.proxy, self._ssl_context(settings.ca_file))
                self._sync[settings] = httpx.Client(transport=transport, trust_env=False)
            return self._sync[settings]

    def async_client(self, settings: ConnectionSettings) -> httpx.AsyncClient:
        """May be called in any thread."""
        if isinstance(self._injected, httpx.AsyncClient):
            return self._injected
        with self._lock:
            self._leave_parents_connections()
            if settings not in self._async:
                transport = aiohttp_transport(self.guard, settings.proxy, self._ssl_context(settings.ca_file))
                self._async[settings] = httpx.AsyncClient(transport=transport, trust_env=False)
            return self._async[settings]

    def _leave_parents_connections(self) -> None:
        """Opens new connections in a forked process: responses on a shared one would go to either process."""
        if self._pid == os.getpid():
            return
        # Kept, since closing them would end the parent's connections at the servers.
        self._of_parent += [*self._sync.values(), *self._async.values()]
        self._sync.clear()
        self._async.clear()
        self._pid = os.getpid()

    def _ssl_context(self, ca_file: Path | None) -> ssl.SSLContext:
        """Created once per `ca_file`: reading the certificates takes 20 ms."""
        if ca_file not in self._ssl_contexts:
            self._ssl_contexts[ca_file] = _ssl_context(ca_file)
        return self._ssl_contexts[ca_file]

    def close(self) -> None:
        """Closes the clients created here; the user's own client stays open."""
        with self._lock:
            clients = [self._sync.popitem()[1] for _ in range(len(self._sync))]
        for client in clients:
            client.close()

    async def aclose(self) -> None:
        self.close()
        with self._lock:
            clients = [self._async.popitem()[1] for _ in range(len(self._async))]
        for client in clients:
            await client.aclose()


def _checked_proxy(proxy: str, source: str) -> str:
    try:
        httpx.Proxy(proxy_address(proxy))
    except (ValueError, httpx.InvalidURL) as error:
        # HTTPX's own message could quote a password.
        problem = str(error) if isinstance(error, PydanticCustomError) else "must be an address that HTTP clients know"
        raise ConfigError(f"{source} {problem}") from None
    return proxy


def _proxy_of_environment(url: str) -> str | None:
    """The environment's proxy for an address, found as other programs do; never for this machine."""
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
        raise ConfigError(f"ca_file: {ca_file} has no readable certificates ({error.strerror})") from None
