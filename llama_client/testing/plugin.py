"""Fixtures and options for pytest, registered under `pytest11`. They do nothing unless they are used."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llama_client.testing.cassettes import Cassette
    from llama_client.testing.clock import FakeClock
    from llama_client.testing.faults import FaultServer
    from llama_client.testing.network import NetworkGuard
    from llama_client.testing.script.fake_provider import FakeProvider

_CASSETTE_MODES = ("replay", "once", "record", "refresh")

# Of a test: its fake, how many faults of that its end has reported, and its cassette. Not `funcargs`, which lacks
# what is asked for by `getfixturevalue`.
_FAKE: pytest.StashKey[FakeProvider] = pytest.StashKey()
_REPORTED: pytest.StashKey[int] = pytest.StashKey()
_CASSETTE: pytest.StashKey[Cassette] = pytest.StashKey()


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
    """A clock that the test turns, for every client that it opens: waits return at once."""
    from llama_client.testing.clock import FakeClock
    from llama_client.testing.seams import using

    clock = FakeClock()
    with using(clock=clock):
        yield clock


@pytest.fixture
def llama(llama_clock: FakeClock, request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    """A `FakeProvider` on `llama_clock`, for every client that the test opens."""
    from llama_client.testing.script.fake_provider import FakeProvider

    fake = FakeProvider(clock=llama_clock)
    request.node.stash[_FAKE] = fake
    with fake.playing():
        yield fake
    # What other fixtures asked while they ended is not reported yet.
    del fake.faults[: request.node.stash.get(_REPORTED, 0)]
    fake.check()


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """A cassette of this test's own, in the folder `cassettes` beside it; `--llama-cassettes` says what it does."""
    from llama_client.testing.cassettes import cassette as opened
    from llama_client.testing.cassettes.names import file_of_test

    path = file_of_test(request.path, request.node.nodeid)
    with opened(path, request.config.getoption("--llama-cassettes")) as tape:
        request.node.stash[_CASSETTE] = tape
        yield tape


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A server on loopback that fails as providers do, for one test."""
    from llama_client.testing.faults import FaultServer

    with FaultServer() as server:
        yield server


@pytest.fixture
def no_network() -> Iterator[NetworkGuard]:
    """Nothing in the test's process reaches another machine."""
    from llama_client.testing.network import no_network

    with no_network() as guard:
        yield guard


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    # Not only when the fixture ends, so that it is the test that fails, and says why.
    try:
        result = yield
    except BaseException as error:
        if (fake := _fake_of(item)) is not None:
            fake.explain(error)
        if (tape := item.stash.get(_CASSETTE, None)) is not None:
            tape.fail()
        raise
    if (fake := _fake_of(item)) is not None:
        fake.check()
    if (tape := item.stash.get(_CASSETTE, None)) is not None:
        tape.raise_missing()
    return result


def _fake_of(item: pytest.Item) -> FakeProvider | None:
    """The test's own, whose faults are reported now; None: it has none."""
    fake = item.stash.get(_FAKE, None)
    if fake is not None:
        item.stash[_REPORTED] = len(fake.faults)
    return fake
