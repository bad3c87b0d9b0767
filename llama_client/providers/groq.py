"""Groq: its parameters, its official client, and tool calls rescued from what it calls a failed generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from llama_client.config.clouds import CLOUDS
from llama_client.config.provider_tables import HttpProviderConfig
from llama_client.providers.base import ProviderCall
from llama_client.providers.http.sdk import OfficialClient, OpenedService, Service, address_of, headers_of, made
from llama_client.providers.wire.errors import Failure
from llama_client.providers.wire.openai_request import PARAMETERS, OpenAICodec
from llama_client.providers.wire.tool_calls import tool_calls_in

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

_BELOW = "/openai/v1"
_MAX_STOPS = 4
_EFFORTS = ("none", "default", "low", "medium", "high")
# Accepted, and "not yet supported", as Groq's API reference puts it.
_WITHOUT_EFFECT = ("frequency_penalty", "presence_penalty")


class GroqCodec(OpenAICodec):
    """Groq refuses every property that it does not know, top-level or in messages."""

    parameters = PARAMETERS - {"top_k", "min_p", "repetition_penalty", "logprobs", "top_logprobs", "logit_bias"} | {
        "reasoning_format"
    }
    # In the last chunk's x_groq.
    streams_usage_unasked = True

    def why_not(self, request: ChatRequest) -> dict[str, str]:
        """See `OpenAICodec`."""
        why_not = {}
        if request.n not in (None, 1):
            why_not["n"] = "one answer a call"
        if len(request.stops) > _MAX_STOPS:
            why_not["stop"] = f"at most {_MAX_STOPS} of them"
        if request.reasoning_effort not in (None, *_EFFORTS):
            why_not["reasoning_effort"] = f"it knows {', '.join(_EFFORTS)}"
        return why_not

    def adapt(self, body: dict[str, Any], call: ProviderCall) -> None:
        """See `OpenAICodec`."""
        for message in body["messages"]:
            message.pop("name", None)
        for name in _WITHOUT_EFFECT:
            if body.get(name):
                call.facts.warn(f"{call.provider} accepts {name} and does not apply it yet")

    def error_in(self, event: Mapping[str, Any]) -> object:
        """See `OpenAICodec`. Groq may also put it into `x_groq`, as an object or as text."""
        error, own = event.get("error"), event.get("x_groq")
        if error or not isinstance(own, dict):
            return error
        error = own.get("error")
        return {"message": error} if isinstance(error, str) else error

    def rescued(self, failure: Failure, call: ProviderCall) -> dict[str, Any] | None:
        """The tool call that a `failed_generation` holds, where it is a valid call of a declared tool."""
        request, text = call.request, failure.error.get("failed_generation")
        if failure.code != "tool_use_failed" or not isinstance(text, str) or request.tool_choice == "none":
            return None
        found = tool_calls_in(text, request.tools or ())
        choice = request.tool_choice
        demanded = None if choice is None or isinstance(choice, str) else choice.function.name
        if found is None or (demanded is not None and any(name != demanded for name, _ in found.calls)):
            return None
        call.facts.warn(f"{call.target} rejected its own tool call, which is valid and was rescued from its text")
        call.facts.body = dict(failure.body) if isinstance(failure.body, Mapping) else None
        return {
            "content": found.text or None,
            "tool_calls": [{"function": {"name": name, "arguments": arguments}} for name, arguments in found.calls],
        }


class Groq(Service):
    """Groq's cloud, through the `groq` package."""

    cloud = CLOUDS["groq"]
    needs_key = True
    is_cloud = True
    # "Assistant Message Prefilling" in Groq's documentation.
    continues = True
    codec_class = GroqCodec

    def open(
        self,
        table: HttpProviderConfig,
        key: SecretStr | None,
        http: object,
        environ: Mapping[str, str],
        *,
        is_async: bool,
    ) -> OpenedService:
        """See `Service`. `GROQ_BASE_URL` and `GROQ_CUSTOM_HEADERS` are read by the official client."""
        import groq

        # It adds the path itself; who copied the whole address from Groq's documentation means the same.
        base_url = table.base_url.rstrip("/").removesuffix(_BELOW) if table.base_url else None
        client: OfficialClient = made(
            groq.AsyncGroq if is_async else groq.Groq,
            api_key=key.get_secret_value() if key else None,
            base_url=base_url,
            default_headers=headers_of(table) or None,
            http_client=http,
            timeout=table.timeout_s,
        )
        return OpenedService(address_of(client, _BELOW), client)

    def url(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str:
        """See `Service`."""
        return table.base_url or environ.get("GROQ_BASE_URL") or "https://api.groq.com"
