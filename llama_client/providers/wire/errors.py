"""Failures on the wire, as our errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_client.errors import (
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    ModelNotFoundError,
    OverloadedError,
    ProviderError,
    ServerError,
    UnsupportedFeatureError,
)

# llama.cpp's error types (tools/server/server-common.cpp, format_error_response) that are no plain server error.
_LLAMA_CPP_TYPES: Mapping[str, type[ProviderError]] = {
    "invalid_request_error": BadRequestError,
    "authentication_error": AuthenticationError,
    "not_found_error": ModelNotFoundError,
    "unavailable_error": OverloadedError,
}


def error_from_llama_cpp(error: Mapping[str, Any]) -> ProviderError:
    """The object under `error` in an answer of llama.cpp's server, in process or over HTTP, as our error."""
    message = str(error.get("message") or "llama.cpp failed without saying why")
    kind, status = error.get("type"), error.get("code")
    known: dict[str, Any] = {
        "provider_code": kind if isinstance(kind, str) else None,
        "http_status": status if isinstance(status, int) else None,
        "body": dict(error),
    }
    if kind == "exceed_context_size_error":
        prompt, context = error.get("n_prompt_tokens"), error.get("n_ctx")
        return ContextLengthError(
            f"the prompt has {prompt} tokens and the context holds {context}: shorten it or raise n_ctx",
            prompt_tokens=prompt,
            context_tokens=context,
            **known,
        )
    if kind == "not_supported_error":
        return UnsupportedFeatureError(message, body=dict(error))
    return _LLAMA_CPP_TYPES.get(str(kind), ServerError)(message, **known)
