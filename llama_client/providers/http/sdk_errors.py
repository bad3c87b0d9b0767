"""What official clients raise, as our errors. They share a shape: a status and a response, or a cause below HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from llama_client.errors import APIConnectionError, APITimeoutError, InvalidResponseError, LlamaClientError
from llama_client.providers.http.error_mapping import causes, failure_of, is_transport_error
from llama_client.providers.wire.errors import Failure, error_of

_WAITED = "its timeout"


def error_of_sdk(error: Exception, now: float) -> LlamaClientError:
    """The error; one of ours that it hides, as of the connection guard, stays what it is."""
    for cause in causes(error):
        if isinstance(cause, LlamaClientError):
            return cause
    for cause in causes(error):
        status = getattr(cause, "status_code", None)
        if isinstance(status, int) and not isinstance(status, bool):
            headers = getattr(getattr(cause, "response", None), "headers", None)
            told = {str(name).lower(): str(value) for name, value in _items(headers)}
            return error_of(Failure(status, told, getattr(cause, "body", None) or str(cause), now))
    for cause in causes(error):
        if isinstance(cause, Exception) and is_transport_error(cause):
            return failure_of(cause, waited=_WAITED)
    # The packages have errors of their own for these, and HTTPX's is not always their cause.
    names = {each.__name__ for cause in causes(error) for each in type(cause).__mro__}
    if any("Timeout" in name for name in names):
        return APITimeoutError(f"no answer within {_WAITED}")
    if names & {"APIConnectionError", "TransportError", "RequestError", "OSError"}:
        return APIConnectionError("connection lost")
    # Without its text, which may quote secrets or a whole body.
    return InvalidResponseError(f"the official client could not read the answer ({type(error).__name__})")


def _items(headers: object) -> list[tuple[object, object]]:
    if isinstance(headers, Mapping):
        return list(headers.items())
    return []
