"""Failures below HTTP as our errors, and whether the request can have reached the server."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator

import httpcore
import httpx

from llama_client.errors import APIConnectionError, APITimeoutError, InvalidResponseError, ProviderError

# The error number adds nothing to the text.
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
# Raised before there is a connection to send the request over.
_UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


def failure_of(error: Exception, *, waited_s: float | None) -> ProviderError:
    if isinstance(_aiohttp_cause(error) or error, httpx.TimeoutException | TimeoutError):
        if was_unsent(error):
            return APITimeoutError("no connection within the timeout")
        limit = "the timeout" if waited_s is None else f"{waited_s:.3g} s"
        return APITimeoutError(f"no answer within {limit}")
    if isinstance(error, httpx.DecodingError):
        return InvalidResponseError("the compressed answer cannot be decoded")
    # The innermost exception with a text: the operating system's, where there is one.
    texts = [str(cause) for cause in causes(error) if not isinstance(cause, httpcore.NetworkError) and str(cause)]
    reason = _ERRNO.sub("", texts[-1] if texts else str(error)) or type(error).__name__
    if was_unsent(error):
        return APIConnectionError(f"no connection: {reason}")
    if isinstance(error, httpx.TransportError):
        return APIConnectionError(f"connection lost: {reason}")
    # Without its text, which may quote secrets.
    return APIConnectionError(f"the HTTP client failed with {type(error).__name__}")


def was_unsent(error: Exception) -> bool:
    """Whether the request certainly did not reach the server."""
    # The aiohttp transport reports resets of an open connection as `ConnectTimeout` too, so the cause decides.
    cause = _aiohttp_cause(error)
    if cause is not None:
        import aiohttp

        return isinstance(
            cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.ClientHttpProxyError
        )
    return isinstance(error, _UNSENT)


def is_refused(error: BaseException) -> bool:
    return any(isinstance(cause, ConnectionRefusedError) for cause in causes(error))


def is_unresolved(error: BaseException) -> bool:
    """Whether the host name could not be resolved, as on a machine that is offline."""
    return any(isinstance(cause, socket.gaierror) for cause in causes(error))


def _aiohttp_cause(error: Exception) -> BaseException | None:
    # A process without aiohttp loaded cannot have its exceptions.
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is None or not isinstance(error, httpx.TransportError):
        return None
    return error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else None


def causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    # Chains of exceptions are short; the bound ends a circular one.
    for _ in range(10):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__
