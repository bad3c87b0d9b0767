"""Failures of a provider as our errors: by status and code, by the text only where these are not specific. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json

from llama_client import errors
from llama_client.providers.wire.openai_response import count
from llama_client.providers.wire.rate_limits import retry_after_s

# Of a non-JSON body: a gateway's HTML page, say.
_MAX_EXCERPT_CHARS = 200
# Longer than any explanation; the error's `body` has all of it.
_MAX_MESSAGE_CHARS = 4000
_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")

# Codes (and types, where a server has no codes) that mean the same under every status.
_BY_CODE: Mapping[str, type[errors.ProviderError]] = {
    "invalid_api_key": errors.AuthenticationError,
    "authentication_error": errors.AuthenticationError,
    "permission_error": errors.PermissionDeniedError,
    "insufficient_quota": errors.QuotaExceededError,
    "model_not_found": errors.ModelNotFoundError,
    "model_decommissioned": errors.ModelNotFoundError,
    "model_not_available": errors.ModelNotFoundError,
    "dedicated_endpoint_not_running": errors.ModelNotFoundError,
    "context_length_exceeded": errors.ContextLengthError,
    "exceed_context_size_error": errors.ContextLengthError,
    "json_validate_failed": errors.GenerationFailedError,
    "tool_use_failed": errors.GenerationFailedError,
    "unavailable_error": errors.OverloadedError,
    "not_supported_error": errors.UnsupportedFeatureError,
    "server_error": errors.ServerError,
}
_BY_STATUS: Mapping[int, type[errors.ProviderError]] = {
    401: errors.AuthenticationError,
    402: errors.QuotaExceededError,
    403: errors.PermissionDeniedError,
    404: errors.ModelNotFoundError,
    # Transient and not caused by the request: the server waited too long, or its state conflicted.
    408: errors.ServerError,
    409: errors.ServerError,
    413: errors.RequestTooLargeError,
    425: errors.ServerError,
    429: errors.RateLimitError,
    498: errors.OverloadedError,  # Groq: the flex tier is full
    503: errors.OverloadedError,
    529: errors.OverloadedError,
}
# Statuses that servers also use for other failures, so the text decides; Together documents 403 for context.
_VAGUE_STATUSES = frozenset({400, 403, 404, 422, 500})
# vLLM and TGI (also behind Together) give the numbers only in the message.
_PROMPT_TOKENS = re.compile(r"passed (\d{1,12}) input tokens|\((\d{1,12}) in the messages|Given: (\d{1,12}) `inputs`")
_CONTEXT_TOKENS = re.compile(r"context length is (?:only )?(\d{1,12})|must be <= (\d{1,12})")
_FEATURES = (("thinking", "reasoning_effort"), ("tool", "tools"), ("image", "messages"), ("json", "response_format"))
_BY_WORDS: Mapping[type[errors.ProviderError], re.Pattern[str]] = {
    errors.ContextLengthError: re.compile(
        r"context (length|size|window)|longer than the context|prompt is too long|maximum input length"
        r"|max_tokens must be at least 1, got -|`inputs` (tokens \+ `max_new_tokens` )?must (be|have)",
        re.IGNORECASE,
    ),
    errors.UnsupportedFeatureError: re.compile(
        r"(does not|doesn't) support|not supported (with|by|for) this model", re.IGNORECASE
    ),
    errors.BadRequestError: re.compile(r"^option \"\w+\" must be of type "),  # Ollama sends it with a 500
    errors.ModelNotFoundError: re.compile(r"model '[^']*' not found|model .* does not exist", re.IGNORECASE),
}


class Failure(NamedTuple):
    """An error response, or an error found inside a successful one."""

    status: int | None
    headers: Mapping[str, str]
    body: object
    now: float

    @property
    def error(self) -> Mapping[str, Any]:
        """The error object, wherever this server puts it."""
        body = self.body
        if isinstance(body, Mapping):
            error = body.get("error")
            if isinstance(error, Mapping):
                return error
            if isinstance(error, str):
                return _nested(error) or {**body, "message": error}
            # At the top level: older vLLM, and FastAPI's own errors.
            return body if "message" in body else {**body, "message": body.get("detail")}
        return {"message": _cut(" ".join(body.split()), _MAX_EXCERPT_CHARS) if isinstance(body, str) else None}

    @property
    def message(self) -> str:
        message = self.error.get("message")
        text = message if isinstance(message, str) else repr(message) if message else ""
        return _cut(text, _MAX_MESSAGE_CHARS) if text.strip() else f"no reason was given (status {self.status})"

    @property
    def code(self) -> str | None:
        """A string `code`; else a snake_case `type` beside another code; else a code without type, or `error_type`."""
        code, kind = self.error.get("code"), self.error.get("type")
        if isinstance(code, str) and code:
            return code
        if code is not None and isinstance(kind, str) and _SNAKE_CASE.fullmatch(kind):
            return kind
        if code is not None and kind is None:
            return str(code)
        outer = self.body.get("error_type") if isinstance(self.body, Mapping) else None
        return outer if isinstance(outer, str) else None

    @property
    def effective_status(self) -> int | None:
        """The status of the error, which gateways may put inside an HTTP 200."""
        if self.status is None or self.status < 400:
            for name in ("status_code", "code", "status"):
                value = self.error.get(name)
                if isinstance(value, int) and 400 <= value < 600:
                    return value
        return self.status


_NOT_MODIFIED = 304


def error_of(failure: Failure) -> errors.ProviderError:
    kind, message, error = _class_of(failure), failure.message, failure.error
    fields: dict[str, Any] = {"http_status": failure.status, "provider_code": failure.code, "body": failure.body}
    if kind is errors.ContextLengthError:
        prompt, context = count(error.get("n_prompt_tokens")), count(error.get("n_ctx"))
        if prompt and context:
            message = f"the prompt has {prompt} tokens and the context holds {context}: shorten it or raise n_ctx"
        else:
            prompt, context = _number(_PROMPT_TOKENS, message), _number(_CONTEXT_TOKENS, message)
        fields |= {"prompt_tokens": prompt, "context_tokens": context}
    elif kind is errors.GenerationFailedError:
        failed = error.get("failed_generation")
        fields["failed_generation"] = failed if isinstance(failed, str) else None
    elif kind is errors.UnsupportedFeatureError:
        fields["param"] = next((param for word, param in _FEATURES if word in message.lower()), None)
    elif kind is errors.InvalidResponseError:
        message = _without_an_answer(failure)
        fields["retryable"] = False
    elif kind.retryable_by_default:
        limit = error.get("type")
        fields["retry_after_s"] = retry_after_s(
            failure.headers,
            message=message if kind is errors.RateLimitError else "",
            limit=limit if limit in ("tokens", "requests") else None,
            now=failure.now,
        )
    return kind(message, **fields)


def error_from_llama_cpp(error: Mapping[str, Any]) -> errors.ProviderError:
    """Our error for the object under `error` in a response of the in-process llama.cpp engine."""
    made = error_of(Failure(None, {}, {"error": error}, 0.0))
    made.body = dict(error)
    status = error.get("code")
    made.http_status = status if isinstance(status, int) else None
    return made


def _class_of(failure: Failure) -> type[errors.ProviderError]:
    status, error = failure.effective_status, failure.error
    for code in (failure.code, error.get("code"), error.get("type")):
        if isinstance(code, str) and code in _BY_CODE:
            return _BY_CODE[code]
    if status is None or status in _VAGUE_STATUSES or status < 400:
        message = failure.message
        for kind, words in _BY_WORDS.items():
            if words.search(message):
                return kind
    if status is None or status < 300:
        # An error inside a response that began with success: the server failed while generating.
        return errors.BadRequestError if error.get("type") == "invalid_request_error" else errors.ServerError
    if status < 400:
        return errors.InvalidResponseError
    return _BY_STATUS.get(status) or (errors.ServerError if status >= 500 else errors.BadRequestError)


def _nested(text: str) -> Mapping[str, Any] | None:
    """The error object in a text: Ollama passes on its runner's errors as JSON inside the message."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        inner = from_json(text.encode())
    except ValueError:
        return None
    error = inner.get("error", inner) if isinstance(inner, dict) else None
    return error if isinstance(error, dict) and "message" in error else None


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else f"{text[:max_chars]}…"


def _number(pattern: re.Pattern[str], message: str) -> int | None:
    found = pattern.search(message)
    return next((int(group) for group in found.groups() if group), None) if found else None


def _without_an_answer(failure: Failure) -> str:
    """What a status from 300 to 399 says."""
    location = failure.headers.get("location")
    if failure.status == _NOT_MODIFIED:
        return (
            "the server answered 304 (not modified), which is for clients that have the answer already, and was not "
            "asked for: a cache or proxy in between is set up wrongly"
        )
    if location is None:
        return f"the server redirects (status {failure.status}) without saying where: check base_url"
    return f"the server redirects to {location}: set base_url to it"
