"""The official clients, made on our HTTP client for `client.sdk`, and what a kind of HTTP provider is."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from llama_client.config.clouds import CloudService
from llama_client.config.provider_tables import HttpProviderConfig
from llama_client.errors import AuthenticationError, ConfigError, ProviderError
from llama_client.local_only import ConnectionGuard
from llama_client.providers.base import Codec, ServedModel
from llama_client.providers.http.error_mapping import is_refused, is_unresolved
from llama_client.providers.http.exchange import Address
from llama_client.providers.wire.openai_request import Abilities, OpenAICodec
from llama_client.providers.wire.openai_response import count
from llama_client.redaction import without_credentials
from llama_client.version import __version__

_ABOUT_ITSELF = "x-stainless-"


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


class Service:
    """One kind of provider. What is here holds for OpenAI-shaped ones; each kind says what is different."""

    # The cloud that its kind belongs to, whether or not it is there.
    cloud: ClassVar[CloudService]
    needs_key: ClassVar[bool] = False
    # Whether its usual address is somebody else's machine.
    is_cloud: ClassVar[bool] = False
    # Whether images behind addresses are fetched here, since the server takes none.
    fetches_images: ClassVar[bool] = False
    # Whether it may hand a model's requests on to somebody else, which its list of models tells.
    forwards: ClassVar[bool] = False
    # Whether every model of it goes on from an assistant message at the end of a request.
    continues: ClassVar[bool] = False
    # What it answers at once also while it loads a model; None: it does not load models when they are asked for.
    liveness_path: ClassVar[str | None] = None
    # What to ask for the models that it serves.
    listing_paths: ClassVar[tuple[str, ...]] = ("models",)
    codec_class: ClassVar[type[OpenAICodec]] = OpenAICodec

    @property
    def key_variable(self) -> str:
        """The variable that holds the key where the table names no source."""
        return self.cloud.key_variable

    @property
    def keys_url(self) -> str:
        """Where users of its cloud make their keys."""
        return self.cloud.keys_url

    def keys_url_at(self, url: str) -> str | None:
        """Where keys for a provider at an address are made; None: it is a server of somebody's own."""
        return self.keys_url if self.is_cloud or urlsplit(url).hostname in self.cloud.hosts else None

    def codec(self, table: HttpProviderConfig, abilities: Abilities) -> Codec:
        """Its codec."""
        return self.codec_class(abilities)

    def key_variable_for(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str | None:
        """The variable that holds the key, where that hangs on the address."""
        return self.key_variable

    def needs_key_at(self, table: HttpProviderConfig) -> bool:
        """Whether there is no asking without a key."""
        return self.needs_key

    def url(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str:
        """Where it is."""
        raise NotImplementedError

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
        raise NotImplementedError

    def is_free(self, model: str, url: str) -> bool:
        """Whether nobody is paid by the token. Who knows what a compatible server costs?"""
        return False

    def require_local(self, model: str, guard: ConnectionGuard) -> None:
        """Refuses, under `local_only`, a model that its server would ask another for, as far as its name tells."""
        # Ollama answers in OpenAI's shape too, so any server of that shape may be one.
        if not self.is_cloud and is_cloud_model(model):
            guard.refuse("cloud_model", f"{model}, as Ollama hands models of such a name on to its cloud")

    def is_same_model(self, one: str, other: str) -> bool:
        """Whether two ids mean the same model."""
        return one == other

    def explain(self, error: ProviderError, url: str, model: str) -> str | None:
        """What a user can do about an error, where this kind knows."""
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
