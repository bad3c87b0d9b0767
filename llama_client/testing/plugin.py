"""Fixtures and options for pytest, registered under `pytest11`. They do nothing unless they are used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llama_client.testing.cassettes import Cassette
    from llama_client.testing.clock import FakeClock
    from llama_client.testing.faults import FaultServer
    from llama_client.testing.network import NetworkGuard

_CASSETTE_MODES = ("replay", "once", "record", "refresh")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("llama-client")
    group.addoption(
        "--llama-cassettes",
        choices=_CASSETTE_MODES,
        default="replay",
        help="what the fixture `cassette` does: replay (default), record where there is no file (once), record anew, "
        "or refresh what has changed",
    )


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


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A server on loopback that fails as providers do, for one test."""
    from llama_client.testing.faults import FaultServer

    with FaultServer() as server:
        yield server


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """A cassette of this test's own, in the folder `cassettes` beside it; `--llama-cassettes` says what it does."""
    from llama_client.testing.cassettes import cassette as opened
    from llama_client.testing.cassettes.names import file_of_test

    path = file_of_test(request.path, request.node.nodeid)
    with opened(path, request.config.getoption("--llama-cassettes")) as tape:
        yield tape
