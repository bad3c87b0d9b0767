"""A service as a provider behind HTTP: its address, key and codec, and its official client for `client.sdk`."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import field, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, NamedTuple, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from llama_client.config.provider_tables import HttpProviderConfig
from llama_client.errors import AuthenticationError, ConfigError, MissingExtraError, ProviderError
from llama_client.hosts import from_httpx, is_nearby, name_in, plain_url
from llama_client.imports import ready
from llama_client.local_only import ConnectionGuard
from llama_client.providers.base import Codec, ProviderCall, ServedModel
from llama_client.providers.http.error_mapping import is_refused, is_unresolved
from llama_client.providers.services import OPENAI_TAKES_BACK, Quirks, Service, service_of
from llama_client.providers.wire.errors import is_wrong_address
from llama_client.providers.wire.openai_codec import Abilities
from llama_client.providers.wire.usage import count
from llama_client.redaction import without_credentials
from llama_client.version import __version__

_TELEMETRY_PREFIX = "x-stainless-"
_AGENT = f"llama-client/{__version__}"
_PACKAGE = __name__.partition(".")[0]
_OWN_HEADERS = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": _AGENT}
# What belongs behind `base_url`, and is added to it.
_TOO_LONG_PATHS = ("/chat/completions", "/chat", "/completions", "/models")
# The sync and async clients of the official packages.
_CLIENTS = {
    "groq": ("Groq", "AsyncGroq"),
    "openai": ("OpenAI", "AsyncOpenAI"),
    "together": ("Together", "AsyncTogether"),
}
# What its client adds to its address itself.
_BELOW_TOGETHER = "/v1"


class Address(NamedTuple):
    """A provider's URL, and the headers of each request to it (with the key, so never shown)."""

    url: str
    headers: Mapping[str, str] = field(repr=False)


class LookUp(NamedTuple):
    """A small document of the server's own, to be asked for beside a call."""

    path: str
    # Empty: it is a GET.
    body: bytes = b""


# Yields what is to be looked up, and is sent each document, or the error in its place.
LookUps = Generator[LookUp, Any, None]


class OfficialClient(Protocol):
    """What the official clients have in common."""

    base_url: object
    auth_headers: Mapping[str, str]
    # A value that is not text removes a header.
    default_headers: Mapping[str, Any]


class HttpService:
    """A service behind HTTP, described by its row; a subclass adds what a row cannot express."""

    # Whether images behind addresses are fetched here, since the server accepts only image data.
    fetches_images: ClassVar[bool] = False
    # Whether its list of models marks those that it forwards to another server.
    lists_remote_models: ClassVar[bool] = False
    # Whether calls look up anything; see `before` and `after`.
    looks_up: ClassVar[bool] = False

    def __init__(self, row: Service, codec: Codec | None = None) -> None:
        self.row = row
        self._codec = codec

    @property
    def listing_paths(self) -> tuple[str, ...]:
        """The paths of its lists of models; `served` reads the answers."""
        return (self.row.models_path,)

    @property
    def liveness_path(self) -> str:
        """The path of a small document that the user's own server answers at once, also while it is at work.

        Not `/health`: LiteLLM's proxy then calls its models, which costs money
        (https://docs.litellm.ai/docs/proxy/health).
        """
        return self.row.models_path

    def is_users_own_at(self, url: str) -> bool:
        """Whether it runs on a machine of the user's own, so that to ask it for a sign of life harms nobody."""
        is_own_kind = self.row.is_local and not self.row.package and name_in(url) not in self.row.hosts
        return is_own_kind or is_nearby(url)

    def codec(self, table: HttpProviderConfig, abilities: Abilities, url: str) -> Codec:
        if self._codec is not None:
            return self._codec
        codec: Codec = _named_class(self.row.codec)(abilities, self._quirks(table, url))
        return codec

    def _quirks(self, table: HttpProviderConfig, url: str) -> Quirks:
        quirks = self.row.quirks_at(url)
        if self.row.is_any_server and not self.is_own_server(table):
            quirks = replace(quirks, takes_back=OPENAI_TAKES_BACK)
        if table.takes_back is not None:
            named = None if table.takes_back == "all" else frozenset(table.takes_back)
            quirks = replace(quirks, takes_back=named, own_only=False)
        return quirks

    def is_own_server(self, table: HttpProviderConfig) -> bool:
        """Whether it is the user's own server, and not the service's."""
        return self.row.is_local or (self.row.is_any_server and table.base_url is not None)

    def keys_url_at(self, url: str) -> str | None:
        """Where to create a key for it; None: it is the user's own server."""
        is_cloud = not self.row.is_local and not self.row.is_any_server
        return (self.row.keys_url or None) if is_cloud or name_in(url) in self.row.key_hosts else None

    def key_variable_for(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str | None:
        """The variable that holds the key where the table names no source; None: none is read at this address."""
        is_home = name_in(table.base_url or self.row.base_url) in self.row.key_hosts
        is_read = is_home if self.row.is_local else not self.is_own_server(table)
        return self.row.key_variable(environ) if is_read else None

    def needs_key_at(self, table: HttpProviderConfig) -> bool:
        return bool(self.row.key_variables) and not self.is_own_server(table)

    def url(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str:
        own = environ.get(self.row.url_variable) if self.row.url_variable else None
        url = table.base_url or own or self.row.base_url
        if not url:
            key = f"providers.{self.row.name}.base_url"
            raise ConfigError(f"{key}: is required, as {self.row.name} has no default address", key=key)
        return url

    def address(
        self,
        table: HttpProviderConfig,
        key: SecretStr | None,
        environ: Mapping[str, str],
        official: Callable[[], OfficialClient],
    ) -> Address:
        """Where requests go, and their headers. The official client is created where its environment has a say."""
        row = self.row
        own = {name: value.get_secret_value() for name, value in table.headers.items()}
        bearer = {"Authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {}
        if row.sdk and not self._is_compatible(table):
            prefix = f"{row.sdk.upper()}_"
            if any(name.startswith(prefix) and name not in row.key_variables for name in environ):
                return _address_of(official(), row.below)
        url = self.url(table, environ).rstrip("/").removesuffix(row.below) + row.below
        return Address(url, _merged(_OWN_HEADERS, bearer, own))

    def official(
        self,
        table: HttpProviderConfig,
        key: SecretStr | None,
        http: object,
        environ: Mapping[str, str],
        *,
        is_async: bool,
        package: str | None = None,
    ) -> OfficialClient:
        """The official client on an HTTP client; `package`: another one than that of its chats."""
        row = self.row
        if package not in (None, row.sdk):
            return self._other_official(package, table, key, http, environ, is_async=is_async)
        headers = {name: value.get_secret_value() for name, value in table.headers.items()}
        options: dict[str, Any] = {"api_key": key.get_secret_value() if key else None, "default_headers": headers}
        if self._is_compatible(table):
            options = _compatible_options(options, plain_url(self.url(table, environ)).for_httpx, environ)
        elif table.base_url is not None:
            options["base_url"] = plain_url(table.base_url).for_httpx.rstrip("/").removesuffix(row.below)
        return _official_client(row.sdk, http, table, options, is_async=is_async)

    def _other_official(
        self,
        package: str,
        table: HttpProviderConfig,
        key: SecretStr | None,
        http: object,
        environ: Mapping[str, str],
        *,
        is_async: bool,
    ) -> OfficialClient:
        if find_spec(package) is None:
            needs = f"{self.row.title} has this through its package {package} only"
            message = f'{needs}: pip install "llama-client[{package}]"'
            raise MissingExtraError(message, extra=package)
        url = plain_url(self.url(table, environ)).for_httpx.rstrip("/").removesuffix(_BELOW_TOGETHER)
        headers = {name: value.get_secret_value() for name, value in table.headers.items()}
        secret = key.get_secret_value() if key else None
        options = {"api_key": secret, "default_headers": headers, "base_url": url}
        return _official_client(package, http, table, options, is_async=is_async)

    def _is_compatible(self, table: HttpProviderConfig) -> bool:
        """Whether OpenAI's client is for another server. A service's own client adds the path below the address."""
        return self.row.sdk == "openai" and not (self.row.is_any_server and table.base_url is None)

    def is_free(self, model: str, url: str) -> bool:
        """Whether tokens cost nothing. The cost of an unknown compatible server is unknown."""
        return self.row.is_local and not self.row.forwards

    def before(self, call: ProviderCall, known: frozenset[str] | None) -> LookUps:
        """What must be known before a call is sent, where the model's abilities do not say it."""
        yield from ()

    def after(self, call: ProviderCall, table: HttpProviderConfig) -> LookUps:
        """What can be said of a whole answer only by what the server tells beside it; no error ends the call."""
        yield from ()

    def require_local(self, model: str, guard: ConnectionGuard) -> None:
        """Refuses, under `local_only`, a model that its server forwards, as far as its name shows that."""
        if self.row.forwards:
            guard.refuse("cloud_model", f"{model}, as {self.row.title} may forward it to a cloud")
        # Any OpenAI-compatible server may be Ollama, which has such an API too.
        if (self.row.is_local or self.row.is_any_server) and is_cloud_model(model):
            guard.refuse("cloud_model", f"{model}, as Ollama forwards models with such a name to its cloud")

    def is_same_model(self, one: str, other: str) -> bool:
        return one == other

    def right_address(self, url: str) -> str | None:
        """The address that was probably meant, where a server knows nothing of the paths below `url`; None: unknown."""
        root, path = _split(url)
        for end in _TOO_LONG_PATHS:
            if path.endswith(end):
                return root + path.removesuffix(end)
        if path.endswith("/v1/v1"):
            return root + path.removesuffix("/v1")
        if path in ("", "/api"):  # the second is Ollama's own
            return f"{root}/v1"
        return None

    def explain(self, error: ProviderError, url: str, model: str) -> str | None:
        """The remedy for an error; None: unknown."""
        if is_wrong_address(error):
            right = self.right_address(url)
            shown = without_credentials(url)
            if right is None:
                return f"is {shown} the right base_url?"
            return f"base_url is {shown}: it should probably be {without_credentials(right)}"
        if is_refused(error):
            return f"no server listens at {without_credentials(url)}: is it running?"
        if is_unresolved(error):
            return f"{name_in(url)} cannot be resolved: is this machine online?"
        # Without a response the key is missing, which the error says already.
        keys_url = self.keys_url_at(url)
        if isinstance(error, AuthenticationError) and error.http_status is not None and keys_url is not None:
            return f"is the key right? Keys are made at {keys_url}"
        return None

    def served(self, bodies: Sequence[Any]) -> list[ServedModel]:
        # Together sends the list itself.
        rows = bodies[0].get("data") if isinstance(bodies[0], dict) else bodies[0]
        return [
            ServedModel(id=row["id"], context_tokens=_context(row))
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, dict) and isinstance(row.get("id"), str) and row["id"]
        ]


def _official_client(
    package: str, http: object, table: HttpProviderConfig, options: Mapping[str, Any], *, is_async: bool
) -> OfficialClient:
    kind: Any = getattr(import_module(package), _CLIENTS[package][is_async])
    try:
        client: OfficialClient = kind(http_client=http, timeout=table.timeout_s, **options)
    except Exception as error:  # noqa: BLE001 - each package has its own, and they quote secrets
        raise ConfigError(f"{kind.__name__} cannot be set up ({type(error).__name__})") from None
    return client


def _split(url: str) -> tuple[str, str]:
    """An address up to its path, and the path without a slash at its end."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")


def http_service_of(kind: str) -> HttpService:
    """The HTTP side of a kind; its module is imported at its first use."""
    row = service_of(kind)
    if row is None:
        raise ConfigError(f"no service is named {kind!r}")
    service: HttpService = _named_class(row.client)(row)
    return service


def is_cloud_model(model: str) -> bool:
    """Whether an Ollama server forwards requests for this model to Ollama's cloud."""
    # A server may ignore invisible characters and normalize letters.
    plain = unicodedata.normalize("NFKC", model)
    visible = "".join(sign for sign in plain if unicodedata.category(sign)[0] not in "CZ")
    return visible.casefold().endswith(("-cloud", ":cloud"))


def _named_class(path: str) -> Any:
    module, _, name = path.partition(":")
    if module.startswith(f"{_PACKAGE}."):
        # A package of someone else's may be asking while it is imported itself.
        ready(module)
    return getattr(import_module(module), name)


def _compatible_options(options: Mapping[str, Any], url: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """OpenAI's client for another server, without what its environment adds: organisation, project, keys, headers."""
    ready("openai")
    import openai

    # The package requires a key; `client.sdk` of a server without one sends this word.
    secret = options["api_key"] or "none"
    cut: dict[str, Any] = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
    # OPENAI_CUSTOM_HEADERS (one header a line) would override the headers that every request needs.
    lines = environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    needed = {name.lower(): value for name, value in _OWN_HEADERS.items()} | {"authorization": f"Bearer {secret}"}
    names = [line.partition(":")[0].strip() for line in lines if ":" in line]
    cut |= {name: needed.get(name.lower(), openai.omit) for name in names}
    headers = {**cut, **options["default_headers"]}
    unset = {"admin_api_key": "", "webhook_secret": ""}
    return {"api_key": secret, "base_url": url, "default_headers": headers, **unset}


def _address_of(client: OfficialClient, below: str) -> Address:
    """An official client's address and headers, but for its user agent and telemetry, which would be wrong here."""
    headers = {
        name: value
        for name, value in {**client.auth_headers, **client.default_headers}.items()
        if isinstance(value, str)
        and not name.lower().startswith(_TELEMETRY_PREFIX)
        and not (name.lower() == "user-agent" and value == getattr(client, "user_agent", None))
    }
    return Address(f"{from_httpx(str(client.base_url)).rstrip('/')}{below}", _merged(_OWN_HEADERS, headers))


def _merged(*some: Mapping[str, str]) -> dict[str, str]:
    """A later header of the same name, in any spelling, wins."""
    merged: dict[str, tuple[str, str]] = {}
    for headers in some:
        merged |= {name.lower(): (name, value) for name, value in headers.items()}
    return dict(merged.values())


def _context(row: Mapping[str, Any]) -> int | None:
    meta = row.get("meta")
    places = (row, meta if isinstance(meta, dict) else {})
    # The names of vLLM, Groq, Together, and (in `meta`) llama.cpp.
    names = ("max_model_len", "context_window", "context_length", "n_ctx")
    return next((tokens for name in names for place in places if (tokens := count(place.get(name)))), None)
