"""A service as a provider behind HTTP: its address, key and codec, and its official client for `client.sdk`."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from llama_client.config.provider_tables import HttpProviderConfig
from llama_client.errors import AuthenticationError, ConfigError, ProviderError
from llama_client.local_only import ConnectionGuard
from llama_client.providers.base import Codec, ServedModel
from llama_client.providers.http.error_mapping import is_refused, is_unresolved
from llama_client.providers.http.exchange import Address
from llama_client.providers.services import Service, service_of
from llama_client.providers.wire.openai_request import Abilities
from llama_client.providers.wire.openai_response import count
from llama_client.redaction import without_credentials
from llama_client.version import __version__

_ABOUT_ITSELF = "x-stainless-"
# The clients of the official packages: blocking, and on an event loop.
_CLIENTS = {"groq": ("Groq", "AsyncGroq"), "openai": ("OpenAI", "AsyncOpenAI")}


class OfficialClient(Protocol):
    """What all official clients show of themselves."""

    @property
    def base_url(self) -> object:
        """Where they send to."""
        ...

    @property
    def auth_headers(self) -> Mapping[str, str]:
        """The key's header."""
        ...

    @property
    def default_headers(self) -> Mapping[str, Any]:
        """The headers of each request; a value that is no text takes a header away."""
        ...


def own_headers() -> dict[str, str]:
    """What every request says of itself and of its body."""
    agent = f"llama-client/{__version__}"
    return {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": agent}


def address_of(client: OfficialClient, below: str = "", *, has_key: bool = True) -> Address:
    """Where an official client sends to, and the headers that it would send, but for what it says of itself.

    It is not the one who sends, so its name and its telemetry would be wrong.
    """
    headers = own_headers()
    for name, value in {**client.auth_headers, **client.default_headers}.items():
        if name.lower() == "user-agent" and value == getattr(client, "user_agent", None):
            continue
        # A later header of the same name, however it is spelled, wins.
        for known in [known for known in headers if known.lower() == name.lower()]:
            del headers[known]
        if isinstance(value, str) and not name.lower().startswith(_ABOUT_ITSELF):
            headers[name] = value
    if not has_key:
        headers.pop("Authorization", None)
    return Address(f"{str(client.base_url).rstrip('/')}{below}", headers)


def headers_of(table: HttpProviderConfig) -> dict[str, str]:
    """The table's own headers."""
    return {name: value.get_secret_value() for name, value in table.headers.items()}


def openai_client(
    table: HttpProviderConfig,
    http: object,
    *,
    is_async: bool,
    key: SecretStr | None,
    base_url: str,
    environ: Mapping[str, str],
) -> OfficialClient:
    """OpenAI's client for somebody else's server: nothing of OpenAI's own environment may reach that.

    Its organisation, project and custom headers would be sent along, its key in the place of a missing one.
    """
    import openai

    cut: dict[str, Any] = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
    # The package itself cannot be without a key; what it then sends by way of `client.sdk` is none.
    secret = key.get_secret_value() if key else "none"
    # What stands in OPENAI_CUSTOM_HEADERS would win over the headers that every request needs.
    needed = {name.lower(): value for name, value in own_headers().items()} | {"authorization": f"Bearer {secret}"}
    cut |= {name: needed.get(name.lower(), openai.omit) for name in _custom_header_names(environ)}
    kind: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
    return made(
        kind,
        api_key=secret,
        admin_api_key="",
        webhook_secret="",
        base_url=base_url,
        default_headers={**cut, **headers_of(table)},
        http_client=http,
        timeout=table.timeout_s,
    )


def made(kind: Any, **options: Any) -> OfficialClient:
    """An official client; what it says of a setting becomes our error, without what it quotes."""
    try:
        client: OfficialClient = kind(**options)
    except Exception as error:  # noqa: BLE001 - each package has its own, and they quote what they were given
        raise ConfigError(f"{kind.__name__} cannot be set up ({type(error).__name__})") from None
    return client


def _custom_header_names(environ: Mapping[str, str]) -> list[str]:
    """The names in `OPENAI_CUSTOM_HEADERS`, a header a line."""
    lines = environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    return [line.partition(":")[0].strip() for line in lines if ":" in line]


@dataclass(frozen=True, slots=True)
class OpenedService:
    """An opened provider: its address with the headers, and its official client where there is one."""

    address: Address
    sdk: OfficialClient | None = None


class HttpService:
    """A service behind HTTP, by its row. What no value of a row can say is in a subclass."""

    # Whether images behind addresses are fetched here, since the server takes none.
    fetches_images: ClassVar[bool] = False
    # Whether its list of models says which of them it hands on to another server.
    lists_remote_models: ClassVar[bool] = False
    # What it answers at once also while it loads a model; None: it does not load models when they are asked for.
    liveness_path: ClassVar[str | None] = None

    def __init__(self, row: Service, codec: Codec | None = None) -> None:
        self.row = row
        self._codec = codec

    @property
    def listing_paths(self) -> tuple[str, ...]:
        """What to ask for the models that it serves."""
        return (self.row.models_path,)

    def codec(self, table: HttpProviderConfig, abilities: Abilities) -> Codec:
        """Its codec."""
        if self._codec is not None:
            return self._codec
        codec: Codec = named_class(self.row.codec)(abilities, self.row.quirks)
        return codec

    def is_own_server(self, table: HttpProviderConfig) -> bool:
        """Whether it is a server of the user's own, and not the service's usual one."""
        return self.row.is_local or (self.row.is_any_server and table.base_url is not None)

    def keys_url_at(self, url: str) -> str | None:
        """Where keys for it are made; None: nowhere, as it is a server of the user's own."""
        is_home = urlsplit(url).hostname in self.row.key_hosts
        is_somewhere = not self.row.is_local and not self.row.is_any_server
        return (self.row.keys_url or None) if is_somewhere or is_home else None

    def key_variable_for(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str | None:
        """The variable that holds the key where the table names no source; None: none is read at this address."""
        is_home = urlsplit(table.base_url or self.row.base_url).hostname in self.row.key_hosts
        is_read = is_home if self.row.is_local else not self.is_own_server(table)
        return self.row.key_variable(environ) if is_read else None

    def needs_key_at(self, table: HttpProviderConfig) -> bool:
        """Whether there is no asking without a key."""
        return bool(self.row.key_variables) and not self.is_own_server(table)

    def url(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str:
        """Where it is."""
        # A server of the user's own is where the table says, or where it usually is.
        own = environ.get(self.row.url_variable) if self.row.url_variable else None
        url = table.base_url or own or self.row.base_url
        if not url:
            where = f"providers.{self.row.name}.base_url"
            raise ConfigError(f"{where}: is required, as {self.row.name} has no usual address", key=where)
        return url

    def open(
        self,
        table: HttpProviderConfig,
        key: SecretStr | None,
        http: object,
        environ: Mapping[str, str],
        *,
        is_async: bool,
    ) -> OpenedService:
        """Makes the official client on an HTTP client, and reads from it where to send and with which headers."""
        if not self.row.sdk:
            bearer = {"Authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {}
            return OpenedService(Address(self.url(table, environ), own_headers() | bearer | headers_of(table)))
        if self.row.sdk == "openai" and not (self.row.is_any_server and table.base_url is None):
            url = self.url(table, environ)
            client = openai_client(table, http, is_async=is_async, key=key, base_url=url, environ=environ)
            return OpenedService(address_of(client, has_key=key is not None), client)
        # The package's own client reads its own environment, which is that of the same service.
        package: Any = import_module(self.row.sdk)
        options: dict[str, Any] = {}
        if table.base_url is not None:
            # It adds the path itself, and the whole address of the service's documentation means the same.
            options["base_url"] = table.base_url.rstrip("/").removesuffix(self.row.below)
        client = made(
            getattr(package, _CLIENTS[self.row.sdk][is_async]),
            api_key=key.get_secret_value() if key else None,
            default_headers=headers_of(table) or None,
            http_client=http,
            timeout=table.timeout_s,
            **options,
        )
        return OpenedService(address_of(client, self.row.below), client)

    def is_free(self, model: str, url: str) -> bool:
        """Whether no token is paid for. What an unknown compatible server costs is not known."""
        return self.row.is_local and not self.row.forwards

    def require_local(self, model: str, guard: ConnectionGuard) -> None:
        """Refuses, under `local_only`, a model that its server would ask another for, as far as its name tells."""
        if self.row.forwards:
            guard.refuse("cloud_model", f"{model}, as {self.row.title} may hand it on to a cloud")
        # Ollama answers in OpenAI's shape too, so any server of that shape may be one.
        if (self.row.is_local or self.row.is_any_server) and is_cloud_model(model):
            guard.refuse("cloud_model", f"{model}, as Ollama hands models of such a name on to its cloud")

    def is_same_model(self, one: str, other: str) -> bool:
        """Whether two ids mean the same model."""
        return one == other

    def explain(self, error: ProviderError, url: str, model: str) -> str | None:
        """What a user can do about an error, where this service knows."""
        if is_refused(error):
            return f"nobody listens at {without_credentials(url)}: is the server running?"
        if is_unresolved(error):
            return f"{urlsplit(url).hostname} has no address here: is this machine online?"
        # Without an answer there was no key, which is said already.
        keys_url = self.keys_url_at(url)
        if isinstance(error, AuthenticationError) and error.http_status is not None and keys_url is not None:
            return f"is the key right? Keys are made at {keys_url}"
        return None

    def served(self, bodies: Sequence[Any]) -> list[ServedModel]:
        """The models in the answers to `listing_paths`."""
        # Together's list is nothing but that.
        rows = bodies[0].get("data") if isinstance(bodies[0], dict) else bodies[0]
        # vLLM says `max_model_len`; llama.cpp has its own below `meta`; Groq says `context_window`, Together
        # `context_length`.
        return [
            ServedModel(id=row["id"], context_tokens=_context(row))
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, dict) and isinstance(row.get("id"), str) and row["id"]
        ]


def http_service_of(kind: str) -> HttpService:
    """The HTTP side of a kind; its own module is imported with its first use.

    Raises:
        PluginError: A package adds it, and cannot be used.
    """
    row = service_of(kind)
    if row is None:
        raise ConfigError(f"no service is named {kind!r}")
    service: HttpService = named_class(row.client)(row)
    return service


def named_class(path: str) -> Any:
    """The class behind `module:Class`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def is_cloud_model(model: str) -> bool:
    """Whether an Ollama server hands requests for this model on to Ollama's cloud."""
    # Without what nobody sees, and in plain letters: a server may read the name so.
    plain = unicodedata.normalize("NFKC", model)
    seen = "".join(sign for sign in plain if unicodedata.category(sign)[0] not in "CZ")
    return seen.casefold().endswith(("-cloud", ":cloud"))


def _context(row: Mapping[str, Any]) -> int | None:
    meta = row.get("meta")
    places = (row, meta if isinstance(meta, dict) else {})
    for name in ("max_model_len", "context_window", "context_length", "n_ctx"):
        for place in places:
            tokens = count(place.get(name))
            if tokens:
                return tokens
    return None
