"""The pytest plugin: fixtures that cost nothing until a test uses them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llama_client.testing.faults import FaultServer


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A server on loopback that fails as providers do, for one test."""
    from llama_client.testing.faults import FaultServer

    with FaultServer() as server:
        yield server
