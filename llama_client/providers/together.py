"""Together: its parameters, its log probabilities, and OpenAI's client without OpenAI's environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from llama_client.config.clouds import CLOUDS
from llama_client.config.provider_tables import HttpProviderConfig
from llama_client.providers.base import ProviderCall
from llama_client.providers.http.sdk import OpenedService, Service, address_of, openai_client
from llama_client.providers.wire.openai_request import PARAMETERS, OpenAICodec

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

_URL = "https://api.together.ai/v1"


class TogetherCodec(OpenAICodec):
    """Together knows one name for the longest answer, and counts log probabilities instead of switching them on."""

    parameters = PARAMETERS - {"service_tier", "user"}

    def why_not(self, request: ChatRequest) -> dict[str, str]:
        """See `OpenAICodec`."""
        return {} if request.parallel_tool_calls is not False else {"parallel_tool_calls": "it cannot be switched off"}

    def adapt(self, body: dict[str, Any], call: ProviderCall) -> None:
        """See `OpenAICodec`."""
        body.pop("parallel_tool_calls", None)
        if body.get("reasoning_effort") == "none":
            # Together's levels begin at "low"; thinking has a switch of its own.
            del body["reasoning_effort"]
            body["reasoning"] = {"enabled": False}
        if "max_completion_tokens" in body:
            body["max_tokens"] = body.pop("max_completion_tokens")
        if call.request.stops:
            body["stop"] = list(call.request.stops)
        body.pop("top_logprobs", None)
        if body.pop("logprobs", None):
            body["logprobs"] = max(call.request.top_logprobs or 0, 1)
        for message in body["messages"]:
            if message["role"] == "developer":  # OpenAI's newer word
                message["role"] = "system"

    def logprobs_of(self, choice: Mapping[str, Any], call: ProviderCall) -> object:
        """See `OpenAICodec`. Together sends parallel lists: tokens, their logarithms, and tables of candidates."""
        given = choice.get("logprobs")
        if not isinstance(given, dict) or "content" in given:
            return given if isinstance(given, dict) else None
        tokens, logs = given.get("tokens"), given.get("token_logprobs")
        if not isinstance(tokens, list) or not isinstance(logs, list):
            return None
        tables = given.get("top_logprobs")
        wanted = call.request.top_logprobs or 0
        content = []
        for index, (token, logprob) in enumerate(zip(tokens, logs, strict=False)):
            table = tables[index] if isinstance(tables, list) and index < len(tables) else None
            candidates = sorted(table.items(), key=lambda item: -item[1]) if isinstance(table, dict) else []
            content.append(
                {
                    "token": token,
                    "logprob": logprob,
                    "top_logprobs": [{"token": name, "logprob": value} for name, value in candidates[:wanted]],
                }
            )
        return {"content": content}


class Together(Service):
    """Together's cloud, through the `openai` package."""

    cloud = CLOUDS["together"]
    needs_key = True
    is_cloud = True
    codec_class = TogetherCodec

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
        client = openai_client(
            table, http, is_async=is_async, key=key, base_url=self.url(table, environ), environ=environ
        )
        return OpenedService(address_of(client), client)

    def url(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str:
        """See `Service`. `TOGETHER_BASE_URL` is what Together's own package reads."""
        return table.base_url or environ.get("TOGETHER_BASE_URL") or _URL
