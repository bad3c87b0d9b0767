"""The pytest plugin: fixtures and options that do nothing unless they are used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llama_client.testing.cassettes import Cassette

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
def cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """A cassette of this test's own, in the folder `cassettes` beside it; `--llama-cassettes` says what it does."""
    from llama_client.testing.cassettes import cassette as opened
    from llama_client.testing.cassettes.names import file_of_test

    path = file_of_test(request.path, request.node.nodeid)
    with opened(path, request.config.getoption("--llama-cassettes")) as tape:
        yield tape
