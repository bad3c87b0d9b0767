"""A certificate for servers of tests."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate for 127.0.0.1 that nobody vouches for.

    Attributes:
        certificate: Its file, for a client that trusts it.
        context: What a server needs.
    """

    certificate: Path
    context: ssl.SSLContext


def self_signed(folder: Path) -> SelfSigned | None:
    """Makes a certificate with the `openssl` program; None where there is no such program."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return SelfSigned(certificate, context)
