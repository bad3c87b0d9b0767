"""Failures below HTTP as our errors, and whether the request can have reached the server."""

from __future__ import annotations

import re
import socket
import ssl
import sys
from collections.abc import Iterator

from llama_client.errors import APIConnectionError, APITimeoutError, InvalidResponseError, ProviderError
from llama_client.providers.http.http1 import CUT, NO_ANSWER, MalformedAnswerError, UndecodableError, WireError

# The error number adds nothing to the text.
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
# HTTPX's errors before there is a connection to send the request over.
_UNSENT = frozenset(
    ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "InvalidURL")
)


def failure_of(error: Exception, *, waited: str) -> ProviderError:
    cause = aiohttp_cause(error) or error
    if isinstance(cause, TimeoutError) or _is_of_httpx(cause, "TimeoutException"):
        if was_unsent(error):
            return APITimeoutError("no connection within the timeout", is_unreached=True)
        return APITimeoutError(f"no answer within {waited}")
    if isinstance(error, MalformedAnswerError):
        return APIConnectionError(str(error))
    told = _of_the_answer(error)
    if told is not None:
        return APIConnectionError(told)
    if isinstance(error, UndecodableError):
        return InvalidResponseError(str(error))
    if _is_of_httpx(error, "DecodingError"):
        return InvalidResponseError("the compressed answer cannot be decoded")
    # The innermost exception with a text: the operating system's, where there is one.
    texts = [str(cause) for cause in causes(error) if not _is_network_error(cause) and str(cause)]
    reason = _ERRNO.sub("", texts[-1] if texts else str(error)) or type(error).__name__
    if was_unsent(error):
        return APIConnectionError(f"no connection: {reason}", is_unreached=True)
    if is_transport_error(error):
        return APIConnectionError(f"connection lost: {reason}")
    # Without its text, which may quote secrets.
    return APIConnectionError(f"the HTTP client failed with {type(error).__name__}")


def _of_the_answer(error: Exception) -> str | None:
    """What HTTPX and aiohttp say of an answer, in the words of our own connections; None: something else."""
    aiohttp = sys.modules.get("aiohttp")
    for cause in causes(error):
        text = str(cause)
        if "peer closed connection" in text or "Not enough data" in text:
            return f"connection lost: {CUT}"
        if text.startswith("Server disconnected"):
            return f"connection lost: {NO_ANSWER}"
        if aiohttp is not None and isinstance(cause, aiohttp.ClientHttpProxyError):
            return f"no connection: {cause.status} {cause.message}"
        # Without their texts, which quote what the server sent.
        if isinstance(cause, getattr(sys.modules.get("h11"), "RemoteProtocolError", ())):
            return "the server sent malformed HTTP"
        if aiohttp is not None and isinstance(cause, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
            return "the server sent malformed HTTP"
    return None


def is_transport_error(error: Exception) -> bool:
    """Whether a connection failed, or was silent for too long."""
    return isinstance(error, WireError | TimeoutError | APITimeoutError) or _is_of_httpx(error, "TransportError")


def was_unsent(error: Exception) -> bool:
    """Whether the request certainly did not reach the server."""
    if isinstance(error, WireError):
        return error.is_unsent
    # The aiohttp transport reports resets of an open connection as `ConnectTimeout` too, so the cause decides.
    cause = aiohttp_cause(error)
    if cause is not None:
        import aiohttp

        return isinstance(
            cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.ClientHttpProxyError
        )
    return any(_is_of_httpx(error, name) for name in _UNSENT)


def _is_of_httpx(error: BaseException, name: str) -> bool:
    # A process without HTTPX loaded cannot have its exceptions; another thread may be loading it.
    return isinstance(error, getattr(sys.modules.get("httpx"), name, ()))


def _is_network_error(error: BaseException) -> bool:
    return isinstance(error, getattr(sys.modules.get("httpcore"), "NetworkError", ()))


def is_refused(error: BaseException) -> bool:
    return any(isinstance(cause, ConnectionRefusedError) for cause in causes(error))


def is_untrusted(error: BaseException) -> bool:
    """Whether the server's certificate is none that is trusted."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error))


def is_unresolved(error: BaseException) -> bool:
    """Whether the host name could not be resolved, as on a machine that is offline."""
    return any(isinstance(cause, socket.gaierror) for cause in causes(error))


def aiohttp_cause(error: Exception) -> BaseException | None:
    # A process without aiohttp loaded cannot have its exceptions.
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is None or not _is_of_httpx(error, "TransportError"):
        return None
    return error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else None


def causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    # Chains of exceptions are short; the bound ends a circular one.
    for _ in range(10):
        if current is None:
            return
        yield current
        # Ours have their cause, or none; httpcore hides the system's behind "from None".
        current = current.__cause__ or (None if isinstance(current, WireError) else current.__context__)
