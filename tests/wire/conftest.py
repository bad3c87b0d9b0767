"""What the tests of the wire share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from llama_client.testing.loopback import WireServer
from tests.wire.certificates import SelfSigned, self_signed


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> SelfSigned:
    made = self_signed(tmp_path_factory.mktemp("tls"))
    if made is None:
        pytest.skip("no openssl program to make a certificate with")
    return made


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Whatever anybody logs, the HTTP libraries included."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "aiohttp", "aiohttp.client", "groq", "openai", "llama_client"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog
