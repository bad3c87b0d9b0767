"""Which certificates are trusted, and when they are read."""

from __future__ import annotations

import errno
import os
import re
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from llama_client.errors import ConfigError
from llama_client.imports import ready

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
# As OpenSSL looks them up in a folder.
_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")


class CertificatesWhenAsked(ssl.SSLContext):
    """Reads the certificates at the first connection with TLS. Reading them takes 20 ms, and most servers of one's own
    have none.

    Args:
        load: Makes the context with the certificates; may be called each time.
    """

    def __new__(cls, load: Callable[[], ssl.SSLContext]) -> CertificatesWhenAsked:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, load: Callable[[], ssl.SSLContext]) -> None:
        self._load = load

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        self._load().set_alpn_protocols(alpn_protocols)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self._load().wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self._load().wrap_bio(*args, **kwargs)


def new_ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    """Those of the file, else of the environment, else of `certifi`.

    Raises:
        ConfigError: There are none that can be read.
    """
    ready("certifi")
    import certifi

    # As HTTPX does, so that the official clients trust the same.
    source = trusted_by() or ""
    path = os.environ[source] if source else certifi.where()
    if ca_file is not None:
        source, path = "ca_file", str(ca_file)
    try:
        if source == "SSL_CERT_DIR":
            _require_certificates_in(path)
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        message = f"{source or 'certifi'}: {path} has no readable certificates ({error.strerror})"
        if source not in _VARIABLES:
            raise ConfigError(message) from None
        message += ": correct the variable in the environment, or unset it"
        raise ConfigError(message, variable=source) from None


def _require_certificates_in(folders: str) -> None:
    """OpenSSL itself would say of each server that its certificate cannot be verified."""
    for folder in folders.split(os.pathsep):
        with suppress(OSError):
            if any(map(_HASHED_NAME.fullmatch, os.listdir(folder))):
                return
    raise FileNotFoundError(errno.ENOENT, "no file there is named as OpenSSL's `rehash` does it")


def trusted_by() -> str | None:
    """The variable of the environment that says which certificates are trusted; None: neither is set."""
    return next((name for name in _VARIABLES if os.environ.get(name)), None)
