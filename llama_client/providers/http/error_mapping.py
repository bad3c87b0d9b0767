"""Failures below HTTP as our errors, and whether the request can have reached the server."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator

import httpcore
import httpx

from llama_client.errors import APIConnectionError, APITimeoutError, InvalidResponseError, ProviderError

# The number says nothing more than the text.
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
# Not sent: there was no connection.
_UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


def failure_of(error: Exception, *, waited_s: float | None) -> ProviderError:
    """The error for an exception of an HTTP client."""
    if _is_timeout(error):
        if was_unsent(error):
            return APITimeoutError("no connection in time")
        return APITimeoutError("no answer in time" if waited_s is None else f"no answer within {waited_s:.3g} s")
    if isinstance(error, httpx.DecodingError):
        return InvalidResponseError("the response cannot be decompressed")
    reason = _ERRNO.sub("", str(_root(error))) or type(error).__name__
    if was_unsent(error):
        return APIConnectionError(f"no connection: {reason}")
    if isinstance(error, httpx.TransportError):
        return APIConnectionError(f"the connection broke: {reason}")
    # Without its text, which may quote a secret.
    return APIConnectionError(f"the HTTP client failed with {type(error).__name__}")


def was_unsent(error: Exception) -> bool:
    """Whether the request certainly did not reach the server."""
    # The aiohttp transport reports resets of an open connection as `ConnectTimeout` too: the cause decides.
    cause = _aiohttp_cause(error)
    if cause is not None:
        import aiohttp

        return isinstance(
            cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.ClientHttpProxyError
        )
    return isinstance(error, _UNSENT)


def is_refused(error: BaseException) -> bool:
    """Whether no server listens at the address."""
    return any(isinstance(cause, ConnectionRefusedError) for cause in causes(error))


def is_unresolved(error: BaseException) -> bool:
    """Whether the host name does not resolve, as on a machine that is offline."""
    return any(isinstance(cause, socket.gaierror) for cause in causes(error))


def _is_timeout(error: Exception) -> bool:
    cause = _aiohttp_cause(error)
    if cause is not None:
        return isinstance(cause, TimeoutError)
    return isinstance(error, httpx.TimeoutException | TimeoutError)


def _aiohttp_cause(error: Exception) -> BaseException | None:
    # Without the import there are no exceptions of aiohttp.
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is None or not isinstance(error, httpx.TransportError):
        return None
    return error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else None


def _root(error: BaseException) -> BaseException:
    """The innermost exception with a text: the operating system's, if any."""
    said = [cause for cause in causes(error) if str(cause) and not isinstance(cause, httpcore.NetworkError)]
    return said[-1] if said else error


def causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    # Bounded, as a chain may be circular.
    for _ in range(10):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__
