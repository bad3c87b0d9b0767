"""Fixtures for pytest, registered under `pytest11`. They do nothing unless a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llama_client.testing.clock import FakeClock
    from llama_client.testing.network import NetworkGuard


@pytest.fixture
def llama_clock() -> Iterator[FakeClock]:
    """A clock that the test turns, for every client that it opens."""
    from llama_client.testing.clock import FakeClock
    from llama_client.testing.seams import using

    clock = FakeClock()
    with using(clock=clock):
        yield clock


@pytest.fixture
def no_network() -> Iterator[NetworkGuard]:
    """Nothing in the test's process reaches another machine."""
    from llama_client.testing.network import no_network

    with no_network() as guard:
        yield guard
