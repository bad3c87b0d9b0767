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
from llama_client.providers.http.exchange import Client, Endpoint, Exchange, aexchange, afetch, exchange, fetch
from llama_client.providers.http.sdk import HttpService, OfficialClient, OpenedService
from llama_client.providers.wire.decoders import json_value
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.openai_request import Abilities, has_remote_images, image_urls, parsed
from llama_client.redaction import Secrets, secrets_in, secrets_of_address, without_credentials
from llama_client.types.completion import ChatCompletionChunk
from llama_client.types.messages import MAX_IMAGE_BYTES, image_type

# A list of models, and the wait for it: it is asked for by people who look at a screen.
_MAX_LISTING_BYTES = 16 << 20
_LISTING_TIMEOUT_S = 5.0
_IMAGE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Ready(Generic[Client]):
    """An opened provider, the way to it, and the process that opened it: a forked one opens its own."""

    route: Endpoint[Client]
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
        # Whether it must be asked first if a model is one that it hands on.
        self._asks_for_remote_models = connections.guard.local_only and service.lists_remote_models
        self._url = _checked_url(name, service, table, environ)
        # The rest is known once the key is read.
        self._secrets = Secrets(secrets_of_address(self._url))
        self._running: set[AttemptFacts] = set()
        self._lock = threading.Lock()
        self._sync: _Ready[httpx.Client] | None = None
        self._async: _Ready[httpx.AsyncClient] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return self._url

    def is_free(self, model: str) -> bool:
        """See `Provider`."""
        return self._service.is_free(model, self._url)

    def require(self, call: ProviderCall) -> None:
        """See `Provider`."""
        # Before anything else: what must not leave is not judged by what the target could make of it.
        self._require_local(call)
        self._codec.require(call)

    def continues(self, model: str) -> bool:
        """See `Provider`."""
        own = self._knowledge.abilities(model)
        return self._service.row.continues or (own is not None and "prefill" in own)

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        """Answers, blocking. See `Provider`."""
        try:
            ready = self._sync
            if ready is None or ready.pid != os.getpid():
                ready = self._opened_sync()
            if self._asks_for_remote_models:
                self._require_here(call.model, self.served_models())
            for url in self._images_to_fetch(call) if self._service.fetches_images else ():
                client = self._connections.sync_client(self._way_out(url))
                try:
                    call.images[url] = _image(url, fetch(client, *_image_request(url, self._clock)))
                except Exception as error:
                    raise _image_failure(url, error) from error
            sent, job = self._prepared(call)
            self._running.add(call.facts)
            yield from exchange(ready.route, sent, job, partial(self._is_there, ready.route))
        except ProviderError as error:
            self._complete(error, call)
            raise
        finally:
            self._running.discard(call.facts)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        """Answers, on the event loop. See `Provider`."""
        try:
            ready = self._async or await self._opened_async()
            if self._asks_for_remote_models:
                self._require_here(call.model, await self.aserved_models())
            for url in self._images_to_fetch(call) if self._service.fetches_images else ():
                client = self._connections.async_client(self._way_out(url))
                try:
                    call.images[url] = _image(url, await afetch(client, *_image_request(url, self._clock)))
                except Exception as error:
                    raise _image_failure(url, error) from error
            sent, job = self._prepared(call)
            self._running.add(call.facts)
            chunks = aexchange(ready.route, sent, job, partial(self._ais_there, ready.route))
            try:
                async for chunk in chunks:
                    yield chunk
            finally:
                # An abandoned generator is closed at some later time; this one holds a connection.
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
        """The official asynchronous client."""
        return self._sdk_of(self._open_async().sdk)

    def open(self) -> None:
        """Reads the key and makes the way to the provider, so that whoever times what follows times nothing else."""
        self._opened_sync()

    def served_models(self) -> Sequence[ServedModel]:
        """See `Provider`."""
        return self._service.served([self.look_up(path) for path in self._service.listing_paths])

    def look_up(self, path: str) -> Any:
        """A small document of the provider's own, such as Ollama's `api/version`, parsed."""
        ready = self._opened_sync()
        try:
            answer = fetch(ready.route.client, _get(ready.route, path), _MAX_LISTING_BYTES, self._listing_deadline())
            return self._listing(answer)
        except Exception as error:  # noqa: BLE001 - the HTTP library may raise anything
            raise self._listing_failure(error)  # noqa: B904 - chained there, where that is safe

    def cleaned(self, text: str) -> str:
        """What the provider says, without the secrets that were sent to it."""
        return self._secrets.cleaned(text)

    async def aserved_models(self) -> Sequence[ServedModel]:
        """See `Provider`."""
        ready = await self._opened_async()
        bodies = []
        for path in self._service.listing_paths:
            try:
                request, deadline = _get(ready.route, path), self._listing_deadline()
                answer = await afetch(ready.route.client, request, _MAX_LISTING_BYTES, deadline)
                bodies.append(self._listing(answer))
            except Exception as error:  # noqa: BLE001 - the HTTP library may raise anything
                raise self._listing_failure(error)  # noqa: B904 - as above
        return self._service.served(bodies)

    def close(self) -> None:
        """Ends what runs; the connections belong to the client."""
        for facts in list(self._running):
            facts.cancel()

    async def aclose(self) -> None:
        """The same on the event loop."""
        self.close()

    def _require_local(self, call: ProviderCall) -> None:
        guard = self._connections.guard
        if not guard.local_only:
            return
        self._require_way()
        self._service.require_local(call.model, guard)
        if has_remote_images(call.request):
            guard.refuse("remote_image", "images behind addresses")

    def _require_way(self) -> None:
        """Refuses the way to the provider, before its key is read and before anybody is asked where it is."""
        guard = self._connections.guard
        guard.require_allowed(urlsplit(self._url).hostname or "")
        if self._table.proxy is not None:
            guard.refuse("proxy", "a proxy, which hands on what it is sent")
        if self._table.api_key_command is not None:
            guard.refuse(
                "key_command",
                f"the command that prints the key of {self._name}, since nobody here can judge whom it asks (read the "
                "key from api_key_file or api_key_env)",
            )

    def _require_here(self, model: str, served: Sequence[ServedModel]) -> None:
        """Refuses a model that its server hands on, or does not have, so that nobody knows what it would do."""
        known = [each for each in served if self._service.is_same_model(each.id, model)]
        if any(each.is_remote for each in known):
            self._connections.guard.refuse("cloud_model", f"{model}, which {self._name} hands on to a cloud")
        if not known:
            raise ModelNotFoundError(f"{self._name} has no model {model} on this machine")

    def _opened_sync(self) -> _Ready[httpx.Client]:
        ready = self._sync
        if ready is None or ready.pid != os.getpid():
            with self._lock:
                if self._sync is None or self._sync.pid != os.getpid():
                    self._require_way()
                    client = self._connections.sync_client(self._way_out(self._url))
                    opened = self._open(client, is_async=False)
                    self._sync = _Ready(Endpoint(client, opened.address), opened.sdk, os.getpid())
                ready = self._sync
        return ready

    async def _opened_async(self) -> _Ready[httpx.AsyncClient]:
        # The official packages take half a second to import, and keys may come from files and commands.
        if self._async is None:
            return await asyncio.to_thread(self._open_async)
        return self._async

    def _open_async(self) -> _Ready[httpx.AsyncClient]:
        with self._lock:
            if self._async is None:
                self._require_way()
                client = self._connections.async_client(self._way_out(self._url))
                opened = self._open(client, is_async=True)
                self._async = _Ready(Endpoint(client, opened.address), opened.sdk, os.getpid())
            return self._async

    def _way_out(self, url: str) -> ConnectionSettings:
        return self._connections.way_out(url, proxy=self._table.proxy, ca_file=self._table.ca_file)

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
        # Also what the environment's custom headers and a user's own client add.
        held = secrets_in({**dict(client.headers), **opened.address.headers})
        held += self._proxy_secrets()
        self._secrets = self._secrets.plus([*held, *([key.get_secret_value()] if key else [])])
        return opened

    def _proxy_secrets(self) -> list[str]:
        way = self._way_out(self._url)
        password = urlsplit(way.proxy).password if way.proxy else None
        pair = urlsplit(way.proxy).netloc.rpartition("@")[0] if way.proxy else ""
        return [password, pair, base64.b64encode(unquote(pair).encode()).decode()] if password else []

    def _prepared(self, call: ProviderCall) -> tuple[HttpCall, Exchange]:
        job = Exchange(
            call,
            self._codec,
            self._clock,
            self._table.timeout_s,
            asks_if_loading=self._service.liveness_path is not None,
        )
        return self._codec.encode(call), job

    def _is_there(self, route: Endpoint[httpx.Client], within_s: float) -> bool:
        """Whether a server that is silent, since it may be loading a model, still answers anything."""
        path, deadline = self._service.liveness_path or "", Deadline(within_s, self._clock)
        try:
            request = route.request("GET", path, _timeouts(within_s))
            return fetch(route.client, request, _MAX_LISTING_BYTES, deadline).status == 200
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            return False

    async def _ais_there(self, route: Endpoint[httpx.AsyncClient], within_s: float) -> bool:
        """The same on the event loop."""
        path, deadline = self._service.liveness_path or "", Deadline(within_s, self._clock)
        try:
            request = route.request("GET", path, _timeouts(within_s))
            return (await afetch(route.client, request, _MAX_LISTING_BYTES, deadline)).status == 200
        except Exception:  # noqa: BLE001 - as above
            return False

    @staticmethod
    def _images_to_fetch(call: ProviderCall) -> list[str]:
        if not call.request.has_images:
            return []
        return [url for url in dict.fromkeys(image_urls(call.request)) if not url.startswith("data:")]

    def _complete(self, error: ProviderError, call: ProviderCall) -> None:
        """Says what to do about a failed attempt, and takes the secrets out of what it shows."""
        self._explain(error, call.model)
        secrets = self._secrets.plus(secrets_in(call.request.extra_headers or {}))
        secrets.clean(error)
        call.facts.redact(secrets.without)

    def _explain(self, error: ProviderError, model: str) -> None:
        """Adds to an error's text what to do about it."""
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

    def _listing_deadline(self) -> Deadline:
        return Deadline(_LISTING_TIMEOUT_S, self._clock)

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
    """The provider's address, which may come from the environment and so has not been checked yet."""
    try:
        return web_address(service.url(table, environ))
    except ValueError as error:
        raise ConfigError(f"{name}: the address in the environment {error}", key=f"providers.{name}.base_url") from None


def _get(route: Endpoint[Client], path: str) -> httpx.Request:
    return route.request("GET", path, _timeouts(_LISTING_TIMEOUT_S))


def _image_request(url: str, clock: Clock) -> tuple[httpx.Request, int, Deadline]:
    # Without the provider's headers: its key is not for whoever serves the image.
    headers = {"accept": "image/*", "accept-encoding": "identity"}
    timeouts = _timeouts(_IMAGE_TIMEOUT_S)
    request = httpx.Request("GET", url, headers=headers, extensions={"timeout": timeouts, "foreign": True})
    return request, MAX_IMAGE_BYTES, Deadline(_IMAGE_TIMEOUT_S, clock)


def _image_failure(url: str, error: Exception) -> LlamaClientError:
    """Why an image could not be fetched; another target may be able to."""
    if isinstance(error, LlamaClientError):
        return error
    failure = failure_of(error, waited_s=_IMAGE_TIMEOUT_S)
    failure.args = (f"the image at {_shown(url)} cannot be fetched: {failure}",)
    return failure


def _shown(url: str) -> str:
    # A signed address holds its signature in its query.
    shown = without_credentials(url)
    return shown if len(shown) <= 100 else f"{shown[:100]}…"


def _timeouts(timeout_s: float) -> dict[str, float]:
    return dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)


def _image(url: str, answer: HttpAnswer) -> str:
    """A fetched image in base64."""
    if answer.status != 200 or image_type(answer.body) is None:
        raise BadRequestError(f"there is no image at {_shown(url)} (status {answer.status})", failover=True)
    return base64.b64encode(answer.body).decode()
