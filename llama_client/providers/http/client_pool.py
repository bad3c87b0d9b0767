"""HTTP clients, one for each set of connection settings (proxy, certificates), opened at first use."""

from __future__ import annotations

import os
import ssl
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from llama_client.config.provider_tables import proxy_address
from llama_client.errors import ConfigError, InvalidRequestError
from llama_client.local_only import ConnectionGuard, is_this_machine
from llama_client.providers.http.transport import GuardedTransport, aiohttp_transport

# Where the operating system has proxy settings of its own, these are included.
_OF_ENVIRONMENT = "the proxy in the environment (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY)"
_Client = TypeVar("_Client", httpx.Client, httpx.AsyncClient)


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Providers with equal settings share one HTTP client."""

    proxy: str | None = None
    ca_file: Path | None = None


class ClientPool:
    """The HTTP clients of one `LlamaClient`."""

    def __init__(self, guard: ConnectionGuard, injected: object = None, *, is_async: bool = False) -> None:
        expected = httpx.AsyncClient if is_async else httpx.Client
        if injected is not None and not isinstance(injected, expected):
            got = f"{type(injected).__module__}.{type(injected).__name__}"
            message = f"http_client: must be an httpx.{expected.__name__}, got {got}"
            raise InvalidRequestError(message, param="http_client")
        self.guard = guard
        self._injected = injected
        self._lock = threading.Lock()
        self._clients: dict[tuple[type, ConnectionSettings], Any] = {}
        self._ssl_contexts: dict[Path | None, ssl.SSLContext] = {}
        self._pid = os.getpid()
        # The clients of the parent process: never closed, since that would end the parent's connections too.
        self._of_parent: list[object] = []

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

    def sync_client(self, settings: ConnectionSettings) -> httpx.Client:
        return self._client(httpx.Client, GuardedTransport, settings)

    def async_client(self, settings: ConnectionSettings) -> httpx.AsyncClient:
        """May be called in any thread."""
        return self._client(httpx.AsyncClient, aiohttp_transport, settings)

    def _client(
        self,
        kind: type[_Client],
        transport: Callable[[ConnectionGuard, str | None, ssl.SSLContext], Any],
        settings: ConnectionSettings,
    ) -> _Client:
        if isinstance(self._injected, kind):
            return self._injected
        with self._lock:
            if self._pid != os.getpid():
                # A forked process opens its own connections: over a shared one, answers could go to either process.
                self._of_parent += self._clients.values()
                self._clients.clear()
                self._pid = os.getpid()
            client: _Client | None = self._clients.get((kind, settings))
            if client is None:
                context = self._ssl_context(settings.ca_file)
                client = kind(transport=transport(self.guard, settings.proxy, context), trust_env=False)
                self._clients[kind, settings] = client
            return client

    def _ssl_context(self, ca_file: Path | None) -> ssl.SSLContext:
        """Created once for each file: reading the certificates takes 20 ms."""
        if ca_file in self._ssl_contexts:
            return self._ssl_contexts[ca_file]
        if ca_file is None:
            # Honours SSL_CERT_FILE and SSL_CERT_DIR.
            context = httpx.create_ssl_context(trust_env=True)
        else:
            try:
                context = ssl.create_default_context(cafile=str(ca_file))
            except OSError as error:
                message = f"ca_file: {ca_file} has no readable certificates ({error.strerror})"
                raise ConfigError(message) from None
        self._ssl_contexts[ca_file] = context
        return context

    def close(self) -> None:
        """Closes the clients that were opened here, not the user's own."""
        for client in self._taken(httpx.Client):
            client.close()

    async def aclose(self) -> None:
        self.close()
        for client in self._taken(httpx.AsyncClient):
            await client.aclose()

    def _taken(self, kind: type[_Client]) -> list[_Client]:
        with self._lock:
            return [self._clients.pop(key) for key in list(self._clients) if key[0] is kind]


def _checked_proxy(proxy: str, source: str) -> str:
    try:
        httpx.Proxy(proxy_address(proxy))
    except (ValueError, httpx.InvalidURL) as error:
        # HTTPX's own message could quote a password.
        rule = str(error) if isinstance(error, PydanticCustomError) else "must be a valid address"
        raise ConfigError(f"{source} {rule}") from None
    return proxy


def _proxy_of_environment(url: str) -> str | None:
    """The environment's proxy for an address, found as other programs do; none for this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_this_machine(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return _checked_proxy(proxy if "://" in proxy else f"http://{proxy}", _OF_ENVIRONMENT)
