"""Scripted failures: how providers tell each kind of error, so that the client reads it as that kind again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_client import errors
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.testing.loopback import Answer, as_json, whole
from llama_client.testing.wire_format import JSON, OllamaFormat, OpenAIFormat


@dataclass(frozen=True, slots=True)
class Failing:
    """A failure; `fails` makes one.

    Attributes:
        error: The class with which an attempt fails.
        message: The provider's words; None: usual ones.
        status: The HTTP status; None: the usual one.
        code: The provider's code; None: the usual one.
        retry_after_s: The wait in seconds that is asked for.
        headers: Of the response.
        times: How often it fails.
    """

    error: type[errors.ProviderError]
    message: str | None = None
    status: int | None = None
    code: str | None = None
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1


def fails(
    error: type[errors.ProviderError] | errors.ProviderError,
    message: str | None = None,
    *,
    status: int | None = None,
    code: str | None = None,
    retry_after_s: float | None = None,
    headers: Mapping[str, str] | None = None,
    times: int = 1,
) -> Failing:
    """A failure: the provider answers as a real one would, so that an attempt fails with this class.

    `APIConnectionError` is a server that is not there, `APITimeoutError` one that never answers: by a `FakeClock` the
    client waits for its timeout, without one the timeout has passed at once.

    Args:
        error: The class, or an error whose message, status, code and wait count.
        message: The provider's words.
        status: The HTTP status.
        code: The provider's code.
        retry_after_s: The wait in seconds that it asks for.
        headers: Further headers of the response.
        times: How often it fails.

    Raises:
        ValueError: Such an answer would come out as another error.
        TypeError: It is no error of a provider.

    Example:
        >>> from llama_client import RateLimitError
        >>> fails(RateLimitError, retry_after_s=2, times=2).times
        2
    """
    if isinstance(error, errors.ProviderError):
        message = message or str(error) or None
        status = error.http_status if status is None else status
        code = error.provider_code if code is None else code
        retry_after_s = error.retry_after_s if retry_after_s is None else retry_after_s
        error = type(error)
    _require_of_provider(error)
    if issubclass(error, errors.StreamInterruptedError):
        raise ValueError('a stream is interrupted by an answer that breaks off: Reply("Hel", breaks="reset")')
    if issubclass(error, errors.AllTargetsFailedError):
        raise ValueError("AllTargetsFailedError is what the client says once each target has failed: let each fail")
    require_times(times)
    failing = Failing(error, message, status, code, retry_after_s, headers or {}, times)
    if not issubclass(error, errors.APIConnectionError):
        require_true(failing)
    elif (status, code, retry_after_s) != (None, None, None):
        raise ValueError(f"{error.__name__} is no answer, so it has no status, code and retry_after_s")
    return failing


def _require_of_provider(error: object) -> None:
    kind = error if isinstance(error, type) else type(error)
    if kind is not error or not issubclass(kind, errors.ProviderError):
        no_error = "is no error of a provider: say a class of ProviderError, such as ServerError"
        raise TypeError(f"{kind.__name__} {_NEVER_SENT if issubclass(kind, errors.LlamaClientError) else no_error}")


def is_timeout(failing: Failing) -> bool:
    """Whether it is a silence."""
    return issubclass(failing.error, errors.APITimeoutError)


def require_times(times: int) -> None:
    """Refuses what is no count."""
    if type(times) is not int or times < 1:
        raise ValueError(f"times: must be a whole number above 0, got {times!r}")


@dataclass(frozen=True, slots=True)
class _Form:
    """An error as an OpenAI-compatible server tells it, and in Ollama's words."""

    status: int
    code: str | None
    type: str
    message: str
    ollama: str | None = None
    ollama_status: int | None = None


_INVALID = "invalid_request_error"
_NEVER_SENT = "is raised before anything is sent, so no provider can answer with it"
_FORMS: dict[type[errors.ProviderError], _Form] = {
    errors.AuthenticationError: _Form(401, "invalid_api_key", _INVALID, "Invalid API Key", "unauthorized"),
    errors.PermissionDeniedError: _Form(
        403, None, "permissions_error", "This key has no access to the model.", "this key has no access to the model"
    ),
    errors.ModelNotFoundError: _Form(
        404, "model_not_found", _INVALID, "The model `{model}` does not exist or you do not have access to it.",
        "model '{model}' not found",
    ),
    errors.ModelLoadError: _Form(
        500, None, "server_error", "Failed to load model {model}",
        "model requires more system memory (9.9 GiB) than is available (1.1 GiB)",
    ),
    errors.ContextLengthError: _Form(
        400, "context_length_exceeded", _INVALID,
        "This model's maximum context length is 8192 tokens. Please reduce the length of the messages.",
        "the input length exceeds the context length",
    ),
    errors.RequestTooLargeError: _Form(413, None, _INVALID, "Request entity too large", "request entity too large"),
    errors.RateLimitError: _Form(
        429, "rate_limit_exceeded", "requests", "Rate limit reached for model `{model}`.", "too many requests"
    ),
    errors.QuotaExceededError: _Form(
        429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota.",
        "you have reached your monthly usage limit", 402,
    ),
    errors.BadRequestError: _Form(400, None, _INVALID, "The request is invalid.", "invalid request"),
    errors.UnsupportedFeatureError: _Form(
        400, "unsupported_parameter", _INVALID, "tools are not supported by this model",
        "registry.ollama.ai/library/{model} does not support tools",
    ),
    errors.GenerationFailedError: _Form(
        400, "tool_use_failed", _INVALID, "Failed to call a function. See 'failed_generation' for details."
    ),
    errors.OverloadedError: _Form(
        503, None, "internal_server_error", "The model is over capacity.",
        "server busy, please try again.  maximum pending requests exceeded",
    ),
    errors.ServerError: _Form(500, None, "internal_server_error", "Internal Server Error", "internal error"),
}  # fmt: skip
_FAILED_GENERATION = "<function=roll>{sides: six}</function>"


def failure_answer(failing: Failing, *, model: str, is_ollama: bool, request_id: str) -> Answer:
    """The response that tells an error."""
    headers = {"x-request-id": request_id, **failing.headers}
    if failing.retry_after_s is not None:
        headers["retry-after"] = f"{failing.retry_after_s:g}"
    if failing.error is errors.InvalidResponseError:
        body = b'{"choices": [' if not is_ollama else b'{"message": ['
        return whole(body, status=failing.status or 200, headers={**JSON, **headers})
    status, document = error_of_api(failing, model=model, is_ollama=is_ollama)
    return as_json(document, status=status, headers=headers)


def error_of_api(failing: Failing, *, model: str, is_ollama: bool) -> tuple[int, dict[str, Any]]:
    """The status and body of an error."""
    form = _FORMS[failing.error]
    status = failing.status or (form.ollama_status if is_ollama and form.ollama_status else form.status)
    words = (form.ollama if is_ollama and form.ollama else form.message).format(model=model)
    message, code = failing.message or words, failing.code
    if is_ollama:
        # Its errors are a text. What else the script says stands beside it.
        names: dict[str, object] = {"code": code} if code is not None else {}
        if form.ollama is None or (failing.message is not None and form.code is not None):
            names = {"code": code or form.code}
        return status, OllamaFormat.error(message, **names, **_details(failing))
    code = form.code if code is None else code
    return status, OpenAIFormat.error(message, form.type, code=code, **_details(failing))


def _details(failing: Failing) -> dict[str, Any]:
    if failing.error is errors.GenerationFailedError:
        return {"failed_generation": _FAILED_GENERATION}
    if failing.error is errors.UnsupportedFeatureError:
        return {"param": "tools"}
    return {}


def require_true(failing: Failing) -> None:
    """Refuses a failure that the client would read as another one.

    Raises:
        ValueError: What it would come out as.
        TypeError: No provider tells such an error.
    """
    if failing.error is errors.InvalidResponseError:
        return
    if failing.error not in _FORMS:
        known = ", ".join(sorted(kind.__name__ for kind in _FORMS))
        raise TypeError(f"no provider's answer is a {failing.error.__name__}; there are: {known}")
    headers = dict(failing.headers)
    if failing.retry_after_s is not None:
        headers["retry-after"] = f"{failing.retry_after_s:g}"
    for is_ollama in (False, True):
        status, body = error_of_api(failing, model="some/model", is_ollama=is_ollama)
        found = error_of(Failure(status, headers, body, 0.0))
        if type(found) is not failing.error:
            raise ValueError(
                f"status {status} with {body} is a {type(found).__name__} to the client, no {failing.error.__name__}: "
                "leave out status, code or message, or say that class"
            )
        if failing.retry_after_s is not None and found.retry_after_s != failing.retry_after_s:
            raise ValueError(f"a {failing.error.__name__} asks for no wait: leave out retry_after_s")
