"""The official clients: made on our HTTP client, asked for address and headers, handed to users by `client.sdk`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import SecretStr

from llama_client.config.providers import HttpProvider
from llama_client.errors import ConfigError
from llama_client.providers.http.carrier import Address
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


def headers_of(table: HttpProvider) -> dict[str, str]:
    """The table's own headers."""
    return {name: value.get_secret_value() for name, value in table.headers.items()}


def openai_client(
    table: HttpProvider,
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
    """An official client; what it says of a setting becomes our error, without what it quotes.

    Raises:
        ConfigError: It cannot be made so.
    """
    try:
        client: OfficialClient = kind(**options)
    except Exception as error:  # noqa: BLE001 - each package has its own, and they quote what they were given
        raise ConfigError(f"{kind.__name__} cannot be set up ({type(error).__name__})") from None
    return client


def _custom_header_names(environ: Mapping[str, str]) -> list[str]:
    """The names in `OPENAI_CUSTOM_HEADERS`, a header a line."""
    lines = environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    return [line.partition(":")[0].strip() for line in lines if ":" in line]
