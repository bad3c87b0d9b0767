"""Fixtures for pytest, registered under `pytest11`. They do nothing unless a test asks for them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llama_client.testing.clock import FakeClock
    from llama_client.testing.script import FakeProvider


@pytest.fixture
def llama_clock() -> FakeClock:
    """The clock of the fixture `llama`: waits return at once, and `turn` lets time pass."""
    from llama_client.testing.clock import FakeClock

    return FakeClock()


@pytest.fixture
def llama(llama_clock: FakeClock) -> Iterator[FakeProvider]:
    """A `FakeProvider` on `llama_clock`, for every client that the test opens."""
    from llama_client.testing.script import FakeProvider

    fake = FakeProvider(clock=llama_clock)
    with fake.playing():
        yield fake


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    # Not when the fixture ends, so that it is the test that fails, and says why.
    try:
        result = yield
    except BaseException as error:
        if (fake := _fake_of(item)) is not None:
            fake.explain(error)
        raise
    if (fake := _fake_of(item)) is not None:
        fake.check()
    return result


def _fake_of(item: pytest.Item) -> FakeProvider | None:
    """The test's own; None: it has none, and the kit is not even imported."""
    found = getattr(item, "funcargs", {}).get("llama")
    if found is None:
        return None
    from llama_client.testing.script import FakeProvider

    # A project may have a fixture of that name for something else.
    return found if isinstance(found, FakeProvider) else None
