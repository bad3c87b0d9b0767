"""Any OpenAI-compatible server, and OpenAI itself where no address is given."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr

from llama_client.config.clouds import CLOUDS
from llama_client.config.provider_tables import HttpProviderConfig
from llama_client.providers.http.sdk import OpenedService, Service, address_of, headers_of, made, openai_client
from llama_client.providers.wire.openai_request import OpenAICodec

_URL = "https://api.openai.com/v1"


class CompatibleCodec(OpenAICodec):
    """What OpenAI-compatible servers share, and vLLM's way of going on from the beginning of an answer."""

    # vLLM begins a new answer without these; llama.cpp goes on by itself and takes them too.
    continuing = MappingProxyType({"continue_final_message": True, "add_generation_prompt": False})


class OpenAI(Service):
    """An OpenAI-compatible server, through the `openai` package.

    With `base_url` nothing of OpenAI's environment is used, its key least of all; without one it is OpenAI, and
    `OPENAI_API_KEY`, `OPENAI_BASE_URL`, `OPENAI_ORG_ID` and the rest mean what they mean to the official client.
    """

    cloud = CLOUDS["openai"]
    codec_class = CompatibleCodec

    def key_variable_for(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str | None:
        """See `Service`."""
        return self.key_variable if table.base_url is None else None

    def needs_key_at(self, table: HttpProviderConfig) -> bool:
        """See `Service`."""
        return table.base_url is None

    def open(
        self,
        table: HttpProviderConfig,
        key: SecretStr | None,
        http: object,
        environ: Mapping[str, str],
        *,
        is_async: bool,
    ) -> OpenedService:
        """See `Service`."""
        if table.base_url is not None:
            client = openai_client(table, http, is_async=is_async, key=key, base_url=table.base_url, environ=environ)
            return OpenedService(address_of(client, has_key=key is not None), client)
        import openai

        kind: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
        client = made(
            kind,
            api_key=key.get_secret_value() if key else None,
            default_headers=headers_of(table) or None,
            http_client=http,
            timeout=table.timeout_s,
        )
        return OpenedService(address_of(client), client)

    def url(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str:
        """See `Service`."""
        return table.base_url or environ.get("OPENAI_BASE_URL") or _URL
