"""A provider behind HTTP: its service, codec and connections put together. Opened at its first use."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic
from urllib.parse import unquote, urlsplit

import httpx

from llama_client.clock import Clock, Deadline
from llama_client.config.api_keys import read_key
from llama_client.config.provider_tables import HttpProviderConfig as HttpTable
from llama_client.config.provider_tables import web_address
from llama_client.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaClientError,
    ModelNotFoundError,
    ProviderError,
)
from llama_client.providers.base import AttemptFacts, HttpAnswer, HttpCall, ProviderCall, ServedModel
from llama_client.providers.http.client_pool import ClientPool, ConnectionSettings
from llama_client.providers.http.error_mapping import failure_of
from llama_client.providers.http.exchange import Client, Endpoint, Exchange, afetch, asend, fetch, send
from llama_client.providers.http.sdk import HttpService, OfficialClient, OpenedService
from llama_client.providers.wire.decoders import json_value
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.openai_request import Abilities, has_remote_images, image_urls, parsed
from llama_client.redaction import Secrets, secrets_in, secrets_of_address, without_credentials
from llama_client.types.completion import ChatCompletionChunk
from llama_client.types.messages import MAX_IMAGE_BYTES, image_type

# Of a list of models, for which a person waits.
_MAX_LISTING_BYTES = 16 << 20
_LISTING_TIMEOUT_S = 5.0
_IMAGE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Ready(Generic[Client]):
    """An opened provider, and the process that opened it: a forked process opens its own."""

    endpoint: Endpoint[Client]
    sdk: OfficialClient | None
    pid: int


@dataclass(frozen=True, slots=True)
class ModelKnowledge:
    """What the catalogue knows of this provider's models."""

    abilities: Abilities
    retirement: Callable[[str], str | None]


class HttpProvider:
    """One provider behind HTTP. See `Provider`."""

    def __init__(
        self,
        name: str,
        service: HttpService,
        table: HttpTable,
        *,
        connections: ClientPool,
        knowledge: ModelKnowledge,
        clock: Clock,
        environ: Mapping[str, str],
    ) -> None:
        self._name = name
        self._service = service
        self._table = table
        self._connections = connections
        self._knowledge = knowledge
        self._clock = clock
        self._environ = environ
        self._codec = service.codec(table, knowledge.abilities)
        # Under `local_only` the server is asked first whether it forwards the model to a cloud.
        self._checks_remote_models = connections.guard.local_only and service.lists_remote_models
        self._url = _checked_url(name, service, table, environ)
        # The others are known once the key is read.
        self._secrets = Secrets(secrets_of_address(self._url))
        self._running: set[AttemptFacts] = set()
        self._lock = threading.Lock()
        self._sync: _Ready[httpx.Client] | None = None
        self._async: _Ready[httpx.AsyncClient] | None = None

    @property
    def url(self) -> str:
        return self._url

    def is_free(self, model: str) -> bool:
        return self._service.is_free(model, self._url)

    def require(self, call: ProviderCall) -> None:
        # `local_only` first: it does not depend on what the target supports.
        self._require_local(call)
        self._codec.require(call)

    def continues(self, model: str) -> bool:
        own = self._knowledge.abilities(model)
        return self._service.row.continues or (own is not None and "prefill" in own)

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        try:
            ready = self._sync
            if ready is None or ready.pid != os.getpid():
                ready = self._opened_sync()
            if self._checks_remote_models:
                self._require_on_this_machine(call.model, self.served_models())
            for url in self._images_to_fetch(call) if self._service.fetches_images else ():
                client = self._connections.sync_client(self._settings(url))
                try:
                    call.images[url] = _image(url, fetch(client, *_image_request(url, self._clock)))
                except Exception as error:
                    raise _image_failure(url, error) from error
            http_call, exchange = self._prepared(call)
            self._running.add(call.facts)
            yield from send(ready.endpoint, http_call, exchange, partial(self._is_alive, ready.endpoint))
        except ProviderError as error:
            self._complete(error, call)
            raise
        finally:
            self._running.discard(call.facts)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        try:
            ready = self._async or await self._opened_async()
            if self._checks_remote_models:
                self._require_on_this_machine(call.model, await self.aserved_models())
            for url in self._images_to_fetch(call) if self._service.fetches_images else ():
                client = self._connections.async_client(self._settings(url))
                try:
                    call.images[url] = _image(url, await afetch(client, *_image_request(url, self._clock)))
                except Exception as error:
                    raise _image_failure(url, error) from error
            http_call, exchange = self._prepared(call)
            self._running.add(call.facts)
            chunks = asend(ready.endpoint, http_call, exchange, partial(self._ais_alive, ready.endpoint))
            try:
                async for chunk in chunks:
                    yield chunk
            finally:
                # An abandoned generator would be closed at some later time, and this one holds a connection.
                await chunks.aclose()
        except ProviderError as error:
            self._complete(error, call)
            raise
        finally:
            self._running.discard(call.facts)

    def sdk(self) -> OfficialClient:
        """The official client, on this provider's own connections."""
        return self._sdk_of(self._opened_sync().sdk)

    def async_sdk(self) -> OfficialClient:
        return self._sdk_of(self._open_async().sdk)

    def open(self) -> None:
        """Reads the key and opens the client, so that a measurement that follows does not include it."""
        self._opened_sync()

    def served_models(self) -> Sequence[ServedModel]:
        return self._service.served([self.look_up(path) for path in self._service.listing_paths])

    def look_up(self, path: str) -> Any:
        """A small document of the provider's own, such as Ollama's `api/version`, parsed."""
        ready = self._opened_sync()
        try:
            return self._listing(fetch(ready.endpoint.client, *self._get(ready.endpoint, path, _LISTING_TIMEOUT_S)))
        except Exception as error:  # noqa: BLE001 - the HTTP library may raise anything
            raise self._listing_failure(error)  # noqa: B904 - chained there, where that is safe

    def cleaned(self, text: str) -> str:
        """The provider's text without the secrets that were sent to it."""
        return self._secrets.cleaned(text)

    async def aserved_models(self) -> Sequence[ServedModel]:
        ready = await self._opened_async()
        bodies = []
        for path in self._service.listing_paths:
            try:
                answer = await afetch(ready.endpoint.client, *self._get(ready.endpoint, path, _LISTING_TIMEOUT_S))
                bodies.append(self._listing(answer))
            except Exception as error:  # noqa: BLE001 - the HTTP library may raise anything
                raise self._listing_failure(error)  # noqa: B904 - as above
        return self._service.served(bodies)

    def close(self) -> None:
        """Cancels the attempts in flight; the connections belong to the client."""
        for facts in list(self._running):
            facts.cancel()

    async def aclose(self) -> None:
        self.close()

    def _require_local(self, call: ProviderCall) -> None:
        guard = self._connections.guard
        if not guard.local_only:
            return
        self._require_reachable()
        self._service.require_local(call.model, guard)
        if has_remote_images(call.request):
            guard.refuse("remote_image", "images behind addresses")

    def _require_reachable(self) -> None:
        """Applies `local_only` to the address, before the key is read and the host name is resolved."""
        guard = self._connections.guard
        guard.require_allowed(urlsplit(self._url).hostname or "")
        if self._table.proxy is not None:
            guard.refuse("proxy", "a proxy, which forwards what it receives")
        if self._table.api_key_command is not None:
            guard.refuse(
                "key_command",
                f"the command that prints the key of {self._name}, since it may connect to any host (use api_key_file "
                "or api_key_env)",
            )

    def _require_on_this_machine(self, model: str, served: Sequence[ServedModel]) -> None:
        """Refuses a model that its server forwards to a cloud, or does not list."""
        known = [each for each in served if self._service.is_same_model(each.id, model)]
        if any(each.is_remote for each in known):
            self._connections.guard.refuse("cloud_model", f"{model}, which {self._name} forwards to a cloud")
        if not known:
            raise ModelNotFoundError(f"{self._name} has no model {model} on this machine")

    def _opened_sync(self) -> _Ready[httpx.Client]:
        with self._lock:
            if self._sync is None or self._sync.pid != os.getpid():
                self._require_reachable()
                client = self._connections.sync_client(self._settings(self._url))
                opened = self._open(client, is_async=False)
                self._sync = _Ready(Endpoint(client, opened.address), opened.sdk, os.getpid())
            return self._sync

    async def _opened_async(self) -> _Ready[httpx.AsyncClient]:
        # In a thread: the official packages take half a second to import, and keys may come from files and commands.
        return await asyncio.to_thread(self._open_async) if self._async is None else self._async

    def _open_async(self) -> _Ready[httpx.AsyncClient]:
        with self._lock:
            if self._async is None:
                self._require_reachable()
                client = self._connections.async_client(self._settings(self._url))
                opened = self._open(client, is_async=True)
                self._async = _Ready(Endpoint(client, opened.address), opened.sdk, os.getpid())
            return self._async

    def _settings(self, url: str) -> ConnectionSettings:
        return self._connections.settings(url, proxy=self._table.proxy, ca_file=self._table.ca_file)

    def _open(self, client: httpx.Client | httpx.AsyncClient, *, is_async: bool) -> OpenedService:
        variable = self._service.key_variable_for(self._table, self._environ)
        key = read_key(self._name, self._table, default_variable=variable, environ=self._environ)
        if key is None and self._service.needs_key_at(self._table):
            keys_url = self._service.keys_url_at(self._url)
            made = f" (keys are made at {keys_url})" if keys_url else ""
            raise AuthenticationError(
                f"no API key for {self._name}: set {variable}{made}, or providers.{self._name}.api_key_env "
                "(or api_key_file, api_key_command, api_key)"
            )
        opened = self._service.open(self._table, key, client, self._environ, is_async=is_async)
        # Also in the environment's custom headers, and in those of a user's own client.
        held = secrets_in({**dict(client.headers), **opened.address.headers})
        held += self._proxy_secrets()
        self._secrets = self._secrets.plus([*held, *([key.get_secret_value()] if key else [])])
        return opened

    def _proxy_secrets(self) -> list[str]:
        parts = urlsplit(self._settings(self._url).proxy or "")
        pair = parts.netloc.rpartition("@")[0]
        return [parts.password, pair, base64.b64encode(unquote(pair).encode()).decode()] if parts.password else []

    def _prepared(self, call: ProviderCall) -> tuple[HttpCall, Exchange]:
        checks_loading = self._service.liveness_path is not None
        exchange = Exchange(call, self._codec, self._clock, self._table.timeout_s, checks_loading=checks_loading)
        return self._codec.encode(call), exchange

    def _is_alive(self, endpoint: Endpoint[httpx.Client], within_s: float) -> bool:
        """Whether a server that is silent, perhaps as it loads a model, still responds at all."""
        try:
            path = self._service.liveness_path or ""
            return fetch(endpoint.client, *self._get(endpoint, path, within_s)).status == 200
        except Exception:  # noqa: BLE001 - any failure means no response
            return False

    async def _ais_alive(self, endpoint: Endpoint[httpx.AsyncClient], within_s: float) -> bool:
        try:
            path = self._service.liveness_path or ""
            return (await afetch(endpoint.client, *self._get(endpoint, path, within_s))).status == 200
        except Exception:  # noqa: BLE001 - as above
            return False

    @staticmethod
    def _images_to_fetch(call: ProviderCall) -> list[str]:
        if not call.request.has_images:
            return []
        return [url for url in dict.fromkeys(image_urls(call.request)) if not url.startswith("data:")]

    def _complete(self, error: ProviderError, call: ProviderCall) -> None:
        """Adds remedies to the error of an attempt, and redacts secrets."""
        self._explain(error, call.model)
        secrets = self._secrets.plus(secrets_in(call.request.extra_headers or {}))
        secrets.clean(error)
        call.facts.redact(secrets.without)

    def _explain(self, error: ProviderError, model: str) -> None:
        remedies = [self._service.explain(error, self._url, model)]
        if isinstance(error, ModelNotFoundError):
            remedies.append(self._knowledge.retirement(model))
        for remedy in remedies:
            if remedy and remedy not in str(error):
                error.args = (f"{error} ({remedy})",)

    def _sdk_of(self, sdk: OfficialClient | None) -> OfficialClient:
        if sdk is None:
            raise InvalidRequestError(f"{self._name} has no official client here")
        return sdk

    def _get(self, endpoint: Endpoint[Client], path: str, within_s: float) -> tuple[httpx.Request, int, Deadline]:
        request = endpoint.request("GET", path, _timeouts(within_s))
        return request, _MAX_LISTING_BYTES, Deadline(within_s, self._clock)

    def _listing(self, answer: HttpAnswer) -> Any:
        if not 200 <= answer.status < 300:
            failure = Failure(answer.status, answer.headers, parsed(answer.body), self._clock.wall())
            raise error_of(failure)
        body = json_value(answer.body)
        if not isinstance(body, dict | list):
            raise InvalidResponseError(f"{self._name} sent no list of models")
        return body

    def _listing_failure(self, error: Exception) -> LlamaClientError:
        if not isinstance(error, ProviderError):
            if isinstance(error, LlamaClientError):
                return error
            failure = failure_of(error, waited_s=_LISTING_TIMEOUT_S)
            failure.__cause__ = error
            error = failure
        error.provider = self._name
        self._explain(error, "")
        self._secrets.clean(error)
        return error


def _checked_url(name: str, service: HttpService, table: HttpTable, environ: Mapping[str, str]) -> str:
    # It may come from the environment, and so is not checked yet.
    try:
        return web_address(service.url(table, environ))
    except ValueError as error:
        raise ConfigError(f"{name}: the address in the environment {error}", key=f"providers.{name}.base_url") from None


def _image_request(url: str, clock: Clock) -> tuple[httpx.Request, int, Deadline]:
    # Without the provider's headers: its key must not go to the server of the image.
    headers = {"accept": "image/*", "accept-encoding": "identity"}
    timeouts = _timeouts(_IMAGE_TIMEOUT_S)
    request = httpx.Request("GET", url, headers=headers, extensions={"timeout": timeouts, "foreign": True})
    return request, MAX_IMAGE_BYTES, Deadline(_IMAGE_TIMEOUT_S, clock)


def _image_failure(url: str, error: Exception) -> LlamaClientError:
    """Why an image could not be fetched; the attempt may fall back to another target."""
    if isinstance(error, LlamaClientError):
        return error
    failure = failure_of(error, waited_s=_IMAGE_TIMEOUT_S)
    failure.args = (f"the image at {_shown(url)} cannot be fetched: {failure}",)
    return failure


def _shown(url: str) -> str:
    # The query of a signed address is its signature.
    shown = without_credentials(url)
    return shown if len(shown) <= 100 else f"{shown[:100]}…"


def _timeouts(timeout_s: float) -> dict[str, float]:
    return dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)


def _image(url: str, answer: HttpAnswer) -> str:
    """A fetched image in base64."""
    if answer.status != 200 or image_type(answer.body) is None:
        raise BadRequestError(f"no image at {_shown(url)} (status {answer.status})", failover=True)
    return base64.b64encode(answer.body).decode()
