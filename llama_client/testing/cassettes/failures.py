"""Failures below HTTP as data, and back as what a wire or HTTPX raises."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

from llama_client import errors
from llama_client.errors import APITimeoutError, LlamaClientError
from llama_client.providers.http.error_mapping import (
    causes,
    failure_of,
    is_refused,
    is_unresolved,
    is_untrusted,
    was_unsent,
)
from llama_client.providers.http.http1 import (
    ConnectionLostError,
    ConnectTimeoutError,
    MalformedAnswerError,
    NotConnectedError,
    ReadTimeoutError,
    UndecodableError,
    WireError,
)
from llama_client.testing.cassettes.exchanges import Failure, FailureKind

# As `error_mapping` puts them before what happened.
_PREFIXES = ("no connection: ", "connection lost: ")
# A wait that ends by so much before its limit has reached it.
_SAME_S = 0.05


def stored(error: Exception, at_s: float, waits: Any, clean: Callable[[str], str]) -> Failure:
    """A failure as data.

    Args:
        error: What was raised.
        at_s: Seconds since the request was sent.
        waits: What limited the request's waits.
        clean: Takes secrets out of a text.
    """
    if isinstance(error, LlamaClientError):
        own: FailureKind = "timeout" if isinstance(error, APITimeoutError) else "refused_by_client"
        return Failure(kind=own, message=clean(str(error)), at_s=at_s, error=type(error).__name__)
    failure = failure_of(error, waited=_waited(waits))
    message = str(failure)
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    return Failure(
        kind=_kind(error, failure),
        message=clean(message),
        at_s=at_s,
        cause=_cause(error),
        is_unanswered=bool(getattr(error, "is_unanswered", False)),
        is_unsent=isinstance(error, ConnectionLostError) and error.is_unsent,
        httpx=clean(f"{type(error).__name__}: {error}") if _is_of_httpx(error) else None,
    )


def raised(failure: Failure) -> Exception:
    """A stored failure as the package's own wires raise it."""
    match failure.kind:
        case "not_connected":
            error: Exception = NotConnectedError(failure.message)
            error.__cause__ = _system_error(failure)
            return error
        case "connect_timeout":
            return ConnectTimeoutError(failure.message)
        case "timeout":
            timeout = APITimeoutError(failure.message)
            # The client's own limits have no cause.
            timeout.__cause__ = ReadTimeoutError("the server was silent") if failure.error is None else None
            return timeout
        case "malformed":
            return MalformedAnswerError(failure.message)
        case "undecodable":
            return UndecodableError(failure.message)
        case "lost":
            lost = ConnectionLostError(failure.message)
            lost.is_unanswered, lost.is_unsent = failure.is_unanswered, failure.is_unsent
            return lost
        case "refused_by_client":
            kind = getattr(errors, failure.error or "", errors.ProviderError)
            return (
                kind(failure.message) if issubclass(kind, LlamaClientError) else errors.ProviderError(failure.message)
            )


def raised_by_httpx(failure: Failure, request: Any) -> Exception:
    """The same as HTTPX raises it."""
    import httpx

    if failure.kind == "refused_by_client":
        return raised(failure)
    if failure.httpx is not None:
        name, _, message = failure.httpx.partition(": ")
        own = getattr(httpx, name, None)
        if isinstance(own, type) and issubclass(own, httpx.RequestError):
            return own(message, request=request)
    kind = {
        "not_connected": httpx.ConnectError,
        "connect_timeout": httpx.ConnectTimeout,
        "timeout": httpx.ReadTimeout,
        "lost": httpx.ReadError,
        "malformed": httpx.RemoteProtocolError,
        "undecodable": httpx.DecodingError,
    }[failure.kind]
    return kind(failure.message, request=request)


def _kind(error: Exception, failure: Exception) -> FailureKind:
    is_timeout = isinstance(failure, APITimeoutError)
    if was_unsent(error):
        # One that a reused connection's end made unsent is sent again: see `Failure.is_unsent`.
        if isinstance(error, ConnectionLostError):
            return "lost"
        return "connect_timeout" if is_timeout else "not_connected"
    if is_timeout:
        return "timeout"
    if isinstance(error, UndecodableError) or isinstance(failure, errors.InvalidResponseError):
        return "undecodable"
    if isinstance(error, MalformedAnswerError) or "malformed HTTP" in str(failure):
        return "malformed"
    return "lost"


def _waited(waits: Any) -> str:
    """How long was waited, in the words of the error that is made of it."""
    deadline = getattr(waits, "deadline", None)
    if deadline is not None:
        left = deadline.left_s()
        if left is not None and left <= _SAME_S:
            return str(deadline.told)
    silence_s = getattr(waits, "silence_s", None)
    return "the timeout" if silence_s is None else f"{silence_s:.3g} s"


def _cause(error: Exception) -> Any:
    if is_refused(error):
        return "refused"
    if is_unresolved(error):
        return "unresolved"
    return "untrusted" if is_untrusted(error) else None


def _system_error(failure: Failure) -> OSError | None:
    match failure.cause:
        case "refused":
            return ConnectionRefusedError(failure.message)
        case "unresolved":
            return socket.gaierror(failure.message)
        case "untrusted":
            return ssl.SSLCertVerificationError(failure.message)
        case None:
            return None


def is_failure(error: BaseException, waits: Any = None) -> bool:
    """Whether the exchange itself failed, and was not stopped, by the program that reads it or by this package."""
    if waits is not None:
        try:
            waits.require_running()
        except LlamaClientError:
            return False
    if isinstance(error, OSError | LlamaClientError) or _is_of_httpx(error):
        return True
    return any(isinstance(each, WireError) for each in causes(error))


def _is_of_httpx(error: BaseException) -> bool:
    # A process without HTTPX loaded cannot have its exceptions.
    httpx = sys.modules.get("httpx")
    return httpx is not None and isinstance(error, httpx.HTTPError)
