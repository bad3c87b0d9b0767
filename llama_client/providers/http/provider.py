"""A provider behind HTTP: its service, codec and connections. Opened at its first use."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

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
from llama_client.hosts import host_in
from llama_client.process import at_fork
from llama_client.providers.base import AttemptFacts, HttpAnswer, HttpCall, Provider, ProviderCall, ServedModel
from llama_client.providers.http.client_pool import ClientPool, ConnectionSettings, proxy_variable
from llama_client.providers.http.error_mapping import failure_of, is_refused, is_unresolved, is_untrusted
from llama_client.providers.http.exchange import AsyncEndpoint, Endpoint, Exchange, IsAlive, afetch, asend, fetch, send
from llama_client.providers.http.interceptor import Interceptor
from llama_client.providers.http.sdk import HttpService, LookUp, LookUps, OfficialClient
from llama_client.providers.http.sdk_errors import error_of_sdk
from llama_client.providers.wire.decoders import json_value
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.openai_codec import Abilities, has_remote_images, image_urls, parsed
from llama_client.redaction import Secrets, secrets_in, secrets_of_address, without_credentials
from llama_client.types.completion import ChatCompletionChunk
from llama_client.types.messages import MAX_IMAGE_BYTES, image_type

# For a list of models, which users wait for at a terminal.
_MAX_LISTING_BYTES = 16 << 20
_LISTING_TIMEOUT_S = 5.0
_IMAGE_TIMEOUT_S = 30.0
# For what is only told with an answer that is complete already.
_AFTERWARDS_S = 2.0
# Without the provider's headers: its key must not be sent to another server.
_IMAGE_HEADERS = {"Accept": "image/*"}
# Where nothing is asked, so that a test needs no key and shows none.
_PLAYED_KEY = "a-key-of-the-test-kit"
_KEY_HEADERS = ("authorization", "api-key", "x-api-key")
# What LiteLLM's proxy 1.108.7 without a database answers to a request without a key, as text and as JSON.
_SERVER_FAILED = 500
# What a gateway answers for a server that it does not reach. Anything else, also a refusal, comes from a living one.
_NOBODY_BEHIND = (502, 503, 504)
_SAYS_NOTHING = ("internal server error", "no reason was given (status 500)")

_Endpoint = TypeVar("_Endpoint", Endpoint, AsyncEndpoint)


@dataclass(frozen=True, slots=True)
class _Opened(Generic[_Endpoint]):
    endpoint: _Endpoint
    # The official client, made when it is asked for; of another package than that of chats where one is named.
    sdk: Callable[[str | None], OfficialClient]
    # A forked process opens its own connections.
    pid: int


# Without a representation, which would show keys in the environment.
@dataclass(eq=False, repr=False)
class HttpProvider(Provider):
    """One provider behind HTTP."""

    name: str
    service: HttpService
    table: HttpTable
    connections: ClientPool
    abilities: Abilities
    # Since when a model is no longer served; None: it is, or that is unknown.
    retirement: Callable[[str], str | None]
    clock: Clock
    environ: Mapping[str, str]
    interceptor: Interceptor | None = None

    def __post_init__(self) -> None:
        # Under `local_only` its list of models tells which of them it forwards to a cloud.
        self._checks_remote_models = self.connections.guard.local_only and self.service.lists_remote_models
        try:
            self.url = web_address(self.service.url(self.table, self.environ))
        except ValueError as error:  # of an address in the environment, which loading does not check
            message, key = f"{self.name}: the address in the environment {error}", f"providers.{self.name}.base_url"
            raise ConfigError(message, key=key) from None
        self._codec = self.service.codec(self.table, self.abilities, self.url)
        self._is_users_own = self.service.is_users_own_at(self.url)
        # Known once it is open.
        self._sends_key = True
        self._proxy: str | None = None
        # Opening adds the key and the headers.
        self._secrets = Secrets(secrets_of_address(self.url))
        self._running: set[AttemptFacts] = set()
        self._is_closed = False
        self._identity: str | None = None
        self._lock = threading.Lock()
        self._sync: _Opened[Endpoint] | None = None
        self._async: _Opened[AsyncEndpoint] | None = None
        at_fork("after_in_child", self._after_fork_in_child)

    def _after_fork_in_child(self) -> None:
        # The parent's attempts, which closing would stop, and a lock that another of its threads may have taken.
        self._running = set()
        self._lock = threading.Lock()

    def is_free(self, model: str) -> bool:
        return self.service.is_free(model, self.url)

    def require(self, call: ProviderCall) -> None:
        # First: the codec's own refusals must not hide a violation of `local_only`.
        self._require_local(call)
        for url in self._images_to_fetch(call) if self.service.fetches_images else ():
            if not host_in(url):
                message = f"messages: the image at {_shown(url)} cannot be fetched: its host is no name and no IP"
                raise InvalidRequestError(message, param="messages")
        self._codec.require(call)

    def model_identity(self, model: str) -> str | None:
        if self._identity is None:
            self._identity = _identity(self.table, self.url)
        return f"{self._identity} {model}"

    def continues(self, model: str) -> bool:
        own = self.abilities(model)
        return self.service.row.continues or (own is not None and "prefill" in own)

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        try:
            opened = self._sync
            if opened is None or opened.pid != os.getpid():
                opened = self.open()
            if self._checks_remote_models:
                self._require_not_remote(call.model, self.served_models())
            if self.service.looks_up:
                self._look_up_all(self.service.before(call, self.abilities(call.model)))
            for url in self._images_to_fetch(call) if self.service.fetches_images else ():
                try:
                    endpoint = self._sync_endpoint(self._settings(url), url, _IMAGE_HEADERS, is_foreign=True)
                    call.images[url] = _image(
                        url, fetch(endpoint, "", {}, MAX_IMAGE_BYTES, self._deadline(_IMAGE_TIMEOUT_S))
                    )
                except Exception as error:
                    raise _image_failure(url, error) from error
            exchange = self._exchange(call, partial(self._is_alive, opened.endpoint))
            self._begin(call.facts)
            yield from send(opened.endpoint, exchange)
            if self.service.looks_up:
                self._look_up_all(self.service.after(call, self.table), _AFTERWARDS_S)
        except ProviderError as error:
            self._complete(error, call)
            raise
        finally:
            self._running.discard(call.facts)
            self._clean(call)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        try:
            opened = await self._aopen()
            if self._checks_remote_models:
                self._require_not_remote(call.model, await self.aserved_models())
            if self.service.looks_up:
                await self._alook_up_all(self.service.before(call, self.abilities(call.model)))
            for url in self._images_to_fetch(call) if self.service.fetches_images else ():
                try:
                    endpoint = self._async_endpoint(self._settings(url), url, _IMAGE_HEADERS, is_foreign=True)
                    answer = await afetch(endpoint, "", {}, MAX_IMAGE_BYTES, self._deadline(_IMAGE_TIMEOUT_S))
                    call.images[url] = _image(url, answer)
                except Exception as error:
                    raise _image_failure(url, error) from error
            exchange = self._exchange(call, partial(self._ais_alive, opened.endpoint))
            self._begin(call.facts)
            chunks = asend(opened.endpoint, exchange)
            # An abandoned generator would be closed at some later time, and it holds a connection.
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
            if self.service.looks_up:
                await self._alook_up_all(self.service.after(call, self.table), _AFTERWARDS_S)
        except ProviderError as error:
            self._complete(error, call)
            raise
        finally:
            self._running.discard(call.facts)
            self._clean(call)

    def sdk(self, *, is_async: bool = False) -> OfficialClient:
        """The official client, on this provider's own connections."""
        if not self.service.row.sdk:
            raise InvalidRequestError(f"{self.name} has no official client")
        opened: _Opened[Any] = self._open_async() if is_async else self.open()
        with self._lock:
            return opened.sdk(None)

    def client_of(self, package: str) -> OfficialClient:
        """The sync client of an official package, which may be another one than that of its chats; see `sdk`.

        Raises:
            InvalidRequestError: The client was closed.
        """
        if self._is_closed:
            raise InvalidRequestError("the client was closed")
        opened = self.open()
        with self._lock:
            return opened.sdk(package)

    def encode(self, call: ProviderCall) -> HttpCall:
        """A request as it would be sent, for a file of requests."""
        self._require_local(call)
        return self._codec.encode(call)

    def decode(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk:
        """An answer that came in a file, good or bad.

        Raises:
            ProviderError: It is an error, or none that can be read.
        """
        try:
            if 200 <= answer.status < 300:
                return self._codec.decode(answer, call)
            rescued = self._codec.failure(answer, call)
            if isinstance(rescued, ProviderError):
                raise rescued
            return rescued
        except ProviderError as error:
            error.provider, error.target = self.name, call.target
            error.http_status = error.http_status or answer.status
            self._secrets.clean(error)
            raise
        finally:
            self._clean(call)

    def of_sdk(self, error: Exception) -> LlamaClientError:
        """What an official client raised, as one of our errors, without secrets."""
        told = error_of_sdk(error, self.clock.wall())
        if isinstance(told, ProviderError):
            told.provider = self.name
            self._explain(told, "")
            self._secrets.clean(told)
        return told

    def served_models(self) -> Sequence[ServedModel]:
        return self.service.served([self.look_up(path) for path in self.service.listing_paths])

    async def aserved_models(self) -> Sequence[ServedModel]:
        return self.service.served([await self._alook_up(path) for path in self.service.listing_paths])

    def look_up(self, path: str, body: bytes = b"", timeout_s: float = _LISTING_TIMEOUT_S) -> Any:
        """A small document of the provider's own, such as Ollama's `api/version`, parsed."""
        endpoint, deadline = self.open().endpoint, self._deadline(timeout_s)
        try:
            return self._document(fetch(endpoint, path, {}, _MAX_LISTING_BYTES, deadline, body))
        except Exception as error:  # noqa: BLE001 - the HTTP library may raise anything
            raise self._listing_failure(error)  # noqa: B904 - chained there, where that is safe

    async def _alook_up(self, path: str, body: bytes = b"", timeout_s: float = _LISTING_TIMEOUT_S) -> Any:
        endpoint, deadline = (await self._aopen()).endpoint, self._deadline(timeout_s)
        try:
            return self._document(await afetch(endpoint, path, {}, _MAX_LISTING_BYTES, deadline, body))
        except Exception as error:  # noqa: BLE001 - as above
            raise self._listing_failure(error)  # noqa: B904 - as above

    def _look_up_all(self, steps: LookUps, timeout_s: float = _LISTING_TIMEOUT_S) -> None:
        found: Any = None
        while (wanted := _next_of(steps, found)) is not None:
            try:
                found = self.look_up(*wanted, timeout_s)
            except LlamaClientError as error:
                found = error

    async def _alook_up_all(self, steps: LookUps, timeout_s: float = _LISTING_TIMEOUT_S) -> None:
        found: Any = None
        while (wanted := _next_of(steps, found)) is not None:
            try:
                found = await self._alook_up(*wanted, timeout_s)
            except LlamaClientError as error:
                found = error

    def cleaned(self, text: str) -> str:
        return self._secrets.cleaned(text)

    def close(self) -> None:
        """Stops running attempts; the connections belong to the client."""
        self._is_closed = True
        for facts in list(self._running):
            facts.cancel()

    def _begin(self, facts: AttemptFacts) -> None:
        """Refuses an attempt that `close` has not seen: the connections may be a user's own, and stay open."""
        self._running.add(facts)
        if self._is_closed:
            raise InvalidRequestError("the client was closed")

    def open(self) -> _Opened[Endpoint]:
        """Reads the key and creates the HTTP client, at the first time in this process."""
        with self._lock:
            if self._sync is None or self._sync.pid != os.getpid():
                self._sync = self._opened(self._sync_endpoint, is_async=False)
            return self._sync

    def _open_async(self) -> _Opened[AsyncEndpoint]:
        with self._lock:
            if self._async is None or self._async.pid != os.getpid():
                self._async = self._opened(self._async_endpoint, is_async=True)
            return self._async

    async def _aopen(self) -> _Opened[AsyncEndpoint]:
        # In a thread: importing the official packages takes 0.5 s, and keys may come from files and commands.
        opened = self._async
        if opened is not None and opened.pid == os.getpid():
            return opened
        return await asyncio.to_thread(self._open_async)

    def _opened(self, connect: Callable[..., _Endpoint], *, is_async: bool) -> _Opened[_Endpoint]:
        self._require_connection_allowed()
        settings = self._settings(self.url)
        variable = self.service.key_variable_for(self.table, self.environ)
        if self.interceptor is not None and self.interceptor.plays:
            key: SecretStr | None = SecretStr(_PLAYED_KEY)
        else:
            key = read_key(self.name, self.table, default_variable=variable, environ=self.environ)
        if key is None and self.service.needs_key_at(self.table):
            keys_url = self.service.keys_url_at(self.url)
            made = f" (keys are made at {keys_url})" if keys_url else ""
            raise AuthenticationError(
                f"no API key for {self.name}: set {variable}{made}, or providers.{self.name}.api_key_env "
                "(or api_key_file, api_key_command, api_key)"
            )

        @cache
        def sdk(package: str | None) -> OfficialClient:
            opened = partial(self.connections.client, settings, self.url, is_async=is_async)
            if self.interceptor is None:
                http = opened()
            else:
                http = self.interceptor.http_client(self.name, opened, is_async=is_async)
            return self.service.official(self.table, key, http, self.environ, is_async=is_async, package=package)

        address = self.service.address(self.table, key, self.environ, partial(sdk, None))
        self._proxy = settings.proxy
        self._sends_key = any(name.lower() in _KEY_HEADERS for name in address.headers)
        # Also what the environment's custom headers and a user's own client add.
        secrets = secrets_in({**self.connections.own_headers, **address.headers})
        secrets += [key.get_secret_value()] if key else []
        proxy = urlsplit(settings.proxy or "")
        if proxy.password:
            pair = proxy.netloc.rpartition("@")[0]
            secrets += [proxy.password, pair, base64.b64encode(unquote(pair).encode()).decode()]
        self._secrets = self._secrets.plus(secrets)
        try:
            return _Opened(connect(settings, address.url, address.headers), sdk, os.getpid())
        except ValueError as error:
            # A header that the environment adds.
            raise ConfigError(f"{self.name}: {error}") from None

    def _sync_endpoint(
        self, settings: ConnectionSettings, url: str, headers: Mapping[str, str], *, is_foreign: bool = False
    ) -> Endpoint:
        opened = partial(self.connections.sync_endpoint, settings, url, headers, is_foreign=is_foreign)
        return opened() if self.interceptor is None else self.interceptor.endpoint(self.name, url, headers, opened)

    def _async_endpoint(
        self, settings: ConnectionSettings, url: str, headers: Mapping[str, str], *, is_foreign: bool = False
    ) -> AsyncEndpoint:
        opened = partial(self.connections.async_endpoint, settings, url, headers, is_foreign=is_foreign)
        interceptor = self.interceptor
        return opened() if interceptor is None else interceptor.async_endpoint(self.name, url, headers, opened)

    def _settings(self, url: str) -> ConnectionSettings:
        return self.connections.settings(url, proxy=self.table.proxy, ca_file=self.table.ca_file)

    def _require_local(self, call: ProviderCall) -> None:
        guard = self.connections.guard
        if not guard.local_only:
            return
        self._require_connection_allowed()
        self.service.require_local(call.model, guard)
        if has_remote_images(call.request):
            guard.refuse("remote_image", "images and other parts behind addresses")

    def _require_connection_allowed(self) -> None:
        """Refuses a forbidden connection before the key is read and the host name is looked up."""
        guard = self.connections.guard
        guard.require_allowed(host_in(self.url))
        if self.table.proxy is not None:
            guard.refuse("proxy", "a proxy, which forwards what it gets")
        if self.table.api_key_command is not None:
            guard.refuse(
                "key_command",
                f"the command that prints the key of {self.name}, since its connections cannot be checked (read the "
                "key from api_key_file or api_key_env)",
            )

    def _require_not_remote(self, model: str, served: Sequence[ServedModel]) -> None:
        """Refuses a model that the server forwards, or does not list, so that its way is unknown."""
        known = [each for each in served if self.service.is_same_model(each.id, model)]
        if any(each.is_remote for each in known):
            self.connections.guard.refuse("cloud_model", f"{model}, which {self.name} forwards to a cloud")
        if not known:
            raise ModelNotFoundError(f"{self.name} has no model {model} on this machine")

    def _exchange(self, call: ProviderCall, is_alive: IsAlive) -> Exchange:
        # A cloud is never asked whether it lives: its front door answers whatever became of the request, and may count.
        checked = is_alive if self._is_users_own else None
        is_patient = self._is_users_own or call.is_lone
        return Exchange(call, self._codec, self.clock, self.table.timeout_s, checked, is_patient=is_patient)

    def _is_alive(self, endpoint: Endpoint, timeout_s: float) -> bool:
        """Whether a silent server, which may be loading a model or reading a long prompt, still answers."""
        try:
            path, deadline = self.service.liveness_path, self._deadline(timeout_s)
            return fetch(endpoint, path, {}, _MAX_LISTING_BYTES, deadline).status not in _NOBODY_BEHIND
        except Exception:  # noqa: BLE001 - whatever failed, there is no answer
            return False

    async def _ais_alive(self, endpoint: AsyncEndpoint, timeout_s: float) -> bool:
        try:
            path, deadline = self.service.liveness_path, self._deadline(timeout_s)
            return (await afetch(endpoint, path, {}, _MAX_LISTING_BYTES, deadline)).status not in _NOBODY_BEHIND
        except Exception:  # noqa: BLE001 - as above
            return False

    def _deadline(self, timeout_s: float = _LISTING_TIMEOUT_S) -> Deadline:
        return Deadline(timeout_s, self.clock)

    @staticmethod
    def _images_to_fetch(call: ProviderCall) -> list[str]:
        if not call.request.has_images:
            return []
        return [url for url in dict.fromkeys(image_urls(call.request)) if not url.startswith("data:")]

    def _clean(self, call: ProviderCall) -> None:
        """Redacts the server's words in what is told with an answer."""
        if call.facts.warnings or call.facts.sources:
            call.facts.redact_words(self._secrets.plus(secrets_in(call.request.extra_headers or {})).without)

    def _complete(self, error: ProviderError, call: ProviderCall) -> None:
        """Adds the remedy to a failed attempt's error, and redacts what the attempt shows.

        Raises:
            ConfigError: A proxy that is not there is no failure of the server behind it.
        """
        is_of_proxy = self._proxy_remedy(error) is not None
        self._explain(error, call.model)
        secrets = self._secrets.plus(secrets_in(call.request.extra_headers or {}))
        secrets.clean(error)
        call.facts.redact(secrets.without)
        if is_of_proxy:
            key = None if self.table.proxy is None else f"providers.{self.name}.proxy"
            raise ConfigError(str(error), key=key, variable=None if key else proxy_variable(self.url)) from error

    def _explain(self, error: ProviderError, model: str) -> None:
        """Adds the remedy to an error's text."""
        remedies = [self._proxy_remedy(error) or self.service.explain(error, self.url, model)]
        if is_untrusted(error):
            # It is there already, as TLS was spoken.
            from llama_client.providers.http.certificates import trusted_by

            own = None if self.table.ca_file is None else f"providers.{self.name}.ca_file"
            trusted = own or trusted_by()
            set_there = f"are those of {trusted}" if trusted else f"can be set in providers.{self.name}.ca_file"
            remedies.append(f"the certificates to trust {set_there}")
        if not self._sends_key and error.http_status == _SERVER_FAILED and str(error).lower() in _SAYS_NOTHING:
            remedies.append("no API key was sent, and a LiteLLM proxy that needs one may answer so")
        if isinstance(error, ModelNotFoundError):
            remedies.append(self.retirement(model))
        for remedy in remedies:
            if remedy and remedy not in str(error):
                error.args = (f"{error} ({remedy})",)

    def _proxy_remedy(self, error: ProviderError) -> str | None:
        """Where a proxy is not reached, that is not the failure of the server behind it."""
        if self._proxy is None or not (is_refused(error) or is_unresolved(error)):
            return None
        where = f"providers.{self.name}.proxy"
        if self.table.proxy is None:
            variable = proxy_variable(self.url)
            where = f"{variable} in the environment" if variable else "the system's proxy settings"
        return f"the proxy {without_credentials(self._proxy)} is not reached: check {where}"

    def _document(self, answer: HttpAnswer) -> Any:
        if not 200 <= answer.status < 300:
            raise error_of(Failure(answer.status, answer.headers, parsed(answer.body), self.clock.wall()))
        body = json_value(answer.body)
        if isinstance(body, dict) and body.get("error"):  # LM Studio answers so, under 200, below a wrong address
            raise error_of(Failure(answer.status, answer.headers, body, self.clock.wall()))
        if not isinstance(body, dict | list):
            raise InvalidResponseError(f"{self.name} sent no list of models, but a {type(body).__name__}")
        return body

    def _listing_failure(self, error: Exception) -> LlamaClientError:
        if not isinstance(error, LlamaClientError):
            failure = failure_of(error, waited=f"{_LISTING_TIMEOUT_S:.3g} s")
            failure.__cause__ = error
            error = failure
        if isinstance(error, ProviderError):
            error.provider = self.name
            self._explain(error, "")
            self._secrets.clean(error)
        return error


def _identity(table: HttpTable, url: str) -> str:
    """What of a provider's table may change answers. Without the key: another key of the same account asks the same."""
    headers = sorted((name.lower(), value.get_secret_value()) for name, value in table.headers.items())
    told = {
        "kind": table.kind,
        "url": url,
        # Headers may choose a model, and may be secret.
        "headers": hashlib.blake2b(json.dumps(headers).encode(), digest_size=16).hexdigest() if headers else None,
        "takes_back": table.takes_back,
        "options": getattr(table, "options", None),
        "allow_truncation": getattr(table, "allow_truncation", None),
    }
    return json.dumps(told, sort_keys=True, default=str)


def _next_of(steps: LookUps, found: Any) -> LookUp | None:
    try:
        return steps.send(found)
    except StopIteration:
        return None


def _image_failure(url: str, error: Exception) -> LlamaClientError:
    if isinstance(error, LlamaClientError):
        return error
    failure = failure_of(error, waited=f"{_IMAGE_TIMEOUT_S:.3g} s")
    failure.args = (f"the image at {_shown(url)} cannot be fetched: {failure}",)
    return failure


def _shown(url: str) -> str:
    # A signed address holds its signature in its query.
    shown = without_credentials(url)
    return shown if len(shown) <= 100 else f"{shown[:100]}…"


def _image(url: str, answer: HttpAnswer) -> str:
    """A fetched image in base64."""
    if answer.status != 200 or image_type(answer.body) is None:
        raise BadRequestError(f"no image at {_shown(url)} (status {answer.status})", failover=True)
    return base64.b64encode(answer.body).decode()
