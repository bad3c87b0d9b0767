"""What the tests of routing share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llama_client.testing.seams import using
from tests.routing.in_memory import InMemory


@pytest.fixture(autouse=True)
def in_memory() -> Iterator[None]:
    """Every client finds the servers of the test that have no sockets."""
    with using(interceptor=InMemory()):
        yield
